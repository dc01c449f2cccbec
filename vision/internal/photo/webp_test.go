package photo_test

import (
	"bytes"
	"encoding/binary"
	"image"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/visage-face/visage/vision/internal/photo"
)

// Lossy pictures have the colours of what they were made from, though their luma is not JPEG's. No encoder is at hand,
// so the files are those that the decoder's own tests use, from where Go keeps the module.
func TestLossyWebPHasTheRightColours(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "golang.org/x/image").Output()
	dir := filepath.Join(strings.TrimSpace(string(out)), "testdata")
	if _, statErr := os.Stat(dir); err != nil || statErr != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("no source of golang.org/x/image: %v, %v", err, statErr)
		}
		t.Skip("no source of golang.org/x/image")
	}
	read := func(name string) *photo.RGB {
		file, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		p, err := decode(long(file))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return p
	}
	for lossy, from := range map[string]string{
		"blue-purple-pink-large.normal-filter.lossy.webp": "blue-purple-pink-large.png",
		"yellow_rose.lossy-with-alpha.webp":               "yellow_rose.png",
		"video-001.lossy.webp":                            "video-001.png",
	} {
		got, want := read(lossy), read(from)
		if got.W != want.W || got.H != want.H {
			t.Fatalf("%s is %d × %d, want %d × %d", lossy, got.W, got.H, want.W, want.H)
		}
		var off float64
		for i := range got.Pix {
			off += float64(got.Pix[i]) - float64(want.Pix[i])
		}
		if off /= float64(len(got.Pix)); off < -1 || off > 1 {
			t.Errorf("%s is brighter by %.2f levels than it should be", lossy, off)
		}
	}
}

// A file that lost its last bytes, or says a wrong length, is read; one that lost more is not.
func TestDecodeReadsWebPWithFaults(t *testing.T) {
	m := scene(60, 40)
	whole := webpOf(m, 60, 40, nil)
	length := func(n uint32) []byte {
		b := bytes.Clone(whole)
		binary.LittleEndian.PutUint32(b[4:], n)
		return b
	}
	for name, file := range map[string][]byte{
		"a length of nothing": length(4), "too short a length": length(uint32(len(whole) / 2)),
		"too long a length": length(1 << 20), "bytes behind the end": append(bytes.Clone(whole), "trailing"...),
	} {
		got, err := decode(file)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		compare(t, got, m, 0)
	}
	almost, err := decode(whole[:len(whole)*19/20])
	if err != nil || !strings.Contains(almost.Note, "ends early") {
		t.Fatalf("nineteen of twenty bytes: %v", err)
	}
	compare(t, &photo.RGB{Pix: almost.Pix[:3*60*30], W: 60, H: 30}, m.SubImage(image.Rect(0, 0, 60, 30)), 0)
	refused(t, whole[:len(whole)/2], "incomplete")
}
