package console

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"time"
	"unicode/utf16"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/face"
)

// refOf returns the group or list that the path names.
func (v *visit) refOf() (face.Ref, collectionKind, error) {
	k, known := kindNamed(v.Path("kind"))
	if !known {
		return face.Ref{}, k, refuseUnknownPage()
	}
	return face.Ref{Kind: k.kind, ID: v.Path("collection")}, k, nil
}

// collectionData is the page of a group or list.
type collectionData struct {
	collectionRow
	Kind     string // the word for it
	Group    bool
	UserData *string
	Trains   bool // it is trained at all
	Outdated bool
	Trained  face.Training
	Progress *face.Progress
	Train    *form // nil: a training is under way
	Pages    collectionPages
	Search   string
	Found    *face.PersonsFound // nil: nothing was looked for
	People   table[enrolledRow]
	Listed   table[listedRow]
	Again    string // the address of this page
}

// collectionPages are the addresses of what can be done with a group or list.
type collectionPages struct{ Photos, Person, Edit, Keeping, Erase, Try string }

// enrolledRow is a person in a table.
type enrolledRow struct {
	ID, Name, To string
	Faces        int
}

// listedRow is a face of a list in a table.
type listedRow struct {
	face.ListedFace
	Added          time.Time // the day
	Erase, Keeping string
}

// userDataOf is the userData of a face; empty: it has none.
func userDataOf(f face.PersistedFace) string {
	if f.UserData == nil {
		return ""
	}
	return *f.UserData
}

// keptUntil is when a face of a list is erased; zero: it is kept without end, or held.
func keptUntil(f listedRow) time.Time {
	if f.Keep.Held {
		return time.Time{}
	}
	return f.Keep.Ends
}

// collection shows a group with its persons, or a list with its faces.
func (c *Console) collection(v *visit, a account.Account) (*view, error) {
	ref, k, err := v.refOf()
	if err != nil {
		return nil, err
	}
	return c.collectionPage(v, a, ref, k, nil)
}

// collectionPage shows the page of a group or list; refused is that of its training.
func (c *Console) collectionPage(
	v *visit, a account.Account, ref face.Ref, k collectionKind, refused error,
) (*view, error) {
	sum, err := c.cfg.Faces.Summary(v.Context(), a.Resource, ref)
	if err != nil {
		return nil, err
	}
	at := func(segments ...string) string { return collectionPath(a.Name, ref, segments...) }
	data := &collectionData{
		collectionRow: collectionRow{ID: sum.ID, Name: shownName(sum.Name, sum.ID), To: at(), Persons: sum.Persons,
			Faces: sum.Faces, Model: sum.RecognitionModel, Training: v.trainingBadge(k, sum)},
		Kind: k.one(v), Group: k.group, UserData: sum.UserData, Trains: k.kind != face.FaceList, Outdated: sum.Outdated,
		Trained: sum.Training, Progress: sum.Progress, Search: v.field("search"), Again: v.URL(),
		Pages: collectionPages{Photos: at("photos"), Edit: at("edit"), Erase: at("erase")},
	}
	if v.Route().Method != "GET" {
		data.Search, data.Again = "", at()
	}
	searchIn := query("in", k.name+"/"+ref.ID)
	data.Pages.Try = tryPath(a.Name, "similar") + "?" + searchIn
	if k.group {
		data.Pages.Person, data.Pages.Try = at("persons"), tryPath(a.Name, "identify")+"?"+searchIn
	}
	if v.may("Microsoft.CognitiveServices/accounts/retention/read", c.cfg.AccountPath(a)) {
		data.Pages.Keeping = keepingPath(a.Name, face.Held{Ref: ref})
	}
	if status := sum.Training.Status; data.Trains && status != face.NotStarted && status != face.Running {
		data.Train = v.button(at("train"), v.text("faces.train"), "plain")
		data.Train.Icon = "play"
	}
	if k.group {
		err = c.listPersons(v, a, ref, data)
	} else {
		err = c.listFaces(v, a, ref, data)
	}
	if err != nil {
		return nil, err
	}
	w := v.facesPage("facescollection", a, data, v.text("faces.collection.title", data.Kind, isolated(data.Name)))
	if refused != nil {
		said, ok := v.explain(refused)
		if !ok {
			return nil, refused
		}
		if data.Train == nil {
			data.Train = v.button(at("train"), v.text("faces.train"), "plain")
		}
		data.Train.Error = said
		return v.again(w, said), nil
	}
	return w, nil
}

// The columns of the tables of persons and of the faces of a list.
var (
	enrolledOrders = []order[enrolledRow]{
		{"name", "faces.name", byText(func(p enrolledRow) string { return p.Name }), false},
		{"faces", "faces.faces", byNumber(func(p enrolledRow) int { return p.Faces }), true},
		{"id", "faces.id", byText(func(p enrolledRow) string { return p.ID }), false},
	}
	listedOrders = []order[listedRow]{
		{"id", "faces.face.id", byText(func(f listedRow) string { return f.ID }), false},
		{"added", "faces.enrolled", byTime(func(f listedRow) time.Time { return f.Added }), false},
		{"kept", "faces.kept", byEnd(keptUntil), false},
		{"userdata", "faces.userdata", byText(func(f listedRow) string { return userDataOf(f.PersistedFace) }), false},
	}
)

// listPersons adds a page of the persons of a group, or of those that are looked for.
func (c *Console) listPersons(v *visit, a account.Account, ref face.Ref, data *collectionData) (err error) {
	natural := "id"
	read := func(start string, top int) ([]face.Person, string, error) {
		return facePage(start, top, func(p face.Person) string { return p.ID },
			func(p face.Page) ([]face.Person, error) {
				return c.cfg.Faces.Persons(v.Context(), a.Resource, ref, p)
			})
	}
	if data.Search != "" {
		natural = "" // those that fit best come first
		read = func(start string, top int) ([]face.Person, string, error) {
			found, err := c.cfg.Faces.FindPersons(v.Context(), a.Resource, ref,
				face.PersonQuery{Text: data.Search, Start: start, Top: &top})
			data.Found = &found
			return found.Persons, found.Next, err
		}
	}
	data.People, err = listed(v, data.To, data.Persons, natural, enrolledOrders,
		func(start string, top int) (people []enrolledRow, next string, err error) {
			some, next, err := read(start, top)
			for _, p := range some {
				to := collectionPath(a.Name, ref, "persons", p.ID)
				people = append(people, enrolledRow{p.ID, shownName(p.Name, p.ID), to, len(p.FaceIDs)})
			}
			return people, next, err
		})
	return err
}

// listFaces adds a page of the faces of a list.
func (c *Console) listFaces(v *visit, a account.Account, ref face.Ref, data *collectionData) (err error) {
	data.Listed, err = listed(v, data.To, data.Faces, "id", listedOrders,
		func(start string, top int) (faces []listedRow, next string, err error) {
			some, next, err := facePage(start, top, func(f face.ListedFace) string { return f.ID },
				func(p face.Page) ([]face.ListedFace, error) {
					return c.cfg.Faces.ListedFaces(v.Context(), a.Resource, ref, p)
				})
			for _, f := range some {
				row := listedRow{ListedFace: f, Erase: collectionPath(a.Name, ref, "faces", f.ID, "erase")}
				if !f.Enrolled.IsZero() {
					row.Added = f.Enrolled.Add(-time.Second) // from the end of the day back into it
				}
				if data.Pages.Keeping != "" {
					row.Keeping = keepingPath(a.Name, face.Held{Ref: ref, Item: f.ID})
				}
				faces = append(faces, row)
			}
			return faces, next, err
		})
	return err
}

// train starts the training of a group or list. Its page shows how far it is.
func (c *Console) train(v *visit, a account.Account) (*view, error) {
	ref, k, err := v.refOf()
	if err != nil {
		return nil, err
	}
	if err := c.cfg.Faces.Train(v.Context(), a.Resource, ref); err != nil {
		if closed(err) {
			return nil, err
		}
		return c.collectionPage(v, a, ref, k, err)
	}
	return v.done(collectionPath(a.Name, ref), "faces.train.started"), nil
}

// editCollection shows the form with the name and the userData of a group or list.
func (c *Console) editCollection(v *visit, a account.Account) (*view, error) {
	ref, k, err := v.refOf()
	if err != nil {
		return nil, err
	}
	sum, err := c.cfg.Faces.Summary(v.Context(), a.Resource, ref)
	if err != nil {
		return nil, err
	}
	path := collectionPath(a.Name, ref)
	return v.editPage(a, v.editForm(path, sum.Name, sum.UserData), link{
		v.text("faces.collection.title", k.one(v), isolated(shownName(sum.Name, ref.ID))), path,
	}), nil
}

func (v *visit) editPage(a account.Account, f *form, above ...link) *view {
	return v.facesPage("facesform", a, f, v.text("faces.edit"), above...)
}

// editForm is a form with a name and userData. It carries a digest of both, so that changes of two people meet in a
// sentence.
func (v *visit) editForm(path, name string, userData *string) *form {
	text := ""
	if userData != nil {
		text = *userData
	}
	f := v.form(path+"/edit", v.text("faces.save"), v.faceNameField(name), v.userDataField(text),
		&field{Name: "was", Kind: "hidden", Value: digestOf(name, userData)})
	f.Cancel = path
	return f
}

func digestOf(name string, userData *string) string {
	text := name + "\x00"
	if userData != nil {
		text += "\x00" + *userData
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:16])
}

// typedChange returns the change of a name and userData that was typed, unless somebody else has changed them since the
// form was shown.
func (v *visit) typedChange(name string, userData *string) (face.Change, error) {
	if v.field("was") != digestOf(name, userData) {
		return face.Change{}, visage.Refuse(visage.Conflict, "ChangedMeanwhile", "Somebody has changed the name or "+
			"the userData after you opened the page. Compare with the page as it is now, and send the form again.")
	}
	changed, data := v.field("name"), v.field("userdata")
	change := face.Change{Name: &changed}
	if userData != nil || data != "" {
		change.UserData = &data
	}
	return change, nil
}

// changeCollection changes the name and the userData of a group or list.
func (c *Console) changeCollection(v *visit, a account.Account) (*view, error) {
	ref, k, err := v.refOf()
	if err != nil {
		return nil, err
	}
	sum, err := c.cfg.Faces.Summary(v.Context(), a.Resource, ref)
	if err != nil {
		return nil, err
	}
	path := collectionPath(a.Name, ref)
	change, err := v.typedChange(sum.Name, sum.UserData)
	if err == nil {
		err = c.cfg.Faces.Update(v.Context(), a.Resource, ref, change)
	}
	if err == nil {
		return v.done(path, "faces.saved"), nil
	}
	f := v.editForm(path, sum.Name, sum.UserData)
	if closed(err) || !v.refused(f, err, v.wrongFields()) {
		return nil, err
	}
	above := link{v.text("faces.collection.title", k.one(v), isolated(shownName(sum.Name, ref.ID))), path}
	return v.again(v.editPage(a, f, above), f.Error), nil
}

var idShape = regexp.MustCompile(`^[a-z0-9_-]{1,64}$`)

// wrongFields names the field of a form about a group, list or person that a refusal of an argument is about.
func (v *visit) wrongFields() map[string]string {
	units := func(name string) int { return len(utf16.Encode([]rune(v.field(name)))) }
	wrong := "model"
	switch {
	case v.typed.Has("id") && !idShape.MatchString(v.field("id")):
		wrong = "id"
	case units("name") < 1 || units("name") > mostName:
		wrong = "name"
	case units("userdata") > mostUserData:
		wrong = "userdata"
	}
	return map[string]string{
		"BadArgument": wrong, "PersonGroupExists": "id", "LargePersonGroupExists": "id", "FaceListExists": "id",
		"LargeFaceListExists": "id",
	}
}
