package server_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// scattered starts servers over one store which search large collections together, and one that searches alone.
func scattered(t *testing.T, n int) (all []*officer, alone *officer) {
	t.Helper()
	keys := filepath.Join(t.TempDir(), "root")
	start := func(listen string) *officer {
		return &officer{Server: servertest.Start(t, server.Config{
			Engine: "memory:" + t.Name(), Shared: true, RootKeys: []string{"file:" + keys},
			PublicURL: "https://visage.example", Rate: 100_000, PeerListen: listen, PartitionBytes: 4 << 10,
		})}
	}
	for range n {
		all = append(all, start("127.0.0.1:0"))
	}
	return all, start("")
}

// must is face for what has to succeed; it returns the answer.
func (o *officer) must(t *testing.T, method, path, body string) string {
	t.Helper()
	status, answer, _ := o.face(t, method, "/face/v1.2/"+path, body)
	if status/100 != 2 {
		t.Fatalf("%s %s: %d %s", method, path, status, answer)
	}
	return answer
}

// made returns a member of an answer.
func made(t *testing.T, answer, member string) string {
	t.Helper()
	var all map[string]any
	if err := json.Unmarshal([]byte(strings.Trim(answer, "[]")), &all); err != nil {
		t.Fatalf("%q: %v", answer, err)
	}
	id, _ := all[member].(string)
	return id
}

// seesPartitions checks what the operator is told of a large person group that servers search together.
func seesPartitions(t *testing.T, all []*officer) {
	t.Helper()
	var told armwire.ReplicaList
	held := func() (n int) {
		answer, err := json.Marshal(all[0].Manage(t, http.MethodGet, "/providers/Visage.Operations/replicas", nil))
		told = armwire.ReplicaList{}
		if err = errors.Join(err, json.Unmarshal(answer, &told)); err != nil {
			t.Fatal(err)
		}
		for _, r := range told.Value {
			if g := r.Galleries; g != nil && g.Budget > 0 && g.Bytes > 0 && g.Loading == 0 {
				n += g.Partitions
			}
		}
		return n
	}
	if held(); len(told.Collections) != 1 {
		t.Fatalf("the collections %+v", told.Collections)
	}
	c := told.Collections[0]
	if c.Kind != "largepersongroup" || !strings.HasSuffix(c.ResourceID, "/accounts/default") || c.Bytes < 4<<10 ||
		len(c.Partitions) < 2 {
		t.Errorf("the collection %+v", c)
	}
	known := map[string]bool{}
	for _, r := range told.Value {
		known[r.ID] = true
	}
	for _, at := range c.Partitions {
		if len(at) != 2 || at[0] == at[1] || !known[at[0]] || !known[at[1]] {
			t.Errorf("a partition is at %v, of %v", at, known)
		}
	}
	soon(t, "each partition is in the memory of two servers", func() bool { return held() >= len(c.Partitions) })
}

// TestServersSearchTogether identifies at four servers that each have some partitions, of which one stops, and at one
// that has everything.
func TestServersSearchTogether(t *testing.T) {
	all, alone := scattered(t, 4)
	const group = "largepersongroups/g"
	all[0].must(t, http.MethodPut, group, `{"name":"g"}`)
	var persons []string
	for i := range 60 {
		at := all[i%4]
		person := made(t, at.must(t, http.MethodPost, group+"/persons", `{"name":"x"}`), "personId")
		photo := servertest.Photo(i, fmt.Sprint("person ", i/2)) // two persons of the same name are alike
		at.must(t, http.MethodPost, group+"/persons/"+person+"/persistedfaces", string(photo))
		persons = append(persons, person)
	}
	all[1].must(t, http.MethodPost, group+"/train", "")
	soon(t, "the training", func() bool {
		return made(t, all[2].must(t, http.MethodGet, group+"/training", ""), "status") == "succeeded"
	})
	// Every replica knows the others.
	for _, o := range all {
		soon(t, "the replicas of each", func() bool {
			return strings.Contains(o.page(t, "/metrics"), "visage_partition_replicas 4\n")
		})
	}
	identify := func(servers []*officer, i int) {
		t.Helper()
		photo := servertest.Photo(1000+i, fmt.Sprint("person ", i))
		probe := made(t, all[0].must(t, http.MethodPost, "detect?returnFaceId=true", string(photo)), "faceId")
		ask := fmt.Sprintf(`{"largePersonGroupId":"g","faceIds":[%q],"maxNumOfCandidatesReturned":10,`+
			`"confidenceThreshold":0.1}`, probe)
		want := alone.must(t, http.MethodPost, "identify", ask)
		for _, o := range servers {
			if got := o.must(t, http.MethodPost, "identify", ask); got != want {
				t.Fatalf("person %d: %s, want %s", i, got, want)
			}
		}
	}
	for i := range 20 {
		identify(all, i)
	}
	if n := all[0].metric(t, `visage_partition_searches_total{outcome="answered"}`); n < 20 {
		t.Errorf("the first server has searched %v times in partitions, of 20", n)
	}
	seesPartitions(t, all)
	gone := persons[10]
	all[3].must(t, http.MethodDelete, group+"/persons/"+gone, "")
	for i, o := range all {
		photo := servertest.Photo(2000, "person 5")
		probe := made(t, o.must(t, http.MethodPost, "detect?returnFaceId=true", string(photo)), "faceId")
		answer := o.must(t, http.MethodPost, "identify", fmt.Sprintf(
			`{"largePersonGroupId":"g","faceIds":[%q],"maxNumOfCandidatesReturned":10,"confidenceThreshold":0}`, probe))
		if strings.Contains(answer, gone) || !strings.Contains(answer, persons[11]) {
			t.Errorf("server %d after the deletion: %s", i, answer)
		}
	}
	if err := all[2].Stop(); err != nil {
		t.Fatal(err)
	}
	rest := []*officer{all[0], all[1], all[3]}
	for i := range 20 {
		identify(rest, i+5)
	}
}

// TestMissingMemoryIsForNow: a replica that is missing may come back, so the refusal says when to try again.
func TestMissingMemoryIsForNow(t *testing.T) {
	err := server.RefusedForMemory(t.Context(), 5<<20)
	refusal, ok := errors.AsType[*visage.Refusal](err)
	if !ok || refusal.Kind != visage.Unavailable || refusal.RetryAfter <= 0 ||
		!strings.Contains(refusal.Message, "needs 5 MiB of memory") {
		t.Errorf("got %+v", err)
	}
}

func TestSettingsOfPartitionsAreChecked(t *testing.T) {
	for _, tt := range []struct {
		cfg  server.Config
		want string
	}{
		{server.Config{PeerListen: "10.0.0.1:1"}, "peer-listen: is for replicas that share a store"},
		{server.Config{PeerListen: "here"}, "peer-listen: must be host:port"},
		{server.Config{PeerListen: "0.0.0.0:1"}, "peer-address: must be set"},
		{server.Config{PeerListen: ":1"}, "peer-address: must be set"},
		{server.Config{PeerListen: ":1", PeerAddress: "x:0"}, "peer-address: must be host:port"},
		{server.Config{PeerListen: ":1", PeerAddress: "x"}, "peer-address: must be host:port"},
		{server.Config{PeerAddress: "x:1"}, "peer-address: peer-address and peer-listen go together"},
		{server.Config{PartitionBytes: 1},
			"partition-memory: must be at least 1KiB, and at most gallery-memory, which is 1GiB; got 1 byte"},
		{server.Config{PartitionBytes: 2 << 30}, "at most gallery-memory, which is 1GiB; got 2GiB"},
		{server.Config{PartitionCopies: 17}, "partition-copies: must be between 1 and 16"},
		{server.Config{PartitionCopies: -1}, "partition-copies: must be between 1 and 16"},
	} {
		if err := tt.cfg.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.cfg, err, tt.want)
		}
	}
}
