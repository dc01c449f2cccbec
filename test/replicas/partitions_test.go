//go:build linux

package replicas_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
)

// TestPartitionsOutliveReplicas identifies people in a group that three replicas search together, while one of them is
// killed, another one is stopped, and both come back. Every answer is right, and a client that repeats a request once,
// at another replica, is always answered.
func TestPartitionsOutliveReplicas(t *testing.T) {
	t.Parallel() // most of the time it waits
	c := newCluster(t, 3, true, newDatabase(t))
	c.cut = 4
	c.startAll()
	g := newGroup(t, c)
	for i, r := range c.replicas {
		g.refresh(t, r)
		soon(t, "replica "+r.name+" searches in all partitions", func() bool {
			return hasMetric(t, r, "visage_partition_replicas 3") && g.identify(t.Context(), i, 0) == nil
		})
	}
	ctx, stop := context.WithCancel(t.Context())
	g.stop = stop
	t.Cleanup(func() { stop(); g.all.Wait() })
	for n := range 4 {
		g.all.Go(func() { g.search(ctx, n) })
	}
	g.meanwhile(t, func() {})
	for i, away := range []func(*replica){(*replica).kill, (*replica).stop} {
		r := c.replicas[i]
		g.meanwhile(t, func() { away(r) })
		if err := r.start(); err != nil {
			t.Fatal(err)
		}
		g.refresh(t, r)
		g.meanwhile(t, func() {})
		soon(t, "three replicas search", func() bool { return hasMetric(t, r, "visage_partition_replicas 3") })
	}

	// A person who is deleted at one replica is found at none.
	gone := len(g.persons) - 1
	must(newSite(t, c.replicas[0]).face(ctx, "DELETE", "largepersongroups/guests/persons/"+g.persons[gone], nil)).
		want(t, 200)
	g.persons[gone] = ""
	for i := range c.replicas {
		if err := g.identify(ctx, i, gone); err != nil {
			t.Error("after the deletion: ", err)
		}
	}
	g.end(t)
	for _, r := range c.replicas {
		wantPartitions(t, r)
	}
}

// wantPartitions checks that a replica has searched together with others since it started.
func wantPartitions(t *testing.T, r *replica) {
	t.Helper()
	if metric(t, r, `visage_partition_searches_total{outcome="answered"}`) == 0 {
		t.Errorf("replica %s has not searched in partitions", r.name)
	}
}

// group is people whom users look for at replicas.
type group struct {
	users
	key     string
	persons []string // by number; empty for one who was deleted
	photos  workload
}

// newGroup enrols and trains more people than are searched in one partition.
func newGroup(t *testing.T, c *cluster) *group {
	t.Helper()
	a := newSite(t, c.replicas[0])
	g := &group{key: a.key}
	g.clients = make([]atomic.Pointer[client], len(c.replicas))
	const path = "largepersongroups/guests"
	must(a.face(t.Context(), "PUT", path, `{"name":"g","recognitionModel":"recognition_04"}`)).want(t, 200)
	for i := range 60 {
		id := must(a.face(t.Context(), "POST", path+"/persons", `{"name":"p"}`)).want(t, 200).text("personId")
		must(a.face(t.Context(), "POST", path+"/persons/"+id+"/persistedfaces", g.photo(i))).want(t, 200)
		g.persons = append(g.persons, id)
	}
	must(a.face(t.Context(), "POST", path+"/train", nil)).want(t, 202)
	soon(t, "the training", func() bool {
		return must(a.face(t.Context(), "GET", path+"/training", nil)).text("status") == "succeeded"
	})
	return g
}

func (g *group) photo(person int) []byte { return g.photos.photo(fmt.Sprint("person ", person)) }

// search looks for one after another, except the last, and if a replica fails, for the same one at the next replica.
func (g *group) search(ctx context.Context, first int) {
	for n := first; ctx.Err() == nil; n++ {
		person := n % (len(g.persons) - 1)
		err := g.identify(ctx, n, person)
		if wrong := (wrongError{}); err != nil && !errors.As(err, &wrong) && ctx.Err() == nil {
			g.again.Add(1)
			err = g.identify(ctx, n+1, person)
		}
		switch {
		case err == nil:
			g.done.Add(1)
		case ctx.Err() == nil:
			g.mu.Lock()
			g.failed = append(g.failed, err.Error())
			g.mu.Unlock()
		}
	}
}

// wrongError is an answer that is not the right one; no repetition makes up for it.
type wrongError struct{ text string }

func (e wrongError) Error() string { return "wrong: " + e.text }

// identify looks for a person at a replica.
func (g *group) identify(ctx context.Context, at, person int) error {
	c := g.clients[at%len(g.clients)].Load()
	a, ok := askAs(ctx, c, g.key, "POST", "detect?recognitionModel=recognition_04", g.photo(person))
	var faces []struct{ FaceID string }
	if !ok || a.status != http.StatusOK || json.Unmarshal(a.body, &faces) != nil || len(faces) != 1 {
		return fmt.Errorf("detect: %s", a)
	}
	a, ok = askAs(ctx, c, g.key, "POST", "identify",
		fmt.Sprintf(`{"faceIds":[%q],"largePersonGroupId":"guests"}`, faces[0].FaceID))
	if !ok || a.status != http.StatusOK {
		return fmt.Errorf("identify: %s", a)
	}
	var found []struct{ Candidates []struct{ PersonID string } }
	if err := json.Unmarshal(a.body, &found); err != nil || len(found) != 1 {
		return wrongError{a.String()}
	}
	var ids, want []string
	for _, c := range found[0].Candidates {
		ids = append(ids, c.PersonID)
	}
	if id := g.persons[person]; id != "" {
		want = []string{id}
	}
	if !slices.Equal(ids, want) {
		return wrongError{fmt.Sprintf("%v, want %v", ids, want)}
	}
	return nil
}
