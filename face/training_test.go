package face_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/face"
	"github.com/visage-face/visage/gallery"
	"github.com/visage-face/visage/sealed"
)

var trainedKinds = []face.Kind{face.LargeFaceList, face.PersonGroup, face.LargePersonGroup}

// fill puts one face into a collection.
func (r *service) fill(t testing.TB, ref face.Ref, photo string) {
	t.Helper()
	if ref.Kind == face.LargeFaceList {
		r.addListed(t, ref, photo)
	} else {
		r.enrol(t, ref, photo, photo)
	}
}

func TestTrainingLife(t *testing.T) {
	for _, kind := range trainedKinds {
		t.Run(kind.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newService(t)
				ref := r.create(t, kind, "g")
				_, err := r.Training(t.Context(), r.res, ref)
				wantRefusal(t, err, visage.NotFound, kind.String()+"NotTrained")
				r.fill(t, ref, "ann")
				asked := time.Now().UTC()
				mustDo(t, r.Train(t.Context(), r.res, ref))
				got := must[face.Training](t)(r.Training(t.Context(), r.res, ref))
				if got != (face.Training{Status: face.NotStarted, Created: asked, LastAction: asked}) {
					t.Errorf("before its turn: %+v", got)
				}
				wantRefusal(t, r.Train(t.Context(), r.res, ref), visage.Conflict, kind.String()+"TrainingNotFinished")

				time.Sleep(time.Hour)
				stop := r.run(t)
				synctest.Wait()
				done := time.Now().UTC()
				got = must[face.Training](t)(r.Training(t.Context(), r.res, ref))
				if got != (face.Training{Status: face.Succeeded, Created: asked, LastAction: done, LastSuccess: done}) {
					t.Errorf("after it: %+v", got)
				}
				stop()

				time.Sleep(time.Hour)
				again := time.Now().UTC()
				mustDo(t, r.Train(t.Context(), r.res, ref))
				got = must[face.Training](t)(r.Training(t.Context(), r.res, ref))
				if got != (face.Training{Status: face.NotStarted, Created: again, LastAction: again,
					LastSuccess: done}) {
					t.Errorf("asked for again: %+v", got)
				}
			})
		})
	}
}

func TestTrainingWithoutFacesFails(t *testing.T) {
	for _, kind := range trainedKinds {
		t.Run(kind.String(), func(t *testing.T) {
			running(t, func(t *testing.T, r *service) {
				ref := r.create(t, kind, "g")
				if kind != face.LargeFaceList {
					r.enrol(t, ref, "faceless")
				}
				if got := r.train(t, ref); got.Status != face.Failed || got.Message == "" || !got.LastSuccess.IsZero() {
					t.Errorf("got %+v, want a failure that says why", got)
				}
			})
		})
	}
}

func TestAFailedTrainingLeavesTheLastInForce(t *testing.T) {
	running(t, func(t *testing.T, r *service) {
		group := r.create(t, face.PersonGroup, "g")
		ann := r.enrol(t, group, "Ann", "ann")
		success := r.train(t, group).LastSuccess
		mustDo(t, r.DeletePerson(t.Context(), r.res, ann))
		time.Sleep(time.Second)
		if got := r.train(t, group); got.Status != face.Failed || !got.LastSuccess.Equal(success) {
			t.Errorf("got %+v, want a failure that keeps the last success", got)
		}
		if got := r.identify(t, group, "ann"); len(got) != 0 {
			t.Errorf("got %v, want the trained group without who was deleted", got)
		}
	})
}

func TestNothingChangesWhileTraining(t *testing.T) {
	for _, kind := range trainedKinds {
		t.Run(kind.String(), func(t *testing.T) {
			r := newService(t) // without Run: the training stays pending
			ctx, ref := t.Context(), r.create(t, kind, "g")
			e := face.Enrolment{Photo: []byte("bob")}
			var calls map[string]func() error
			if kind == face.LargeFaceList {
				id := r.addListed(t, ref, "ann")
				calls = map[string]func() error{
					"AddFace":    func() error { _, err := r.AddFace(ctx, r.res, ref, e); return err },
					"UpdateFace": func() error { return r.UpdateFace(ctx, r.res, ref, id, ptr("d")) },
					"DeleteFace": func() error { return r.DeleteFace(ctx, r.res, ref, id) },
				}
			} else {
				ann := r.enrol(t, ref, "Ann")
				id := r.addFace(t, ann, "ann")
				calls = map[string]func() error{
					"CreatePerson": func() error {
						_,
							err := r.CreatePerson(ctx, r.res, ref, "n", nil)
						return err
					},
					"UpdatePerson": func() error {
						return r.UpdatePerson(ctx, r.res, ann,
							face.Change{Name: ptr("n")})
					},
					"DeletePerson":     func() error { return r.DeletePerson(ctx, r.res, ann) },
					"AddPersonFace":    func() error { _, err := r.AddPersonFace(ctx, r.res, ann, e); return err },
					"UpdatePersonFace": func() error { return r.UpdatePersonFace(ctx, r.res, ann, id, ptr("d")) },
					"DeletePersonFace": func() error { return r.DeletePersonFace(ctx, r.res, ann, id) },
					"Identify": func() error {
						q := face.IdentifyQuery{FaceIDs: r.detect(t, "ann"), MaxCandidates: 1, PersonGroupID: "g"}
						if kind == face.LargePersonGroup {
							q.PersonGroupID, q.LargePersonGroupID = "", "g"
						}
						_, err := r.Identify(ctx, r.res, q)
						return err
					},
				}
			}
			calls["Update"] = func() error { return r.Update(ctx, r.res, ref, face.Change{Name: ptr("n")}) }
			calls["Delete"] = func() error { return r.Delete(ctx, r.res, ref) }
			mustDo(t, r.Train(ctx, r.res, ref))
			for name, call := range calls {
				if wantRefusal(t, call(), visage.Conflict, kind.String()+"TrainingNotFinished"); t.Failed() {
					t.Fatalf("in %s", name)
				}
			}
		})
	}
}

func TestSmallListsAreNotTrained(t *testing.T) {
	r := newService(t)
	list := r.create(t, face.FaceList, "l")
	wantRefusal(t, r.Train(t.Context(), r.res, list), visage.Invalid, "BadArgument")
	_, err := r.Training(t.Context(), r.res, list)
	wantRefusal(t, err, visage.Invalid, "BadArgument")
}

func TestTrainingsGoOnAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t)
		first := newServiceOn(t, store, 0)
		group := first.create(t, face.PersonGroup, "g")
		ann := first.enrol(t, group, "Ann", "ann")
		mustDo(t, first.Train(t.Context(), first.res, group))
		first.Close()

		second := newServiceOn(t, store, 0)
		defer second.run(t)()
		synctest.Wait()
		got := must[face.Training](t)(second.Training(t.Context(), second.res, group))
		if got.Status != face.Succeeded {
			t.Errorf("the training of before: %+v", got)
		}
		if c := second.identify(t, group, "ann"); len(c) != 1 || c[0].PersonID != ann.ID {
			t.Errorf("got %v, want Ann", c)
		}
	})
}

func TestATrainingOverTheMemoryBudgetFailsAndSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newServiceOn(t, newStore(t), 1000)
		defer r.run(t)()
		group := r.create(t, face.PersonGroup, "g")
		r.enrol(t, group, "Ann", "ann")
		if got := r.train(t, group); got.Status != face.Failed || !strings.Contains(got.Message, "1000 bytes") {
			t.Errorf("got %+v, want a failure that names the budget", got)
		}
	})
}

// failing is other processes that cannot search their parts for a while.
type failing struct{ err error }

func (f *failing) Count(string, int64) int { return 2 }

func (f *failing) Search(context.Context, face.PartQuery) (face.PartFound, error) {
	return face.PartFound{}, f.err
}

// away is the error of a database that cannot be used now.
type away struct{}

func (away) Error() string  { return "the database is away" }
func (away) Outage() string { return "The database is away. Try again later." }

// TestATrainingThatWaits waits for memory that other replicas have. A training of another group has its turn meanwhile,
// and the one that waits fails when the replicas do not come.
func TestATrainingThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newServiceOn(t, newStore(t), 0)
		defer r.run(t)()
		refusal := &visage.Refusal{Kind: visage.Unavailable, Message: "More memory is needed.", RetryAfter: time.Second}
		r.SearchIn(&failing{fmt.Errorf("%w: %w", gallery.ErrTooLarge, refusal)})
		var groups []face.Ref
		for _, name := range []string{"a", "b", "c"} {
			group := r.create(t, face.PersonGroup, name)
			if name != "b" { // with nobody in it, a training ends at once
				r.enrol(t, group, "Ann", "ann")
			}
			groups = append(groups, group)
		}
		for _, group := range groups {
			r.train(t, group)
		}
		status := func(i int) face.Training {
			return must[face.Training](t)(r.Training(t.Context(), r.res, groups[i]))
		}
		time.Sleep(10 * time.Minute)
		if a, b, c := status(0), status(1), status(2); a.Status != face.Running || b.Status != face.Failed ||
			c.Status != face.Running {
			t.Errorf("after ten minutes: %+v, %+v, %+v", a, b, c)
		}
		time.Sleep(time.Hour)
		for _, i := range []int{0, 2} {
			if got := status(i); got.Status != face.Failed || got.Message != refusal.Message {
				t.Errorf("after more than an hour: %+v", got)
			}
		}
	})
}

// TestTrainingsOutlastOutages trains while something is away, which says nothing of the faces: the training goes on
// later. What a person has to mend ends it.
func TestTrainingsOutlastOutages(t *testing.T) {
	for name, tt := range map[string]struct {
		err  error
		ends bool
	}{
		"the database is away":      {fmt.Errorf("load faces: %w", away{}), false},
		"a connection was reset":    {syscall.ECONNRESET, false},
		"a refusal that is for now": {&visage.Refusal{Kind: visage.Unavailable, RetryAfter: time.Second}, false},
		"the key is refused":        {&visage.Refusal{Kind: visage.KeyRevoked, Message: "The key is refused."}, false},
		"a refusal that stays":      {&visage.Refusal{Kind: visage.Unavailable, Message: "Too large."}, true},
		"a face is damaged":         {fmt.Errorf("load faces: %w", &sealed.CorruptError{What: "record"}), true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newServiceOn(t, newStore(t), 0)
				defer r.run(t)()
				group := r.create(t, face.PersonGroup, "g")
				r.enrol(t, group, "Ann", "ann")
				others := &failing{tt.err}
				r.SearchIn(others)
				r.train(t, group)
				time.Sleep(5 * time.Minute)
				got := must[face.Training](t)(r.Training(t.Context(), r.res, group))
				if tt.ends {
					if got.Status != face.Failed || got.Message == "" {
						t.Errorf("got %+v, want a failure that says why", got)
					}
					return
				}
				if got.Status != face.Running {
					t.Errorf("got %+v, want it to go on", got)
				}
				others.err = nil // it is back
				time.Sleep(5 * time.Minute)
				if got := must[face.Training](t)(r.Training(t.Context(), r.res, group)); got.Status != face.Succeeded {
					t.Errorf("got %+v, want a success", got)
				}
			})
		})
	}
}

func TestGalleriesComeBackAfterEviction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, err := gallery.New(dim)
		if err != nil {
			t.Fatal(err)
		}
		defer one.Close()
		if err := one.Add(gallery.Entry{Code: codeOf("ann")}); err != nil {
			t.Fatal(err)
		}
		r := newServiceOn(t, newStore(t), one.Bytes())
		defer r.run(t)()
		var groups []face.Ref
		for i := range 4 {
			g := r.create(t, face.PersonGroup, fmt.Sprint(i))
			r.enrol(t, g, "Ann", "ann")
			r.train(t, g)
			groups = append(groups, g)
		}
		for range 2 {
			for _, g := range groups {
				if got := r.identify(t, g, "ann"); len(got) != 1 {
					t.Errorf("%v: %v", g, got)
				}
			}
		}
	})
}

func TestCancelledRequestsEnd(t *testing.T) {
	r := newService(t)
	ids := r.detect(t, "ann bob")
	gone := errors.New("the caller went away")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(gone)
	_, err := r.Detect(ctx, r.res, []byte("ann"), face.DetectQuery{})
	if !errors.Is(err, gone) {
		t.Errorf("Detect: %v", err)
	}
	if _, err = r.Group(ctx, r.res, ids); err == nil {
		t.Error("Group went on")
	}
}

// TestEverythingAtOnce runs all operations concurrently for the race detector; in the end the counts must agree with
// the stored records.
func TestEverythingAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newService(t)
		defer r.run(t)()
		ctx := t.Context()
		group, list := r.create(t, face.PersonGroup, "g"), r.create(t, face.FaceList, "l")
		expected := func(err error) {
			if refusal, ok := errors.AsType[*visage.Refusal](err); err != nil && !ok {
				t.Errorf("an error that is no refusal: %v", err)
			} else if ok && refusal.Kind == visage.Unavailable {
				t.Error(refusal)
			}
		}
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				for i := range 25 {
					photo := []byte(fmt.Sprintf("p%d.%d", w, i))
					id, err := r.CreatePerson(ctx, r.res, group, "n", nil)
					expected(err)
					p := face.PersonRef{Group: group, ID: id}
					_, err = r.AddPersonFace(ctx, r.res, p, face.Enrolment{Photo: photo})
					expected(err)
					listed, err := r.AddFace(ctx, r.res, list, face.Enrolment{Photo: photo})
					expected(err)
					if i%3 == 0 {
						expected(r.DeletePerson(ctx, r.res, p))
						expected(r.DeleteFace(ctx, r.res, list, listed))
					}
					if i%5 == 0 {
						expected(r.Train(ctx, r.res, group))
					}
					probe := r.detect(t, string(photo))
					_, err = r.Identify(ctx, r.res,
						face.IdentifyQuery{FaceIDs: probe, PersonGroupID: "g", MaxCandidates: 5})
					expected(err)
					found, err := r.FindSimilar(ctx, r.res, face.SimilarQuery{FaceID: probe[0], FaceListID: "l"})
					expected(err)
					for _, f := range found {
						if i%3 == 0 && f.PersistedFaceID == listed {
							t.Error("a deleted face was found")
						}
					}
					_, err = r.Persons(ctx, r.res, group, face.Page{})
					expected(err)
				}
			})
		}
		wg.Wait()
		synctest.Wait()
		if got := r.train(t, group); got.Status != face.Succeeded {
			t.Fatalf("the last training: %+v", got)
		}
		people := must[[]face.Person](t)(r.Persons(ctx, r.res, group, face.Page{}))
		for _, p := range people {
			if p.Name != "n" {
				t.Errorf("got %+v", p)
			}
		}
		listed := must[[]face.PersistedFace](t)(r.Faces(ctx, r.res, list, face.Page{}))
		q := face.SimilarQuery{FaceID: r.detect(t, "ann")[0], FaceListID: "l", Mode: face.MatchFace,
			MaxCandidates: ptr(1000)}
		if found := must[[]face.Similar](t)(r.FindSimilar(ctx, r.res, q)); len(found) != len(listed) {
			t.Errorf("the list has %d faces, its gallery %d", len(listed), len(found))
		}
	})
}
