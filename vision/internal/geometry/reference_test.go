package geometry_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/visage-face/visage/vision/internal/geometry"
)

// referenceShapes returns the shared landmarks of real photos, by the photo's name.
func referenceShapes(t *testing.T) map[string][]geometry.Shape {
	t.Helper()
	root := os.Getenv("VISAGE_SHARED")
	if root == "" {
		root = filepath.Join("..", "..", "..", "..", "shared")
	}
	file, err := os.ReadFile(filepath.Join(root, "testdata", "reference", "faceapi-1.7.15-wasm.json"))
	if errors.Is(err, fs.ErrNotExist) && os.Getenv("CI") != "true" {
		t.Skip("the reference landmarks are not there")
	}
	if err != nil {
		t.Fatal(err)
	}
	var photos map[string]struct {
		Faces []struct{ Landmarks68 [][2]float64 }
	}
	if err := json.Unmarshal(file, &photos); err != nil {
		t.Fatal(err)
	}
	shapes := make(map[string][]geometry.Shape)
	for name, p := range photos {
		for _, f := range p.Faces {
			var s geometry.Shape
			if len(f.Landmarks68) != len(s) {
				t.Fatalf("%s: %d points, want %d", name, len(f.Landmarks68), len(s))
			}
			for i, v := range f.Landmarks68 {
				s[i] = geometry.Point{X: v[0], Y: v[1]}
			}
			shapes[name] = append(shapes[name], s)
		}
	}
	if len(shapes) == 0 {
		t.Fatal("the reference has no photos")
	}
	return shapes
}

func TestPoseOfRealFaces(t *testing.T) {
	for name, shapes := range referenceShapes(t) {
		for i, s := range shapes {
			p, ok := geometry.PoseOf(&s)
			if !ok || math.Abs(p.Pitch) > 45 || math.Abs(p.Yaw) > 60 || math.Abs(p.Roll) > 45 {
				t.Errorf("%s: face %d has the pose %+.1f (%v)", name, i, p, ok)
			}
			t.Logf("%s: face %d: pitch %.1f roll %.1f yaw %.1f", name, i, p.Pitch, p.Roll, p.Yaw)
			// The eyes' line tells the roll of faces that look ahead.
			l := geometry.LandmarksOf(&s)
			line := math.Atan2(l.PupilRight.Y-l.PupilLeft.Y, l.PupilRight.X-l.PupilLeft.X) * 180 / math.Pi
			if math.Abs(p.Yaw) < 10 && math.Abs(p.Roll-line) > 6 {
				t.Errorf("%s: face %d rolls by %.1f, its eyes by %.1f", name, i, p.Roll, line)
			}
		}
	}
}
