package vision_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/visage-face/visage/vision"
	"github.com/visage-face/visage/vision/internal/onnx"
	"github.com/visage-face/visage/vision/pack"
)

// changedPack is the default pack with other files and a manifest that fits them.
func changedPack(t *testing.T, change func(m *pack.Manifest, files map[string][]byte)) *pack.Pack {
	t.Helper()
	return altered(t, defaultPack(t), change)
}

// altered is a pack with other files and a manifest that fits them.
func altered(t *testing.T, base *pack.Pack, change func(m *pack.Manifest, files map[string][]byte)) *pack.Pack {
	t.Helper()
	m, files, dir := base.Manifest(), map[string][]byte{}, t.TempDir()
	for _, f := range m.Files {
		files[f.Name] = read(t, base.Path(f.Name))
	}
	change(&m, files)
	m.Files = slices.Clone(m.Files)
	for i, f := range m.Files {
		sum := sha256.Sum256(files[f.Name])
		m.Files[i].Bytes, m.Files[i].SHA256 = int64(len(files[f.Name])), hex.EncodeToString(sum[:])
	}
	manifest, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	files[pack.ManifestName] = manifest
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p, err := pack.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// dense is a network from a face of some pixels a side to out numbers, of which it adds up its mean colour with weights
// that are all the same, and a bias.
func dense(output string, side, out int, weight, bias float32) []byte {
	g := onnx.NewGraph("dense")
	n := onnx.Dim{Name: "N"}
	x := g.Input("face", n, onnx.Dim{Size: 3}, onnx.Dim{Size: int64(side)}, onnx.Dim{Size: int64(side)})
	x = g.Dense(g.Flatten(g.GlobalAveragePool(x)), slices.Repeat([]float32{weight}, 3*out), 3, out,
		slices.Repeat([]float32{bias}, out))
	g.Output(x, output, n, onnx.Dim{Size: int64(out)})
	return g.Marshal()
}

// damaged returns the file of a network with some weights in its middle replaced by NaN.
func damaged(network []byte) []byte {
	bent := slices.Clone(network)
	copy(bent[len(bent)/2:], slices.Repeat([]byte{0xff}, 256))
	return bent
}

// TestANetworkThatCannotWorkIsRefused checks that such a network is refused when its pack is opened, although every
// file matches the manifest.
func TestANetworkThatCannotWorkIsRefused(t *testing.T) {
	infinite, not := float32(math.Inf(1)), float32(math.NaN())
	recogniser := func(out int, weight, bias float32) func(*pack.Manifest, map[string][]byte) {
		return func(m *pack.Manifest, files map[string][]byte) {
			files[m.Recogniser.File] = dense(m.Recogniser.Output, m.Recogniser.Input.Width, out, weight, bias)
		}
	}
	for _, c := range []struct {
		name   string
		change func(m *pack.Manifest, files map[string][]byte)
		says   string
	}{
		{"recogniser with weights that are no numbers", recogniser(128, not, 0),
			"try recogniser: run network: output template holds NaN"},
		{"recogniser with infinite weights", recogniser(128, infinite, 0),
			"try recogniser: run network: output template holds"},
		{"recogniser of zeros", recogniser(128, 0, 0), "a template of length zero or not of numbers"},
		{"recogniser that looks at nothing", recogniser(128, 0, 1), "it would take everybody for one person"},
		{"recogniser of another length", recogniser(64, 1, 0), "recogniser returned 64 numbers for 1 faces of 128"},
		{"recogniser that is no network", func(m *pack.Manifest, files map[string][]byte) {
			files[m.Recogniser.File] = []byte("these are the bytes of no network")
		}, "open network recogniser.onnx"},
		{"recogniser with another output",
			func(m *pack.Manifest, files map[string][]byte) { m.Recogniser.Output = "face" }, "face"},
		{"damaged detector", func(m *pack.Manifest, files map[string][]byte) {
			files[m.Detector.File] = damaged(files[m.Detector.File])
		}, "try detector: run network: output"},
		{"damaged landmarks", func(m *pack.Manifest, files map[string][]byte) {
			files[m.Landmarks.File] = damaged(files[m.Landmarks.File])
		}, "try landmarks: run network: output points holds"},
		{"landmarks in one place", func(m *pack.Manifest, files map[string][]byte) {
			files[m.Landmarks.File] = dense(m.Landmarks.Output, m.Landmarks.Input.Width, 136, 0, 0.5)
		}, "try landmarks: all points are equal"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := vision.Open(vision.Config{Pack: changedPack(t, c.change), Library: library(t)})
			if err == nil {
				p.Close()
				t.Fatal("it was opened")
			}
			if !strings.Contains(err.Error(), c.says) || !strings.HasPrefix(err.Error(), "open model pack default: ") {
				t.Errorf("it said %q, want %q", err, c.says)
			}
		})
	}
}

// TestFingerprint: the fingerprint depends on the recogniser and its alignment of faces, and on nothing else.
func TestFingerprint(t *testing.T) {
	usual := open(t, vision.Config{}).Fingerprint()
	var length float64
	for _, x := range usual {
		length += float64(x) * float64(x)
	}
	if len(usual) != 128 || math.Abs(length-1) > 1e-3 {
		t.Fatalf("%d numbers, the sum of their squares is %g", len(usual), length)
	}
	for _, c := range []struct {
		name   string
		change func(m *pack.Manifest, files map[string][]byte)
		same   bool
	}{
		{"another name", func(m *pack.Manifest, _ map[string][]byte) { m.Name = "other" }, true},
		{"another score of faces", func(m *pack.Manifest, _ map[string][]byte) { m.Detector.MinScore = 0.6 }, true},
		{"other colours", func(m *pack.Manifest, _ map[string][]byte) { m.Recogniser.Input.Mean = [3]float64{} },
			false},
		{"another alignment", func(m *pack.Manifest, _ map[string][]byte) {
			for i := range m.Recogniser.Alignment {
				m.Recogniser.Alignment[i][1] += 8
			}
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := distance(usual, open(t, vision.Config{Pack: changedPack(t, c.change)}).Fingerprint())
			if (d < 1e-3) != c.same {
				t.Errorf("it is %g from the usual one", d)
			}
		})
	}
}
