package vision_test

import (
	"encoding/json"
	"maps"
	"math"
	"slices"
	"testing"

	"github.com/visage-face/visage/vision"
)

// referenceFace and referencePhoto are the recorded results of the package that the networks come from.
type referenceFace struct {
	Score float64
	Box   struct{ X, Y, Width, Height float64 }
	// Landmarks are 68 points in pixels.
	Landmarks  [][2]float64 `json:"landmarks68"`
	Descriptor []float64
}

type referencePhoto struct {
	Width  int `json:"w"`
	Height int `json:"h"`
	Faces  []referenceFace
}

// lastBit lists the faces for which only the single steps can be compared. The reference decoded photos with
// libjpeg-turbo; Go's decoder differs from it by 1 in about 2 % of the values, and at these two faces that decides
// between two nearly equal alternatives. Their steps are compared one by one, like those of all others.
var lastBit = map[string]string{
	// Two anchors score 0.7617 and 0.7623 here, 0.7636 and less there: another box of the same face wins.
	"detection3.jpg/0": "another anchor wins by 0.0006",
	// The box is 107.27 pixels high there and 106.98 here, and the reference cuts whole pixels: on this face, half out
	// of focus, one row changes the landmarks by 5 %.
	"detection4.jpg/3": "the cut is one row lower",
}

func TestNetworksAgreeWithReference(t *testing.T) {
	var reference map[string]referencePhoto
	if err := json.Unmarshal(read(t, shared(t, "reference", "faceapi-1.7.15-wasm.json")), &reference); err != nil {
		t.Fatal(err)
	}
	p := open(t, vision.Config{})
	worst := map[string]float64{"IoU": 1, "cosine": 1}
	for _, name := range slices.Sorted(maps.Keys(reference)) {
		want := reference[name]
		img, err := vision.DecodeLikeReference(read(t, shared(t, "faces", name)))
		if err != nil {
			t.Fatal(err)
		}
		if img.W != want.Width || img.H != want.Height {
			t.Fatalf("%s: %d×%d pixels, reference saw %d×%d", name, img.W, img.H, want.Width, want.Height)
		}
		got, err := p.Reference(t.Context(), img)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != len(want.Faces) {
			t.Errorf("%s: %d faces, reference found %d", name, len(got), len(want.Faces))
		}
		for i, w := range want.Faces {
			face := name + "/" + string(rune('0'+i))
			if _, tie := lastBit[face]; !tie {
				compare(t, face, nearest(got, w), w, worst)
			}
			// The steps, each with the input that the reference had.
			box := vision.ReferenceFace{Left: w.Box.X, Top: w.Box.Y, Right: w.Box.X + w.Box.Width,
				Bottom: w.Box.Y + w.Box.Height}
			if err := p.ReferencePoints(t.Context(), img, &box); err != nil {
				t.Fatal(err)
			}
			if e := landmarkError(box, w); e > 0.01 {
				t.Errorf("%s: landmarks in the reference's box are off by %.2f %%", face, 100*e)
			}
			for j, l := range w.Landmarks {
				box.Points[j] = vision.Point{X: l[0], Y: l[1]}
			}
			if err := p.ReferenceDescriptor(t.Context(), img, &box); err != nil {
				t.Fatal(err)
			}
			if c := cosine(box.Descriptor, w.Descriptor); c < 0.99 {
				t.Errorf("%s: descriptor at the reference's landmarks has cosine %.4f", face, c)
			}
		}
	}
	t.Logf("worst on the whole road: IoU %.4f, landmarks %.2f %% of the box, cosine %.4f",
		worst["IoU"], 100*worst["landmarks"], worst["cosine"])
}

// compare compares a face with that of the reference, from the photo to the descriptor.
func compare(t *testing.T, face string, got vision.ReferenceFace, want referenceFace, worst map[string]float64) {
	t.Helper()
	if got.Descriptor == nil {
		t.Errorf("%s: not found", face)
		return
	}
	iou, off, cos := referenceOverlap(got, want), landmarkError(got, want), cosine(got.Descriptor, want.Descriptor)
	if iou < 0.95 || off > 0.01 || cos < 0.99 {
		t.Errorf("%s: IoU %.4f (at least 0.95), landmarks off by %.2f %% (at most 1), cosine %.4f (at least 0.99)",
			face, iou, 100*off, cos)
	}
	worst["IoU"], worst["cosine"] = min(worst["IoU"], iou), min(worst["cosine"], cos)
	worst["landmarks"] = max(worst["landmarks"], off)
}

// nearest returns the face that overlaps most with the wanted one.
func nearest(faces []vision.ReferenceFace, want referenceFace) (best vision.ReferenceFace) {
	most := 0.0
	for _, f := range faces {
		if o := referenceOverlap(f, want); o > most {
			best, most = f, o
		}
	}
	return best
}

func referenceOverlap(a vision.ReferenceFace, b referenceFace) float64 {
	w := min(a.Right, b.Box.X+b.Box.Width) - max(a.Left, b.Box.X)
	h := min(a.Bottom, b.Box.Y+b.Box.Height) - max(a.Top, b.Box.Y)
	if w <= 0 || h <= 0 {
		return 0
	}
	return w * h / ((a.Right-a.Left)*(a.Bottom-a.Top) + b.Box.Width*b.Box.Height - w*h)
}

// landmarkError is the mean distance of the points, as a fraction of the width of the box.
func landmarkError(got vision.ReferenceFace, want referenceFace) float64 {
	sum := 0.0
	for i, l := range want.Landmarks {
		sum += math.Hypot(got.Points[i].X-l[0], got.Points[i].Y-l[1])
	}
	return sum / float64(len(want.Landmarks)) / want.Box.Width
}

func cosine(a []float32, b []float64) float64 {
	var dot, aa, bb float64
	for i := range b {
		dot, aa, bb = dot+float64(a[i])*b[i], aa+float64(a[i])*float64(a[i]), bb+b[i]*b[i]
	}
	return dot / math.Sqrt(aa*bb)
}
