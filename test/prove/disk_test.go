package prove_test

import (
	"bytes"
	"image"
	"image/jpeg"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// searchDisk reads every byte under dir and fails when one of the texts occurs.
func searchDisk(t *testing.T, dir string, texts []string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		for _, text := range texts {
			if bytes.Contains(content, []byte(text)) {
				t.Errorf("%s contains %q in the clear", path, text)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("search the disk: %v", err)
	}
	if files == 0 {
		t.Fatalf("no file under %s: the search proves nothing", dir)
	}
}

// portrait returns a small photo of one face, cut from a sample photo of the npm package of the weights.
func portrait(t *testing.T) []byte {
	t.Helper()
	f,
		err := os.Open(filepath.Join("..", "..", "models", "node_modules", "@vladmandic", "face-api", "demo",
		"sample1.jpg"))
	if err != nil {
		t.Skip("no models: run make setup")
	}
	defer f.Close()
	img, err := jpeg.Decode(f)
	if err != nil {
		t.Fatalf("decode the sample: %v", err)
	}
	part, ok := img.(interface {
		SubImage(image.Rectangle) image.Image
	})
	if !ok {
		t.Fatalf("cannot cut a part out of a %T", img)
	}
	var out bytes.Buffer
	// one of the three people on it
	if err := jpeg.Encode(&out, part.SubImage(image.Rect(1350, 100, 1800, 560)), nil); err != nil {
		t.Fatalf("encode the portrait: %v", err)
	}
	return out.Bytes()
}
