package face_test

import (
	"errors"
	"testing"

	"github.com/visage-face/visage/face"
)

// TestPhotosAreRefusedForAReason: programs learn why a photo was refused, and clients get the refusals that they know.
func TestPhotosAreRefusedForAReason(t *testing.T) {
	r := newService(t)
	ref := face.PersonRef{Group: r.create(t, face.PersonGroup, "g")}
	ref.ID = must[string](t)(r.CreatePerson(t.Context(), r.res, ref.Group, "Ann", nil))
	for photo, want := range map[string]face.PhotoFault{
		"": face.NoFace, "ann ben": face.SeveralFaces, "?ann": face.LowQuality, "!format": face.NotAPicture,
		"!large": face.TooManyPixels,
	} {
		_, err := r.AddPersonFace(t.Context(), r.res, ref, face.Enrolment{Photo: []byte(photo)})
		if got := face.FaultOf(err); got != want {
			t.Errorf("%q: %q (%v), want %q", photo, got, err, want)
		}
	}
	if got := face.FaultOf(errors.New("something else")); got != "" {
		t.Errorf("an error that is about no photo: %q", got)
	}
}

// TestModelsSayWhatTheyGive: every attribute that a model names can be had with it.
func TestModelsSayWhatTheyGive(t *testing.T) {
	r := newService(t)
	for _, model := range r.Models() {
		for _, detector := range []string{"", "detection_02", "detection_03"} {
			names := must[[]string](t)(r.Attributes(model, detector))
			if len(names) == 0 && detector != "detection_02" {
				t.Errorf("%s with %q gives nothing", model, detector)
			}
			q := face.DetectQuery{RecognitionModel: model, DetectionModel: detector, Attributes: names}
			must[[]face.Face](t)(r.Detect(t.Context(), r.res, []byte("ann"), q))
		}
	}
}

// TestErasedGroupIsCounted: the erasure of a group says what was in it.
func TestErasedGroupIsCounted(t *testing.T) {
	r := newService(t)
	group := r.create(t, face.PersonGroup, "g")
	r.enrol(t, group, "Ann", "ann.1", "ann.2")
	done := must[face.Erasure](t)(r.Erase(t.Context(), r.res, group))
	if done.Persons != 1 || done.Faces != 2 || done.Epoch == 0 || done.At.IsZero() {
		t.Errorf("erased: %+v", done)
	}
}

// TestPersonIsEnrolledWhole: a person is added with a face, or not at all.
func TestPersonIsEnrolledWhole(t *testing.T) {
	r := newService(t)
	group := r.create(t, face.PersonGroup, "g")
	id := must[string](t)(r.EnrolPerson(t.Context(), r.res, group, "Ann", face.Enrolment{Photo: []byte("ann")}))
	d := must[face.PersonDetails](t)(r.PersonDetails(t.Context(), r.res, face.PersonRef{Group: group, ID: id}))
	if d.Name != "Ann" || len(d.Faces) != 1 {
		t.Errorf("enrolled: %+v", d)
	}
	for name, photo := range map[string]string{"Nobody": "", "": "ann", "Two": "ann ben"} {
		if _, err := r.EnrolPerson(t.Context(), r.res, group, name, face.Enrolment{Photo: []byte(photo)}); err == nil {
			t.Errorf("%q with the photo %q was enrolled", name, photo)
		}
	}
	sum := must[face.Summary](t)(r.Summary(t.Context(), r.res, group))
	if sum.Persons != 1 || sum.Faces != 1 {
		t.Errorf("counts: %+v", sum)
	}
	found := must[face.PersonsFound](t)(r.FindPersons(t.Context(), r.res, group, face.PersonQuery{Text: "ann"}))
	if len(found.Persons) != 1 {
		t.Errorf("found by name: %+v", found)
	}
}
