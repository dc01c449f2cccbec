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

// signsIn signs in with a browser that is there already.
func signsIn(t *testing.T, s *servertest.Server, b *servertest.Browser, principal string) {
	t.Helper()
	address, err := s.SignInAddress(t.Context(), principal)
	if err != nil {
		t.Fatal(err)
	}
	if p := b.Send(strings.TrimPrefix(address, s.URL), nil); p.Status != http.StatusSeeOther {
		t.Fatalf("sign in: %d %s", p.Status, p.Body)
	}
}

// endsSessions ends all sessions of a person, as the operator.
func endsSessions(t *testing.T, s *servertest.Server, person string) {
	t.Helper()
	const people = "/console/access/people/"
	want(t, "end sessions", s.Browser(t, "").Submit(people+person, people+person+"/signout", nil), http.StatusSeeOther)
}

// TestWhatWasTypedWaitsForItsPerson ends a session in the middle of a form: who typed it gets it back after signing in
// again, in the same browser and once, and nobody else does.
func TestWhatWasTypedWaitsForItsPerson(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	furnish(t, s)
	const (
		page, tags = "/console/resources/default", "/console/resources/default/tags"
		typed      = "team = night shift\nan odd line"
		shown      = "team = night shift\nan odd line</textarea>"
	)
	_, ada := visitorWith(t, s, "Ada", identity.Owner)
	_, ben := visitorWith(t, s, "Ben", identity.Owner)
	ended := func() { endsSessions(t, s, ada) }
	// interrupted is a browser of Ada's that has sent the form after the session has ended.
	interrupted := func(form string, fields url.Values) (*servertest.Browser, servertest.Page) {
		t.Helper()
		b := s.Browser(t, ada)
		fields.Set("token", b.Token())
		ended()
		p := b.Send(form, fields)
		want(t, "the form", p, http.StatusUnauthorized)
		return b, p
	}
	tagged := url.Values{"tags": {typed}}

	b, p := interrupted(tags, tagged)
	want(t, "the form", p, http.StatusUnauthorized, "with what you typed")
	want(t, "another browser of hers", s.Browser(t, ada).Get(page), http.StatusOK, "canary")
	wantNot(t, "another browser of hers", s.Browser(t, ada).Get(page), "night shift")
	signsIn(t, s, b, ada)
	wantNot(t, "another page", b.Get("/console"), "night shift")
	want(t, "the form again", b.Get(page), http.StatusOK, shown, "This is what you typed")
	wantNot(t, "the form once more", b.Get(page), "night shift")

	b, _ = interrupted(tags, tagged)
	signsIn(t, s, b, ben)
	wantNot(t, "as somebody else", b.Get(page), "night shift")
	signsIn(t, s, b, ada)
	wantNot(t, "after somebody else", b.Get(page), "night shift")

	b, _ = interrupted(tags, tagged)
	signsIn(t, s, b, ada)
	b.Submit("/console", "/console/signout", nil)
	signsIn(t, s, b, ada)
	wantNot(t, "after signing out", b.Get(page), "night shift")

	// While Ada signs in again, Ben saves other tags: hers do not undo them.
	b = s.Browser(t, ada)
	fields, _ := b.Get(page).Form(tags)
	fields.Set("tags", "of = Ada")
	ended()
	want(t, "the form", b.Send(tags, fields), http.StatusUnauthorized, "with what you typed")
	s.Browser(t, ben).Submit(page, tags, url.Values{"tags": {"of = Ben"}})
	signsIn(t, s, b, ada)
	want(t, "the kept form", b.Submit(page, tags, nil), http.StatusConflict, "of = Ada")
	want(t, "the page", s.Browser(t, ben).Get(page), http.StatusOK, "of = Ben")

	// Who signs out everywhere leaves nothing.
	b = s.Browser(t, ada)
	token := b.Token()
	s.Browser(t, ada).Submit("/console/account", "/console/account/signout", nil)
	want(t, "signed out", b.Send(tags, url.Values{"tags": {typed}, "token": {token}}), http.StatusUnauthorized,
		"files are never kept")

	// What was not kept, and why.
	forged := s.Visitor(t)
	forged.Jar.SetCookies(location(t, s), []*http.Cookie{{Name: "__Host-visage", Path: "/", Secure: true,
		Value: strings.Repeat("A", 43)}})
	want(t, "no session", forged.Send(tags, url.Values{"tags": {typed}, "token": {"a.b"}}), http.StatusUnauthorized,
		"files are never kept")
	for form, fields := range map[string]url.Values{
		"/console/resources/default/delete": {"confirm": {"default"}}, tags: {"tags": {strings.Repeat("a", 40<<10)}},
		"/console/vaults/missing/keys/faces/1/disable": {},
		"/console/vaults/furnished/importkey":          {"name": {"key"}, "pasted": {"-----BEGIN PRIVATE KEY-----"}},
	} {
		b, p := interrupted(form, fields)
		want(t, form, p, http.StatusUnauthorized, "files are never kept")
		if strings.Contains(strings.Join(p.Header.Values("Set-Cookie"), ";"), "draft") {
			t.Errorf("%s is kept: %v", form, p.Header)
		}
		signsIn(t, s, b, ada)
		want(t, form, b.Get(page), http.StatusOK)
	}
	const photos = "/console/resources/default/people/persongroups/guests/photos"
	b = s.Browser(t, ada)
	token = b.Token()
	ended()
	p = b.SendFiles(photos, url.Values{"token": {token}, "into": {"new"}}, photo("a.png", 1, "ada"))
	want(t, "a form with a photo", p, http.StatusUnauthorized, "files are never kept")
}

// TestWhatNeedsAFreshProofIsKept asks with a proof that is old to make somebody an operator: who comes back
// to the form finds it as it was typed.
func TestWhatNeedsAFreshProofIsKept(t *testing.T) {
	i := newIssuer(t)
	s := servertest.Start(t, issuing(t, i))
	b := stale(t, s, i)
	_, ada := visitorWith(t, s, "Ada")
	const page = "/console/access/roles"
	asked := url.Values{"principal": {ada}, "role": {identity.VisageOperator}}
	p := b.Submit(page, page+"/add", asked)
	want(t, "an old proof", p, http.StatusForbidden, "Prove again who you are")
	p = b.Get(page)
	want(t, "who comes back", p, http.StatusOK, "This is what you typed", `value="`+identity.VisageOperator+`" checked`)
}
