package deploy_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// project reads a Compose file as Compose does.
func project(t *testing.T, name string) *types.Project {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, name)
	text, err := os.ReadFile(filepath.Join("..", "..", "packaging", "compose", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "root-key.env"), []byte("VISAGE_SECRET_ROOT=x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	options, err := cli.NewProjectOptions([]string{file}, cli.WithResolvedPaths(true))
	if err != nil {
		t.Fatal(err)
	}
	p, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// confined wants a service of the image that may do what it needs and no more.
func confined(t *testing.T, p *types.Project, name string) types.ServiceConfig {
	t.Helper()
	s, err := p.GetService(name)
	if err != nil {
		t.Fatal(err)
	}
	if !s.ReadOnly || s.Privileged || s.User != "65532:65532" || !slices.Equal(s.CapDrop, []string{"ALL"}) ||
		!slices.Contains(s.SecurityOpt, "no-new-privileges:true") {
		t.Errorf("the service may do too much: %+v", s)
	}
	if key := s.Environment["VISAGE_SECRET_ROOT"]; key == nil || *key != "x" {
		t.Errorf("the root key is %v, want that of root-key.env", key)
	}
	if s.HealthCheck == nil ||
		!slices.Equal([]string(s.HealthCheck.Test), []string{"CMD", "/usr/bin/visage", "health"}) {
		t.Errorf("its health check is %+v", s.HealthCheck)
	}
	if s.StopGracePeriod == nil || time.Duration(*s.StopGracePeriod) <= 50*time.Second {
		t.Error("it is killed before it has ended (stop-delay, drain-timeout, and 20 s for closing the store)")
	}
	if len(s.Ports) != 1 || s.Ports[0].HostIP != "127.0.0.1" {
		t.Errorf("ports %+v, want one on this machine", s.Ports)
	}
	return s
}

func TestCompose(t *testing.T) {
	s := confined(t, project(t, "compose.yaml"), "visage")
	if !slices.Equal([]string(s.Command), []string{"serve", "--root-key", "env:VISAGE_SECRET_ROOT"}) {
		t.Errorf("it runs %q", s.Command)
	}
	if len(s.Volumes) != 1 || s.Volumes[0].Type != "volume" || s.Volumes[0].Target != "/var/lib/visage" {
		t.Errorf("volumes %+v, want one with the data", s.Volumes)
	}
}

// TestComposeReplicas wants two replicas that share what they must share and differ in what is their own, over a
// database that nobody else reaches.
func TestComposeReplicas(t *testing.T) {
	p := project(t, "replicas.yaml")
	a, b := confined(t, p, "visage-a"), confined(t, p, "visage-b")
	if !slices.Equal([]string(a.Command), []string(b.Command)) || !slices.Contains(a.Command, "--shared") {
		t.Errorf("they run %q and %q", a.Command, b.Command)
	}
	for _, name := range []string{"VISAGE_STORE", "VISAGE_EPOCH_KEYS", "VISAGE_PUBLIC_URL", "VISAGE_PEER_LISTEN"} {
		if one, two := a.Environment[name], b.Environment[name]; one == nil || two == nil || *one != *two {
			t.Errorf("%s differs", name)
		}
	}
	for _, name := range []string{"VISAGE_DIR", "VISAGE_PEER_ADDRESS"} {
		if one, two := a.Environment[name], b.Environment[name]; one == nil || two == nil || *one == *two {
			t.Errorf("%s is the same, or missing", name)
		}
	}
	if at := *b.Environment["VISAGE_PEER_ADDRESS"]; at != b.Name+":8444" {
		t.Errorf("others reach %s at %s", b.Name, at)
	}
	database, err := p.GetService("database")
	if err != nil {
		t.Fatal(err)
	}
	if database.NetworkMode != "none" || len(database.Ports) > 0 {
		t.Errorf("the database is in the network %q, with ports %+v", database.NetworkMode, database.Ports)
	}
	where := func(s types.ServiceConfig, source string) string {
		for _, v := range s.Volumes {
			if v.Source == source {
				return v.Target
			}
		}
		return ""
	}
	if at := where(a, "socket"); at == "" || at != where(b, "socket") || at != where(database, "socket") {
		t.Errorf("the socket is at %q, %q and %q", at, where(b, "socket"), where(database, "socket"))
	}
}
