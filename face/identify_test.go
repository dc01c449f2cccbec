package face_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/face"
)

// running runs a test in a bubble, with the background work of the service, which ends with the test.
func running(t *testing.T, test func(t *testing.T, r *service)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newService(t)
		stop := r.run(t)
		defer stop()
		test(t, r)
	})
}

// run starts the background work and returns the function that stops it.
func (r *service) run(t testing.TB) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}

// train trains a collection inside a bubble and returns the final status.
func (r *service) train(t testing.TB, ref face.Ref) face.Training {
	t.Helper()
	mustDo(t, r.Train(t.Context(), r.res, ref))
	synctest.Wait()
	return must[face.Training](t)(r.Training(t.Context(), r.res, ref))
}

// identify looks for the faces of a photo in a group and returns the candidates of the first.
func (r *service) identify(t testing.TB, group face.Ref, photo string) []face.Candidate {
	t.Helper()
	q := face.IdentifyQuery{FaceIDs: r.detect(t, photo), MaxCandidates: 10}
	if group.Kind == face.PersonGroup {
		q.PersonGroupID = group.ID
	} else {
		q.LargePersonGroupID = group.ID
	}
	return must[[]face.Identified](t)(r.Identify(t.Context(), r.res, q))[0].Candidates
}

var groupKinds = []face.Kind{face.PersonGroup, face.LargePersonGroup}

func TestIdentifyFindsWhoWasEnrolled(t *testing.T) {
	for _, kind := range groupKinds {
		t.Run(kind.String(), func(t *testing.T) {
			running(t, func(t *testing.T, r *service) {
				group := r.create(t, kind, "family")
				ann := r.enrol(t, group, "Ann", "ann.1", "ann.2")
				bob := r.enrol(t, group, "Bob", "bob.1")
				r.enrol(t, group, "nobody yet")
				if got := r.train(t, group); got.Status != face.Succeeded || got.LastSuccess.IsZero() ||
					got.Message != "" {
					t.Fatalf("training: %+v", got)
				}
				q := face.IdentifyQuery{FaceIDs: r.detect(t, "bob ann.3 eve"), MaxCandidates: 1}
				if q.LargePersonGroupID = group.ID; kind == face.PersonGroup {
					q.PersonGroupID, q.LargePersonGroupID = group.ID, ""
				}
				got := must[[]face.Identified](t)(r.Identify(t.Context(), r.res, q))
				if len(got) != 3 {
					t.Fatalf("%d answers, want 3", len(got))
				}
				for i, want := range []string{bob.ID, ann.ID, ""} {
					if got[i].FaceID != q.FaceIDs[i] {
						t.Errorf("answer %d is for %s, want the order of the request", i, got[i].FaceID)
					}
					c := got[i].Candidates
					switch {
					case want == "" && (c == nil || len(c) != 0):
						t.Errorf("a stranger is taken for %v", c)
					case want != "" && (len(c) != 1 || c[0].PersonID != want || c[0].Confidence < 0.5 ||
						c[0].Confidence > 1):
						t.Errorf("answer %d: %v, want %s", i, c, want)
					}
				}
			})
		})
	}
}

func TestIdentifyScoresAPersonByTheBestFace(t *testing.T) {
	running(t, func(t *testing.T, r *service) {
		group := r.create(t, face.PersonGroup, "g")
		r.enrol(t, group, "Ann", "ann.9", "ann", "ann.5")
		r.train(t, group)
		got := r.identify(t, group, "ann")
		if len(got) != 1 || got[0].Confidence < 0.99999 {
			t.Errorf("got %v, want one candidate of confidence 1", got)
		}
	})
}

func TestIdentifyThresholdReplacesTheSamePersonLine(t *testing.T) {
	running(t, func(t *testing.T, r *service) {
		group := r.create(t, face.PersonGroup, "g")
		for _, name := range []string{"ann", "bob", "eve"} {
			r.enrol(t, group, name, name+".1")
		}
		r.train(t, group)
		q := face.IdentifyQuery{FaceIDs: r.detect(t, "ann"), PersonGroupID: "g", MaxCandidates: 100}
		for _, tt := range []struct {
			threshold *float64
			want      int
		}{{nil, 1}, {ptr(0.0), 3}, {ptr(1.0), 0}} {
			q.Threshold = tt.threshold
			got := must[[]face.Identified](t)(r.Identify(t.Context(), r.res, q))[0].Candidates
			if len(got) != tt.want {
				t.Errorf("threshold %v: %d candidates, want %d", tt.threshold, len(got), tt.want)
			}
			for i := 1; i < len(got); i++ {
				if got[i].Confidence > got[i-1].Confidence {
					t.Errorf("candidates are not best first: %v", got)
				}
			}
		}
	})
}

func TestIdentifyAsksForMoreInALargerGroup(t *testing.T) {
	running(t, func(t *testing.T, r *service) {
		group := r.create(t, face.PersonGroup, "g")
		ann := r.enrol(t, group, "Ann", "ann.9")
		r.train(t, group)
		if got := r.identify(t, group, "ann"); len(got) != 1 || got[0].Confidence >= 0.95 {
			t.Fatalf("alone in the group: %v, want one candidate short of certain", got)
		}
		for _, name := range []string{"bob", "cid", "dan", "eve", "fay", "gil", "hal", "ian", "joe"} {
			r.enrol(t, group, name, name)
		}
		if got := r.identify(t, group, "ann"); len(got) != 1 {
			t.Errorf("%v: those added since the training count already", got)
		}
		r.train(t, group)
		if got := r.identify(t, group, "ann"); len(got) != 0 {
			t.Errorf("one of ten: %v, want nobody", got)
		}
		q := face.IdentifyQuery{
			FaceIDs: r.detect(t, "ann"), PersonGroupID: "g", MaxCandidates: 1, Threshold: ptr(0.5),
		}
		got := must[[]face.Identified](t)(r.Identify(t.Context(), r.res, q))[0].Candidates
		if len(got) != 1 || got[0].PersonID != ann.ID {
			t.Errorf("with a threshold of 0.5: %v, want %s", got, ann.ID)
		}
	})
}

func TestPersonsAddedSinceTheTrainingAreNotFound(t *testing.T) {
	running(t, func(t *testing.T, r *service) {
		group := r.create(t, face.LargePersonGroup, "g")
		r.enrol(t, group, "Ann", "ann")
		r.train(t, group)
		time.Sleep(time.Second) // in the bubble: later than the training
		bob := r.enrol(t, group, "Bob", "bob")
		if got := r.identify(t, group, "bob"); len(got) != 0 {
			t.Errorf("before the next training: %v", got)
		}
		restarted := newServiceOn(t, r.store, 0) // loads the group again
		if got := restarted.identify(t, group, "bob"); len(got) != 0 {
			t.Errorf("before the next training, after a restart: %v", got)
		}
		if got := restarted.identify(t, group, "ann"); len(got) != 1 {
			t.Errorf("Ann, after a restart: %v", got)
		}
		held := r.GalleryBytes()
		r.train(t, group)
		if got := r.identify(t, group, "bob"); len(got) != 1 || got[0].PersonID != bob.ID {
			t.Errorf("after it: %v, want Bob", got)
		}
		if now := r.GalleryBytes(); now != held {
			t.Errorf("%d bytes in memory, want the %d of the new gallery alone", now, held)
		}
	})
}

func TestDeletionsTakeEffectAtOnce(t *testing.T) {
	running(t, func(t *testing.T, r *service) {
		group := r.create(t, face.PersonGroup, "g")
		ann, bob := r.enrol(t, group, "Ann", "ann"), r.enrol(t, group, "Bob", "bob")
		spare := r.addFace(t, bob, "bert")
		r.train(t, group)
		for _, photo := range []string{"ann", "bob", "bert"} {
			if got := r.identify(t, group, photo); len(got) != 1 {
				t.Fatalf("%s: %v", photo, got)
			}
		}
		mustDo(t, r.DeletePerson(t.Context(), r.res, ann))
		if got := r.identify(t, group, "ann"); len(got) != 0 {
			t.Errorf("a deleted person is found: %v", got)
		}
		mustDo(t, r.DeletePersonFace(t.Context(), r.res, bob, spare))
		if got := r.identify(t, group, "bert"); len(got) != 0 {
			t.Errorf("a deleted face is found: %v", got)
		}
		if got := r.identify(t, group, "bob"); len(got) != 1 {
			t.Errorf("the face that stayed: %v", got)
		}
		mustDo(t, r.Delete(t.Context(), r.res, group))
		if held := r.GalleryBytes(); held != 0 {
			t.Errorf("%d bytes of the deleted group are in memory", held)
		}
		q := face.IdentifyQuery{FaceIDs: r.detect(t, "bob"), PersonGroupID: "g", MaxCandidates: 1}
		_, err := r.Identify(t.Context(), r.res, q)
		wantRefusal(t, err, visage.Invalid, "PersonGroupNotFound")
		r.create(t, face.PersonGroup, "g")
		if got := must[[]face.Person](t)(r.Persons(t.Context(), r.res, group, face.Page{})); len(got) != 0 {
			t.Errorf("the group that was made again holds %v", got)
		}
		_, err = r.Identify(t.Context(), r.res, q)
		wantRefusal(t, err, visage.Invalid, "PersonGroupNotTrained")
	})
}

func TestIdentifyRefuses(t *testing.T) {
	running(t, func(t *testing.T, r *service) {
		id := r.detect(t, "ann")[0]
		model3 := r.detectAs(t, "ann", "recognition_03")[0]
		trained := r.create(t, face.PersonGroup, "trained")
		r.enrol(t, trained, "Ann", "ann")
		r.train(t, trained)
		failed := r.create(t, face.LargePersonGroup, "failed")
		if got := r.train(t, failed); got.Status != face.Failed {
			t.Fatalf("training of an empty group: %+v", got)
		}
		r.create(t, face.PersonGroup, "untrained")
		r.create(t, face.LargePersonGroup, "untrained")
		eleven := make([]string, 11)
		for i := range eleven {
			eleven[i] = id
		}
		many := make([]string, 31)
		for i := range many {
			many[i] = unknownID
		}
		ok := face.IdentifyQuery{FaceIDs: []string{id}, PersonGroupID: "trained", MaxCandidates: 1}
		if _, err := r.Identify(t.Context(), r.res, ok); err != nil {
			t.Fatal(err)
		}
		ok.FaceIDs, ok.MaxCandidates, ok.Threshold = eleven[:10], 100, ptr(1.0)
		if _, err := r.Identify(t.Context(), r.res, ok); err != nil {
			t.Errorf("everything at its limit: %v", err)
		}
		for _, tt := range []struct {
			name   string
			change func(q *face.IdentifyQuery)
			kind   visage.Kind
			code   string
		}{
			{"no face", func(q *face.IdentifyQuery) { q.FaceIDs = nil }, visage.Invalid, "BadArgument"},
			{"eleven faces", func(q *face.IdentifyQuery) { q.FaceIDs = eleven }, visage.Invalid, "BadArgument"},
			{"malformed face", func(q *face.IdentifyQuery) { q.FaceIDs = []string{"x"} }, visage.Invalid,
				"BadArgument"},
			{"no candidates", func(q *face.IdentifyQuery) { q.MaxCandidates = 0 }, visage.Invalid, "BadArgument"},
			{"101 candidates", func(q *face.IdentifyQuery) { q.MaxCandidates = 101 }, visage.Invalid, "BadArgument"},
			{"threshold below 0", func(q *face.IdentifyQuery) { q.Threshold = ptr(-0.01) }, visage.Invalid,
				"BadArgument"},
			{"threshold above 1", func(q *face.IdentifyQuery) { q.Threshold = ptr(1.01) }, visage.Invalid,
				"BadArgument"},
			{"malformed group", func(q *face.IdentifyQuery) { q.PersonGroupID = "Trained" }, visage.Invalid,
				"BadArgument"},
			{"other model", func(q *face.IdentifyQuery) { q.FaceIDs = []string{model3} }, visage.Invalid,
				"BadArgument"},
			{"unknown face", func(q *face.IdentifyQuery) { q.FaceIDs = []string{id, unknownID} }, visage.Invalid,
				"FaceNotFound"},
			{"unknown group", func(q *face.IdentifyQuery) { q.PersonGroupID = "x" }, visage.Invalid,
				"PersonGroupNotFound"},
			{
				"unknown large group", func(q *face.IdentifyQuery) {
					q.PersonGroupID, q.LargePersonGroupID = "",
						"trained"
				},
				visage.Invalid, "LargePersonGroupNotFound"},
			{"untrained", func(q *face.IdentifyQuery) { q.PersonGroupID = "untrained" }, visage.Invalid,
				"PersonGroupNotTrained"},
			{"untrained large", func(q *face.IdentifyQuery) { q.PersonGroupID, q.LargePersonGroupID = "", "untrained" },
				visage.Invalid, "LargePersonGroupNotTrained"},
			{"never trained with success",
				func(q *face.IdentifyQuery) { q.PersonGroupID, q.LargePersonGroupID = "", "failed" },
				visage.Invalid, "LargePersonGroupNotTrained"},
			{"both groups", func(q *face.IdentifyQuery) { q.LargePersonGroupID = "untrained" },
				visage.Invalid, "PersonGroupIdAndLargePersonGroupIdBothNotNull"},
			{"no group", func(q *face.IdentifyQuery) { q.PersonGroupID = "" },
				visage.Invalid, "PersonGroupIdAndLargePersonGroupIdBothNull"},
			{"group and persons", func(q *face.IdentifyQuery) { q.PersonIDs = []string{"*"} },
				visage.Invalid, "IncompatibleIdentificationScopeParametersCombination"},
			{"all scopes", func(q *face.IdentifyQuery) {
				q.LargePersonGroupID, q.DynamicPersonGroupID, q.PersonIDs = "untrained", "d", []string{"*"}
			}, visage.Invalid, "IncompatibleIdentificationScopeParametersCombination"},
			{"empty persons", func(q *face.IdentifyQuery) { q.PersonGroupID, q.PersonIDs = "", []string{} },
				visage.Invalid, "MissingIdentificationScopeParameters"},
			{"too many persons", func(q *face.IdentifyQuery) { q.PersonGroupID, q.PersonIDs = "", many },
				visage.Invalid, "BadArgument"},
			{"malformed person", func(q *face.IdentifyQuery) { q.PersonGroupID, q.PersonIDs = "", []string{"*", "*"} },
				visage.Invalid, "BadArgument"},
			{"persons", func(q *face.IdentifyQuery) { q.PersonGroupID, q.PersonIDs = "", many[:30] },
				visage.NotFound, "PersonNotFound"},
			{"whole directory", func(q *face.IdentifyQuery) { q.PersonGroupID, q.PersonIDs = "", []string{"*"} },
				visage.NotFound, "PersonNotFound"},
			{"dynamic group", func(q *face.IdentifyQuery) { q.PersonGroupID, q.DynamicPersonGroupID = "", "d" },
				visage.Invalid, "DynamicPersonGroupNotFound"},
			{
				"malformed dynamic group", func(q *face.IdentifyQuery) {
					q.PersonGroupID, q.DynamicPersonGroupID = "",
						"D"
				},
				visage.Invalid, "BadArgument"},
		} {
			q := face.IdentifyQuery{FaceIDs: []string{id}, PersonGroupID: "trained", MaxCandidates: 1}
			tt.change(&q)
			_, err := r.Identify(t.Context(), r.res, q)
			if wantRefusal(t, err, tt.kind, tt.code); t.Failed() {
				t.Fatalf("in case %q", tt.name)
			}
		}
	})
}
