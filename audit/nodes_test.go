package audit_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/bits"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/sealed"
)

// meter counts the records that are read of a tape.
type meter struct {
	*tape
	read *int
}

func (m meter) From(ctx context.Context, first uint64) iter.Seq2[sealed.Entry, error] {
	return func(yield func(sealed.Entry, error) bool) {
		for e, err := range m.tape.From(ctx, first) {
			*m.read++
			if !yield(e, err) {
				return
			}
		}
	}
}

// keep makes all nodes that are missing.
func keep(t testing.TB, l *audit.Log) {
	t.Helper()
	for more := true; more; {
		more = must[bool](t)(l.Keep(t.Context()))
	}
}

// grown is a tapedLog with n entries, signed, whose nodes are kept.
func grown(t testing.TB, n int) *tapedLog {
	t.Helper()
	r := newTapedLog(t)
	appendN(t, r.log, 1, n)
	mustDo(t, r.log.Sign(t.Context()))
	keep(t, r.log)
	return r
}

// proving reads the log, and counts.
func (r *tapedLog) proving(read *int) *audit.History {
	return audit.ReadOn(audit.Config{Store: r.store}, audit.Streams{
		Entries: meter{r.entries, read}, Checkpoints: meter{r.checkpoints, read}, Nodes: meter{r.nodes, read},
	})
}

// TestProofsOfEverySize: with nodes kept at some size before, every entry of a log of every size has a proof that
// holds.
func TestProofsOfEverySize(t *testing.T) {
	r := newTapedLog(t)
	read := 0
	h := r.proving(&read)
	for n := uint64(1); n <= 200; n++ {
		appendN(t, r.log, int(n), int(n))
		mustDo(t, r.log.Sign(t.Context()))
		if n%37 == 0 {
			keep(t, r.log)
		}
		for sequence := uint64(1); sequence <= n; sequence += max(1, n/23) {
			p, err := h.Prove(t.Context(), sequence)
			if err == nil {
				err = p.Check()
			}
			if err != nil || p.Entry.Sequence != sequence {
				t.Fatalf("entry %d of %d: %v", sequence, n, err)
			}
		}
	}
	must[audit.Report](t)(h.Verify(t.Context()))
}

// TestProofReadsLittle: how many records a proof reads grows as the logarithm of the log.
func TestProofReadsLittle(t *testing.T) {
	for _, n := range []int{100, 1000, 10_007, 40_000} {
		r := grown(t, n)
		read, most := 0, 0
		h := r.proving(&read)
		for sequence := 1; sequence <= n; sequence += n/50 + 1 {
			read = 0
			must[audit.Proof](t)(h.Prove(t.Context(), uint64(sequence)))
			most = max(most, read)
		}
		// a path and an edge of blocks, the entry, the checkpoint, and the entries that fill no block
		if limit := 2*bits.Len(uint(n)) + audit.BlockLeaves + 2; most > limit {
			t.Errorf("a proof of a log of %d entries reads %d records; at most %d", n, most, limit)
		}
	}
}

// TestNodesOfEarlierBuilds: a log without nodes, longer than a proof may read, gets them in steps; the proof waits for
// them.
func TestNodesOfEarlierBuilds(t *testing.T) {
	n := audit.MaxUnkept + 100
	r := newTapedLog(t)
	appendN(t, r.log, 1, n)
	mustDo(t, r.log.Sign(t.Context()))
	read := 0
	h := r.proving(&read)
	if _, err := h.Prove(t.Context(), 5); !errors.Is(err, audit.ErrCatchingUp) {
		t.Errorf("before the nodes are made: %v", err)
	}
	if read > 10 {
		t.Errorf("%d records were read for it", read)
	}
	r.log = must[*audit.Log](t)(r.open(t)) // as after an update
	steps := 1
	for must[bool](t)(r.log.Keep(t.Context())) {
		steps++
	}
	if want := n/audit.BlockLeaves/audit.KeepAtOnce + 1; steps != want {
		t.Errorf("made in %d steps, want %d", steps, want)
	}
	for _, sequence := range []uint64{1, 5, uint64(n) / 2, uint64(n)} {
		must[audit.Proof](t)(h.Prove(t.Context(), sequence))
	}
	must[audit.Report](t)(r.log.Verify(t.Context()))
}

// TestNodesHeal: nodes that a crash or a failing disk left out are made the next time, and none twice.
func TestNodesHeal(t *testing.T) {
	read := 0
	whole := grown(t, 1000)
	for _, cut := range []int{0, 1, 30, 61, 62} {
		t.Run(fmt.Sprint(cut), func(t *testing.T) {
			r := *whole
			r.nodes = &tape{data: slices.Clone(whole.nodes.data[:cut])}
			r.log = must[*audit.Log](t)(r.open(t))
			failed := errors.New("the disk is gone")
			r.nodes.breakWith(failed, nil)
			if _, err := r.log.Keep(t.Context()); cut < 62 && !errors.Is(err, failed) {
				t.Errorf("on a broken disk: %v", err)
			}
			r.nodes.breakWith(nil, failed) // written all the same
			if _, err := r.log.Keep(t.Context()); cut < 62 && !errors.Is(err, failed) {
				t.Errorf("on a disk that breaks afterwards: %v", err)
			}
			r.nodes.breakWith(nil, nil)
			keep(t, r.log)
			if !slices.EqualFunc(r.nodes.data, whole.nodes.data, slices.Equal[[]byte]) {
				t.Errorf("%d records, or others than before; want %d", len(r.nodes.data), len(whole.nodes.data))
			}
			for sequence := uint64(1); sequence <= 1000; sequence += 77 {
				must[audit.Proof](t)(r.proving(&read).Prove(t.Context(), sequence))
			}
		})
	}
}

// TestDamagedNodesAreNoticed: whatever is changed of the nodes, no proof comes of it, and Verify names the place.
func TestDamagedNodesAreNoticed(t *testing.T) {
	const n = 500
	whole := grown(t, n)
	edited := func(i, at int) [][]byte {
		data := slices.Clone(whole.nodes.data)
		data[i] = slices.Clone(data[i])
		if at < 0 {
			at += len(data[i])
		}
		data[i][at] ^= 1
		return data
	}
	for _, c := range []struct {
		name  string
		nodes [][]byte
		place uint64 // the entry at which Verify finds it
	}{
		{"magic", edited(3, 0), 49},
		{"count", edited(3, 4), 49},
		{"a leaf", edited(3, 40), 49},
		{"a root", edited(3, -1), 49},
		{"cut short", func() [][]byte { d := edited(3, 0); d[3] = d[3][:50]; return d }(), 49},
		{
			"two exchanged", slices.Concat(whole.nodes.data[:3], whole.nodes.data[4:5], whole.nodes.data[3:4],
				whole.nodes.data[5:]), 49,
		},
		{"of entries that are not there",
			append(slices.Clone(whole.nodes.data), whole.nodes.data[0], whole.nodes.data[1]), n + 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := *whole
			r.nodes = &tape{data: c.nodes}
			read, refused := 0, 0
			h := r.proving(&read)
			for sequence := uint64(1); sequence <= n; sequence++ {
				p, err := h.Prove(t.Context(), sequence)
				if err == nil {
					err = p.Check() // what is untouched by it can be proved
				} else if _, ok := errors.AsType[*audit.BrokenError](err); ok {
					refused++
					err = nil
				}
				if err != nil {
					t.Fatalf("entry %d: %v", sequence, err)
				}
			}
			if refused == 0 && c.place <= n {
				t.Error("no proof was refused")
			}
			_, err := h.Verify(t.Context())
			checkBroken(t, c.name, err, c.place, 0)
		})
	}
}

// TestRunKeepsNodes: a running log keeps the nodes of what it writes.
func TestRunKeepsNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTapedLog(t)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.log.Run(ctx) }()
		appendN(t, r.log, 1, 333)
		time.Sleep(3 * time.Second)
		if got := must[uint64](t)(r.nodes.Next(t.Context())) - 1; got != 333/audit.BlockLeaves {
			t.Errorf("%d records of nodes", got)
		}
		stop()
		mustDo(t, <-done)
	})
}

func BenchmarkProve(b *testing.B) {
	for _, n := range []int{1000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := grown(b, n)
			read := 0
			h := r.proving(&read)
			for b.Loop() {
				must[audit.Proof](b)(h.Prove(b.Context(), uint64(n/3)))
			}
			b.ReportMetric(float64(read)/float64(b.N), "records/op")
		})
	}
}

// TestOpensBehindACheckpoint: a log opens at every distance of its end from its last checkpoint, which a crash decides.
func TestOpensBehindACheckpoint(t *testing.T) {
	for signed := 0; signed <= 70; signed += 7 {
		r := newTapedLog(t)
		if signed > 0 {
			appendN(t, r.log, 1, signed)
			mustDo(t, r.log.Sign(t.Context()))
		}
		for n := signed + 1; n <= signed+40; n++ {
			appendN(t, r.log, n, n)
			l, err := r.open(t)
			if err != nil {
				t.Fatalf("%d entries, the last checkpoint at %d: %v", n, signed, err)
			}
			keep(t, l)
			must[audit.Report](t)(l.Verify(t.Context()))
		}
	}
}
