package face_test

import (
	"cmp"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/face"
)

func TestFindSimilarAmongDetectedFaces(t *testing.T) {
	r := newService(t)
	ids := r.detect(t, "ann ann.1 bob ann.3 eve")
	q := face.SimilarQuery{FaceID: ids[0], FaceIDs: append(ids[1:], ids[1])}
	got := must[[]face.Similar](t)(r.FindSimilar(t.Context(), r.res, q))
	if len(got) != 2 || got[0].FaceID != ids[1] || got[1].FaceID != ids[3] || got[0].PersistedFaceID != "" {
		t.Errorf("matchPerson: %v, want Ann's two other faces, the nearer first, each once", got)
	}
	q.Mode = face.MatchFace
	got = must[[]face.Similar](t)(r.FindSimilar(t.Context(), r.res, q))
	if len(got) != 4 || !slices.IsSortedFunc(got, func(a, b face.Similar) int {
		return cmp.Compare(b.Confidence, a.Confidence)
	}) {
		t.Errorf("matchFace: %v, want all, best first", got)
	}
	q.MaxCandidates = ptr(1)
	if got := must[[]face.Similar](t)(r.FindSimilar(t.Context(), r.res, q)); len(got) != 1 || got[0].FaceID != ids[1] {
		t.Errorf("one candidate: %v", got)
	}
	q = face.SimilarQuery{FaceID: ids[4], FaceIDs: ids[:4]}
	if got, err := r.FindSimilar(t.Context(), r.res, q); err != nil || got == nil || len(got) != 0 {
		t.Errorf("nobody alike: %v, %v; want an empty list", got, err)
	}
}

func TestFaceListsAreSearchedAsTheyAre(t *testing.T) {
	r := newService(t)
	list := r.create(t, face.FaceList, "l")
	ann := r.addListed(t, list, "ann.1")
	q := face.SimilarQuery{FaceID: r.detect(t, "ann")[0], FaceListID: "l"}
	find := func() (ids []string) {
		for _, f := range must[[]face.Similar](t)(r.FindSimilar(t.Context(), r.res, q)) {
			if f.FaceID != "" {
				t.Errorf("%+v has a face id too", f)
			}
			ids = append(ids, f.PersistedFaceID)
		}
		return ids
	}
	if got := find(); !slices.Equal(got, []string{ann}) {
		t.Errorf("got %v, want the one face", got)
	}
	second := r.addListed(t, list, "ann")
	if got := find(); !slices.Equal(got, []string{second, ann}) {
		t.Errorf("after an addition: %v, want the new face first", got)
	}
	again := r.addListed(t, list, "ann")
	if got := find(); !slices.Equal(got, []string{second, again, ann}) {
		t.Errorf("the same photo twice: %v, want the earlier first", got)
	}
	mustDo(t, r.DeleteFace(t.Context(), r.res, list, second))
	if got := find(); !slices.Equal(got, []string{again, ann}) {
		t.Errorf("after a deletion: %v", got)
	}
}

func TestLargeFaceListsAreSearchedAsTrained(t *testing.T) {
	running(t, func(t *testing.T, r *service) {
		list := r.create(t, face.LargeFaceList, "l")
		ann := r.addListed(t, list, "ann")
		r.addListed(t, list, "bob")
		r.train(t, list)
		r.addListed(t, list, "ann.1")
		q := face.SimilarQuery{FaceID: r.detect(t, "ann")[0], LargeFaceListID: "l"}
		got := must[[]face.Similar](t)(r.FindSimilar(t.Context(), r.res, q))
		if len(got) != 1 || got[0].PersistedFaceID != ann {
			t.Errorf("got %v, want the face that was trained", got)
		}
		r.train(t, list)
		if got := must[[]face.Similar](t)(r.FindSimilar(t.Context(), r.res, q)); len(got) != 2 {
			t.Errorf("after another training: %v, want both", got)
		}
		mustDo(t, r.DeleteFace(t.Context(), r.res, list, ann))
		if got := must[[]face.Similar](t)(r.FindSimilar(t.Context(), r.res, q)); len(got) != 1 {
			t.Errorf("after a deletion: %v, want the other", got)
		}
	})
}

func TestFindSimilarRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newService(t) // without Run: a requested training stays pending
		ids := r.detect(t, "ann bob")
		model3 := r.detectAs(t, "ann", "recognition_03")[0]
		small := r.create(t, face.FaceList, "small")
		r.addListed(t, small, "ann")
		r.create(t, face.FaceList, "empty")
		r.create(t, face.LargeFaceList, "untrained")
		training := r.create(t, face.LargeFaceList, "training")
		r.addListed(t, training, "ann")
		mustDo(t, r.Train(t.Context(), r.res, training))
		thousand := make([]string, 1001)
		for i := range thousand {
			thousand[i] = ids[1]
		}
		for _, tt := range []struct {
			name  string
			query face.SimilarQuery
			kind  visage.Kind
			code  string
		}{
			{"no source", face.SimilarQuery{FaceID: ids[0]}, visage.Invalid, "BadArgument"},
			{"two sources", face.SimilarQuery{FaceID: ids[0], FaceIDs: ids, FaceListID: "small"}, visage.Invalid,
				"BadArgument"},
			{"two lists", face.SimilarQuery{FaceID: ids[0], FaceListID: "small", LargeFaceListID: "untrained"},
				visage.Invalid, "BadArgument"},
			{"no candidates", face.SimilarQuery{FaceID: ids[0], FaceIDs: []string{}}, visage.Invalid, "BadArgument"},
			{"1001 candidates", face.SimilarQuery{FaceID: ids[0], FaceIDs: thousand}, visage.Invalid, "BadArgument"},
			{"malformed candidate", face.SimilarQuery{FaceID: ids[0], FaceIDs: []string{"x"}}, visage.Invalid,
				"BadArgument"},
			{"no face", face.SimilarQuery{FaceIDs: ids}, visage.Invalid, "BadArgument"},
			{"malformed face", face.SimilarQuery{FaceID: "x", FaceIDs: ids}, visage.Invalid, "BadArgument"},
			{"malformed list", face.SimilarQuery{FaceID: ids[0], FaceListID: "Small"}, visage.Invalid, "BadArgument"},
			{"bad mode", face.SimilarQuery{FaceID: ids[0], FaceIDs: ids, Mode: "matchperson"}, visage.Invalid,
				"BadArgument"},
			{"none wanted", face.SimilarQuery{FaceID: ids[0], FaceIDs: ids, MaxCandidates: ptr(0)}, visage.Invalid,
				"BadArgument"},
			{"1001 wanted", face.SimilarQuery{FaceID: ids[0], FaceIDs: ids, MaxCandidates: ptr(1001)},
				visage.Invalid, "BadArgument"},
			{"other model", face.SimilarQuery{FaceID: model3, FaceIDs: ids}, visage.Invalid, "BadArgument"},
			{"other model than the list", face.SimilarQuery{FaceID: model3, FaceListID: "small"}, visage.Invalid,
				"BadArgument"},
			{"unknown face", face.SimilarQuery{FaceID: unknownID, FaceIDs: ids}, visage.Invalid, "FaceNotFound"},
			{"unknown candidate", face.SimilarQuery{FaceID: ids[0], FaceIDs: []string{unknownID}}, visage.Invalid,
				"FaceNotFound"},
			{"unknown list", face.SimilarQuery{FaceID: ids[0], FaceListID: "x"}, visage.Invalid, "FaceListNotFound"},
			{"unknown large list", face.SimilarQuery{FaceID: ids[0], LargeFaceListID: "small"},
				visage.Invalid, "LargeFaceListNotFound"},
			{"empty list", face.SimilarQuery{FaceID: ids[0], FaceListID: "empty"}, visage.Invalid, "FaceListNotReady"},
			{"untrained", face.SimilarQuery{FaceID: ids[0], LargeFaceListID: "untrained"},
				visage.Invalid, "LargeFaceListNotTrained"},
			{"in training", face.SimilarQuery{FaceID: ids[0], LargeFaceListID: "training"},
				visage.Conflict, "LargeFaceListTrainingNotFinished"},
		} {
			_, err := r.FindSimilar(t.Context(), r.res, tt.query)
			if wantRefusal(t, err, tt.kind, tt.code); t.Failed() {
				t.Fatalf("in case %q", tt.name)
			}
		}
		at := face.SimilarQuery{FaceID: ids[0], FaceIDs: thousand[:1000], MaxCandidates: ptr(1000)}
		if _, err := r.FindSimilar(t.Context(), r.res, at); err != nil {
			t.Errorf("everything at its limit: %v", err)
		}
	})
}
