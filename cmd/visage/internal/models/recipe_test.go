package models

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/visage-face/visage/vision/pack"
)

// TestPackOfAnotherDetector makes the pack of docs/operations/packs.md with the commands of that page.
func TestPackOfAnotherDetector(t *testing.T) {
	root, err := filepath.Abs("../../../..")
	if err != nil {
		t.Fatal(err)
	}
	shared := os.Getenv("VISAGE_SHARED")
	if shared == "" {
		shared = filepath.Join(root, "..", "shared")
	}
	const network = "face_detection_yunet_2026may.onnx"
	detector, err := os.ReadFile(filepath.Join(shared, "testdata", "models", network))
	if err != nil {
		t.Skipf("no YuNet: %v", err)
	}
	for _, program := range []string{"bash", "jq"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	models := filepath.Join(root, "models")
	if _, err := os.Stat(filepath.Join(models, "packs", "mobileface", pack.ManifestName)); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("CI requires the model pack: %v", err)
		}
		t.Skip("no model pack; run make setup")
	}
	page, err := os.ReadFile(filepath.Join(root, "docs", "operations", "packs.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, script, found := bytes.Cut(page, []byte("```sh\nmkdir yunet"))
	script, _, ended := bytes.Cut(script, []byte("visage models install"))
	if !found || !ended {
		t.Fatal("docs/operations/packs.md no longer describes how to make a pack with YuNet")
	}

	t.Chdir(t.TempDir())
	if err := os.Symlink(models, "models"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(network, detector, 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", "mkdir yunet"+string(script))
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	made, err := pack.Open("yunet")
	if err != nil {
		t.Fatal(err)
	}
	if m := made.Manifest(); made.Name() != "yunet-mobileface" || m.Detector.Kind != pack.YuNet || len(m.Wear) == 0 ||
		!strings.HasPrefix(m.Origin, "YuNet") {
		t.Errorf("it is called %s, of %s, with a detector of kind %s and %d wear networks", made.Name(),
			m.Origin,
			m.Detector.Kind, len(m.Wear))
	}
}
