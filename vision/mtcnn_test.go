package vision_test

import (
	"image"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/image/draw"

	"github.com/visage-face/visage/vision"
	"github.com/visage-face/visage/vision/internal/photo"
	"github.com/visage-face/visage/vision/pack"
)

// openMobileFace opens a pipeline with the pack mobileface.
func openMobileFace(t testing.TB) *vision.Pipeline {
	t.Helper()
	dir := filepath.Join(root, "models", "packs", "mobileface")
	if _, err := os.Stat(filepath.Join(dir, pack.ManifestName)); err != nil {
		missing(t, "no model pack at "+dir+": run `make setup`")
	}
	opened, err := pack.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return open(t, vision.Config{Pack: opened})
}

// familyPortraits are the photos of the shared test data that show one person each.
func familyPortraits(t testing.TB) []*photo.RGB {
	t.Helper()
	files, err := filepath.Glob(shared(t, "faces", "Family*.jpg"))
	if err != nil {
		t.Fatal(err)
	}
	var all []*photo.RGB
	for _, f := range files {
		img, err := vision.Decode(read(t, f))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, img)
	}
	return all
}

// faces are those that are found on a picture.
func faces(t testing.TB, p *vision.Pipeline, img *photo.RGB) []vision.Face {
	t.Helper()
	found, err := p.Examine(t.Context(), img, vision.Want{})
	if err != nil {
		t.Fatal(err)
	}
	return found.Faces
}

// plain is a picture of one grey.
func plain(width, height int, grey byte) *photo.RGB {
	img := &photo.RGB{W: width, H: height, Pix: make([]byte, 3*width*height)}
	for i := range img.Pix {
		img.Pix[i] = grey
	}
	return img
}

// paste draws a picture into a box of another one.
func paste(on *photo.RGB, img *photo.RGB, at image.Rectangle) {
	from, to := image.NewRGBA(image.Rect(0, 0, img.W, img.H)), image.NewRGBA(at)
	for i := range img.W * img.H {
		copy(from.Pix[4*i:], img.Pix[3*i:3*i+3])
		from.Pix[4*i+3] = 255
	}
	draw.CatmullRom.Scale(to, at, from, from.Bounds(), draw.Src, nil)
	for y := at.Min.Y; y < at.Max.Y; y++ {
		for x := at.Min.X; x < at.Max.X; x++ {
			i := to.PixOffset(x, y)
			copy(on.Pix[3*(y*on.W+x):][:3], to.Pix[i:i+3])
		}
	}
}

func TestEveryPortraitHasOneFace(t *testing.T) {
	p := openMobileFace(t)
	for i, img := range familyPortraits(t) {
		found := faces(t, p, img)
		if len(found) != 1 {
			t.Fatalf("portrait %d: %d faces", i, len(found))
		}
		if b := found[0].Box; b.Width < img.W/3 || b.Left+b.Width/2 < img.W/5 || b.Left+b.Width/2 > 4*img.W/5 {
			t.Errorf("portrait %d of %d × %d: face at %+v", i, img.W, img.H, b)
		}
	}
}

// The smallest face that the Face contract promises to find is 36 pixels wide on 1920 × 1080.
func TestSmallFaces(t *testing.T) {
	p := openMobileFace(t)
	all, missed := familyPortraits(t), 0
	for i, img := range all {
		width := faces(t, p, img)[0].Box.Width
		scale := 36 / float64(width)
		on := plain(1920, 1080, 128)
		at := image.Pt(100+100*i, 50+60*i)
		paste(on, img, image.Rectangle{at, at.Add(image.Pt(int(float64(img.W)*scale), int(float64(img.H)*scale)))})
		if found := faces(t, p, on); len(found) == 0 {
			missed++
		}
	}
	if missed > len(all)/6 {
		t.Errorf("%d of %d small faces are missed", missed, len(all))
	}
}

func TestFacesInTheDark(t *testing.T) {
	p := openMobileFace(t)
	for i, img := range familyPortraits(t) {
		for k, v := range img.Pix {
			img.Pix[k] = byte(0.15*float64(v) + 0.5)
		}
		if n := len(faces(t, p, img)); n != 1 {
			t.Errorf("portrait %d in the dark: %d faces", i, n)
		}
	}
}

// Very large pictures that are not JPEG files are read with all their pixels when they are dark and turned.
func TestLargePicturesInTheDarkAndTurned(t *testing.T) {
	p := openMobileFace(t)
	img := familyPortraits(t)[0]
	on, at := plain(4001, 3003, 40), image.Rect(2500, 400, 3300, 1200)
	paste(on, img, at)
	for i, v := range on.Pix {
		on.Pix[i] = byte(0.15*float64(v) + 0.5)
	}
	upright := faces(t, p, on)
	sideways := faces(t, p, turned(on, 1))
	if len(upright) != 1 || len(sideways) != 1 {
		t.Fatalf("%d faces upright, %d turned", len(upright), len(sideways))
	}
	u := upright[0].Box
	want := vision.Box{Left: on.H - u.Top - u.Height, Top: u.Left, Width: u.Height, Height: u.Width}
	if o := overlap(sideways[0].Box, want); o < 0.8 {
		t.Errorf("the turned face is at %v, want %v", sideways[0].Box, want)
	}
	if middle := image.Pt(u.Left+u.Width/2, u.Top+u.Height/2); !middle.In(at.Inset(200)) {
		t.Errorf("the face is at %v, on a portrait at %v", u, at)
	}
}

// The box of a turned face is where the box of the upright face would be after the turn.
func TestTurnedFacesAreFound(t *testing.T) {
	p := openMobileFace(t)
	for i, img := range familyPortraits(t) {
		for quarters := 1; quarters < 4; quarters++ {
			upright := faces(t, p, img)[0].Box
			found := faces(t, p, turned(img, quarters))
			if len(found) == 0 {
				t.Errorf("portrait %d turned by %d°: no face", i, 90*quarters)
				continue
			}
			x, y := float64(upright.Left)+float64(upright.Width)/2, float64(upright.Top)+float64(upright.Height)/2
			w, h := float64(img.W), float64(img.H)
			for range quarters {
				x, y, w, h = h-y, x, h, w
			}
			b := found[0].Box
			if math.Hypot(float64(b.Left)+float64(b.Width)/2-x, float64(b.Top)+float64(b.Height)/2-y) > 0.2*
				float64(upright.Width) {
				t.Errorf("portrait %d turned by %d°: face at %+v, want its middle at %.0f, %.0f", i, 90*quarters, b, x,
					y)
			}
		}
	}
}

func TestCrowds(t *testing.T) {
	p := openMobileFace(t)
	all := familyPortraits(t)
	on := plain(1920, 1080, 90)
	for i := range 14 * 8 {
		img := all[i%len(all)]
		at := image.Pt(8+136*(i%14), 2+134*(i/14))
		side := 130 / float64(max(img.W, img.H))
		paste(on, img, image.Rectangle{at, at.Add(image.Pt(int(side*float64(img.W)), int(side*float64(img.H))))})
	}
	if n := len(faces(t, p, on)); n != 100 {
		t.Errorf("%d faces among 112, want the 100 largest", n)
	}
}

// Faces that the edge of the picture cuts by a quarter, at each side.
func TestFacesAtTheEdges(t *testing.T) {
	p := openMobileFace(t)
	missed, tried := 0, 0
	for _, img := range familyPortraits(t) {
		b := faces(t, p, img)[0].Box
		for _, part := range []image.Rectangle{
			image.Rect(b.Left+b.Width/4, 0, img.W, img.H), image.Rect(0, b.Top+b.Height/4, img.W, img.H),
			image.Rect(0, 0, b.Left+3*b.Width/4, img.H), image.Rect(0, 0, img.W, b.Top+3*b.Height/4),
			image.Rect(b.Left, b.Top, b.Left+b.Width, b.Top+b.Height).Intersect(image.Rect(0, 0, img.W, img.H)),
		} {
			cut := plain(part.Dx(), part.Dy(), 0)
			for y := range cut.H {
				copy(cut.Pix[3*y*cut.W:][:3*cut.W], img.Pix[3*((part.Min.Y+y)*img.W+part.Min.X):])
			}
			tried++
			if len(faces(t, p, cut)) == 0 {
				missed++
			}
		}
	}
	if missed > tried/20 {
		t.Errorf("%d of %d faces that are cut are missed", missed, tried)
	}
}

func TestPicturesOfNobody(t *testing.T) {
	p := openMobileFace(t)
	random := rand.New(rand.NewPCG(1, 2))
	noise := plain(320, 240, 0)
	for i := range noise.Pix {
		noise.Pix[i] = byte(random.IntN(256))
	}
	slope := plain(500, 400, 0)
	for i := range slope.Pix {
		slope.Pix[i] = byte(i / 3 % slope.W * 255 / slope.W)
	}
	for name, img := range map[string]*photo.RGB{
		"black": plain(640, 480, 0), "white": plain(640, 480, 255), "grey": plain(100, 100, 90), "noise": noise,
		"slope":     slope,
		"one pixel": plain(1, 1, 50), "one column": plain(1, 3000, 200), "one row": plain(3000, 1, 200),
		"36 pixels": plain(36, 36, 128), "a strip": plain(4000, 40, 128),
	} {
		if found := faces(t, p, img); len(found) != 0 {
			t.Errorf("%s: %+v", name, found)
		}
	}
}

// Photos from reports: a face of 60 pixels on 1920 × 1080, and two that lie on their side.
func TestReportedPhotos(t *testing.T) {
	p := openMobileFace(t)
	for _, name := range []string{
		"small-face/60px-in-1920x1080.jpg", "rotated/Family1-Dad1-270.jpg", "rotated/Family2-Man1-270.jpg",
	} {
		img, err := vision.Decode(read(t, filepath.Join(filepath.Dir(shared(t)), "field", name)))
		if err != nil {
			t.Fatal(err)
		}
		if n := len(faces(t, p, img)); n != 1 {
			t.Errorf("%s: %d faces", name, n)
		}
	}
	img,
		err := vision.Decode(
		read(t, filepath.Join(filepath.Dir(shared(t)), "field", "nonface", "pillow-radial_gradients.png")),
	)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(faces(t, p, img)); n != 0 {
		t.Errorf("a gradient has %d faces", n)
	}
}
