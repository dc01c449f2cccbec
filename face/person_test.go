package face_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/face"
)

func TestPersonsAreCreatedReadChangedAndDeleted(t *testing.T) {
	for _, kind := range groupKinds {
		r := newService(t)
		ctx, group := t.Context(), r.create(t, kind, "g")
		id := must[string](t)(r.CreatePerson(ctx, r.res, group, "Ann", ptr("data")))
		if !uuidV4.MatchString(id) {
			t.Errorf("the person id %q is no UUID", id)
		}
		ref := face.PersonRef{Group: group, ID: id}
		got := must[face.Person](t)(r.GetPerson(ctx, r.res, ref))
		if got.ID != id || got.Name != "Ann" || *got.UserData != "data" || got.FaceIDs == nil || len(got.FaceIDs) != 0 {
			t.Errorf("got %+v", got)
		}
		first, second := r.addFace(t, ref, "ann.1"), r.addFace(t, ref, "ann.1")
		if first == second || !uuidV4.MatchString(first) {
			t.Errorf("the same photo twice gave %q and %q", first, second)
		}
		mustDo(t, r.UpdatePerson(ctx, r.res, ref, face.Change{Name: ptr("Anna")}))
		mustDo(t, r.UpdatePerson(ctx, r.res, ref, face.Change{}))
		got = must[face.Person](t)(r.GetPerson(ctx, r.res, ref))
		if got.Name != "Anna" || *got.UserData != "data" || !slices.Equal(got.FaceIDs, []string{first, second}) {
			t.Errorf("after the changes: %+v", got)
		}
		if all := must[[]face.Person](t)(r.Persons(ctx, r.res, group, face.Page{})); len(all) != 1 ||
			len(all[0].FaceIDs) != 2 {
			t.Errorf("listed: %+v", all)
		}
		if f := must[face.PersistedFace](t)(r.GetPersonFace(ctx, r.res, ref, first)); f.ID != first ||
			f.UserData != nil {
			t.Errorf("face: %+v", f)
		}
		mustDo(t, r.UpdatePersonFace(ctx, r.res, ref, first, nil))
		mustDo(t, r.UpdatePersonFace(ctx, r.res, ref, first, ptr("portrait")))
		if f := must[face.PersistedFace](t)(r.GetPersonFace(ctx, r.res, ref, first)); *f.UserData != "portrait" {
			t.Errorf("face with userData: %+v", f)
		}
		mustDo(t, r.DeletePersonFace(ctx, r.res, ref, first))
		_, err := r.GetPersonFace(ctx, r.res, ref, first)
		wantRefusal(t, err, visage.NotFound, "PersistedFaceNotFound")
		if got = must[face.Person](t)(r.GetPerson(ctx, r.res, ref)); !slices.Equal(got.FaceIDs, []string{second}) {
			t.Errorf("after a deletion: %v", got.FaceIDs)
		}
		mustDo(t, r.DeletePerson(ctx, r.res, ref))
		_, err = r.GetPerson(ctx, r.res, ref)
		wantRefusal(t, err, visage.NotFound, "PersonNotFound")
		of := must[string](t)(r.Incarnation(ctx, r.res, group))
		if _, stored, _, err := r.Records(ctx, r.res, []string{of}); stored != 0 || err != nil {
			t.Errorf("the deleted person left %d records, %v", stored, err)
		}
	}
}

func TestListFacesAreAddedReadChangedAndDeleted(t *testing.T) {
	for _, kind := range []face.Kind{face.FaceList, face.LargeFaceList} {
		r := newService(t)
		ctx, list := t.Context(), r.create(t, kind, "l")
		e := face.Enrolment{Photo: []byte("ann"), UserData: ptr("portrait")}
		ids := []string{must[string](t)(r.AddFace(ctx, r.res, list, e)), r.addListed(t, list, "bob"),
			r.addListed(t, list, "eve")}
		if f := must[face.PersistedFace](t)(r.GetFace(ctx, r.res, list, ids[0])); *f.UserData != "portrait" {
			t.Errorf("got %+v", f)
		}
		mustDo(t, r.UpdateFace(ctx, r.res, list, ids[1], ptr("b")))
		mustDo(t, r.UpdateFace(ctx, r.res, list, ids[1], nil))
		if f := must[face.PersistedFace](t)(r.GetFace(ctx, r.res, list, ids[1])); *f.UserData != "b" {
			t.Errorf("got %+v", f)
		}
		sorted := slices.Sorted(slices.Values(ids))
		page := must[[]face.PersistedFace](t)(r.Faces(ctx, r.res, list, face.Page{Start: sorted[0], Top: ptr(5)}))
		if len(page) != 2 || page[0].ID != sorted[1] || page[1].ID != sorted[2] {
			t.Errorf("page %+v of %v", page, sorted)
		}
		if kind == face.FaceList {
			got := must[face.Collection](t)(r.Get(ctx, r.res, list))
			if len(got.Faces) != 3 || got.Faces[0].ID != sorted[0] {
				t.Errorf("the list with its faces: %+v", got)
			}
		}
		mustDo(t, r.DeleteFace(ctx, r.res, list, ids[0]))
		wantRefusal(t, r.DeleteFace(ctx, r.res, list, ids[0]), visage.NotFound, "PersistedFaceNotFound")
		if got := must[[]face.PersistedFace](t)(r.Faces(ctx, r.res, list, face.Page{})); len(got) != 2 {
			t.Errorf("after a deletion: %+v", got)
		}
	}
}

func TestUnknownAndMalformedPersonsAndFacesAreNotFound(t *testing.T) {
	r := newService(t)
	ctx, group, list := t.Context(), r.create(t, face.PersonGroup, "g"), r.create(t, face.LargeFaceList, "l")
	ann, bob := r.enrol(t, group, "Ann"), r.enrol(t, group, "Bob")
	annFace := r.addFace(t, ann, "ann")
	for _, id := range []string{unknownID, "x", "", strings.ToUpper(ann.ID)} {
		p := face.PersonRef{Group: group, ID: id}
		_, err := r.GetPerson(ctx, r.res, p)
		wantRefusal(t, err, visage.NotFound, "PersonNotFound")
		wantRefusal(t, r.UpdatePerson(ctx, r.res, p, face.Change{Name: ptr("n")}), visage.NotFound, "PersonNotFound")
		wantRefusal(t, r.DeletePerson(ctx, r.res, p), visage.NotFound, "PersonNotFound")
		_, err = r.AddPersonFace(ctx, r.res, p, face.Enrolment{Photo: []byte("ann")})
		wantRefusal(t, err, visage.NotFound, "PersonNotFound")
		_, err = r.GetPersonFace(ctx, r.res, p, annFace)
		wantRefusal(t, err, visage.NotFound, "PersonNotFound")
		wantRefusal(t, r.UpdatePersonFace(ctx, r.res, p, annFace, ptr("d")), visage.NotFound, "PersonNotFound")
		wantRefusal(t, r.DeletePersonFace(ctx, r.res, p, annFace), visage.NotFound, "PersonNotFound")

		_, err = r.GetFace(ctx, r.res, list, id)
		wantRefusal(t, err, visage.NotFound, "PersistedFaceNotFound")
		wantRefusal(t, r.UpdateFace(ctx, r.res, list, id, ptr("d")), visage.NotFound, "PersistedFaceNotFound")
		wantRefusal(t, r.DeleteFace(ctx, r.res, list, id), visage.NotFound, "PersistedFaceNotFound")
		_, err = r.GetPersonFace(ctx, r.res, ann, id)
		wantRefusal(t, err, visage.NotFound, "PersistedFaceNotFound")
	}
	// A face of another person is as unknown as any.
	_, err := r.GetPersonFace(ctx, r.res, bob, annFace)
	wantRefusal(t, err, visage.NotFound, "PersistedFaceNotFound")
	wantRefusal(t, r.UpdatePersonFace(ctx, r.res, bob, annFace, ptr("d")), visage.NotFound, "PersistedFaceNotFound")
	wantRefusal(t, r.DeletePersonFace(ctx, r.res, bob, annFace), visage.NotFound, "PersistedFaceNotFound")
}

func TestPersonAndFaceTextLimits(t *testing.T) {
	r := newService(t)
	ctx, group, list := t.Context(), r.create(t, face.PersonGroup, "g"), r.create(t, face.FaceList, "l")
	ann := r.enrol(t, group, "Ann")
	id := r.addFace(t, ann, "ann")
	bad := func(err error) {
		t.Helper()
		wantRefusal(t, err, visage.Invalid, "BadArgument")
	}
	long := func(n int) *string { return ptr(strings.Repeat("é", n)) }
	_, err := r.CreatePerson(ctx, r.res, group, "", nil)
	bad(err)
	_, err = r.CreatePerson(ctx, r.res, group, *long(129), nil)
	bad(err)
	_, err = r.CreatePerson(ctx, r.res, group, "n", long(16_385))
	bad(err)
	must[string](t)(r.CreatePerson(ctx, r.res, group, *long(128), long(16_384)))
	bad(r.UpdatePerson(ctx, r.res, ann, face.Change{Name: ptr("")}))
	bad(r.UpdatePerson(ctx, r.res, ann, face.Change{UserData: long(16_385)}))
	bad(r.UpdatePersonFace(ctx, r.res, ann, id, long(1_025)))
	mustDo(t, r.UpdatePersonFace(ctx, r.res, ann, id, long(1_024)))
	_, err = r.AddFace(ctx, r.res, list, face.Enrolment{Photo: []byte("ann"), UserData: long(1_025)})
	bad(err)
	must[string](t)(r.AddFace(ctx, r.res, list, face.Enrolment{Photo: []byte("ann"), UserData: long(1_024)}))
	bad(r.UpdateFace(ctx, r.res, list, unknownID, long(1_025)))
	_, err = r.Persons(ctx, r.res, group, face.Page{Top: ptr(1001)})
	bad(err)
	_, err = r.Faces(ctx, r.res, list, face.Page{Start: *long(65)})
	bad(err)
}

func TestEnrolmentChoosesTheFace(t *testing.T) {
	r := newService(t)
	ctx, list := t.Context(), r.create(t, face.FaceList, "l")
	for _, tt := range []struct {
		name, photo string
		target      *face.Box
		code        string // empty: accepted
	}{
		{"one face", "ann", nil, ""},
		{"no face", " ", nil, "InvalidImage"},
		{"two faces", "ann bob", nil, "InvalidImage"},
		{"target is the second", "ann bob", &face.Box{Left: 110, Top: 110, Width: 80, Height: 80}, ""},
		{"target touches both", "ann bob", &face.Box{Left: 90, Top: 90, Width: 100, Height: 100}, ""},
		{"target on one face", "ann", &face.Box{Left: 50, Top: 50, Width: 10, Height: 10}, ""},
		{"target meets no face", "ann bob", &face.Box{Left: 500, Top: 500, Width: 10, Height: 10}, "InvalidImage"},
		{"no template can be made", "?blurred", nil, "InvalidImage"},
		{"no template can be made of the target", "ann ?blurred", &face.Box{Left: 100, Top: 100, Width: 99, Height: 99},
			"InvalidImage"},
		{"target and no face", " ", &face.Box{Left: 1, Top: 1, Width: 10, Height: 10}, "InvalidImage"},
		{"target to the very edge", "ann", &face.Box{Width: 1000, Height: 1000}, ""},
		{"target beyond the right edge", "ann", &face.Box{Width: 1001, Height: 1000}, "BadArgument"},
		{"target beyond the lower edge", "ann", &face.Box{Top: 1, Width: 10, Height: 1000}, "BadArgument"},
		{"target outside", "ann", &face.Box{Left: 5000, Top: 10, Width: 10, Height: 10}, "BadArgument"},
		{"target left of the picture", "ann", &face.Box{Left: -1, Width: 10, Height: 10}, "BadArgument"},
		{"target without width", "ann", &face.Box{Height: 10}, "BadArgument"},
		{"target without height", "ann", &face.Box{Width: 10}, "BadArgument"},
	} {
		id, err := r.AddFace(ctx, r.res, list, face.Enrolment{Photo: []byte(tt.photo), TargetFace: tt.target})
		if tt.code != "" {
			if wantRefusal(t, err, visage.Invalid, tt.code); t.Failed() {
				t.Fatalf("in case %q", tt.name)
			}
			continue
		}
		if err != nil || id == "" {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		want := strings.Fields(tt.photo)
		q := face.SimilarQuery{FaceID: r.detect(t, want[len(want)-1])[0], FaceListID: "l", MaxCandidates: ptr(1)}
		if got := must[[]face.Similar](t)(r.FindSimilar(ctx, r.res, q)); len(got) != 1 || got[0].PersistedFaceID != id {
			t.Errorf("%s: the face that was added is not %s: %v", tt.name, want[len(want)-1], got)
		}
		mustDo(t, r.DeleteFace(ctx, r.res, list, id))
	}
	for _, tt := range []struct{ photo, code string }{
		{"!format", "InvalidImage"}, {"!broken", "InvalidImage"}, {"!few", "InvalidImageSize"},
		{"!many", "InvalidImageSize"},
	} {
		_, err := r.AddFace(ctx, r.res, list, face.Enrolment{Photo: []byte(tt.photo)})
		wantRefusal(t, err, visage.Invalid, tt.code)
	}
	_, err := r.AddFace(ctx, r.res, list, face.Enrolment{Photo: []byte("ann"), DetectionModel: "detection_00"})
	wantRefusal(t, err, visage.Invalid, "BadArgument")
}

func TestParseTargetFace(t *testing.T) {
	for text, want := range map[string]face.Box{
		"1,2,3,4": {Left: 1, Top: 2, Width: 3, Height: 4}, "0, 0, 10, 20": {Width: 10, Height: 20},
	} {
		if got, err := face.ParseTargetFace(text); err != nil || got != want {
			t.Errorf("%q: got %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "1,2,3", "1,2,3,4,5", "a,b,c,d", "1.5,2,3,4", "-1,2,3,4", "1,2,0,4", "1,2,3,-4",
		"1;2;3;4", "1,2,3,99999999999999999999", "0x1,2,3,4"} {
		_, err := face.ParseTargetFace(text)
		wantRefusal(t, err, visage.Invalid, "BadArgument")
	}
}

func FuzzParseTargetFace(f *testing.F) {
	for _, text := range []string{"1,2,3,4", "", "0,0,1,1", "a,b,c,d", "-1,2,3,4", "1, 2,3 ,4",
		"2147483647,2147483648,1,1"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		b, err := face.ParseTargetFace(text)
		if err != nil {
			return
		}
		again, err := face.ParseTargetFace(fmt.Sprintf("%d,%d,%d,%d", b.Left, b.Top, b.Width, b.Height))
		if err != nil || again != b || b.Left < 0 || b.Top < 0 || b.Width < 1 || b.Height < 1 {
			t.Errorf("%q reads as %v, which reads as %v, %v", text, b, again, err)
		}
	})
}

func TestPersonQuotas(t *testing.T) {
	for _, tier := range []visage.Tier{visage.F0, visage.S0, visage.E0} {
		for _, kind := range groupKinds {
			r := newService(t)
			r.res.Tier = tier
			l := tier.Limits()
			each, all := l.PersonsPerPersonGroup, l.PersonsInPersonGroups
			if kind == face.LargePersonGroup {
				each, all = l.PersonsPerLargeGroup, l.PersonsInLargeOnes
			}
			ctx, group := t.Context(), r.create(t, kind, "g")
			refused := func() {
				t.Helper()
				_, err := r.CreatePerson(ctx, r.res, group, "over", nil)
				wantRefusal(t, err, visage.Denied, "QuotaExceeded")
			}
			mustDo(t, r.Pretend(ctx, r.res, group, -1, 1, each-1, -1))
			last := r.enrol(t, group, "last")
			refused()
			mustDo(t, r.DeletePerson(ctx, r.res, last))
			r.enrol(t, group, "last again")
			refused()

			mustDo(t, r.Pretend(ctx, r.res, group, -1, all-1, 1, -1))
			r.enrol(t, group, "last of all")
			refused()
			other := face.LargePersonGroup
			if kind == other {
				other = face.PersonGroup
			}
			r.enrol(t, r.create(t, other, "other"), "the kinds are counted apart")
		}
	}
}

func TestFaceQuotas(t *testing.T) {
	for _, kind := range []face.Kind{face.FaceList, face.LargeFaceList} {
		r := newService(t)
		ctx, list := t.Context(), r.create(t, kind, "l")
		most := r.res.Tier.Limits().FacesPerFaceList
		if kind == face.LargeFaceList {
			most = r.res.Tier.Limits().FacesPerLargeFaceList
		}
		mustDo(t, r.Pretend(ctx, r.res, list, -1, -1, -1, most-1))
		last := r.addListed(t, list, "ann")
		_, err := r.AddFace(ctx, r.res, list, face.Enrolment{Photo: []byte("bob")})
		wantRefusal(t, err, visage.Denied, "QuotaExceeded")
		mustDo(t, r.DeleteFace(ctx, r.res, list, last))
		r.addListed(t, list, "bob")
	}
	r := newService(t)
	group := r.create(t, face.PersonGroup, "g")
	ann := r.enrol(t, group, "Ann")
	var last string
	for range r.res.Tier.Limits().FacesPerPerson {
		last = r.addFace(t, ann, "ann")
	}
	_, err := r.AddPersonFace(t.Context(), r.res, ann, face.Enrolment{Photo: []byte("ann")})
	wantRefusal(t, err, visage.Denied, "QuotaExceeded")
	mustDo(t, r.DeletePersonFace(t.Context(), r.res, ann, last))
	r.addFace(t, ann, "ann")
}

func TestQuotasHoldWhenManyComeAtOnce(t *testing.T) {
	r := newService(t)
	group := r.create(t, face.PersonGroup, "g")
	ann := r.enrol(t, group, "Ann")
	const free = 5
	for range r.res.Tier.Limits().FacesPerPerson - free {
		r.addFace(t, ann, "ann")
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	added := 0
	for range 4 * free {
		wg.Go(func() {
			_, err := r.AddPersonFace(t.Context(), r.res, ann, face.Enrolment{Photo: []byte("ann")})
			if err != nil {
				wantRefusal(t, err, visage.Denied, "QuotaExceeded")
				return
			}
			mu.Lock()
			added++
			mu.Unlock()
		})
	}
	wg.Wait()
	got := must[face.Person](t)(r.GetPerson(t.Context(), r.res, ann))
	if added != free || len(got.FaceIDs) != r.res.Tier.Limits().FacesPerPerson {
		t.Errorf("%d were added, the person has %d", added, len(got.FaceIDs))
	}
}

func TestChangesOfAPersonWaitForOneAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newService(t)
		group := r.create(t, face.PersonGroup, "g")
		ann, bob := r.enrol(t, group, "Ann"), r.enrol(t, group, "Bob")
		release, err := r.HoldPerson(t.Context(), r.res, ann)
		mustDo(t, err)
		var wg sync.WaitGroup
		var mu sync.Mutex
		done := 0
		for range 5 {
			wg.Go(func() {
				r.addFace(t, ann, "ann")
				mu.Lock()
				done++
				mu.Unlock()
			})
		}
		synctest.Wait()
		r.addFace(t, bob, "bob") // changes of another person do not wait
		if mu.Lock(); done != 0 {
			t.Errorf("%d changes did not wait", done)
		}
		mu.Unlock()
		release()
		wg.Wait()
		if got := must[face.Person](t)(r.GetPerson(t.Context(), r.res, ann)); len(got.FaceIDs) != 5 {
			t.Errorf("%d faces, want all five", len(got.FaceIDs))
		}

		release, err = r.HoldPerson(t.Context(), r.res, ann)
		mustDo(t, err)
		err = r.UpdatePerson(t.Context(), r.res, ann, face.Change{Name: ptr("too late")})
		wantRefusal(t, err, visage.Conflict, "ConcurrentOperationConflict")
		release()
		mustDo(t, r.UpdatePerson(t.Context(), r.res, ann, face.Change{Name: ptr("in time")}))
	})
}
