package face_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit/audittest"
	"github.com/visage-face/visage/face"
	"github.com/visage-face/visage/sealed"
)

const day = 24 * time.Hour

// gone reports whether a person has been erased.
func gone(t *testing.T, r *service, p face.PersonRef) bool {
	t.Helper()
	_, err := r.GetPerson(t.Context(), r.res, p)
	refusal, ok := errors.AsType[*visage.Refusal](err)
	if err != nil && (!ok || refusal.Code != "PersonNotFound") {
		t.Fatal(err)
	}
	return err != nil
}

func TestExpiry(t *testing.T) {
	enrolment := func(days int) *face.Retention { return &face.Retention{Days: days, Since: face.SinceEnrolment} }
	match := func(days int) *face.Retention { return &face.Retention{Days: days, Since: face.SinceMatch} }
	recognise := func(t *testing.T, r *service) {
		q := face.IdentifyQuery{FaceIDs: r.detect(t, "ann"), PersonGroupID: "g", MaxCandidates: 1}
		if got := must[[]face.Identified](t)(r.Identify(t.Context(), r.res, q)); len(got[0].Candidates) != 1 {
			t.Fatalf("ann is not recognised: %+v", got)
		}
	}
	tests := []struct {
		name          string
		resource, own *face.Retention
		meanwhile     func(t *testing.T, r *service, ann face.PersonRef) // after two days
		gone          map[int]bool                                       // after so many days and two hours
	}{
		{name: "no retention", gone: map[int]bool{9: false}},
		{name: "of the resource", resource: enrolment(4), gone: map[int]bool{3: false, 4: true}},
		{name: "of the group, longer", resource: enrolment(4), own: enrolment(8),
			gone: map[int]bool{4: false, 8: true}},
		{name: "of the group, shorter", resource: enrolment(8), own: enrolment(4),
			gone: map[int]bool{3: false, 4: true}},
		{name: "the group for ever", resource: enrolment(4), own: enrolment(0), gone: map[int]bool{5: false}},
		{name: "enrolled anew", resource: enrolment(4), gone: map[int]bool{5: false, 7: true},
			meanwhile: func(t *testing.T, r *service, ann face.PersonRef) { r.addFace(t, ann, "ann.2") }},
		{name: "recognised, where that does not count", resource: enrolment(4), gone: map[int]bool{3: false, 4: true},
			meanwhile: func(t *testing.T, r *service, _ face.PersonRef) { recognise(t, r) }},
		{name: "recognised by identify", resource: match(4), gone: map[int]bool{4: false, 6: false, 7: true},
			meanwhile: func(t *testing.T, r *service, _ face.PersonRef) { recognise(t, r) }},
		{name: "recognised by verify", own: match(4), gone: map[int]bool{4: false, 7: true},
			meanwhile: func(t *testing.T, r *service, ann face.PersonRef) {
				q := face.VerifyQuery{FaceID: r.detect(t, "ann")[0], PersonID: ann.ID, PersonGroupID: "g"}
				if v := must[face.Verdict](t)(r.Verify(t.Context(), r.res, q)); !v.Identical {
					t.Fatal("ann is not ann")
				}
			}},
		{name: "somebody else is recognised", resource: match(4), gone: map[int]bool{3: false, 4: true},
			meanwhile: func(t *testing.T, r *service, _ face.PersonRef) {
				q := face.IdentifyQuery{FaceIDs: r.detect(t, "eve"), PersonGroupID: "g", MaxCandidates: 1}
				must[[]face.Identified](t)(r.Identify(t.Context(), r.res, q))
			}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newService(t)
				defer r.run(t)()
				group := r.create(t, face.PersonGroup, "g")
				ann := r.enrol(t, group, "Ann", "ann")
				r.train(t, group)
				if tt.resource != nil {
					mustDo(t, r.SetRetention(t.Context(), r.res, face.Ref{}, tt.resource))
				}
				if tt.own != nil {
					mustDo(t, r.SetRetention(t.Context(), r.res, group, tt.own))
				}
				start := time.Now()
				at := func(days int) {
					time.Sleep(time.Until(start.Add(time.Duration(days)*day + 2*time.Hour)))
					synctest.Wait()
				}
				at(2)
				if tt.meanwhile != nil {
					tt.meanwhile(t, r, ann)
				}
				for days := range 10 {
					if want, asked := tt.gone[days]; asked {
						if at(days); gone(t, r, ann) != want {
							t.Errorf("after %d days: gone %v", days, !want)
						}
					}
				}
			})
		})
	}
}

func TestFacesOfListsExpireByTheDay(t *testing.T) {
	for _, kind := range []face.Kind{face.FaceList, face.LargeFaceList} {
		t.Run(kind.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newService(t)
				defer r.run(t)()
				list := r.create(t, kind, "l")
				old := r.addListed(t, list, "ann")
				time.Sleep(5 * day)
				young := r.addListed(t, list, "bob")
				if kind == face.LargeFaceList {
					r.train(t, list)
				}
				mustDo(t, r.SetRetention(t.Context(), r.res, list, &face.Retention{Days: 7, Since: face.SinceMatch}))
				time.Sleep(2*day - time.Hour)
				q := face.SimilarQuery{FaceID: r.detect(t, "ann")[0], FaceListID: "l"}
				if kind == face.LargeFaceList {
					q.FaceListID, q.LargeFaceListID = "", "l"
				}
				if got := must[[]face.Similar](t)(r.FindSimilar(t.Context(), r.res, q)); len(got) != 1 ||
					got[0].PersistedFaceID != old {
					t.Fatalf("find similar: %+v", got)
				}
				time.Sleep(7 * day) // now the younger, who was not recognised, expires; the older does not
				synctest.Wait()
				if _, err := r.GetFace(t.Context(), r.res, list, old); err != nil {
					t.Errorf("who was recognised: %v", err)
				}
				_, err := r.GetFace(t.Context(), r.res, list, young)
				wantRefusal(t, err, visage.NotFound, "PersistedFaceNotFound")
				time.Sleep(3 * day)
				synctest.Wait()
				_, err = r.GetFace(t.Context(), r.res, list, old)
				wantRefusal(t, err, visage.NotFound, "PersistedFaceNotFound")
			})
		})
	}
}

func TestAHoldKeeps(t *testing.T) {
	type target func(group face.Ref, ann face.PersonRef) face.Held
	for name, on := range map[string]target{
		"resource": func(face.Ref, face.PersonRef) face.Held { return face.Held{} },
		"group":    func(g face.Ref, _ face.PersonRef) face.Held { return face.Held{Ref: g} },
		"person":   func(g face.Ref, ann face.PersonRef) face.Held { return face.Held{Ref: g, Item: ann.ID} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newService(t)
				defer r.run(t)()
				ctx := t.Context()
				group := r.create(t, face.LargePersonGroup, "g")
				ann := r.enrol(t, group, "Ann", "ann")
				held := on(group, ann)
				wantRefusal(t, r.Hold(ctx, r.res, held, ""), visage.Invalid, "BadArgument")
				mustDo(t, r.Hold(ctx, r.res, held, "case 17"))
				if is := must[bool](t)(r.Held(ctx, r.res)); !is {
					t.Error("nothing is held")
				}
				mustDo(t, r.SetRetention(ctx, r.res, face.Ref{}, &face.Retention{Days: 1, Since: face.SinceEnrolment}))
				photo := must[face.Person](t)(r.GetPerson(ctx, r.res, ann)).FaceIDs[0]
				time.Sleep(3 * day)
				synctest.Wait()
				if got := must[face.Expired](t)(r.Expire(ctx, r.res, true)); got != (face.Expired{Held: 1}) {
					t.Errorf("expired %+v, want one held", got)
				}
				for what, err := range map[string]error{
					"person": r.DeletePerson(ctx, r.res, ann), "face": r.DeletePersonFace(ctx, r.res, ann, photo),
					"group": r.Delete(ctx, r.res, group),
				} {
					if wantRefusal(t, err, visage.Conflict, "LegalHold"); t.Failed() {
						t.Fatal(what)
					}
				}
				keeping := must[face.Keeping](t)(r.Keeping(ctx, r.res))
				if len(keeping.Holds) != 1 || keeping.Holds[0].On != held || keeping.Holds[0].Reason != "case 17" {
					t.Errorf("holds: %+v", keeping.Holds)
				}
				mustDo(t, r.Release(ctx, r.res, held))
				wantRefusal(t, r.Release(ctx, r.res, held), visage.NotFound, "LegalHoldNotFound")
				time.Sleep(2 * time.Hour)
				synctest.Wait()
				if !gone(t, r, ann) {
					t.Error("over its time, released, and still there")
				}
			})
		})
	}
}

func TestExpiryWaitsForALockedResource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newService(t)
		defer r.run(t)()
		group := r.create(t, face.PersonGroup, "g")
		ann := r.enrol(t, group, "Ann", "ann")
		r.train(t, group)
		mustDo(t, r.SetRetention(t.Context(), r.res, group, &face.Retention{Days: 2, Since: face.SinceMatch}))
		time.Sleep(36 * time.Hour)
		q := face.IdentifyQuery{FaceIDs: r.detect(t, "ann"), PersonGroupID: "g", MaxCandidates: 1}
		must[[]face.Identified](t)(r.Identify(t.Context(), r.res, q))
		bundle := r.store.Bundle(sealed.SpaceID(r.res.ID))
		bundle.Lock(errors.New("the customer said no"))
		time.Sleep(day) // over the time since the enrolment, and the match could not be written
		_, err := r.Expire(t.Context(), r.res, false)
		wantRefusal(t, err, visage.KeyRevoked, "EncryptionKeyRevoked")
		mustDo(t, bundle.Load(t.Context(), nil))
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if gone(t, r, ann) {
			t.Error("erased although recognised in time")
		}
		time.Sleep(3 * day)
		synctest.Wait()
		if !gone(t, r, ann) {
			t.Error("never erased")
		}
	})
}

func TestWhatIsDecidedAndErasedIsWrittenDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &audittest.Recorder{}
		r := newAuditedService(t, log)
		defer r.run(t)()
		ctx := visage.WithCaller(t.Context(), visage.Caller{RequestID: "1"})
		group := r.create(t, face.PersonGroup, "g")
		ann := r.enrol(t, group, "Ann", "ann")
		mustDo(t, r.Hold(ctx, r.res, face.Held{Ref: group, Item: ann.ID}, "case 17"))
		mustDo(t, r.SetRetention(ctx, r.res, group, &face.Retention{Days: 1, Since: face.SinceEnrolment}))
		mustDo(t, r.Release(ctx, r.res, face.Held{Ref: group, Item: ann.ID}))
		time.Sleep(2 * day)
		synctest.Wait()
		mustDo(t, r.SetRetention(ctx, r.res, group, nil))
		var got []string
		for _, e := range log.Events() {
			got = append(got, fmt.Sprint(e.Kind, " by ", e.Actor.Kind, " ", e.RequestID))
		}
		want := []string{"hold.place by unidentified 1", "retention.set by unidentified 1",
			"hold.release by unidentified 1", "person.delete by service ", "retention.set by unidentified 1"}
		if !slices.Equal(got, want) {
			t.Errorf("recorded: %q, want %q", got, want)
		}
	})
}
