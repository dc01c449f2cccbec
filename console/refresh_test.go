package console_test

import (
	"html"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/visage-face/visage/server"
)

// TestAPageWithoutScriptsAsksAgain holds that a page asks again without scripts at an address that is marked, so that
// it is no use of the session, and that no link or form of the page, and no way back to it, leads to such an address.
func TestAPageWithoutScriptsAsksAgain(t *testing.T) {
	o, b, _, _ := protecting(t, server.Config{}, "policies")
	refresh := regexp.MustCompile(`<noscript><meta http-equiv="refresh" content="\d+; url=([^"]+)"></noscript>`)
	to := "/console/resources/reception/encryption"
	for range 3 {
		p := b.Get(to)
		again := refresh.FindStringSubmatch(p.Body)
		if p.Status != http.StatusOK || again == nil {
			t.Fatalf("%s does not ask again: %d %s", to, p.Status, p.Body)
		}
		to = html.UnescapeString(again[1])
		if !strings.HasSuffix(to, "/encryption?live=again") || strings.Count(p.Body, "live=again") != 1 {
			t.Fatalf("the page asks again at %q; it has such an address %d times", to,
				strings.Count(p.Body, "live=again"))
		}
	}
	p := o.Visitor(t).Get(to)
	if p.Status != http.StatusUnauthorized || strings.Contains(p.Header.Get("Set-Cookie")+p.Body, "live=again") {
		t.Errorf("signing in leads back to %v %s", p.Header, p.Body)
	}
}
