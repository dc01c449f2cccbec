package face_test

import (
	"errors"
	"testing"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/face"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/vision"
	"github.com/visage-face/visage/vision/pack"
)

// calibratedFake is a fake that says what its confidences stand for.
type calibratedFake struct{ fake }

// Calibration returns one with a single meaning.
func (calibratedFake) Calibration() *vision.Calibration {
	return &vision.Calibration{Pairs: 100_000, People: 100, Method: "made up", Rates: []pack.Rate{
		{Distance: 0.2, FalseAccepts: 1e-4}, {Distance: 0.6, FalseAccepts: 1e-2},
	}}
}

func shown(photo string) face.Shown { return face.Shown{Photo: []byte(photo)} }

// TestPhotosAreCompared: as the faces that Detect keeps would be.
func TestPhotosAreCompared(t *testing.T) {
	r := newService(t)
	for _, tt := range []struct {
		first, second string
		same          bool
	}{{"ann.1", "ann.2", true}, {"ann.1", "ben", false}, {"ann.1 ben", "ann.2 cleo", true}} {
		got := must[face.Comparison](t)(r.ComparePhotos(t.Context(), r.res, shown(tt.first), shown(tt.second), ""))
		q := face.VerifyQuery{FaceID1: r.detect(t, tt.first)[0], FaceID2: r.detect(t, tt.second)[0]}
		want := must[face.Verdict](t)(r.Verify(t.Context(), r.res, q))
		if got.Verdict != want || got.Identical != tt.same || got.First.Width != 100 || got.Calibration != nil {
			t.Errorf("%s and %s: %+v, want %+v", tt.first, tt.second, got, want)
		}
	}
	second := face.Shown{Photo: []byte("ann.2 ben"), TargetFace: &face.Box{Left: 100, Top: 100, Width: 90, Height: 90}}
	got := must[face.Comparison](t)(r.ComparePhotos(t.Context(), r.res, shown("ben.1"), second, "recognition_04"))
	if !got.Identical || got.Second.Left != 100 {
		t.Errorf("with the second face of the second photo: %+v", got)
	}
	for photo, code := range map[string]string{
		"": "InvalidImage", "?ann": "InvalidImage", "!format": "InvalidImage", "!large": "InvalidImageSize",
	} {
		_, err := r.ComparePhotos(t.Context(), r.res, shown("ann"), shown(photo), "")
		wantRefusal(t, err, visage.Invalid, code)
	}
	_, err := r.ComparePhotos(t.Context(), r.res, shown("ann"), shown("ann"), "recognition_99")
	wantRefusal(t, err, visage.Invalid, "BadArgument")
	for _, target := range []face.Box{{Left: -1, Width: 1, Height: 1}, {Left: 900, Width: 200, Height: 20}} {
		_, err := r.ComparePhotos(t.Context(), r.res, face.Shown{Photo: []byte("ann"), TargetFace: &target},
			shown("ann"), "")
		wantRefusal(t, err, visage.Invalid, "BadArgument")
	}
}

// TestPhotosLeadToPersonsAndFaces: searches by a photo find what searches by the faces of the photo find, store
// nothing, and say what a confidence stands for.
func TestPhotosLeadToPersonsAndFaces(t *testing.T) {
	running(t, func(t *testing.T, r *service) {
		ctx := t.Context()
		group := r.create(t, face.LargePersonGroup, "g")
		small, large := r.create(t, face.FaceList, "l"), r.create(t, face.LargeFaceList, "ll")
		ann, ben := r.enrol(t, group, "Ann", "ann"), r.enrol(t, group, "Ben", "ben")
		annListed := r.addListed(t, small, "ann")
		r.addListed(t, large, "ann")
		identify := face.IdentifyQuery{LargePersonGroupID: "g", MaxCandidates: 5}
		_, err := r.IdentifyPhoto(ctx, r.res, []byte("ann"), identify)
		wantRefusal(t, err, visage.Invalid, "LargePersonGroupNotTrained")
		_, err = r.FindSimilarPhoto(ctx, r.res, shown("ann"), face.SimilarQuery{LargeFaceListID: "ll"})
		wantRefusal(t, err, visage.Invalid, "LargeFaceListNotTrained")
		r.train(t, group)
		r.train(t, large)
		before := r.rows(t, group, small, large)

		seen := must[face.SeenFaces](t)(r.IdentifyPhoto(ctx, r.res, []byte("ann.1 ?blur ben.1 eve"), identify)).Faces
		if len(seen) != 4 || len(seen[0].Candidates) != 1 || seen[0].Candidates[0].PersonID != ann.ID ||
			seen[1].Candidates != nil || seen[2].Candidates[0].PersonID != ben.ID ||
			seen[3].Candidates == nil || len(seen[3].Candidates) != 0 || seen[2].Box.Left != 200 {
			t.Errorf("identified: %+v", seen)
		}
		if got := must[face.SeenFaces](t)(r.IdentifyPhoto(ctx, r.res, nil, identify)); len(got.Faces) != 0 {
			t.Errorf("on an empty photo: %+v", got)
		}
		many := []byte("a b c d e f g h i j k")
		if got := must[face.SeenFaces](t)(r.IdentifyPhoto(ctx, r.res, many, identify)); len(got.Faces) != 10 {
			t.Errorf("of eleven faces %d were searched", len(got.Faces))
		}
		for _, q := range []face.SimilarQuery{{FaceListID: "l"}, {LargeFaceListID: "ll"}} {
			got := must[face.SimilarFaces](t)(r.FindSimilarPhoto(ctx, r.res, shown("ann.1"), q))
			if len(got.Found) != 1 || got.Found[0].Confidence < 0.5 || got.Box.Width != 100 ||
				q.FaceListID != "" && got.Found[0].PersistedFaceID != annListed {
				t.Errorf("similar: %+v", got)
			}
			if got := must[face.SimilarFaces](t)(r.FindSimilarPhoto(ctx, r.res, shown("eve"), q)); len(got.Found) != 0 {
				t.Errorf("similar to a stranger: %+v", got)
			}
			q.Mode = face.MatchFace
			if got := must[face.SimilarFaces](t)(r.FindSimilarPhoto(ctx, r.res, shown("eve"), q)); len(got.Found) != 1 {
				t.Errorf("nearest to a stranger: %+v", got)
			}
		}
		if after := r.rows(t, group, small, large); after != before {
			t.Errorf("%d rows, %d before the searches", after, before)
		}

		for _, q := range []face.IdentifyQuery{
			{LargePersonGroupID: "g"}, {LargePersonGroupID: "g", MaxCandidates: 101}, {MaxCandidates: 1},
		} {
			if _, err := r.IdentifyPhoto(ctx, r.res, []byte("ann"), q); err == nil {
				t.Errorf("%+v is searched", q)
			}
		}
		q := face.SimilarQuery{FaceIDs: []string{unknownID}}
		if _, err := r.FindSimilarPhoto(ctx, r.res, shown("ann"), q); err == nil {
			t.Error("detected faces are searched")
		}
		_, err = r.IdentifyPhoto(ctx, r.res, []byte("!broken"), identify)
		wantRefusal(t, err, visage.Invalid, "InvalidImage")
	})
}

// rows counts the records of detected faces and collections.
func (r *service) rows(t *testing.T, refs ...face.Ref) int {
	t.Helper()
	var of []string
	for _, ref := range refs {
		of = append(of, must[string](t)(r.Incarnation(t.Context(), r.res, ref)))
	}
	detected, stored, waiting, err := r.Records(t.Context(), r.res, of)
	mustDo(t, err)
	if detected != 0 {
		t.Errorf("%d detected faces are stored", detected)
	}
	return stored + waiting
}

// TestPhotosOfLockedResourcesAreNotLookedAt: whatever the photos are, and also where nothing stored is compared.
func TestPhotosOfLockedResourcesAreNotLookedAt(t *testing.T) {
	running(t, func(t *testing.T, r *service) {
		ctx := t.Context()
		group := r.create(t, face.PersonGroup, "g")
		r.create(t, face.FaceList, "l")
		r.enrol(t, group, "Ann", "ann")
		r.train(t, group)
		r.model.want = func(vision.Want) { t.Error("a photo was looked at") }
		r.store.Bundle(sealed.SpaceID(r.res.ID)).Lock(errors.New("the customer said no"))
		_, err := r.ComparePhotos(ctx, r.res, shown("ann"), shown("ann"), "")
		wantRefusal(t, err, visage.KeyRevoked, "EncryptionKeyRevoked")
		_, err = r.IdentifyPhoto(ctx, r.res, []byte("ann"), face.IdentifyQuery{PersonGroupID: "g", MaxCandidates: 1})
		wantRefusal(t, err, visage.KeyRevoked, "EncryptionKeyRevoked")
		_, err = r.FindSimilarPhoto(ctx, r.res, shown("ann"), face.SimilarQuery{FaceListID: "l"})
		wantRefusal(t, err, visage.KeyRevoked, "EncryptionKeyRevoked")
	})
}

func TestConfidencesAreExplained(t *testing.T) {
	made := &calibratedFake{fake{name: "fake", supports: measurable}}
	r := newServiceServing(t, newStore(t), 0, map[string]face.Recogniser{face.DefaultRecognitionModel: made}, nil)
	got := must[face.Comparison](t)(r.ComparePhotos(t.Context(), r.res, shown("ann"), shown("ann.1"), ""))
	if got.Calibration == nil {
		t.Fatal("no calibration")
	}
	if worst, _ := got.Calibration.FalseAcceptsAt(got.Confidence); worst.OneIn() != 10_000 || !worst.AtMost {
		t.Errorf("a confidence of %g is one stranger in %d", got.Confidence, worst.OneIn())
	}
	if all := r.Calibrations(); len(all) != 1 || all["fake"].Pairs != 100_000 {
		t.Errorf("calibrations: %v", all)
	}
}
