package console

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/identity"
)

func (c *Console) sessionRoutes() []route {
	return []route{
		page(accessPath+"/sessions", operator, c.sessions),
		page(prefix+"/account", signedIn, c.account),
		send(prefix+"/account/signout", signedIn, c.signOutEverywhere),
		send(prefix+"/sessions/{session}/end", signedIn, c.endSession),
	}
}

// sessionRow is a session in a table.
type sessionRow struct {
	identity.Session
	Own  bool // it is the one that shows the page
	Who  string
	To   string // the page of the person; empty: they are none, or the visitor may not see it
	From string // the address
	With string // the browser
	How  string
	End  *form // nil: this is the one that shows the page
}

// sessionOrders are the columns of a table of sessions.
var sessionOrders = []order[sessionRow]{
	{"who", "sessions.who", byText(func(s sessionRow) string { return s.Who }), false},
	{"method", "sessions.method", byText(func(s sessionRow) string { return s.How }), false},
	{"opened", "sessions.opened", byTime(func(s sessionRow) time.Time { return s.Created }), false},
	{"used", "sessions.used", byTime(func(s sessionRow) time.Time { return s.Used }), false},
	{"address", "sessions.address", byText(func(s sessionRow) string { return s.From }), false},
	{"browser", "sessions.browser", byText(func(s sessionRow) string { return s.With }), false},
}

// sessionTable shows sessions on a page.
func (c *Console) sessionTable(v *visit, page string, all []identity.Session) table[sessionRow] {
	t := tabled(v, page, c.sessionRows(v, all), "-used", sessionOrders)
	for i, s := range t.Rows {
		if !s.Own {
			t.Rows[i].End = v.button(prefix+"/sessions/"+url.PathEscape(s.ID)+"/end", v.text("sessions.end"), "plain",
				"to", v.here())
		}
	}
	return t
}

// sessionRows describes sessions for a table.
func (c *Console) sessionRows(v *visit, all []identity.Session) []sessionRow {
	var found []sessionRow
	for _, s := range all {
		row := sessionRow{
			Session: s, Own: s.ID == v.session.ID, Who: s.Name, From: address(s.Address), With: v.browserName(s.Client),
			How: v.text("sessions.method." + string(s.Method)),
		}
		if p, err := c.cfg.Directory.Principal(s.Principal); err == nil {
			if p.Kind == identity.Person && v.may(readPeople, c.subscription()) {
				row.To = personPath(p.ID, "")
			}
			if p.Name != s.Name {
				row.Who = v.text("sessions.as", s.Name, p.Name)
			}
		}
		found = append(found, row)
	}
	return found
}

// browserName is what a browser calls itself, in words that people know it by.
func (v *visit) browserName(agent string) string {
	find := func(names [][2]string) string {
		for _, n := range names {
			if strings.Contains(agent, n[0]) {
				return n[1]
			}
		}
		return ""
	}
	browser := find([][2]string{{"Edg", "Edge"}, {"OPR/", "Opera"}, {"Firefox/", "Firefox"}, {"Chrome/", "Chrome"},
		{"Safari/", "Safari"}})
	system := find([][2]string{{"Android", "Android"}, {"iPhone", "iOS"}, {"iPad", "iPadOS"}, {"Windows", "Windows"},
		{"Mac OS X", "macOS"}, {"CrOS", "ChromeOS"}, {"Linux", "Linux"}})
	if browser == "" || system == "" {
		return agent
	}
	return v.text("sessions.browser.on", browser, system)
}

// here is the page that a form returns to.
func (v *visit) here() string {
	if v.typed != nil {
		return prefix + "/account"
	}
	return v.URL()
}

// sessions shows everybody's sessions.
func (c *Console) sessions(v *visit) (*view, error) {
	all := c.sessionTable(v, accessPath+"/sessions", c.cfg.Directory.Sessions(""))
	return v.accessPage("sessions", "sessions", v.text("access.title"), all), nil
}

func (c *Console) endSession(v *visit) (*view, error) {
	to := local(v.field("to"))
	if err := c.cfg.Directory.EndSession(v.Context(), v.Path("session")); err != nil {
		return nil, err
	}
	if v.Path("session") == v.session.ID {
		return v.leave(), nil
	}
	return v.done(to, "sessions.ended"), nil
}

// accountData is the page about the visitor's own account.
type accountData struct {
	Facts    []fact
	Roles    []roleRow
	Person   bool // who can have passkeys
	Passkeys []passkeyRow
	Register string // the page that registers one; empty: it cannot be done here
	Sessions table[sessionRow]
	SignOut  *form
}

func (c *Console) account(v *visit) (*view, error) {
	p, err := c.cfg.Directory.Principal(v.session.Principal)
	if err != nil {
		return nil, err
	}
	d := &accountData{
		Facts: []fact{
			{v.text("people.name"), v.session.Name, false},
			{v.text("people.id"), p.ID, true},
			{v.text("sessions.method"), v.text("sessions.method." + string(v.session.Method)), false},
			{v.text("sessions.proved"), v.lang.when(v.session.Proved), false},
			{v.text("sessions.expires"), v.lang.when(v.session.Created.Add(identity.SessionLife)), false},
		},
		Roles:    c.rolesOf(v, p.ID),
		Person:   p.Kind == identity.Person,
		Sessions: c.sessionTable(v, prefix+"/account", v.ownSessions()),
		SignOut:  v.button(prefix+"/account/signout", v.text("sessions.everywhere"), "danger"),
	}
	if d.Person && c.site != nil {
		d.Register = newPasskeyPath
	}
	for _, k := range p.Passkeys {
		d.Passkeys = append(d.Passkeys, passkeyRow{k.Name, k.Created, k.Used, v.button(accountPath+"/passkeys",
			v.text("passkeys.remove"), "plain", "passkey", encodeID(k.ID))})
	}
	if p.Name != v.session.Name {
		d.Facts = append(d.Facts, fact{v.text("account.acts"), p.Name, false})
	}
	return v.page("account", v.text("account.title"), d), nil
}

// signOutEverywhere ends all sessions of the visitor, this one too.
func (c *Console) signOutEverywhere(v *visit) (*view, error) {
	for _, s := range v.ownSessions() {
		err := c.cfg.Directory.EndSession(v.Context(), s.ID)
		if refusal, ok := errors.AsType[*visage.Refusal](err); ok && refusal.Kind == visage.NotFound {
			continue // it has ended meanwhile
		}
		if err != nil {
			return nil, err
		}
	}
	v.c.jobs.signedOut(v.Principal.ObjectID, v.session.Name)
	return v.leave(), nil
}

// ownSessions are the sessions of the visitor. People who act as an application, as members of a group, have its other
// members beside them.
func (v *visit) ownSessions() []identity.Session {
	return slices.DeleteFunc(v.c.cfg.Directory.Sessions(v.session.Principal), func(s identity.Session) bool {
		return s.Name != v.session.Name
	})
}

// leave leads to the page for signing in, without a session and without kept pages.
func (v *visit) leave() *view {
	w := v.redirect(prefix + "/signin")
	w.header = http.Header{
		"Set-Cookie":      {setCookie(sessionCookie, "", 0), v.c.drafts.drop(v.Cookie(draftCookie))},
		"Clear-Site-Data": {`"cache"`},
	}
	return w
}
