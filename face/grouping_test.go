package face_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/face"
)

func TestGroupSortsFacesByPerson(t *testing.T) {
	r := newService(t)
	words := strings.Fields("bob ann eve ann.1 bob.2 ann.2 ian")
	ids := r.detect(t, strings.Join(words, " "))
	got := must[face.Grouping](t)(r.Group(t.Context(), r.res, ids))
	name := make(map[string]string)
	for i, id := range ids {
		name[id] = words[i]
	}
	var text []string
	for _, g := range append(got.Groups, got.Messy) {
		var members []string
		for _, id := range g {
			members = append(members, name[id])
		}
		text = append(text, strings.Join(members, " "))
	}
	if want := "ann ann.1 ann.2|bob bob.2|eve ian"; strings.Join(text, "|") != want {
		t.Errorf("got %q, want %q", strings.Join(text, "|"), want)
	}
}

func TestGroupIsCompleteWhateverItIsGiven(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 5))
	r := newService(t)
	for range 20 {
		var words []string
		for range 2 + rnd.IntN(60) {
			words = append(words, fmt.Sprintf("p%d.%d", rnd.IntN(10), rnd.IntN(30)))
		}
		ids := r.detect(t, strings.Join(words, " "))
		got := must[face.Grouping](t)(r.Group(t.Context(), r.res, ids))
		if again := must[face.Grouping](t)(r.Group(t.Context(), r.res, ids)); fmt.Sprint(again) != fmt.Sprint(got) {
			t.Error("the same faces give other groups the second time")
		}
		all := slices.Concat(append(slices.Clone(got.Groups), got.Messy)...)
		slices.Sort(all)
		if want := slices.Sorted(slices.Values(ids)); !slices.Equal(all, want) {
			t.Errorf("groups and messy hold %v, want every id once: %v", all, want)
		}
		for i, g := range got.Groups {
			if len(g) < 2 || i > 0 && len(g) > len(got.Groups[i-1]) {
				t.Errorf("groups are not of two or more by falling size: %v", got.Groups)
			}
		}
	}
}

func TestGroupOfStrangersIsMessy(t *testing.T) {
	r := newService(t)
	ids := r.detect(t, "ann bob")
	got := must[face.Grouping](t)(r.Group(t.Context(), r.res, ids))
	if got.Groups == nil || len(got.Groups) != 0 || !slices.Equal(got.Messy, ids) {
		t.Errorf("got %+v, want no group and both messy", got)
	}
	ids = r.detect(t, "ann ann.1")
	got = must[face.Grouping](t)(r.Group(t.Context(), r.res, ids))
	if got.Messy == nil || len(got.Messy) != 0 || len(got.Groups) != 1 {
		t.Errorf("got %+v, want one group and none messy", got)
	}
}

func TestGroupRefuses(t *testing.T) {
	r := newService(t)
	ids := r.detect(t, "ann bob")
	model3 := r.detectAs(t, "ann", "recognition_03")[0]
	thousand := make([]string, 1001)
	for i := range thousand {
		thousand[i] = ids[i%2]
	}
	for _, tt := range []struct {
		name string
		ids  []string
		code string
	}{
		{"none", nil, "BadArgument"},
		{"one", ids[:1], "BadArgument"},
		{"1001", thousand, "BadArgument"},
		{"malformed", []string{ids[0], strings.ToUpper(ids[1])}, "BadArgument"},
		{"models differ", []string{ids[0], model3}, "BadArgument"},
		{"unknown", []string{ids[0], unknownID}, "FaceNotFound"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := r.Group(t.Context(), r.res, tt.ids)
			wantRefusal(t, err, visage.Invalid, tt.code)
		})
	}
	if _, err := r.Group(t.Context(), r.res, thousand[:1000]); err != nil {
		t.Errorf("1000 ids: %v", err)
	}
}
