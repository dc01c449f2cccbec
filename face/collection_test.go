package face_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/face"
	"github.com/visage-face/visage/vision"
)

var allKinds = []face.Kind{face.FaceList, face.LargeFaceList, face.PersonGroup, face.LargePersonGroup}

// forAllKinds runs a test for each kind of collection, each with a service of its own.
func forAllKinds(t *testing.T, test func(t *testing.T, r *service, kind face.Kind)) {
	for _, kind := range allKinds {
		t.Run(kind.String(), func(t *testing.T) { test(t, newService(t), kind) })
	}
}

func TestCollectionsAreCreatedReadChangedAndDeleted(t *testing.T) {
	forAllKinds(t, func(t *testing.T, r *service, kind face.Kind) {
		ctx, ref := t.Context(), face.Ref{Kind: kind, ID: "a-b_9"}
		mustDo(t, r.Create(ctx, r.res, ref, face.Creation{Name: "first", RecognitionModel: "recognition_04"}))
		got := must[face.Collection](t)(r.Get(ctx, r.res, ref))
		if got.ID != "a-b_9" || got.Name != "first" || got.UserData != nil || got.RecognitionModel != "recognition_04" {
			t.Errorf("got %+v", got)
		}
		if isList := kind == face.FaceList; (got.Faces != nil) != isList {
			t.Errorf("faces %v", got.Faces)
		}
		mustDo(t, r.Update(ctx, r.res, ref, face.Change{UserData: ptr("data")}))
		mustDo(t, r.Update(ctx, r.res, ref, face.Change{Name: ptr("second")}))
		if got = must[face.Collection](t)(r.Get(ctx, r.res, ref)); got.Name != "second" || *got.UserData != "data" {
			t.Errorf("after two changes: %+v", got)
		}
		err := r.Create(ctx, r.res, ref, face.Creation{Name: "third"})
		wantRefusal(t, err, visage.Conflict, kind.String()+"Exists")
		mustDo(t, r.Delete(ctx, r.res, ref))
		_, err = r.Get(ctx, r.res, ref)
		wantRefusal(t, err, visage.NotFound, kind.String()+"NotFound")
		wantRefusal(t, r.Delete(ctx, r.res, ref), visage.NotFound, kind.String()+"NotFound")
		mustDo(t, r.Create(ctx, r.res, ref, face.Creation{Name: "again"}))
		if got = must[face.Collection](t)(r.Get(ctx, r.res, ref)); got.RecognitionModel != "recognition_01" {
			t.Errorf("the default model is %s", got.RecognitionModel)
		}
	})
}

func TestCollectionLimits(t *testing.T) {
	const wide = "😀" // two UTF-16 code units, four bytes
	forAllKinds(t, func(t *testing.T, r *service, kind face.Kind) {
		long := strings.Repeat("x", 64)
		for i, tt := range []struct {
			name     string
			id       string
			creation face.Creation
			ok       bool
		}{
			{"longest id", long, face.Creation{Name: "n"}, true},
			{"id too long", long + "x", face.Creation{Name: "n"}, false},
			{"no id", "", face.Creation{Name: "n"}, false},
			{"upper case id", "Id", face.Creation{Name: "n"}, false},
			{"id with a line break", "id\n", face.Creation{Name: "n"}, false},
			{"id with a dot", "i.d", face.Creation{Name: "n"}, false},
			{"no name", "i", face.Creation{}, false},
			{"longest name", "i%d", face.Creation{Name: strings.Repeat("n", 128)}, true},
			{"name too long", "i", face.Creation{Name: strings.Repeat("n", 129)}, false},
			{"longest wide name", "i%d", face.Creation{Name: strings.Repeat(wide, 64)}, true},
			{"wide name too long", "i", face.Creation{Name: strings.Repeat(wide, 64) + "n"}, false},
			{"longest userData", "i%d", face.Creation{Name: "n", UserData: ptr(strings.Repeat("d", 16_384))}, true},
			{"userData too long", "i", face.Creation{Name: "n", UserData: ptr(strings.Repeat("d", 16_385))}, false},
			{"longest wide userData", "i%d", face.Creation{Name: "n", UserData: ptr(strings.Repeat(wide, 8_192))},
				true},
			{"empty userData", "i%d", face.Creation{Name: "n", UserData: ptr("")}, true},
			{"name that is no text", "i", face.Creation{Name: "n\xff"}, false},
			{"userData that is no text", "i", face.Creation{Name: "n", UserData: ptr("\xc3\x28")}, false},
			{"unknown model", "i", face.Creation{Name: "n", RecognitionModel: "recognition_05"}, false},
		} {
			id := tt.id
			if strings.Contains(id, "%d") {
				id = fmt.Sprintf(id, i)
			}
			err := r.Create(t.Context(), r.res, face.Ref{Kind: kind, ID: id}, tt.creation)
			if tt.ok {
				if err != nil {
					t.Errorf("%s: %v", tt.name, err)
				}
				continue
			}
			if wantRefusal(t, err, visage.Invalid, "BadArgument"); t.Failed() {
				t.Fatalf("in case %q", tt.name)
			}
		}
		ref := face.Ref{Kind: kind, ID: long}
		for _, c := range []face.Change{
			{Name: ptr("")}, {Name: ptr(strings.Repeat("n", 129))}, {UserData: ptr(strings.Repeat("d", 16_385))},
		} {
			wantRefusal(t, r.Update(t.Context(), r.res, ref, c), visage.Invalid, "BadArgument")
		}
		err := r.Update(t.Context(), r.res, ref, face.Change{})
		if kind == face.LargeFaceList || kind == face.LargePersonGroup {
			wantRefusal(t, err, visage.Invalid, "BadArgument")
		} else if err != nil {
			t.Errorf("a change of nothing: %v", err)
		}
	})
}

func TestUnknownAndMalformedCollectionsAreNotFound(t *testing.T) {
	forAllKinds(t, func(t *testing.T, r *service, kind face.Kind) {
		ctx, code := t.Context(), kind.String()+"NotFound"
		for _, id := range []string{"unknown", "Malformed!", "", strings.Repeat("x", 65), strings.Repeat("\x80", 65)} {
			ref := face.Ref{Kind: kind, ID: id}
			person := face.PersonRef{Group: ref, ID: unknownID}
			enrolment := face.Enrolment{Photo: []byte("ann")}
			calls := map[string]func() error{
				"Get":    func() error { _, err := r.Get(ctx, r.res, ref); return err },
				"Update": func() error { return r.Update(ctx, r.res, ref, face.Change{Name: ptr("n")}) },
				"Delete": func() error { return r.Delete(ctx, r.res, ref) },
			}
			if kind != face.FaceList {
				calls["Train"] = func() error { return r.Train(ctx, r.res, ref) }
				calls["Training"] = func() error { _, err := r.Training(ctx, r.res, ref); return err }
			}
			if kind == face.FaceList || kind == face.LargeFaceList {
				calls["AddFace"] = func() error { _, err := r.AddFace(ctx, r.res, ref, enrolment); return err }
				calls["Faces"] = func() error { _, err := r.Faces(ctx, r.res, ref, face.Page{}); return err }
				calls["GetFace"] = func() error { _, err := r.GetFace(ctx, r.res, ref, unknownID); return err }
				calls["UpdateFace"] = func() error { return r.UpdateFace(ctx, r.res, ref, unknownID, ptr("d")) }
				calls["DeleteFace"] = func() error { return r.DeleteFace(ctx, r.res, ref, unknownID) }
			} else {
				calls["CreatePerson"] = func() error { _, err := r.CreatePerson(ctx, r.res, ref, "n", nil); return err }
				calls["Persons"] = func() error { _, err := r.Persons(ctx, r.res, ref, face.Page{}); return err }
				calls["GetPerson"] = func() error { _, err := r.GetPerson(ctx, r.res, person); return err }
				calls["UpdatePerson"] = func() error { return r.UpdatePerson(ctx, r.res, person, face.Change{}) }
				calls["DeletePerson"] = func() error { return r.DeletePerson(ctx, r.res, person) }
				calls["AddPersonFace"] = func() error {
					_,
						err := r.AddPersonFace(ctx, r.res, person, enrolment)
					return err
				}
				calls["GetPersonFace"] = func() error {
					_,
						err := r.GetPersonFace(ctx, r.res, person, unknownID)
					return err
				}
				calls["UpdatePersonFace"] = func() error {
					return r.UpdatePersonFace(ctx, r.res, person, unknownID,
						ptr("d"))
				}
				calls["DeletePersonFace"] = func() error { return r.DeletePersonFace(ctx, r.res, person, unknownID) }
			}
			for name, call := range calls {
				if wantRefusal(t, call(), visage.NotFound, code); t.Failed() {
					t.Fatalf("%s of %q", name, id)
				}
			}
		}
	})
}

func TestListsOfCollectionsAreSortedAndPaged(t *testing.T) {
	forAllKinds(t, func(t *testing.T, r *service, kind face.Kind) {
		ids := strings.Fields("b a c-1 c_1 c 10 9 ab")
		for _, id := range ids {
			r.create(t, kind, id)
		}
		slices.Sort(ids)
		list := func(p face.Page) (got []string) {
			for _, c := range must[[]face.Collection](t)(r.List(t.Context(), r.res, kind, p)) {
				if c.Name != "name of "+c.ID || c.Faces != nil {
					t.Errorf("got %+v", c)
				}
				got = append(got, c.ID)
			}
			return got
		}
		for _, tt := range []struct {
			page face.Page
			want []string
		}{
			{face.Page{}, ids},
			{face.Page{Top: ptr(3)}, ids[:3]},
			{face.Page{Start: ids[2], Top: ptr(3)}, ids[3:6]},
			{face.Page{Start: "bb"}, ids[5:]},
			{face.Page{Start: "Zebra", Top: ptr(1000)}, ids[2:]},
			{face.Page{Start: ids[7]}, nil},
			{face.Page{Start: strings.Repeat("z", 64)}, nil},
		} {
			if got := list(tt.page); !slices.Equal(got, tt.want) {
				t.Errorf("page %+v: got %v, want %v", tt.page, got, tt.want)
			}
		}
		for _, p := range []face.Page{{Top: ptr(0)}, {Top: ptr(1001)}, {Top: ptr(-1)},
			{Start: strings.Repeat("z", 65)}} {
			_, err := r.List(t.Context(), r.res, kind, p)
			wantRefusal(t, err, visage.Invalid, "BadArgument")
		}
		mustDo(t, r.Delete(t.Context(), r.res, face.Ref{Kind: kind, ID: ids[1]}))
		if got, want := list(face.Page{}), slices.Delete(slices.Clone(ids), 1, 2); !slices.Equal(got, want) {
			t.Errorf("after a deletion: %v, want %v", got, want)
		}
		other := visage.Resource{ID: visage.ResourceID{2}, Tier: visage.S0}
		if got, err := r.List(t.Context(), other, kind, face.Page{}); err != nil || got == nil || len(got) != 0 {
			t.Errorf("another resource sees %v, %v", got, err)
		}
	})
}

// TestListsFollowChanges compares pages with a model under random changes, while the orders of two lists push one
// another out of memory.
func TestListsFollowChanges(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 9))
	r := newService(t)
	r.KeepOrders(900)
	groups := []face.Ref{r.create(t, face.PersonGroup, "a"), r.create(t, face.LargePersonGroup, "b")}
	model := make([][]string, len(groups))
	for range 3_000 {
		g := rnd.IntN(len(groups))
		switch n := rnd.IntN(10); {
		case n < 6:
			p := r.enrol(t, groups[g], "n")
			at, _ := slices.BinarySearch(model[g], p.ID)
			model[g] = slices.Insert(model[g], at, p.ID)
		case n < 8 && len(model[g]) > 0:
			at := rnd.IntN(len(model[g]))
			mustDo(t, r.DeletePerson(t.Context(), r.res, face.PersonRef{Group: groups[g], ID: model[g][at]}))
			model[g] = slices.Delete(model[g], at, at+1)
		default:
			p := face.Page{Top: ptr(1 + rnd.IntN(20))}
			want := model[g]
			if len(model[g]) > 0 && rnd.IntN(3) > 0 {
				at := rnd.IntN(len(model[g]))
				p.Start, want = model[g][at], model[g][at+1:]
			}
			want = want[:min(len(want), *p.Top)]
			var got []string
			for _, p := range must[[]face.Person](t)(r.Persons(t.Context(), r.res, groups[g], p)) {
				got = append(got, p.ID)
			}
			if !slices.Equal(got, want) {
				t.Fatalf("page %+v of %d: got %v, want %v", p, len(model[g]), got, want)
			}
		}
	}
}

func TestCollectionQuotas(t *testing.T) {
	for _, tier := range []visage.Tier{visage.F0, visage.S0, visage.E0} {
		l := tier.Limits()
		for kind, most := range map[face.Kind]int{
			face.FaceList: l.FaceLists, face.LargeFaceList: l.LargeFaceLists,
			face.PersonGroup: l.PersonGroups, face.LargePersonGroup: l.LargePersonGroups,
		} {
			r := newService(t)
			r.res.Tier = tier
			mustDo(t, r.Pretend(t.Context(), r.res, face.Ref{Kind: kind}, most-1, -1, -1, -1))
			last := r.create(t, kind, "last")
			over := face.Ref{Kind: kind, ID: "over"}
			err := r.Create(t.Context(), r.res, over, face.Creation{Name: "n"})
			wantRefusal(t, err, visage.Denied, "QuotaExceeded")
			mustDo(t, r.Delete(t.Context(), r.res, last))
			r.create(t, kind, over.ID)
		}
	}
}

func TestDeletedCollectionsLeaveNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newService(t)
		defer r.run(t)()
		group, list := r.create(t, face.PersonGroup, "g"), r.create(t, face.FaceList, "l")
		r.enrol(t, group, "Ann", "ann", "ann.1")
		e := face.Enrolment{Photo: []byte("bob"), UserData: ptr("data")}
		must[string](t)(r.AddFace(t.Context(), r.res, list, e))
		var of []string
		for _, ref := range []face.Ref{group, list} {
			of = append(of, must[string](t)(r.Incarnation(t.Context(), r.res, ref)))
		}
		if _, stored, _, err := r.Records(t.Context(), r.res, of); stored != 5 || err != nil {
			t.Fatalf("%d records, %v; want a person, three faces, userData", stored, err)
		}
		mustDo(t, r.Delete(t.Context(), r.res, group))
		mustDo(t, r.Delete(t.Context(), r.res, list))
		time.Sleep(time.Second)
		synctest.Wait()
		if _, stored, waiting, err := r.Records(t.Context(), r.res, of); stored != 0 || waiting != 0 || err != nil {
			t.Errorf("%d records and %d containers are left, %v", stored, waiting, err)
		}
	})
}

func TestDeletingAGroupFreesItsPersons(t *testing.T) {
	r := newService(t)
	r.res.Tier = visage.F0
	ctx, group := t.Context(), r.create(t, face.PersonGroup, "g")
	for range 3 {
		r.enrol(t, group, "n")
	}
	most := r.res.Tier.Limits().PersonsInPersonGroups
	mustDo(t, r.Pretend(ctx, r.res, group, -1, most, -1, -1))
	other := r.create(t, face.PersonGroup, "other")
	_, err := r.CreatePerson(ctx, r.res, other, "n", nil)
	wantRefusal(t, err, visage.Denied, "QuotaExceeded")
	mustDo(t, r.Delete(ctx, r.res, group))
	for range 3 {
		r.enrol(t, other, "n")
	}
	_, err = r.CreatePerson(ctx, r.res, other, "n", nil)
	wantRefusal(t, err, visage.Denied, "QuotaExceeded")
}

// TestACollectionMadeAgainIsAnother deletes a list and a group and creates them again during operations that began with
// the old ones.
func TestACollectionMadeAgainIsAnother(t *testing.T) {
	running(t, func(t *testing.T, r *service) {
		ctx, list, group := t.Context(), r.create(t, face.FaceList, "l"), r.create(t, face.PersonGroup, "g")
		replace := func(ref face.Ref) {
			mustDo(t, r.Delete(ctx, r.res, ref))
			r.create(t, ref.Kind, ref.ID)
		}
		r.model.want = func(vision.Want) {
			r.model.want = nil
			replace(list)
		}
		_, err := r.AddFace(ctx, r.res, list, face.Enrolment{Photo: []byte("ann")})
		wantRefusal(t, err, visage.NotFound, "FaceListNotFound")
		if got := must[face.Collection](t)(r.Get(ctx, r.res, list)); len(got.Faces) != 0 {
			t.Errorf("the new list holds %v", got.Faces)
		}

		r.enrol(t, group, "Ann", "ann")
		r.train(t, group)
		err = r.DuringSearch(ctx, r.res, group, codeOf("ann"), func() { replace(group) }, func() {})
		wantRefusal(t, err, visage.NotFound, "PersonGroupNotFound")
	})
}

func TestChangesDuringTheFirstListingAreSeen(t *testing.T) {
	r := newService(t)
	got := must[[]string](t)(r.DuringScan(t.Context(), []string{"b", "a", "c"}, func(change func(string, bool)) {
		change("d", true)
		change("b", false)
		change("e", true)
		change("e", false)
	}))
	if want := []string{"a", "c", "d"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
