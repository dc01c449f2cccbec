package server_test

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/identity"
)

// visitorKind is a kind of visitor of the console, and a rule for the answers.
type visitorKind struct {
	name      string
	principal string // object id; empty: no session
	ended     bool   // the session has ended
	foreign   bool   // forms come from a page of another site
	rule      func(api.Route) string
}

// console asks every page and form of the console as every kind of visitor, and writes its part of the table. It
// returns the number of questions.
func (w *populatedServer) console(t *testing.T, page *strings.Builder) int {
	t.Helper()
	closed := func(r api.Route) string { // for those who are not signed in
		if r.Allow == api.Anyone {
			return "in"
		}
		return "401"
	}
	anything := func(api.Route) string { return "" }
	kinds := []visitorKind{
		{name: "nobody: no session", rule: closed},
		{name: "a session that has ended", principal: w.ids["operator"], ended: true, rule: closed},
		{name: "an identity without a role", principal: w.ids["nobody"], rule: anything},
		{name: "Reader of the subscription", principal: w.ids["reader"], rule: anything},
		{name: "Contributor", principal: w.ids["contributor"], rule: anything},
		{name: "Owner", principal: w.ids["owner"], rule: anything},
		{name: "Owner of another resource", principal: w.ids["owner elsewhere"], rule: anything},
		{name: "Cognitive Services User", principal: w.ids["faces"], rule: anything},
		{name: "Key Vault Reader", principal: w.ids["vault reader"], rule: anything},
		{name: "Key Vault Crypto Officer", principal: w.ids["crypto officer"], rule: anything},
		{name: "the operator", principal: w.ids["operator"], rule: func(api.Route) string { return "in" }},
		{name: "the operator, through a page of another site", principal: w.ids["operator"], foreign: true,
			rule: func(r api.Route) string {
				if r.Method == http.MethodGet {
					return "in"
				}
				return "403"
			}},
	}
	page.WriteString("\n## Console\n\nForms are sent with a valid token of the session. Where nobody needs " +
		"to be signed in, \"in\" is right for everybody. What a person may do with the keys of a vault, the vault " +
		"decides, as on its own plane; the test asks about one that does not exist, and \"in\" means there that the " +
		"person may learn this.\n\n")
	for i, k := range kinds {
		fmt.Fprintf(page, "%d. %s\n", i+1, k.name)
	}
	page.WriteString("\n| route |")
	for i := range kinds {
		fmt.Fprintf(page, " %d |", i+1)
	}
	page.WriteString("\n| --- |" + strings.Repeat(" --- |", len(kinds)) + "\n")
	routes := w.ConsoleRoutes()
	slices.SortFunc(routes, func(a, b api.Route) int {
		return cmp.Or(strings.Compare(a.Pattern, b.Pattern), strings.Compare(a.Method, b.Method))
	})
	answers := map[string][]string{} // by the label of a route, then as kinds
	ask := func(forms bool, session func(i int) visit) {
		for _, r := range routes {
			if (r.Method != http.MethodGet) != forms {
				continue
			}
			for i, k := range kinds {
				got := w.visit(t, r, k, session(i))
				if want := k.rule(r); want != "" && got != want {
					t.Errorf("%s as %s: %s, but the rule says %s", r.Label(), k.name, got, want)
				}
				answers[r.Label()] = append(answers[r.Label()], got)
			}
		}
	}
	// Pages are read with one session a visitor. A form has a session of its own, since it may end those there are.
	sessions := make([]visit, len(kinds))
	for i, k := range kinds {
		sessions[i] = w.signIn(t, k)
	}
	ask(false, func(i int) visit { return sessions[i] })
	ask(true, func(i int) visit { return w.signIn(t, kinds[i]) })
	for _, r := range routes {
		fmt.Fprintf(page, "| `%s` | %s |\n", r.Label(), strings.Join(answers[r.Label()], " | "))
	}
	return len(routes) * len(kinds)
}

var formToken = regexp.MustCompile(`name="token" value="([^"]+)"`)

// visit is a session of a visitor: its cookie, and the token of its forms. Both are empty for who is not signed in.
type visit struct{ cookie, token string }

// signIn opens a session, and ends it for those whose session has ended.
func (w *populatedServer) signIn(t *testing.T, k visitorKind) visit {
	t.Helper()
	if k.principal == "" {
		return visit{}
	}
	secret, session, err := w.Directory().OpenSession(t.Context(), identity.SessionStart{
		Principal: k.principal, Method: identity.ByOneTimeAddress, Address: netip.MustParseAddr("127.0.0.1"),
	})
	if err != nil {
		t.Fatal(err)
	}
	cookie := "__Host-visage=" + secret
	home, _ := w.fetchPage(t, http.MethodGet, "/console", cookie, "", false)
	m := formToken.FindStringSubmatch(home)
	if m == nil {
		t.Fatalf("as %s, the first page has no token", k.name)
	}
	if k.ended {
		if err := w.Directory().EndSession(t.Context(), session.ID); err != nil {
			t.Fatal(err)
		}
	}
	return visit{cookie, m[1]}
}

// visit asks for a page or sends a form, and classifies the answer in a word.
func (w *populatedServer) visit(t *testing.T, r api.Route, k visitorKind, session visit) string {
	t.Helper()
	segments := strings.Split(r.Pattern, "/")
	for i, s := range segments {
		if strings.HasPrefix(s, "{") {
			segments[i] = nobody
		}
	}
	body := ""
	if r.Method == http.MethodPost {
		body = url.Values{"token": {session.token}}.Encode()
	}
	said, status := w.fetchPage(t, r.Method, strings.Join(segments, "/"), session.cookie, body, k.foreign)
	switch {
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		// A one-time address that nobody has is refused with the page for signing in.
		if r.Allow == api.Anyone && status == http.StatusUnauthorized {
			return "in"
		}
		return fmt.Sprint(status)
	case status == http.StatusTooManyRequests && strings.HasPrefix(r.Pattern, "/console/signin/"):
	case status >= 500 || status == http.StatusTooManyRequests:
		t.Errorf("%s as %s: %d %s", r.Label(), k.name, status, said)
	}
	return "in"
}

// fetchPage sends a request of a browser.
func (w *populatedServer) fetchPage(t *testing.T, method, path, cookie, body string, foreign bool) (string, int) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, w.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/html")
	if cookie != "" {
		req.Header.Set("Cookie", cookie)
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	if foreign {
		req.Header.Set("Sec-Fetch-Site", "cross-site")
		req.Header.Set("Origin", "https://elsewhere.example")
	}
	client := *w.Client
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	said, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(said), res.StatusCode
}
