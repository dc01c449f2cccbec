package yunet_test

import (
	"cmp"
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/visage-face/visage/vision/internal/geometry"
	"github.com/visage-face/visage/vision/internal/ort"
	"github.com/visage-face/visage/vision/internal/photo"
	"github.com/visage-face/visage/vision/internal/yunet"
)

var root = filepath.Join("..", "..", "..")

// need ends a test that lacks a file: a skip, but a failure where CI must have it.
func need(t testing.TB, pattern, hint string) string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case len(found) > 0:
		return found[0]
	case os.Getenv("CI") == "true":
		t.Fatalf("no %s, and CI=true: %s", pattern, hint)
	}
	t.Skipf("no %s: %s", pattern, hint)
	return ""
}

// The network of the OpenCV Zoo, read by Decode, finds the faces of real photos that the reference found, and their
// points where its landmarks are.
func TestNetworkFindsRealFaces(t *testing.T) {
	shared := os.Getenv("VISAGE_SHARED")
	if shared == "" {
		shared = filepath.Join(root, "..", "shared")
	}
	const hint = "shared test data is not part of the repository"
	model := need(t, filepath.Join(shared, "testdata", "models", "face_detection_yunet_2026may.onnx"), hint)
	reference := need(t, filepath.Join(shared, "testdata", "reference", "faceapi-1.7.15-wasm.json"), hint)
	arch := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
	if err := ort.Load(need(t, filepath.Join(root, "models", "node_modules", "onnxruntime-node", "bin", "napi-v6",
		runtime.GOOS, arch, "libonnxruntime.*"), "run `make setup`")); err != nil {
		t.Fatal(err)
	}
	session, err := ort.Open(ort.Config{Model: model, Input: "input", Outputs: yunet.Outputs(), Threads: 1, Runs: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := session.Close(); err != nil {
			t.Error(err)
		}
	}()

	raw, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	var photos map[string]struct {
		Faces []struct {
			Box         struct{ X, Y, Width, Height float64 }
			Landmarks68 [][2]float64
		}
	}
	if err := json.Unmarshal(raw, &photos); err != nil {
		t.Fatal(err)
	}
	decoder := photo.NewDecoder()
	defer decoder.Close()
	wanted, found, more, covered := 0, 0, 0, 0
	for name, want := range photos {
		file, err := os.ReadFile(filepath.Join(shared, "testdata", "faces", name))
		if err != nil {
			t.Fatal(err)
		}
		p, err := decoder.Decode(t.Context(), file)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		faces := look(t, session, p)
		wanted += len(want.Faces)
		more += len(faces)
		for _, f := range want.Faces {
			box := yunet.Box{Left: f.Box.X, Top: f.Box.Y, Right: f.Box.X + f.Box.Width, Bottom: f.Box.Y + f.Box.Height}
			if slices.ContainsFunc(faces, func(got yunet.Face) bool { return overlap(got.Box, box) >= 0.5 }) {
				covered++
			}
			var shape geometry.Shape
			for i, xy := range f.Landmarks68 {
				shape[i] = geometry.Point{X: xy[0], Y: xy[1]}
			}
			for _, got := range faces {
				if distance(got.Points, shape.Five()) < 0.25 {
					found, more = found+1, more-1
					break
				}
			}
		}
	}
	t.Logf("found %d of %d faces, and %d more; boxes of %d agree", found, wanted, more, covered)
	if covered*100 < wanted*95 {
		t.Errorf("boxes of %d of %d faces overlap by half, want 95 %%", covered, wanted)
	}
	// Of the reference's faces, one is a blurred profile in the background, and the points of one are wrong.
	if found < wanted-2 || more > 2 || wanted == 0 {
		t.Errorf("found %d of %d faces, and %d more", found, wanted, more)
	}
}

// look returns the faces in pixels of the picture, which the network sees with its longer side at 640 pixels.
func look(t testing.TB, session *ort.Session, p *photo.RGB) []yunet.Face {
	t.Helper()
	scale := float64(max(p.W, p.H)) / 640
	up := func(v int) int { return (int(float64(v)/scale) + yunet.Stride - 1) / yunet.Stride * yunet.Stride }
	in := scaled(p, scale, up(p.W), up(p.H))
	pixels := in.W * in.H
	data := make([]float32, 3*pixels)
	for i, v := range in.Pix {
		data[(2-i%3)*pixels+i/3] = float32(v)
	}
	out, err := session.Run(context.Background(),
		ort.Tensor{Shape: []int64{1, 3, int64(in.H), int64(in.W)}, Data: data})
	if err != nil {
		t.Fatal(err)
	}
	var outputs [][]float32
	for _, o := range out {
		outputs = append(outputs, o.Data)
	}
	faces, err := yunet.Decode(outputs, in.W, in.H, 0.6)
	if err != nil {
		t.Fatal(err)
	}
	faces = best(faces, 0.3)
	for i := range faces {
		for j, q := range faces[i].Points {
			faces[i].Points[j] = geometry.Point{X: q.X * scale, Y: q.Y * scale}
		}
		b := faces[i].Box
		faces[i].Box = yunet.Box{Left: b.Left * scale, Top: b.Top * scale, Right: b.Right * scale,
			Bottom: b.Bottom * scale}
	}
	return faces
}

// distance is the mean of the points' distances, in parts of that of the eyes.
func distance(a, b [5]geometry.Point) float64 {
	var sum float64
	for i := range a {
		sum += math.Hypot(a[i].X-b[i].X, a[i].Y-b[i].Y) / 5
	}
	return sum / math.Hypot(b[1].X-b[0].X, b[1].Y-b[0].Y)
}

// scaled returns what lies at scale times the place of each pixel, the nearest pixel's value, and black beyond the
// picture.
func scaled(p *photo.RGB, scale float64, w, h int) *photo.RGB {
	out := &photo.RGB{Pix: make([]byte, 3*w*h), W: w, H: h}
	for y := range h {
		for x := range w {
			sx, sy := int(math.Round(scale*float64(x))), int(math.Round(scale*float64(y)))
			if sx < p.W && sy < p.H {
				copy(out.Pix[3*(y*w+x):][:3], p.Pix[3*(sy*p.W+sx):])
			}
		}
	}
	return out
}

// overlap is the area that two boxes share over the area that they cover.
func overlap(a, b yunet.Box) float64 {
	area := func(b yunet.Box) float64 { return max(b.Right-b.Left, 0) * max(b.Bottom-b.Top, 0) }
	shared := area(yunet.Box{Left: max(a.Left, b.Left), Top: max(a.Top, b.Top), Right: min(a.Right, b.Right),
		Bottom: min(a.Bottom, b.Bottom)})
	return shared / max(area(a)+area(b)-shared, 1e-9)
}

// best leaves out faces that overlap a better one.
func best(faces []yunet.Face, maxOverlap float64) (kept []yunet.Face) {
	slices.SortStableFunc(faces, func(a, b yunet.Face) int { return cmp.Compare(b.Score, a.Score) })
	for _, f := range faces {
		if !slices.ContainsFunc(kept, func(k yunet.Face) bool { return overlap(k.Box, f.Box) > maxOverlap }) {
			kept = append(kept, f)
		}
	}
	return kept
}
