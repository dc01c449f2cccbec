package console_test

import (
	"html"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// hostile is text that must appear in no page unescaped, and that many people's names could be.
var hostile = []string{
	`<script>alert("canary")</script>`, `"><img src=x onerror=canary()>`, `javascript:canary()`, `{{.Canary}}`,
	strings.Repeat("😀", 128), "\u202eعليكم السلام\u202c", "a\r\nSet-Cookie: canary=1", "' OR 1=1 --", "../../canary",
	"https://canary.example/", "//canary.example", "\\canary", "%00", "\x00", strings.Repeat("long ", 5000), "-1",
	"9999999999999999999999", "0001-01-01", "NaN", "on", "",
}

// furnish makes one of each thing, with hostile names where names are free.
func furnish(t *testing.T, s *servertest.Server) {
	t.Helper()
	op := s.Operator()
	group := "/resourceGroups/" + op.ResourceGroup
	s.Manage(t, http.MethodPatch, group+"/providers/Microsoft.CognitiveServices/accounts/default",
		map[string]any{"tags": map[string]string{"owner": hostile[0], "note": hostile[1]}})
	s.Manage(t, http.MethodPut, group+"/providers/Microsoft.KeyVault/vaults/furnished", map[string]any{
		"location": "local", "tags": map[string]string{"owner": hostile[0]}, "properties": map[string]any{
			"tenantId": op.TenantID, "sku": map[string]string{"family": "A", "name": "standard"},
			"enablePurgeProtection": true, "accessPolicies": []any{map[string]any{
				"tenantId": op.TenantID, "objectId": op.ClientID,
				"permissions": map[string]any{"keys": []string{"all", "purge", "rotate"}},
			}},
		},
	})
	s.Manage(t, http.MethodPost, "/providers/Visage.Identity/servicePrincipals",
		map[string]any{"displayName": hostile[0]})
	s.Manage(t, http.MethodPost, "/providers/Visage.Identity/people",
		map[string]any{"displayName": hostile[1], "preferredLanguage": "fr"})
	for _, path := range []string{"persongroups/guests", "largepersongroups/crowd", "facelists/faces"} {
		s.Face(t, http.MethodPut, path, map[string]any{"name": hostile[0], "userData": hostile[1]})
	}
	s.Face(t, http.MethodPost, "persongroups/guests/persons", map[string]any{"name": hostile[0]})
	s.Face(t, http.MethodPost, "persongroups/guests/persons", map[string]any{"name": hostile[5]})
}

var (
	linkPattern   = regexp.MustCompile(`<a [^>]*href="([^"]*)"`)
	actionPattern = regexp.MustCompile(`<form method="post" action="([^"]*)"`)
	quoted        = regexp.MustCompile(`"[^"<>]*"`)
	inlinePattern = regexp.MustCompile(`<[a-z]+[^>]*\s(style|on[a-z]+)=`)
)

// checkPage holds what is true of every page.
func checkPage(t *testing.T, path string, p servertest.Page) {
	t.Helper()
	if p.Status >= http.StatusInternalServerError {
		t.Errorf("%s: %d %s", path, p.Status, p.Body)
	}
	for name, want := range map[string]string{
		"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY",
		"Cache-Control": "no-store",
	} {
		if got := p.Header.Get(name); got != want && !strings.HasPrefix(path, "/console/assets/") {
			t.Errorf("%s: header %s is %q, want %q", path, name, got, want)
		}
	}
	policy := p.Header.Get("Content-Security-Policy")
	for _, part := range []string{"default-src 'none'", "frame-ancestors 'none'", "form-action 'self'"} {
		if !strings.Contains(policy, part) || strings.Contains(policy, "unsafe") {
			t.Errorf("%s: the content security policy is %q", path, policy)
		}
	}
	if p.Header.Get("Canary") != "" || strings.Contains(strings.Join(p.Header.Values("Set-Cookie"), ";"), "canary") {
		t.Errorf("%s: a header was injected: %v", path, p.Header)
	}
	if to := p.Header.Get("Location"); to != "" && !strings.HasPrefix(to, "/console") {
		t.Errorf("%s leads to %s", path, to)
	}
	if !strings.HasPrefix(p.Header.Get("Content-Type"), "text/html") || p.Body == "" {
		return
	}
	for _, bad := range []string{`<script>alert("canary")`, "<img src=x", `href="javascript:`, "ZgotmplZ", "<no value>"} {
		if i := strings.Index(p.Body, bad); i >= 0 {
			t.Errorf("%s has %q: …%s", path, bad, p.Body[max(0, i-200):min(len(p.Body), i+100)])
		}
	}
	if found := inlinePattern.FindString(quoted.ReplaceAllString(p.Body, `""`)); found != "" {
		t.Errorf("%s has a style or script inline: %s", path, found)
	}
	if strings.Count(p.Body, "<h1") != 1 || !strings.Contains(p.Body, "<html lang=") {
		t.Errorf("%s has %d main headings", path, strings.Count(p.Body, "<h1"))
	}
}

// crawl follows every link from the first page, and returns the pages with forms and the actions of their forms.
func crawl(t *testing.T, b *servertest.Browser) map[string][]string {
	t.Helper()
	forms := map[string][]string{}
	const most = 400
	seen, open := map[string]bool{"/console": true}, []string{"/console"}
	for len(open) > 0 && len(seen) < most {
		path := open[0]
		open = open[1:]
		p := b.Get(path)
		checkPage(t, path, p)
		if p.Status != http.StatusOK {
			t.Errorf("%s, which a page links to: %d", path, p.Status)
		}
		for _, m := range linkPattern.FindAllStringSubmatch(p.Body, -1) {
			to, _, _ := strings.Cut(html.UnescapeString(m[1]), "#")
			if to == "" || seen[to] || strings.Contains(to, "/proof") { // proofs wait for the next checkpoint
				continue
			}
			if !strings.HasPrefix(to, "/console") {
				t.Errorf("%s links to %s, outside of the console", path, to)
				continue
			}
			seen[to] = true
			open = append(open, to)
		}
		for _, m := range actionPattern.FindAllStringSubmatch(p.Body, -1) {
			forms[path] = append(forms[path], html.UnescapeString(m[1]))
		}
	}
	t.Logf("%d pages, %d with forms", len(seen), len(forms))
	return forms
}

// TestCrawl follows every link as the operator and as people with fewer rights, in both languages: no page is broken,
// shows what is hostile, or offers what is refused.
func TestCrawl(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	furnish(t, s)
	for name, b := range map[string]*servertest.Browser{
		"operator": s.Browser(t, ""), "reader": s.As(t, "Rita Reader", identity.Reader),
		"face user":      s.As(t, "Farid Faces", identity.CognitiveUser),
		"crypto officer": s.As(t, "Olga Officer", identity.VaultCryptoOfficer),
		"nobody":         s.As(t, hostile[0]),
	} {
		for _, language := range []string{"en", "fr"} {
			t.Run(name+" "+language, func(t *testing.T) {
				if p := b.Submit("/console", "/console/language", url.Values{"language": {language}}); p.Status !=
					http.StatusSeeOther {
					t.Fatalf("choose a language: %d", p.Status)
				}
				crawl(t, b)
			})
		}
	}
}

// TestHostileForms fills every form that the operator finds with hostile text, field by field: nothing breaks, and
// nothing of it appears unescaped.
func TestHostileForms(t *testing.T) {
	if testing.Short() {
		t.Skip("sends a thousand forms")
	}
	s := servertest.Start(t, server.Config{})
	furnish(t, s)
	b := s.Browser(t, "")
	forms := crawl(t, b)
	const seed = 16
	random := rand.New(rand.NewPCG(seed, seed))
	done := map[string]bool{}
	for _, path := range slices.Sorted(maps.Keys(forms)) {
		for _, action := range forms[path] {
			if done[action] || action == "/console/signout" || strings.HasSuffix(action, "/signout-everywhere") {
				continue
			}
			done[action] = true
			sendHostile(t, s, &b, path, action, random)
		}
	}
	crawl(t, s.Browser(t, "")) // what was stored is shown safely too
}

// sendHostile sends one form a few times.
func sendHostile(
	t *testing.T, s *servertest.Server, b **servertest.Browser, path, action string, random *rand.Rand,
) {
	t.Helper()
	for range 4 {
		p := (*b).Get(path)
		if p.Status == http.StatusUnauthorized { // a form has ended the session
			*b = s.Browser(t, "")
			p = (*b).Get(path)
		}
		fields, found := p.Form(action)
		if !found {
			return // another form has removed what it was about
		}
		for name := range fields {
			if name == "token" {
				continue
			}
			if random.IntN(2) == 0 {
				fields.Set(name, hostile[random.IntN(len(hostile))])
			}
		}
		checkPage(t, "POST "+action, (*b).Send(action, fields))
	}
}
