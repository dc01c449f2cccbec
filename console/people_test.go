package console_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

const access = "/console/access"

// oneTime finds a one-time address on a page, as a path.
var oneTime = regexp.MustCompile(`/console/signin/[A-Za-z0-9_-]{43}`)

// TestPeople adds people with names of every sort, invites one, who signs in once, and deletes them.
func TestPeople(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	b := s.Browser(t, "")
	want(t, "without people", b.Get(access), 200, "There is nobody yet")
	for name, try := range map[string]struct {
		fields url.Values
		status int
		field  string
	}{
		"no name":          {url.Values{"name": {""}, "email": {"a@example.org"}}, 400, ""},
		"right to left":    {url.Values{"name": {"\u202egnp.exe"}}, 400, "name"},
		"line end":         {url.Values{"name": {"a\nb"}}, 400, "name"},
		"129 emoji":        {url.Values{"name": {strings.Repeat("🦉", 129)}}, 400, "name"},
		"e-mail address":   {url.Values{"name": {"Ada"}, "email": {"Ada <a@example.org>"}}, 400, ""},
		"unknown language": {url.Values{"name": {"Ada"}, "language": {"tlh"}}, 400, ""},
	} {
		p := b.Submit(access, access+"/people", try.fields)
		want(t, name, p, try.status, "InvalidPrincipal")
		if try.field != "" {
			want(t, name, p, try.status, `id="e-`+try.field+`"`)
		}
	}
	paths := map[string]string{}
	for _, name := range []string{`<script>alert(1)</script>`, strings.Repeat("🦉", 128), "שלום עולם", "Ada"} {
		p := b.Submit(access, access+"/people", url.Values{"name": {name}, "language": {"fr"},
			"email": {map[bool]string{true: "ada@example.org"}[name == "Ada"]}})
		if p.Status != http.StatusSeeOther {
			t.Fatalf("%s: %d %s", name, p.Status, p.Body)
		}
		paths[name] = p.Header.Get("Location")
		page := b.Get(paths[name])
		want(t, name, page, 200, "was added")
		wantNot(t, name, page, "<script>alert")
	}
	want(t, "the same address", b.Submit(access, access+"/people", url.Values{"name": {"Bob"},
		"email": {"ADA@example.org"}}), http.StatusConflict, `id="e-email"`, `value="Bob"`)
	want(t, "search", b.Get(access+"?search=ADA"), 200, paths["Ada"])
	wantNot(t, "search", b.Get(access+"?search=ADA"), paths["שלום עולם"])

	ada := paths["Ada"]
	page := b.Submit(ada, ada+"/invite", url.Values{"use": {"invitation"}})
	want(t, "invitation", page, 200, "is shown only now")
	if page.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("the page with the address may be kept: %q", page.Header.Get("Cache-Control"))
	}
	address := oneTime.FindString(page.Body)
	wantNot(t, "the page afterwards", b.Get(ada), address)
	fields, _ := page.Form(ada + "/invite")
	if p := b.Send(ada+"/invite", fields); p.Status != 200 {
		t.Fatalf("another invitation: %d %s", p.Status, p.Body)
	}
	want(t, "the form, sent twice", b.Send(ada+"/invite", fields), http.StatusConflict, "sent twice")

	visitor := s.Visitor(t)
	want(t, "before the click", visitor.Get(address), 200, "as Ada")
	enter, _ := visitor.Get(address).Form(address)
	if p := visitor.Send(address, enter); p.Status != http.StatusSeeOther {
		t.Fatalf("sign in: %d %s", p.Status, p.Body)
	}
	want(t, "signed in", visitor.Get("/console/account"), 200, "Ada", "With a one-time address")
	want(t, "the address, used again", s.Visitor(t).Send(address, nil), http.StatusUnauthorized)
	want(t, "her page, for herself", visitor.Get(ada), http.StatusForbidden)

	if p := b.Submit(ada, ada+"/change", url.Values{"name": {"Ada King"}}); p.Status != http.StatusSeeOther {
		t.Fatalf("change: %d", p.Status)
	}
	want(t, "renamed", b.Get(ada), 200, "Ada King", "ada@example.org")
	if p := b.Submit(ada, ada+"/signout", nil); p.Status != http.StatusSeeOther {
		t.Fatalf("end her sessions: %d", p.Status)
	}
	want(t, "signed out by the operator", visitor.Get("/console/account"), http.StatusUnauthorized)
	if p := b.Submit(ada+"/delete", ada+"/delete", nil); p.Status != http.StatusSeeOther {
		t.Fatalf("delete: %d %s", p.Status, p.Body)
	}
	want(t, "deleted", b.Get(ada), http.StatusNotFound)

	// Readers see people, and change nothing.
	reader, readerID := visitorWith(t, s, "Rita", identity.Reader)
	seen := reader.Get(access)
	want(t, "people, for a reader", seen, 200, "Rita")
	wantNot(t, "people, for a reader", seen, `action="/console/access/people"`, "/console/access/sessions")
	token, _ := seen.Form("/console/signout")
	her := access + "/people/" + readerID
	for _, form := range []string{access + "/people", her + "/change", her + "/invite", her + "/passkeys",
		her + "/signout", her + "/subjects", her + "/delete", access + "/applications"} {
		want(t, form+" by a reader", reader.Send(form, url.Values{"token": token["token"], "name": {"x"},
			"use": {"sign-in"}}), http.StatusForbidden)
	}
	french(t, b)
	want(t, "in French", b.Get(access), 200, "Personnes ayant accès", "Ajouter une personne")
}

// TestApplications adds an application, whose secret works and is shown once.
func TestApplications(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	b := s.Browser(t, "")
	const list = access + "/applications"
	want(t, "a wrong life", b.Submit(list, list, url.Values{"name": {"kiosk"}, "days": {"9999"}}), 400, `id="e-days"`,
		`value="kiosk"`)
	want(t, "no name", b.Submit(list, list, url.Values{"name": {" "}, "days": {"30"}}), 400, `id="e-name"`)
	fields, _ := b.Get(list).Form(list)
	fields.Set("name", "<i>kiosk</i>")
	fields.Set("days", "30")
	page := b.Send(list, fields)
	want(t, "added", page, 200, "It is shown only now", "&lt;i&gt;kiosk")
	want(t, "added twice", b.Send(list, fields), http.StatusConflict, "sent twice")
	secret := regexp.MustCompile(`data-copy="([A-Za-z0-9_-]{43})"`).FindStringSubmatch(page.Body)[1]
	m := regexp.MustCompile(access + `/applications/([0-9a-f-]{36})/secrets`).FindStringSubmatch(page.Body)
	one := list + "/" + m[1]
	wantNot(t, "the page afterwards", b.Get(one), secret)
	clientID := regexp.MustCompile(`data-copy="([0-9a-f-]{36})"`).FindStringSubmatch(page.Body)[1]
	token := func(secret string) int {
		res, err := s.Client.PostForm(s.URL+"/"+s.Operator().TenantID+"/oauth2/v2.0/token", url.Values{
			"grant_type": {"client_credentials"}, "scope": {"https://management.azure.com/.default"},
			"client_id": {clientID}, "client_secret": {secret},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		return res.StatusCode
	}
	if status := token(secret); status != 200 {
		t.Fatalf("a token for the secret: %d", status)
	}
	if p := b.Submit(one, one+"/secrets", url.Values{"days": {"0"}}); p.Status != 200 || !strings.Contains(p.Body,
		"As long as the application") {
		t.Errorf("an endless secret: %d %s", p.Status, p.Body)
	}
	if p := b.Submit(one, one+"/removesecret", nil); p.Status != 303 {
		t.Fatalf("remove the secret: %d %s", p.Status, p.Body)
	}
	if status := token(secret); status != 401 {
		t.Errorf("a token for the removed secret: %d", status)
	}
	if p := b.Submit(one+"/delete", one+"/delete", nil); p.Status != 303 {
		t.Fatalf("delete: %d %s", p.Status, p.Body)
	}

	// The operator's own application stays, and keeps a secret: it is the last owner.
	own := list + "/" + s.Operator().ClientID
	want(t, "delete the operator", b.Submit(own+"/delete", own+"/delete", nil), http.StatusConflict, "PrincipalInUse")
	want(t, "the last secret of the last owner", b.Submit(own, own+"/removesecret", nil), http.StatusConflict,
		"LastOwner")
	want(t, "an issuer that is not trusted", b.Send(own+"/subjects", url.Values{
		"token": form(t, b, own+"/secrets", own), "issuer": {"https://evil.example"}, "subject": {"x"}}), 400)
	want(t, "issuers", b.Get(access+"/issuers"), 200, "No issuer is configured")
}

// form returns the token of a form on a page.
func form(t *testing.T, b *servertest.Browser, action, page string) []string {
	t.Helper()
	fields, found := b.Get(page).Form(action)
	if !found {
		t.Fatalf("%s has no form %s", page, action)
	}
	return fields["token"]
}

// TestSessions ends sessions: one's own, another's, all.
func TestSessions(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	operator := s.Browser(t, "")
	ada, adaID := visitorWith(t, s, "Ada", identity.Reader)
	again := s.Browser(t, adaID)
	const account, all = "/console/account", access + "/sessions"
	page := ada.Get(account)
	want(t, "account", page, 200, "This session", "Reader", "With a one-time address")
	wantNot(t, "account", page, "operator<")
	end := regexp.MustCompile(`/console/sessions/[0-9a-f-]+/end`)
	if p := ada.Submit(account, end.FindString(page.Body), nil); p.Header.Get("Location") != account {
		t.Fatalf("end another session: %d %s", p.Status, p.Body)
	}
	want(t, "the ended session", again.Get(account), http.StatusUnauthorized)

	want(t, "all sessions, for Ada", ada.Get(all), http.StatusForbidden)
	page = operator.Get(all)
	want(t, "all sessions", page, 200, "Ada", "operator")
	theirs := end.FindAllString(s.Browser(t, "").Get(all).Body, -1)
	token := form(t, ada, "/console/account/signout", account)
	for _, one := range theirs {
		p := ada.Send(one, url.Values{"token": token})
		if p.Status == 303 && p.Header.Get("Location") != "/console/signin" || p.Status != 303 && p.Status != 403 {
			t.Errorf("%s by Ada: %d", one, p.Status)
		}
		if p.Status == 303 {
			break // it was her own
		}
	}
	want(t, "the operator's session", operator.Get(all), 200)
	ada = s.Browser(t, adaID)
	for _, one := range end.FindAllString(operator.Get(all).Body, -1) {
		operator.Submit(all, one, nil)
	}
	want(t, "ended by the operator", ada.Get(account), http.StatusUnauthorized)

	ada, again = s.Browser(t, adaID), s.Browser(t, adaID)
	p := ada.Submit(account, account+"/signout", nil)
	if p.Header.Get("Location") != "/console/signin" || p.Header.Get("Clear-Site-Data") != `"cache"` ||
		!strings.Contains(p.Header.Get("Set-Cookie"), "Max-Age=0") {
		t.Errorf("sign out everywhere: %d %v", p.Status, p.Header)
	}
	want(t, "afterwards", ada.Get(account), http.StatusUnauthorized)
	want(t, "afterwards, elsewhere", again.Get(account), http.StatusUnauthorized)
}
