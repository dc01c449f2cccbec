package console

import (
	"net/http"

	"github.com/visage-face/visage/identity"
)

// signInRoutes are the ways in and out.
func (c *Console) signInRoutes() []route {
	return []route{
		page(prefix+"/signin", open, c.signIn),
		page(prefix+"/signin/{code}", open, c.oneTimePage),
		send(prefix+"/signin/{code}", open, c.oneTime),
		send(prefix+"/signout", signedIn, c.signOut),
	}
}

// signInData is the page with the ways to sign in.
type signInData struct {
	To string // the page to show afterwards
}

func (c *Console) signInWays(to string) signInData { return signInData{To: to} }

func (c *Console) signIn(v *visit) (*view, error) {
	return v.page("signin", v.text("signin.title"), c.signInWays(v.local(v.field("to")))), nil
}

// oneTimePage asks for a click before it uses up a one-time address: programs that look at links, such as those of mail
// servers, must not.
func (c *Console) oneTimePage(v *visit) (*view, error) {
	who, _, found := c.cfg.Directory.LookupCode(v.Path("code"))
	if !found {
		w := v.page("signin", v.text("signin.title"), c.signInWays(prefix))
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

// oneTime opens a session for who holds a one-time address.
func (c *Console) oneTime(v *visit) (*view, error) {
	// Failures count for the code, so that a wrong address does not hinder others who sign in from the same network.
	err := v.SignIn("one-time "+v.Path("code"), func() error {
		who, _, err := c.cfg.Directory.RedeemCode(v.Context(), v.Path("code"))
		if err != nil {
			return err
		}
		return v.openSession(who, who.Name, identity.ByOneTimeAddress)
	})
	if err != nil {
		return nil, err
	}
	return v.enter(prefix), nil
}

// openSession opens a session for a person, and ends the one that the browser had.
func (v *visit) openSession(who identity.Principal, name string, method identity.Method) error {
	d := v.c.cfg.Directory
	if old, _, err := d.Session(v.Context(), v.secret, v.ClientAddress()); err == nil {
		if err := d.EndSession(v.Context(), old.ID); err != nil {
			return err
		}
	}
	secret, s, err := d.OpenSession(v.Context(), identity.SessionStart{
		Principal: who.ID, Name: name, Method: method, Address: v.ClientAddress(), Client: v.Header("User-Agent"),
	})
	if err != nil {
		return err
	}
	v.secret, v.session = secret, s
	return nil
}

// enter leads to a page with the cookie of the session that was just opened.
func (v *visit) enter(to string) *view {
	w := v.redirect(v.local(to))
	w.header = http.Header{"Set-Cookie": {setCookie(sessionCookie, v.secret, identity.SessionLife)}}
	return w
}

// signOut ends the session.
func (c *Console) signOut(v *visit) (*view, error) {
	if err := c.cfg.Directory.EndSession(v.Context(), v.session.ID); err != nil {
		return nil, err
	}
	return v.leave(), nil
}

// proofPage asks a person to prove again who they are.
func (v *visit) proofPage() *view {
	w := v.page("proof", v.text("proof.title"), v.c.signInWays(v.URL()))
	w.status = http.StatusForbidden
	return w
}
