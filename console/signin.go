package console

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/identity"
)

// signInRoutes are the ways in and out.
func (c *Console) signInRoutes() []route {
	return []route{
		page(signInPath, open, c.signIn),
		page(signInPath+"/{code}", open, c.oneTimePage),
		send(signInPath+"/{code}", open, c.oneTime),
		send(signInPath+"/passkey/options", open, c.passkeyOptions),
		send(signInPath+"/passkey/answer", open, c.passkeyAnswer),
		send(signInPath+"/openid/begin", open, c.beginOpenID),
		page(openIDAnswer+"/{issuer}", open, c.openIDAnswer),
		page(signInPath+"/openid/done", open, c.openIDDone),
		send(prefix+"/signout", signedIn, c.signOut),
	}
}

const signInPath = prefix + "/signin"

// signInData is the page with the ways to sign in.
type signInData struct {
	To      string       // the page to show afterwards
	Passkey *passkeyForm // nil: passkeys cannot be used
	Issuers []*form
}

// passkeyForm is a form whose field "credential" an authenticator fills in.
type passkeyForm struct {
	*form

	Kind    string // "create" or "get", as navigator.credentials has it
	Options string // the address of what the authenticator is asked
}

// signInWays lists the ways to sign in, for a page in a language.
func (c *Console) signInWays(l *language, to string) signInData {
	d := signInData{To: to}
	hidden := &field{Name: "to", Kind: "hidden", Value: to}
	if c.site != nil {
		f := &form{Action: signInPath + "/passkey/answer", Submit: l.text("signin.passkey.use"), Style: "primary",
			Icon: "fingerprint", Fields: []*field{hidden, {Name: "credential", Kind: "hidden"}}}
		d.Passkey = &passkeyForm{f, "get", signInPath + "/passkey/options"}
	}
	for _, i := range c.issuersForSignIn {
		d.Issuers = append(d.Issuers, &form{Action: signInPath + "/openid/begin", Style: "plain", Icon: "log-in",
			Submit: l.text("signin.openid.use", i.host),
			Fields: []*field{hidden, {Name: "issuer", Kind: "hidden", Value: i.id}}})
	}
	return d
}

func (c *Console) signIn(v *visit) (*view, error) {
	return v.page("signin", v.text("signin.title"), c.signInWays(v.lang, local(v.field("to")))), nil
}

// signInFailed shows the ways to sign in, and why one has failed.
func (v *visit) signInFailed(said *explanation, to string) *view {
	w := v.page("signin", v.text("signin.title"), v.c.signInWays(v.lang, local(to)))
	w.notices = []notice{{"bad", said.Sentence}}
	return v.again(w, said)
}

// oneTimePage asks for a click before it uses up a one-time address: programs that look at links, such as those of mail
// servers, must not.
func (c *Console) oneTimePage(v *visit) (*view, error) {
	who, _, found := c.cfg.Directory.LookupCode(v.Path("code"))
	if !found {
		w := v.page("signin", v.text("signin.title"), c.signInWays(v.lang, prefix))
		w.notices = []notice{{"bad", v.text("signin.spent")}}
		w.status = http.StatusUnauthorized
		return w, nil
	}
	enter := v.form(v.Where(), v.text("signin.enter"))
	enter.Icon = "log-in"
	data := struct {
		Name string
		Form *form
	}{who.Name, enter}
	return v.page("onetime", v.text("signin.title"), data), nil
}

// The ways to sign in, whose failures are counted apart.
const (
	oneTimeWay = "address"
	passkeyWay = "passkey"
	openIDWay  = "openid"
)

// oneTime opens a session for the holder of a one-time address. People who were invited register a passkey next.
func (c *Console) oneTime(v *visit) (*view, error) {
	to := local(v.Cookie(returnCookie))
	// Failures count for the code, so that a wrong address does not hinder others who sign in from the same network.
	err := v.SignInBy(oneTimeWay, v.Path("code"), func() error {
		who, use, err := c.cfg.Directory.RedeemCode(v.Context(), v.Path("code"))
		if err != nil {
			return err
		}
		if use == identity.Invite && c.site != nil {
			to = newPasskeyPath
		}
		return v.enterAs(who, "", identity.ByOneTimeAddress, time.Now())
	})
	if err != nil {
		return nil, err
	}
	return v.enter(to), nil
}

// renewable is how long a session has to live yet for a person who signs in again to keep it. Later they get a new one.
const renewable = time.Hour

// enterAs lets a person in who has proved at a time who they are; name is that of the human if the principal is an
// application. Their own session is kept, under a new secret. Another one that the browser had ends, and the tasks that
// the same person has started in it go on.
func (v *visit) enterAs(who identity.Principal, name string, method identity.Method, proved time.Time) error {
	d := v.c.cfg.Directory
	var own identity.Session // of the same person, that ends
	if old, _, err := d.Session(v.Context(), v.secret, v.ClientAddress()); err == nil {
		left := time.Until(old.Created.Add(identity.SessionLife))
		same := old.Principal == who.ID && old.Name == cmp.Or(name, who.Name)
		if same && left > renewable && time.Since(proved) < freshToSee {
			v.secret, err = d.Prove(v.Context(), v.secret, method)
			v.session = old
			return err
		}
		if same {
			own = old
		} else if err := d.EndSession(v.Context(), old.ID); err != nil {
			return err
		}
	}
	secret, s, err := d.OpenSession(v.Context(), identity.SessionStart{
		Principal: who.ID, Name: name, Method: method, Address: v.ClientAddress(), Client: v.Header("User-Agent"),
		Proved: proved,
	})
	if err != nil {
		return err
	}
	v.secret, v.session = secret, s
	if own.ID == "" {
		return nil
	}
	v.c.jobs.handOver(own, s)
	err = d.EndSession(v.Context(), own.ID)
	if refusal, ok := errors.AsType[*visage.Refusal](err); ok && refusal.Kind == visage.NotFound {
		return nil // it has ended meanwhile
	}
	return err
}

// enter leads to a page with the cookie of the session that was just opened or proved.
func (v *visit) enter(to string) *view {
	w := v.redirect(local(to))
	w.header = http.Header{"Set-Cookie": {setCookie(sessionCookie, v.secret, identity.SessionLife)}}
	if v.Cookie(returnCookie) != "" {
		w.header.Add("Set-Cookie", setCookie(returnCookie, "", 0))
	}
	return w
}

// signOut ends the session.
func (c *Console) signOut(v *visit) (*view, error) {
	if err := c.cfg.Directory.EndSession(v.Context(), v.session.ID); err != nil {
		return nil, err
	}
	return v.leave(), nil
}

// returnCookie is the page that needs a session or a fresh proof, for those who come back with a one-time address: that
// has no place for it.
const returnCookie = "__Host-visage-return"

// pageOf is the page of a form that is sent to a path: the same path if there is a page, else the one above it.
func (c *Console) pageOf(path, pattern string) string {
	for _, r := range c.routes {
		if r.method == http.MethodGet && r.pattern == pattern {
			return path
		}
	}
	return path[:strings.LastIndex(path, "/")]
}

// formAt is the pattern of the form that is sent to a path; empty: there is none.
func (c *Console) formAt(path string) (pattern string) {
	fits := func(of, segment string) bool { return of == segment || strings.HasPrefix(of, "{") }
	parameters := 0
	for _, r := range c.routes {
		n := strings.Count(r.pattern, "{")
		if r.method == http.MethodPost && (pattern == "" || n < parameters) &&
			slices.EqualFunc(strings.Split(r.pattern, "/"), strings.Split(path, "/"), fits) {
			pattern, parameters = r.pattern, n
		}
	}
	return pattern
}

// proofPage asks a person to prove again who they are, with what they have.
func (v *visit) proofPage() *view {
	to := v.URL()
	if v.sends() {
		to = v.c.pageOf(to, v.Route().Pattern)
	}
	data := struct {
		signInData
		Person    bool // they can ask an operator for a new address
		Protected *protected
	}{signInData: v.c.signInWays(v.lang, to), Protected: v.locks}
	data.Issuers = nil
	p, err := v.c.cfg.Directory.Principal(v.session.Principal)
	data.Person = err == nil && p.Kind == identity.Person
	if len(p.Passkeys) == 0 {
		data.Passkey = nil
	}
	for _, i := range v.c.issuersForSignIn {
		if slices.ContainsFunc(p.Subjects, func(s identity.Subject) bool { return s.Issuer == i.URL() }) {
			data.Issuers = append(data.Issuers, v.c.proofForm(v.lang, i, to))
		}
	}
	w := v.page("proof", v.text("proof.title"), data)
	w.status = http.StatusForbidden
	w.header = http.Header{"Set-Cookie": {setCookie(returnCookie, to, flowsLast)}}
	return w
}
