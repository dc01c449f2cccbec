package ort_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/visage-face/visage/vision/internal/onnx"
	"github.com/visage-face/visage/vision/internal/ort"
)

// load loads the library that npm installed.
func load(t testing.TB) {
	t.Helper()
	arch := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
	dir := filepath.Join("..", "..", "..", "models", "node_modules", "onnxruntime-node", "bin", "napi-v6", runtime.GOOS,
		arch)
	found, err := filepath.Glob(filepath.Join(dir, "libonnxruntime.*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		what := "no ONNX Runtime in " + dir + ": run `make setup`"
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s, and CI=true", what)
		}
		t.Skip(what)
	}
	if err := ort.Load(found[0]); err != nil {
		t.Fatal(err)
	}
}

// doubling saves a network that doubles n numbers.
func doubling(t testing.TB, n int) string {
	t.Helper()
	g := onnx.NewGraph("doubling")
	x := g.Input("x", onnx.Dim{Name: "N"}, onnx.Dim{Size: int64(n)})
	g.Output(g.Add(x, x), "y", onnx.Dim{Name: "N"}, onnx.Dim{Size: int64(n)})
	path := filepath.Join(t.TempDir(), "doubling.onnx")
	if err := os.WriteFile(path, g.Marshal(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t testing.TB, model string) *ort.Session {
	t.Helper()
	s, err := ort.Open(ort.Config{Model: model, Input: "x", Outputs: []string{"y"}, Threads: 1, Runs: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestRunsDoNotDisturbEachOther(t *testing.T) {
	load(t)
	s := open(t, doubling(t, 3))
	var all sync.WaitGroup
	for i := range 32 {
		all.Go(func() {
			f := float32(i)
			out, err := s.Run(t.Context(), ort.Tensor{Shape: []int64{2, 3}, Data: []float32{f, 1, 2, 3, 4, f}})
			if err != nil {
				t.Error(err)
				return
			}
			want := []float32{2 * f, 2, 4, 6, 8, 2 * f}
			if !slices.Equal(out[0].Data, want) || !slices.Equal(out[0].Shape, []int64{2, 3}) {
				t.Errorf("got %v, want %v", out[0], want)
			}
		})
	}
	all.Wait()
}

// Runs that share the processors give what runs alone give, and a session closes with both.
func TestRunsAreAloneOrNot(t *testing.T) {
	load(t)
	var alone, asked atomic.Int64
	s, err := ort.Open(ort.Config{
		Model: doubling(t, 3), Input: "x", Outputs: []string{"y"}, Threads: 2, Runs: 2,
		Alone: func() bool { return asked.Add(1) > 0 && alone.Load() > 0 },
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		alone.Store(int64(i % 2))
		out, err := s.Run(t.Context(), ort.Tensor{Shape: []int64{1, 3}, Data: []float32{1, 2, float32(i)}})
		if err != nil {
			t.Fatal(err)
		}
		if want := []float32{2, 4, 2 * float32(i)}; !slices.Equal(out[0].Data, want) {
			t.Errorf("got %v, want %v", out[0].Data, want)
		}
	}
	if asked.Load() != 4 {
		t.Errorf("asked %d times", asked.Load())
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestFailedRunsAreErrors(t *testing.T) {
	load(t)
	s := open(t, doubling(t, 3))
	for name, input := range map[string]ort.Tensor{
		"another shape":  {Shape: []int64{1, 4}, Data: make([]float32, 4)},
		"too few data":   {Shape: []int64{1, 3}, Data: make([]float32, 2)},
		"no data":        {Shape: []int64{0, 3}},
		"no shape":       {Data: make([]float32, 3)},
		"negative shape": {Shape: []int64{-1, 3}, Data: make([]float32, 3)},
	} {
		if out, err := s.Run(t.Context(), input); err == nil || out != nil {
			t.Errorf("%s: got %v, %v", name, out, err)
		}
	}
}

func TestEndedContextIsItsCause(t *testing.T) {
	load(t)
	s := open(t, doubling(t, 3))
	why := errors.New("nobody waits any more")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	for range 50 { // the turn and the context are both ready: either may be seen first
		if _, err := s.Run(ctx, ort.Tensor{Shape: []int64{1, 3}, Data: make([]float32, 3)}); !errors.Is(err, why) {
			t.Fatalf("got %v", err)
		}
	}
}

func TestClosedSessionRefuses(t *testing.T) {
	load(t)
	s := open(t, doubling(t, 3))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Run(t.Context(), ort.Tensor{Shape: []int64{1, 3}, Data: make([]float32, 3)}); err == nil {
		t.Error("a closed session ran")
	}
}

func TestOpenRefusesWhatIsNoNetwork(t *testing.T) {
	load(t)
	path := filepath.Join(t.TempDir(), "broken.onnx")
	if err := os.WriteFile(path, []byte("no network at all"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, cfg := range []ort.Config{
		{Model: path, Input: "x", Outputs: []string{"y"}, Threads: 1, Runs: 1},
		{Model: filepath.Join(t.TempDir(), "none.onnx"), Input: "x", Outputs: []string{"y"}, Threads: 1, Runs: 1},
	} {
		if _, err := ort.Open(cfg); err == nil {
			t.Errorf("opened %s", cfg.Model)
		}
	}
}

func TestLoadRefusesASecondLibrary(t *testing.T) {
	load(t)
	if err := ort.Load(filepath.Join(t.TempDir(), "other.so")); err == nil ||
		!strings.Contains(err.Error(), "already uses") {
		t.Errorf("got %v", err)
	}
}
