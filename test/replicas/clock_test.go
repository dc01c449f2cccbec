//go:build linux

package replicas_test

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestAReplicaWhoseClockIsWrongDoesNothing: one whose clock is ahead by more than a deleted resource is kept, or behind
// by more than people are, answers 503 and says why, and goes on when its clock is right. That nothing is destroyed
// meanwhile is shown in package sealed.
func TestAReplicaWhoseClockIsWrongDoesNothing(t *testing.T) {
	if !skewable {
		t.Skip("the clock of a process cannot be set on this processor")
	}
	t.Parallel() // most of the time it waits
	c := newCluster(t, 2, true, newDatabase(t))
	c.startAll()
	a, b := newSite(t, c.replicas[0]), newSite(t, c.replicas[1])
	for _, s := range []*site{a, b} {
		must(s.face(t.Context(), "PUT", "persongroups/of-"+strings.ToLower(s.name),
			`{"name":"g","recognitionModel":"recognition_04"}`)).want(t, 200)
	}
	set := func(by time.Duration) {
		t.Helper()
		if err := setClock(t.Context(), c.replicas[1].cmd.Process.Pid, by); err != nil {
			t.Fatal(err)
		}
	}
	enrol := func() answer {
		return must(b.face(t.Context(), "POST", "persongroups/of-b/persons", `{"name":"Ann"}`))
	}
	ready := func() int {
		return must(b.send(t.Context(), "GET", origin+"/readyz", "Accept", "text/plain", nil)).status
	}

	set(49 * time.Hour)
	refused := enrol().want(t, 503)
	if !strings.Contains(refused.text("error.message"), "clock") || refused.header.Get("Retry-After") == "" {
		t.Errorf("refused with %s %v", refused, refused.header)
	}
	if got := ready(); got != http.StatusServiceUnavailable {
		t.Errorf("/readyz: %d", got)
	}
	soon(t, "the replica says why it does nothing", func() bool {
		return strings.Contains(c.replicas[1].log.String(), "ahead of the database's clock")
	})
	must(b.face(t.Context(), "GET", "persongroups/of-b", nil)).want(t, 503)
	must(a.face(t.Context(), "GET", "persongroups/of-a", nil)).want(t, 200)
	set(-40 * 24 * time.Hour)
	enrol().want(t, 503)
	set(0)
	enrol().want(t, 200)
	if got := ready(); got != http.StatusOK {
		t.Errorf("/readyz with the right clock: %d", got)
	}
}
