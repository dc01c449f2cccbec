package console

import (
	"cmp"
	"context"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/identity"
)

// Identities ends identities and signs people in, with the rules that the management plane has for it. The context of
// each call carries the caller, for the audit log.
type Identities interface {
	// Delete removes an application or a person. Refusals: PrincipalNotFound, PrincipalInUse, LastOwner,
	// AuthorizationFailed.
	Delete(ctx context.Context, id string) error
	// SignInAddress returns an address of the console at which somebody signs in once as a person, and when it ends.
	// Refusals: PrincipalNotFound, InvalidCode, TooManyCodes, AuthorizationFailed.
	SignInAddress(ctx context.Context, id string, use identity.CodeUse) (address string, expires time.Time, err error)
}

func (c *Console) peopleRoutes() []route {
	return []route{
		page(accessPath, onSubscription(readPeople), c.people),
		texts(send(accessPath+"/people", operator, c.createPerson)),
		page(onePerson, onSubscription(readPeople), c.person),
		send(onePerson+"/change", operator, c.changePerson),
		send(onePerson+"/invite", freshly(operator), c.invitePerson),
		send(onePerson+"/passkeys", operator, c.removePersonsPasskey),
		send(onePerson+"/signout", operator, c.signOutPerson),
		send(onePerson+"/subjects", freshly(operator), c.changePersonsSubjects),
		page(onePerson+"/delete", freshly(operator), c.deletePersonPage),
		send(onePerson+"/delete", freshly(operator), c.deletePerson),
	}
}

const (
	accessPath = prefix + "/access"
	onePerson  = accessPath + "/people/{person}"
)

// The actions on identities, as the management plane names them. To change any, one has to be an operator.
const (
	readPeople       = "Visage.Identity/people/read"
	readApplications = "Visage.Identity/servicePrincipals/read"
)

func personPath(id, action string) string {
	path := accessPath + "/people/" + url.PathEscape(id)
	if action != "" {
		path += "/" + action
	}
	return path
}

// accessPage shows one of the pages about people with access, beside the others that the person may see. name is the
// last segment of its path; empty: the people.
func (v *visit) accessPage(template, name, title string, data any) *view {
	w := v.page(template, title, data)
	for _, t := range []struct {
		name, key string
		need      need
	}{
		{"", "access.people", onSubscription(readPeople)},
		{"applications", "access.applications", onSubscription(readApplications)},
		{"roles", "roles.subscription", onSubscription(readRoles)},
		{"group", "roles.group", roleScope{scope: (*visit).groupScope}.need(readRoles)},
		{"sessions", "access.sessions", operator},
		{"issuers", "access.issuers", onSubscription(readApplications)},
	} {
		if allowed, err := t.need.may(v); err != nil || !allowed {
			continue
		}
		to := accessPath
		if t.name != "" {
			to += "/" + t.name
		}
		w.tabs = append(w.tabs, tab{v.text(t.key), to, t.name == name})
	}
	return w
}

// personRow is a person in a table.
type personRow struct {
	identity.Principal
	To       string
	Sessions int
}

// peopleData is the page of people.
type peopleData struct {
	table[personRow]
	Search string
	Create *form // nil: the person may not
}

func (c *Console) people(v *visit) (*view, error) {
	return v.peoplePage(c.peopleData(v)), nil
}

func (v *visit) peoplePage(data *peopleData) *view {
	return v.accessPage("people", "", v.text("access.title"), data)
}

// byName returns the identities of some kinds whose name, address or id contains a text, sorted by name.
func (c *Console) byName(search string, kinds ...identity.Kind) []identity.Principal {
	search = strings.ToLower(strings.TrimSpace(search))
	all := c.cfg.Directory.Principals()
	all = slices.DeleteFunc(all, func(p identity.Principal) bool {
		return !slices.Contains(kinds, p.Kind) || !strings.Contains(strings.ToLower(p.Name), search) &&
			!strings.Contains(strings.ToLower(p.Email), search) && !strings.HasPrefix(p.ID, search) &&
			!strings.HasPrefix(p.ClientID, search)
	})
	sortBy(all, byText(func(p identity.Principal) string { return p.Name }), false)
	return all
}

// personOrders are the columns of the table of people.
var personOrders = []order[personRow]{
	{"name", "people.name", byText(func(p personRow) string { return p.Name }), false},
	{"email", "people.email", byText(func(p personRow) string { return p.Email }), false},
	{"passkeys", "passkeys.title", byNumber(func(p personRow) int { return len(p.Passkeys) }), true},
	{"sessions", "sessions.open", byNumber(func(p personRow) int { return p.Sessions }), true},
	{"created", "people.created.at", byTime(func(p personRow) time.Time { return p.Created }), false},
}

func (c *Console) peopleData(v *visit) *peopleData {
	d := &peopleData{Search: v.inAddress("search")}
	open := map[string]int{}
	for _, s := range c.cfg.Directory.Sessions("") {
		open[s.Principal]++
	}
	var all []personRow
	for _, p := range c.byName(d.Search, identity.Person) {
		all = append(all, personRow{p, personPath(p.ID, ""), open[p.ID]})
	}
	d.table = tabled(v, accessPath, all, "name", personOrders)
	if v.operates() {
		d.Create = v.personForm(accessPath+"/people", v.text("people.create.submit"), identity.PersonChange{})
	}
	return d
}

func (v *visit) personForm(action, submit string, now identity.PersonChange) *form {
	return v.form(action, submit,
		&field{Name: "name", Kind: "text", Label: v.text("people.name"), Required: true, Max: 128, Value: now.Name},
		&field{Name: "email", Kind: "email", Label: v.text("people.email"), Max: 254, Value: now.Email,
			Hint: v.text("people.email.hint")},
		&field{Name: "language", Kind: "select", Label: v.text("people.language"), Required: true, Value: now.Language,
			Options: []option{{Value: "", Text: v.text("people.language.browser")}, {Value: "en", Text: "English"},
				{Value: "fr", Text: "Français"}}},
	)
}

// personFields says at which field of a person's form a refusal belongs.
func (v *visit) personFields() map[string]string {
	wrong := "name"
	if v.field("name") != "" && v.field("email") != "" {
		wrong = "" // either; the sentence says it
	}
	return map[string]string{"InvalidPrincipal": wrong, "EmailTaken": "email"}
}

func (c *Console) createPerson(v *visit) (*view, error) {
	p, err := c.cfg.Directory.CreatePerson(v.Context(), identity.PersonCreation{
		Tenant: c.cfg.Tenant, Name: v.field("name"), Email: v.field("email"), Language: v.field("language"),
	})
	if err == nil {
		return v.done(personPath(p.ID, ""), "people.created", p.Name), nil
	}
	data := c.peopleData(v)
	if !v.refused(data.Create, err, v.personFields()) {
		return nil, err
	}
	return v.again(v.peoplePage(data), data.Create.Error), nil
}

// personData is the page of a person.
type personData struct {
	Person   identity.Principal
	Facts    []fact
	Roles    []roleRow
	Passkeys []passkeyRow
	Sessions table[sessionRow]
	Subjects []subjectRow
	Change   *form // nil: the person who looks may not; likewise the others
	Invite   []*form
	Subject  *form
	SignOut  *form
	Delete   string // the page that asks; empty: they may not
	// Address signs in once; it is shown in the answer to its form alone. Empty: none was made.
	Address string
	Expires time.Time
}

// passkeyRow is a passkey in a table.
type passkeyRow struct {
	Name          string
	Created, Used time.Time
	Remove        *form
}

// personOf finds the person that the path names.
func (c *Console) personOf(v *visit) (identity.Principal, error) {
	return c.identityOf(v.Path("person"), identity.Person)
}

// identityOf finds an identity of a kind by its object id.
func (c *Console) identityOf(id string, kind identity.Kind) (identity.Principal, error) {
	p, err := c.cfg.Directory.Principal(id)
	if err == nil && p.Kind != kind {
		err = visage.Refuse(visage.NotFound, "PrincipalNotFound", "There is no %s %q.", strings.ToLower(string(kind)),
			cut(id, 80))
	}
	return p, err
}

func (c *Console) person(v *visit) (*view, error) {
	p, err := c.personOf(v)
	if err != nil {
		return nil, err
	}
	return v.personPage(c.personData(v, p)), nil
}

func (v *visit) personPage(d *personData) *view {
	w := v.accessPage("person", "", d.Person.Name, d)
	w.crumbs = []link{{v.text("access.people"), accessPath}}
	return w
}

func (c *Console) personData(v *visit, p identity.Principal) *personData {
	d := &personData{Person: p, Facts: []fact{
		{v.text("people.id"), p.ID, true},
		{v.text("people.email"), cmp.Or(p.Email, "–"), false},
		{v.text("people.language"), v.languageName(p.Language), false},
		{v.text("people.created.at"), v.lang.when(p.Created), false},
	}}
	d.Roles = c.rolesOf(v, p.ID)
	d.Subjects = c.subjectRows(v, p, personPath(p.ID, "subjects"))
	for _, k := range p.Passkeys {
		row := passkeyRow{k.Name, k.Created, k.Used, nil}
		if v.operates() {
			row.Remove = v.button(personPath(p.ID, "passkeys"), v.text("passkeys.remove"), "plain", "passkey",
				encodeID(k.ID))
		}
		d.Passkeys = append(d.Passkeys, row)
	}
	if !v.operates() {
		return d
	}
	d.Sessions = c.sessionTable(v, personPath(p.ID, ""), c.cfg.Directory.Sessions(p.ID))
	d.Change = v.personForm(personPath(p.ID, "change"), v.text("people.save"),
		identity.PersonChange{Name: p.Name, Email: p.Email, Language: p.Language})
	d.Change.Style = "plain"
	d.Invite = []*form{
		v.button(personPath(p.ID, "invite"), v.text("people.invite"), "primary", "use", string(identity.Invite)),
		v.button(personPath(p.ID, "invite"), v.text("people.address"), "plain", "use", string(identity.SignIn)),
	}
	d.Subject = c.subjectForm(v, personPath(p.ID, "subjects"))
	if len(d.Sessions.Rows) > 0 {
		d.SignOut = v.button(personPath(p.ID, "signout"), v.text("sessions.end.all"), "danger")
	}
	if p.ID != v.session.Principal {
		d.Delete = personPath(p.ID, "delete")
	}
	return d
}

func (v *visit) languageName(code string) string {
	for _, l := range v.c.languages {
		if l.code == code {
			return l.name
		}
	}
	return v.text("people.language.browser")
}

// personAgain shows the page of a person with a form that was refused.
func (c *Console) personAgain(
	v *visit, refused error, pick func(*personData) *form, fields map[string]string,
) (*view, error) {
	p, err := c.personOf(v)
	if err != nil {
		return nil, err
	}
	data := c.personData(v, p)
	f := pick(data)
	if f == nil || !v.refused(f, refused, fields) {
		return nil, refused
	}
	return v.again(v.personPage(data), f.Error), nil
}

func (c *Console) changePerson(v *visit) (*view, error) {
	p, err := c.cfg.Directory.UpdatePerson(v.Context(), v.Path("person"), func(now *identity.PersonChange) error {
		now.Name, now.Email, now.Language = v.field("name"), v.field("email"), v.field("language")
		return nil
	})
	if err == nil {
		return v.done(personPath(p.ID, ""), "people.saved"), nil
	}
	return c.personAgain(v, err, func(d *personData) *form { return d.Change }, v.personFields())
}

// invitePerson makes an address that signs the person in once. It is in this answer and nowhere else.
func (c *Console) invitePerson(v *visit) (*view, error) {
	p, err := c.personOf(v)
	if err != nil {
		return nil, err
	}
	use := identity.Invite
	if v.field("use") == string(identity.SignIn) {
		use = identity.SignIn
	}
	address, expires, err := c.cfg.Identities.SignInAddress(v.Context(), p.ID, use)
	if err != nil {
		return nil, err
	}
	d := c.personData(v, p)
	d.Address, d.Expires = address, expires
	return shownOnce(v.personPage(d)), nil
}

// shownOnce marks a page that shows something once.
func shownOnce(w *view) *view {
	w.once = true
	return w
}

func (c *Console) removePersonsPasskey(v *visit) (*view, error) {
	p, err := c.personOf(v)
	if err == nil {
		err = c.cfg.Directory.RemovePasskey(v.Context(), p.ID, decodeID(v.field("passkey")))
	}
	if err != nil {
		return nil, err
	}
	return v.done(personPath(p.ID, ""), "passkeys.removed"), nil
}

func (c *Console) signOutPerson(v *visit) (*view, error) {
	p, err := c.personOf(v)
	if err == nil {
		err = c.cfg.Directory.EndSessions(v.Context(), p.ID)
	}
	if err != nil {
		return nil, err
	}
	c.jobs.signedOut(p.ID, "")
	return v.done(personPath(p.ID, ""), "sessions.ended.all"), nil
}

func (c *Console) changePersonsSubjects(v *visit) (*view, error) {
	p, err := c.personOf(v)
	if err != nil {
		return nil, err
	}
	if err := c.changeSubjects(v, p); err != nil {
		return c.personAgain(v, err, func(d *personData) *form { return d.Subject }, subjectFields)
	}
	return v.done(personPath(p.ID, ""), "subjects.saved"), nil
}

// endIdentityData asks for a confirmation before an identity is deleted.
type endIdentityData struct {
	Person bool
	Roles  []roleRow
	Form   *form
}

func (c *Console) deletePersonPage(v *visit) (*view, error) {
	p, err := c.personOf(v)
	if err != nil {
		return nil, err
	}
	return c.endIdentityPage(v, p, personPath(p.ID, ""), link{v.text("access.people"), accessPath}), nil
}

func (c *Console) endIdentityPage(v *visit, p identity.Principal, back string, above link) *view {
	f := v.form(back+"/delete", v.text("people.delete.submit"))
	f.Style, f.Icon, f.Cancel = "danger", "trash", back
	w := v.page("enduser", v.text("people.delete.title", p.Name),
		&endIdentityData{p.Kind == identity.Person, c.rolesOf(v, p.ID), f})
	w.crumbs = []link{above, {p.Name, back}}
	return w
}

func (c *Console) deletePerson(v *visit) (*view, error) {
	p, err := c.personOf(v)
	if err != nil {
		return nil, err
	}
	if err = c.cfg.Identities.Delete(v.Context(), p.ID); err == nil {
		return v.done(accessPath, "people.deleted", p.Name), nil
	}
	w := c.endIdentityPage(v, p, personPath(p.ID, ""), link{v.text("access.people"), accessPath})
	return v.endIdentityAgain(w, err)
}

func (v *visit) endIdentityAgain(w *view, err error) (*view, error) {
	f := w.data.(*endIdentityData).Form
	if !v.refused(f, err, nil) {
		return nil, err
	}
	return v.again(w, f.Error), nil
}
