package sdk_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// TestReadme runs the code under "Use it" in README.md, as a reader would paste it, with the address of a server on a
// free port.
func TestReadme(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join(module, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	at := placeOf(servertest.Start(t, server.Config{}))
	here := t.TempDir()
	if err := os.WriteFile(filepath.Join(here, "photo.jpg"), servertest.Photo(1, "ada", "ben"), 0o600); err != nil {
		t.Fatal(err)
	}
	paste := strings.NewReplacer("https://localhost:8443", at.url, "~/.visage/ca.pem", at.caFile)
	run := func(t *testing.T, text, name string, args ...string) string {
		t.Helper()
		if _, err := exec.LookPath(name); err != nil {
			missing(t, name+" is not installed")
		}
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir, cmd.Stdin = here, strings.NewReader(paste.Replace(text))
		cmd.Env = append(os.Environ(), "KEY="+at.key, "NODE_EXTRA_CA_CERTS="+at.caFile)
		var errs bytes.Buffer
		cmd.Stderr = &errs
		said, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v: %s", name, err, errs.String())
		}
		return string(said)
	}

	t.Run("curl", func(t *testing.T) {
		if _, err := exec.LookPath("curl"); err != nil {
			missing(t, "curl is not installed")
		}
		said := run(t, blockOf(t, string(page), "sh", "curl "), "bash", "-eu")
		var faces []struct {
			FaceAttributes map[string]any `json:"faceAttributes"`
		}
		err := json.Unmarshal([]byte(said), &faces)
		if err != nil || len(faces) != 2 || len(faces[0].FaceAttributes) != 2 {
			t.Errorf("curl got %s (%v), want two faces with two attributes", said, err)
		}
	})
	t.Run("JavaScript", func(t *testing.T) {
		modules := filepath.Join(module, "test", "sdk", "node_modules")
		if !exists(modules) {
			missing(t, "the official clients are not installed: run npm ci --ignore-scripts in test/sdk")
		}
		if err := os.Symlink(modules, filepath.Join(here, "node_modules")); err != nil {
			t.Fatal(err)
		}
		said := run(t, blockOf(t, string(page), "js", "// The official client"), "node", "--input-type=module", "-")
		if n := strings.Count(said, "headPose:"); n != 2 {
			t.Errorf("the client saw %d faces with a pose, want 2: %s", n, said)
		}
	})
}

// blockOf returns the block of a page in a language that begins with a text.
func blockOf(t *testing.T, page, language, begin string) string {
	t.Helper()
	_, rest, found := strings.Cut(page, "```"+language+"\n"+begin)
	text, _, closed := strings.Cut(rest, "\n```\n")
	if !found || !closed {
		t.Fatalf("the page has no block of %s that begins with %q", language, begin)
	}
	return begin + text + "\n"
}
