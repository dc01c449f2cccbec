package console_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/visage-face/visage/console"
	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/server/servertest"
)

// TestNobodyLearnsWhichVaultsThereAre asks for every page and sends every form of a vault, as people who may not see
// it: the answers about a vault that exists and about one that does not are the same, but for the name.
func TestNobodyLearnsWhichVaultsThereAre(t *testing.T) {
	o := newOffice(t)
	operator := o.Browser(t, "")
	o.vault(operator, "safe", nil)
	o.vault(operator, "roles", url.Values{"model": {"roles"}})
	for _, vault := range []string{safe, "/console/vaults/roles"} {
		o.sent(operator.Submit(vault+"/newkey", vault+"/newkey", url.Values{"name": {"faces"}, "kind": {"RSA 2048"}}),
			vault+"/keys/faces")
	}
	people := map[string]*servertest.Browser{
		"nobody": o.As(t, "Nora"), "a face user": o.As(t, "Farid", identity.CognitiveUser),
	}
	different := regexp.MustCompile(`name="token" value="[^"]*"|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)
	asked := 0
	for _, label := range console.Labels() {
		method, pattern := label[0], label[1]
		if !strings.HasPrefix(pattern, "/console/vaults/{vault}") {
			continue
		}
		for name, b := range people {
			token := b.Token()
			ask := func(vault string) (int, string) {
				path := strings.NewReplacer("{vault}", vault, "{key}", "faces", "{version}",
					strings.Repeat("0", 32)).Replace(pattern)
				p := b.Get(path)
				if method == http.MethodPost {
					p = b.Send(path, url.Values{"token": {token}, "name": {"other"}, "kind": {"RSA 2048"}})
				}
				return p.Status, strings.ReplaceAll(different.ReplaceAllString(p.Body, ""), vault, "vault")
			}
			status, body := ask("missing")
			for _, vault := range []string{"safe", "roles"} {
				asked++
				if s, said := ask(vault); s != status || said != body {
					t.Errorf("%s %s as %s: %s answers %d, a vault that is missing %d: %s\n%s", method, pattern, name,
						vault, s, status, said, body)
				}
			}
		}
	}
	if asked < 100 {
		t.Errorf("%d questions", asked)
	}
}

// TestAVaultRecordsItsRefusalsOnce sends a form that a vault refuses, as people who may see it and may not: the log has
// one entry of each, of the vault's operation.
func TestAVaultRecordsItsRefusalsOnce(t *testing.T) {
	o := newOffice(t)
	operator := o.Browser(t, "")
	o.vault(operator, "safe", nil)
	o.sent(operator.Submit(safe+"/newkey", safe+"/newkey", url.Values{"name": {"faces"}, "kind": {"RSA 2048"}}), faces)
	// Refusals of one operation and code are counted, whoever caused them: each has an operation of its own here.
	for _, test := range []struct {
		name, form string
		b          *servertest.Browser
	}{
		{"Nora", faces + "/rotate", o.As(t, "Nora")},
		{"Rita", faces + "/backup", o.As(t, "Rita", identity.VaultReader)},
	} {
		p := test.b.Send(test.form, url.Values{"token": {test.b.Token()}})
		o.shows(p, http.StatusForbidden)
		request := p.Header.Get("X-Request-Id")
		log := operator.Wait("/console/audit/export", func(p servertest.Page) bool { // refusals do not wait for it
			return strings.Contains(p.Body, request)
		})
		var of []string
		for line := range strings.Lines(log.Body) {
			if strings.Contains(line, request) {
				of = append(of, line)
			}
		}
		if len(of) != 1 || !strings.Contains(of[0], "vault.operation") || !strings.Contains(of[0], test.name) {
			t.Errorf("%s as %s has the entries %v", test.form, test.name, of)
		}
	}
}
