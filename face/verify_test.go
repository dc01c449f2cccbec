package face_test

import (
	"testing"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/face"
)

const unknownID = "00000000-0000-4000-8000-000000000000"

func TestVerifyFaces(t *testing.T) {
	r := newService(t)
	ids := r.detect(t, "ann ann.2 bob")
	same := must[face.Verdict](t)(r.Verify(t.Context(), r.res, face.VerifyQuery{FaceID1: ids[0], FaceID2: ids[1]}))
	if !same.Identical || same.Confidence < 0.5 || same.Confidence >= 1 {
		t.Errorf("two photos of one person: %+v", same)
	}
	other := must[face.Verdict](t)(r.Verify(t.Context(), r.res, face.VerifyQuery{FaceID1: ids[0], FaceID2: ids[2]}))
	if other.Identical || other.Confidence >= 0.5 || other.Confidence < 0 {
		t.Errorf("two persons: %+v", other)
	}
	self := must[face.Verdict](t)(r.Verify(t.Context(), r.res, face.VerifyQuery{FaceID1: ids[0], FaceID2: ids[0]}))
	if !self.Identical || self.Confidence < 0.99999 {
		t.Errorf("a face with itself: %+v", self)
	}
}

func TestVerifyPersonNeedsNoTrainingAndTakesTheBestFace(t *testing.T) {
	for _, kind := range groupKinds {
		r := newService(t)
		group := r.create(t, kind, "g")
		ann := r.enrol(t, group, "Ann", "bob", "ann", "ann.9")
		q := face.VerifyQuery{FaceID: r.detect(t, "ann")[0], PersonID: ann.ID}
		if q.LargePersonGroupID = group.ID; kind == face.PersonGroup {
			q.PersonGroupID, q.LargePersonGroupID = group.ID, ""
		}
		if got := must[face.Verdict](t)(r.Verify(t.Context(), r.res, q)); !got.Identical || got.Confidence < 0.99999 {
			t.Errorf("%v: %+v, want the best of the three", kind, got)
		}
	}
}

func TestVerifyRefuses(t *testing.T) {
	r := newService(t)
	ids := r.detect(t, "ann bob")
	model3 := r.detectAs(t, "ann", "recognition_03")[0]
	group := r.create(t, face.PersonGroup, "g")
	ann, empty := r.enrol(t, group, "Ann", "ann"), r.enrol(t, group, "Empty")
	r.create(t, face.LargePersonGroup, "h")
	for _, tt := range []struct {
		name  string
		query face.VerifyQuery
		kind  visage.Kind
		code  string
	}{
		{"nothing given", face.VerifyQuery{}, visage.Invalid, "BadArgument"},
		{"one face", face.VerifyQuery{FaceID1: ids[0]}, visage.Invalid, "BadArgument"},
		{"malformed face", face.VerifyQuery{FaceID1: ids[0], FaceID2: "x"}, visage.Invalid, "BadArgument"},
		{"both forms", face.VerifyQuery{FaceID1: ids[0], FaceID2: ids[1], FaceID: ids[0], PersonID: ann.ID},
			visage.Invalid, "BadArgument"},
		{"unknown face", face.VerifyQuery{FaceID1: ids[0], FaceID2: unknownID}, visage.NotFound, "FaceNotFound"},
		{"other model", face.VerifyQuery{FaceID1: ids[0], FaceID2: model3}, visage.Invalid, "BadArgument"},
		{"no face", face.VerifyQuery{PersonID: ann.ID, PersonGroupID: "g"}, visage.Invalid, "BadArgument"},
		{"no person", face.VerifyQuery{FaceID: ids[0], PersonGroupID: "g"}, visage.Invalid, "BadArgument"},
		{"malformed person", face.VerifyQuery{FaceID: ids[0], PersonID: "ann", PersonGroupID: "g"}, visage.Invalid,
			"BadArgument"},
		{"malformed group", face.VerifyQuery{FaceID: ids[0], PersonID: ann.ID, PersonGroupID: "G!"}, visage.Invalid,
			"BadArgument"},
		{"two groups", face.VerifyQuery{FaceID: ids[0], PersonID: ann.ID, PersonGroupID: "g", LargePersonGroupID: "h"},
			visage.Invalid, "BadArgument"},
		{"unknown group", face.VerifyQuery{FaceID: ids[0], PersonID: ann.ID, PersonGroupID: "x"},
			visage.Invalid, "PersonGroupNotFound"},
		{"unknown large group", face.VerifyQuery{FaceID: ids[0], PersonID: ann.ID, LargePersonGroupID: "x"},
			visage.Invalid, "LargePersonGroupNotFound"},
		{"group of the other kind", face.VerifyQuery{FaceID: ids[0], PersonID: ann.ID, LargePersonGroupID: "g"},
			visage.Invalid, "LargePersonGroupNotFound"},
		{"unknown person", face.VerifyQuery{FaceID: ids[0], PersonID: unknownID, PersonGroupID: "g"},
			visage.Invalid, "PersonNotFound"},
		{"person of another group", face.VerifyQuery{FaceID: ids[0], PersonID: ann.ID, LargePersonGroupID: "h"},
			visage.Invalid, "PersonNotFound"},
		{"unknown face and person", face.VerifyQuery{FaceID: unknownID, PersonID: ann.ID, PersonGroupID: "g"},
			visage.NotFound, "FaceNotFound"},
		{"model of the group differs", face.VerifyQuery{FaceID: model3, PersonID: ann.ID, PersonGroupID: "g"},
			visage.Invalid, "BadArgument"},
		{"person without a face", face.VerifyQuery{FaceID: ids[0], PersonID: empty.ID, PersonGroupID: "g"},
			visage.NotFound, "PersistedFaceNotFound"},
		{"directory", face.VerifyQuery{FaceID: ids[0], PersonID: ann.ID}, visage.NotFound, "PersonNotFound"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := r.Verify(t.Context(), r.res, tt.query)
			wantRefusal(t, err, tt.kind, tt.code)
		})
	}
}
