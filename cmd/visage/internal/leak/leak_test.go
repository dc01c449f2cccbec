package leak_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/visage-face/visage/cmd/visage/internal/leak"
	"github.com/visage-face/visage/gallery"
)

var template = func() []float32 {
	t, square := make([]float32, 128), 0.0
	for i := range t {
		t[i] = float32(math.Sin(float64(i) * 1.7))
		square += float64(t[i]) * float64(t[i])
	}
	for i := range t {
		t[i] /= float32(math.Sqrt(square))
	}
	return t
}()

func secrets(t *testing.T) []leak.Secret {
	t.Helper()
	name, err := leak.Text("a name", "Ada Lindqvist é")
	if err != nil {
		t.Fatal(err)
	}
	face, err := leak.Template("a template", template)
	if err != nil {
		t.Fatal(err)
	}
	return []leak.Secret{name, face}
}

func TestSearchFindsEveryForm(t *testing.T) {
	raw := make([]byte, 0, 512)
	for _, v := range template {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
	}
	asJSON, err := json.Marshal(map[string]any{"t": template})
	if err != nil {
		t.Fatal(err)
	}
	code, err := gallery.Encode(template)
	if err != nil {
		t.Fatal(err)
	}
	var big []byte
	var numbers []int16
	for i := range template {
		n := binary.LittleEndian.Uint16(code[2*i:])
		big, numbers = binary.BigEndian.AppendUint16(big, n), append(numbers, int16(n))
	}
	codeJSON, err := json.Marshal(numbers)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"text":              []byte("xxAda Lindqvist éxx"),
		"case":              []byte("ada lindqvist é"),
		"text in base64":    []byte(base64.StdEncoding.EncodeToString([]byte("{\"name\":\"Ada Lindqvist é\"}"))),
		"text, url base64":  []byte(base64.URLEncoding.EncodeToString([]byte("??Ada Lindqvist é?"))),
		"text in hex":       []byte(strings.ToUpper(hex.EncodeToString([]byte("Ada Lindqvist é")))),
		"template":          append([]byte("1"), raw...),
		"part of one":       raw[:200],
		"template, base64":  []byte(base64.StdEncoding.EncodeToString(append([]byte("a"), raw...))),
		"template, base64+": []byte(base64.StdEncoding.EncodeToString(append([]byte("ab"), raw...))),
		"template in hex":   []byte(hex.EncodeToString(raw)),
		"template as json":  asJSON,
		"code":              append([]byte("1"), code...),
		"part of a code":    code[100:],
		"code, big endian":  big,
		"code in hex":       []byte(hex.EncodeToString(code)),
		"code, base64":      []byte(base64.StdEncoding.EncodeToString(code)),
		"code, base64+":     []byte(base64.StdEncoding.EncodeToString(append([]byte("a"), code...))),
		"code as json":      codeJSON,
		"across chunks":     append(make([]byte, 4<<20-3), []byte("Ada Lindqvist é")...),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "f"), content, 0o600); err != nil {
				t.Fatal(err)
			}
			r, err := leak.Search(secrets(t), dir)
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Finds) == 0 {
				t.Error("nothing found")
			}
			if r.Files != 1 || r.Bytes != int64(len(content)) {
				t.Errorf("searched %d files, %d bytes, want 1 and %d", r.Files, r.Bytes, len(content))
			}
			for _, f := range r.Finds {
				if f.Offset < 0 || f.Offset >= int64(len(content)) {
					t.Errorf("%s found at %d, outside of the file", f.Form, f.Offset)
				}
			}
		})
	}
}

func TestSearchFindsAllThatIsPlanted(t *testing.T) {
	dir := t.TempDir()
	n, err := leak.Plant(filepath.Join(dir, "planted"), secrets(t))
	if err != nil {
		t.Fatal(err)
	}
	r, err := leak.Search(secrets(t), dir)
	if err != nil {
		t.Fatal(err)
	}
	forms := map[string]bool{}
	for _, f := range r.Finds {
		forms[f.What+f.Form] = true
	}
	for _, form := range []string{"float32 little endian", "code little endian", "code big endian in base64",
		"code as json"} {
		if !forms["a template"+form] {
			t.Errorf("%s was planted but not found", form)
		}
	}
	if n < 100 || len(forms) < 25 {
		t.Errorf("%d forms planted, %d kinds found", n, len(forms))
	}
}

func TestSearchLooksAtNames(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "of Ada Lindqvist é.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := leak.Search(secrets(t), dir)
	if err != nil || len(r.Finds) == 0 {
		t.Errorf("got %v, %v, want the file's name found", r.Finds, err)
	}
}

func TestSearchFindsNothingInOtherBytes(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), bytes.Repeat([]byte("nothing of interest 0123456789"), 1<<16),
		0o600); err != nil {
		t.Fatal(err)
	}
	r, err := leak.Search(secrets(t), dir)
	if err != nil || len(r.Finds) != 0 {
		t.Errorf("got %v, %v, want nothing", r.Finds, err)
	}
}

func TestShortTextIsRefused(t *testing.T) {
	if _, err := leak.Text("a name", "Bob"); err == nil {
		t.Error("a text short enough to occur by chance was accepted")
	}
}
