package console_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"html"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// issuer is an issuer of OpenID Connect that the test makes lie.
type issuer struct {
	*httptest.Server

	t      *testing.T
	key    *rsa.PrivateKey
	codes  map[string]grant
	claims map[string]any  // replaced in the next ID token; a nil value removes the claim
	sign   *rsa.PrivateKey // that signs; nil: key
	alg    string
	names  bool // its answers name it
	asked  int  // requests for tokens
}

// grant is what a code stands for.
type grant struct{ nonce, challenge, redirect, subject string }

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{t: t, key: key, codes: map[string]grant{}, alg: "RS256"}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		i.answer(w, map[string]any{
			"issuer": i.URL, "authorization_endpoint": i.URL + "/authorize", "token_endpoint": i.URL + "/token",
			"jwks_uri": i.URL + "/keys", "id_token_signing_alg_values_supported": []string{"RS256"},
			"scopes_supported": []string{"openid", "profile", "groups"},
			"authorization_response_iss_parameter_supported": i.names,
		})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		i.answer(w, map[string]any{"keys": []any{map[string]any{
			"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "1", "n": encode(i.key.N.Bytes()),
			"e": encode(big.NewInt(int64(i.key.E)).Bytes()),
		}}})
	})
	mux.HandleFunc("/token", i.token)
	i.Server = httptest.NewTLSServer(mux)
	t.Cleanup(i.Close)
	return i
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func (i *issuer) answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		i.t.Error(err)
	}
}

// token redeems a code once, with the client's secret and the verifier of its challenge.
func (i *issuer) token(w http.ResponseWriter, r *http.Request) {
	i.asked++
	g, found := i.codes[r.PostFormValue("code")]
	delete(i.codes, r.PostFormValue("code"))
	id, secret, _ := r.BasicAuth()
	verifier := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	if !found || id != "visage" || secret != "s3cret" || encode(verifier[:]) != g.challenge ||
		r.PostFormValue("redirect_uri") != g.redirect {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(`{"error":"invalid_grant"}`)) // to the client under test
		return
	}
	now := time.Now()
	claims := map[string]any{
		"iss": i.URL, "aud": "visage", "sub": g.subject, "nonce": g.nonce, "iat": now.Unix(),
		"exp": now.Add(time.Minute).Unix(), "auth_time": now.Unix(), "name": "Ada of " + g.subject,
		"email": "ada@example.org", "email_verified": false,
	}
	for name, value := range i.claims {
		if claims[name] = value; value == nil {
			delete(claims, name)
		}
	}
	body, err := json.Marshal(claims)
	if err != nil {
		i.t.Error(err)
	}
	signed := encode([]byte(`{"alg":"`+i.alg+`","kid":"1"}`)) + "." + encode(body)
	signer := i.key
	if i.sign != nil {
		signer = i.sign
	}
	digest := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(rand.Reader, signer, crypto.SHA256, digest[:])
	if err != nil {
		i.t.Error(err)
	}
	i.answer(w, map[string]any{"access_token": "a", "token_type": "Bearer",
		"id_token": signed + "." + encode(signature)})
}

// signs lets a subject sign in at the issuer, and returns the path and query with which the browser comes back.
func (i *issuer) signs(address, subject string) string {
	i.t.Helper()
	u, err := url.Parse(address)
	if err != nil || !strings.HasPrefix(address, i.URL+"/authorize?") {
		i.t.Fatalf("the browser is led to %q (%v)", address, err)
	}
	q := u.Query()
	if q.Get("response_type") != "code" || q.Get("code_challenge_method") != "S256" || q.Get("client_id") != "visage" ||
		len(q.Get("state")) < 40 || len(q.Get("nonce")) < 40 || q.Get("scope") != "openid profile groups" {
		i.t.Errorf("the issuer is asked %q", address)
	}
	code := rand.Text()
	i.codes[code] = grant{q.Get("nonce"), q.Get("code_challenge"), q.Get("redirect_uri"), subject}
	back, err := url.Parse(q.Get("redirect_uri"))
	if err != nil {
		i.t.Fatal(err)
	}
	return back.Path + "?" + url.Values{"code": {code}, "state": {q.Get("state")}, "iss": {i.URL}}.Encode()
}

// issuing is the configuration of a server that lets people sign in with issuers.
func issuing(t *testing.T, issuers ...*issuer) server.Config {
	t.Helper()
	dir := t.TempDir()
	ca, secret := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "secret")
	var certificates []byte
	cfg := server.Config{IssuerCAFile: ca}
	for _, i := range issuers {
		certificates = append(certificates, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE",
			Bytes: i.Certificate().Raw})...)
		cfg.ConsoleIssuers = append(cfg.ConsoleIssuers, i.URL+"=visage")
		cfg.ConsoleIssuerSecretFiles = append(cfg.ConsoleIssuerSecretFiles, i.URL+"="+secret)
	}
	for name, content := range map[string][]byte{ca: certificates, secret: []byte("s3cret\n")} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cfg
}

// trusting starts a server that lets people sign in with issuers, and maps subjects: ada to a person, the group
// "developers" of the first issuer to an application.
func trusting(t *testing.T, issuers ...*issuer) (s *servertest.Server, person string) {
	t.Helper()
	s = servertest.Start(t, issuing(t, issuers...))
	_, person = visitorWith(t, s, "Ada", identity.Reader)
	subjects := "/subscriptions/" + s.Operator().SubscriptionID + "/providers/Visage.Identity/servicePrincipals/" +
		person + "/federatedSubjects"
	manage(t, s, http.MethodPut, subjects, `{"value":[{"issuer":"`+issuers[0].URL+`","subject":"ada"}]}`, nil)
	return s, person
}

var onward = regexp.MustCompile(`^0; url=(.*)$`)

// begins begins to sign in with an issuer on a page, and returns the address that the browser is led to.
func begins(t *testing.T, b *servertest.Browser, page string, i *issuer) string {
	t.Helper()
	const begin = "/console/signin/openid/begin"
	fields, found := b.Get(page).Form(begin)
	if !found {
		t.Fatalf("%s has no form for an issuer", page)
	}
	p := b.Send(begin, fields)
	m := onward.FindStringSubmatch(p.Header.Get("Refresh"))
	if p.Status != 200 || m == nil || !strings.Contains(html.UnescapeString(p.Body), `href="`+m[1]+`"`) {
		t.Fatalf("begin: %d %v %s", p.Status, p.Header, p.Body)
	}
	if !strings.Contains(p.Header.Get("Set-Cookie"), "SameSite=Lax") {
		t.Errorf("the cookie of the sign-in: %q", p.Header.Get("Set-Cookie"))
	}
	return m[1]
}

// comesBack sends what a browser sends that another site leads to a path: without the cookies that are for this site's
// own pages.
func comesBack(t *testing.T, s *servertest.Server, b *servertest.Browser, path string) servertest.Page {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/html")
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	req.Header.Set("Sec-Fetch-Mode", "navigate")
	for _, c := range b.Jar.Cookies(location(t, s)) {
		if c.Name == "__Host-visage-signin" {
			req.AddCookie(c)
		}
	}
	stranger := s.Visitor(t)
	p := stranger.Ask(req)
	if set := (&http.Response{Header: p.Header}).Cookies(); len(set) > 0 {
		b.Jar.SetCookies(location(t, s), set)
	}
	return p
}

// finish goes on from the page that the answer of an issuer is shown with.
func finish(t *testing.T, b *servertest.Browser, p servertest.Page) servertest.Page {
	t.Helper()
	m := onward.FindStringSubmatch(p.Header.Get("Refresh"))
	if p.Status != 200 || m == nil || m[1] != "/console/signin/openid/done" {
		t.Fatalf("the answer: %d %v %s", p.Status, p.Header, p.Body)
	}
	return b.Get(m[1])
}

// TestOpenID signs people in with an issuer: one by the subject, whatever the e-mail address says, and one by a group.
func TestOpenID(t *testing.T) {
	i := newIssuer(t)
	s, _ := trusting(t, i)
	b := s.Visitor(t)
	back := i.signs(begins(t, b, "/console/signin?to=/console/account", i), "ada")
	p := finish(t, b, comesBack(t, s, b, back))
	if p.Header.Get("Location") != "/console/account" ||
		!strings.Contains(p.Header.Get("Set-Cookie"), "SameSite=Strict") {
		t.Fatalf("sign in: %d %v", p.Status, p.Header)
	}
	want(t, "signed in", b.Get("/console/account"), 200, "Ada", "Through an external issuer")
	want(t, "the answer again", comesBack(t, s, b, back), http.StatusUnauthorized, "begin it again")

	// Somebody whom nobody knows is told what to say, and is not created.
	b = s.Visitor(t)
	p = finish(t, b, comesBack(t, s, b, i.signs(begins(t, b, "/console/signin", i), "<b>eve</b>")))
	want(t, "a stranger", p, http.StatusForbidden, i.URL, "&lt;b&gt;eve", "Nothing was created")
	want(t, "a stranger", b.Get("/console"), http.StatusUnauthorized)

	// Members of a group act as what it is mapped to, under their own names.
	operator := s.Browser(t, "")
	page := operator.Submit(access+"/applications", access+"/applications", url.Values{"name": {"developers"},
		"days": {"30"}})
	app := regexp.MustCompile(access + `/applications/[0-9a-f-]{36}/subjects`).FindString(page.Body)
	one := strings.TrimSuffix(app, "/subjects")
	if p := operator.Submit(one, app, url.Values{"issuer": {i.URL}, "subject": {"dev"},
		"group": {"on"}}); p.Status != 303 {
		t.Fatalf("map the group: %d %s", p.Status, p.Body)
	}
	want(t, "certificates", operator.Get("/console/operations"), 200, "certificate of a trusted issuer",
		"authority for trusted issuers, from issuer-ca-file")
	want(t, "issuers", operator.Get(access+"/issuers"), 200, i.URL, "/console/signin/openid/answer/")
	i.claims = map[string]any{"groups": []string{"x", "dev"}, "name": "Grace \u202eHopper", "auth_time": nil}
	b = s.Visitor(t)
	if p := finish(t, b, comesBack(t, s, b, i.signs(begins(t, b, "/console/signin", i), "grace"))); p.Status != 303 {
		t.Fatalf("by a group: %d %s", p.Status, p.Body)
	}
	want(t, "by a group", b.Get("/console/account"), 200, "Grace Hopper", "developers")
	want(t, "another identity of the same address", operator.Get(access+"/sessions"), 200,
		"Grace Hopper, as developers")
}

// TestFreshProofWithAnIssuer asks for a fresh proof of somebody who has signed in with an issuer.
func TestFreshProofWithAnIssuer(t *testing.T) {
	i := newIssuer(t)
	s, person := trusting(t, i)
	give(t, s, person, identity.Contributor, "/subscriptions/"+s.Operator().SubscriptionID)
	const purge = "/console/resources/default/delete"
	ago := func(d time.Duration) map[string]any {
		return map[string]any{"auth_time": time.Now().Add(-d).Unix()}
	}
	for name, claims := range map[string]map[string]any{
		"signed in there an hour ago": ago(time.Hour), "it does not say when": {"auth_time": nil},
	} {
		i.claims = claims
		b := s.Visitor(t)
		if p := finish(t, b, comesBack(t, s, b, i.signs(begins(t, b, "/console/signin", i), "ada"))); p.Status != 303 {
			t.Fatalf("%s: %d %s", name, p.Status, p.Body)
		}
		want(t, name, b.Get(purge), http.StatusForbidden, "Prove again who you are", "Ask an operator")
		token, _ := b.Get("/console").Form("/console/signout")
		want(t, name+", by the form", b.Send(purge, url.Values{"token": token["token"], "revision": {"1"}}),
			http.StatusForbidden, "Prove again who you are")

		// What is not fresh proves nothing, also when it was asked for.
		address := begins(t, b, purge, i)
		if q, _ := url.ParseQuery(address); q.Get("prompt") != "login" || q.Get("max_age") != "0" {
			t.Errorf("the issuer is asked %q", address)
		}
		want(t, name+", again", comesBack(t, s, b, i.signs(address, "ada")), http.StatusUnauthorized,
			"did not ask you to sign in again")
		i.claims = nil
		before := b.Jar.Cookies(location(t, s))
		p := finish(t, b, comesBack(t, s, b, i.signs(begins(t, b, purge, i), "ada")))
		if p.Status != 303 || p.Header.Get("Location") != purge {
			t.Fatalf("%s: proved: %d %q", name, p.Status, p.Header.Get("Location"))
		}
		want(t, name+", proved", b.Get(purge), 200)
		old := s.Visitor(t)
		old.Jar.SetCookies(location(t, s), before)
		want(t, name+", with the secret from before", old.Get("/console"), http.StatusUnauthorized)
	}

	// The one-time address of somebody who has to prove who they are leads back.
	i.claims = ago(time.Hour)
	b := s.Visitor(t)
	finish(t, b, comesBack(t, s, b, i.signs(begins(t, b, "/console/signin", i), "ada")))
	want(t, "stale", b.Get(purge), http.StatusForbidden)
	address, err := s.SignInAddress(t.Context(), person)
	if err != nil {
		t.Fatal(err)
	}
	if p := b.Send(strings.TrimPrefix(address, s.URL), nil); p.Header.Get("Location") != purge {
		t.Errorf("after a one-time address: %d %q", p.Status, p.Header.Get("Location"))
	}
}

// replaced replaces what a pattern finds in the path that a browser comes back to.
func replaced(pattern, by string) func(string) string {
	return func(path string) string { return regexp.MustCompile(pattern).ReplaceAllString(path, by) }
}

// TestOpenIDRefuses tries what must not sign anybody in.
func TestOpenIDRefuses(t *testing.T) {
	i, other := newIssuer(t), newIssuer(t)
	s, _ := trusting(t, i, other)
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, try := range map[string]struct {
		claims map[string]any
		lie    func(i *issuer)
		back   func(path string) string
	}{
		"wrong state":   {back: replaced(`state=[^&]+`, "state=x")},
		"no state":      {back: replaced(`state=[^&]+`, "")},
		"made-up code":  {back: replaced(`code=[^&]+`, "code=x")},
		"refused there": {back: func(p string) string { return p + "&error=access_denied" }},
		"named another": {back: func(p string) string {
			return regexp.MustCompile(`iss=[^&]+`).ReplaceAllString(p, "iss=https%3A%2F%2Fevil.example")
		}},
		"answer of another": {back: func(p string) string {
			return regexp.MustCompile(`answer/[0-9a-f]+`).ReplaceAllString(p, "answer/00000000")
		}},
		"wrong nonce":        {claims: map[string]any{"nonce": "x"}},
		"no nonce":           {claims: map[string]any{"nonce": nil}},
		"other audience":     {claims: map[string]any{"aud": "shop"}},
		"several audiences":  {claims: map[string]any{"aud": []string{"visage", "shop"}}},
		"for another party":  {claims: map[string]any{"azp": "shop"}},
		"other issuer":       {claims: map[string]any{"iss": other.URL}},
		"expired":            {claims: map[string]any{"exp": time.Now().Add(-time.Minute).Unix()}},
		"no subject":         {claims: map[string]any{"sub": ""}},
		"signed by another":  {lie: func(i *issuer) { i.sign = stranger }},
		"unsigned algorithm": {lie: func(i *issuer) { i.alg = "none" }},
		"symmetric":          {lie: func(i *issuer) { i.alg = "HS256" }},
	} {
		i.claims, i.sign, i.alg = try.claims, nil, "RS256"
		if try.lie != nil {
			try.lie(i)
		}
		b := s.Visitor(t)
		path := i.signs(begins(t, b, "/console/signin", i), "ada")
		if try.back != nil {
			path = try.back(path)
		}
		p := comesBack(t, s, b, path)
		if p.Status != http.StatusUnauthorized && p.Status != http.StatusTooManyRequests ||
			p.Header.Get("Refresh") != "" {
			t.Errorf("%s: %d %s", name, p.Status, p.Body)
		}
		want(t, name, b.Get("/console/signin/openid/done"), http.StatusUnauthorized)
		want(t, name, b.Get("/console"), http.StatusUnauthorized)
		// Nobody waits because of these failures, who signs in as they should.
		i.claims, i.sign, i.alg = nil, nil, "RS256"
		b = s.Visitor(t)
		if p := finish(t, b, comesBack(t, s, b, i.signs(begins(t, b, "/console/signin", i), "ada"))); p.Status != 303 {
			t.Fatalf("after %s: %d %s", name, p.Status, p.Body)
		}
	}

	// A code that was used is worth nothing; the issuer is not even asked without the browser's own cookie.
	b := s.Visitor(t)
	path := i.signs(begins(t, b, "/console/signin", i), "ada")
	finish(t, b, comesBack(t, s, b, path))
	asked := i.asked
	begins(t, b, "/console/signin", i)
	want(t, "an answer of before, to a new question", comesBack(t, s, b, path), http.StatusUnauthorized)
	want(t, "another browser", comesBack(t, s, s.Visitor(t), path), http.StatusUnauthorized)
	if i.asked != asked {
		t.Error("the issuer was asked for a token with an answer to nothing")
	}

	// An answer that arrives at the address of another issuer is never taken for that one's, however valid it is: not
	// even the issuer that it is from is asked.
	b = s.Visitor(t)
	path = i.signs(begins(t, b, "/console/signin", i), "ada")
	ids := regexp.MustCompile(`name="issuer" value="([0-9a-f]+)"`).FindAllStringSubmatch(
		b.Get("/console/signin").Body, -1)
	own := regexp.MustCompile(`answer/[0-9a-f]+`).FindString(path)
	elsewhere := "answer/" + ids[0][1]
	if elsewhere == own {
		elsewhere = "answer/" + ids[1][1]
	}
	askedOther := other.asked
	asked = i.asked
	p := comesBack(t, s, b, strings.Replace(path, own, elsewhere, 1))
	want(t, "mixed up", p, http.StatusUnauthorized, "begin it again")
	want(t, "mixed up, and then as it should be", comesBack(t, s, b, path), http.StatusUnauthorized)
	want(t, "mixed up", b.Get("/console"), http.StatusUnauthorized)
	if i.asked != asked || other.asked != askedOther {
		t.Errorf("%d and %d issuers were asked for a token", i.asked-asked, other.asked-askedOther)
	}
	want(t, "no issuer", comesBack(t, s, b, strings.Replace(path, own, "answer/x", 1)), http.StatusUnauthorized)

	// The page names the provider that cannot be reached, and a second attempt does not wait for it.
	other.Close()
	b = s.Visitor(t)
	page := b.Get("/console/signin")
	forms := regexp.MustCompile(`name="issuer" value="([0-9a-f]+)"`).FindAllStringSubmatch(page.Body, -1)
	for range 2 {
		p := b.Send("/console/signin/openid/begin", url.Values{"issuer": {forms[1][1]}})
		want(t, "an issuer that is off", p, http.StatusServiceUnavailable, "does not answer")
	}
}

// TestOneWayToSignInLocksNoOtherOut fails with passkeys until the address has to wait: the other ways let people in.
func TestOneWayToSignInLocksNoOtherOut(t *testing.T) {
	i := newIssuer(t)
	s, _ := trusting(t, i)
	const passkeys = "/console/signin/passkey/"
	b := s.Visitor(t)
	slowed := false
	for n := range 80 {
		b.Send(passkeys+"options", url.Values{})
		p := b.Send(passkeys+"answer", url.Values{"credential": {fmt.Sprintf(`{"id":"%d"}`, n)}})
		if slowed = p.Status == http.StatusTooManyRequests; slowed {
			break
		}
		if p.Status != http.StatusUnauthorized {
			t.Fatalf("a wrong passkey: %d %s", p.Status, p.Body)
		}
	}
	if !slowed {
		t.Error("80 wrong passkeys were checked")
	}
	want(t, "with an address", s.Browser(t, "").Get("/console"), http.StatusOK)
	for range 20 { // another site sends the browser here
		want(t, "an answer to nothing", b.Get("/console/signin/openid/answer/00000000"), http.StatusUnauthorized)
	}
	b = s.Visitor(t)
	p := finish(t, b, comesBack(t, s, b, i.signs(begins(t, b, "/console/signin", i), "ada")))
	if p.Status != http.StatusSeeOther {
		t.Errorf("with an issuer: %d %s", p.Status, p.Body)
	}
}
