package vision_test

import (
	"fmt"
	"image"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/visage-face/visage/vision"
	"github.com/visage-face/visage/vision/internal/onnx"
	"github.com/visage-face/visage/vision/pack"
)

// changedMobileFace is the pack mobileface with other files and a manifest that fits them.
func changedMobileFace(t *testing.T, change func(m *pack.Manifest, files map[string][]byte)) *pack.Pack {
	t.Helper()
	dir := filepath.Join(root, "models", "packs", "mobileface")
	if _, err := os.Stat(filepath.Join(dir, pack.ManifestName)); err != nil {
		missing(t, "no model pack at "+dir+": run `make setup`")
	}
	base, err := pack.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return altered(t, base, change)
}

// stage describes a network of a cascade that takes white squares for faces.
type stage struct {
	// side is that of the input, in pixels.
	side int
	// step is the distance between two squares that the network sees.
	step int
	// sure makes the network take every square for a face.
	sure bool
	// offsets and points, if there are any, are its output for every box.
	offsets, points []float32
}

// network is a network that gives a high score to white squares on black, two thirds as large as its input.
func (s stage) network() []byte {
	g := onnx.NewGraph("squares")
	n, rows, columns := onnx.Dim{Name: "N"}, onnx.Dim{Name: "H"}, onnx.Dim{Name: "W"}
	x := g.Input("image", n, onnx.Dim{Size: 3}, rows, columns)
	constant := func(v []float32) onnx.Value {
		return g.Conv(x, onnx.Conv{
			Weights: make([]float32, len(v)*3*s.side*s.side), Shape: [4]int{len(v), 3, s.side, s.side},
			Bias: v, Stride: s.step, Groups: 1,
		})
	}
	area := float32(3 * s.side * s.side)
	var weights []float32
	for _, sign := range []float32{-1, 1} { // no face, face
		for range 3 {
			for y := range s.side {
				for x := range s.side {
					w := -sign
					if rim := s.side / 6; min(x, y) >= rim && max(x, y) < s.side-rim {
						w = sign
					}
					weights = append(weights, 40*w/area)
				}
			}
		}
	}
	const likeness = 0.6 // from which on it is a face
	scores := g.Sigmoid(g.Conv(x, onnx.Conv{
		Weights: weights, Shape: [4]int{2, 3, s.side, s.side}, Bias: []float32{40 * likeness, -40 * likeness},
		Stride: s.step, Groups: 1,
	}))
	if s.sure {
		scores = constant([]float32{0, 1})
	}
	output := func(v onnx.Value, name string, size int64) {
		if s.side == 12 {
			g.Output(v, name, n, onnx.Dim{Size: size}, rows, columns)
		} else {
			g.Output(g.Flatten(v), name, n, onnx.Dim{Size: size})
		}
	}
	output(scores, "scores", 2)
	output(constant(s.offsets), "boxes", 4)
	if s.points != nil {
		output(constant(s.points), "points", 10)
	}
	return g.Marshal()
}

// squareFinder is the pack mobileface with a detector that finds white squares, and its last network's offsets and
// points.
func squareFinder(t *testing.T, offsets, points []float32) *pack.Pack {
	return changedMobileFace(t, func(m *pack.Manifest, files map[string][]byte) {
		still := []float32{0, 0, 0, 0}
		files[m.Detector.File] = stage{side: 12, step: 2, offsets: still}.network()
		files[m.Detector.Stages[0].File] = stage{side: 24, step: 1, offsets: still}.network()
		files[m.Detector.Stages[1].File] = stage{side: 48, step: 1, sure: true, offsets: offsets,
			points: points}.network()
	})
}

// TestCascadeReadsWhatItsNetworksSay uses networks with known outputs: the place of a box, which offset moves which of
// its edges, and the places of the points.
func TestCascadeReadsWhatItsNetworksSay(t *testing.T) {
	offsets := []float32{1. / 6, 1. / 4, -1. / 6, -1. / 12}
	points := []float32{0.3, 0.7, 0.5, 0.35, 0.65, 0.31, 0.32, 0.53, 0.74, 0.76}
	p := open(t, vision.Config{Pack: squareFinder(t, offsets, points)})
	for _, at := range []image.Rectangle{
		image.Rect(400, 150, 520, 270), image.Rect(40, 300, 80, 340), image.Rect(60, 40, 260, 240),
	} {
		img := plain(640, 480, 0)
		for y := at.Min.Y; y < at.Max.Y; y++ {
			row := img.Pix[3*(y*img.W+at.Min.X) : 3*(y*img.W+at.Max.X)]
			copy(row, slices.Repeat([]byte{255}, len(row)))
		}
		boxes, fives, err := p.Find(t.Context(), img)
		if err != nil {
			t.Fatal(err)
		}
		if len(boxes) != 1 {
			t.Errorf("the square %v: boxes %v, want one", at, boxes)
			continue
		}
		b := boxes[0]
		// The last network's box is a square around the white one, half as large again.
		side := (b[2] - b[0]) * 3 / 2
		left, top := b[0]-side/6, b[1]-side/4
		if math.Abs(b[3]-b[1]-side*2/3) > 1e-3*side {
			t.Errorf("the square %v: box %v is not two thirds of a square high", at, b)
		}
		off := math.Hypot(left+side/2-float64(at.Min.X+at.Max.X)/2, top+side/2-float64(at.Min.Y+at.Max.Y)/2)
		if size := side * 2 / 3 / float64(at.Dx()); size < 0.8 || size > 1.25 || off > 0.2*float64(at.Dx()) {
			t.Errorf("the square %v: the network was shown %.0f pixels at %.0f, %.0f", at, side, left, top)
		}
		for k, five := range fives[0] {
			x, y := left+float64(points[k])*side, top+float64(points[5+k])*side
			if math.Hypot(five[0]-x, five[1]-y) > 1e-3*side {
				t.Errorf("the square %v: point %d at %.1f, want %.1f, %.1f", at, k, five, x, y)
			}
		}
	}
}

// TestEverythingIsAFace uses networks that take everything for a face, as they would a picture made for that: no more
// boxes are passed on than a photo may have.
func TestEverythingIsAFace(t *testing.T) {
	still, points := []float32{0, 0, 0, 0}, []float32{0.3, 0.7, 0.5, 0.35, 0.65, 0.31, 0.32, 0.53, 0.74, 0.76}
	p := open(t, vision.Config{Pack: changedMobileFace(t, func(m *pack.Manifest, files map[string][]byte) {
		files[m.Detector.File] = stage{side: 12, step: 2, sure: true, offsets: still}.network()
		files[m.Detector.Stages[0].File] = stage{side: 24, step: 1, sure: true, offsets: still}.network()
		files[m.Detector.Stages[1].File] = stage{side: 48, step: 1, sure: true, offsets: still,
			points: points}.network()
	})})
	if n := len(faces(t, p, plain(1920, 1080, 128))); n != 100 {
		t.Errorf("%d faces, want the 100 that a photo may have", n)
	}
}

// TestBoxesThatAreNowhere checks that such boxes are no faces.
func TestBoxesThatAreNowhere(t *testing.T) {
	for _, offsets := range [][]float32{
		{1e30, 1e30, 1e30, 1e30}, {-3e38, -3e38, 3e38, 3e38}, {1, 1, -1, -1}, {0.5, 0.5, -0.5, -0.5},
	} {
		p := open(t, vision.Config{Pack: squareFinder(t, offsets, make([]float32, 10))})
		img := plain(300, 200, 0)
		for y := 50; y < 130; y++ {
			copy(img.Pix[3*(y*img.W+100):3*(y*img.W+180)], slices.Repeat([]byte{255}, 3*80))
		}
		if found := faces(t, p, img); len(found) != 0 {
			t.Errorf("offsets %g: %+v", offsets, found)
		}
	}
}

// TestADamagedCascadeIsRefused checks that a pack with a damaged network is refused when it is opened, for each of its
// networks.
func TestADamagedCascadeIsRefused(t *testing.T) {
	for i := range 3 {
		t.Run(fmt.Sprint("network ", i+1), func(t *testing.T) {
			bad := changedMobileFace(t, func(m *pack.Manifest, files map[string][]byte) {
				file := []string{m.Detector.File, m.Detector.Stages[0].File, m.Detector.Stages[1].File}[i]
				files[file] = damaged(files[file])
			})
			p, err := vision.Open(vision.Config{Pack: bad, Library: library(t)})
			if err == nil {
				p.Close()
				t.Fatal("it was opened")
			}
			if !strings.Contains(err.Error(), "try detector: run network: output") {
				t.Errorf("it said %q", err)
			}
		})
	}
}

// TestCascadeWithoutLandmarks aligns faces by the detector's five points: the people are the same.
func TestCascadeWithoutLandmarks(t *testing.T) {
	usual := openMobileFace(t)
	other := open(t, vision.Config{Pack: changedMobileFace(t, func(m *pack.Manifest, files map[string][]byte) {
		files[m.Landmarks.File] = nil
		m.Files = slices.DeleteFunc(slices.Clone(m.Files), func(f pack.File) bool { return f.Name == m.Landmarks.File })
		m.Landmarks, m.Quality = nil, nil
	})})
	for i, img := range familyPortraits(t)[:6] {
		var templates [2][]float32
		for k, p := range []*vision.Pipeline{usual, other} {
			found, err := p.Examine(t.Context(), img, vision.Want{Templates: true})
			if err != nil {
				t.Fatal(err)
			}
			if len(found.Faces) != 1 {
				t.Fatalf("portrait %d: %d faces", i, len(found.Faces))
			}
			templates[k] = found.Faces[0].Template
		}
		if d := distance(templates[0], templates[1]); usual.Confidence(d) < 0.5 {
			t.Errorf("portrait %d: aligned by five points, its template is %.3f from the usual one", i, d)
		}
	}
}
