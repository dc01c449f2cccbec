package console_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// TestAuditPages reads the log as the operator and as a reader of the subscription, follows an entry, and verifies the
// log.
func TestAuditPages(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	b := s.Browser(t, "")
	b.Get("/console/resources/default/keys") // recorded
	if err := s.Stop(); err != nil {         // which signs a checkpoint
		t.Fatal(err)
	}
	s = servertest.Start(t, server.Config{Dir: s.Dir()})
	b = s.Browser(t, "")
	list := b.Get("/console/audit")
	if list.Status != http.StatusOK || !strings.Contains(list.Body, "Access keys of the resource read") {
		t.Fatalf("the whole log: %d %s", list.Status, list.Body)
	}
	if p := b.Get("/console/audit?kind=vault&actor=%3Cscript%3E"); !strings.Contains(p.Body, "No event matches") ||
		strings.Contains(p.Body, "<script>\"") {
		t.Errorf("a filter that nothing matches: %d %s", p.Status, p.Body)
	}
	if p := b.Get("/console/audit?from=yesterday"); p.Status != http.StatusBadRequest {
		t.Errorf("a date that is none: %d", p.Status)
	}
	one := b.Get("/console/audit?resource=default&kind=resource.list-keys")
	m := regexp.MustCompile(`/console/audit/events/\d+\?resource=default`).FindString(one.Body)
	if m == "" {
		t.Fatalf("the entry about keys: %s", one.Body)
	}
	if p := b.Get(m); p.Status != http.StatusOK || !strings.Contains(p.Body, "resource.list-keys") {
		t.Errorf("one entry: %d %s", p.Status, p.Body)
	}
	p := b.Get("/console/audit/export?resource=default")
	for line := range strings.Lines(p.Body) {
		var e struct{ Kind string }
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Kind == "" {
			t.Errorf("exported %q (%v)", line, err)
		}
	}
	if p.Header.Get("Content-Disposition") == "" || p.Body == "" {
		t.Errorf("export: %d %v", p.Status, p.Header)
	}
	job := b.Submit("/console/audit", "/console/audit/verify", nil)
	to := job.Header.Get("Location")
	if job.Status != http.StatusSeeOther || !strings.HasPrefix(to, "/console/jobs/") {
		t.Fatalf("verification: %d %s", job.Status, job.Body)
	}
	done := b.Wait(to, func(p servertest.Page) bool { return !strings.Contains(p.Body, "http-equiv=\"refresh\"") })
	if !strings.Contains(done.Body, "whole and in their places") || !strings.Contains(done.Body, "checkpoint.txt") {
		t.Errorf("the verified log: %s", done.Body)
	}
	if p := b.Get(to + "/files/checkpoint.txt"); !strings.Contains(p.Body, "visage/audit/") {
		t.Errorf("the checkpoint: %d %s", p.Status, p.Body)
	}
}

// TestAuditIsForOwners checks that people read the log of resources on which they have a role, and no more.
func TestAuditIsForOwners(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	reader := s.As(t, "Rita Reader", identity.Reader)
	nobody := s.As(t, "Nobody")
	for _, want := range []struct {
		browser *servertest.Browser
		path    string
		status  int
	}{
		{reader, "/console/audit?resource=default", http.StatusOK},
		{reader, "/console/audit", http.StatusForbidden},
		{reader, "/console/audit?resource=nowhere", http.StatusForbidden},
		{reader, "/console/audit/export", http.StatusForbidden},
		{reader, "/console/audit/events/1", http.StatusForbidden},
		{reader, "/console/audit/events/1?resource=default", http.StatusNotFound},
		{nobody, "/console/audit?resource=default", http.StatusForbidden},
		{nobody, "/console/audit/export?resource=default", http.StatusForbidden},
	} {
		if p := want.browser.Get(want.path); p.Status != want.status {
			t.Errorf("%s: %d, want %d", want.path, p.Status, want.status)
		}
	}
	p := reader.Send("/console/audit/verify", url.Values{"token": {reader.Token()}})
	if p.Status != http.StatusForbidden {
		t.Errorf("verification by a reader: %d", p.Status)
	}
}
