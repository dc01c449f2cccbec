package vision_test

import (
	"errors"
	"math"
	"reflect"
	"testing"

	"github.com/visage-face/visage/vision"
)

func TestLandmarksAndAttributes(t *testing.T) {
	p := open(t, vision.Config{})
	got, err := p.Detect(t.Context(), read(t, shared(t, "faces", "detection2.jpg")), vision.Want{
		Landmarks: true, Attributes: p.Supports(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Faces) != 1 {
		t.Fatalf("%d faces, want one", len(got.Faces))
	}
	f := got.Faces[0]
	l := f.Landmarks
	if l == nil {
		t.Fatalf("landmarks are missing: %+v", f)
	}
	var measured vision.Attributes
	for _, row := range vision.AttributeTable() {
		if v, ok := f.Attributes[row.Bit]; ok {
			measured |= row.Bit
			if got, want := reflect.TypeOf(v), reflect.TypeOf(row.Value); got != want {
				t.Errorf("%s is measured as %v, its row says %v", row.Name, got, want)
			}
		}
	}
	always := vision.HeadPose | vision.Blur | vision.Exposure | vision.Noise | vision.Quality
	if measured != p.Supports() || measured&always != always {
		t.Fatalf("%v were measured, want %v", measured.Names(), p.Supports().Names())
	}
	if f.Template != nil {
		t.Error("a template that nobody asked for")
	}
	// The man looks into the camera: features lie in order, and each on its side.
	inOrder := func(what string, xs ...float64) {
		for i := 1; i < len(xs); i++ {
			if xs[i] <= xs[i-1] {
				t.Errorf("%s are not in order: %.1f", what, xs)
			}
		}
	}
	inOrder("eyes and nose, from left to right",
		l.EyeLeftOuter.X, l.PupilLeft.X, l.EyeLeftInner.X, l.NoseTip.X, l.EyeRightInner.X, l.PupilRight.X,
		l.EyeRightOuter.X)
	inOrder("eyes, nose and lips, from top to bottom",
		l.EyeLeftTop.Y, l.EyeLeftBottom.Y, l.NoseTip.Y, l.UpperLipTop.Y, l.UnderLipBottom.Y)
	b := f.Box
	for _, q := range []vision.Point{l.PupilLeft, l.PupilRight, l.NoseTip, l.MouthLeft, l.MouthRight} {
		if q.X < float64(b.Left) || q.X > float64(b.Left+b.Width) || q.Y < float64(b.Top) ||
			q.Y > float64(b.Top+b.Height) {
			t.Errorf("point %v lies outside of the face %+v", q, b)
		}
	}
	pose := f.Attributes[vision.HeadPose].(vision.Pose)
	if math.Abs(pose.Roll) > 15 || math.Abs(pose.Yaw) > 25 || math.Abs(pose.Pitch) > 25 {
		t.Errorf("a frontal face has the pose %+v", pose)
	}
	if f.Attributes[vision.Quality] == vision.Ungraded {
		t.Error("the quality is unknown")
	}
	for name, v := range f.Attributes {
		if v, ok := v.(vision.Level); ok && !(v.Value >= 0 && v.Value <= 1) {
			t.Errorf("%v is %g", name.Names(), v.Value)
		}
	}
	t.Logf("attributes %+v", f.Attributes)
}

// TestEachAttributeAlone wants one attribute at a time, and no points: with detectors that give no points, most faces
// then have none.
func TestEachAttributeAlone(t *testing.T) {
	p := open(t, vision.Config{})
	file := read(t, shared(t, "faces", "detection2.jpg"))
	for _, row := range vision.AttributeTable() {
		if p.Supports()&row.Bit == 0 {
			continue
		}
		got, err := p.Detect(t.Context(), file, vision.Want{Attributes: row.Bit})
		if err != nil || len(got.Faces) != 1 {
			t.Fatalf("%s: got %+v, %v", row.Name, got, err)
		}
		if all := got.Faces[0].Attributes; len(all) != 1 || all[row.Bit] == nil {
			t.Errorf("%s: measured %+v", row.Name, all)
		}
	}
}

func TestUnusablePhotos(t *testing.T) {
	p := open(t, vision.Config{})
	good := read(t, shared(t, "faces", "Family1-Dad1.jpg"))
	for _, row := range []struct {
		name string
		file []byte
		want vision.ImageErrorKind
	}{
		{"no bytes", nil, vision.TooFewBytes},
		{"a text", make([]byte, 4096), vision.UnknownFormat},
		{"half a photo", good[:len(good)/8], vision.Broken},
		{"too long", make([]byte, 6<<20+1), vision.TooManyBytes},
	} {
		got, err := p.Detect(t.Context(), row.file, vision.Want{})
		bad, ok := errors.AsType[*vision.ImageError](err)
		if !ok || bad.Kind != row.want || bad.Message == "" || got != nil {
			t.Errorf("%s: got %v, %v", row.name, got, err)
		}
	}
}

// TestAttributeTable checks that each attribute has one row, at the place of its bit, and a name of its own.
func TestAttributeTable(t *testing.T) {
	table := vision.AttributeTable()
	names := map[string]bool{}
	for i, row := range table {
		if row.Bit != 1<<i {
			t.Errorf("row %d is of bit %b", i, row.Bit)
		}
		if row.Name == "" || names[row.Name] || len(row.Detection) == 0 || row.Value == nil {
			t.Errorf("row %d lacks a name of its own, a value or a detection model: %+v", i, row)
		}
		names[row.Name] = true
		if _, level := row.Value.(vision.Level); level && len(row.Words) != 3 {
			t.Errorf("%s is a level with the ranges %q, want three", row.Name, row.Words)
		}
	}
}

func TestLevels(t *testing.T) {
	words := []string{"low", "medium", "high"}
	for value, want := range map[float64]string{
		0: "low", 0.2499: "low", 0.25: "medium", 0.7499: "medium", 0.75: "high", 1: "high",
	} {
		if got := vision.LevelOf(value, 0.25, 0.75, words); got.Name != want || got.Value != value {
			t.Errorf("%g is %+v, want %s", value, got, want)
		}
	}
}
