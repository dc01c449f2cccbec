package server_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/visage-face/visage/gallery"
	"github.com/visage-face/visage/gallery/remote"
	"github.com/visage-face/visage/keysource/file"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// stranger is a replica that other ones know by the store, and that searches as the test says. It implements
// remote.Searcher.
type stranger struct {
	say atomic.Pointer[func(q remote.Query) (remote.Found, error)]
}

// Search implements remote.Searcher.
func (s *stranger) Search(_ context.Context, q remote.Query) (remote.Found, error) {
	return (*s.say.Load())(q)
}

// join makes it known in the store of a test, with an address at which nobody answers before serve is called. leave
// takes it out of the store.
func (s *stranger) join(t *testing.T, rootKey string) (serve func(), leave func()) {
	t.Helper()
	source, err := file.New(rootKey, "")
	if err != nil {
		t.Fatal(err)
	}
	store, err := sealed.Open(t.Context(), sealed.Config{Engine: "memory:" + t.Name(), Shared: true,
		Protectors: []sealed.Protector{{Name: "file", Kind: "file", Entry: "file:" + rootKey, Source: source}}})
	if err != nil {
		t.Fatal(err)
	}
	left := false
	leave = func() {
		t.Helper()
		if err := store.Close(); err != nil && !left {
			t.Error(err)
		}
		left = true
	}
	t.Cleanup(leave)
	self, err := server.ReplicaIdentity(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	answers, err := remote.NewServer(remote.ServerConfig{Self: self, Searcher: s})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil { // the address is free again, and nobody answers there
		t.Fatal(err)
	}
	note := fmt.Sprintf(`{"peer":%q,"budget":%d,"listen":"https://127.0.0.1:1"}`, address, 1<<30)
	if err := store.Announce(t.Context(), []byte(note)); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		listener, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		hs := answers.HTTP()
		go func() {
			if err := hs.ServeTLS(listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
				t.Error(err)
			}
		}()
		t.Cleanup(func() { hs.Close() })
	}, leave
}

// TestSearchesNeedEveryPart: while a replica that has parts of a collection does not answer, or says what cannot be
// true of them, the API refuses searches with 503 and the time after which to ask again. It never answers from a part.
func TestSearchesNeedEveryPart(t *testing.T) {
	rootKey := filepath.Join(t.TempDir(), "root")
	o := &officer{Server: servertest.Start(t, server.Config{
		Engine: "memory:" + t.Name(), Shared: true, RootKeys: []string{"file:" + rootKey},
		PublicURL: "https://visage.example", Rate: 100_000, PeerListen: "127.0.0.1:0", PartitionBytes: 4 << 10,
		PartitionCopies: 1,
	})}
	const group = "largepersongroups/g"
	o.must(t, http.MethodPut, group, `{"name":"g"}`)
	for i := range 60 {
		person := made(t, o.must(t, http.MethodPost, group+"/persons", `{"name":"x"}`), "personId")
		o.must(t, http.MethodPost, group+"/persons/"+person+"/persistedfaces",
			string(servertest.Photo(i, fmt.Sprint("person ", i))))
	}
	o.must(t, http.MethodPost, group+"/train", "")
	soon(t, "the training", func() bool {
		return made(t, o.must(t, http.MethodGet, group+"/training", ""), "status") == "succeeded"
	})
	probe := made(t, o.must(t, http.MethodPost, "detect?returnFaceId=true",
		string(servertest.Photo(1000, "person 7"))), "faceId")
	ask := fmt.Sprintf(`{"largePersonGroupId":"g","faceIds":[%q],"confidenceThreshold":0.1}`, probe)
	want := o.must(t, http.MethodPost, "identify", ask)
	members := func(n int) {
		t.Helper()
		soon(t, "the replicas", func() bool {
			return strings.Contains(o.page(t, "/metrics"), fmt.Sprintf("visage_partition_replicas %d\n", n))
		})
	}
	refused := func(why string) {
		t.Helper()
		status, body, header := o.face(t, http.MethodPost, "/face/v1.2/identify", ask)
		if status != http.StatusServiceUnavailable || header.Get("Retry-After") != "1" ||
			!strings.Contains(body, `"ServiceUnavailable"`) || strings.Contains(body, "candidates") {
			t.Errorf("%s: %d %q %s", why, status, header.Get("Retry-After"), body)
		}
	}

	var s stranger
	serve, leave := s.join(t, rootKey)
	members(2)
	refused("a replica that does not answer")

	serve()
	asked := atomic.Int64{}
	for why, say := range map[string]func(q remote.Query) (remote.Found, error){
		"a replica that does not have it": func(remote.Query) (remote.Found, error) {
			return remote.Found{}, remote.ErrNotHere
		},
		"a replica with other keys": func(q remote.Query) (remote.Found, error) {
			q.Stamp.Bundle++
			return remote.Found{Stamp: q.Stamp, Candidates: make([][]gallery.Candidate, len(q.Probes))}, nil
		},
		"a replica whose faces are of another part": func(q remote.Query) (remote.Found, error) {
			var lie []gallery.Candidate
			for i := range q.Count { // one of these is not of this part
				id := gallery.ID{byte(i + 1)}
				lie = append(lie, gallery.Candidate{ID: id, Owner: id, Score: 1})
			}
			return remote.Found{Stamp: q.Stamp, Faces: 1000, Candidates: [][]gallery.Candidate{lie}}, nil
		},
		"a replica whose likeness exceeds all": func(q remote.Query) (remote.Found, error) {
			return remote.Found{Stamp: q.Stamp, Faces: 1, Candidates: [][]gallery.Candidate{{{Score: 2}}}}, nil
		},
	} {
		counted := func(q remote.Query) (remote.Found, error) {
			asked.Add(1)
			return say(q)
		}
		s.say.Store(&counted)
		before := asked.Load()
		soon(t, "a question", func() bool { // it is passed over for some seconds after it was silent
			refused(why)
			return t.Failed() || asked.Load() > before
		})
	}

	leave()
	members(1)
	if got := o.must(t, http.MethodPost, "identify", ask); got != want {
		t.Errorf("when it has left: %s, want %s", got, want)
	}
}
