package weights_test

import (
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/visage-face/visage/vision/internal/weights"
)

const good = `[{"paths": ["a.bin", "b.bin"], "weights": [
	{"name": "small", "shape": [2, 2], "dtype": "float32", "quantization": {"dtype": "uint8", "scale": 0.5, "min": -1}},
	{"name": "steps", "shape": [], "dtype": "int32", "quantization": {"dtype": "uint8", "scale": 1, "min": 6}},
	{"name": "plain", "shape": [1], "dtype": "float32"}]}]`

// files puts a manifest beside its shards; the last tensor lies across their border.
func files(manifest string) fstest.MapFS {
	plain := binary.LittleEndian.AppendUint32(nil, math.Float32bits(1.25))
	return fstest.MapFS{
		"m.json": {Data: []byte(manifest)},
		"a.bin":  {Data: append([]byte{0, 1, 2, 255, 0}, plain[:2]...)},
		"b.bin":  {Data: plain[2:]},
	}
}

func TestRead(t *testing.T) {
	set, err := weights.Read(files(good), "m.json")
	if err != nil {
		t.Fatal(err)
	}
	if len(set) != 2 {
		t.Errorf("%d tensors, want the two of floats", len(set))
	}
	if got, want := set["small"].Data, []float32{-1, -0.5, 0, 126.5}; !slices.Equal(got, want) {
		t.Errorf("small is %v, want %v", got, want)
	}
	if got, want := set["plain"].Data, []float32{1.25}; !slices.Equal(got, want) {
		t.Errorf("plain is %v, want %v", got, want)
	}
}

func TestReadRefuses(t *testing.T) {
	for _, row := range []struct{ name, from, to, words string }{
		{"a climbing shard", `"a.bin"`, `"../a.bin"`, "not a plain file name"},
		{"a missing shard", `"b.bin"`, `"c.bin"`, "does not exist"},
		{"a huge shape", `[2, 2]`, `[1000000, 1000000]`, "out of bounds"},
		{"a negative shape", `[2, 2]`, `[-2, -2]`, "out of bounds"},
		{"a longer tensor", `[1]`, `[2]`, "end before"},
		{"a shorter tensor", `[2, 2]`, `[2]`, "belong to no tensor"},
		{"a name twice", `"plain"`, `"small"`, "listed twice"},
		{"another type", `"dtype": "float32"}`, `"dtype": "complex64"}`, "not supported"},
		{"an unknown field", `"paths"`, `"ways"`, "unknown field"},
		{"something after it", `}]}]`, `}]}] 1`, "something follows"},
	} {
		set, err := weights.Read(files(strings.Replace(good, row.from, row.to, 1)), "m.json")
		if err == nil || set != nil || !strings.Contains(err.Error(), row.words) {
			t.Errorf("%s: got %v, %v, want %q", row.name, set, err, row.words)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(good)
	f.Add(`[{"paths":["a.bin"],"weights":[]}]`)
	f.Fuzz(func(t *testing.T, manifest string) {
		set, err := weights.Read(files(manifest), "m.json")
		if err != nil && set != nil {
			t.Error("tensors came with an error")
		}
		for name, tensor := range set {
			n := 1
			for _, d := range tensor.Shape {
				n *= d
			}
			if n != len(tensor.Data) {
				t.Errorf("%q of shape %v has %d numbers", name, tensor.Shape, len(tensor.Data))
			}
		}
	})
}
