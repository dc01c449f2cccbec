package console

import (
	"context"
	"errors"
	"path"
	"strings"
	"unicode"
	"unicode/utf16"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/face"
)

// photosData is the page for adding photos to a list, a group or a person.
type photosData struct {
	Form       *form
	Outcome    *photoOutcome // of the photo that was sent; nil: none was, or it was added
	Note       string        // what becomes of each photo
	List       bool
	Count      int // faces of the list, the group or the person, as they are now
	Trains     bool
	Collection string // the address of the group or list
}

// photoOutcome is what became of a photo.
type photoOutcome struct {
	Good           bool
	Name, Sentence string
	Detail         string // the service's own sentence; empty: Sentence says it
}

// target is where photos go.
type target struct {
	ref    face.Ref
	kind   collectionKind
	person string // the id of a person of a group; empty: each photo is a new person, or a face of a list
}

// photosPage makes the page for adding photos to what the path names.
func (c *Console) photosPage(v *visit, a account.Account) (*view, *photosData, target, error) {
	ref, k, err := v.refOf()
	if err != nil {
		return nil, nil, target{}, err
	}
	into := target{ref: ref, kind: k}
	data := &photosData{List: !k.group, Trains: k.kind != face.FaceList, Collection: collectionPath(a.Name, ref)}
	photos := &field{Name: "photos", Kind: "file", Label: v.text("faces.photos.files"), Required: true, Multiple: true,
		Hint:   v.text("faces.photos.hint", v.lang.size(uploadBytes), maxFiles),
		Accept: acceptedPhotos}
	action, above := data.Collection+"/photos", []link(nil)
	if strings.HasPrefix(v.Route().Pattern, oneEnrolled) {
		who, p, links, err := c.enrolledAbove(v, a)
		if err != nil {
			return nil, nil, into, err
		}
		into.person, above, action = who.ID, links, links[1].To+"/photos"
		data.Note, data.Count = v.text("faces.photos.person", isolated(shownName(p.Name, p.ID))), len(p.FaceIDs)
	} else {
		sum, err := c.cfg.Faces.Summary(v.Context(), a.Resource, ref)
		if err != nil {
			return nil, nil, into, err
		}
		above = []link{{
			v.text("faces.collection.title", k.one(v), isolated(shownName(sum.Name, ref.ID))), data.Collection,
		}}
		data.Note, data.Count = v.text("faces.photos.list"), sum.Faces
		if k.group {
			data.Note = v.text("faces.photos.group")
		}
	}
	data.Form = v.form(action, v.text("faces.photos.add"), photos)
	if k.group && into.person == "" {
		data.Form.Fields = append([]*field{
			{Name: "into", Kind: "radio", Label: v.text("faces.photos.into"), Required: true, Value: "new",
				Options: []option{
					{Value: "new", Text: v.text("faces.photos.new"), Hint: v.text("faces.photos.new.hint")},
					{Value: "chosen", Text: v.text("faces.photos.chosen")},
				}},
			{Name: "person", Kind: "text", Label: v.text("faces.photos.id"), Hint: v.text("faces.photos.id.hint"),
				Max: 36, Code: true},
		}, data.Form.Fields...)
	}
	data.Form.Cancel = above[len(above)-1].To
	return v.facesPage("facesphotos", a, data, v.text("faces.photos.title"), above...), data, into, nil
}

// photos shows the page for adding photos.
func (c *Console) photos(v *visit, a account.Account) (*view, error) {
	w, _, _, err := c.photosPage(v, a)
	return w, err
}

// addPhotos adds photos: one at once, several as a job.
func (c *Console) addPhotos(v *visit, a account.Account) (*view, error) {
	w, data, into, err := c.photosPage(v, a)
	if err != nil {
		return nil, err
	}
	if v.field("into") == "chosen" {
		into.person = strings.ToLower(strings.TrimSpace(v.field("person")))
		_, err = c.cfg.Faces.GetPerson(v.Context(), a.Resource, face.PersonRef{Group: into.ref, ID: into.person})
	}
	if err == nil && len(v.files) == 0 {
		err = visage.Refuse(visage.Invalid, "NoPhoto", "Choose at least one photo.")
	}
	if err != nil {
		if closed(err) || !v.refused(data.Form, err, map[string]string{
			"PersonNotFound": "person", "NoPhoto": "photos", "BadArgument": "person",
		}) {
			return nil, err
		}
		return v.again(w, data.Form.Error), nil
	}
	if len(v.files) > 1 {
		return c.addMany(v, a, into, data)
	}
	file := v.files[0]
	added, refused := c.addPhoto(v.Context(), a.Resource, v.lang, into, file)
	if refused == nil {
		return v.done(data.Form.Action, added.key, added.args...), nil
	}
	said, ok := v.explain(refused)
	if !ok || closed(refused) {
		return nil, refused
	}
	for _, f := range data.Form.Fields {
		if f.Kind != "file" && f.Kind != "hidden" {
			f.Value = v.field(f.Name)
		}
	}
	outcome := c.outcomeOf(v.Context(), v.lang, file, refused)
	data.Outcome = &outcome
	return v.again(w, said), nil
}

// addMany starts a job that adds many photos.
func (c *Console) addMany(v *visit, a account.Account, into target, data *photosData) (*view, error) {
	files, lang, res := v.files, v.lang, a.Resource
	back := link{v.text("faces.photos.back"), data.Form.Cancel}
	scope, title := c.cfg.AccountPath(a), v.text("faces.photos.job", len(files))
	may := func(who visage.Principal) bool { return c.cfg.Directory.MayData(who, useFaces, scope) }
	return v.start(title, back, may, func(ctx context.Context, p progress) error {
		p.result(back)
		for i, file := range files {
			p.step(lang.text("faces.photos.step", isolated(file.name)))
			p.count(int64(i), int64(len(files)))
			added, err := c.addPhoto(ctx, res, lang, into, file)
			switch {
			case err == nil:
				p.line(true, isolated(file.name)+" — "+lang.text(added.key, added.args...))
			case ctx.Err() != nil || closed(err) || lang.failure(ctx, err) == nil:
				return err
			default:
				said := c.outcomeOf(ctx, lang, file, err)
				text := isolated(file.name) + " — " + said.Sentence
				if said.Detail != "" {
					text += " (" + said.Detail + ")"
				}
				p.line(false, text)
			}
			files[i].data = nil // the rest may wait for long
		}
		p.count(int64(len(files)), int64(len(files)))
		return nil
	})
}

// report is a message with its arguments.
type report struct {
	key  string
	args []any
}

// addPhoto adds the face on a photo to where it goes.
func (c *Console) addPhoto(
	ctx context.Context, res visage.Resource, lang *language, into target, file upload,
) (report, error) {
	e := face.Enrolment{Photo: file.data}
	switch {
	case !into.kind.group:
		id, err := c.cfg.Faces.AddFace(ctx, res, into.ref, e)
		return report{"faces.photos.added.list", []any{id}}, err
	case into.person != "":
		_, err := c.cfg.Faces.AddPersonFace(ctx, res, face.PersonRef{Group: into.ref, ID: into.person}, e)
		return report{"faces.photos.added.person", nil}, err
	}
	name := nameFromFile(file.name)
	if name == "" {
		name = lang.text("faces.photos.unnamed")
	}
	_, err := c.cfg.Faces.EnrolPerson(ctx, res, into.ref, name, e)
	return report{"faces.photos.added.new", []any{isolated(name)}}, err
}

// outcomeOf says why a photo was refused, in the language of the person.
func (c *Console) outcomeOf(ctx context.Context, lang *language, file upload, refused error) photoOutcome {
	said := photoOutcome{Name: file.name}
	if fault := face.FaultOf(refused); fault != "" {
		said.Sentence = lang.text("faces.fault." + string(fault))
		return said
	}
	if e := lang.failure(ctx, refused); e != nil {
		said.Sentence, said.Detail = e.Sentence, e.Detail
		if refusal, ok := errors.AsType[*visage.Refusal](refused); ok && said.Detail == said.Sentence {
			said.Detail = refusal.Message
		}
	}
	return said
}

// nameFromFile makes the name of a person from that of a photo: without folders, extension and characters that nobody
// sees, and not longer than names may be.
func nameFromFile(file string) string {
	file = path.Base(strings.ReplaceAll(file, `\`, "/"))
	name := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(strings.TrimSuffix(file, path.Ext(file)), " "))
	name = strings.TrimSpace(name)
	units := 0
	for i, r := range name {
		if units += utf16.RuneLen(r); units > mostName {
			return strings.TrimSpace(name[:i])
		}
	}
	return name
}
