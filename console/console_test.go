package console_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// TestFirstSteps signs in as the operator, changes a resource and signs out.
func TestFirstSteps(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	b := s.Browser(t, "")
	home := b.Get("/console")
	if home.Status != http.StatusOK || !strings.Contains(home.Body, "/console/resources/default") {
		t.Fatalf("home: %d %s", home.Status, home.Body)
	}
	const resource = "/console/resources/default"
	bad := url.Values{"tags": {"team = <script>alert(1)</script>\nodd"}}
	p := b.Submit(resource, resource+"/tags", bad)
	if p.Status != http.StatusBadRequest || !strings.Contains(p.Body, "&lt;script&gt;alert(1)&lt;/script&gt;\nodd<") {
		t.Errorf("a line that is no tag: %d %s", p.Status, p.Body)
	}
	tags := url.Values{"tags": {"team = <script>alert(1)</script>"}}
	if p = b.Submit(resource, resource+"/tags", tags); p.Status != http.StatusSeeOther {
		t.Fatalf("tags: %d %s", p.Status, p.Body)
	}
	p = b.Get(resource)
	if !strings.Contains(p.Body, "&lt;script&gt;alert(1)") || strings.Contains(p.Body, "<script>alert") {
		t.Errorf("overview: %s", p.Body)
	}
	create(t, b, "persongroups", "staff", "Staff")
	for used, body := range map[string]string{
		"1 of 1,000,000": b.Get(resource).Body,
		"— of 1,000,000": s.As(t, "Rita Reader", identity.Reader).Get(resource).Body,
	} {
		if !strings.Contains(body, "<dt>Person groups</dt><dd>"+used+"</dd>") {
			t.Errorf("the limits have no %q: %s", used, body)
		}
	}
	keys := b.Get(resource + "/keys")
	if !strings.Contains(keys.Body, s.Key) {
		t.Errorf("keys: %s", keys.Body)
	}
	if p := b.Submit(resource, "/console/signout", nil); p.Status != http.StatusSeeOther {
		t.Fatalf("sign out: %d %s", p.Status, p.Body)
	}
	if p := b.Get(resource); p.Status != http.StatusUnauthorized {
		t.Errorf("after signing out: %d", p.Status)
	}
}
