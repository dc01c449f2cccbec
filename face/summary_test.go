package face_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/face"
	"github.com/visage-face/visage/sealed"
)

// TestSummariesCount: what a group or list says of itself is what is in it, whatever came and went.
func TestSummariesCount(t *testing.T) {
	forAllKinds(t, func(t *testing.T, r *service, kind face.Kind) {
		ctx := t.Context()
		ref := r.create(t, kind, "b")
		r.create(t, kind, "a")
		check := func(when string, persons, faces int) face.Summary {
			t.Helper()
			sum := must[face.Summary](t)(r.Summary(ctx, r.res, ref))
			if sum.ID != "b" || sum.Name != "name of b" || sum.Persons != persons || sum.Faces != faces {
				t.Errorf("%s: %+v, want %d persons and %d faces", when, sum, persons, faces)
			}
			return sum
		}
		check("at first", 0, 0)
		if kind == face.PersonGroup || kind == face.LargePersonGroup {
			ann := r.enrol(t, ref, "Ann", "ann", "ann.1")
			r.enrol(t, ref, "Ben", "ben")
			check("with two persons", 2, 3)
			mustDo(t, r.DeletePersonFace(ctx, r.res, ann, r.addFace(t, ann, "ann.2")))
			mustDo(t, r.DeletePerson(ctx, r.res, ann))
			check("with one person less", 1, 1)
		} else {
			r.addListed(t, ref, "ann")
			mustDo(t, r.DeleteFace(ctx, r.res, ref, r.addListed(t, ref, "ben")))
			check("with a face less", 0, 1)
		}
		all := must[[]face.Summary](t)(r.Summaries(ctx, r.res, kind, face.Page{}))
		if len(all) != 2 || all[0].ID != "a" || all[1].ID != "b" || all[0].Faces != 0 || all[1].Faces != 1 {
			t.Errorf("summaries: %+v", all)
		}
		next := must[[]face.Summary](t)(r.Summaries(ctx, r.res, kind, face.Page{Start: "a", Top: ptr(1)}))
		if len(next) != 1 || next[0].ID != "b" {
			t.Errorf("the page after a: %+v", next)
		}
		_, err := r.Summary(ctx, r.res, face.Ref{Kind: kind, ID: "c"})
		wantRefusal(t, err, visage.NotFound, kind.String()+"NotFound")
	})
}

func TestSummariesTellOfTrainings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newService(t)
		defer r.run(t)()
		group := r.create(t, face.LargePersonGroup, "g")
		ann := r.enrol(t, group, "Ann", "ann")
		summary := func() face.Summary { return must[face.Summary](t)(r.Summary(t.Context(), r.res, group)) }
		if sum := summary(); sum.Training != (face.Training{}) || !sum.Outdated {
			t.Errorf("before the first training: %+v", sum)
		}
		r.train(t, group)
		if sum := summary(); sum.Training.Status != face.Succeeded || sum.Outdated || sum.Progress != nil {
			t.Errorf("trained: %+v", sum)
		}
		r.addFace(t, ann, "ann.1")
		if sum := summary(); !sum.Outdated {
			t.Errorf("with a face that was not trained: %+v", sum)
		}
		list := r.create(t, face.FaceList, "l")
		r.addListed(t, list, "ann")
		if sum := must[face.Summary](t)(r.Summary(t.Context(), r.res, list)); sum.Outdated {
			t.Errorf("a small list, which is searched as it is: %+v", sum)
		}
	})
}

func TestSummariesTellHowFarATrainingIs(t *testing.T) {
	r := newService(t) // without Run: the training waits
	group := r.create(t, face.PersonGroup, "g")
	r.enrol(t, group, "Ann", "ann")
	during := func() {
		sum := must[face.Summary](t)(r.Summary(t.Context(), r.res, group))
		if sum.Training.Status != face.NotStarted || sum.Progress == nil || *sum.Progress != (face.Progress{Of: 17}) {
			t.Errorf("during a training: %+v, %+v", sum, sum.Progress)
		}
	}
	mustDo(t, r.Train(t.Context(), r.res, group))
	mustDo(t, r.DuringTraining(t.Context(), r.res, group, 17, during))
	if sum := must[face.Summary](t)(r.Summary(t.Context(), r.res, group)); sum.Progress != nil {
		t.Errorf("when no faces are read: %+v", sum.Progress)
	}
}

// TestEnrolledCounts: persons and faces of all groups and lists, without the faces of too many.
func TestEnrolledCounts(t *testing.T) {
	r := newService(t)
	check := func(want face.Enrolled) {
		t.Helper()
		if got := must[face.Enrolled](t)(r.Enrolled(t.Context(), r.res)); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	check(face.Enrolled{Counted: true})
	group, list := r.create(t, face.LargePersonGroup, "g"), r.create(t, face.FaceList, "l")
	ann := r.enrol(t, group, "Ann", "ann", "ann.1")
	r.enrol(t, r.create(t, face.PersonGroup, "g"), "Ben", "ben")
	r.addListed(t, list, "cleo")
	check(face.Enrolled{Persons: 2, Faces: 4, Counted: true})
	mustDo(t, r.DeletePerson(t.Context(), r.res, ann))
	mustDo(t, r.Delete(t.Context(), r.res, list))
	check(face.Enrolled{Persons: 1, Faces: 1, Counted: true})
	for i := range 62 {
		r.create(t, face.PersonGroup, fmt.Sprint("group-", i))
	}
	check(face.Enrolled{Persons: 1, Faces: 1, Counted: true})
	r.create(t, face.LargeFaceList, "more")
	check(face.Enrolled{Persons: 1})
	r.store.Bundle(sealed.SpaceID(r.res.ID)).Lock(errors.New("the customer said no"))
	_, err := r.Enrolled(t.Context(), r.res)
	wantRefusal(t, err, visage.KeyRevoked, "EncryptionKeyRevoked")
}

func TestUsageCountsAgainstQuotas(t *testing.T) {
	r := newService(t)
	group := r.create(t, face.LargePersonGroup, "g")
	r.create(t, face.FaceList, "l")
	r.enrol(t, group, "Ann")
	limits := r.res.Tier.Limits()
	want := map[face.Kind]face.Usage{
		face.FaceList:      {Collections: 1, MostCollections: limits.FaceLists},
		face.LargeFaceList: {MostCollections: limits.LargeFaceLists},
		face.PersonGroup:   {MostCollections: limits.PersonGroups, MostPersons: limits.PersonsInPersonGroups},
		face.LargePersonGroup: {Collections: 1, MostCollections: limits.LargePersonGroups, Persons: 1,
			MostPersons: limits.PersonsInLargeOnes},
	}
	all := must[[]face.Usage](t)(r.Usage(t.Context(), r.res))
	if len(all) != len(want) {
		t.Errorf("%d kinds", len(all))
	}
	for _, u := range all {
		w := want[u.Kind]
		if w.Kind = u.Kind; u != w {
			t.Errorf("%s: %+v, want %+v", u.Kind, u, w)
		}
	}
}
