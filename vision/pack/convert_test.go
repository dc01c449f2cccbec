package pack_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/visage-face/visage/vision/pack"
)

// weightsFolder is the model folder of the pinned package.
func weightsFolder(t testing.TB) string {
	t.Helper()
	dir := filepath.Join("..", "..", "models", "node_modules", "@vladmandic", "face-api", "model")
	if _, err := os.Stat(dir); err != nil {
		what := "no weights in " + dir + ": run `make setup`"
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s, and CI=true", what)
		}
		t.Skip(what)
	}
	return dir
}

// converted are the digests of the default pack's networks. They change when the weights or the conversion change, and
// must be the same on every machine.
var converted = map[string]string{
	"detector.onnx":   "fdc42cf75cfb9fd4b45e039f749b28bc99c62ef3a204b1f83e21e2f1227bfa24",
	"landmarks.onnx":  "7d4978cb783661e5667bb376f2fcb2ce6377f3fc57ef8583c0fac1d0abfcf5a6",
	"recogniser.onnx": "f3c3afe38155a94c800dd89cd9b3f0f4dbf756c84c780a49e8a6417755315ca6",
}

func TestConvertIsDeterministic(t *testing.T) {
	src, root := weightsFolder(t), t.TempDir()
	var first *pack.Pack
	for _, name := range []string{"one", "two"} {
		p, err := pack.Convert(t.Context(), src, filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = p
			continue
		}
		for _, f := range append(p.Manifest().Files, pack.File{Name: pack.ManifestName}) {
			a, errA := os.ReadFile(first.Path(f.Name))
			b, errB := os.ReadFile(p.Path(f.Name))
			if errA != nil || errB != nil || !bytes.Equal(a, b) {
				t.Errorf("%s differs from run to run (%v, %v)", f.Name, errA, errB)
			}
		}
	}
	for _, f := range first.Manifest().Files {
		if f.SHA256 != converted[f.Name] {
			t.Errorf("%s is %s, want %s", f.Name, f.SHA256, converted[f.Name])
		}
	}
	onlyHolds(t, root, "one", "two")
}

func TestConvertRefuses(t *testing.T) {
	src := weightsFolder(t)
	bend := func(t *testing.T, name string, change func([]byte) []byte) string {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(src)); err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), change(raw), 0o644); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	replace := func(from, to string) func([]byte) []byte {
		return func(raw []byte) []byte { return bytes.Replace(raw, []byte(from), []byte(to), 1) }
	}
	const detector = "ssd_mobilenetv1_model-weights_manifest.json"
	for _, row := range []struct {
		name, file string
		change     func([]byte) []byte
		words      string
	}{
		{"a short shard", "ssd_mobilenetv1_model.bin", func(b []byte) []byte { return b[:len(b)-1] }, "the shards end before"},
		{"a long shard", "ssd_mobilenetv1_model.bin", func(b []byte) []byte { return append(b, 0) }, "belong to no tensor"},
		{"no JSON", detector, func([]byte) []byte { return []byte("<html>") }, "invalid character"},
		{"a path that climbs", detector, replace(`"ssd_mobilenetv1_model.bin"`, `"../ssd_mobilenetv1_model.bin"`), "not a plain file name"},
		{"another name", detector, replace("Conv2d_0_pointwise/weights", "Conv2d_0_pointwise/heights"), "want shape"},
		{"another quantisation", detector, replace(`"dtype":"uint8"`, `"dtype":"uint9"`), "not supported"},
	} {
		t.Run(row.name, func(t *testing.T) {
			root := t.TempDir()
			_, err := pack.Convert(t.Context(), bend(t, row.file, row.change), filepath.Join(root, "p"))
			if err == nil || !strings.Contains(err.Error(), row.words) {
				t.Errorf("got %v, want %q", err, row.words)
			}
			onlyHolds(t, root)
		})
	}
	root := t.TempDir()
	if _, err := pack.Convert(t.Context(), src, root); err == nil || !strings.Contains(err.Error(), "exists already") {
		t.Errorf("converted over a folder: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := pack.Convert(ended, src, filepath.Join(root, "p")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v after the context had ended", err)
	}
	onlyHolds(t, root)
}
