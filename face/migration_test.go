package face_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/audit/audittest"
	"github.com/visage-face/visage/face"
	"github.com/visage-face/visage/sealed"
)

// The packs of a migration. Their templates do not even have the same length.
var (
	oldPack = &fake{name: "old pack", supports: measurable}
	newPack = &fake{name: "new pack", supports: measurable, numbers: 192}
)

// migratingService makes a service in which the new pack serves recognition_04, and the old one the other models.
func migratingService(t testing.TB, store *sealed.Store, auditor audit.Recorder) *service {
	t.Helper()
	return newServiceServing(t, store, 0, map[string]face.Recogniser{
		"recognition_01": oldPack, "recognition_02": oldPack, "recognition_03": oldPack, "recognition_04": newPack,
	}, auditor)
}

func (r *service) trainNow(t testing.TB, ref face.Ref) {
	t.Helper()
	mustDo(t, r.Train(t.Context(), r.res, ref))
	r.TrainNow(t.Context(), r.res)
}

// found returns the person, or the face of a list, that a face on a photo is recognised as, if it is detected with a
// model.
func (r *service) found(t testing.TB, ref face.Ref, photo, model string) string {
	t.Helper()
	probe := r.detectAs(t, photo, model)[0]
	if ref.Kind == face.PersonGroup || ref.Kind == face.LargePersonGroup {
		q := face.IdentifyQuery{FaceIDs: []string{probe}, MaxCandidates: 1}
		if q.PersonGroupID = ref.ID; ref.Kind == face.LargePersonGroup {
			q.PersonGroupID, q.LargePersonGroupID = "", ref.ID
		}
		if got := must[[]face.Identified](t)(r.Identify(t.Context(), r.res, q)); len(got[0].Candidates) > 0 {
			return got[0].Candidates[0].PersonID
		}
		return ""
	}
	q := face.SimilarQuery{FaceID: probe}
	if q.FaceListID = ref.ID; ref.Kind == face.LargeFaceList {
		q.FaceListID, q.LargeFaceListID = "", ref.ID
	}
	if got := must[[]face.Similar](t)(r.FindSimilar(t.Context(), r.res, q)); len(got) > 0 {
		return got[0].PersistedFaceID
	}
	return ""
}

// add adds a face to a collection. It returns what found would return for it, the person (empty in a list) and the
// face.
func (r *service) add(t testing.TB, ref face.Ref, photo string) (who, person, faceID string) {
	t.Helper()
	if ref.Kind == face.FaceList || ref.Kind == face.LargeFaceList {
		id := r.addListed(t, ref, photo)
		return id, "", id
	}
	p := r.enrol(t, ref, photo+"'s name")
	return p.ID, p.ID, r.addFace(t, p, photo)
}

// sweepOnce makes Run do one round of everything, which leaves nothing to drop.
func (r *service) sweepOnce(t testing.TB) {
	t.Helper()
	r.SweepNow(t.Context(), r.res)
	if _, _, waiting, err := r.Records(t.Context(), r.res, nil); err != nil || waiting != 0 {
		t.Errorf("%d containers wait to be dropped (%v), want none", waiting, err)
	}
}

const oldModel, newModel = "recognition_03", "recognition_04"

func TestACollectionMovesToAnotherPack(t *testing.T) {
	for kind := face.FaceList; kind <= face.LargePersonGroup; kind++ {
		t.Run(kind.String(), func(t *testing.T) {
			r, ctx := migratingService(t, newStore(t), nil), t.Context()
			ref := face.Ref{Kind: kind, ID: "g"}
			mustDo(t, r.Create(ctx, r.res, ref, face.Creation{Name: "g", RecognitionModel: oldModel}))
			ann, annPerson, annFace := r.add(t, ref, "ann")
			ben, benPerson, benFace := r.add(t, ref, "ben")
			train := func() {
				if kind != face.FaceList {
					r.trainNow(t, ref)
				}
			}
			train()
			_, err := r.Migration(ctx, r.res, ref)
			wantRefusal(t, err, visage.NotFound, kind.String()+"MigrationNotFound")
			mustDo(t, r.StartMigration(ctx, r.res, ref, newModel))
			mustDo(t, r.StartMigration(ctx, r.res, ref, newModel)) // again changes nothing
			want := func(photo, model, who string) {
				t.Helper()
				if got := r.found(t, ref, photo, model); got != who {
					t.Errorf("%s by %s is taken for %q, want %q", photo, model, got, who)
				}
			}
			want("ann", oldModel, ann)
			want("ann", newModel, "") // no photo was sent

			photo := func(words string) face.Enrolment { return face.Enrolment{Photo: []byte(words)} }
			wantRefusal(t, r.MigrateFace(ctx, r.res, ref, annPerson, annFace, photo("ben"), false), visage.Invalid,
				"BadArgument")
			mustDo(t, r.MigrateFace(ctx, r.res, ref, annPerson, annFace, photo("zoe"), true))
			mustDo(t, r.MigrateFace(ctx, r.res, ref, annPerson, annFace, photo("ann.1"), false)) // in place of zoe
			want("ann", newModel, ann)
			want("zoe", newModel, "")
			want("ben", newModel, "")
			want("ben", oldModel, ben)
			missing := must[[]face.Missing](t)(r.MissingFaces(ctx, r.res, ref, face.Page{}))
			if len(missing) != 1 || missing[0].PersonID != benPerson ||
				!slices.Equal(missing[0].FaceIDs, []string{benFace}) {
				t.Errorf("missing: %+v, want Ben", missing)
			}
			wantRefusal(t, r.CompleteMigration(ctx, r.res, ref, false), visage.Conflict,
				kind.String()+"MigrationNotFinished")

			// Both packs know faces that are added meanwhile.
			cleo, _, _ := r.add(t, ref, "cleo")
			dan, danPerson, danFace := r.add(t, ref, "dan")
			train()
			for _, model := range []string{oldModel, newModel} {
				want("cleo", model, cleo)
				want("dan", model, dan)
			}
			if danPerson == "" {
				mustDo(t, r.DeleteFace(ctx, r.res, ref, danFace))
			} else {
				mustDo(t, r.DeletePersonFace(ctx, r.res, face.PersonRef{Group: ref, ID: danPerson}, danFace))
			}
			for _, model := range []string{oldModel, newModel} {
				want("dan", model, "")
			}
			mustDo(t, r.MigrateFace(ctx, r.res, ref, benPerson, benFace, photo("ben"), false))
			want("ben", newModel, ben) // without a training
			m := must[face.Migration](t)(r.Migration(ctx, r.res, ref))
			if m.Faces != 3 || m.Sent != 3 || m.From != oldModel || m.To != newModel {
				t.Errorf("migration: %+v", m)
			}
			if missing := must[[]face.Missing](t)(r.MissingFaces(ctx, r.res, ref, face.Page{})); len(missing) != 0 {
				t.Errorf("missing: %+v, want none", missing)
			}
			mustDo(t, r.CompleteMigration(ctx, r.res, ref, false))
			r.sweepOnce(t)
			want("ann", newModel, ann)
			want("ben", newModel, ben)
			c := must[face.Collection](t)(r.Get(ctx, r.res, ref))
			if c.RecognitionModel != newModel || kind == face.FaceList && len(c.Faces) != 3 {
				t.Errorf("afterwards: %+v", c)
			}
			if kind == face.PersonGroup || kind == face.LargePersonGroup {
				probe := r.detectAs(t, "ann", oldModel)[0]
				q := face.VerifyQuery{FaceID: probe, PersonID: ann, PersonGroupID: "g"}
				if kind == face.LargePersonGroup {
					q.PersonGroupID, q.LargePersonGroupID = "", "g"
				}
				_, err = r.Verify(ctx, r.res, q)
				wantRefusal(t, err, visage.Invalid, "BadArgument")
				q.FaceID = r.detectAs(t, "ann", newModel)[0]
				if v := must[face.Verdict](t)(r.Verify(ctx, r.res, q)); !v.Identical {
					t.Error("the new pack does not know Ann")
				}
			}
			// And back, cancelled, and deleted in the middle of another.
			mustDo(t, r.StartMigration(ctx, r.res, ref, oldModel))
			mustDo(t, r.MigrateFace(ctx, r.res, ref, annPerson, annFace, photo("ann"), false))
			want("ann", oldModel, ann)
			mustDo(t, r.CancelMigration(ctx, r.res, ref))
			r.sweepOnce(t)
			want("ann", newModel, ann)
			mustDo(t, r.StartMigration(ctx, r.res, ref, oldModel))
			mustDo(t, r.Delete(ctx, r.res, ref))
			r.sweepOnce(t)
		})
	}
}

func TestTheMissingCanBeDropped(t *testing.T) {
	log := &audittest.Recorder{}
	r, ctx := migratingService(t, newStore(t), log), t.Context()
	group := face.Ref{Kind: face.PersonGroup, ID: "g"}
	mustDo(t, r.Create(ctx, r.res, group, face.Creation{Name: "g", RecognitionModel: oldModel}))
	ann := r.enrol(t, group, "Ann", "ann.1", "ann.2")
	ben := r.enrol(t, group, "Ben", "ben")
	r.trainNow(t, group)
	mustDo(t, r.StartMigration(ctx, r.res, group, newModel))
	kept := must[face.Person](t)(r.GetPerson(ctx, r.res, ann)).FaceIDs[1]
	mustDo(t, r.MigrateFace(ctx, r.res, group, ann.ID, kept, face.Enrolment{Photo: []byte("ann.2")}, false))

	held := face.Held{Ref: group, Item: ben.ID}
	mustDo(t, r.Hold(ctx, r.res, held, "a case"))
	wantRefusal(t, r.CompleteMigration(ctx, r.res, group, true), visage.Conflict, "LegalHold")
	if m := must[face.Migration](t)(r.Migration(ctx, r.res, group)); m.Faces != 3 {
		t.Errorf("the hold has not kept all: %+v", m)
	}
	mustDo(t, r.Release(ctx, r.res, held))
	mustDo(t, r.CompleteMigration(ctx, r.res, group, true))
	r.sweepOnce(t)
	if p := must[face.Person](t)(r.GetPerson(ctx, r.res, ann)); !slices.Equal(p.FaceIDs, []string{kept}) {
		t.Errorf("Ann: %+v, want the face that was sent alone", p)
	}
	if p := must[face.Person](t)(r.GetPerson(ctx, r.res, ben)); len(p.FaceIDs) != 0 || p.Name != "Ben" {
		t.Errorf("Ben: %+v, want him without faces", p)
	}
	if got := r.found(t, group, "ann", newModel); got != ann.ID {
		t.Errorf("ann is taken for %q", got)
	}
	recorded := log.Told()
	want := []string{"face.delete done", "face.delete done", "group.delete templates done"}
	if erased := recorded[2:]; !slices.Equal(erased, want) { // after the hold and its release
		t.Errorf("recorded: %q, want two faces and the old templates", recorded)
	}
}

func TestMigrationRefuses(t *testing.T) {
	r, ctx := migratingService(t, newStore(t), nil), t.Context()
	group := face.Ref{Kind: face.PersonGroup, ID: "g"}
	wantRefusal(t, r.StartMigration(ctx, r.res, group, newModel), visage.NotFound, "PersonGroupNotFound")
	mustDo(t, r.Create(ctx, r.res, group, face.Creation{Name: "g", RecognitionModel: oldModel}))
	ann := r.enrol(t, group, "Ann", "ann")
	faceID := must[face.Person](t)(r.GetPerson(ctx, r.res, ann)).FaceIDs[0]
	photo := face.Enrolment{Photo: []byte("ann")}
	for _, model := range []string{"", "recognition_99", oldModel, "recognition_01"} {
		wantRefusal(t, r.StartMigration(ctx, r.res, group, model), visage.Invalid, "BadArgument")
	}
	const none = "PersonGroupMigrationNotFound"
	wantRefusal(t, r.MigrateFace(ctx, r.res, group, ann.ID, faceID, photo, false), visage.NotFound, none)
	wantRefusal(t, r.CompleteMigration(ctx, r.res, group, true), visage.NotFound, none)
	wantRefusal(t, r.CancelMigration(ctx, r.res, group), visage.NotFound, none)
	_, err := r.MissingFaces(ctx, r.res, group, face.Page{})
	wantRefusal(t, err, visage.NotFound, none)

	mustDo(t, r.StartMigration(ctx, r.res, group, newModel))
	other := face.PersonRef{Group: group, ID: must[string](t)(r.CreatePerson(ctx, r.res, group, "Ben", nil))}
	wantRefusal(t, r.MigrateFace(ctx, r.res, group, other.ID, faceID, photo, false), visage.NotFound,
		"PersistedFaceNotFound")
	wantRefusal(t, r.MigrateFace(ctx, r.res, group, "x", faceID, photo, false), visage.NotFound, "PersonNotFound")
	two := face.Enrolment{Photo: []byte("ann ben")}
	wantRefusal(t, r.MigrateFace(ctx, r.res, group, ann.ID, faceID, two, false), visage.Invalid, "InvalidImage")
	mixed := face.IdentifyQuery{
		FaceIDs:       []string{r.detectAs(t, "ann", oldModel)[0], r.detectAs(t, "ann", newModel)[0]},
		PersonGroupID: "g", MaxCandidates: 1,
	}
	r.trainNow(t, group)
	_, err = r.Identify(ctx, r.res, mixed)
	wantRefusal(t, err, visage.Invalid, "BadArgument")
	_, err = r.Verify(ctx, r.res, face.VerifyQuery{FaceID: mixed.FaceIDs[1], PersonID: ann.ID, PersonGroupID: "g"})
	wantRefusal(t, err, visage.NotFound, "PersistedFaceNotFound")
	mustDo(t, r.Train(ctx, r.res, group))
	const busy = "PersonGroupTrainingNotFinished"
	wantRefusal(t, r.MigrateFace(ctx, r.res, group, ann.ID, faceID, photo, false), visage.Conflict, busy)
	wantRefusal(t, r.CompleteMigration(ctx, r.res, group, true), visage.Conflict, busy)
}

// TestAMigrationNeedsNoOldPack: if the old pack cannot be opened any more, faces can still be sent again.
func TestAMigrationNeedsNoOldPack(t *testing.T) {
	store := newStore(t)
	before := newServiceWith(t, store, 0, oldPack, nil)
	group := before.create(t, face.PersonGroup, "g")
	ann := before.enrol(t, group, "Ann", "ann")
	before.trainNow(t, group)
	r, ctx := newServiceWith(t, store, 0, newPack, nil), t.Context()
	mustDo(t, r.StartMigration(ctx, r.res, group, newModel))
	missing := must[[]face.Missing](t)(r.MissingFaces(ctx, r.res, group, face.Page{}))
	mustDo(
		t, r.MigrateFace(ctx, r.res, group, ann.ID, missing[0].FaceIDs[0], face.Enrolment{Photo: []byte("ann")}, false),
	)
	mustDo(t, r.CompleteMigration(ctx, r.res, group, false))
	if got := r.found(t, group, "ann", newModel); got != ann.ID {
		t.Errorf("ann is taken for %q, want Ann", got)
	}
}

// TestSendingWhileOthersDeleteAndSearch: neither pack finds a face that is deleted while it is sent, and both find all
// others.
func TestSendingWhileOthersDeleteAndSearch(t *testing.T) {
	r, ctx := migratingService(t, newStore(t), nil), t.Context()
	group := face.Ref{Kind: face.PersonGroup, ID: "g"}
	mustDo(t, r.Create(ctx, r.res, group, face.Creation{Name: "g", RecognitionModel: oldModel}))
	people := make([]face.PersonRef, 40)
	faceIDs := make([]string, len(people))
	name := func(i int) string { return fmt.Sprintf("p%d", i) }
	for i := range people {
		people[i] = r.enrol(t, group, name(i))
		faceIDs[i] = r.addFace(t, people[i], name(i))
	}
	r.trainNow(t, group)
	mustDo(t, r.StartMigration(ctx, r.res, group, newModel))
	var wg sync.WaitGroup
	for i, p := range people {
		wg.Go(func() {
			err := r.MigrateFace(ctx, r.res, group, p.ID, faceIDs[i], face.Enrolment{Photo: []byte(name(i))}, false)
			refusal, refused := errors.AsType[*visage.Refusal](err)
			if err != nil && (i%2 == 0 || !refused || refusal.Kind != visage.NotFound) {
				t.Errorf("send %d: %v", i, err)
			}
		})
		wg.Go(func() {
			if i%2 == 0 {
				q := face.IdentifyQuery{FaceIDs: r.detectAs(t, name(i), newModel), PersonGroupID: "g", MaxCandidates: 1}
				if _, err := r.Identify(ctx, r.res, q); err != nil {
					t.Errorf("search %d: %v", i, err)
				}
			} else if err := r.DeletePerson(ctx, r.res, p); err != nil {
				t.Errorf("delete %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	for i, p := range people {
		want := p.ID
		if i%2 == 1 {
			want = ""
		}
		for _, model := range []string{oldModel, newModel} {
			if got := r.found(t, group, name(i), model); got != want {
				t.Errorf("%d by %s is taken for %q, want %q", i, model, got, want)
			}
		}
	}
	if m := must[face.Migration](t)(r.Migration(ctx, r.res, group)); m.Faces != 20 || m.Sent != 20 {
		t.Errorf("migration: %+v", m)
	}
}

// TestExpiryReachesBothPacks: expired faces are removed from the templates of both packs, and migrated faces expire
// too.
func TestExpiryReachesBothPacks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, ctx := migratingService(t, newStore(t), nil), t.Context()
		list := face.Ref{Kind: face.FaceList, ID: "l"}
		mustDo(t, r.Create(ctx, r.res, list, face.Creation{Name: "l", RecognitionModel: oldModel}))
		ann := r.addListed(t, list, "ann")
		mustDo(t, r.SetRetention(ctx, r.res, list, &face.Retention{Days: 10, Since: face.SinceMatch}))
		mustDo(t, r.StartMigration(ctx, r.res, list, newModel))
		mustDo(t, r.MigrateFace(ctx, r.res, list, "", ann, face.Enrolment{Photo: []byte("ann")}, false))
		time.Sleep(6 * day)
		r.addListed(t, list, "ben")
		mustDo(t, r.CompleteMigration(ctx, r.res, list, false))
		r.sweepOnce(t)
		if got := r.found(t, list, "ann", newModel); got != ann { // counts as a match
			t.Fatalf("ann is taken for %q", got)
		}
		time.Sleep(6 * day)
		if e := must[face.Expired](t)(r.Expire(ctx, r.res, false)); e.Faces != 0 {
			t.Errorf("expired %+v, want nobody: Ann was seen six days ago", e)
		}
		mustDo(t, r.StartMigration(ctx, r.res, list, oldModel))
		mustDo(t, r.MigrateFace(ctx, r.res, list, "", ann, face.Enrolment{Photo: []byte("ann")}, false))
		time.Sleep(12 * day)
		if e := must[face.Expired](t)(r.Expire(ctx, r.res, false)); e.Faces != 2 {
			t.Errorf("expired %+v, want both", e)
		}
		if m := must[face.Migration](t)(r.Migration(ctx, r.res, list)); m.Faces != 0 || m.Sent != 0 {
			t.Errorf("migration: %+v, want nobody left", m)
		}
	})
}
