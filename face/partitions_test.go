package face_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/face"
	"github.com/visage-face/visage/gallery"
	"github.com/visage-face/visage/sealed"
)

// scattered cuts every collection into parts, which some services search in turn. What a network does between them is
// tested in the rooms below cluster.
type scattered struct {
	count int
	by    []*service
	last  face.PartQuery // that was asked
	turns int
}

func (s *scattered) Count(string, int64) int { return s.count }

func (s *scattered) Search(ctx context.Context, q face.PartQuery) (all face.PartFound, err error) {
	s.last, s.last.Probes = q, nil
	for _, probe := range q.Probes {
		s.last.Probes = append(s.last.Probes, slices.Clone(probe)) // they are cleared after the search
	}
	parts := make([]face.PartFound, q.Count)
	for i := range parts {
		q.Index = i
		s.turns++
		parts[i], err = s.by[s.turns%len(s.by)].SearchPart(ctx, q)
		if errors.Is(err, face.ErrBehind) {
			err = fmt.Errorf("%w: %w", gallery.ErrDropped, err)
		}
		if err != nil {
			return face.PartFound{}, err
		}
		all.Faces += parts[i].Faces
	}
	for p := range q.Probes {
		lists := make([][]gallery.Candidate, len(parts))
		for i := range parts {
			lists[i] = parts[i].Candidates[p]
		}
		all.Candidates = append(all.Candidates, gallery.Merge(q.K, q.ByOwner, lists...))
	}
	return all, nil
}

// newScattered makes two services that share what they store and search it in parts, and one that searches it alone.
func newScattered(t *testing.T, count int) (a, b, alone *service, s *scattered) {
	t.Helper()
	stores := sharedStores(t)
	a, b, alone = newServiceOn(t, stores[0], 0), newServiceOn(t, stores[1], 0), newServiceOn(t, stores[0], 0)
	s = &scattered{count: count, by: []*service{a, b}}
	a.SearchIn(s)
	b.SearchIn(s)
	return a, b, alone, s
}

// TestPartsAnswerAsOneProcess compares answers, with persons who have several faces, faces that are equal, and faces
// that came or went after the training.
func TestPartsAnswerAsOneProcess(t *testing.T) {
	a, b, alone, _ := newScattered(t, 4)
	group, list := a.create(t, face.LargePersonGroup, "g"), b.create(t, face.LargeFaceList, "l")
	var persons []face.PersonRef
	for i := range 40 {
		name := fmt.Sprint("p", i)
		photos := []string{name}
		for k := range i % 3 {
			photos = append(photos, fmt.Sprintf("%s.%d", name, 2*k+1))
		}
		if i%4 == 0 {
			photos = append(photos, "twin") // as many others have it
		}
		persons = append(persons, a.enrol(t, group, name, photos...))
		b.addListed(t, list, photos[len(photos)-1])
	}
	a.trainOn(t, b, group)
	b.trainOn(t, a, list)
	late := b.enrol(t, group, "late", "twin.1")
	mustDo(t, b.DeletePerson(t.Context(), b.res, persons[8]))
	mustDo(t, a.DeletePersonFace(t.Context(), a.res, persons[12],
		must[face.Person](t)(a.GetPerson(t.Context(), a.res, persons[12])).FaceIDs[1]))
	found := 0
	for i := range 42 {
		photo := fmt.Sprintf("p%d.%d", i, i%5)
		if i > 39 {
			photo = "twin"
		}
		probe := a.detect(t, photo)[0]
		for _, most := range []int{1, 3, 100} {
			for _, least := range []*float64{nil, ptr(0.0), ptr(0.3), ptr(0.9)} {
				q := face.IdentifyQuery{
					FaceIDs: []string{probe}, LargePersonGroupID: group.ID, MaxCandidates: most, Threshold: least,
				}
				want := must[[]face.Identified](t)(alone.Identify(t.Context(), alone.res, q))
				for _, r := range []*service{a, b} {
					got := must[[]face.Identified](t)(r.Identify(t.Context(), r.res, q))
					if !reflect.DeepEqual(got, want) {
						t.Fatalf("%s, %d candidates: %+v, want %+v", photo, most, got, want)
					}
				}
				for _, c := range want[0].Candidates {
					if found++; c.PersonID == persons[8].ID || c.PersonID == late.ID {
						t.Fatalf("%s: a person who is gone, or was not trained", photo)
					}
				}
			}
			for _, mode := range []string{face.MatchPerson, face.MatchFace} {
				q := face.SimilarQuery{FaceID: probe, LargeFaceListID: list.ID, MaxCandidates: &most, Mode: mode}
				want := must[[]face.Similar](t)(alone.FindSimilar(t.Context(), alone.res, q))
				got := must[[]face.Similar](t)(b.FindSimilar(t.Context(), b.res, q))
				if !reflect.DeepEqual(got, want) {
					t.Fatalf("%s, %d similar: %+v, want %+v", photo, most, got, want)
				}
				found += len(want)
			}
		}
	}
	if found < 1000 {
		t.Errorf("only %d candidates", found)
	}
}

// TestPartsAreSearchedWithAllChanges has one process delete while the other has the parts in memory.
func TestPartsAreSearchedWithAllChanges(t *testing.T) {
	a, b, _, s := newScattered(t, 2)
	group := a.create(t, face.PersonGroup, "g")
	probe := a.detect(t, "ann")[0]
	var all []string
	for i := range 20 {
		all = append(all, a.enrol(t, group, "Ann", fmt.Sprint("ann.", i%5)).ID)
	}
	a.trainOn(t, b, group)
	for i, id := range all {
		want(t, "identified", b.persons(t, group, probe), slices.Clone(all[i:])...)
		by := []*service{a, b}[i%2]
		mustDo(t, by.DeletePerson(t.Context(), by.res, face.PersonRef{Group: group, ID: id}))
		want(t, "identified after a deletion", a.persons(t, group, probe), slices.Clone(all[i+1:])...)
	}
	faces := 0
	for i := range 2 {
		q := s.last
		q.Index = i
		faces += must[face.PartFound](t)(b.SearchPart(t.Context(), q)).Faces
	}
	if faces != 0 {
		t.Errorf("%d faces are left in parts", faces)
	}
}

// TestPartsOfALockedResource: the process that has locked it, and one that has heard of that, refuse a part under the
// bundle that the caller had before; and so they do when the resource is open again.
func TestPartsOfALockedResource(t *testing.T) {
	a, b, _, s := newScattered(t, 2)
	group := a.create(t, face.PersonGroup, "g")
	ann := a.enrol(t, group, "Ann", "ann.1")
	a.trainOn(t, a, group)
	probe := a.detect(t, "ann")[0]
	for _, r := range []*service{a, b} {
		want(t, "identified", r.persons(t, group, probe), ann.ID)
	}
	before := s.last
	bundle := func(r *service) *sealed.Bundle { return r.store.Bundle(sealed.SpaceID(r.res.ID)) }
	bundle(a).Lock(errors.New("the key was refused"))
	code := func(err error) string {
		refusal, _ := errors.AsType[*visage.Refusal](err)
		if refusal == nil {
			return fmt.Sprint(err)
		}
		return refusal.Code
	}
	if _, err := a.SearchPart(t.Context(), before); code(err) != "EncryptionKeyRevoked" {
		t.Errorf("a part in the process that has locked the resource: %v", err)
	}
	q := face.IdentifyQuery{FaceIDs: []string{probe}, PersonGroupID: group.ID, MaxCandidates: 1}
	if _, err := b.Identify(t.Context(), b.res, q); code(err) != "EncryptionKeyUnavailable" {
		t.Errorf("a search in the other process: %v", err)
	}
	if _, err := b.SearchPart(t.Context(), before); code(err) != "EncryptionKeyUnavailable" {
		t.Errorf("a part in the other process: %v", err)
	}
	for _, r := range []*service{a, b} {
		mustDo(t, bundle(r).Load(t.Context(), nil))
	}
	for _, r := range []*service{a, b} {
		if _, err := r.SearchPart(t.Context(), before); !errors.Is(err, face.ErrBehind) {
			t.Errorf("a part under the bundle from before the lock: %v", err)
		}
		want(t, "identified again", r.persons(t, group, probe), ann.ID)
	}
}

func TestPartsThatCannotBeSearched(t *testing.T) {
	a, _, _, s := newScattered(t, 2)
	group := a.create(t, face.PersonGroup, "g")
	ann := a.enrol(t, group, "Ann", "ann.1")
	a.trainOn(t, a, group)
	probe := a.detect(t, "ann")[0]
	want(t, "identified", a.persons(t, group, probe), ann.ID)
	for name, change := range map[string]func(*face.PartQuery){
		"a collection that has no name": func(q *face.PartQuery) { q.Collection = "x" },
		// of another version, since what is in memory goes by the templates
		"a collection that does not exist": func(q *face.PartQuery) { q.Collection += "x"; q.Version++ },
		"templates that it does not have": func(q *face.PartQuery) {
			q.Collection = q.Collection[:16] + "0123456789abcdef" + q.Collection[32:]
		},
		"a bundle that is not there yet": func(q *face.PartQuery) { q.Bundle += 10 },
		"probes of another length":       func(q *face.PartQuery) { q.Probes = []gallery.Code{{1, 0}}; q.Version++ },
		"changes that nobody has made":   func(q *face.PartQuery) { q.Changes += 1000 },
	} {
		q := s.last
		change(&q)
		if found, err := a.SearchPart(t.Context(), q); err == nil {
			t.Errorf("%s: found %+v", name, found)
		}
	}
}
