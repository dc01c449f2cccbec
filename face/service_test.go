package face_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/face"
	"github.com/visage-face/visage/sealed"
)

// service is a Face service with the store, resource and recogniser that it was made with.
type service struct {
	*face.Service
	res   visage.Resource
	store *sealed.Store
	model *fake
}

// newService makes a service on a store in memory, for one resource of tier S0.
func newService(t testing.TB) *service {
	t.Helper()
	return newServiceOn(t, newStore(t), 0)
}

// newServiceOn makes a service on a store. Several on one store behave like one process after the other.
func newServiceOn(t testing.TB, store *sealed.Store, galleryBytes int64) *service {
	t.Helper()
	return newServiceWith(t, store, galleryBytes, &fake{name: "fake", supports: measurable}, nil)
}

// newAuditedService makes a service with a recorder of its audit events.
func newAuditedService(t testing.TB, auditor audit.Recorder) *service {
	t.Helper()
	return newServiceWith(t, newStore(t), 0, &fake{name: "fake", supports: measurable}, auditor)
}

func newServiceWith(
	t testing.TB, store *sealed.Store, galleryBytes int64, model *fake, auditor audit.Recorder, others ...*fake,
) *service {
	t.Helper()
	models := map[string]face.Recogniser{
		"recognition_01": model, "recognition_02": model, "recognition_03": model, "recognition_04": model,
	}
	r := newServiceServing(t, store, galleryBytes, models, auditor, others...)
	r.model = model
	return r
}

// newServiceServing makes a service whose models are served by several packs.
func newServiceServing(
	t testing.TB, store *sealed.Store, galleryBytes int64, models map[string]face.Recogniser, auditor audit.Recorder,
	others ...*fake,
) *service {
	t.Helper()
	r := &service{
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
func (r *service) detect(t testing.TB, photo string) []string {
	t.Helper()
	return r.detectAs(t, photo, "")
}

func (r *service) detectAs(t testing.TB, photo, model string) []string {
	t.Helper()
	q := face.DetectQuery{ReturnFaceID: true, RecognitionModel: model}
	var ids []string
	for _, f := range must[[]face.Face](t)(r.Detect(t.Context(), r.res, []byte(photo), q)) {
		ids = append(ids, f.ID)
	}
	return ids
}

// create makes a list or group.
func (r *service) create(t testing.TB, kind face.Kind, id string) face.Ref {
	t.Helper()
	ref := face.Ref{Kind: kind, ID: id}
	mustDo(t, r.Create(t.Context(), r.res, ref, face.Creation{Name: "name of " + id}))
	return ref
}

// enrol adds a person with the faces of some photos to a group.
func (r *service) enrol(t testing.TB, group face.Ref, name string, photos ...string) face.PersonRef {
	t.Helper()
	ref := face.PersonRef{Group: group, ID: must[string](t)(r.CreatePerson(t.Context(), r.res, group, name, nil))}
	for _, photo := range photos {
		r.addFace(t, ref, photo)
	}
	return ref
}

func (r *service) addFace(t testing.TB, person face.PersonRef, photo string) string {
	t.Helper()
	return must[string](t)(r.AddPersonFace(t.Context(), r.res, person, face.Enrolment{Photo: []byte(photo)}))
}

func (r *service) addListed(t testing.TB, list face.Ref, photo string) string {
	t.Helper()
	return must[string](t)(r.AddFace(t.Context(), r.res, list, face.Enrolment{Photo: []byte(photo)}))
}
