package face_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/face"
	"github.com/visage-face/visage/sealed"
)

// find returns the names of all persons that are found, in their order, in pages of a length.
func (r *service) find(t testing.TB, group face.Ref, text string, top int) []string {
	t.Helper()
	names := []string{}
	q := face.PersonQuery{Text: text, Top: &top}
	for pages := 0; ; pages++ {
		found := must[face.PersonsFound](t)(r.FindPersons(t.Context(), r.res, group, q))
		if found.Building {
			continue // the index is not complete: each search waits for it a while
		}
		if found.Persons == nil || len(found.Persons) > top || pages > 10_000 {
			t.Fatalf("a page of %d persons after %d pages", len(found.Persons), pages)
		}
		for _, p := range found.Persons {
			names = append(names, p.Name)
		}
		if q.Start = found.Next; q.Start == "" {
			if found.Searched != found.Of {
				t.Errorf("the last page says that %d of %d persons were searched", found.Searched, found.Of)
			}
			return names
		}
	}
}

// TestPersonsAreFoundByName: in any case, with and without accents, in any script.
func TestPersonsAreFoundByName(t *testing.T) {
	r := newService(t)
	group := r.create(t, face.LargePersonGroup, "g")
	for _, name := range []string{
		"Zoë Müller", "MUELLER, Anna", "Jürgen Groß", "François D’Aubigné", "Søren Kierkegaard", "Łukasz Żak",
		"İpek Işık", "Ὀδυσσεύς", "Ёлка Соловьёва", "Привет", "مُحَمَّد", "שָׁלוֹם", "김철수", "がく", "かく", "हिन्दी",
		"สมชาย", "ﬁnn",
		"Ann\u200b  Lee", "Nguyễn Văn Đức", "100% \"Ann\" \\ %s", "田中 太郎",
	} {
		r.enrol(t, group, name)
	}
	for _, tt := range []struct{ text, want string }{
		{"zoe", "Zoë Müller"}, {"ZOË m", "Zoë Müller"}, {"zoe\u0308", "Zoë Müller"}, {"muller", "Zoë Müller"},
		{"mueller", "MUELLER, Anna"}, {"gross", "Jürgen Groß"}, {"GROẞ", "Jürgen Groß"},
		{"d'aubigne", "François D’Aubigné"}, {"soren", "Søren Kierkegaard"}, {"lukasz zak", "Łukasz Żak"},
		{"ipek isik", "İpek Işık"}, {"IŞIK", "İpek Işık"}, {"οδυσσευς", "Ὀδυσσεύς"}, {"ΟΔΥΣΣΕΥΣ", "Ὀδυσσεύς"},
		{"елка", "Ёлка Соловьёва"}, {"ПРИВ", "Привет"}, {"محمد", "مُحَمَّد"}, {"שלום", "שָׁלוֹם"}, {"김철", "김철수"},
		{"がく", "がく"}, {"かく", "かく"}, {"हिन्दी", "हिन्दी"}, {"हन्द", ""}, {"สมชาย", "สมชาย"}, {"finn", "ﬁnn"},
		{" ann  lee ", "Ann\u200b  Lee"}, {"nguyen van duc", "Nguyễn Văn Đức"}, {"太郎", "田中 太郎"},
		{"%s", "100% \"Ann\" \\ %s"},
		{"nobody", ""}, {"zoe\x00", "Zoë Müller"}, {"ë m", "Zoë Müller"},
	} {
		if got := strings.Join(r.find(t, group, tt.text, 10), "|"); got != tt.want {
			t.Errorf("%q finds %q, want %q", tt.text, got, tt.want)
		}
	}
}

// TestPersonsAreFoundInPages: the best matches first, each once, whatever the length of pages.
func TestPersonsAreFoundInPages(t *testing.T) {
	r := newService(t)
	group := r.create(t, face.PersonGroup, "g")
	want := map[bool][]string{} // by whether the name begins so
	for i := range 50 {
		name := fmt.Sprintf("Ann Ann %d", i)
		if i%3 == 0 {
			name = fmt.Sprintf("Joanna %d", i)
		}
		r.enrol(t, group, name)
		want[i%3 != 0] = append(want[i%3 != 0], name)
	}
	r.enrol(t, group, "Bob")
	sorted := func(names []string) []string { return slices.Sorted(slices.Values(names)) }
	for _, top := range []int{1, 7, 33, 34, 50, 51, 1000} {
		got := r.find(t, group, "ann", top)
		if n := len(want[true]); len(got) != 50 || !slices.Equal(sorted(got[:n]), sorted(want[true])) ||
			!slices.Equal(sorted(got[n:]), sorted(want[false])) {
			t.Errorf("in pages of %d: %q", top, got)
		}
	}
	all := must[[]face.Person](t)(r.Persons(t.Context(), r.res, group, face.Page{}))
	for _, p := range all {
		for _, text := range []string{p.ID, strings.ToUpper(p.ID), p.ID[:8], p.ID[:9], p.ID[:35]} {
			if got := r.find(t, group, text, 10); !slices.Equal(got, []string{p.Name}) {
				t.Errorf("%s finds %q, want %q", text, got, p.Name)
			}
		}
	}
	named := r.enrol(t, group, all[0].ID)
	if got := r.find(t, group, all[0].ID, 1); !slices.Equal(got, []string{all[0].Name, all[0].ID}) {
		t.Errorf("an id that is also a name: %q", got)
	}
	mustDo(t, r.UpdatePerson(t.Context(), r.res, named, face.Change{Name: &named.ID}))
	if got := r.find(t, group, named.ID, 1); !slices.Equal(got, []string{named.ID}) {
		t.Errorf("a person named by its id: %q", got)
	}
}

func TestSearchesForPersonsAreChecked(t *testing.T) {
	r := newService(t)
	group := r.create(t, face.PersonGroup, "g")
	for _, q := range []face.PersonQuery{
		{}, {Text: strings.Repeat("x", 129)}, {Text: "\xff"}, {Text: "\u200b"}, {Text: " "}, {Text: "\u0301"},
		{Text: "x", Top: ptr(0)}, {Text: "x", Top: ptr(1001)},
		{Text: "x", Start: "x"}, {Text: "x", Start: "s0.x"}, {Text: "x", Start: "x0." + unknownID},
		{Text: "x", Start: "g-1." + unknownID}, {Text: "x", Start: "gx." + unknownID},
	} {
		_, err := r.FindPersons(t.Context(), r.res, group, q)
		if wantRefusal(t, err, visage.Invalid, "BadArgument"); t.Failed() {
			t.Fatalf("%+v", q)
		}
	}
	q := face.PersonQuery{Text: "x"}
	_, err := r.FindPersons(t.Context(), r.res, face.Ref{Kind: face.PersonGroup, ID: "h"}, q)
	wantRefusal(t, err, visage.NotFound, "PersonGroupNotFound")
	if _, err := r.FindPersons(t.Context(), r.res, face.Ref{Kind: face.FaceList, ID: "l"}, q); err == nil {
		t.Error("a list has persons")
	}
}

// TestNamesFollowChanges compares searches with what is stored, while persons come, go and are renamed.
func TestNamesFollowChanges(t *testing.T) {
	for _, indexed := range []bool{true, false} {
		t.Run(fmt.Sprintf("indexed %v", indexed), func(t *testing.T) {
			r := newService(t)
			if !indexed {
				r.KeepNames(1)
			}
			group := r.create(t, face.PersonGroup, "g")
			seed := uint64(time.Now().UnixNano())
			random := rand.New(rand.NewPCG(seed, 0))
			t.Logf("seed %d", seed)
			name := func() string { return []string{"Anna", "Hanna", "Ánnabel", "Bob", "Ann"}[random.IntN(5)] }
			people := map[string]string{}
			for range 300 {
				ids := make([]string, 0, len(people))
				for id := range people {
					ids = append(ids, id)
				}
				slices.Sort(ids)
				what := random.IntN(4)
				switch {
				case len(ids) == 0 || what == 0:
					n := name()
					people[r.enrol(t, group, n).ID] = n
				case what == 1:
					id, n := ids[random.IntN(len(ids))], name()
					ref := face.PersonRef{Group: group, ID: id}
					mustDo(t, r.UpdatePerson(t.Context(), r.res, ref, face.Change{Name: &n}))
					people[id] = n
				case what == 2:
					id := ids[random.IntN(len(ids))]
					mustDo(t, r.DeletePerson(t.Context(), r.res, face.PersonRef{Group: group, ID: id}))
					delete(people, id)
				default:
					var want []string
					for _, n := range people {
						if n != "Bob" {
							want = append(want, n)
						}
					}
					got := r.find(t, group, "ann", 1+random.IntN(5))
					slices.Sort(got)
					slices.Sort(want)
					if !slices.Equal(got, want) {
						t.Fatalf("found %q, want %q", got, want)
					}
				}
			}
			if indexed == (r.NameBytes() == 0) {
				t.Errorf("%d bytes of names", r.NameBytes())
			}
			mustDo(t, r.Delete(t.Context(), r.res, group))
			if n := r.NameBytes(); n != 0 {
				t.Errorf("%d bytes of names of a deleted group", n)
			}
			r.create(t, face.PersonGroup, "g")
			if got := r.find(t, group, "ann", 10); len(got) != 0 {
				t.Errorf("a new group of the same id has %q", got)
			}
		})
	}
}

func TestNamesOfExpiredPersonsAreForgotten(t *testing.T) {
	running(t, func(t *testing.T, r *service) {
		group := r.create(t, face.PersonGroup, "g")
		r.enrol(t, group, "Ann")
		time.Sleep(day)
		r.enrol(t, group, "Anna")
		mustDo(t, r.SetRetention(t.Context(), r.res, group, &face.Retention{Days: 2, Since: face.SinceEnrolment}))
		if got := r.find(t, group, "ann", 10); len(got) != 2 {
			t.Errorf("found %q", got)
		}
		time.Sleep(day + time.Hour)
		if got := r.find(t, group, "ann", 10); !slices.Equal(got, []string{"Anna"}) {
			t.Errorf("found %q after the retention of the first", got)
		}
	})
}

// TestNamesEndWithTheirLease: a locked resource has no names in memory, and is not searched.
func TestNamesEndWithTheirLease(t *testing.T) {
	running(t, func(t *testing.T, r *service) {
		group := r.create(t, face.PersonGroup, "g")
		r.enrol(t, group, "Ann")
		if got := r.find(t, group, "ann", 10); len(got) != 1 || r.NameBytes() == 0 {
			t.Errorf("found %q, %d bytes of names", got, r.NameBytes())
		}
		bundle := r.store.Bundle(sealed.SpaceID(r.res.ID))
		bundle.Lock(errors.New("the customer said no"))
		_, err := r.FindPersons(t.Context(), r.res, group, face.PersonQuery{Text: "ann"})
		wantRefusal(t, err, visage.KeyRevoked, "EncryptionKeyRevoked")
		synctest.Wait()
		if n := r.NameBytes(); n != 0 {
			t.Errorf("%d bytes of names while locked", n)
		}
	})
}

// TestNamesOfOneGroupGiveWay: what was not searched for longest is dropped, and read again when it is searched.
func TestNamesOfOneGroupGiveWay(t *testing.T) {
	r := newService(t)
	r.KeepNames(3 * 8192) // a small group takes two pages
	var groups []face.Ref
	for i := range 5 {
		group := r.create(t, face.PersonGroup, fmt.Sprint("g", i))
		r.enrol(t, group, fmt.Sprint("Ann ", i))
		groups = append(groups, group)
	}
	for range 2 {
		for i, group := range groups {
			if got := r.find(t, group, "ann", 10); !slices.Equal(got, []string{fmt.Sprint("Ann ", i)}) {
				t.Errorf("found %q in group %d", got, i)
			}
			if n := r.NameBytes(); n == 0 || n > 3*8192 {
				t.Errorf("%d bytes of names", n)
			}
		}
	}
}

// TestNamesWithChangesDuringTheScan: the scan sees some, and the index all.
func TestNamesWithChangesDuringTheScan(t *testing.T) {
	ids := make([]visage.UUID, 5000)
	for i := range ids {
		ids[i] = visage.NewUUID()
	}
	x := must[*face.Index](t)(face.NewIndex(t.Context(), len(ids), func(
		add func(visage.UUID, string), change func(id visage.UUID, name string, gone, added bool),
	) error {
		change(ids[0], "Zoe", false, true) // its scan comes later
		change(ids[1], "", true, false)
		for i, id := range ids[:3] {
			add(id, fmt.Sprint("Ann ", i))
		}
		change(ids[2], "Zoe", false, false)
		change(ids[4], "Zoe", false, true)
		return nil
	}))
	defer x.Close()
	compare := func(a, b visage.UUID) int { return cmp.Compare(a.String(), b.String()) }
	if got, _ := x.Search("ann", 10); len(got) != 0 {
		t.Errorf("found %v", got)
	}
	want := []visage.UUID{ids[0], ids[2], ids[4]}
	slices.SortFunc(want, compare)
	if got, _ := x.Search("zoe", 10); !slices.Equal(got, want) {
		t.Errorf("found %v, want %v", got, want)
	}
	for _, id := range ids {
		x.Change(id, strings.Repeat("x", 100), false, true)
	}
	got, within := x.Search("x", 10_000)
	if len(got) != len(ids) || len(within) != 0 || !slices.IsSortedFunc(got, compare) {
		t.Errorf("found %d and %d, sorted %v", len(got), len(within), slices.IsSortedFunc(got, compare))
	}
	for _, id := range ids {
		x.Change(id, "", true, false)
	}
	if got, _ := x.Search("x", 10); len(got) != 0 {
		t.Errorf("found %v after all are gone", got)
	}
}

// TestNamesAreSearchedWhileTheyChange is for the race detector: searches, changes and drops at the same time.
func TestNamesAreSearchedWhileTheyChange(t *testing.T) {
	r := newService(t)
	r.KeepNames(3 * 8192)
	var groups []face.Ref
	for i := range 4 {
		groups = append(groups, r.create(t, face.PersonGroup, fmt.Sprint("g", i)))
		r.enrol(t, groups[i], "Ann stays")
	}
	ctx, cancel := context.WithCancel(t.Context())
	var searching, changing sync.WaitGroup
	for i := range 4 {
		searching.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				q := face.PersonQuery{Text: "ann", Top: ptr(1 + n%3)}
				found, err := r.FindPersons(t.Context(), r.res, groups[(i+n)%4], q)
				if err != nil || len(found.Persons) == 0 && !found.Building && found.Next == "" {
					t.Errorf("found %+v (%v)", found, err)
					return
				}
			}
		})
		changing.Go(func() {
			for range 20 {
				ref := r.enrol(t, groups[i], "Ann")
				mustDo(t, r.UpdatePerson(t.Context(), r.res, ref, face.Change{Name: ptr("Bob")}))
				mustDo(t, r.DeletePerson(t.Context(), r.res, ref))
			}
		})
	}
	changing.Wait()
	cancel()
	searching.Wait()
	for _, group := range groups {
		if got := r.find(t, group, "n", 10); !slices.Equal(got, []string{"Ann stays"}) {
			t.Errorf("found %q in the end", got)
		}
	}
}
