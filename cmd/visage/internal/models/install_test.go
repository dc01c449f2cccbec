package models

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/vision/pack"
)

// TestInstallTriesNetworks checks that a pack is not installed if its files match its manifest but its weights are not
// numbers.
func TestInstallTriesNetworks(t *testing.T) {
	root, err := filepath.Abs("../../../..")
	if err != nil {
		t.Fatal(err)
	}
	whole := filepath.Join(root, "models", "packs", "default")
	if _, err := os.Stat(filepath.Join(whole, pack.ManifestName)); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("CI requires the model pack: %v", err)
		}
		t.Skip("no model pack; run make setup")
	}
	t.Chdir(root) // where the library is found
	opened, err := pack.Open(whole)
	if err != nil {
		t.Fatal(err)
	}
	for _, bend := range []bool{true, false} {
		m, from, packs := opened.Manifest(), t.TempDir(), t.TempDir()
		m.Files = slices.Clone(m.Files)
		for i, f := range m.Files {
			data, err := os.ReadFile(opened.Path(f.Name))
			if err != nil {
				t.Fatal(err)
			}
			if bend && f.Name == m.Recogniser.File {
				copy(data[len(data)/2:], slices.Repeat([]byte{0xff}, 256))
			}
			sum := sha256.Sum256(data)
			m.Files[i].SHA256 = hex.EncodeToString(sum[:])
			if err := os.WriteFile(filepath.Join(from, f.Name), data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		manifest, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(from, pack.ManifestName), manifest, 0o644); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(manifest)
		var out, errs bytes.Buffer
		code := command.Execute(t.Context(), command.Root("visage", "", Command()),
			command.Streams{Out: &out, Err: &errs},
			[]string{"models", "install", from, "--sha256", hex.EncodeToString(sum[:]), "--into", packs})
		left, err := os.ReadDir(packs)
		if err != nil {
			t.Fatal(err)
		}
		if bend {
			if code == command.ExitOK || len(left) > 0 ||
				!strings.Contains(errs.String(),
					"install model pack: open model pack default: try recogniser: run network: output template holds "+
						"NaN") {
				t.Errorf("exit code %d, %d installed, output\n%s", code, len(left), errs.String())
			}
		} else if code != command.ExitOK || len(left) != 1 {
			t.Errorf("the whole pack: exit code %d, %d installed, output\n%s", code, len(left), errs.String())
		}
	}
}
