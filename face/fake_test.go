package face_test

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math"
	mathrand "math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/face"
	"github.com/visage-face/visage/gallery"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/vision"
)

func TestMain(m *testing.M) {
	// The first randomness of a process must not be drawn inside a synctest bubble: the FIPS module times its source.
	if _, err := rand.Read(make([]byte, 1)); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// dim is the length of the fake's templates.
const dim = 128

// fake sees on a photo what its bytes say: words like "ann" or "ann.2", each a face, the largest first. Faces of the
// same name are near one another, the nearer the closer their numbers; different names are far apart. Other words make
// it fail. Of a word that begins with a question mark, no template can be made. The picture is 1000 by 1000 pixels,
// face i is at 100·i, 100·i and (100-i) pixels wide and high.
type fake struct {
	name     string
	supports vision.Attributes
	want     func(vision.Want) // if set, is told what was asked for
	numbers  int               // length of its templates; 0: dim
}

func (f *fake) Name() string                 { return f.name }
func (f *fake) Dim() int                     { return cmp.Or(f.numbers, dim) }
func (f *fake) Supports() vision.Attributes  { return f.supports }
func (f *fake) Confidence(d float64) float64 { return 1 - d/0.8 } // 0.5 at 0.4
func (f *fake) Threshold(n int) float64      { return min(0.5+float64(n)/20, 0.99) }
func (f *fake) String() string               { return f.name }

func (f *fake) Detect(ctx context.Context, photo []byte, want vision.Want) (*vision.Photo, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	if f.want != nil {
		f.want(want)
	}
	p := &vision.Photo{Width: 1000, Height: 1000}
	for i, word := range strings.Fields(string(photo)) {
		switch word {
		case "!format":
			return nil, &vision.ImageError{Kind: vision.UnknownFormat, Message: "no picture"}
		case "!broken":
			return nil, &vision.ImageError{Kind: vision.Broken, Message: "broken picture"}
		case "!few":
			return nil, &vision.ImageError{Kind: vision.TooFewBytes, Message: "too few bytes"}
		case "!many":
			return nil, &vision.ImageError{Kind: vision.TooManyBytes, Message: "too many bytes"}
		case "!large":
			return nil, &vision.ImageError{Kind: vision.TooLarge, Message: "too many pixels"}
		case "!fail":
			return nil, errors.New("the networks fell over")
		}
		p.Faces = append(p.Faces, vision.Face{
			Box: vision.Box{Left: 100 * i, Top: 100 * i, Width: 100 - i, Height: 100 - i}, Score: 1,
		})
	}
	chosen := make([]int, len(p.Faces))
	for i := range chosen {
		chosen[i] = i
	}
	if want.Select != nil {
		chosen = want.Select(p.Faces)
	}
	for _, i := range chosen {
		if word := strings.Fields(string(photo))[i]; want.Templates && !strings.HasPrefix(word, "?") {
			p.Faces[i].Template = templateOf(word, f.Dim())
		}
		if want.Landmarks {
			p.Faces[i].Landmarks = &vision.Landmarks{PupilLeft: vision.Point{X: 1, Y: 2}}
		}
		half := 0.5
		if want.Attributes&vision.HeadPose != 0 {
			p.Faces[i].Pose = &vision.Pose{Roll: 3}
		}
		if want.Attributes&vision.Blur != 0 {
			p.Faces[i].Blur = &half
		}
		if want.Attributes&vision.Exposure != 0 {
			p.Faces[i].Exposure = &half
		}
		if want.Attributes&vision.Noise != 0 {
			p.Faces[i].Noise = &half
		}
		if want.Attributes&vision.Quality != 0 {
			p.Faces[i].Quality = vision.High
		}
		if want.Attributes&vision.Glasses != 0 {
			p.Faces[i].Eyewear = vision.Sunglasses
		}
		if want.Attributes&vision.Mask != 0 {
			p.Faces[i].Covering = &vision.Covering{Type: vision.OtherCovering, NoseAndMouth: true}
		}
		if want.Attributes&vision.Occlusion != 0 {
			p.Faces[i].Hidden = &vision.Hidden{Eyes: true}
		}
		if want.Attributes&vision.Accessories != 0 {
			p.Faces[i].Worn = []vision.Accessory{{Type: vision.Headwear, Confidence: 0.75}}
		}
	}
	return p, nil
}

// codeOf makes the code of a word: "ann" near "ann.1", nearer than to "ann.9".
func codeOf(word string) gallery.Code { return encode(templateOf(word, dim)) }

func encode(template []float32) gallery.Code {
	code, err := gallery.Encode(template)
	if err != nil {
		panic(err)
	}
	return code
}

func templateOf(word string, numbers int) []float32 {
	name, number, _ := strings.Cut(word, ".")
	var n float64
	fmt.Sscanf(number, "%g", &n)
	h := fnv.New64a()
	h.Write([]byte(name))
	base, aside := mathrand.New(mathrand.NewPCG(h.Sum64(), 1)), mathrand.New(mathrand.NewPCG(h.Sum64(), 2))
	v := make([]float64, numbers)
	square := 0.0
	for i := range v {
		v[i] = base.NormFloat64() + 0.05*n*aside.NormFloat64()
		square += v[i] * v[i]
	}
	t := make([]float32, numbers)
	for i := range v {
		t[i] = float32(v[i] / math.Sqrt(square))
	}
	return t
}

// rig is a service with its store.
type rig struct {
	*face.Service
	res   visage.Resource
	store *sealed.Store
	model *fake
}

// measurable is what the fake measures, like the default pack.
const measurable = vision.HeadPose | vision.Blur | vision.Exposure | vision.Noise | vision.Quality

// newRig makes a service on a store in memory, for one resource of tier S0.
func newRig(t testing.TB) *rig {
	t.Helper()
	return newRigOn(t, newStore(t), 0)
}

// newRigOn makes a service on a store. Several on one store behave like one process after the other.
func newRigOn(t testing.TB, store *sealed.Store, galleryBytes int64) *rig {
	t.Helper()
	return newRigWith(t, store, galleryBytes, &fake{name: "fake", supports: measurable}, nil)
}

// newRigAudited makes a service that tells somebody what is erased and decided.
func newRigAudited(t testing.TB, auditor face.Auditor) *rig {
	t.Helper()
	return newRigWith(t, newStore(t), 0, &fake{name: "fake", supports: measurable}, auditor)
}

func newRigWith(
	t testing.TB, store *sealed.Store, galleryBytes int64, model *fake, auditor face.Auditor, others ...*fake,
) *rig {
	t.Helper()
	models := map[string]face.Recogniser{
		"recognition_01": model, "recognition_02": model, "recognition_03": model, "recognition_04": model,
	}
	r := newRigServing(t, store, galleryBytes, models, auditor, others...)
	r.model = model
	return r
}

// newRigServing makes a service whose models are served by several packs.
func newRigServing(
	t testing.TB, store *sealed.Store, galleryBytes int64, models map[string]face.Recogniser, auditor face.Auditor,
	others ...*fake,
) *rig {
	t.Helper()
	r := &rig{
		res:   visage.Resource{ID: visage.ResourceID{1}, Name: "default", Tier: visage.S0},
		store: store,
	}
	packs := map[string]face.Recogniser{}
	for _, other := range others {
		packs[other.name] = other
	}
	s, err := face.New(face.Config{
		Store: store, Packs: packs, Models: models,
		Resources: func(context.Context) ([]visage.ResourceID, error) {
			return []visage.ResourceID{r.res.ID}, nil
		},
		GalleryBytes: galleryBytes, Audit: auditor,
		Logger: slog.New(slog.NewTextHandler(testLog{t}, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	r.Service = s
	return r
}

// testLog writes to the log of a test.
type testLog struct{ t testing.TB }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// must fails the test when there is an error, and else returns the value.
func must[T any](t testing.TB) func(v T, err error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func mustDo(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantRefusal checks that err is a refusal of that kind and code.
func wantRefusal(t testing.TB, err error, kind visage.Kind, code string) {
	t.Helper()
	refusal, ok := errors.AsType[*visage.Refusal](err)
	if !ok {
		t.Errorf("got error %v, want refusal %s", err, code)
		return
	}
	if refusal.Kind != kind || refusal.Code != code {
		t.Errorf("got refusal %v %s, want %v %s", refusal.Kind, refusal, kind, code)
	}
	if !strings.HasSuffix(refusal.Message, ".") || strings.Contains(refusal.Message, "%!") {
		t.Errorf("%s: the message is no sentence: %q", refusal.Code, refusal.Message)
	}
}

func ptr[T any](v T) *T { return &v }

// detect returns the face ids of a photo.
func (r *rig) detect(t testing.TB, photo string) []string {
	t.Helper()
	return r.detectAs(t, photo, "")
}

func (r *rig) detectAs(t testing.TB, photo, model string) []string {
	t.Helper()
	q := face.DetectQuery{ReturnFaceID: true, RecognitionModel: model}
	var ids []string
	for _, f := range must[[]face.Face](t)(r.Detect(t.Context(), r.res, []byte(photo), q)) {
		ids = append(ids, f.ID)
	}
	return ids
}

// create makes a list or group.
func (r *rig) create(t testing.TB, kind face.Kind, id string) face.Ref {
	t.Helper()
	ref := face.Ref{Kind: kind, ID: id}
	mustDo(t, r.Create(t.Context(), r.res, ref, face.Creation{Name: "name of " + id}))
	return ref
}

// enrol adds a person with the faces of some photos to a group.
func (r *rig) enrol(t testing.TB, group face.Ref, name string, photos ...string) face.PersonRef {
	t.Helper()
	ref := face.PersonRef{Group: group, ID: must[string](t)(r.CreatePerson(t.Context(), r.res, group, name, nil))}
	for _, photo := range photos {
		r.addFace(t, ref, photo)
	}
	return ref
}

func (r *rig) addFace(t testing.TB, person face.PersonRef, photo string) string {
	t.Helper()
	return must[string](t)(r.AddPersonFace(t.Context(), r.res, person, face.Enrolment{Photo: []byte(photo)}))
}

func (r *rig) addListed(t testing.TB, list face.Ref, photo string) string {
	t.Helper()
	return must[string](t)(r.AddFace(t.Context(), r.res, list, face.Enrolment{Photo: []byte(photo)}))
}
