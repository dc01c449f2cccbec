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

// TestRefusalsOfTheConsoleAreRecorded sends forms that are refused, and finds them in the audit log with who sent them.
func TestRefusalsOfTheConsoleAreRecorded(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	reader := s.As(t, "Rita Reader", identity.Reader)
	const lock = "/console/resources/default/encryption/lock"
	want(t, "a form that a reader may not send", reader.Send(lock, url.Values{"token": {reader.Token()}}),
		http.StatusForbidden)
	want(t, "a form without a token", reader.Send("/console/signout", nil), http.StatusForbidden)
	log := s.Browser(t, "").Get("/console/audit?kind=access.refuse")
	want(t, "the audit log", log, http.StatusOK, "Rita Reader", "POST /console/resources/{account}/encryption/lock",
		"POST /console/signout")
}

// TestNoAddressOfAPageNamesAHost asks for pages with two slashes at the beginning, which lead to another host where a
// browser finds them in a page.
func TestNoAddressOfAPageNamesAHost(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	for who, b := range map[string]*servertest.Browser{"the operator": s.Browser(t, ""), "nobody": s.Visitor(t)} {
		for _, path := range []string{"//console/resources/default/access", "///console/access/sessions"} {
			p := b.Get(path)
			for _, bad := range []string{`"//console`, `"///console`} {
				if strings.Contains(p.Body, bad) {
					t.Errorf("%s, as %s: the page has %s", path, who, bad)
				}
			}
		}
	}
}
