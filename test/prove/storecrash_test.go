package prove_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/visage-face/visage/sealed"
)

// TestStoreSurvivesKill kills a process that writes to a sealed store, at random moments, and checks that everything
// reported as durable is there, that no deleted record is, and that each running transaction has taken effect
// completely or not at all.
func TestStoreSurvivesKill(t *testing.T) {
	r := chance(t)
	dir := t.TempDir()
	model := make([]map[string]string, writers)
	for w := range model {
		model[w] = make(map[string]string)
	}
	acked, inDoubt, happened := 0, 0, 0
	total := rounds(t, 5)
	for round := range total {
		begun := runStoreChild(t, dir, r, model, &acked)

		store, err := openStore(t.Context(), dir)
		if err != nil {
			t.Fatalf("round %d: open the store after the kill: %v", round, err)
		}
		space, err := openSpace(t.Context(), store)
		if err != nil {
			t.Fatalf("round %d: open the space after the kill: %v", round, err)
		}
		for w := range writers {
			found, err := readThings(t.Context(), space, w)
			if err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
			if begun[w] != nil {
				inDoubt++
			}
			if maps.Equal(found, model[w]) {
				continue
			}
			if begun[w] == nil {
				t.Fatalf("round %d: writer %d had no transaction under way, and %s", round, w, differs(model[w], found))
			}
			begun[w].applyTo(model[w])
			if !maps.Equal(found, model[w]) {
				t.Fatalf("round %d: writer %d is neither as before nor as after the transaction under way: %s", round,
					w, differs(model[w], found))
			}
			happened++
		}
		tally, err := store.Maintenance().Verify(t.Context(),
			func(f sealed.Finding) { t.Errorf("round %d: does not open: %v", round, f.Err) })
		if err != nil || tally.Findings > 0 {
			t.Fatalf("round %d: verify: %d findings, %v", round, tally.Findings, err)
		}
		if err := store.Close(); err != nil {
			t.Fatalf("round %d: close the store: %v", round, err)
		}
	}
	t.Attr("kills", strconv.Itoa(total))
	t.Attr("transactions-acknowledged", strconv.Itoa(acked))
	t.Attr("histories-compared", strconv.Itoa(total*writers))
	things := 0
	for _, m := range model {
		things += len(m)
	}
	t.Logf(
		"%d kills, %d transactions acknowledged, %d under way at a kill (%d of them durable), %d things alive: "+
			"nothing lost",
		total, acked, inDoubt, happened, things)
}

// runStoreChild starts the child, records what it reports as durable, kills it and returns the running transaction of
// each writer.
func runStoreChild(t *testing.T, dir string, r *rand.Rand, model []map[string]string, acked *int) []*note {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatalf("find the test binary: %v", err)
	}
	cmd := exec.CommandContext(t.Context(), self, dir, strconv.FormatUint(r.Uint64(), 10))
	cmd.Env = append(os.Environ(), childEnv+"=store")
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatalf("start the store child: %v", err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start the store child: %v", err)
	}
	// Kill after some transactions, and then not between two notes but a moment later, at any point of the child's
	// work.
	after := 5 + r.IntN(200)
	later := time.Duration(r.IntN(3000)) * time.Microsecond

	begun := make([]*note, writers)
	lines := bufio.NewReader(out)
	for count := 0; ; {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF {
			break // a line without an end is ignored: its write was cut off
		}
		if err != nil {
			t.Fatalf("read the store child's notes: %v", err)
		}
		var n note
		if err := json.Unmarshal(line, &n); err != nil {
			t.Fatalf("read the store child's note %q: %v", line, err)
		}
		if !n.Done {
			begun[n.Writer] = &n
			continue
		}
		begun[n.Writer].applyTo(model[n.Writer])
		begun[n.Writer] = nil
		*acked++
		if count++; count == after {
			// an error means that it has ended already, which Wait reports
			time.AfterFunc(later, func() { _ = cmd.Process.Kill() })
		}
	}
	err = cmd.Wait()
	if status, ok := cmd.ProcessState.Sys().(interface{ Signaled() bool }); !ok || !status.Signaled() {
		t.Fatalf("the store child ended by itself: %v\n%s", err, complaints.String())
	}
	return begun
}

// differs describes the difference in a few words.
func differs(want, found map[string]string) string {
	var lost, changed, risen []string
	for id, token := range want {
		switch have, ok := found[id]; {
		case !ok:
			lost = append(lost, id)
		case have != token:
			changed = append(changed, id)
		}
	}
	for id := range found {
		if _, ok := want[id]; !ok {
			risen = append(risen, id)
		}
	}
	const most = 5
	cut := func(ids []string) []string { return ids[:min(len(ids), most)] }
	return "lost " + strconv.Itoa(len(lost)) + ", changed " + strconv.Itoa(len(changed)) + ", risen " +
		strconv.Itoa(len(risen)) +
		" of " + strconv.Itoa(len(want)) + ": " + join(cut(lost), cut(changed), cut(risen))
}

func join(lists ...[]string) string {
	var b bytes.Buffer
	for _, l := range lists {
		for _, s := range l {
			b.WriteString(s + " ")
		}
	}
	return b.String()
}
