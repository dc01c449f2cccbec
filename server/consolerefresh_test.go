package server_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// TestAnOpenPageKeepsNoSessionAlive lets a page ask again by itself: that is no use of the session, and takes away no
// message that the person has not seen.
func TestAnOpenPageKeepsNoSessionAlive(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	b := s.Browser(t, "")
	const page = "/console/resources/default"
	used := func() time.Time { return s.Directory().Sessions(s.Operator().ClientID)[0].Used }
	b.Submit(page, page+"/tags", url.Values{"tags": {"a = b"}})
	before := used()
	for name, again := range map[string]struct{ address, trigger string }{
		"with scripts": {page + "/encryption", "live"}, "without": {page + "/encryption?live=again", ""},
		"without, and a query": {page + "/metrics?over=day&live=again", ""},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+again.address, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("HX-Trigger", again.trigger)
		if p := b.Ask(req); p.Status != http.StatusOK || !strings.Contains(p.Body, `id="live"`) {
			t.Fatalf("a page that asks again %s: %d %s", name, p.Status, p.Body)
		}
		if now := used(); !now.Equal(before) {
			t.Errorf("a page that asks again %s has used the session at %v, after %v", name, now, before)
		}
	}
	if p := b.Get(page); p.Status != http.StatusOK || !strings.Contains(p.Body, `class="alert ok"`) {
		t.Errorf("the next page has no message: %d %s", p.Status, p.Body)
	}
	if now := used(); !now.After(before) {
		t.Error("a page that a person opens has not used the session")
	}
}
