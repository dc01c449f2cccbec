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

const (
	newPasskey = "/console/account/newpasskey"
	byPasskey  = "/console/signin/passkey/answer"
)

// options asks for what an authenticator is asked.
func options(t *testing.T, b *servertest.Browser, path string, fields url.Values) string {
	t.Helper()
	p := b.Send(path, fields)
	if p.Status != 200 || p.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("%s: %d %s", path, p.Status, p.Body)
	}
	return p.Body
}

// register registers a passkey of a browser's person.
func register(t *testing.T, s *servertest.Server, b *servertest.Browser, name string) *servertest.Authenticator {
	t.Helper()
	a := &servertest.Authenticator{Origin: s.URL}
	fields, found := b.Get(newPasskey).Form(newPasskey)
	if !found {
		t.Fatal("no form for a passkey")
	}
	fields.Set("name", name)
	fields.Set("credential", a.Create(t, options(t, b, newPasskey+"/options", fields)))
	if p := b.Send(newPasskey, fields); p.Header.Get("Location") != "/console/account" {
		t.Fatalf("register: %d %s", p.Status, p.Body)
	}
	return a
}

// show signs in with a passkey.
func show(t *testing.T, b *servertest.Browser, a *servertest.Authenticator, to string) servertest.Page {
	t.Helper()
	answer := a.Get(t, options(t, b, "/console/signin/passkey/options", url.Values{"to": {to}}))
	return b.Send(byPasskey, url.Values{"to": {to}, "credential": {answer}})
}

// TestPasskeys registers passkeys after an invitation, signs in with them, and tries what must fail.
func TestPasskeys(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	operator := s.Browser(t, "")
	_, adaID := visitorWith(t, s, "Ada", identity.Reader)
	her := access + "/people/" + adaID
	address := oneTime.FindString(operator.Submit(her, her+"/invite", url.Values{"use": {"invitation"}}).Body)
	ada := s.Visitor(t)
	if p := ada.Send(address, nil); p.Header.Get("Location") != newPasskey {
		t.Fatalf("after an invitation: %d %v", p.Status, p.Header)
	}
	want(t, "first passkey", ada.Get(newPasskey), 200, `data-passkey="create"`, "your invitation works only once")
	a := register(t, s, ada, "<i>phone</i>")
	want(t, "account", ada.Get("/console/account"), 200, "&lt;i&gt;phone")

	b := s.Visitor(t)
	page := b.Get("/console/signin?to=/console/requests")
	want(t, "the page for signing in", page, 200, `data-passkey="get"`, `value="/console/requests"`)
	if p := show(t, b, a, "/console/requests"); p.Header.Get("Location") != "/console/requests" {
		t.Fatalf("sign in: %d %s", p.Status, p.Body)
	}
	want(t, "signed in", b.Get("/console/account"), 200, "With a passkey")

	// No page of another site, and no path that looks like one of ours, is ever shown afterwards.
	for _, to := range []string{"https://evil.example/console/", "//evil.example", "/console/../x", "/consolex",
		"/console/\\evil", "javascript:alert(1)", "/console/a\r\nSet-Cookie: x=y", "/console//evil.example"} {
		if p := show(t, s.Visitor(t), a, to); p.Status != 303 || p.Header.Get("Location") != "/console" {
			t.Errorf("to %q: %d %q", to, p.Status, p.Header.Get("Location"))
		}
	}

	// An answer is for one question, of this browser, about this site, with the person asked.
	v := s.Visitor(t)
	asked := options(t, v, "/console/signin/passkey/options", nil)
	answer := url.Values{"credential": {a.Get(t, asked)}}
	want(t, "in another browser", s.Visitor(t).Send(byPasskey, answer), http.StatusUnauthorized, "begin it again")
	if p := v.Send(byPasskey, answer); p.Status != 303 {
		t.Fatalf("in its own: %d %s", p.Status, p.Body)
	}
	want(t, "twice", v.Send(byPasskey, answer), http.StatusUnauthorized)
	for name, lie := range map[string]func(*servertest.Authenticator){
		"another origin":         func(a *servertest.Authenticator) { a.Origin = "https://evil.example" },
		"another port":           func(a *servertest.Authenticator) { a.Origin = "https://localhost:1" },
		"another site":           func(a *servertest.Authenticator) { a.RPID = "evil.example" },
		"nobody was asked":       func(a *servertest.Authenticator) { a.Unproved = true },
		"an unknown passkey":     func(a *servertest.Authenticator) { a.ID = []byte("unknown") },
		"another person":         func(a *servertest.Authenticator) { a.Handle = []byte(s.Operator().ClientID) },
		"a counter that repeats": func(a *servertest.Authenticator) { a.Counter = 1 },
	} {
		liar := *a
		lie(&liar)
		want(t, name, show(t, s.Visitor(t), &liar, ""), http.StatusUnauthorized, "not accepted")
		a.Counter = max(a.Counter, liar.Counter) + 1
		if p := show(t, s.Visitor(t), a, ""); p.Status != 303 { // so that failures do not add up to a pause
			t.Fatalf("the true passkey after %s: %d %s", name, p.Status, p.Body)
		}
	}
	for _, junk := range []string{"", "{}", "null", `{"id":"x"}`, strings.Repeat("[", 1000)} {
		v := s.Visitor(t)
		options(t, v, "/console/signin/passkey/options", nil)
		p := v.Send(byPasskey, url.Values{"credential": {junk}})
		if p.Status != http.StatusUnauthorized && p.Status != http.StatusTooManyRequests {
			t.Errorf("%.20q: %d", junk, p.Status)
		}
	}

	// A registration is for the session that began it, and for a passkey that is new.
	fields, _ := ada.Get(newPasskey).Form(newPasskey)
	other := &servertest.Authenticator{Origin: s.URL}
	asked = options(t, ada, newPasskey+"/options", fields)
	fields.Set("credential", other.Create(t, asked))
	fields.Set("name", "")
	want(t, "without a name", ada.Send(newPasskey, fields), 400, `id="e-name"`)
	fields.Set("name", "laptop")
	want(t, "answered before", ada.Send(newPasskey, fields), 422, "begin it again")
	asked = options(t, ada, newPasskey+"/options", fields)
	options(t, ada, "/console/signin/passkey/options", nil)
	fields.Set("credential", other.Create(t, asked))
	want(t, "for a sign-in that was begun since", ada.Send(newPasskey, fields), 422)
	asked = options(t, ada, newPasskey+"/options", fields)
	again := *other
	fields.Set("credential", again.Create(t, asked))
	if p := ada.Send(newPasskey, fields); p.Status != 303 {
		t.Fatalf("a second passkey: %d %s", p.Status, p.Body)
	}
	if strings.Contains(operator.Get(newPasskey).Body, "data-passkey") {
		t.Error("the operator, who is an application, is offered a passkey")
	}

	// Removed passkeys prove nothing, whoever removes them.
	account := ada.Get("/console/account")
	if p := ada.Submit("/console/account", "/console/account/passkeys", nil); p.Status != 303 {
		t.Fatalf("remove: %d %s", p.Status, p.Body)
	}
	want(t, "before", account, 200, "laptop", "phone")
	if p := operator.Submit(her, her+"/passkeys", nil); p.Status != 303 {
		t.Fatalf("remove by the operator: %d", p.Status)
	}
	want(t, "account", ada.Get("/console/account"), 200, "There is no passkey")
	for _, gone := range []*servertest.Authenticator{a, &again} {
		gone.Counter += 10
		if p := show(t, s.Visitor(t), gone, ""); p.Status < 400 {
			t.Errorf("a removed passkey: %d", p.Status)
		}
	}
	french(t, ada)
	want(t, "in French", ada.Get(newPasskey), 200, "Enregistrer une clé d’accès")
}

// TestSessionsAreNotFixed signs in with cookies that somebody else knows, and proves again with each of one's own ways.
func TestSessionsAreNotFixed(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	_, adaID := visitorWith(t, s, "Ada", identity.Reader)
	ada := s.Browser(t, adaID)
	a := register(t, s, ada, "phone")
	cookie := func(b *servertest.Browser) *http.Cookie {
		for _, c := range b.Jar.Cookies(location(t, s)) {
			if c.Name == "__Host-visage" {
				return c
			}
		}
		return nil
	}
	given := &http.Cookie{Name: "__Host-visage", Value: strings.Repeat("A", 43), Path: "/", Secure: true}
	b := s.Visitor(t)
	b.Jar.SetCookies(location(t, s), []*http.Cookie{given})
	if p := show(t, b, a, ""); p.Status != 303 {
		t.Fatalf("sign in: %d", p.Status)
	}
	first := cookie(b)
	if first.Value == given.Value {
		t.Fatal("the session has the secret that the browser brought")
	}
	attacker := s.Visitor(t)
	attacker.Jar.SetCookies(location(t, s), []*http.Cookie{given})
	want(t, "with the cookie from before", attacker.Get("/console"), http.StatusUnauthorized)

	// A fresh proof keeps the session, and changes its secret.
	before := sessionsOf(t, s, adaID)
	if p := show(t, b, a, ""); p.Status != 303 {
		t.Fatalf("prove: %d", p.Status)
	}
	if n := sessionsOf(t, s, adaID); n != before || cookie(b).Value == first.Value {
		t.Errorf("after a fresh proof: %d sessions, before %d", n, before)
	}
	attacker.Jar.SetCookies(location(t, s), []*http.Cookie{{Name: "__Host-visage", Value: first.Value, Path: "/",
		Secure: true}})
	want(t, "with the secret from before the proof", attacker.Get("/console"), http.StatusUnauthorized)
	p := show(t, b, a, "")
	set := p.Header.Get("Set-Cookie")
	for _, flag := range []string{"__Host-visage=", "Path=/", "HttpOnly", "Secure", "SameSite=Strict"} {
		if !strings.Contains(set, flag) {
			t.Errorf("the cookie of the session has no %s: %s", flag, set)
		}
	}

	// Forms of other sites sign nobody in.
	address, err := s.SignInAddress(t.Context(), adaID)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{strings.TrimPrefix(address, s.URL), byPasskey, "/console/signin/openid/begin"} {
		for name, value := range map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+path, strings.NewReader("a=b"))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			req.Header.Set(name, value)
			want(t, path+" from another site", s.Visitor(t).Ask(req), http.StatusForbidden, "CrossOriginRequest")
		}
	}
	// After signing out, nothing may be kept.
	account := b.Get("/console/account")
	if c := account.Header.Get("Cache-Control"); c != "no-store" {
		t.Errorf("a page with data may be kept: %q", c)
	}
}

// sessionsOf counts the sessions of a person.
func sessionsOf(t *testing.T, s *servertest.Server, person string) int {
	t.Helper()
	var all struct {
		Sessions int `json:"openSessions"`
	}
	manage(t, s, http.MethodGet, "/subscriptions/"+s.Operator().SubscriptionID+"/providers/Visage.Identity/people/"+
		person, "", &all)
	return all.Sessions
}
