package face_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/face"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/vision"
)

// sharedStores opens two stores over what one store has, as two processes do.
func sharedStores(t testing.TB) [2]*sealed.Store {
	t.Helper()
	cfg := sharedConfig(t)
	return [2]*sealed.Store{openStore(t, cfg, true), openStore(t, cfg, false)}
}

// sharedConfig is that of stores which share what they store.
func sharedConfig(t testing.TB) sealed.Config {
	return sealed.Config{
		Engine: "memory:" + t.Name(), Shared: true, Protectors: protectors(sourcetest.NewFake("root")),
	}
}

// newReplicas makes two services that share what they store, as two processes do.
func newReplicas(t testing.TB) (rs [2]*service) {
	t.Helper()
	for i, store := range sharedStores(t) {
		rs[i] = newServiceOn(t, store, 0)
	}
	return rs
}

// similar returns the ids of the faces of a list that show the person of a probe.
func (r *service) similar(t testing.TB, list face.Ref, probe string) []string {
	t.Helper()
	q := face.SimilarQuery{FaceID: probe, FaceListID: list.ID, MaxCandidates: ptr(1000)}
	if list.Kind == face.LargeFaceList {
		q.FaceListID, q.LargeFaceListID = "", list.ID
	}
	ids := []string{}
	for _, f := range must[[]face.Similar](t)(r.FindSimilar(t.Context(), r.res, q)) {
		ids = append(ids, f.PersistedFaceID)
	}
	slices.Sort(ids)
	return ids
}

// persons returns the ids of the persons of a group that a probe may show.
func (r *service) persons(t testing.TB, group face.Ref, probe string) []string {
	t.Helper()
	q := face.IdentifyQuery{
		FaceIDs: []string{probe}, PersonGroupID: group.ID, MaxCandidates: 100, Threshold: ptr(0.5),
	}
	ids := []string{}
	for _, c := range must[[]face.Identified](t)(r.Identify(t.Context(), r.res, q))[0].Candidates {
		ids = append(ids, c.PersonID)
	}
	slices.Sort(ids)
	return ids
}

// listed returns the ids of the persons of a group, or the faces of a list.
func (r *service) listed(t testing.TB, ref face.Ref) []string {
	t.Helper()
	ids := []string{}
	if ref.Kind == face.PersonGroup || ref.Kind == face.LargePersonGroup {
		for _, p := range must[[]face.Person](t)(r.Persons(t.Context(), r.res, ref, face.Page{})) {
			ids = append(ids, p.ID)
		}
		return ids
	}
	for _, f := range must[[]face.PersistedFace](t)(r.Faces(t.Context(), r.res, ref, face.Page{})) {
		ids = append(ids, f.ID)
	}
	return ids
}

// trainOn has one replica ask for a training and another perform it.
func (r *service) trainOn(t testing.TB, other *service, ref face.Ref) {
	t.Helper()
	mustDo(t, r.Train(t.Context(), r.res, ref))
	other.TrainNow(t.Context(), r.res)
	if tr := must[face.Training](t)(r.Training(t.Context(), r.res, ref)); tr.Status != face.Succeeded {
		t.Fatalf("the training: %+v", tr)
	}
}

// want compares ids, or names, in any order.
func want(t testing.TB, what string, got []string, ids ...string) {
	t.Helper()
	slices.Sort(got)
	slices.Sort(ids)
	if !slices.Equal(got, slices.Clip(ids)) {
		t.Errorf("%s: %q, want %q", what, got, ids)
	}
}

// TestDeletedFacesAreFoundByNoReplica has one replica change what another one has in memory.
func TestDeletedFacesAreFoundByNoReplica(t *testing.T) {
	rs := newReplicas(t)
	a, b := rs[0], rs[1]
	group, list := a.create(t, face.PersonGroup, "g"), b.create(t, face.FaceList, "l")
	large := a.create(t, face.LargeFaceList, "large")
	probe := a.detect(t, "ann")[0]
	ann, anna := a.enrol(t, group, "Ann", "ann.1"), b.enrol(t, group, "Anna", "ann.2", "ann.3")
	second := must[face.Person](t)(b.GetPerson(t.Context(), b.res, anna)).FaceIDs[0]
	f, l := a.addListed(t, list, "ann.4"), a.addListed(t, large, "ann.5")
	a.addListed(t, large, "bob")
	a.trainOn(t, a, group)
	a.trainOn(t, b, large)
	for _, r := range rs {
		want(t, "identified", r.persons(t, group, probe), ann.ID, anna.ID)
		want(t, "similar in the list", r.similar(t, list, probe), f)
		want(t, "similar in the large list", r.similar(t, large, probe), l)
	}
	mustDo(t, a.DeletePerson(t.Context(), a.res, ann))
	want(t, "identified without Ann", b.persons(t, group, probe), anna.ID)
	mustDo(t, b.DeletePersonFace(t.Context(), b.res, anna, second))
	want(t, "identified by her other face", a.persons(t, group, probe), anna.ID)
	mustDo(t, b.DeletePerson(t.Context(), b.res, anna))
	want(t, "identified without both", a.persons(t, group, probe))
	f2 := b.addListed(t, list, "ann.6")
	want(t, "similar in the list after an addition", a.similar(t, list, probe), f, f2)
	mustDo(t, a.DeleteFace(t.Context(), a.res, list, f))
	want(t, "similar in the list after a deletion", b.similar(t, list, probe), f2)
	mustDo(t, a.DeleteFace(t.Context(), a.res, large, l))
	want(t, "similar in the large list", b.similar(t, large, probe))
}

func TestTrainingsAndDeletedCollectionsReachEveryReplica(t *testing.T) {
	rs := newReplicas(t)
	a, b := rs[0], rs[1]
	group := a.create(t, face.PersonGroup, "g")
	probe := b.detect(t, "ann")[0]
	ann := a.enrol(t, group, "Ann", "ann.1")
	a.trainOn(t, b, group)
	want(t, "identified", a.persons(t, group, probe), ann.ID)
	anna := b.enrol(t, group, "Anna", "ann.2")
	want(t, "identified before the second training", b.persons(t, group, probe), ann.ID)
	a.trainOn(t, a, group)
	want(t, "identified after it", b.persons(t, group, probe), ann.ID, anna.ID)
	mustDo(t, a.Delete(t.Context(), a.res, group))
	q := face.IdentifyQuery{FaceIDs: []string{probe}, PersonGroupID: "g", MaxCandidates: 1}
	_, err := b.Identify(t.Context(), b.res, q)
	wantRefusal(t, err, visage.Invalid, "PersonGroupNotFound")
	b.create(t, face.PersonGroup, "g")
	_, err = a.Identify(t.Context(), a.res, q)
	wantRefusal(t, err, visage.Invalid, "PersonGroupNotTrained")
}

// TestReplicasForgetWhatOthersDelete: what is deleted leaves the memory of a replica that does not search for it.
func TestReplicasForgetWhatOthersDelete(t *testing.T) {
	rs := newReplicas(t)
	a, b := rs[0], rs[1]
	group, list := a.create(t, face.PersonGroup, "g"), a.create(t, face.FaceList, "l")
	probe := b.detect(t, "ann")[0]
	ann := a.enrol(t, group, "Ann", "ann.1")
	f := a.addListed(t, list, "ann.2")
	a.trainOn(t, a, group)
	want(t, "identified", b.persons(t, group, probe), ann.ID)
	want(t, "similar", b.similar(t, list, probe), f)
	if got := b.find(t, group, "ann", 10); len(got) != 1 || b.NameBytes() == 0 {
		t.Errorf("found %q with %d bytes of names", got, b.NameBytes())
	}
	mustDo(t, a.DeleteFace(t.Context(), a.res, list, f))
	mustDo(t, a.Delete(t.Context(), a.res, group))
	before := b.GalleryBytes()
	b.RefreshNow(t.Context())
	if b.GalleryBytes() != 0 || before == 0 || b.NameBytes() != 0 {
		t.Errorf("%d bytes of galleries, %d before, and %d of names", b.GalleryBytes(), before, b.NameBytes())
	}
}

func TestListsAndNamesAreTheSameOnEveryReplica(t *testing.T) {
	rs := newReplicas(t)
	a, b := rs[0], rs[1]
	group, list := a.create(t, face.PersonGroup, "g"), a.create(t, face.FaceList, "l")
	groups := func(r *service) (ids []string) {
		for _, c := range must[[]face.Collection](t)(r.List(t.Context(), r.res, face.PersonGroup, face.Page{})) {
			ids = append(ids, c.ID)
		}
		return ids
	}
	for _, r := range rs {
		want(t, "groups", groups(r), "g")
		want(t, "persons", r.listed(t, group))
		want(t, "faces", r.listed(t, list))
		want(t, "names", r.find(t, group, "ann", 10))
	}
	ann, bob := a.enrol(t, group, "Ann"), b.enrol(t, group, "Bob")
	f := a.addListed(t, list, "ann")
	for _, r := range rs {
		want(t, "persons", r.listed(t, group), ann.ID, bob.ID)
		want(t, "faces", r.listed(t, list), f)
		want(t, "names", r.find(t, group, "ann", 10), "Ann")
	}
	mustDo(t, b.UpdatePerson(t.Context(), b.res, bob, face.Change{Name: ptr("Annabel")}))
	for _, r := range rs {
		want(t, "names after a change", r.find(t, group, "ann", 10), "Ann", "Annabel")
	}
	mustDo(t, a.DeletePerson(t.Context(), a.res, ann))
	mustDo(t, b.DeleteFace(t.Context(), b.res, list, f))
	b.create(t, face.PersonGroup, "g2")
	mustDo(t, a.Delete(t.Context(), a.res, b.create(t, face.PersonGroup, "g3")))
	b.create(t, face.PersonGroup, "g3")
	for _, r := range rs {
		want(t, "persons", r.listed(t, group), bob.ID)
		want(t, "faces", r.listed(t, list))
		want(t, "names", r.find(t, group, "ann", 10), "Annabel")
		want(t, "groups", groups(r), "g", "g2", "g3")
	}
}

// TestReplicasSeeAMigration has one replica search while another one migrates.
func TestReplicasSeeAMigration(t *testing.T) {
	var rs [2]*service
	for i, store := range sharedStores(t) {
		first := &fake{name: "first", supports: measurable}
		next := &fake{name: "next", supports: measurable}
		models := map[string]face.Recogniser{
			"recognition_03": next, "recognition_04": first, "recognition_01": first, "recognition_02": first,
		}
		rs[i] = newServiceServing(t, store, 0, models, nil)
	}
	a, b := rs[0], rs[1]
	list, other := a.create(t, face.FaceList, "l"), a.create(t, face.FaceList, "other")
	f1, f2 := a.addListed(t, list, "ann.1"), a.addListed(t, list, "ann.2")
	a.addListed(t, other, "bob")
	old := a.detect(t, "ann")[0]
	want(t, "similar before", b.similar(t, list, old), f1, f2)
	mustDo(t, a.StartMigration(t.Context(), a.res, list, "recognition_03"))
	probe := b.detectAs(t, "ann", "recognition_03")[0]
	want(t, "similar when none was sent", b.similar(t, list, probe))
	send := func(r *service, id, photo string) {
		t.Helper()
		mustDo(t, r.MigrateFace(t.Context(), r.res, list, "", id, face.Enrolment{Photo: []byte(photo)}, true))
	}
	send(a, f1, "ann.1")
	want(t, "similar after the first", b.similar(t, list, probe), f1)
	want(t, "similar with the old pack", b.similar(t, list, old), f1, f2)
	send(b, f2, "ann.2")
	want(t, "similar after the second", a.similar(t, list, probe), f1, f2)
	send(a, f2, "bob") // replaced
	want(t, "similar after a replacement", b.similar(t, list, probe), f1)
	f3 := b.addListed(t, list, "ann.3")
	want(t, "similar after an addition", a.similar(t, list, probe), f1, f3)
	mustDo(t, a.CancelMigration(t.Context(), a.res, list))
	want(t, "similar after it was cancelled", b.similar(t, list, old), f1, f2, f3)
	mustDo(t, b.StartMigration(t.Context(), b.res, list, "recognition_03"))
	for _, id := range []string{f1, f2, f3} {
		send(b, id, "ann")
	}
	want(t, "similar", a.similar(t, list, probe), f1, f2, f3)
	mustDo(t, a.CompleteMigration(t.Context(), a.res, list, false))
	want(t, "similar after all", b.similar(t, list, probe), f1, f2, f3)
	mustDo(t, b.DeleteFace(t.Context(), b.res, list, f1))
	want(t, "similar after a deletion", a.similar(t, list, probe), f2, f3)
}

// TestReplicasAgreeWithAModel has two replicas do random things and compares each answer with plain maps.
func TestReplicasAgreeWithAModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	rs := newReplicas(t)
	any := func() *service { return rs[rnd.IntN(2)] }
	group := any().create(t, face.PersonGroup, "g")
	lists := []face.Ref{any().create(t, face.FaceList, "l"), any().create(t, face.LargeFaceList, "large")}
	names := []string{"ann", "bob", "zoe"}
	probes := map[string]string{}
	for _, name := range names {
		probes[name] = any().detect(t, name)[0]
	}
	type enrolled struct {
		of      string // the person, or empty in a list
		name    string
		trained bool
	}
	persons := map[string]string{} // names by id
	inGroup := map[string]*enrolled{}
	inLists := []map[string]*enrolled{{}, {}}
	trained := []bool{true, false} // the lists
	groupTrained := false
	pick := func(m map[string]*enrolled) string {
		ids := slices.Sorted(maps.Keys(m))
		return ids[rnd.IntN(len(ids))]
	}
	number := 0
	photo := func(name string) string {
		number++
		return fmt.Sprintf("%s.%d", name, number%9)
	}
	for range 600 {
		r, name, i := any(), names[rnd.IntN(len(names))], rnd.IntN(2)
		switch rnd.IntN(13) {
		case 0, 1:
			inLists[i][r.addListed(t, lists[i], photo(name))] = &enrolled{name: name, trained: i == 0}
		case 2:
			if len(inLists[i]) > 0 {
				id := pick(inLists[i])
				mustDo(t, r.DeleteFace(t.Context(), r.res, lists[i], id))
				delete(inLists[i], id)
			}
		case 3:
			id := r.enrol(t, group, name+" of "+r.res.Name).ID
			persons[id] = name
		case 4, 5:
			if len(persons) > 0 {
				ids := slices.Sorted(maps.Keys(persons))
				ref := face.PersonRef{Group: group, ID: ids[rnd.IntN(len(ids))]}
				if rnd.IntN(6) == 0 {
					persons[ref.ID] = name
					mustDo(t, r.UpdatePerson(t.Context(), r.res, ref, face.Change{Name: ptr(name + "!")}))
				} else {
					inGroup[r.addFace(t, ref, photo(name))] = &enrolled{of: ref.ID, name: name}
				}
			}
		case 6:
			if len(inGroup) > 0 {
				id := pick(inGroup)
				ref := face.PersonRef{Group: group, ID: inGroup[id].of}
				if rnd.IntN(3) == 0 {
					mustDo(t, r.DeletePerson(t.Context(), r.res, ref))
					delete(persons, ref.ID)
					maps.DeleteFunc(inGroup, func(_ string, e *enrolled) bool { return e.of == ref.ID })
				} else {
					mustDo(t, r.DeletePersonFace(t.Context(), r.res, ref, id))
					delete(inGroup, id)
				}
			}
		case 7:
			if len(inLists[1]) > 0 && rnd.IntN(3) == 0 {
				r.trainOn(t, any(), lists[1])
				trained[1] = true
				for _, e := range inLists[1] {
					e.trained = true
				}
			}
			if len(inGroup) > 0 && rnd.IntN(3) == 0 {
				r.trainOn(t, any(), group)
				groupTrained = true
				for _, e := range inGroup {
					e.trained = true
				}
			}
		case 8, 9:
			if trained[i] && (i == 1 || len(inLists[0]) > 0) {
				var ids []string
				for id, e := range inLists[i] {
					if e.name == name && e.trained {
						ids = append(ids, id)
					}
				}
				want(t, "similar to "+name, r.similar(t, lists[i], probes[name]), ids...)
			}
		case 10, 11:
			if groupTrained {
				ids := map[string]bool{}
				for _, e := range inGroup {
					if e.name == name && e.trained {
						ids[e.of] = true
					}
				}
				want(t, "identified as "+name, r.persons(t, group, probes[name]), slices.Collect(maps.Keys(ids))...)
			}
		case 12:
			want(t, "persons", r.listed(t, group), slices.Collect(maps.Keys(persons))...)
			want(t, "faces", r.listed(t, lists[i]), slices.Collect(maps.Keys(inLists[i]))...)
			n := 0
			for _, of := range persons {
				if of == name {
					n++
				}
			}
			got := r.find(t, group, name, 1000)
			if len(got) != n || slices.ContainsFunc(got, func(s string) bool { return !strings.HasPrefix(s, name) }) {
				t.Errorf("persons named %s: %q, want %d", name, got, n)
			}
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// TestReplicasChangeOneListAtOnce has many clients of two replicas enrol, search and delete in one list: each finds its
// own face at the other replica as soon as it is stored, and never after it is deleted.
func TestReplicasChangeOneListAtOnce(t *testing.T) {
	rs := newReplicas(t)
	list := rs[0].create(t, face.FaceList, "l")
	rs[0].addListed(t, list, "stays")
	var clients sync.WaitGroup
	for n := range 8 {
		clients.Go(func() {
			here, there := rs[n%2], rs[1-n%2]
			name := fmt.Sprint("client", n)
			probe := there.detect(t, name)[0]
			for range 12 {
				id := here.addListed(t, list, name+".1")
				want(t, "similar after an addition", there.similar(t, list, probe), id)
				if !slices.Contains(there.listed(t, list), id) {
					t.Errorf("%s is not listed", id)
				}
				mustDo(t, there.DeleteFace(t.Context(), there.res, list, id))
				want(t, "similar after a deletion", here.similar(t, list, probe))
				if slices.Contains(here.listed(t, list), id) {
					t.Errorf("%s is still listed", id)
				}
			}
		})
	}
	clients.Wait()
}

// TestChangesAreLogged compares the log of changes with a plain list, also where it does not reach back any more.
func TestChangesAreLogged(t *testing.T) {
	r := newService(t)
	group := r.create(t, face.PersonGroup, "g")
	var all []string
	for _, n := range []int{1, 2, 3, 1, 1, 5, 8, 13, 100, 1, 4000, 2, 200, 4200, 3} {
		all = append(all, must[[]string](t)(r.LogChanges(t.Context(), r.res, group, n))...)
		for _, back := range []int{0, 1, 2, 3, 4, 5, 7, 8, 9, 20, 127, 128, 300, 4000, 4096, 4110, 5000, len(all)} {
			if back > len(all) {
				continue
			}
			got, reaches, err := r.ChangesSince(t.Context(), r.res, group, uint64(len(all)-back))
			if err != nil || back <= 4096 && !reaches || back > 4104 && reaches {
				t.Fatalf("the last %d of %d: reached %v, %v", back, len(all), reaches, err)
			}
			if reaches && !slices.Equal(got, all[len(all)-back:]) {
				t.Fatalf("the last %d of %d differ", back, len(all))
			}
		}
	}
	if _, reaches, err := r.ChangesSince(t.Context(), r.res, group, uint64(len(all)+1)); reaches || err != nil {
		t.Errorf("changes that have not been: %v, %v", reaches, err)
	}
}

// TestAnEnrolmentWritesOneRecordOfTheLogInFour counts what enrolments add to the log of changes.
func TestAnEnrolmentWritesOneRecordOfTheLogInFour(t *testing.T) {
	r := newService(t)
	list, group := r.create(t, face.FaceList, "l"), r.create(t, face.PersonGroup, "g")
	for n := range 40 {
		r.addListed(t, list, "ann")
		r.enrol(t, group, "Ann", "ann", "ann")
		for _, of := range []face.Ref{list, group} {
			got := must[int](t)(r.ChangeRecords(t.Context(), r.res, of))
			if most := (n + 1) / 4; got > most {
				t.Fatalf("%d records of the log of %s after %d enrolments, want at most %d", got, of.ID, n+1, most)
			}
		}
	}
}

// TestOneReplicaTrains has another replica hold the work of a resource: a training is done by one, seen by all, and
// goes on elsewhere when its process gives it up.
func TestOneReplicaTrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rs := newReplicas(t)
		a, b := rs[0], rs[1]
		group := a.create(t, face.PersonGroup, "g")
		ann := a.enrol(t, group, "Ann", "ann.1")
		probe := a.detect(t, "ann")[0]
		status := func(r *service) face.Status {
			t.Helper()
			return must[face.Training](t)(r.Training(t.Context(), r.res, group)).Status
		}
		busy := must[*sealed.Claim](t)(a.store.Claim(t.Context(), "face/train/"+a.res.ID.String(), 15*time.Second))
		mustDo(t, a.Train(t.Context(), a.res, group))
		for range 3 {
			b.TrainNow(t.Context(), b.res)
			if got := status(b); got != face.NotStarted || b.GalleryBytes() != 0 {
				t.Errorf("the training is %s and %d bytes are loaded while another replica has it", got,
					b.GalleryBytes())
			}
			time.Sleep(10 * time.Second)
		}
		stop := b.run(t)
		busy.Release()
		time.Sleep(20 * time.Second)
		if status(a) != face.Succeeded || status(b) != face.Succeeded {
			t.Errorf("the training is %s, and %s at the other replica", status(a), status(b))
		}
		want(t, "identified", a.persons(t, group, probe), ann.ID)
		stop()
	})
}

// TestWorkOfAnotherReplicaIsAskedForOnce has rounds find the same work with another replica: the attempts must not
// become more with each round.
func TestWorkOfAnotherReplicaIsAskedForOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if n := face.LaterRuns(t.Context(), 5, time.Second, 10*time.Second); n != 1 {
			t.Errorf("work that was put off five times in ten seconds was tried %d times, want once", n)
		}
		if n := face.LaterRuns(t.Context(), 3, 20*time.Second, 10*time.Second); n != 3 {
			t.Errorf("work that was put off three times, one after another, was tried %d times, want three", n)
		}
	})
}

// TestAClockAheadPutsOffNoRetention finds that retentions were applied a year from now, as a replica may record whose
// clock is ahead.
func TestAClockAheadPutsOffNoRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newServiceOn(t, openStore(t, sharedConfig(t), true), 0)
		group := r.create(t, face.PersonGroup, "g")
		r.enrol(t, group, "Ann", "ann")
		mustDo(t, r.SetRetention(t.Context(), r.res, group, &face.Retention{Days: 3, Since: face.SinceEnrolment}))
		mustDo(t, r.SetExpired(t.Context(), r.res, time.Now().AddDate(1, 0, 0)))
		time.Sleep(4 * day)
		r.SweepNow(t.Context(), r.res)
		want(t, "persons", r.listed(t, group))
	})
}

// TestTheLogKeepsNoIDsOfDeletedLists: clients choose the ids of lists, and erasure holds for them too.
func TestTheLogKeepsNoIDsOfDeletedLists(t *testing.T) {
	r := newService(t)
	for range 5 {
		mustDo(t, r.Delete(t.Context(), r.res, r.create(t, face.FaceList, "ann-smith")))
	}
	records, ids, err := r.LoggedItems(t.Context(), r.res, face.FaceList)
	if records != 1 || ids != 0 || err != nil {
		t.Errorf("%d records with %d changes, %v; want one that has their number alone", records, ids, err)
	}
}

// TestATrainingEndsOnce has a replica go on with a training that another one has taken over and ended.
func TestATrainingEndsOnce(t *testing.T) {
	rs := newReplicas(t)
	a, b := rs[0], rs[1]
	group := a.create(t, face.PersonGroup, "g")
	a.enrol(t, group, "Ann", "ann.1")
	mustDo(t, a.Train(t.Context(), a.res, group))
	claim := must[*sealed.Claim](t)(a.store.Claim(t.Context(), "face/train/"+a.res.ID.String(), 15*time.Second))
	job := must[*face.Job](t)(a.BeginTraining(t.Context(), a.res, group, claim))
	claim.Release() // as if it were lost
	b.TrainNow(t.Context(), b.res)
	mustDo(t, b.Train(t.Context(), b.res, group))
	if err := a.EndTraining(t.Context(), a.res, job, claim); !errors.Is(err, sealed.ErrClaimLost) {
		t.Errorf("a step without a claim: %v", err)
	}
	if got := must[face.Training](t)(b.Training(t.Context(), b.res, group)); got.Status != face.NotStarted {
		t.Errorf("the second training is %s", got.Status)
	}
}

// TestOneReplicaExpires: what is kept too long is erased once an hour, by one replica, and matches that the other one
// has not stored yet count.
func TestOneReplicaExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rs := newReplicas(t)
		a, b := rs[0], rs[1]
		group := a.create(t, face.PersonGroup, "g")
		ann, bob := a.enrol(t, group, "Ann", "ann"), a.enrol(t, group, "Bob", "bob")
		a.trainOn(t, a, group)
		mustDo(t, a.SetRetention(t.Context(), a.res, group, &face.Retention{Days: 2, Since: face.SinceMatch}))
		time.Sleep(day + time.Minute)
		probe := b.detect(t, "ann")[0]
		want(t, "identified", b.persons(t, group, probe), ann.ID) // not stored yet
		time.Sleep(day)
		a.SweepNow(t.Context(), a.res)
		want(t, "persons within the margin", a.listed(t, group), ann.ID, bob.ID)
		b.SweepNow(t.Context(), b.res) // stores the match
		time.Sleep(time.Hour)
		a.SweepNow(t.Context(), a.res)
		want(t, "persons after it", b.listed(t, group), ann.ID)
	})
}

// TestWhatIsDeletedDuringAnAnalysisIsNotFound has one replica delete while another one analyses the photo of a search.
func TestWhatIsDeletedDuringAnAnalysisIsNotFound(t *testing.T) {
	stores := sharedStores(t)
	a := newServiceOn(t, stores[0], 0)
	var during func()
	slow := &fake{name: "first", supports: measurable, want: func(vision.Want) {
		if do := during; do != nil {
			during = nil
			do()
		}
	}}
	models := map[string]face.Recogniser{}
	for _, name := range []string{"recognition_01", "recognition_02", "recognition_03", "recognition_04"} {
		models[name] = slow
	}
	b := newServiceServing(t, stores[1], 0, models, nil)
	group, list := b.create(t, face.PersonGroup, "g"), b.create(t, face.FaceList, "l")
	ann, bob := b.enrol(t, group, "Ann", "ann.1"), b.enrol(t, group, "Bob", "bob.1")
	f, other := b.addListed(t, list, "ann.2"), b.addListed(t, list, "bob.2")
	b.trainOn(t, b, group)
	identified := func(photo string) (ids []string) {
		t.Helper()
		q := face.IdentifyQuery{PersonGroupID: group.ID, MaxCandidates: 100, Threshold: ptr(0.5)}
		seen := must[face.SeenFaces](t)(b.IdentifyPhoto(t.Context(), b.res, []byte(photo), q))
		for _, c := range seen.Faces[0].Candidates {
			ids = append(ids, c.PersonID)
		}
		return ids
	}
	similar := func(photo string) (ids []string) {
		t.Helper()
		q := face.SimilarQuery{FaceListID: list.ID, MaxCandidates: ptr(10)}
		found := must[face.SimilarFaces](t)(b.FindSimilarPhoto(t.Context(), b.res, face.Shown{Photo: []byte(photo)}, q))
		for _, s := range found.Found {
			ids = append(ids, s.PersistedFaceID)
		}
		return ids
	}
	want(t, "identified", identified("ann"), ann.ID)
	want(t, "similar", similar("ann"), f)
	during = func() { mustDo(t, a.DeletePerson(t.Context(), a.res, ann)) }
	want(t, "identified after a deletion", identified("ann"))
	want(t, "identified of the others", identified("bob"), bob.ID)
	during = func() { mustDo(t, a.DeleteFace(t.Context(), a.res, list, f)) }
	want(t, "similar after a deletion", similar("ann"))
	want(t, "similar of the others", similar("bob"), other)
}

// TestTheLatestMatchCounts has two replicas store matches of different days, the later one first.
func TestTheLatestMatchCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rs := newReplicas(t)
		a, b := rs[0], rs[1]
		group := a.create(t, face.PersonGroup, "g")
		ann := a.enrol(t, group, "Ann", "ann")
		a.trainOn(t, a, group)
		mustDo(t, a.SetRetention(t.Context(), a.res, group, &face.Retention{Days: 3, Since: face.SinceMatch}))
		want(t, "identified", b.persons(t, group, b.detect(t, "ann")[0]), ann.ID)
		time.Sleep(2 * day)
		want(t, "identified", a.persons(t, group, a.detect(t, "ann")[0]), ann.ID)
		a.SweepNow(t.Context(), a.res)
		b.SweepNow(t.Context(), b.res) // two days older
		time.Sleep(2*day + time.Hour)
		a.SweepNow(t.Context(), a.res)
		want(t, "persons", b.listed(t, group), ann.ID)
	})
}

// TestDetectedFacesAreOfAllReplicas uses a face that one replica has detected at another one.
func TestDetectedFacesAreOfAllReplicas(t *testing.T) {
	rs := newReplicas(t)
	a, b := rs[0], rs[1]
	group, list := a.create(t, face.PersonGroup, "g"), a.create(t, face.FaceList, "l")
	ann := a.enrol(t, group, "Ann", "ann.1")
	f := a.addListed(t, list, "ann.2")
	a.trainOn(t, a, group)
	ids := a.detect(t, "ann bob")
	want(t, "identified", b.persons(t, group, ids[0]), ann.ID)
	want(t, "similar", b.similar(t, list, ids[0]), f)
	q := face.VerifyQuery{FaceID: ids[0], PersonID: ann.ID, PersonGroupID: group.ID}
	if v := must[face.Verdict](t)(b.Verify(t.Context(), b.res, q)); !v.Identical {
		t.Errorf("verified with %v", v)
	}
	pair := face.VerifyQuery{FaceID1: ids[0], FaceID2: ids[1]}
	if v := must[face.Verdict](t)(b.Verify(t.Context(), b.res, pair)); v.Identical {
		t.Errorf("two persons verified with %v", v)
	}
	_, err := b.FindSimilar(t.Context(), b.res, face.SimilarQuery{FaceID: ids[0], FaceIDs: ids})
	mustDo(t, err)
}
