package face_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/face"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/sealed"
)

func TestEverythingIsThereAfterARestart(t *testing.T) {
	dir := t.TempDir()
	cfg := sealed.Config{
		Engine: "pebble:" + filepath.Join(dir, "data"), KeyDir: filepath.Join(dir, "keys"),
		Protectors: protectors(sourcetest.NewFake("root")),
	}
	var ann face.PersonRef
	var probe []string
	t.Run("before", func(t *testing.T) {
		r := newServiceOn(t, openStore(t, cfg, true), 0)
		group, list := r.create(t, face.PersonGroup, "g"), r.create(t, face.FaceList, "l")
		ann = r.enrol(t, group, "Ann", "ann.1", "ann.2")
		r.addListed(t, list, "bob")
		mustDo(t, r.Train(t.Context(), r.res, group))
		probe = r.detect(t, "ann bob")
	})
	t.Run("after", func(t *testing.T) {
		r := newServiceOn(t, openStore(t, cfg, false), 0)
		r.TrainNow(t.Context(), r.res)
		q := face.IdentifyQuery{FaceIDs: probe, PersonGroupID: "g", MaxCandidates: 1}
		got := must[[]face.Identified](t)(r.Identify(t.Context(), r.res, q))
		if len(got[0].Candidates) != 1 || got[0].Candidates[0].PersonID != ann.ID || len(got[1].Candidates) != 0 {
			t.Errorf("identify: %+v", got)
		}
		similar := face.SimilarQuery{FaceID: probe[1], FaceListID: "l"}
		if got := must[[]face.Similar](t)(r.FindSimilar(t.Context(), r.res, similar)); len(got) != 1 {
			t.Errorf("find similar: %+v", got)
		}
		p := must[face.Person](t)(r.GetPerson(t.Context(), r.res, ann))
		if p.Name != "Ann" || len(p.FaceIDs) != 2 {
			t.Errorf("person: %+v", p)
		}
	})
}

func TestALockedResourceRefusesEverythingAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newService(t)
		defer r.run(t)()
		ctx := t.Context()
		group, list := r.create(t, face.PersonGroup, "g"), r.create(t, face.FaceList, "l")
		ann := r.enrol(t, group, "Ann", "ann")
		r.addListed(t, list, "ann")
		r.train(t, group)
		probe := r.detect(t, "ann")
		identify := face.IdentifyQuery{FaceIDs: probe, PersonGroupID: "g", MaxCandidates: 1}
		similar := face.SimilarQuery{FaceID: probe[0], FaceListID: "l"}
		calls := map[string]func() error{
			"Identify":     func() error { _, err := r.Identify(ctx, r.res, identify); return err },
			"FindSimilar":  func() error { _, err := r.FindSimilar(ctx, r.res, similar); return err },
			"Persons":      func() error { _, err := r.Persons(ctx, r.res, group, face.Page{}); return err },
			"List":         func() error { _, err := r.List(ctx, r.res, face.PersonGroup, face.Page{}); return err },
			"GetPerson":    func() error { _, err := r.GetPerson(ctx, r.res, ann); return err },
			"UpdatePerson": func() error { return r.UpdatePerson(ctx, r.res, ann, face.Change{Name: ptr("n")}) },
			"Train":        func() error { return r.Train(ctx, r.res, group) },
			"Detect": func() error {
				_, err := r.Detect(ctx, r.res, []byte("ann"), face.DetectQuery{ReturnFaceID: true})
				return err
			},
			"Verify": func() error {
				_, err := r.Verify(ctx, r.res, face.VerifyQuery{FaceID1: probe[0], FaceID2: probe[0]})
				return err
			},
		}
		for name, call := range calls {
			if name != "Train" {
				if err := call(); err != nil {
					t.Fatalf("%s before: %v", name, err)
				}
			}
		}
		bundle := r.store.Bundle(sealed.SpaceID(r.res.ID))
		bundle.Lock(errors.New("the customer said no"))
		for name, call := range calls {
			if wantRefusal(t, call(), visage.KeyRevoked, "EncryptionKeyRevoked"); t.Failed() {
				t.Fatalf("in %s", name)
			}
		}
		synctest.Wait()
		if held := r.GalleryBytes(); held != 0 {
			t.Errorf("%d bytes of templates are still in memory", held)
		}
		mustDo(t, bundle.Load(ctx, nil))
		for name, call := range calls {
			if err := call(); err != nil {
				t.Errorf("%s after: %v", name, err)
			}
			synctest.Wait()
		}
	})
}

func TestSearchesStopWhenTheResourceIsLocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newService(t)
		defer r.run(t)()
		group := r.create(t, face.PersonGroup, "g")
		r.enrol(t, group, "Ann", "ann")
		r.train(t, group)
		err := r.DuringSearch(t.Context(), r.res, group, codeOf("ann"), func() {}, func() {
			r.store.Bundle(sealed.SpaceID(r.res.ID)).Lock(errors.New("the customer said no"))
			synctest.Wait()
		})
		wantRefusal(t, err, visage.KeyRevoked, "EncryptionKeyRevoked")
		if held := r.GalleryBytes(); held != 0 {
			t.Errorf("%d bytes of templates are still in memory", held)
		}
	})
}

func TestAnUnreachableKeyStoreIsNoRevocation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newService(t)
		group := r.create(t, face.PersonGroup, "g")
		bundle := r.store.Bundle(sealed.SpaceID(r.res.ID))
		bundle.Renew(time.Now().Add(time.Minute))
		if _, err := r.Get(t.Context(), r.res, group); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		_, err := r.Get(t.Context(), r.res, group)
		wantRefusal(t, err, visage.Unavailable, "EncryptionKeyUnavailable")
		if refusal, ok := errors.AsType[*visage.Refusal](err); ok && refusal.RetryAfter == 0 {
			t.Error("the refusal does not say when to come again")
		}
	})
}

func TestTemplatesOfAnotherModelPackAreNotCompared(t *testing.T) {
	store := newStore(t)
	before := newServiceWith(t, store, 0, &fake{name: "old pack", supports: measurable}, nil)
	group := before.create(t, face.PersonGroup, "g")
	before.enrol(t, group, "Ann", "ann")
	mustDo(t, before.Train(t.Context(), before.res, group))
	before.TrainNow(t.Context(), before.res)
	old := before.detect(t, "ann")

	r := newServiceWith(t, store, 0, &fake{name: "new pack", supports: measurable}, nil)
	identify := face.IdentifyQuery{FaceIDs: old, PersonGroupID: "g", MaxCandidates: 1}
	_, err := r.Identify(t.Context(), r.res, identify)
	wantRefusal(t, err, visage.Invalid, "FaceNotFound")
	identify.FaceIDs = r.detect(t, "ann")
	_, err = r.Identify(t.Context(), r.res, identify)
	wantRefusal(t, err, visage.Unavailable, "ServiceUnavailable")
	_, err = r.AddPersonFace(t.Context(), r.res, before.enrol(t, group, "Bob"), face.Enrolment{Photo: []byte("bob")})
	wantRefusal(t, err, visage.Unavailable, "ServiceUnavailable")
	mustDo(t, r.Train(t.Context(), r.res, group))
	r.TrainNow(t.Context(), r.res)
	got := must[face.Training](t)(r.Training(t.Context(), r.res, group))
	if got.Status != face.Failed || !strings.Contains(got.Message, "old pack") {
		t.Errorf("training: %+v, want a failure that names the pack", got)
	}
}

// TestEachPackGoesOnWithWhatItMade: with both packs open, the old one serves what it made, and no templates of
// different packs are compared.
func TestEachPackGoesOnWithWhatItMade(t *testing.T) {
	store := newStore(t)
	old, newer := &fake{name: "old pack", supports: measurable}, &fake{name: "new pack", supports: measurable}
	before := newServiceWith(t, store, 0, old, nil)
	group := before.create(t, face.PersonGroup, "g")
	ann := before.enrol(t, group, "Ann", "ann")
	probe := before.detect(t, "ann")[0]

	r := newServiceWith(t, store, 0, newer, nil, old)
	r.enrol(t, group, "Bob", "bob") // by the old pack
	mustDo(t, r.Train(t.Context(), r.res, group))
	r.TrainNow(t.Context(), r.res)
	found := must[[]face.Identified](t)(r.Identify(t.Context(), r.res,
		face.IdentifyQuery{FaceIDs: []string{probe}, PersonGroupID: "g", MaxCandidates: 1}))
	if len(found) != 1 || len(found[0].Candidates) != 1 || found[0].Candidates[0].PersonID != ann.ID {
		t.Errorf("identified %+v, want Ann %s", found, ann.ID)
	}
	now := r.detect(t, "ann")[0] // by the new pack
	_, err := r.Identify(t.Context(), r.res,
		face.IdentifyQuery{FaceIDs: []string{now}, PersonGroupID: "g", MaxCandidates: 1})
	wantRefusal(t, err, visage.Invalid, "BadArgument")
	_, err = r.Verify(t.Context(), r.res, face.VerifyQuery{FaceID: now, PersonID: ann.ID, PersonGroupID: "g"})
	wantRefusal(t, err, visage.Invalid, "BadArgument")
	_, err = r.Verify(t.Context(), r.res, face.VerifyQuery{FaceID1: now, FaceID2: probe})
	wantRefusal(t, err, visage.Invalid, "BadArgument")
	_, err = r.Group(t.Context(), r.res, []string{now, probe})
	wantRefusal(t, err, visage.Invalid, "BadArgument")
	_, err = r.FindSimilar(t.Context(), r.res, face.SimilarQuery{FaceID: now, FaceIDs: []string{probe}})
	wantRefusal(t, err, visage.Invalid, "BadArgument")
	verdict := must[face.Verdict](t)(r.Verify(t.Context(), r.res,
		face.VerifyQuery{FaceID: probe, PersonID: ann.ID, PersonGroupID: "g"}))
	if !verdict.Identical {
		t.Error("the old pack does not know Ann any more")
	}
}
