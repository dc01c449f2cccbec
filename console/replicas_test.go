package console_test

import (
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

const replicasPage = "/console/operations/replicas"

// TestReplicasPage shows two replicas and a group that they search together.
func TestReplicasPage(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	start := func() *servertest.Server {
		return servertest.Start(t, server.Config{Engine: "memory:" + t.Name(), Shared: true, Version: "1.2.3",
			RootKeys: []string{"file:" + root}, PublicURL: "https://visage.example",
			PeerListen: "127.0.0.1:0", PartitionBytes: 1 << 10})
	}
	s := start()
	b := s.Browser(t, "")
	group := create(t, b, "largepersongroups", "staff", "Staff")
	var people []servertest.File
	for i := range 16 {
		people = append(people, photo(fmt.Sprintf("%d.png", i), i, fmt.Sprint("person ", i)))
	}
	b.Upload(group+"/photos", group+"/photos", url.Values{"into": {"new"}}, people...)
	await(t, b, group, "16")
	other := start()
	b.Submit(group, group+"/train", nil)
	await(t, b, group, "Last successful training:")

	listens := other.Operator().Listen
	port := listens[strings.LastIndex(listens, ":")+1:]
	want(t, "the replicas", await(t, b, replicasPage, port), 200,
		"answers this page", "serves requests", "1.2.3", "Searched together", "Large person group",
		`href="/console/resources/default"`)
	wantNot(t, "the replicas", b.Get(replicasPage), "staff", "different versions")
	want(t, "the page of the instance", b.Get("/console/operations"), 200, replicasPage)
	if p := s.As(t, "somebody").Get(replicasPage); p.Status != 403 && p.Status != 404 {
		t.Errorf("somebody without a role: %d", p.Status)
	}
}

// TestOneReplica shows a server that is alone.
func TestOneReplica(t *testing.T) {
	s := servertest.Start(t, server.Config{Version: "1.2.3"})
	p := s.Browser(t, "").Get(replicasPage)
	want(t, "a server that is alone", p, 200, "answers this page", "serves requests", "1.2.3")
	wantNot(t, "a server that is alone", p, "Searched together")
}
