package deploy_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
)

// TestCompose reads the Compose file as Compose does.
func TestCompose(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "compose.yaml")
	text, err := os.ReadFile(filepath.Join("..", "..", "packaging", "compose", "compose.yaml"))
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
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s, err := project.GetService("visage")
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
	if !slices.Equal([]string(s.Command), []string{"serve", "--root-key", "env:VISAGE_SECRET_ROOT"}) {
		t.Errorf("it runs %q", s.Command)
	}
	if s.HealthCheck == nil ||
		!slices.Equal([]string(s.HealthCheck.Test), []string{"CMD", "/usr/bin/visage", "health"}) {
		t.Errorf("its health check is %+v", s.HealthCheck)
	}
	if s.StopGracePeriod == nil || time.Duration(*s.StopGracePeriod) <= 20*time.Second {
		t.Error("it is killed before requests have ended (drain-timeout)")
	}
	if len(s.Ports) != 1 || s.Ports[0].HostIP != "127.0.0.1" {
		t.Errorf("ports %+v, want one on this machine", s.Ports)
	}
	if len(s.Volumes) != 1 || s.Volumes[0].Type != "volume" || s.Volumes[0].Target != "/var/lib/visage" {
		t.Errorf("volumes %+v, want one with the data", s.Volumes)
	}
}
