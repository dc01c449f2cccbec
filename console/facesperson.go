package console

import (
	"time"

	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/face"
)

// newEnrolled shows the form for a person without photos.
func (c *Console) newEnrolled(v *visit, a account.Account) (*view, error) {
	ref, k, err := v.groupOf()
	if err != nil {
		return nil, err
	}
	sum, err := c.cfg.Faces.Summary(v.Context(), a.Resource, ref)
	if err != nil {
		return nil, err
	}
	return c.newEnrolledPage(v, a, ref, k, sum, c.enrolledForm(v, a, ref)), nil
}

// groupOf returns the group that the path names; lists have no persons.
func (v *visit) groupOf() (face.Ref, collectionKind, error) {
	ref, k, err := v.refOf()
	if err == nil && !k.group {
		err = refuseUnknownPage()
	}
	return ref, k, err
}

func (c *Console) newEnrolledPage(
	v *visit, a account.Account, ref face.Ref, k collectionKind, sum face.Summary, f *form,
) *view {
	return v.facesPage("facesform", a, f, v.text("faces.person.new"), link{
		v.text("faces.collection.title", k.one(v), isolated(shownName(sum.Name, ref.ID))), collectionPath(a.Name, ref),
	})
}

func (c *Console) enrolledForm(v *visit, a account.Account, ref face.Ref) *form {
	f := v.form(collectionPath(a.Name, ref, "persons"), v.text("faces.person.create"), v.faceNameField(""),
		v.userDataField(""))
	f.Cancel = collectionPath(a.Name, ref)
	return f
}

// createEnrolled adds a person to a group.
func (c *Console) createEnrolled(v *visit, a account.Account) (*view, error) {
	ref, k, err := v.groupOf()
	if err != nil {
		return nil, err
	}
	var userData *string
	if data := v.field("userdata"); data != "" {
		userData = &data
	}
	id, refused := c.cfg.Faces.CreatePerson(v.Context(), a.Resource, ref, v.field("name"), userData)
	if refused == nil {
		to := collectionPath(a.Name, ref, "persons", id)
		return v.done(to, "faces.person.created", isolated(v.field("name"))), nil
	}
	sum, err := c.cfg.Faces.Summary(v.Context(), a.Resource, ref)
	if err != nil {
		return nil, err
	}
	f := c.enrolledForm(v, a, ref)
	if closed(refused) || !v.refused(f, refused, v.wrongFields()) {
		return nil, refused
	}
	return v.again(c.newEnrolledPage(v, a, ref, k, sum, f), f.Error), nil
}

// enrolledData is the page of a person.
type enrolledData struct {
	face.PersonDetails
	Shown                        string // the name, or the id
	Photos, Edit, Erase, Keeping string // addresses of pages
	FaceRows                     []faceRow
	Columns                      []column // of the table of faces
	Most                         int      // faces of a person
}

// faceRow is a face of a person.
type faceRow struct {
	face.EnrolledFace
	Erase string
}

// faceOrders are the columns by which the faces of a person can be sorted; they come in the order of enrolment.
var faceOrders = []order[faceRow]{
	{"id", "faces.face.id", byText(func(f faceRow) string { return f.ID }), false},
	{"added", "faces.enrolled", byTime(func(f faceRow) time.Time { return f.Added }), false},
	{"quality", "faces.quality", byNumber(func(f faceRow) int { return int(f.Quality) }), false},
	{"userdata", "faces.userdata", byText(func(f faceRow) string { return userDataOf(f.PersistedFace) }), false},
}

// enrolled shows a person.
func (c *Console) enrolled(v *visit, a account.Account) (*view, error) {
	ref, k, err := v.groupOf()
	if err != nil {
		return nil, err
	}
	d, err := c.cfg.Faces.PersonDetails(v.Context(), a.Resource, face.PersonRef{Group: ref, ID: v.Path("person")})
	if err != nil {
		return nil, err
	}
	at := func(segments ...string) string {
		return collectionPath(a.Name, ref, append([]string{"persons", d.ID}, segments...)...)
	}
	data := &enrolledData{
		PersonDetails: d, Shown: shownName(d.Name, d.ID), Photos: at("photos"), Edit: at("edit"), Erase: at("erase"),
		Most: a.Tier.Limits().FacesPerPerson,
	}
	if v.may("Microsoft.CognitiveServices/accounts/retention/read", c.cfg.AccountPath(a)) {
		data.Keeping = keepingPath(a.Name, face.Held{Ref: ref, Item: d.ID})
	}
	for _, f := range d.Faces {
		data.FaceRows = append(data.FaceRows, faceRow{f, at("faces", f.ID, "erase")})
	}
	data.Columns = sortRows(v, at(), data.FaceRows, "", faceOrders)
	above, err := c.groupLink(v, a, ref, k)
	if err != nil {
		return nil, err
	}
	return v.facesPage("facesperson", a, data, v.text("faces.person.title", isolated(data.Shown)), above), nil
}

// groupLink leads to the page of a group or list.
func (c *Console) groupLink(v *visit, a account.Account, ref face.Ref, k collectionKind) (link, error) {
	sum, err := c.cfg.Faces.Summary(v.Context(), a.Resource, ref)
	return link{
		v.text("faces.collection.title", k.one(v), isolated(shownName(sum.Name, ref.ID))), collectionPath(a.Name, ref),
	}, err
}

// enrolledAbove returns a person, and the links to the pages above one about the person.
func (c *Console) enrolledAbove(v *visit, a account.Account) (face.PersonRef, face.Person, []link, error) {
	ref, k, err := v.groupOf()
	if err != nil {
		return face.PersonRef{}, face.Person{}, nil, err
	}
	who := face.PersonRef{Group: ref, ID: v.Path("person")}
	p, err := c.cfg.Faces.GetPerson(v.Context(), a.Resource, who)
	if err != nil {
		return who, p, nil, err
	}
	group, err := c.groupLink(v, a, ref, k)
	return who, p, []link{group, {
		v.text("faces.person.title", isolated(shownName(p.Name, p.ID))), collectionPath(a.Name, ref, "persons", p.ID),
	}}, err
}

// editEnrolled shows the form with the name and the userData of a person.
func (c *Console) editEnrolled(v *visit, a account.Account) (*view, error) {
	_, p, above, err := c.enrolledAbove(v, a)
	if err != nil {
		return nil, err
	}
	return v.editPage(a, v.editForm(above[1].To, p.Name, p.UserData), above...), nil
}

// changeEnrolled changes the name and the userData of a person.
func (c *Console) changeEnrolled(v *visit, a account.Account) (*view, error) {
	who, p, above, err := c.enrolledAbove(v, a)
	if err != nil {
		return nil, err
	}
	change, err := v.typedChange(p.Name, p.UserData)
	if err == nil {
		err = c.cfg.Faces.UpdatePerson(v.Context(), a.Resource, who, change)
	}
	if err == nil {
		return v.done(above[1].To, "faces.saved"), nil
	}
	f := v.editForm(above[1].To, p.Name, p.UserData)
	if closed(err) || !v.refused(f, err, v.wrongFields()) {
		return nil, err
	}
	return v.again(v.editPage(a, f, above...), f.Error), nil
}
