package vision_test

import (
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/visage-face/visage/vision"
	"github.com/visage-face/visage/vision/internal/photo"
)

// turned returns the picture turned clockwise by quarters.
func turned(p *photo.RGB, quarters int) *photo.RGB {
	for range quarters {
		q := &photo.RGB{W: p.H, H: p.W, Pix: make([]byte, len(p.Pix))}
		for i := 0; i < len(p.Pix); i += 3 {
			x, y := i/3%p.W, i/3/p.W
			copy(q.Pix[3*(x*q.W+p.H-1-y):][:3], p.Pix[i:][:3])
		}
		p = q
	}
	return p
}

// degreesApart is the difference of two directions.
func degreesApart(a, b float64) float64 { return math.Abs(math.Remainder(a-b, 360)) }

// Photos on their side or upside down show the same people as upright, and do not take strangers for one person; the
// roll and the landmarks are those of the picture as it was sent.
func TestTurnedPhotos(t *testing.T) {
	p := open(t, vision.Config{Pack: packNamed(t, "mobileface")})
	files, err := filepath.Glob(shared(t, "faces", "Family*1.jpg"))
	if err != nil {
		t.Fatal(err)
	}
	type row struct {
		who, file string
		quarters  int
		width     int
		height    int
		face      vision.Face
	}
	var rows []row
	want := vision.Want{Templates: true, Landmarks: true, Attributes: vision.HeadPose}
	missed := 0
	for _, file := range files {
		img, err := vision.Decode(read(t, file))
		if err != nil {
			t.Fatal(err)
		}
		for quarters := range 4 {
			found, err := p.Examine(t.Context(), turned(img, quarters), want)
			if err != nil {
				t.Fatal(err)
			}
			if len(found.Faces) == 0 {
				missed++
				continue
			}
			who := strings.TrimRight(strings.TrimSuffix(filepath.Base(file), ".jpg"), "0123456789")
			rows = append(rows, row{who, file, quarters, found.Width, found.Height, found.Faces[0]})
		}
	}
	lost, identical, strangers := 0, 0, 0 // missed ones are the detector's
	for i, a := range rows {
		for _, b := range rows[:i] {
			if a.face.Template == nil || b.face.Template == nil {
				continue
			}
			same := p.Confidence(distance(a.face.Template, b.face.Template)) >= 0.5
			switch {
			case a.file == b.file && b.quarters == 0:
				if !same {
					lost++
					t.Logf("%s turned by %d° is not itself", filepath.Base(a.file), 90*a.quarters)
					continue
				}
				if d := degreesApart(roll(a.face), roll(b.face)+90*float64(a.quarters)); d > 12 {
					t.Errorf("%s turned by %d°: roll %.1f, upright %.1f",
						filepath.Base(a.file), 90*a.quarters, roll(a.face), roll(b.face))
				}
				if d := landmarksApart(a.face.Landmarks, b.face.Landmarks, b.width, b.height, a.quarters); d > 0.15 {
					t.Errorf("%s turned by %d°: landmarks are %.2f pupils' distances from those of the upright photo",
						filepath.Base(a.file), 90*a.quarters, d)
				}
			case a.who != b.who && (a.quarters != 0 || b.quarters != 0):
				strangers++
				if same {
					identical++
					t.Logf("%s turned by %d° is %s turned by %d°", filepath.Base(a.file), 90*a.quarters,
						filepath.Base(b.file), 90*b.quarters)
				}
			}
		}
	}
	t.Logf("of %d turned faces %d missed, %d not themselves; of %d pairs of strangers %d identical",
		3*len(files), missed, lost, strangers, identical)
	if identical > 0 || lost > 1 {
		t.Errorf(
			"of turned faces %d are not themselves, want at most 1; %d pairs of strangers are identical, want none",
			lost, identical)
	}
}

// landmarksApart is the largest distance of eyes and mouth from their places in the upright photo after the turn, in
// distances of the pupils.
func landmarksApart(turned, upright *vision.Landmarks, width, height, quarters int) float64 {
	w, h := float64(width), float64(height)
	far := 0.0
	for _, pair := range [][2]vision.Point{
		{turned.PupilLeft, upright.PupilLeft}, {turned.PupilRight, upright.PupilRight},
		{turned.NoseTip, upright.NoseTip},
		{turned.MouthLeft, upright.MouthLeft}, {turned.MouthRight, upright.MouthRight},
	} {
		at := pair[1]
		for range quarters {
			at = vision.Point{X: h - 1 - at.Y, Y: at.X}
			w, h = h, w
		}
		if quarters%2 != 0 {
			w, h = h, w
		}
		far = max(far, math.Hypot(at.X-pair[0].X, at.Y-pair[0].Y))
	}
	return far / math.Hypot(upright.PupilRight.X-upright.PupilLeft.X, upright.PupilRight.Y-upright.PupilLeft.Y)
}

// roll returns the roll of a face whose pose was measured.
func roll(f vision.Face) float64 { return f.Attributes[vision.HeadPose].(vision.Pose).Roll }
