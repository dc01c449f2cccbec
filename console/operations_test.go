package console_test

import (
	"bytes"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// TestOperationsPage checks what the operator is told about the instance, and takes both copies.
func TestOperationsPage(t *testing.T) {
	s := servertest.Start(t, server.Config{Version: "1.2.3-test"})
	b := s.Browser(t, "")
	const noCopy, exposed = "No copy of the keyring was ever taken", "lies beside the data"
	for _, page := range []string{"/console", "/console/operations"} {
		if p := b.Get(page); !strings.Contains(p.Body, noCopy) || !strings.Contains(p.Body, exposed) {
			t.Errorf("%s does not warn: %d %s", page, p.Status, p.Body)
		}
	}
	if p := b.Get("/console/operations"); !strings.Contains(p.Body, "1.2.3-test") {
		t.Errorf("no version: %s", p.Body)
	}
	for _, copied := range []string{"keyring", "backup"} {
		p := b.Submit("/console/operations", "/console/operations/"+copied, nil)
		if p.Status != http.StatusOK || len(p.Body) < 100 || bytes.Contains([]byte(p.Body), []byte("default")) ||
			!strings.Contains(p.Header.Get("Content-Disposition"), "visage-"+copied) {
			t.Errorf("%s: %d %v, %d bytes", copied, p.Status, p.Header, len(p.Body))
		}
	}
	if p := b.Get("/console"); strings.Contains(p.Body, noCopy) {
		t.Error("a copy of the keyring was taken, and the first page still asks for one")
	}
	reader := s.As(t, "Rita Reader", identity.Reader)
	if p := reader.Get("/console"); strings.Contains(p.Body, exposed) || strings.Contains(p.Body, "operations") {
		t.Errorf("a reader sees what is for the operator: %s", p.Body)
	}
	for _, page := range []string{"/console/operations", "/console/metrics"} {
		if p := reader.Get(page); p.Status != http.StatusForbidden {
			t.Errorf("%s for a reader: %d", page, p.Status)
		}
	}
	p := reader.Send("/console/operations/keyring", url.Values{"token": {reader.Token()}})
	if p.Status != http.StatusForbidden {
		t.Errorf("the keyring for a reader: %d", p.Status)
	}
}

var tokens = regexp.MustCompile(`value="[^"]*"`)

// TestMetricsPages checks the pages of a resource and of the instance in every length of time and both languages.
func TestMetricsPages(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	b := s.Browser(t, "")
	const first = "Nothing has been counted in this time yet."
	for _, path := range []string{"/console", "/console/metrics", "/console/resources/default/metrics"} {
		if p := b.Get(path); !strings.Contains(p.Body, first) || strings.Contains(p.Body, `role="img"`) {
			t.Errorf("%s in the first minute: %s", path, p.Body)
		}
	}
	if err := s.Stop(); err != nil { // which writes the minute that has begun
		t.Fatal(err)
	}
	s = servertest.Start(t, server.Config{Dir: s.Dir()})
	b = s.Browser(t, "")
	if p := b.Get("/console"); strings.Contains(p.Body, first) || !strings.Contains(p.Body, `class="spark`) {
		t.Errorf("the first page after the first minute: %s", p.Body)
	}
	for _, path := range []string{"/console/metrics", "/console/resources/default/metrics"} {
		for _, span := range []string{"", "1h", "24h", "7d", "%3Cscript%3E"} {
			p := b.Get(path + "?span=" + span)
			figures := tokens.ReplaceAllString(p.Body, "") // which may have any letters
			if p.Status != http.StatusOK || strings.Count(figures, `role="img"`) < 4 || strings.Contains(figures, "NaN") {
				t.Errorf("%s in %q: %d %s", path, span, p.Status, p.Body)
			}
		}
	}
	// how many faces there are is for people with a role for the data
	const resource, memory = "/console/resources/default/metrics", "Memory of galleries"
	reader := s.As(t, "Rita Reader", identity.Reader)
	if p := reader.Get(resource); p.Status != http.StatusOK || strings.Contains(p.Body, memory) {
		t.Errorf("for a reader: %d %s", p.Status, p.Body)
	}
	if p := b.Get(resource); !strings.Contains(p.Body, memory) {
		t.Errorf("for the operator: %s", p.Body)
	}
	if p := b.Submit("/console", "/console/language", url.Values{"language": {"fr"}}); p.Status != http.StatusSeeOther {
		t.Fatalf("choose French: %d %s", p.Status, p.Body)
	}
	if p := b.Get("/console/metrics"); !strings.Contains(p.Body, `lang="fr"`) || !strings.Contains(p.Body, "Métriques") {
		t.Errorf("in French: %s", p.Body)
	}
}
