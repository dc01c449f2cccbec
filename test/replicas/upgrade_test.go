//go:build linux

package replicas_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// buildNext builds this test, which is a replica too, as if it were of the next version, with another format of the
// store.
var buildNext = sync.OnceValues(func() (string, error) {
	path := filepath.Join(scratch, "next.test")
	out, err := exec.Command("go", "test", "-c", "-tags", "visage_next_format", "-o", path, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the next version: %w\n%s", err, out)
	}
	return path, nil
})

// TestReplicasAreUpgraded replaces replicas by those of a version with another format of the store, while clients use
// them that repeat a request once. The way back is open until the last replica of the former version has gone: here it
// was paused, and when it goes on, it writes nothing more and ends.
func TestReplicasAreUpgraded(t *testing.T) {
	t.Parallel() // most of the time it waits
	next, err := buildNext()
	if err != nil {
		t.Fatal(err)
	}
	c := newCluster(t, 2, true, newDatabase(t))
	c.startAll()
	a, b := c.replicas[0], c.replicas[1]
	site := newSite(t, a)
	must(site.face(t.Context(), "PUT", "largefacelists/guests",
		`{"name":"g","recognitionModel":"recognition_04"}`)).want(t, 200)
	users := startUsers(t, c, site.key)
	replace := func(r *replica, program string) {
		t.Helper()
		if r.cmd != nil {
			users.meanwhile(t, r.stop)
		}
		r.program = program
		if err := r.start(); err != nil {
			t.Fatal(err)
		}
		users.refresh(t, r)
		users.meanwhile(t, func() {})
	}
	const former, later = "visage_sealed_format 2", "visage_sealed_format 3"
	replace(b, next)
	wantMetric(t, b, former)
	replace(b, "")
	replace(b, next)
	wantMetric(t, b, former)

	if err := a.signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	soon(t, "the change to the next format", func() bool { return hasMetric(t, b, later) })
	if err := a.signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	<-a.ended
	a.cmd = nil
	users.forgive() // it may have been paused within a transaction, which kept the resource's rows until it went on
	const sentence = "was written by a newer version of Visage (format 3)"
	if said := a.log.String(); !strings.Contains(said, sentence) {
		t.Errorf("it does not say why it ends:\n%s", said)
	}
	if err := a.start(); err == nil || !strings.Contains(err.Error(), sentence+
		"; this program knows formats up to 2: use version 9.0.0 or later") {
		t.Errorf("the former version starts on the new format: %v", err)
	}
	a.cmd = nil
	replace(a, next)
	wantMetric(t, a, later)
	users.end(t)
	if n := strings.Count(a.log.String()+b.log.String(), `"kind":"store migrated"`); n != 1 {
		t.Errorf("the store was migrated %d times", n)
	}

	// Every face that was acknowledged is there, wherever its acknowledgement came from.
	site = newSite(t, a)
	stored := map[string]bool{}
	for start := ""; ; {
		page := must(site.face(t.Context(), "GET", "largefacelists/guests/persistedfaces?top=1000&start="+start, nil))
		ids := page.want(t, 200).ids()
		for _, id := range ids {
			stored[id], start = true, id
		}
		if len(ids) < 1000 {
			break
		}
	}
	for _, id := range users.added {
		if !stored[id] {
			t.Errorf("the acknowledged face %s is lost", id)
		}
	}
	t.Logf("%d faces acknowledged, %d stored", len(users.added), len(stored))
}

// metrics returns the page of a replica's metrics; a page that cannot be read fails the test.
func metrics(t *testing.T, r *replica) string {
	t.Helper()
	c, err := r.client()
	if err != nil {
		t.Fatal(err)
	}
	defer c.http.CloseIdleConnections()
	return string(must(c.send(t.Context(), "GET", origin+"/metrics", "Accept", "text/plain", nil)).want(t, 200).body)
}

// hasMetric reports whether a replica's metrics have a line.
func hasMetric(t *testing.T, r *replica, line string) bool {
	t.Helper()
	return strings.Contains(metrics(t, r), "\n"+line+"\n")
}

// metric returns the value of a series of a replica's metrics, which must be there.
func metric(t *testing.T, r *replica, series string) float64 {
	t.Helper()
	page := metrics(t, r)
	_, rest, found := strings.Cut(page, "\n"+series+" ")
	text, _, _ := strings.Cut(rest, "\n")
	value, err := strconv.ParseFloat(text, 64)
	if !found || err != nil {
		t.Fatalf("replica %s has no value of %s in\n%s", r.name, series, page)
	}
	return value
}

func wantMetric(t *testing.T, r *replica, line string) {
	t.Helper()
	if !hasMetric(t, r, line) {
		t.Errorf("replica %s does not say %q", r.name, line)
	}
}
