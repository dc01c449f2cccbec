package face_test

import (
	"context"
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/audit/audittest"
	"github.com/visage-face/visage/face"
	"github.com/visage-face/visage/vision"
)

// TestDetailsSayWhatIsRecorded: of a person, when a face came last, the last match that a retention asked for, until
// when it is kept and whether it is held.
func TestDetailsSayWhatIsRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newService(t)
		defer r.run(t)()
		ctx := t.Context()
		group := r.create(t, face.PersonGroup, "g")
		ann := r.enrol(t, group, "Ann")
		details := func() face.PersonDetails { return must[face.PersonDetails](t)(r.PersonDetails(ctx, r.res, ann)) }
		made := time.Now().UTC()
		if d := details(); !d.Enrolled.Equal(made) || d.Faces == nil || len(d.Faces) != 0 || d.Keep != (face.Keep{}) {
			t.Errorf("a new person: %+v", d)
		}
		time.Sleep(day)
		photo := r.addFace(t, ann, "ann")
		mustDo(t, r.UpdatePersonFace(ctx, r.res, ann, photo, ptr("front")))
		d := details()
		if !d.Enrolled.Equal(made.Add(day)) || len(d.Faces) != 1 || d.Faces[0].ID != photo ||
			d.Faces[0].UserData == nil || *d.Faces[0].UserData != "front" || d.Name != "Ann" ||
			!d.Faces[0].Added.Equal(made.Add(day)) || d.Faces[0].Quality != vision.High {
			t.Errorf("with a face: %+v", d)
		}
		mustDo(t, r.SetRetention(ctx, r.res, group, &face.Retention{Days: 30, Since: face.SinceEnrolment}))
		mustDo(t, r.Hold(ctx, r.res, face.Held{Ref: group}, "case 17"))
		if k := details().Keep; !k.Ends.Equal(made.Add(31*day)) || !k.Held {
			t.Errorf("with a retention and a hold: %+v", k)
		}
		mustDo(t, r.Release(ctx, r.res, face.Held{Ref: group}))
		mustDo(t, r.SetRetention(ctx, r.res, group, &face.Retention{Days: 30, Since: face.SinceMatch}))
		time.Sleep(5 * day)
		q := face.VerifyQuery{FaceID: r.detect(t, "ann")[0], PersonID: ann.ID, PersonGroupID: "g"}
		must[face.Verdict](t)(r.Verify(ctx, r.res, q))
		time.Sleep(2 * time.Minute) // matches are stored every minute
		synctest.Wait()
		end := time.Now().UTC().Truncate(day).Add(day)
		if k := details().Keep; !k.LastMatch.Equal(end) || !k.Ends.Equal(end.Add(30*day)) || k.Held {
			t.Errorf("after a match: %+v, want %v", k, end)
		}
		_, err := r.PersonDetails(ctx, r.res, face.PersonRef{Group: group, ID: unknownID})
		wantRefusal(t, err, visage.NotFound, "PersonNotFound")
	})
}

// TestFacesKeepDateAndQuality: of each face of a person, in their order, when and how well it was enrolled, after other
// faces have gone and through a migration; but nothing of a quality that the networks do not measure.
func TestFacesKeepDateAndQuality(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blind := &fake{name: "blind", supports: measurable &^ vision.Quality}
		r := newServiceServing(t, newStore(t), 0, map[string]face.Recogniser{
			"recognition_01": blind, "recognition_02": oldPack, "recognition_03": oldPack, "recognition_04": newPack,
		}, nil)
		ctx := t.Context()
		group := face.Ref{Kind: face.PersonGroup, ID: "g"}
		mustDo(t, r.Create(ctx, r.res, group, face.Creation{Name: "g", RecognitionModel: oldModel}))
		start := time.Now().UTC()
		ann := face.PersonRef{Group: group, ID: must[string](t)(
			r.EnrolPerson(ctx, r.res, group, "Ann", face.Enrolment{Photo: []byte("ann")}))}
		var ids []string
		for range 3 {
			time.Sleep(day)
			ids = append(ids, r.addFace(t, ann, "ann"))
		}
		first := must[face.Person](t)(r.GetPerson(ctx, r.res, ann)).FaceIDs[0]
		mustDo(t, r.DeletePersonFace(ctx, r.res, ann, ids[0]))
		mustDo(t, r.StartMigration(ctx, r.res, group, newModel))
		for _, id := range []string{first, ids[2]} {
			mustDo(t, r.MigrateFace(ctx, r.res, group, ann.ID, id, face.Enrolment{Photo: []byte("ann")}, false))
		}
		ids = append(ids, r.addFace(t, ann, "ann"))
		mustDo(t, r.CompleteMigration(ctx, r.res, group, true))
		want := map[string]time.Time{
			first: start, ids[2]: start.Add(3 * day), ids[3]: start.Add(3 * day),
		}
		d := must[face.PersonDetails](t)(r.PersonDetails(ctx, r.res, ann))
		if len(d.Faces) != len(want) {
			t.Errorf("%d faces, want %d", len(d.Faces), len(want))
		}
		for _, f := range d.Faces {
			if !f.Added.Equal(want[f.ID]) || f.Quality != vision.High {
				t.Errorf("%+v, want one of high quality of %v", f, want[f.ID])
			}
		}
		unmeasured := face.Ref{Kind: face.PersonGroup, ID: "unmeasured"}
		mustDo(t, r.Create(ctx, r.res, unmeasured, face.Creation{Name: "u", RecognitionModel: "recognition_01"}))
		ben := r.enrol(t, unmeasured, "Ben", "ben")
		d = must[face.PersonDetails](t)(r.PersonDetails(ctx, r.res, ben))
		if f := d.Faces[0]; !f.Added.Equal(time.Now().Truncate(time.Second)) || f.Quality != vision.Ungraded {
			t.Errorf("a face of networks that measure no quality: %+v", f)
		}
	})
}

func TestListedFacesHaveTheirDay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newService(t)
		list := r.create(t, face.LargeFaceList, "l")
		today := func() time.Time { return time.Now().UTC().Truncate(day).Add(day) }
		want := map[string]time.Time{r.addListed(t, list, "ann"): today()}
		time.Sleep(3 * day)
		want[r.addListed(t, list, "ben")] = today()
		mustDo(t, r.SetRetention(t.Context(), r.res, face.Ref{}, &face.Retention{Days: 10, Since: face.SinceEnrolment}))
		found := must[[]face.ListedFace](t)(r.ListedFaces(t.Context(), r.res, list, face.Page{}))
		if len(found) != len(want) {
			t.Fatalf("%d faces", len(found))
		}
		for _, f := range found {
			if !f.Enrolled.Equal(want[f.ID]) || !f.Keep.Ends.Equal(want[f.ID].Add(10*day)) {
				t.Errorf("%+v, want the day that ends at %v", f, want[f.ID])
			}
		}
	})
}

// TestErasuresLeadToTheirReceipt: what an erasure returns is what the entry of the audit log says, and names it.
func TestErasuresLeadToTheirReceipt(t *testing.T) {
	store := newStore(t)
	log := must[*audit.Log](t)(audit.Open(t.Context(), audit.Config{Store: store}))
	r := newServiceWith(t, store, 0, &fake{name: "fake", supports: measurable}, log)
	ctx := visage.WithCaller(t.Context(), visage.Caller{RequestID: "17"})
	group, list := r.create(t, face.PersonGroup, "g"), r.create(t, face.FaceList, "l")
	ann := r.enrol(t, group, "Ann", "ann", "ann.1", "ann.2")
	done := []face.Erasure{
		must[face.Erasure](t)(r.ErasePersonFace(ctx, r.res, ann, r.addFace(t, ann, "ann.3"))),
		must[face.Erasure](t)(r.ErasePerson(ctx, r.res, ann)),
		must[face.Erasure](t)(r.EraseFace(ctx, r.res, list, r.addListed(t, list, "ben"))),
	}
	for i, want := range []face.Erasure{
		{Faces: 1, Records: 1}, {Persons: 1, Faces: 3, Records: 4}, {Faces: 1, Records: 1},
	} {
		e := done[i]
		if e.Persons != want.Persons || e.Faces != want.Faces || e.Records != want.Records {
			t.Errorf("erasure %d: %+v, want %+v", i, e, want)
		}
		if e.Epoch == 0 || e.Grade != "D0" || len(e.Digest) != 64 || e.Entry != uint64(i+1) {
			t.Errorf("erasure %d is not complete: %+v", i, e)
		}
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	mustDo(t, log.Run(stopped)) // it signs what there is
	for i, e := range done {
		p := must[audit.Proof](t)(log.Prove(t.Context(), e.Entry))
		var receipt audit.Proof
		mustDo(t, json.Unmarshal(must[[]byte](t)(json.Marshal(p)), &receipt))
		mustDo(t, receipt.Check())
		d := receipt.Entry.Details
		if d[audit.DetailErased] != e.Digest || !receipt.Entry.Time.Equal(e.At) || receipt.Entry.RequestID != "17" ||
			d[audit.DetailGrade] != e.Grade {
			t.Errorf("the receipt of erasure %d says %+v, the erasure %+v", i, receipt.Entry, e)
		}
	}
}

func TestErasureIsDoneWithoutAnEntry(t *testing.T) {
	log := &audittest.Recorder{}
	r := newAuditedService(t, log)
	ann := r.enrol(t, r.create(t, face.PersonGroup, "g"), "Ann", "ann")
	log.Fail(context.DeadlineExceeded)
	if e := must[face.Erasure](t)(r.ErasePerson(t.Context(), r.res, ann)); e.Entry != 0 || e.Persons != 1 {
		t.Errorf("an erasure that could not be recorded: %+v", e)
	}
	_, err := r.GetPerson(t.Context(), r.res, ann)
	wantRefusal(t, err, visage.NotFound, "PersonNotFound")
}
