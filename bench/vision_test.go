package bench_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/image/draw"

	"github.com/visage-face/visage/vision"
	"github.com/visage-face/visage/vision/pack"
)

// The picture that the vision benchmark works on.
const (
	photoWidth  = 640
	photoHeight = 480
)

// BenchmarkVision compares one whole Detect (decoding, faces, landmarks, template) with what the same weights take under the npm package's
// WebAssembly backend. The two take turns, so that whatever else the machine does falls on both. The baseline gets decoded pixels.
func BenchmarkVision(b *testing.B) {
	const what = "vision: one photo, times faster than WebAssembly"
	photo, pixels, err := onePhoto(b)
	if err != nil {
		skipped(b, what, err.Error())
	}
	stages := newStageTimes()
	pipeline, err := openPipeline(root(b), stages.trace)
	if err != nil {
		skipped(b, what, err.Error())
	}
	defer pipeline.Close()
	baseline, err := startWasm(b, pixels)
	if err != nil {
		skipped(b, what, err.Error())
	}

	detect := func() time.Duration {
		start := time.Now()
		found, err := pipeline.Detect(b.Context(), photo, vision.Want{Landmarks: true, Templates: true})
		took := time.Since(start)
		if err != nil {
			b.Fatalf("detect: %v", err)
		}
		if len(found.Faces) != 1 || found.Faces[0].Landmarks == nil || len(found.Faces[0].Template) != pipeline.Dim() {
			b.Fatalf("detect found %d faces, or one without landmarks or template", len(found.Faces))
		}
		return took
	}
	for range 3 {
		detect()
	}
	stages.reset()
	var ours, theirs []time.Duration
	for b.Loop() {
		for range 4 { // about as long as one round of the baseline
			ours = append(ours, detect())
		}
		theirs = append(theirs, baseline.round(b))
	}

	b.ReportMetric(milliseconds(median(ours)), "ms/photo")
	note := fmt.Sprintf("medians: %.1f ms with decoding, against %.1f ms without", milliseconds(median(ours)), milliseconds(median(theirs)))
	atLeast(b, what, float64(median(theirs))/float64(median(ours)), 4, "times", note)
	for _, stage := range []vision.Stage{vision.StageDecode, vision.StageDetect, vision.StageLandmarks, vision.StageTemplate} {
		told(b, "vision: "+string(stage), milliseconds(median(stages.times(stage))), "ms", "median of the stage")
	}
}

// stageTimes collects what the pipeline tells of its stages.
type stageTimes struct {
	mu sync.Mutex
	by map[vision.Stage][]time.Duration
}

func newStageTimes() *stageTimes { return &stageTimes{by: make(map[vision.Stage][]time.Duration)} }

func (s *stageTimes) trace(stage vision.Stage, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.by[stage] = append(s.by[stage], took)
}

func (s *stageTimes) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.by)
}

func (s *stageTimes) times(stage vision.Stage) []time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.by[stage]) == 0 {
		return []time.Duration{0}
	}
	return s.by[stage]
}

// openPipeline opens the default pack with the runtime library that `make setup` fetched.
func openPipeline(module string, trace func(vision.Stage, time.Duration)) (*vision.Pipeline, error) {
	dir := filepath.Join(module, "models", "packs", "default")
	opened, err := pack.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("no model pack (run make setup): %w", err)
	}
	arch := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
	pattern := filepath.Join(module, "models", "node_modules", "onnxruntime-node", "bin", "napi-v6", runtime.GOOS, arch, "libonnxruntime.*")
	libraries, err := filepath.Glob(pattern)
	if err != nil {
		return nil, fmt.Errorf("look for ONNX Runtime: %w", err)
	}
	if len(libraries) == 0 {
		return nil, errors.New("no ONNX Runtime (run make setup)")
	}
	return vision.Open(vision.Config{Pack: opened, Library: libraries[0], Trace: trace})
}

// onePhoto returns a photo of one face at 640×480, as a JPEG file and as raw RGB: a part of a group picture that ships with the package that
// the baseline needs anyway, so that every machine measures the same pixels.
func onePhoto(b *testing.B) (file, pixels []byte, err error) {
	b.Helper()
	f, err := os.Open(filepath.Join("wasm", "node_modules", "@vladmandic", "face-api", "demo", "sample1.jpg"))
	if err != nil {
		return nil, nil, errors.New("no photo and no baseline: run npm ci --ignore-scripts in bench/wasm")
	}
	defer f.Close()
	img, err := jpeg.Decode(f)
	if err != nil {
		return nil, nil, fmt.Errorf("decode the photo: %w", err)
	}
	one := image.Rect(1100, 40, 1900, 640) // of 1920×1280; shows one of the three
	canvas := image.NewRGBA(image.Rect(0, 0, photoWidth, photoHeight))
	draw.CatmullRom.Scale(canvas, canvas.Bounds(), img, one, draw.Src, nil)

	var buf bytes.Buffer
	if err := jpeg.Encode(&buf, canvas, &jpeg.Options{Quality: 90}); err != nil {
		return nil, nil, fmt.Errorf("encode the photo: %w", err)
	}
	pixels = make([]byte, 0, photoWidth*photoHeight*3)
	for i := 0; i < len(canvas.Pix); i += 4 {
		pixels = append(pixels, canvas.Pix[i:i+3]...)
	}
	return buf.Bytes(), pixels, nil
}

// wasmBaseline is a running time.mjs.
type wasmBaseline struct {
	ask    *bufio.Writer
	answer *bufio.Scanner
}

// startWasm starts the baseline and waits until it is warm. It ends with the benchmark.
func startWasm(b *testing.B, pixels []byte) (*wasmBaseline, error) {
	b.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		return nil, errors.New("no baseline: node is not installed")
	}
	if _, err := os.Stat(filepath.Join("wasm", "node_modules", "@tensorflow")); err != nil {
		return nil, errors.New("no baseline: run npm ci --ignore-scripts in bench/wasm")
	}
	raw := filepath.Join(b.TempDir(), "photo.rgb")
	if err := os.WriteFile(raw, pixels, 0o600); err != nil {
		return nil, fmt.Errorf("write the photo: %w", err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	cmd := exec.CommandContext(ctx, node, "time.mjs", raw, strconv.Itoa(photoWidth), strconv.Itoa(photoHeight))
	cmd.Dir = "wasm"
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	in, err := cmd.StdinPipe()
	if err != nil {
		cancel()
		return nil, fmt.Errorf("start the baseline: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		cancel()
		return nil, fmt.Errorf("start the baseline: %w", err)
	}
	if err := cmd.Start(); err != nil {
		cancel()
		return nil, fmt.Errorf("start the baseline: %w", err)
	}
	b.Cleanup(func() {
		in.Close() // the script ends with its input
		cancel()
		_ = cmd.Wait() // it may have been killed by the line above: nothing left to learn
	})
	w := &wasmBaseline{ask: bufio.NewWriter(in), answer: bufio.NewScanner(out)}
	if !w.answer.Scan() {
		b.Fatalf("the baseline gave no answer:\n%s", complaints.String())
	}
	return w, nil
}

// round has the baseline work on the photo once.
func (w *wasmBaseline) round(b *testing.B) time.Duration {
	b.Helper()
	if _, err := w.ask.WriteString("again\n"); err != nil {
		b.Fatalf("ask the baseline: %v", err)
	}
	if err := w.ask.Flush(); err != nil {
		b.Fatalf("ask the baseline: %v", err)
	}
	if !w.answer.Scan() {
		b.Fatalf("the baseline ended: %v", w.answer.Err())
	}
	var answer struct {
		MS         float64
		Faces      int
		Descriptor int
	}
	if err := json.Unmarshal(w.answer.Bytes(), &answer); err != nil {
		b.Fatalf("read the baseline's answer: %v", err)
	}
	if answer.Faces != 1 || answer.Descriptor == 0 {
		b.Fatalf("the baseline found %d faces", answer.Faces)
	}
	return time.Duration(answer.MS * float64(time.Millisecond))
}
