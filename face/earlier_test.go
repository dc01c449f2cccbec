package face_test

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/face"
	"github.com/visage-face/visage/gallery"
	"github.com/visage-face/visage/sealed"
)

// answers are the answers of a service about two detected faces, "ann.1" and "ben.1", in a collection with ann and ben.
type answers struct {
	Found    []string  // whom each is taken for
	Likeness []float64 // how much
	Verified []float64 // in a group: how much each is like either person
	Same     float64   // how much the two are alike
	Nearest  []face.Similar
	Groups   face.Grouping
}

func (r *service) answers(t testing.TB, ref face.Ref, probes, people []string) (a answers) {
	t.Helper()
	ctx := t.Context()
	if ref.Kind == face.PersonGroup || ref.Kind == face.LargePersonGroup {
		identify, verify := face.IdentifyQuery{FaceIDs: probes, MaxCandidates: 1, PersonGroupID: ref.ID},
			face.VerifyQuery{PersonGroupID: ref.ID}
		if ref.Kind == face.LargePersonGroup {
			identify.PersonGroupID, identify.LargePersonGroupID = "", ref.ID
			verify.PersonGroupID, verify.LargePersonGroupID = "", ref.ID
		}
		for _, got := range must[[]face.Identified](t)(r.Identify(ctx, r.res, identify)) {
			for _, c := range got.Candidates {
				a.Found, a.Likeness = append(a.Found, c.PersonID), append(a.Likeness, c.Confidence)
			}
		}
		for _, verify.FaceID = range probes {
			for _, verify.PersonID = range people {
				a.Verified = append(a.Verified, must[face.Verdict](t)(r.Verify(ctx, r.res, verify)).Confidence)
			}
		}
	} else {
		q := face.SimilarQuery{FaceListID: ref.ID, MaxCandidates: ptr(1)}
		if ref.Kind == face.LargeFaceList {
			q.FaceListID, q.LargeFaceListID = "", ref.ID
		}
		for _, q.FaceID = range probes {
			for _, s := range must[[]face.Similar](t)(r.FindSimilar(ctx, r.res, q)) {
				a.Found, a.Likeness = append(a.Found, s.PersistedFaceID), append(a.Likeness, s.Confidence)
			}
		}
	}
	a.Same = must[face.Verdict](t)(r.Verify(ctx, r.res, face.VerifyQuery{FaceID1: probes[0], FaceID2: probes[1]})).
		Confidence
	a.Nearest = must[[]face.Similar](t)(r.FindSimilar(ctx, r.res,
		face.SimilarQuery{FaceID: probes[0], FaceIDs: probes, Mode: face.MatchFace}))
	a.Groups = must[face.Grouping](t)(r.Group(ctx, r.res, probes))
	return a
}

// TestAStoreFromBeforeThereWereCodesGoesOn writes collections of every kind and detected faces in the format of early
// versions, opens them with another service, and performs every operation on faces. The answers must be the same.
func TestAStoreFromBeforeThereWereCodesGoesOn(t *testing.T) {
	for kind := face.FaceList; kind <= face.LargePersonGroup; kind++ {
		t.Run(kind.String(), func(t *testing.T) {
			store, ctx := newStore(t), t.Context()
			before := migratingService(t, store, nil)
			ref := face.Ref{Kind: kind, ID: "g"}
			mustDo(t, before.Create(ctx, before.res, ref, face.Creation{Name: "g", RecognitionModel: oldModel}))
			ann, annPerson, annFace := before.add(t, ref, "ann")
			ben, benPerson, benFace := before.add(t, ref, "ben")
			if kind != face.FaceList {
				before.trainNow(t, ref)
			}
			probes := before.detectAs(t, "ann.1 ben.1", oldModel)
			want := before.answers(t, ref, probes, []string{annPerson, benPerson})
			if !slices.Equal(want.Found, []string{ann, ben}) {
				t.Fatalf("before: %+v", want)
			}
			mustDo(t, before.Age(ctx, before.res, nil, ref))

			aged := func(r *service, want, of int) {
				t.Helper()
				if aged, all, err := r.Aged(ctx, r.res, ref); err != nil || aged != want || all != of {
					t.Errorf("%d of %d faces are written as before (%v), want %d of %d", aged, all, err, want, of)
				}
			}
			r := migratingService(t, store, nil)
			aged(r, 2, 2)
			check := func(when string, probes []string) {
				t.Helper()
				got := r.answers(t, ref, probes, []string{annPerson, benPerson})
				if !slices.Equal(got.Found, want.Found) || !slices.Equal(got.Likeness, want.Likeness) ||
					!slices.Equal(got.Verified, want.Verified) || got.Same != want.Same || len(got.Nearest) != 2 ||
					got.Nearest[1].Confidence != want.Nearest[1].Confidence || len(got.Groups.Messy) != 2 {
					t.Errorf("%s: got %+v, want %+v", when, got, want)
				}
			}
			check("opened", probes)
			fresh := r.detectAs(t, "ann.1 ben.1", oldModel)
			check("with faces detected since", fresh)
			check("with one of either", []string{probes[0], fresh[1]})

			cleo, _, _ := r.add(t, ref, "cleo")
			if kind != face.FaceList {
				r.trainNow(t, ref)
			}
			aged(r, 2, 3)
			check("trained anew", probes)
			if got := r.found(t, ref, "cleo.1", oldModel); got != cleo {
				t.Errorf("cleo is taken for %q", got)
			}

			mustDo(t, r.StartMigration(ctx, r.res, ref, newModel))
			photo := func(words string) face.Enrolment { return face.Enrolment{Photo: []byte(words)} }
			wantRefusal(t, r.MigrateFace(ctx, r.res, ref, annPerson, annFace, photo("ben"), false), visage.Invalid,
				"BadArgument")
			mustDo(t, r.MigrateFace(ctx, r.res, ref, annPerson, annFace, photo("ann.1"), false))
			mustDo(t, r.MigrateFace(ctx, r.res, ref, benPerson, benFace, photo("ben.1"), false))
			mustDo(t, r.CompleteMigration(ctx, r.res, ref, true)) // without cleo
			r.sweepOnce(t)
			aged(r, 0, 2)
			if got := r.found(t, ref, "ann.2", newModel); got != ann {
				t.Errorf("by the new pack ann is taken for %q", got)
			}

			mustDo(t, r.Age(ctx, r.res, nil, ref))
			if annPerson == "" {
				mustDo(t, r.DeleteFace(ctx, r.res, ref, annFace))
			} else {
				mustDo(t, r.DeletePersonFace(ctx, r.res, face.PersonRef{Group: ref, ID: annPerson}, annFace))
			}
			aged(r, 1, 1)
			if got := r.found(t, ref, "ann.2", newModel); got != "" {
				t.Errorf("a deleted face is found: %q", got)
			}
		})
	}
}

// TestDamagedRecordsAreSaidToBe: a record with a damaged code or template is reported as corrupt, wherever it is
// opened.
func TestDamagedRecordsAreSaidToBe(t *testing.T) {
	nan := func(v []float32) { v[3] = float32(math.NaN()) }
	long := func(v []float32) { v[0] += 1 }
	for name, damage := range map[string]func(r *service, group face.Ref) error{
		"zero": func(r *service, g face.Ref) error { return r.Spoil(t.Context(), r.res, g, make(gallery.Code, 2*dim)) },
		"out of range": func(r *service, g face.Ref) error {
			return r.Spoil(t.Context(), r.res, g, slices.Repeat(gallery.Code{0, 0x80}, dim))
		},
		"half a number": func(r *service,
			g face.Ref) error {
			return r.Spoil(t.Context(), r.res, g, make(gallery.Code, 2*dim-1))
		},
		"nothing":            func(r *service, g face.Ref) error { return r.Spoil(t.Context(), r.res, g, nil) },
		"earlier, no number": func(r *service, g face.Ref) error { return r.Age(t.Context(), r.res, nan, g) },
		"earlier, too long":  func(r *service, g face.Ref) error { return r.Age(t.Context(), r.res, long, g) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newService(t)
			group := r.create(t, face.PersonGroup, "g")
			ann := r.enrol(t, group, "Ann", "ann")
			mustDo(t, r.Train(t.Context(), r.res, group))
			r.TrainNow(t.Context(), r.res)
			probe := r.detect(t, "ann")
			mustDo(t, damage(r, group))
			if strings.HasPrefix(name, "earlier") {
				_, err := r.Group(t.Context(), r.res, append(probe, r.detect(t, "ben")...))
				wantCorrupt(t, "a detected face", err)
				probe = r.detect(t, "ann")
			}

			r = newServiceOn(t, r.store, 0)
			_, err := r.Identify(t.Context(), r.res,
				face.IdentifyQuery{FaceIDs: probe, PersonGroupID: "g", MaxCandidates: 1})
			wantCorrupt(t, "identify", err)
			_, err = r.Verify(t.Context(), r.res,
				face.VerifyQuery{FaceID: probe[0], PersonID: ann.ID, PersonGroupID: "g"})
			wantCorrupt(t, "verify", err)
		})
	}
	t.Run("of another length", func(t *testing.T) {
		r := newService(t)
		group := r.create(t, face.PersonGroup, "g")
		ann := r.enrol(t, group, "Ann", "ann")
		mustDo(t, r.Train(t.Context(), r.res, group))
		r.TrainNow(t.Context(), r.res)
		probe := r.detect(t, "ann")
		mustDo(t, r.Spoil(t.Context(), r.res, group, codeOf("ann")[:dim]))
		r = newServiceOn(t, r.store, 0)
		_, err := r.Identify(t.Context(), r.res,
			face.IdentifyQuery{FaceIDs: probe, PersonGroupID: "g", MaxCandidates: 1})
		wantCorrupt(t, "identify", err)
		_, err = r.Verify(t.Context(), r.res, face.VerifyQuery{FaceID: probe[0], PersonID: ann.ID, PersonGroupID: "g"})
		if _, refused := errors.AsType[*visage.Refusal](err); err == nil || refused {
			t.Errorf("verify: got %v, want an internal failure", err)
		}
	})
}

func wantCorrupt(t *testing.T, what string, err error) {
	t.Helper()
	if corrupt, ok := errors.AsType[*sealed.CorruptError](err); !ok || corrupt.What != "record" ||
		corrupt.Record == "" {
		t.Errorf("%s: got %v, want a *CorruptError that names the record", what, err)
	}
}
