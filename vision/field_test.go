package vision_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/visage-face/visage/vision"
)

// field returns the files of a folder of reported inputs, unpacked.
func field(t *testing.T, folder string) map[string][]byte {
	t.Helper()
	dir := filepath.Join(filepath.Dir(filepath.Dir(shared(t, "faces"))), "field", folder)
	entries, err := os.ReadDir(dir)
	if err != nil {
		missing(t, "no inputs from the field at "+dir)
	}
	files := map[string][]byte{}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "README") {
			continue
		}
		b := read(t, filepath.Join(dir, e.Name()))
		if strings.HasSuffix(e.Name(), ".gz") {
			z, err := gzip.NewReader(bytes.NewReader(b))
			if err != nil {
				t.Fatal(err)
			}
			if b, err = io.ReadAll(z); err != nil {
				t.Fatal(err)
			}
		}
		files[e.Name()] = b
	}
	return files
}

// One photo in every form that browsers show and that was once refused has the same faces as the ordinary file.
func TestEveryFieldPhotoHasTheSameFaces(t *testing.T) {
	damaged := field(t, "jpeg-noeoi")
	var notes []string
	p := open(t, vision.Config{Parallel: 1, Warn: func(text string) { notes = append(notes, text) }})
	detect := func(file []byte) *vision.Photo {
		t.Helper()
		found, err := p.Detect(t.Context(), file, vision.Want{Templates: true})
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	want := detect(append(slices.Clone(damaged["noeoi.jpg"]), 0xff, 0xd9))
	if len(want.Faces) != 1 || notes != nil {
		t.Fatalf("the ordinary file has %d faces, and warnings %q", len(want.Faces), notes)
	}
	for _, folder := range []string{"jpeg-noeoi", "jpeg-sampling", "bmp-kinds", "png-badcrc-text"} {
		for name, file := range field(t, folder) {
			t.Run(folder+"/"+name, func(t *testing.T) {
				notes = nil
				got := detect(file)
				if got.Width != want.Width || got.Height != want.Height || len(got.Faces) != 1 {
					t.Fatalf("%d faces on %d × %d", len(got.Faces), got.Width, got.Height)
				}
				a, b := got.Faces[0], want.Faces[0]
				if o := overlap(a.Box, b.Box); o < 0.85 {
					t.Errorf("face at %+v, want %+v", a.Box, b.Box)
				}
				dot := 0.0
				for i := range a.Template {
					dot += float64(a.Template[i]) * float64(b.Template[i])
				}
				if math.Abs(1-dot) > 0.03 {
					t.Errorf("template is %.4f away", 1-dot)
				}
				faulty := folder == "jpeg-noeoi" || folder == "png-badcrc-text"
				if faulty != (len(notes) == 1) {
					t.Errorf("warnings are %q", notes)
				}
			})
		}
	}
	half := damaged["noeoi.jpg"][:len(damaged["noeoi.jpg"])/2]
	if _, err := p.Detect(t.Context(), half, vision.Want{}); err == nil ||
		!strings.Contains(err.Error(), "incomplete") {
		t.Errorf("half a file gives %v", err)
	}
}

// overlap is the intersection of two boxes over their union.
func overlap(a, b vision.Box) float64 {
	w := min(a.Left+a.Width, b.Left+b.Width) - max(a.Left, b.Left)
	h := min(a.Top+a.Height, b.Top+b.Height) - max(a.Top, b.Top)
	if w <= 0 || h <= 0 {
		return 0
	}
	return float64(w*h) / float64(a.Width*a.Height+b.Width*b.Height-w*h)
}

// A photo as phones store it has the same faces as the JPEG that it was made of. No encoder of HEIC or AVIF is written
// in Go, so this needs those of libheif and libavif.
func TestPhonesPhotosHaveTheSameFaces(t *testing.T) {
	p := open(t, vision.Config{Parallel: 1})
	source := shared(t, "faces", "Family1-Dad1.jpg")
	want, err := p.Detect(t.Context(), read(t, source), vision.Want{})
	if err != nil || len(want.Faces) == 0 {
		t.Fatalf("no faces on the JPEG: %v", err)
	}
	for _, c := range []struct {
		name    string
		command []string
	}{
		{"photo.heic", []string{"heif-enc", "-q", "80", source, "-o"}},
		{"photo.avif", []string{"avifenc", "-s", "8", "--min", "10", "--max", "20", source}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := exec.LookPath(c.command[0]); err != nil {
				missing(t, c.command[0]+" is not installed")
			}
			file := filepath.Join(t.TempDir(), c.name)
			if out, err := exec.CommandContext(t.Context(), c.command[0], append(c.command[1:], file)...).
				CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			got, err := p.Detect(t.Context(), read(t, file), vision.Want{})
			if err != nil {
				t.Fatal(err)
			}
			if got.Width != want.Width || got.Height != want.Height || len(got.Faces) != len(want.Faces) {
				t.Fatalf("%d faces on %d × %d, want %d", len(got.Faces), got.Width, got.Height, len(want.Faces))
			}
			if o := overlap(got.Faces[0].Box, want.Faces[0].Box); o < 0.85 {
				t.Errorf("face at %+v, want %+v", got.Faces[0].Box, want.Faces[0].Box)
			}
		})
	}
}
