package console

import (
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/identity"
)

// visit is one request to the console: the request, the signed-in person's session, and the language. It belongs to one
// goroutine.
type visit struct {
	*api.Request
	c       *Console
	lang    *language
	session identity.Session // zero for a visitor who is not signed in
	secret  string           // of the session
	typed   url.Values       // the fields of the form, on a POST
	files   []upload         // its files
	forms   []*form          // of the page, as they were made
	locks   *protected       // what the page or form would lock, when it asks for a fresh proof; nil: nothing
}

// upload is one file of a form.
type upload struct {
	field string
	name  string // as the browser has it: shown, never used as a path
	data  []byte
}

// sessionCookie carries the secret of a session. The prefix makes browsers keep it to this origin and to TLS.
const sessionCookie = "__Host-visage"

// languageCookie remembers the language that a visitor chose.
const languageCookie = "__Host-visage-language"

// admit authenticates the person of a request by the session cookie. Requests by which a page keeps itself up to date
// do not prolong the session.
func (c *Console) admit(r *api.Request) (who visage.Principal, err error) {
	var s identity.Session
	if secret := r.Cookie(sessionCookie); isRefresh(r) {
		s, who, err = c.cfg.Directory.Watch(secret)
	} else {
		s, who, err = c.cfg.Directory.Session(r.Context(), secret, r.ClientAddress())
	}
	r.Admitted = s
	if err != nil && r.Route().Method == http.MethodPost {
		err = c.keepTyped(r, err)
	}
	return who, err
}

// isRefresh reports whether a page asks again by itself, as layout.html has it: nobody may be there to read it. A
// visitor who forges the header only ends their own session sooner.
func isRefresh(r *api.Request) bool {
	return r.Header("HX-Trigger") == "live" || strings.HasSuffix(r.URL(), refreshMark)
}

// refreshMark ends the address that a page without scripts asks again by itself.
const refreshMark = "live=again"

// refreshed is the address that a page without scripts asks again by itself.
func refreshed(page string) string {
	if strings.Contains(page, "?") {
		return page + "&" + refreshMark
	}
	return page + "?" + refreshMark
}

// unmarked is the address of a page, without refreshMark: that is for no link.
func unmarked(page string) string {
	if at, marked := strings.CutSuffix(page, refreshMark); marked {
		return strings.TrimRight(at, "?&")
	}
	return page
}

// URL is the path and query of the request, as links have it.
func (v *visit) URL() string { return unmarked(v.Request.URL()) }

// newVisit makes the visit of a request.
func (c *Console) newVisit(r *api.Request) *visit {
	v := &visit{Request: r, c: c, secret: r.Cookie(sessionCookie)}
	v.lang = c.languageOf(r.Cookie(languageCookie), r.Header("Accept-Language"))
	if r.Principal != (visage.Principal{}) {
		v.session, _ = r.Admitted.(identity.Session) // as admit has left it
	}
	return v
}

// sends reports whether the request sends a form.
func (v *visit) sends() bool { return v.Route().Method == http.MethodPost }

// signedIn reports whether the visitor is signed in.
func (v *visit) signedIn() bool { return v.session.ID != "" }

// text returns the message of a key in the visitor's language.
func (v *visit) text(key string, args ...any) string { return v.lang.text(key, args...) }

// may reports whether the person has a role that allows an action of the management plane on a scope.
func (v *visit) may(action, scope string) bool {
	return v.c.cfg.Directory.May(v.Principal, action, scope)
}

// mayData is may for what is done with data.
func (v *visit) mayData(action, scope string) bool {
	return v.c.cfg.Directory.MayData(v.Principal, action, scope)
}

// operates reports whether the person runs the instance.
func (v *visit) operates() bool { return v.c.cfg.Operates(v.Principal) }

// subscription is the path of the subscription: the scope above all others.
func (c *Console) subscription() string { return "/subscriptions/" + c.cfg.Subscription }

// group is the path of the resource group.
func (c *Console) group() string { return c.subscription() + "/resourceGroups/" + c.cfg.Group }

// field returns what was typed into a field of the form, or is in the query of a page; empty when it is missing.
func (v *visit) field(name string) string {
	if v.typed != nil {
		return v.typed.Get(name)
	}
	text, _, err := v.Query(name)
	if err != nil {
		return ""
	}
	return text
}

// checked reports whether a box of the form is ticked.
func (v *visit) checked(name string) bool { return v.field(name) != "" }

// freshness is how old the last proof of a person may be before something that cannot be undone: to see its form, and
// to send it.
const (
	freshToSee  = 5 * time.Minute
	freshToSend = 15 * time.Minute
)

// fresh reports whether the person proved who they are not longer ago than limit.
func (v *visit) fresh(limit time.Duration) bool { return time.Since(v.session.Proved) < limit }

// needFresh asks the person to prove again who they are, if that was too long ago.
func (v *visit) needFresh() error {
	limit := freshToSee
	if v.sends() {
		limit = freshToSend
	}
	if v.fresh(limit) {
		return nil
	}
	return errStale
}

// setCookie returns the header that sets a cookie of this origin; a life of 0 removes it.
func setCookie(name, value string, life time.Duration) string {
	c := http.Cookie{
		Name: name, Value: value, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode,
		MaxAge: int(life / time.Second),
	}
	if life <= 0 {
		c.MaxAge = -1
	}
	return c.String()
}

// address is a client's address for people.
func address(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
