package bench_test

import (
	"errors"
	"fmt"
	"image"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/visage-face/visage/vision"
	"github.com/visage-face/visage/vision/pack"
	"github.com/visage-face/visage/vision/timing"
)

// BenchmarkVision compares one whole Detect (decoding, faces, landmarks, quality, template) with the time of the npm
// package of the former pack under WebAssembly, which gets decoded pixels, and a photo of 12 megapixels with one of
// 640×480; and counts photos a second. All take turns in one run, so that other load on the machine affects each alike.
func BenchmarkVision(b *testing.B) {
	const what = "vision: one photo, times faster than WebAssembly"
	pictures, err := onePhoto()
	if err != nil {
		skipped(b, what, err.Error())
	}
	baseline, err := timing.StartBaseline(b.Context(), "wasm", pictures)
	if errors.Is(err, timing.ErrNoBaseline) {
		skipped(b, what, err.Error())
	} else if err != nil {
		b.Fatal(err)
	}
	defer baseline.Close()
	var r timing.Result
	measured := false
	for b.Loop() {
		if measured {
			continue // one run has several rounds
		}
		measured = true
		r, err = timing.Run(b.Context(), timing.Config{
			Open: func(trace func(vision.Stage, time.Duration)) (*vision.Pipeline, error) {
				return openPipeline(root(b), trace)
			},
			Pictures: pictures, Baseline: baseline, Clients: 8,
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	note := fmt.Sprintf("medians: %.1f ms with decoding, against %.1f ms without", milliseconds(r.Small.Whole),
		milliseconds(r.Baseline))
	atLeast(b, what, float64(r.Baseline)/float64(r.Small.Whole), 16, "times", note)
	note = fmt.Sprintf("%.1f ms for %.1f MB of JPEG, against %.1f ms", milliseconds(r.Large.Whole),
		float64(len(pictures.Large))/1e6,
		milliseconds(r.Small.Whole))
	atMost(b, "vision: 12 megapixels by 640×480", float64(r.Large.Whole)/float64(r.Small.Whole), 2.5, "times", note)
	atLeast(b, "vision: photos a second", r.SmallRate, 60, "photos", fmt.Sprintf("%d clients, 640×480", r.Clients))
	told(b, "vision: large photos a second", r.LargeRate, "photos", fmt.Sprintf("%d clients, 12 megapixels", r.Clients))
	told(b, "vision: peak memory", float64(r.PeakMemory)/1e6, "MB",
		"VmHWM of the benchmark, after photos of 12 megapixels by all clients")
	for _, stage := range timing.Stages {
		note := fmt.Sprintf("median of the stage; 12 megapixels: %.1f ms", milliseconds(r.Large.Stage[stage]))
		told(b, "vision: "+string(stage), milliseconds(r.Small.Stage[stage]), "ms", note)
	}
}

// openPipeline opens the pack in use, with the runtime library that `make setup` fetched.
func openPipeline(module string, trace func(vision.Stage, time.Duration)) (*vision.Pipeline, error) {
	dir := filepath.Join(module, "models", "packs", "mobileface")
	if _, err := os.Stat(dir); err != nil {
		dir = filepath.Join(module, "models", "packs", "default")
	}
	opened, err := pack.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("no model pack (run make setup): %w", err)
	}
	arch := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
	pattern := filepath.Join(module, "models", "node_modules", "onnxruntime-node", "bin", "napi-v6", runtime.GOOS, arch,
		"libonnxruntime.*")
	libraries, err := filepath.Glob(pattern)
	if err != nil {
		return nil, fmt.Errorf("look for ONNX Runtime: %w", err)
	}
	if len(libraries) == 0 {
		return nil, errors.New("no ONNX Runtime (run make setup)")
	}
	return vision.Open(vision.Config{Pack: opened, Library: libraries[0], Trace: trace})
}

// onePhoto returns a photo of one face: a part of a group picture in the npm package that the baseline needs anyway, so
// that every machine measures the same pixels.
func onePhoto() (timing.Pictures, error) {
	file, err := os.ReadFile(filepath.Join("wasm", "node_modules", "@vladmandic", "face-api", "demo", "sample1.jpg"))
	if err != nil {
		return timing.Pictures{}, errors.New("no photo and no baseline: run npm ci --ignore-scripts in bench/wasm")
	}
	return timing.NewPictures(file, image.Rect(1100, 40, 1900, 640)) // of 1920×1280; shows one of the three
}
