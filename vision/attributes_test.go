package vision_test

import (
	"errors"
	"math"
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
	if l == nil || f.Pose == nil || f.Blur == nil || f.Exposure == nil || f.Noise == nil ||
		f.Quality == vision.Ungraded {
		t.Fatalf("something is missing: %+v", f)
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
	if math.Abs(f.Pose.Roll) > 15 || math.Abs(f.Pose.Yaw) > 25 || math.Abs(f.Pose.Pitch) > 25 {
		t.Errorf("a frontal face has the pose %+v", *f.Pose)
	}
	for name, v := range map[string]float64{"blur": *f.Blur, "exposure": *f.Exposure, "noise": *f.Noise} {
		if !(v >= 0 && v <= 1) {
			t.Errorf("%s is %g", name, v)
		}
	}
	t.Logf("pose %+v, blur %.2f, exposure %.2f, noise %.2f, quality %s", *f.Pose, *f.Blur, *f.Exposure, *f.Noise,
		f.Quality)
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
