package console

import (
	"errors"
	"net/url"
	"slices"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/face"
)

// The patterns of the pages about enrolled people.
const (
	everyCollection = oneResource + "/people"
	oneCollection   = everyCollection + "/{kind}/{collection}"
	oneEnrolled     = oneCollection + "/persons/{person}"
	oneListed       = oneCollection + "/faces/{face}"
)

func (c *Console) faceRoutes() []route {
	return []route{
		page(everyCollection, onFaces(), c.onData(c.collections)),
		page(everyCollection+"/new", onFaces(), c.onData(c.newCollection)),
		texts(send(everyCollection+"/new", onFaces(), c.onData(c.createCollection))),
		page(oneCollection, onFaces(), c.onData(c.collection)),
		page(oneCollection+"/edit", onFaces(), c.onData(c.editCollection)),
		texts(send(oneCollection+"/edit", onFaces(), c.onData(c.changeCollection))),
		send(oneCollection+"/train", onFaces(), c.onData(c.train)),
		page(oneCollection+"/photos", onFaces(), c.onData(c.photos)),
		sendFiles(oneCollection+"/photos", onFaces(), c.onData(c.addPhotos)),
		page(oneCollection+"/erase", freshly(onFaces()), c.onData(c.askToErase)),
		send(oneCollection+"/erase", freshly(onFaces()), c.onData(c.erase)),
		page(oneListed+"/erase", freshly(onFaces()), c.onData(c.askToErase)),
		send(oneListed+"/erase", freshly(onFaces()), c.onData(c.erase)),
		page(oneCollection+"/persons", onFaces(), c.onData(c.newEnrolled)),
		texts(send(oneCollection+"/persons", onFaces(), c.onData(c.createEnrolled))),
		page(oneEnrolled, onFaces(), c.onData(c.enrolled)),
		page(oneEnrolled+"/edit", onFaces(), c.onData(c.editEnrolled)),
		send(oneEnrolled+"/edit", onFaces(), c.onData(c.changeEnrolled)),
		page(oneEnrolled+"/photos", onFaces(), c.onData(c.photos)),
		sendFiles(oneEnrolled+"/photos", onFaces(), c.onData(c.addPhotos)),
		page(oneEnrolled+"/erase", freshly(onFaces()), c.onData(c.askToErase)),
		send(oneEnrolled+"/erase", freshly(onFaces()), c.onData(c.erase)),
		page(oneEnrolled+"/faces/{face}/erase", freshly(onFaces()), c.onData(c.askToErase)),
		send(oneEnrolled+"/faces/{face}/erase", freshly(onFaces()), c.onData(c.erase)),

		page(oneResource+"/keeping", onAccount("retention/read"), c.onData(c.keeping)),
		texts(send(oneResource+"/keeping/retention", onAccount("retention/write"), c.onData(c.setRetention))),
		send(oneResource+"/keeping/hold", onAccount("placeHold/action"), c.onData(c.placeHold)),
		send(oneResource+"/keeping/release", freshly(onAccount("releaseHold/action")), c.onData(c.releaseHold)),
		page(oneResource+"/receipts/{entry}", onAccount("auditEvents/proof/read"), c.receipt),
		page(oneResource+"/receipts/{entry}/file", onAccount("auditEvents/proof/read"), c.receiptFile),
	}
}

// sendFiles is a route for a form with files.
func sendFiles(pattern string, need need, handle handle) route {
	r := send(pattern, need, handle)
	r.body, r.time = uploadBytes, uploadTime
	return r
}

// uploadBytes is how long a form with files may be: ten photos of the largest size, or more that are smaller.
const uploadBytes = 64 << 20

// onData makes the handler of a page that shows or changes the data of a resource. While the data is closed, the page
// says why, and nothing of it is shown.
func (c *Console) onData(do func(*visit, account.Account) (*view, error)) handle {
	return func(v *visit) (*view, error) {
		a, err := c.cfg.Accounts.Get(v.Context(), v.Path("account"))
		if err != nil {
			return nil, err
		}
		w, err := do(v, a)
		if closed(err) {
			return c.closedData(v, a, err)
		}
		return w, err
	}
}

// closedData shows why the data of a resource cannot be used.
func (c *Console) closedData(v *visit, a account.Account, refused error) (*view, error) {
	said, ok := v.explain(refused)
	if !ok {
		return nil, refused
	}
	e, err := c.cfg.Accounts.Encryption(v.Context(), a)
	if err != nil {
		return nil, err
	}
	data := struct {
		Problem    *explanation
		Key        badge
		Reason     string
		Encryption string
	}{said, v.keyBadge(e.Status), e.Status.Reason, ""}
	if v.may(readAccount, c.cfg.AccountPath(a)) {
		data.Encryption = resourcePath(a.Name, "encryption")
	}
	tab := "people"
	if strings.Contains(v.Route().Pattern, "/tryit") {
		tab = "tryit"
	}
	w := v.resourcePage("facesclosed", tab, a, data)
	w.status = said.Status
	return w, nil
}

// collectionKind is a kind of group or list, as pages name it.
type collectionKind struct {
	kind  face.Kind
	name  string // in paths, as the Face API has it, and in the keys of messages
	group bool
}

var collectionKinds = []collectionKind{
	{face.PersonGroup, "persongroups", true}, {face.LargePersonGroup, "largepersongroups", true},
	{face.FaceList, "facelists", false}, {face.LargeFaceList, "largefacelists", false},
}

// kindNamed returns the kind of a name.
func kindNamed(name string) (collectionKind, bool) {
	for _, k := range collectionKinds {
		if k.name == name {
			return k, true
		}
	}
	return collectionKind{}, false
}

// collectionKindOf returns what pages know of a kind.
func collectionKindOf(kind face.Kind) collectionKind {
	for _, k := range collectionKinds {
		if k.kind == kind {
			return k
		}
	}
	return collectionKind{}
}

// one returns the message for one group or list of the kind.
func (k collectionKind) one(v *visit) string { return v.text("faces.one." + k.name) }

// facesPath is the path of a page about enrolled people.
func facesPath(account string, segments ...string) string {
	path := resourcePath(account, "people")
	for _, s := range segments {
		path += "/" + url.PathEscape(s)
	}
	return path
}

// collectionPath is the path of a group or list.
func collectionPath(account string, ref face.Ref, segments ...string) string {
	return facesPath(account, append([]string{collectionKindOf(ref.Kind).name, ref.ID}, segments...)...)
}

// isolated returns a text of any direction so that it does not turn what stands around it.
func isolated(text string) string { return "\u2068" + text + "\u2069" }

// shownName returns a name for people: its id if nothing of it is visible.
func shownName(name, id string) string {
	if strings.TrimSpace(name) == "" {
		return id
	}
	return name
}

// facesPage shows a page about enrolled people below others.
func (v *visit) facesPage(template string, a account.Account, data any, title string, above ...link) *view {
	w := v.resourcePage(template, "people", a, data)
	if title != "" {
		w.title = title
		w.crumbs = append(w.crumbs, link{v.text("resource.tab.people"), resourcePath(a.Name, "people")})
	}
	w.crumbs = append(w.crumbs, above...)
	return w
}

// collectionsData is the page with the groups or lists of one kind.
type collectionsData struct {
	Kinds []kindTab
	Group bool // the kind is one of groups
	table[collectionRow]
	Create  string // addresses of pages
	Keeping string // empty: the person may not see it
	Tries   string
	Most    int // collections of the kind
}

// kindTab is a kind of group or list, with how many there are.
type kindTab struct {
	tab
	Count int
}

// collectionRow is a group or list in a table.
type collectionRow struct {
	ID, Name, To   string
	Persons, Faces int
	Model          string
	Training       badge
}

// collections lists the groups and lists of a resource, one kind at a time.
func (c *Console) collections(v *visit, a account.Account) (*view, error) {
	usage, err := c.cfg.Faces.Usage(v.Context(), a.Resource)
	if err != nil {
		return nil, err
	}
	counts := map[face.Kind]face.Usage{}
	for _, u := range usage {
		counts[u.Kind] = u
	}
	k, known := kindNamed(v.field("kind"))
	if !known {
		k = collectionKinds[0]
		for _, other := range collectionKinds { // the first that has any
			if counts[other.kind].Collections > 0 {
				k = other
				break
			}
		}
	}
	data := collectionsData{
		Group: k.group, Create: facesPath(a.Name, "new") + "?" + query("kind", k.name),
		Most:  counts[k.kind].MostCollections,
		Tries: tryPath(a.Name, "detect"),
	}
	for _, other := range collectionKinds {
		data.Kinds = append(data.Kinds, kindTab{
			tab{v.text("faces.kind." + other.name), facesPath(a.Name) + "?" + query("kind", other.name), other == k},
			counts[other.kind].Collections,
		})
	}
	if v.may("Microsoft.CognitiveServices/accounts/retention/read", c.cfg.AccountPath(a)) {
		data.Keeping = resourcePath(a.Name, "keeping")
	}
	read := func(start string, top int) (found []collectionRow, next string, err error) {
		all, next, err := facePage(start, top, func(s face.Summary) string { return s.ID },
			func(p face.Page) ([]face.Summary, error) {
				return c.cfg.Faces.Summaries(v.Context(), a.Resource, k.kind, p)
			})
		for _, sum := range all {
			found = append(found, collectionRow{
				ID: sum.ID, Name: shownName(sum.Name, sum.ID), To: facesPath(a.Name, k.name, sum.ID),
				Persons: sum.Persons, Faces: sum.Faces, Model: sum.RecognitionModel, Training: v.trainingBadge(k, sum),
			})
		}
		return found, next, err
	}
	orders := collectionOrders
	if !k.group {
		orders = slices.DeleteFunc(slices.Clone(orders),
			func(o order[collectionRow]) bool { return o.name == "persons" })
	}
	data.table, err = listed(v, facesPath(a.Name)+"?"+query("kind", k.name), counts[k.kind].Collections, "id", orders,
		read)
	if err != nil {
		return nil, err
	}
	return v.facesPage("faces", a, data, ""), nil
}

// facePage reads at most top of what the Face service lists by their ids, after a start, and returns the next start;
// empty: there are no more.
func facePage[T any](
	start string, top int, id func(T) string, read func(face.Page) ([]T, error),
) (some []T, next string, err error) {
	more := min(top+1, mostSorted) // one more tells whether there is a next page
	if some, err = read(face.Page{Start: start, Top: &more}); len(some) > top {
		some = some[:top]
		next = id(some[top-1])
	}
	return some, next, err
}

// collectionOrders are the columns of the table of groups or lists.
var collectionOrders = []order[collectionRow]{
	{"name", "faces.name", byText(func(c collectionRow) string { return c.Name }), false},
	{"id", "faces.id", byText(func(c collectionRow) string { return c.ID }), false},
	{"persons", "faces.persons", byNumber(func(c collectionRow) int { return c.Persons }), true},
	{"faces", "faces.faces", byNumber(func(c collectionRow) int { return c.Faces }), true},
	{"training", "faces.training", byText(func(c collectionRow) string { return c.Training.Text }), false},
	{"model", "faces.model", byText(func(c collectionRow) string { return c.Model }), false},
}

// trainingBadge says in a word how far a group or list is trained.
func (v *visit) trainingBadge(k collectionKind, sum face.Summary) badge {
	icon, kind, state := "ok", "ok", "current"
	switch {
	case k.kind == face.FaceList:
		icon, kind, state = "ok", "off", "unneeded"
	case sum.Training.Status == face.NotStarted || sum.Training.Status == face.Running:
		icon, kind, state = "clock", "info", "running"
	case sum.Training.Status == face.Failed:
		icon, kind, state = "bad", "bad", "failed"
	case sum.Training.LastSuccess.IsZero() && sum.Faces == 0:
		icon, kind, state = "off", "off", "never"
	case sum.Training.LastSuccess.IsZero():
		icon, kind, state = "warn", "warn", "never"
	case sum.Outdated:
		icon, kind, state = "warn", "warn", "outdated"
	}
	return badge{kind, icon, v.text("faces.training." + state)}
}

// newCollection shows the form for a new group or list.
func (c *Console) newCollection(v *visit, a account.Account) (*view, error) {
	return c.newCollectionPage(v, a, c.creationForm(v, a)), nil
}

func (c *Console) newCollectionPage(v *visit, a account.Account, f *form) *view {
	return v.facesPage("facesform", a, f, v.text("faces.new.title"))
}

func (c *Console) creationForm(v *visit, a account.Account) *form {
	kinds := &field{Name: "kind", Kind: "radio", Label: v.text("faces.new.kind"), Required: true,
		Value: collectionKinds[0].name}
	for _, k := range collectionKinds {
		kinds.Options = append(kinds.Options, option{
			Value: k.name, Text: k.one(v), Hint: v.text("faces.new.kind." + k.name),
		})
	}
	if k, known := kindNamed(v.field("kind")); known {
		kinds.Value = k.name
	}
	models := &field{Name: "model", Kind: "select", Label: v.text("faces.model"), Required: true,
		Hint: v.text("faces.new.model.hint"), Options: c.modelOptions(), Value: c.bestModel()}
	f := v.form(facesPath(a.Name, "new"), v.text("faces.new.create"), kinds,
		&field{Name: "id", Kind: "text", Label: v.text("faces.id"), Hint: v.text("faces.id.hint"), Required: true,
			Max: 64, Code: true},
		v.faceNameField(""), v.userDataField(""), models)
	f.Cancel = facesPath(a.Name)
	return f
}

// modelOptions are the recognition models of the service.
func (c *Console) modelOptions() []option {
	var all []option
	for _, name := range c.cfg.Faces.Models() {
		all = append(all, option{Value: name, Text: name})
	}
	return all
}

// bestModel is the newest recognition model.
func (c *Console) bestModel() string {
	names := c.cfg.Faces.Models()
	return names[len(names)-1]
}

// The longest texts, as the Face contract has them: browsers count in the same units.
const (
	mostName     = 128
	mostUserData = 16_384
	mostReason   = 1_024
)

func (v *visit) faceNameField(value string) *field {
	return &field{Name: "name", Kind: "text", Label: v.text("faces.name"), Required: true, Max: mostName, Value: value}
}

func (v *visit) userDataField(value string) *field {
	return &field{Name: "userdata", Kind: "textarea", Label: v.text("faces.userdata"),
		Hint: v.text("faces.userdata.hint"), Max: mostUserData, Value: value}
}

// createCollection makes a group or list.
func (c *Console) createCollection(v *visit, a account.Account) (*view, error) {
	k, known := kindNamed(v.field("kind"))
	if !known {
		return nil, refuseUnknownPage()
	}
	made := face.Creation{Name: v.field("name"), RecognitionModel: v.field("model")}
	if data := v.field("userdata"); data != "" {
		made.UserData = &data
	}
	ref := face.Ref{Kind: k.kind, ID: v.field("id")}
	err := c.cfg.Faces.Create(v.Context(), a.Resource, ref, made)
	if err == nil {
		return v.done(collectionPath(a.Name, ref), "faces.new.done", isolated(made.Name)), nil
	}
	f := c.creationForm(v, a)
	if closed(err) || !v.refused(f, err, v.wrongFields()) {
		return nil, err
	}
	return v.again(c.newCollectionPage(v, a, f), f.Error), nil
}

// closed reports whether an error says that the data of the resource cannot be used: then no form is shown again.
func closed(err error) bool {
	refusal, ok := errors.AsType[*visage.Refusal](err)
	return ok && (refusal.Kind == visage.KeyRevoked || refusal.Code == "EncryptionKeyUnavailable")
}
