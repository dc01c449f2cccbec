package console

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/identity"
)

func (c *Console) roleRoutes() []route {
	var all []route
	for _, s := range []struct {
		pattern string
		scope   func(*visit) string
		frame   func(*visit, any) (*view, error)
	}{
		{accessPath + "/roles", (*visit).subscriptionScope, c.subscriptionRoles},
		{accessPath + "/group", (*visit).groupScope, c.groupRoles},
		{oneResource + "/access", (*visit).resourceScope, c.resourceRoles},
		{oneVault + "/access", (*visit).vaultRoleScope, c.vaultRoles},
	} {
		roles := roleScope{s.scope, s.frame}
		all = append(all,
			page(s.pattern, roles.need(readRoles), roles.show),
			texts(send(s.pattern+"/add", roles.need(writeRoles), roles.add)),
			send(s.pattern+"/remove", roles.need(deleteRoles), roles.remove),
		)
	}
	return all
}

// The actions on role assignments, as the management plane names them.
const (
	readRoles   = "Microsoft.Authorization/roleAssignments/read"
	writeRoles  = "Microsoft.Authorization/roleAssignments/write"
	deleteRoles = "Microsoft.Authorization/roleAssignments/delete"
)

// roleScope is the page of the roles on a scope.
type roleScope struct {
	scope func(*visit) string
	frame func(*visit, any) (*view, error) // the page around the roles
}

func (s roleScope) need(action string) need {
	return need{may: func(v *visit) (bool, error) { return v.may(action, s.scope(v)), nil }}
}

func (v *visit) subscriptionScope() string { return v.c.subscription() }

func (v *visit) groupScope() string { return v.c.group() }

func (v *visit) resourceScope() string {
	a, found := v.c.cfg.Accounts.Find(v.Path("account"))
	return v.c.pathOf(a, found, v.Path("account"))
}

func (v *visit) vaultRoleScope() string {
	return v.c.group() + "/providers/Microsoft.KeyVault/vaults/" + v.Path("vault")
}

func (c *Console) subscriptionRoles(v *visit, data any) (*view, error) {
	return v.accessPage("roles", "roles", v.text("access.title"), data), nil
}

func (c *Console) groupRoles(v *visit, data any) (*view, error) {
	return v.accessPage("roles", "group", v.text("access.title"), data), nil
}

func (c *Console) resourceRoles(v *visit, data any) (*view, error) {
	a, err := c.cfg.Accounts.Get(v.Context(), v.Path("account"))
	if err != nil {
		return nil, err
	}
	return v.resourcePage("roles", "access", a, data), nil
}

func (c *Console) vaultRoles(v *visit, data any) (*view, error) {
	vault, err := c.cfg.Vaults.Vault(v.Context(), v.Path("vault"))
	if err != nil {
		return nil, err
	}
	return v.vaultPage("roles", "access", vault, data), nil
}

// roleRow is a role assignment in a table.
type roleRow struct {
	Who, Kind string // of the principal
	ID        string // its object id
	To        string // its page; empty: it has none, or the visitor may not see it
	Role      string
	Text      string // what the role is for
	Scope     string // in words; empty: this very scope
	Since     time.Time
	Remove    *form
}

// rolesData is the page of the roles on a scope.
type rolesData struct {
	table[roleRow]
	Add     *form // nil: the person may not
	Ask     string
	Path    string
	Options []option // of whom can be asked about; empty: by object id alone
	Who     string   // that is asked about; empty: nobody
	Error   string   // what is wrong with Ask
	Has     []roleRow
	Answers []answer
	Locked  *protected // what would be locked without the role that is to be removed; nil: that was not asked
	Confirm *form      // removes it all the same
	Roles   []roleText
}

// answer says whether somebody may do something.
type answer struct {
	Text string
	May  bool
}

// roleText explains a role.
type roleText struct{ Name, Text string }

// roleText explains a role in the visitor's language.
func (v *visit) roleText(r identity.Role) string { return v.text("role." + r.ID) }

func roleByID(id string) (identity.Role, bool) {
	all := identity.Roles()
	i := slices.IndexFunc(all, func(r identity.Role) bool { return r.ID == id })
	if i < 0 {
		return identity.Role{}, false
	}
	return all[i], true
}

func (s roleScope) show(v *visit) (*view, error) { return s.frame(v, s.data(v)) }

// covers reports whether a scope is another, or lies above it. Both are in lower case.
func covers(outer, inner string) bool { return inner == outer || strings.HasPrefix(inner, outer+"/") }

// roleOrders are the columns of the table of roles.
var roleOrders = []order[roleRow]{
	{"who", "roles.who", byText(func(r roleRow) string { return r.Who }), false},
	{"role", "roles.role", byText(func(r roleRow) string { return r.Role }), false},
	{"scope", "roles.from", byText(func(r roleRow) string { return r.Scope }), false},
	{"since", "roles.since", byTime(func(r roleRow) time.Time { return r.Since }), false},
}

func (s roleScope) data(v *visit) *rolesData {
	scope := s.scope(v)
	path, _, _ := strings.Cut(v.URL(), "?")
	if v.typed != nil {
		path = path[:strings.LastIndex(path, "/")]
	}
	d := &rolesData{Path: path}
	var all []roleRow
	for _, a := range v.c.cfg.Directory.Assignments(scope) {
		if covers(a.Scope, strings.ToLower(scope)) {
			all = append(all, v.assigned(a, scope, path))
		}
	}
	slices.SortStableFunc(all, func(a, b roleRow) int {
		return cmp.Or(strings.Compare(strings.ToLower(a.Who), strings.ToLower(b.Who)), strings.Compare(a.Role, b.Role))
	})
	d.table = tabled(v, path, all, "who", roleOrders)
	if v.may(readApplications, v.c.subscription()) {
		d.Options = v.principals()
	}
	if v.may(writeRoles, scope) {
		d.Add = s.addForm(v, path, d.Options)
	}
	for _, r := range identity.Roles() {
		d.Roles = append(d.Roles, roleText{r.Name, v.roleText(r)})
	}
	if v.typed == nil {
		s.ask(v, d)
	}
	return d
}

// assigned describes a role assignment on a page about a scope.
func (v *visit) assigned(a identity.Assignment, scope, path string) roleRow {
	row := roleRow{ID: a.Principal, Who: a.Principal, Role: a.Role, Since: time.Unix(0, a.Created)}
	if v.mayName(a.Principal) {
		if p, err := v.c.cfg.Directory.Principal(a.Principal); err == nil {
			row.Who, row.Kind = p.Name, v.text("kind."+strings.ToLower(string(p.Kind)))
			switch p.Kind {
			case identity.Person:
				row.To = personPath(p.ID, "")
			case identity.Application:
				row.To = applicationPath(p.ID, "")
			}
		}
		if !v.may(readPeople, v.c.subscription()) {
			row.To = ""
		}
	}
	if r, found := roleByID(a.Role); found {
		row.Role, row.Text = r.Name, v.roleText(r)
	}
	if a.Scope != strings.ToLower(scope) {
		row.Scope = v.scopeName(a.Scope)
		return row
	}
	if v.may(deleteRoles, scope) && (a.Role != identity.VisageOperator || v.operates()) {
		row.Remove = v.button(path+"/remove", v.text("roles.remove"), "plain", "assignment", a.ID)
	}
	return row
}

// mayName reports whether the visitor may learn the name of a principal: their own, or everybody's.
func (v *visit) mayName(principal string) bool {
	return principal == v.session.Principal || v.may(readApplications, v.c.subscription())
}

// scopeName says in words what a scope in lower case is.
func (v *visit) scopeName(scope string) string {
	segments := strings.Split(scope, "/")
	name := segments[len(segments)-1]
	switch {
	case len(segments) == 3:
		return v.text("roles.scope.subscription")
	case len(segments) == 5:
		return v.text("roles.scope.group", name)
	case strings.Contains(scope, "/microsoft.keyvault/vaults/"):
		return v.text("roles.scope.vault", name)
	}
	return v.text("roles.scope.resource", name)
}

// rolesOf lists all roles of a principal that the visitor may see.
func (c *Console) rolesOf(v *visit, principal string) []roleRow {
	var all []roleRow
	for _, a := range c.cfg.Directory.Assignments("") {
		if a.Principal != principal || principal != v.session.Principal && !v.may(readRoles, a.Scope) {
			continue
		}
		row := v.assigned(a, "", "")
		all = append(all, row)
	}
	slices.SortFunc(all, func(a, b roleRow) int {
		return cmp.Or(strings.Compare(a.Role, b.Role), strings.Compare(a.Scope, b.Scope))
	})
	return all
}

// maxPrincipals is how many identities a field lets people choose from; where there are more, they are typed.
const maxPrincipals = 200

// principals are the identities that can have roles; none if there are too many to choose from.
func (v *visit) principals() []option {
	all := v.c.byName("", identity.Person, identity.Application, identity.SystemAssigned, identity.UserAssigned)
	if len(all) > maxPrincipals {
		return nil
	}
	var options []option
	for _, p := range all {
		options = append(options, option{Value: p.ID, Text: p.Name,
			Hint: v.text("kind." + strings.ToLower(string(p.Kind)))})
	}
	return options
}

// findPrincipal finds an identity by its id or, for those who may read the directory, by its name or address.
func (v *visit) findPrincipal(text string) (identity.Principal, error) {
	text = strings.TrimSpace(text)
	d := v.c.cfg.Directory
	if p, err := d.Principal(text); err == nil {
		return p, nil
	}
	var found []identity.Principal
	if v.may(readApplications, v.c.subscription()) && text != "" {
		for _, p := range d.Principals() {
			named := func(name string) bool { return strings.EqualFold(name, text) }
			if named(p.Name) || named(p.Email) || named(p.ClientID) {
				found = append(found, p)
			}
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return identity.Principal{}, visage.Refuse(visage.NotFound, "PrincipalNotFound",
			"There is no identity %q: check its object id.", cut(text, 80))
	}
	return identity.Principal{}, visage.Refuse(visage.Invalid, "PrincipalAmbiguous",
		"There are %d identities called %q: use the object id of the one that you mean.", len(found), cut(text, 80))
}

func (s roleScope) addForm(v *visit, path string, options []option) *form {
	role := &field{Name: "role", Kind: "radio", Label: v.text("roles.role"), Required: true}
	for _, r := range identity.Roles() {
		if r.ID == identity.VisageOperator && (!v.operates() || s.scope(v) != v.c.subscription()) {
			continue
		}
		role.Options = append(role.Options, option{Value: r.ID, Text: r.Name, Hint: v.roleText(r)})
	}
	return v.form(path+"/add", v.text("roles.add"), v.principalField(options), role)
}

// principalField names an identity.
func (v *visit) principalField(options []option) *field {
	f := &field{Name: "principal", Kind: "select", Label: v.text("roles.who"), Required: true, Options: options}
	if len(options) == 0 {
		f.Kind, f.Max, f.Hint = "text", 254, v.text("roles.who.hint")
	}
	return f
}

func (s roleScope) add(v *visit) (*view, error) {
	if err := v.needFresh(); err != nil {
		return nil, err // a browser that was left open must not be enough to give somebody access
	}
	p, err := v.findPrincipal(v.field("principal"))
	if err == nil {
		_, err = v.c.cfg.Directory.Assign(v.Context(), "", p.ID, v.field("role"), s.scope(v))
	}
	data := s.data(v)
	if err == nil {
		name := p.ID
		if v.mayName(p.ID) {
			name = cmp.Or(p.Name, p.ID)
		}
		return v.done(data.Path, "roles.added", name), nil
	}
	if data.Add == nil || !v.refused(data.Add, err, map[string]string{
		"PrincipalNotFound": "principal", "PrincipalAmbiguous": "principal", "RoleDefinitionDoesNotExist": "role",
		"RoleAssignmentExists": "role",
	}) {
		return nil, err
	}
	w, failed := s.frame(v, data)
	if failed != nil {
		return nil, failed
	}
	return v.again(w, data.Add.Error), nil
}

// remove takes back an assignment on this very scope.
func (s roleScope) remove(v *visit) (*view, error) {
	scope, id := s.scope(v), v.field("assignment")
	var err error = visage.Refuse(visage.NotFound, "RoleAssignmentNotFound", "There is no role assignment %q.",
		cut(id, 80))
	var locked *protected
	for _, a := range v.c.cfg.Directory.Assignments(scope) {
		if a.ID != id || a.Scope != strings.ToLower(scope) {
			continue
		}
		if locked, err = v.needRole(a); err != nil {
			return nil, err
		}
		if err = v.confirmLock(locked); err == nil {
			err = v.c.cfg.Directory.Unassign(v.Context(), a.ID)
		}
	}
	if errors.Is(err, errStale) {
		return nil, err
	}
	data := s.data(v)
	if locked != nil {
		data.Locked = locked
		data.Confirm = v.button(data.Path+"/remove", v.text("roles.remove.locking"), "danger", "assignment", id,
			"confirmed", "on")
		data.Confirm.Cancel = data.Path
	}
	if err == nil {
		return v.done(data.Path, "roles.removed"), nil
	}
	said, refused := v.explain(err)
	w, failed := s.frame(v, data)
	if failed != nil || !refused {
		return nil, cmp.Or(failed, err)
	}
	w.notices = []notice{{"bad", said.Sentence}}
	return v.again(w, said), nil
}

// needRole returns the resources whose identity needs an assignment to use their keys: none of its other roles allows
// that. Nil: none.
func (v *visit) needRole(a identity.Assignment) (*protected, error) {
	d := v.c.cfg.Directory
	if p, err := d.Principal(a.Principal); err != nil || p.Resource == "" {
		return nil, nil // it is not the identity of a resource
	}
	vaults, err := v.c.cfg.Vaults.Vaults(v.Context())
	if err != nil {
		return nil, err
	}
	var of []visage.KeyRef
	who := visage.Principal{ObjectID: a.Principal}
	for _, vault := range vaults {
		scope := v.c.vaultScope(vault.Name)
		needed := func(action string) bool {
			return d.MayData(who, action, scope) && !d.MayDataWithout(a.ID, who, action, scope)
		}
		if vault.RBAC && covers(a.Scope, strings.ToLower(scope)) && slices.ContainsFunc(keysForResources, needed) {
			of = append(of, visage.KeyRef{Vault: v.keyStore(vault.Name)})
		}
	}
	return v.protectedFor(a.Principal, of...)
}

// keysForResources are what the identity of a resource does with its key.
var keysForResources = []string{"Microsoft.KeyVault/vaults/keys/read", "Microsoft.KeyVault/vaults/keys/wrap/action",
	"Microsoft.KeyVault/vaults/keys/unwrap/action"}

// question is something that one may be allowed to do.
type question struct {
	key, action string
	data        bool
}

// The questions about resources and about vaults.
var (
	accountQuestions = []question{
		{"roles.may.read", readAccount, false},
		{"roles.may.write", writeAccount, false},
		{"roles.may.delete", "Microsoft.CognitiveServices/accounts/delete", false},
		{"roles.may.keys", "Microsoft.CognitiveServices/accounts/listkeys/action", false},
		{"roles.may.regenerate", "Microsoft.CognitiveServices/accounts/regenerateKey/action", false},
		{"roles.may.faces", "Microsoft.CognitiveServices/accounts/Face/action", true},
		{"roles.may.retention", "Microsoft.CognitiveServices/accounts/retention/write", false},
		{"roles.may.assign", writeRoles, false},
	}
	vaultQuestions = []question{
		{"roles.may.vault.read", "Microsoft.KeyVault/vaults/read", false},
		{"roles.may.vault.write", "Microsoft.KeyVault/vaults/write", false},
		{"roles.may.vault.delete", "Microsoft.KeyVault/vaults/delete", false},
		{"roles.may.vault.keys", "Microsoft.KeyVault/vaults/keys/read", true},
		{"roles.may.vault.create", "Microsoft.KeyVault/vaults/keys/create/action", true},
		{"roles.may.vault.wrap", "Microsoft.KeyVault/vaults/keys/wrap/action", true},
		{"roles.may.assign", writeRoles, false},
	}
)

// ask answers what somebody may do on the scope.
func (s roleScope) ask(v *visit, d *rolesData) {
	d.Ask = v.field("who")
	if d.Ask == "" {
		return
	}
	p, err := v.findPrincipal(d.Ask)
	if err != nil {
		if said, refused := v.explain(err); refused {
			d.Error = said.Sentence
		}
		return
	}
	d.Ask, d.Who = p.ID, p.ID
	if v.mayName(p.ID) {
		d.Who = p.Name
	}
	scope := s.scope(v)
	for _, a := range v.c.cfg.Directory.Assignments(scope) {
		if a.Principal == p.ID && covers(a.Scope, strings.ToLower(scope)) {
			d.Has = append(d.Has, v.assigned(a, scope, d.Path))
		}
	}
	questions := accountQuestions
	switch {
	case strings.Contains(scope, "/Microsoft.KeyVault/vaults/"):
		questions = vaultQuestions
	case scope == v.c.subscription(), scope == v.c.group():
		questions = append(slices.Clone(accountQuestions), vaultQuestions[:len(vaultQuestions)-1]...)
	}
	who := visage.Principal{ObjectID: p.ID}
	for _, q := range questions {
		allowed := v.c.cfg.Directory.May
		if q.data {
			allowed = v.c.cfg.Directory.MayData
		}
		d.Answers = append(d.Answers, answer{v.text(q.key), allowed(who, q.action, scope)})
	}
}
