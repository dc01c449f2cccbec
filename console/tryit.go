package console

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"math"
	"reflect"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/api/faceapi"
	"github.com/visage-face/visage/face"
)

// everyTry is the pattern of the pages for trying the service. Nothing of a photo that is sent to them is stored.
const everyTry = oneResource + "/tryit"

func (c *Console) tryRoutes() []route {
	return []route{
		page(everyTry, onFaces(), c.onData(c.tryPage("detect"))),
		sendFiles(everyTry, onFaces(), c.onData(c.tryDetect)),
		page(everyTry+"/compare", onFaces(), c.onData(c.tryPage("compare"))),
		sendFiles(everyTry+"/compare", onFaces(), c.onData(c.tryCompare)),
		page(everyTry+"/identify", onFaces(), c.onData(c.tryPage("identify"))),
		sendFiles(everyTry+"/identify", onFaces(), c.onData(c.tryIdentify)),
		page(everyTry+"/similar", onFaces(), c.onData(c.tryPage("similar"))),
		sendFiles(everyTry+"/similar", onFaces(), c.onData(c.trySimilar)),
	}
}

// tryData is a page for trying the service: a form and, after it was sent, the answer.
type tryData struct {
	Ways   []tab
	What   string // what the page does
	Form   *form
	Camera bool
	Shown  []shownPhoto
	// The answers: of detection, of a comparison, of searches.
	Faces    []seenFace
	JSON     string
	Verdict  *verdict
	Found    []foundRow // best first
	Searched bool
	Meaning  string // what the confidence stands for
	Answered bool
}

// shownPhoto is a photo that was sent, small, with what was found on it. It is part of the answer and stored nowhere.
type shownPhoto struct {
	Source        template.URL // the picture itself
	Text          string       // for people who do not see it
	Width, Height int          // of the drawing, in units of its own
	Marks         []mark
}

// mark is a face in a drawing.
type mark struct {
	X, Y, Width, Height float64
	TextX, TextY        float64
	Label               string
	Points              []point
}

// point is a landmark in a drawing.
type point struct{ X, Y float64 }

// seenFace is a face that was detected, for the table.
type seenFace struct {
	Number     int
	Box        face.Box
	Attributes []fact
}

// verdict is the answer of a comparison.
type verdict struct {
	Same       bool
	Confidence string
	Key        badge
}

// foundRow is a person or a face that was found.
type foundRow struct {
	Face       int // the number of the face on the photo
	Name, To   string
	Confidence string
}

const (
	previewSide = 1024 // pixels of a photo as it is shown
	drawingSide = 640  // units of its drawing: texts keep a readable size
	mostTried   = 5    // candidates for each face
)

// tries are the ways to try the service, by the end of their paths.
var tries = []string{"detect", "compare", "identify", "similar"}

func tryPath(account, way string) string {
	if way == "detect" {
		return resourcePath(account, "tryit")
	}
	return resourcePath(account, "tryit/"+way)
}

// tryPage is the handler of a page with an empty form.
func (c *Console) tryPage(way string) func(*visit, account.Account) (*view, error) {
	return func(v *visit, a account.Account) (*view, error) {
		w, _, err := c.tryView(v, a, way)
		return w, err
	}
}

// tryView makes a page with its form. It refuses while the data of the resource is closed.
func (c *Console) tryView(v *visit, a account.Account, way string) (*view, *tryData, error) {
	if _, err := c.cfg.Faces.Usage(v.Context(), a.Resource); err != nil {
		return nil, nil, err
	}
	data := &tryData{What: v.text("tryit." + way + ".what")}
	for _, other := range tries {
		data.Ways = append(data.Ways, tab{v.text("tryit.way." + other), tryPath(a.Name, other), other == way})
	}
	photo := func(name, label string) *field {
		return &field{Name: name, Kind: "file", Label: v.text(label), Required: true, Accept: acceptedPhotos,
			Hint: v.text("tryit.photo.hint")}
	}
	f := v.form(tryPath(a.Name, way), v.text("tryit."+way), photo("photo", "tryit.photo"))
	model := &field{Name: "model", Kind: "select", Label: v.text("faces.model"), Required: true,
		Options: c.modelOptions(), Value: c.bestModel()}
	switch way {
	case "detect":
		detector := &field{Name: "detector", Kind: "select", Label: v.text("tryit.detector"), Required: true,
			Value: "detection_01", Hint: v.text("tryit.detector.hint")}
		for _, name := range []string{"detection_01", "detection_02", "detection_03"} {
			detector.Options = append(detector.Options, option{Value: name, Text: name})
		}
		f.Fields = append(f.Fields, detector, model)
	case "compare":
		f.Fields[0].Label = v.text("tryit.photo.first")
		f.Fields = append(f.Fields, photo("second", "tryit.photo.second"), model)
	default:
		f.Fields = append(f.Fields, &field{Name: "in", Kind: "text", Label: v.text("tryit.in." + way), Required: true,
			Hint: v.text("tryit.in." + way + ".hint"), Value: v.field("in"), Max: 100, Code: true})
	}
	f.Icon = "scan-face"
	data.Form = f
	w := v.resourcePage("tryit", "tryit", a, data)
	return w, data, nil
}

// acceptedPhotos are the types of photos that browsers offer to choose.
const acceptedPhotos = "image/jpeg,image/png,image/gif,image/bmp,image/webp,image/heic,image/avif"

// tryAgain shows a page with a form that was refused.
func (c *Console) tryAgain(v *visit, w *view, data *tryData, refused error, wrong string) (*view, error) {
	if closed(refused) {
		return nil, refused
	}
	fields := map[string]string{"BadArgument": "in", "NoPhoto": wrong, "InvalidImage": wrong, "InvalidImageSize": wrong}
	for _, k := range collectionKinds {
		for _, end := range []string{"NotFound", "NotTrained", "TrainingNotFinished", "NotReady"} {
			fields[k.kind.String()+end] = "in"
		}
	}
	if !v.refused(data.Form, refused, fields) {
		return nil, refused
	}
	if fault := face.FaultOf(refused); fault != "" {
		sentence := v.text("faces.fault." + string(fault))
		data.Form.Error.Sentence, data.Form.Error.Detail = sentence, ""
		data.Form.Field(wrong).Error = sentence
	}
	return v.again(w, data.Form.Error), nil
}

// photoOf returns the photo of a field.
func (v *visit) photoOf(name string) ([]byte, error) {
	for _, f := range v.files {
		if f.field == name {
			return f.data, nil
		}
	}
	return nil, visage.Refuse(visage.Invalid, "NoPhoto", "Choose a photo.")
}

// tryDetect finds the faces on a photo.
func (c *Console) tryDetect(v *visit, a account.Account) (*view, error) {
	w, data, err := c.tryView(v, a, "detect")
	if err != nil {
		return nil, err
	}
	photo, err := v.photoOf("photo")
	var found []face.Face
	if err == nil {
		q := face.DetectQuery{RecognitionModel: v.field("model"), DetectionModel: v.field("detector")}
		q.ReturnLandmarks = q.DetectionModel != "detection_02"
		if q.Attributes, err = c.cfg.Faces.Attributes(q.RecognitionModel, q.DetectionModel); err == nil {
			found, err = c.cfg.Faces.Detect(v.Context(), a.Resource, photo, q)
		}
	}
	if err != nil {
		return c.tryAgain(v, w, data, err, "photo")
	}
	boxes, points := make([]face.Box, len(found)), make([][]face.Point, len(found))
	for i, f := range found {
		boxes[i] = f.Box
		if f.Landmarks != nil {
			points[i] = pointsOf(*f.Landmarks)
		}
	}
	if err := c.show(v, data, photo, boxes, points); err != nil {
		return c.tryAgain(v, w, data, err, "photo")
	}
	answer, err := json.MarshalIndent(faceapi.Detected(found), "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write what was detected: %w", err)
	}
	data.JSON, data.Answered = string(answer), true
	for i, f := range found {
		seen := seenFace{Number: i + 1, Box: f.Box}
		for _, row := range face.AttributeTable() {
			if value, measured := f.Attributes[row.Bit]; measured {
				seen.Attributes = append(seen.Attributes, fact{row.Name, wordsOf(value), false})
			}
		}
		data.Faces = append(data.Faces, seen)
	}
	keep(v, data)
	return w, nil
}

// pointsOf returns all points of a face.
func pointsOf(l face.Landmarks) []face.Point {
	var all []face.Point
	for _, field := range reflect.ValueOf(l).Fields() {
		if p, ok := field.Interface().(face.Point); ok && p != (face.Point{}) {
			all = append(all, p)
		}
	}
	return all
}

// wordsOf writes the value of an attribute in the words of the Face API.
func wordsOf(value any) string {
	switch x := value.(type) {
	case face.Level:
		return fmt.Sprintf("%s (%.2f)", x.Name, x.Value)
	case face.Pose:
		return fmt.Sprintf("pitch %.1f°, roll %.1f°, yaw %.1f°", x.Pitch, x.Roll, x.Yaw)
	case face.Mask:
		return x.Type.String()
	case face.Occlusion:
		return fmt.Sprintf("forehead %t, eyes %t, mouth %t", x.Forehead, x.Eyes, x.Mouth)
	case []face.Accessory:
		worn := make([]string, len(x))
		for i, one := range x {
			worn[i] = one.Type.String()
		}
		return strings.Join(worn, ", ")
	}
	return fmt.Sprint(value)
}

// keep puts what was chosen back into the form, apart from photos.
func keep(v *visit, data *tryData) {
	for _, f := range data.Form.Fields {
		if f.Kind != "file" {
			f.Value = v.field(f.Name)
		}
	}
}

// show adds a photo to the answer, with the faces on it.
func (c *Console) show(v *visit, data *tryData, photo []byte, boxes []face.Box, points [][]face.Point) error {
	small, err := c.cfg.Faces.Preview(v.Context(), photo, "", previewSide)
	if err != nil || small == nil {
		return err
	}
	scale := drawingSide / float64(max(small.Width, small.Height, 1))
	tenth := func(x int) float64 { return math.Round(float64(x)*scale*10) / 10 }
	shown := shownPhoto{
		Source: template.URL("data:image/jpeg;base64," + base64.StdEncoding.EncodeToString(small.JPEG)),
		Text:   v.text("tryit.shown", len(boxes)), Width: int(tenth(small.Width)), Height: int(tenth(small.Height)),
	}
	for i, b := range boxes {
		m := mark{X: tenth(b.Left), Y: tenth(b.Top), Width: tenth(b.Width), Height: tenth(b.Height),
			Label: fmt.Sprint(i + 1)}
		m.TextX, m.TextY = m.X+4, max(m.Y-5, 16)
		if points != nil {
			for _, p := range points[i] {
				m.Points = append(m.Points, point{math.Round(p.X*scale*10) / 10, math.Round(p.Y*scale*10) / 10})
			}
		}
		shown.Marks = append(shown.Marks, m)
	}
	data.Shown = append(data.Shown, shown)
	return nil
}

// tryCompare compares the largest faces on two photos.
func (c *Console) tryCompare(v *visit, a account.Account) (*view, error) {
	w, data, err := c.tryView(v, a, "compare")
	if err != nil {
		return nil, err
	}
	first, err := v.photoOf("photo")
	if err != nil {
		return c.tryAgain(v, w, data, err, "photo")
	}
	second, err := v.photoOf("second")
	if err != nil {
		return c.tryAgain(v, w, data, err, "second")
	}
	got, err := c.cfg.Faces.ComparePhotos(v.Context(), a.Resource, face.Shown{Photo: first}, face.Shown{Photo: second},
		v.field("model"))
	if err == nil {
		err = c.show(v, data, first, []face.Box{got.First}, nil)
	}
	if err == nil {
		err = c.show(v, data, second, []face.Box{got.Second}, nil)
	}
	if err != nil {
		return c.tryAgain(v, w, data, err, "photo")
	}
	said := verdict{Same: got.Identical, Confidence: v.lang.confidence(got.Confidence)}
	said.Key = badge{"off", "x", v.text("tryit.different")}
	if said.Same {
		said.Key = badge{"ok", "ok", v.text("tryit.same")}
	}
	data.Verdict, data.Answered = &said, true
	data.Meaning = v.meaning(got.Calibration, got.Confidence)
	keep(v, data)
	return w, nil
}

// confidence writes a confidence so that rounding never lifts it over a threshold.
func (l *language) confidence(c float64) string {
	return l.printer.Sprintf("%.3f", math.Floor(c*1000)/1000)
}

// meaning says what a confidence stands for.
func (v *visit) meaning(c *face.Calibration, confidence float64) string {
	if c == nil {
		return v.text("tryit.meaning.unknown")
	}
	worst, _ := c.FalseAcceptsAt(confidence)
	switch n := worst.OneIn(); {
	case n <= 1:
		return v.text("tryit.meaning.nothing")
	case worst.AtMost:
		return v.text("tryit.meaning.fewer", n)
	default:
		return v.text("tryit.meaning.about", n)
	}
}

// searchedIn returns the group or list that was typed.
func (v *visit) searchedIn(group bool) (face.Ref, error) {
	kind, id, _ := strings.Cut(strings.TrimSpace(v.field("in")), "/")
	k, known := kindNamed(strings.ToLower(kind))
	if !known || k.group != group {
		what := "facelists/ID or largefacelists/ID"
		if group {
			what = "persongroups/ID or largepersongroups/ID"
		}
		return face.Ref{}, visage.Refuse(visage.Invalid, "BadArgument", "Name the place to search as %s.", what)
	}
	return face.Ref{Kind: k.kind, ID: id}, nil
}

// tryIdentify looks for the people on a photo in a group.
func (c *Console) tryIdentify(v *visit, a account.Account) (*view, error) {
	w, data, err := c.tryView(v, a, "identify")
	if err != nil {
		return nil, err
	}
	ref, err := v.searchedIn(true)
	if err != nil {
		return c.tryAgain(v, w, data, err, "in")
	}
	photo, err := v.photoOf("photo")
	var seen face.SeenFaces
	if err == nil {
		q := face.IdentifyQuery{MaxCandidates: mostTried, PersonGroupID: ref.ID}
		if ref.Kind == face.LargePersonGroup {
			q.PersonGroupID, q.LargePersonGroupID = "", ref.ID
		}
		seen, err = c.cfg.Faces.IdentifyPhoto(v.Context(), a.Resource, photo, q)
	}
	boxes := make([]face.Box, len(seen.Faces))
	for i, f := range seen.Faces {
		boxes[i] = f.Box
	}
	if err == nil {
		err = c.show(v, data, photo, boxes, nil)
	}
	if err != nil {
		return c.tryAgain(v, w, data, err, "photo")
	}
	best := 0.0
	for i, f := range seen.Faces {
		for _, found := range f.Candidates {
			p, err := c.cfg.Faces.GetPerson(v.Context(), a.Resource, face.PersonRef{Group: ref, ID: found.PersonID})
			if err != nil {
				continue // erased meanwhile
			}
			best = max(best, found.Confidence)
			data.Found = append(data.Found, foundRow{i + 1, shownName(p.Name, p.ID),
				collectionPath(a.Name, ref, "persons", p.ID), v.lang.confidence(found.Confidence)})
		}
	}
	if best > 0 {
		data.Meaning = v.meaning(seen.Calibration, best)
	}
	data.Searched, data.Answered = true, true
	keep(v, data)
	return w, nil
}

// trySimilar looks for faces of a list that are similar to the largest face on a photo.
func (c *Console) trySimilar(v *visit, a account.Account) (*view, error) {
	w, data, err := c.tryView(v, a, "similar")
	if err != nil {
		return nil, err
	}
	ref, err := v.searchedIn(false)
	if err != nil {
		return c.tryAgain(v, w, data, err, "in")
	}
	photo, err := v.photoOf("photo")
	var similar face.SimilarFaces
	if err == nil {
		most := mostTried
		q := face.SimilarQuery{MaxCandidates: &most, FaceListID: ref.ID, Mode: face.MatchFace}
		if ref.Kind == face.LargeFaceList {
			q.FaceListID, q.LargeFaceListID = "", ref.ID
		}
		similar, err = c.cfg.Faces.FindSimilarPhoto(v.Context(), a.Resource, face.Shown{Photo: photo}, q)
	}
	if err == nil {
		err = c.show(v, data, photo, []face.Box{similar.Box}, nil)
	}
	if err != nil {
		return c.tryAgain(v, w, data, err, "photo")
	}
	for _, found := range similar.Found {
		data.Found = append(data.Found, foundRow{1, found.PersistedFaceID, collectionPath(a.Name, ref),
			v.lang.confidence(found.Confidence)})
	}
	if len(similar.Found) > 0 {
		data.Meaning = v.meaning(similar.Calibration, similar.Found[0].Confidence)
	}
	data.Searched, data.Answered = true, true
	keep(v, data)
	return w, nil
}
