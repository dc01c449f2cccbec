package console

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/identity"
)

func (c *Console) applicationRoutes() []route {
	return []route{
		page(applicationsPath, onSubscription(readApplications), c.applications),
		send(applicationsPath, freshly(operator), c.createApplication),
		page(oneApplication, onSubscription(readApplications), c.application),
		send(oneApplication+"/secrets", freshly(operator), c.addSecret),
		send(oneApplication+"/removesecret", operator, c.removeSecret),
		send(oneApplication+"/subjects", freshly(operator), c.changeApplicationsSubjects),
		page(oneApplication+"/delete", freshly(operator), c.deleteApplicationPage),
		send(oneApplication+"/delete", freshly(operator), c.deleteApplication),
		page(accessPath+"/issuers", onSubscription(readApplications), c.issuers),
	}
}

const (
	applicationsPath = accessPath + "/applications"
	oneApplication   = applicationsPath + "/{application}"
)

func applicationPath(id, action string) string {
	path := applicationsPath + "/" + url.PathEscape(id)
	if action != "" {
		path += "/" + action
	}
	return path
}

// applicationRow is an application in a table.
type applicationRow struct {
	identity.Principal
	To      string
	Expires time.Time // when the secret ends that ends last
	Endless bool      // it has a secret that does not end
}

// applicationsData is the page of applications.
type applicationsData struct {
	table[applicationRow]
	Search string
	Create *form // nil: the person may not
}

func (c *Console) applications(v *visit) (*view, error) {
	return v.applicationsPage(c.applicationsData(v)), nil
}

func (v *visit) applicationsPage(data *applicationsData) *view {
	return v.accessPage("applications", "applications", v.text("access.title"), data)
}

// unending is how far off the end of a secret is that ends with its application.
const unending = 10 * 365 * 24 * time.Hour

func isUnending(s identity.Secret) bool { return time.Until(s.Expires) > unending }

// applicationOrders are the columns of the table of applications.
var applicationOrders = []order[applicationRow]{
	{"name", "people.name", byText(func(a applicationRow) string { return a.Name }), false},
	{"client", "applications.client", byText(func(a applicationRow) string { return a.ClientID }), false},
	{"secrets", "secrets.title", byNumber(func(a applicationRow) int { return len(a.Secrets) }), true},
	{"ends", "secrets.last", byTime(func(a applicationRow) time.Time { return a.Expires }), false},
}

func (c *Console) applicationsData(v *visit) *applicationsData {
	d := &applicationsData{Search: v.inAddress("search")}
	var all []applicationRow
	for _, p := range c.byName(d.Search, identity.Application) {
		row := applicationRow{Principal: p, To: applicationPath(p.ID, "")}
		for _, s := range p.Secrets {
			if row.Expires.Before(s.Expires) {
				row.Expires, row.Endless = s.Expires, isUnending(s)
			}
		}
		all = append(all, row)
	}
	d.table = tabled(v, applicationsPath, all, "name", applicationOrders)
	if v.operates() {
		d.Create = v.form(applicationsPath, v.text("applications.create.submit"),
			&field{Name: "name", Kind: "text", Label: v.text("people.name"), Required: true, Max: 120,
				Hint: v.text("applications.name.hint")}, v.lifeField())
	}
	return d
}

// lives are the lives of secrets that forms offer, in days; 0: as long as the application.
var lives = []int{30, 90, 180, 365, 730, 0}

func (v *visit) lifeField() *field {
	f := &field{Name: "days", Kind: "select", Label: v.text("secrets.life"), Required: true, Value: "180",
		Hint: v.text("secrets.life.hint")}
	for _, days := range lives {
		text := v.text("secrets.life.endless")
		if days > 0 {
			text = v.text("time.days", days)
		}
		f.Options = append(f.Options, option{Value: strconv.Itoa(days), Text: text})
	}
	return f
}

// life reads the life of a secret that a form asks for.
func (v *visit) life() (time.Duration, error) {
	days, err := strconv.Atoi(v.field("days"))
	if err != nil || !slices.Contains(lives, days) {
		return 0, visage.Refuse(visage.Invalid, "InvalidSecretLife",
			"Choose how long the secret is valid from the list: from 30 to 730 days, or as long as the application.")
	}
	return time.Duration(days) * 24 * time.Hour, nil
}

// applicationFields says at which field of a form of an application a refusal belongs.
var applicationFields = map[string]string{"InvalidPrincipal": "name", "InvalidSecretLife": "days"}

// createApplication makes an application with a secret, which is in this answer and nowhere else.
func (c *Console) createApplication(v *visit) (*view, error) {
	life, err := v.life()
	var p identity.Principal
	if err == nil {
		p, err = c.cfg.Directory.CreateApplication(v.Context(),
			identity.Creation{Tenant: c.cfg.Tenant, Name: strings.TrimSpace(v.field("name"))})
	}
	if err != nil {
		data := c.applicationsData(v)
		if !v.refused(data.Create, err, applicationFields) {
			return nil, err
		}
		return v.again(v.applicationsPage(data), data.Create.Error), nil
	}
	return c.withSecret(v, p, life)
}

// withSecret gives an application a secret and shows it.
func (c *Console) withSecret(v *visit, p identity.Principal, life time.Duration) (*view, error) {
	made, value, err := c.cfg.Directory.AddSecret(v.Context(), p.ID, life)
	if err != nil {
		return nil, err
	}
	if p, err = c.cfg.Directory.Principal(p.ID); err != nil {
		return nil, err
	}
	d := c.applicationData(v, p)
	d.Secret, d.Expires, d.Endless = value, made.Expires, isUnending(made)
	return shownOnce(v.applicationPage(d)), nil
}

// applicationData is the page of an application.
type applicationData struct {
	Application identity.Principal
	Facts       []fact
	Roles       []roleRow
	Secrets     []secretRow
	Subjects    []subjectRow
	Add         *form // nil: the person may not; likewise the others
	Subject     *form
	Delete      string // the page that asks; empty: they may not
	// Secret is shown in the answer to the form that made it alone. Empty: none was made.
	Secret  string
	Expires time.Time
	Endless bool
}

// secretRow is a secret in a table.
type secretRow struct {
	identity.Secret
	Endless, Over bool
	Remove        *form
}

// applicationOf finds the application that the path names.
func (c *Console) applicationOf(v *visit) (identity.Principal, error) {
	return c.identityOf(v.Path("application"), identity.Application)
}

func (c *Console) application(v *visit) (*view, error) {
	p, err := c.applicationOf(v)
	if err != nil {
		return nil, err
	}
	return v.applicationPage(c.applicationData(v, p)), nil
}

func (v *visit) applicationPage(d *applicationData) *view {
	w := v.accessPage("application", "applications", d.Application.Name, d)
	w.crumbs = []link{{v.text("access.applications"), applicationsPath}}
	return w
}

func (c *Console) applicationData(v *visit, p identity.Principal) *applicationData {
	d := &applicationData{Application: p, Roles: c.rolesOf(v, p.ID), Facts: []fact{
		{v.text("applications.client"), p.ClientID, true},
		{v.text("people.id"), p.ID, true},
		{v.text("applications.tenant"), p.Tenant, true},
		{v.text("people.created.at"), v.lang.when(p.Created), false},
	}}
	d.Subjects = c.subjectRows(v, p, applicationPath(p.ID, "subjects"))
	for _, s := range p.Secrets {
		row := secretRow{Secret: s, Endless: isUnending(s), Over: time.Until(s.Expires) <= 0}
		if v.operates() {
			row.Remove = v.button(applicationPath(p.ID, "removesecret"), v.text("secrets.remove"), "plain", "secret",
				s.ID)
		}
		d.Secrets = append(d.Secrets, row)
	}
	if v.operates() {
		d.Add = v.form(applicationPath(p.ID, "secrets"), v.text("secrets.add"), v.lifeField())
		d.Subject = c.subjectForm(v, applicationPath(p.ID, "subjects"))
		d.Delete = applicationPath(p.ID, "delete")
	}
	return d
}

// applicationAgain shows the page of an application with a form that was refused.
func (c *Console) applicationAgain(
	v *visit, p identity.Principal, refused error, pick func(*applicationData) *form, fields map[string]string,
) (*view, error) {
	data := c.applicationData(v, p)
	f := pick(data)
	if f == nil || !v.refused(f, refused, fields) {
		return nil, refused
	}
	return v.again(v.applicationPage(data), f.Error), nil
}

func (c *Console) addSecret(v *visit) (*view, error) {
	p, err := c.applicationOf(v)
	if err != nil {
		return nil, err
	}
	life, err := v.life()
	if err == nil {
		var w *view
		if w, err = c.withSecret(v, p, life); err == nil {
			return w, nil
		}
	}
	return c.applicationAgain(v, p, err, func(d *applicationData) *form { return d.Add }, applicationFields)
}

func (c *Console) removeSecret(v *visit) (*view, error) {
	p, err := c.applicationOf(v)
	if err != nil {
		return nil, err
	}
	if err := c.cfg.Directory.RemoveSecret(v.Context(), p.ID, v.field("secret")); err != nil {
		return c.applicationAgain(v, p, err, func(d *applicationData) *form { return d.Add }, nil)
	}
	return v.done(applicationPath(p.ID, ""), "secrets.removed"), nil
}

func (c *Console) changeApplicationsSubjects(v *visit) (*view, error) {
	p, err := c.applicationOf(v)
	if err != nil {
		return nil, err
	}
	if err := c.changeSubjects(v, p); err != nil {
		return c.applicationAgain(v, p, err, func(d *applicationData) *form { return d.Subject }, subjectFields)
	}
	return v.done(applicationPath(p.ID, ""), "subjects.saved"), nil
}

func (c *Console) deleteApplicationPage(v *visit) (*view, error) {
	p, err := c.applicationOf(v)
	if err != nil {
		return nil, err
	}
	return c.endApplicationPage(v, p), nil
}

func (c *Console) endApplicationPage(v *visit, p identity.Principal) *view {
	return c.endIdentityPage(v, p, applicationPath(p.ID, ""), link{v.text("access.applications"), applicationsPath})
}

func (c *Console) deleteApplication(v *visit) (*view, error) {
	p, err := c.applicationOf(v)
	if err != nil {
		return nil, err
	}
	if err = c.cfg.Identities.Delete(v.Context(), p.ID); err == nil {
		return v.done(applicationsPath, "people.deleted", p.Name), nil
	}
	return v.endIdentityAgain(c.endApplicationPage(v, p), err)
}

// subjectRow is an identity of an external issuer that stands for an application or person.
type subjectRow struct {
	identity.Subject
	Remove *form // nil: the person may not
}

func (c *Console) subjectRows(v *visit, p identity.Principal, action string) []subjectRow {
	var all []subjectRow
	for i, s := range p.Subjects {
		row := subjectRow{Subject: s}
		if v.operates() {
			row.Remove = v.button(action, v.text("subjects.remove"), "plain", "remove", strconv.Itoa(i), "issuer",
				s.Issuer, "subject", s.Name)
		}
		all = append(all, row)
	}
	return all
}

// subjectForm adds an identity of an external issuer; nil if there is no issuer.
func (c *Console) subjectForm(v *visit, action string) *form {
	if len(c.cfg.Issuers) == 0 {
		return nil
	}
	issuer := &field{Name: "issuer", Kind: "select", Label: v.text("subjects.issuer"), Required: true,
		Value: c.cfg.Issuers[0].URL}
	for _, i := range c.cfg.Issuers {
		issuer.Options = append(issuer.Options, option{Value: i.URL, Text: i.URL})
	}
	f := v.form(action, v.text("subjects.add"), issuer,
		&field{Name: "subject", Kind: "text", Label: v.text("subjects.subject"), Required: true, Max: 255, Code: true,
			Hint: v.text("subjects.subject.hint")},
		&field{Name: "group", Kind: "checkbox", Label: v.text("subjects.group")},
	)
	f.Style = "plain"
	return f
}

// subjectFields says at which field of the form for a subject a refusal belongs.
var subjectFields = map[string]string{"InvalidPrincipal": "subject"}

// changeSubjects adds or removes one subject.
func (c *Console) changeSubjects(v *visit, p identity.Principal) error {
	subjects := slices.Clone(p.Subjects)
	if at := v.field("remove"); at != "" {
		i, err := strconv.Atoi(at)
		if err != nil || i < 0 || i >= len(subjects) || subjects[i].Issuer != v.field("issuer") ||
			subjects[i].Name != v.field("subject") {
			return visage.Refuse(visage.Conflict, "ChangedMeanwhile", "The subjects of %s were changed after you "+
				"opened the page. The page now shows them as they are: check them, and send the form again.", p.Name)
		}
		subjects = slices.Delete(subjects, i, i+1)
	} else {
		added := identity.Subject{
			Issuer: v.field("issuer"), Name: strings.TrimSpace(v.field("subject")), Group: v.checked("group"),
		}
		if !slices.Contains(subjects, added) {
			subjects = append(subjects, added)
		}
	}
	return c.cfg.Directory.SetSubjects(v.Context(), p.ID, subjects)
}

// Issuer is an external issuer of OpenID Connect.
type Issuer struct {
	URL      string // the claim "iss" of its tokens
	Audience string // the claim "aud" of the tokens that applications present instead of a secret; empty: none may
	ClientID string // under which people sign in to the console; empty: they may not
	Secret   string // of this client; empty: it is a public one
	// Client asks the issuer, for people who sign in. It limits times, sizes and redirections.
	Client *http.Client
}

// issuerRow is an issuer in a table.
type issuerRow struct {
	URL, Audience, ClientID string
	Redirect                string // the address to register with the issuer
}

func (c *Console) issuers(v *visit) (*view, error) {
	var data struct{ Issuers []issuerRow }
	for _, i := range c.cfg.Issuers {
		row := issuerRow{URL: i.URL, Audience: i.Audience, ClientID: i.ClientID}
		if i.ClientID != "" {
			row.Redirect = c.cfg.Origin + openIDAnswer + "/" + issuerID(i.URL)
		}
		data.Issuers = append(data.Issuers, row)
	}
	return v.accessPage("issuers", "issuers", v.text("access.title"), data), nil
}

// encodeID writes the id of a passkey for a form; decodeID reads it.
func encodeID(id []byte) string { return base64.RawURLEncoding.EncodeToString(id) }

func decodeID(text string) []byte {
	id, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil // nobody has a passkey without an id
	}
	return id
}
