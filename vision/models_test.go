package vision_test

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/visage-face/visage/vision"
	"github.com/visage-face/visage/vision/pack"
)

// missing ends a test whose requirements are missing: it skips it, but fails where CI must have them.
func missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s, and CI=true", what)
	}
	t.Skip(what)
}

const root = ".."

// samples is the folder of photos that come with the pinned packages.
var samples = filepath.Join(root, "models", "node_modules", "@vladmandic", "face-api", "demo")

// defaultPack opens the converted pack.
func defaultPack(t testing.TB) *pack.Pack {
	t.Helper()
	dir := os.Getenv("VISAGE_MODELS")
	if dir == "" {
		dir = filepath.Join(root, "models", "packs", "default")
	}
	if _, err := os.Stat(filepath.Join(dir, pack.ManifestName)); err != nil {
		missing(t, "no model pack at "+dir+": run `make setup`")
	}
	p, err := pack.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// library returns the path of the ONNX Runtime library that npm installed.
func library(t testing.TB) string {
	t.Helper()
	arch := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
	dir := filepath.Join(root, "models", "node_modules", "onnxruntime-node", "bin", "napi-v6", runtime.GOOS, arch)
	found, err := filepath.Glob(filepath.Join(dir, "libonnxruntime.*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		missing(t, "no ONNX Runtime in "+dir+": run `make setup`")
	}
	return found[0]
}

// open opens a pipeline that the test closes at its end.
func open(t testing.TB, cfg vision.Config) *vision.Pipeline {
	t.Helper()
	if cfg.Pack == nil {
		cfg.Pack = defaultPack(t)
	}
	cfg.Library = library(t)
	p, err := vision.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// shared returns a path under the shared test data.
func shared(t testing.TB, path ...string) string {
	t.Helper()
	dir := os.Getenv("VISAGE_SHARED")
	if dir == "" {
		dir = filepath.Join(root, "..", "shared")
	}
	if _, err := os.Stat(filepath.Join(dir, "testdata")); err != nil {
		missing(t, "no shared test data at "+dir+": set VISAGE_SHARED")
	}
	return filepath.Join(append([]string{dir, "testdata"}, path...)...)
}

// read returns a file's bytes.
func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
