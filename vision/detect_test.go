package vision_test

import (
	"context"
	"errors"
	"fmt"
	"image"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/visage-face/visage/vision"
	"github.com/visage-face/visage/vision/internal/photo"
)

// How well templates separate the people of the Family photos: the smallest distance between different people minus the
// largest of one person, for two kinds of distance.
func TestOwnAlignmentSeparatesNoWorseThanReference(t *testing.T) {
	p := open(t, vision.Config{})
	type row struct {
		who                 string
		template, reference []float32
	}
	var rows []row
	files, err := filepath.Glob(shared(t, "faces", "Family*.jpg"))
	if err != nil || len(files) != 16 {
		t.Fatalf("%d family photos, %v", len(files), err)
	}
	for _, file := range files {
		photo := read(t, file)
		own, err := p.Detect(t.Context(), photo, vision.Want{Templates: true})
		if err != nil {
			t.Fatal(err)
		}
		img, err := vision.Decode(photo)
		if err != nil {
			t.Fatal(err)
		}
		reference, err := p.Reference(t.Context(), img)
		if err != nil {
			t.Fatal(err)
		}
		if len(own.Faces) != 1 || len(reference) != 1 {
			t.Fatalf("%s: %d and %d faces, want one", file, len(own.Faces), len(reference))
		}
		who := strings.TrimRight(strings.TrimSuffix(filepath.Base(file), ".jpg"), "0123456789")
		rows = append(rows, row{who, own.Faces[0].Template, reference[0].Descriptor})
	}
	margin := func(of func(row) []float32, far func(a, b []float32) float64) float64 {
		same, different := 0.0, math.Inf(1)
		for i, a := range rows {
			for _, b := range rows[:i] {
				if d := far(of(a), of(b)); a.who == b.who {
					same = max(same, d)
				} else {
					different = min(different, d)
				}
			}
		}
		return different - same
	}
	own := func(r row) []float32 { return r.template }
	reference := func(r row) []float32 { return r.reference }
	angle := func(a, b []float32) float64 {
		return 1 - (1-distance(a, b))/math.Sqrt((1-distance(a, a))*(1-distance(b, b)))
	}
	euclid := func(a, b []float32) float64 {
		sum := 0.0
		for i := range a {
			sum += float64(a[i]-b[i]) * float64(a[i]-b[i])
		}
		return math.Sqrt(sum)
	}
	// The reference's descriptors have a length of about 1.45; ours have 1, which makes their Euclidean margin smaller.
	t.Logf("margins: own %.4f (cosine) and %.4f (Euclidean), reference %.4f and %.4f",
		margin(own, angle), margin(own, euclid), margin(reference, angle), margin(reference, euclid))
	if a, b := margin(own, angle), margin(reference, angle); a < b {
		t.Errorf("cosine margin %.4f is worse than the reference's %.4f", a, b)
	}
	if a, b := margin(own, euclid), margin(reference, euclid); a < b {
		t.Errorf("Euclidean margin %.4f is worse than the reference's %.4f", a, b)
	}
}

// tight returns each face of the photos cut out so that it fills the picture.
func tight(t *testing.T, p *vision.Pipeline) map[string]*photo.RGB {
	t.Helper()
	cuts := map[string]*photo.RGB{}
	for name := range people {
		path := filepath.Join(samples, name)
		if !strings.HasPrefix(name, "sample") {
			path = shared(t, "faces", name)
		}
		img, err := vision.Decode(read(t, path))
		if err != nil {
			t.Fatal(err)
		}
		found, err := p.Examine(t.Context(), img, vision.Want{})
		if err != nil {
			t.Fatal(err)
		}
		for i, f := range found.Faces {
			b := f.Box
			cuts[fmt.Sprintf("%s/%d", name, i)] = crop(img, image.Rect(b.Left, b.Top, b.Left+b.Width, b.Top+b.Height))
		}
	}
	return cuts
}

// TestFacesThatFillTheFrame crops photos more tightly than people do: nothing is left around the box of the face. On
// the samples, where people turn away and hide behind hands and hair, a few faces are lost.
func TestFacesThatFillTheFrame(t *testing.T) {
	p := open(t, vision.Config{})
	cuts := tight(t, p)
	lost, plain := 0, 0
	for name, cut := range cuts {
		once, err := p.Once(t.Context(), cut)
		if err != nil {
			t.Fatal(err)
		}
		if once == 0 {
			plain++
		}
		found, err := p.Examine(t.Context(), cut, vision.Want{})
		if err != nil {
			t.Fatal(err)
		}
		if len(found.Faces) == 0 {
			lost++
			if !strings.HasPrefix(name, "sample") {
				t.Errorf("%s: no face, cut to %d×%d", name, cut.W, cut.H)
			}
		}
	}
	t.Logf("of %d faces that fill the frame, one look misses %d, both looks miss %d", len(cuts), plain, lost)
	if lost > 4 || plain < 3*lost || plain < 10 {
		t.Errorf(
			"of %d faces one look misses %d and both looks %d; want at least 10, and at most 4 and a third of that",
			len(cuts), plain, lost)
	}
}

func TestFacesAreSortedAndWithinThePicture(t *testing.T) {
	p := open(t, vision.Config{})
	for photo, names := range people {
		if strings.HasPrefix(photo, "sample") {
			continue
		}
		got, err := p.Detect(t.Context(), read(t, shared(t, "faces", photo)), vision.Want{})
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Faces) != len(names) {
			t.Errorf("%s: %d faces, want %d", photo, len(got.Faces), len(names))
		}
		last := math.MaxInt
		for _, f := range got.Faces {
			b := f.Box
			if b.Left < 0 || b.Top < 0 || b.Left+b.Width > got.Width || b.Top+b.Height > got.Height {
				t.Errorf("%s: box %+v leaves the picture of %d×%d", photo, b, got.Width, got.Height)
			}
			if b.Width*b.Height > last {
				t.Errorf("%s: faces are not sorted by area", photo)
			}
			last = b.Width * b.Height
			if f.Template != nil || f.Landmarks != nil || f.Attributes != nil {
				t.Errorf("%s: more than was asked for", photo)
			}
		}
	}
}

func TestSelect(t *testing.T) {
	p := open(t, vision.Config{})
	photo := read(t, shared(t, "faces", "identification1.jpg"))
	want := vision.Want{Templates: true, Select: func(faces []vision.Face) []int {
		if len(faces) != 4 {
			t.Errorf("%d faces to choose from, want 4", len(faces))
		}
		return []int{2, 2}
	}}
	got, err := p.Detect(t.Context(), photo, want)
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range got.Faces {
		if has := f.Template != nil; has != (i == 2) {
			t.Errorf("face %d has a template: %v", i, has)
		}
	}
	want.Select = func([]vision.Face) []int { return []int{4} }
	if _, err := p.Detect(t.Context(), photo, want); err == nil {
		t.Error("a face that is not there was chosen without an error")
	}
}

func TestUnsupportedAttributes(t *testing.T) {
	p := open(t, vision.Config{})
	_, err := p.Detect(t.Context(), nil, vision.Want{Attributes: vision.Glasses | vision.HeadPose})
	unsupported, ok := errors.AsType[*vision.UnsupportedError](err)
	if !ok || unsupported.Asked != vision.Glasses || unsupported.Supported != p.Supports() {
		t.Fatalf("got %v", err)
	}
	if !strings.Contains(err.Error(), "glasses") || !strings.Contains(err.Error(), "headPose") {
		t.Errorf("%q does not name what is missing and what there is", err)
	}
}

func TestEndedContext(t *testing.T) {
	p := open(t, vision.Config{})
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("the client has gone")
	cancel(why)
	if _, err := p.Detect(ctx, read(t, shared(t, "faces", "Family1-Dad1.jpg")), vision.Want{}); !errors.Is(err, why) {
		t.Errorf("got %v, want the cause", err)
	}
}

// TestConcurrentDetect calls Detect more often at once than the pipeline works at once; every answer must be the same
// as alone.
func TestConcurrentDetect(t *testing.T) {
	p := open(t, vision.Config{Parallel: 2})
	want := vision.Want{Templates: true}
	names := []string{"Family1-Dad1.jpg", "identification1.jpg", "Family2-Lady1.jpg", "detection5.jpg"}
	photos, alone := make([][]byte, len(names)), make([]*vision.Photo, len(names))
	for i, name := range names {
		photos[i] = read(t, shared(t, "faces", name))
		var err error
		if alone[i], err = p.Detect(t.Context(), photos[i], want); err != nil {
			t.Fatal(err)
		}
	}
	var all sync.WaitGroup
	for n := range 16 {
		all.Go(func() {
			i := n % len(names)
			got, err := p.Detect(t.Context(), photos[i], want)
			if err != nil {
				t.Error(err)
				return
			}
			if !slices.EqualFunc(got.Faces, alone[i].Faces, func(a, b vision.Face) bool {
				return a.Box == b.Box && a.Score == b.Score && slices.Equal(a.Template, b.Template)
			}) {
				t.Errorf("%s: another answer among others than alone", names[i])
			}
		})
	}
	all.Wait()
}

func TestClosedPipelineRefuses(t *testing.T) {
	p := open(t, vision.Config{})
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := p.Detect(t.Context(), read(t, shared(t, "faces", "Family1-Dad1.jpg")), vision.Want{}); err == nil {
		t.Errorf("a closed pipeline found %d faces", len(got.Faces))
	}
}

func TestTraceTellsEveryStage(t *testing.T) {
	var stages []vision.Stage
	p := open(t, vision.Config{Trace: func(s vision.Stage, took time.Duration) { stages = append(stages, s) }})
	file := read(t, shared(t, "faces", "Family1-Dad1.jpg"))
	if _, err := p.Detect(t.Context(), file, vision.Want{Templates: true}); err != nil {
		t.Fatal(err)
	}
	want := []vision.Stage{vision.StageDecode, vision.StageDetect, vision.StageLandmarks, vision.StageTemplate}
	if !slices.Equal(stages, want) {
		t.Errorf("stages %v, want %v", stages, want)
	}
}

func TestOpenRefusesWhatCannotWork(t *testing.T) {
	if _, err := vision.Open(vision.Config{Library: "/none"}); err == nil {
		t.Error("opened without a pack")
	}
	if _, err := vision.Open(vision.Config{Pack: defaultPack(t)}); err == nil {
		t.Error("opened without a library")
	}
}

// crop returns the part of a picture within r, which lies in it.
func crop(p *photo.RGB, r image.Rectangle) *photo.RGB {
	c := &photo.RGB{W: r.Dx(), H: r.Dy()}
	for y := r.Min.Y; y < r.Max.Y; y++ {
		c.Pix = append(c.Pix, p.Pix[3*(y*p.W+r.Min.X):3*(y*p.W+r.Max.X)]...)
	}
	return c
}
