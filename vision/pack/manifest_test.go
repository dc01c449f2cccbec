package pack_test

import (
	"maps"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/visage-face/visage/vision/pack"
)

// openManifest opens a pack of the network and a manifest's bytes.
func openManifest(t testing.TB, raw []byte) (*pack.Pack, error) {
	t.Helper()
	dir := t.TempDir()
	for name, data := range map[string][]byte{"net.onnx": network, pack.ManifestName: raw} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return pack.Open(dir)
}

// quality is the part of a manifest that says how to grade faces.
func quality() map[string]any {
	return map[string]any{
		"method": "guessed", "base": 0.1, "floor": 0.3, "medium": 0.5, "high": 0.7,
		"terms": []any{
			map[string]any{"measure": "length", "from": 30, "to": 60, "weight": 0.5},
			map[string]any{"measure": "misfit", "from": 0.1, "to": 0.02, "weight": 0.3},
		},
		"noFace": map[string]any{"score": 0.9, "quality": 0.2, "misfit": 0.03, "apart": 0.5},
	}
}

// graded adds landmarks and a quality to a manifest.
func graded(m map[string]any, bend func(quality map[string]any)) {
	q := quality()
	bend(q)
	m["quality"] = q
	m["landmarks"] = map[string]any{"file": "net.onnx", "output": "points",
		"input": m["recogniser"].(map[string]any)["input"]}
}

func TestQualityIsASumOfItsTerms(t *testing.T) {
	m := manifest(network)
	graded(m, func(q map[string]any) { q["direction"] = append(make([]float64, 127), 0.5) })
	p, err := openManifest(t, encode(t, m))
	if err != nil {
		t.Fatal(err)
	}
	template := append(make([]float32, 127), 1)
	for _, row := range []struct{ length, misfit, want float64 }{
		{0, 1, 0.6}, {30, 0.1, 0.6}, {45, 0.1, 0.85}, {60, 0.06, 1.25}, {90, 0.02, 1.4}, {90, 0, 1.4},
	} {
		got := p.Manifest().Quality.Rate(func(m pack.Measure) float64 {
			return map[pack.Measure]float64{pack.Length: row.length, pack.Misfit: row.misfit}[m]
		}, template)
		if math.Abs(got-row.want) > 1e-9 {
			t.Errorf("length %g, misfit %g: %.4f, want %.4f", row.length, row.misfit, got, row.want)
		}
	}
}

// cascade gives a manifest a detector of kind mtcnn.
func cascade(m map[string]any, bend func(detector map[string]any, stages []any)) {
	d := m["detector"].(map[string]any)
	d["kind"] = "mtcnn"
	stages := make([]any, 2)
	for i := range stages {
		input := maps.Clone(d["input"].(map[string]any))
		stages[i] = map[string]any{"file": "net.onnx", "input": input, "minScore": 0.7}
	}
	d["stages"] = stages
	bend(d, stages)
}

// wears describes a network that sees signs of wear.
func wears(signs ...string) map[string]any {
	return map[string]any{
		"file": "net.onnx", "output": "signs", "signs": signs,
		"input": map[string]any{
			"name": "face", "width": 64, "height": 64, "channels": "RGB", "mean": []int{0, 0, 0},
			"divisor": []int{1, 1, 1},
		},
		"alignment": [][]int{{20, 20}, {40, 20}, {30, 30}, {22, 40}, {38, 40}},
	}
}

func TestManifestRefuses(t *testing.T) {
	type object = map[string]any
	for _, row := range []struct {
		name  string
		bend  func(m object)
		words string
	}{
		{"another format", func(m object) { m["format"] = 3 }, "format 3 is not supported"},
		{"an unknown field", func(m object) { m["colour"] = "red" }, "unknown field"},
		{"a name that climbs", func(m object) { m["name"] = "../x" }, "lower-case letters"},
		{"no licence", func(m object) { m["licence"] = "" }, "licence is missing"},
		{"no files", func(m object) { m["files"] = []any{} }, "files: want 1 to 16"},
		{"a file that climbs", func(m object) { m["files"].([]any)[0].(object)["name"] = "../net.onnx" },
			"not a plain file name"},
		{"the manifest itself", func(m object) { m["files"].([]any)[0].(object)["name"] = "pack.json" },
			"not a plain file name"},
		{"a short digest", func(m object) { m["files"].([]any)[0].(object)["sha256"] = "00" },
			"not 64 hexadecimal digits"},
		{"an unknown kind", func(m object) { m["detector"].(object)["kind"] = "yolo" }, `kind "yolo" is not known`},
		{"an unlisted file", func(m object) { m["recogniser"].(object)["file"] = "other" },
			"not among the pack's files"},
		{"an SSD without landmarks", func(m object) {
			d := m["detector"].(object)
			d["kind"], d["levels"] = "ssd", []any{object{"stride": 16, "sizes": [][]float64{{1, 1}}}}
		}, "landmarks: missing"},
		{"an SSD without levels", func(m object) { m["detector"].(object)["kind"] = "ssd" }, "levels are missing"},
		{"a cascade", func(m object) { cascade(m, func(object, []any) {}) }, ""},
		{"a cascade of two", func(m object) {
			cascade(m, func(d object, stages []any) { d["stages"] = stages[:1] })
		}, "has two beside its first network"},
		{"stages of another kind", func(m object) {
			cascade(m, func(d object, _ []any) { d["kind"] = "yunet" })
		}, `stages belong to kind "mtcnn"`},
		{"a stage of score 0", func(m object) {
			cascade(m, func(_ object, stages []any) { stages[1].(object)["minScore"] = 0 })
		}, "stage 3: minScore"},
		{"a stage of an unlisted file", func(m object) {
			cascade(m, func(_ object, stages []any) { stages[0].(object)["file"] = "other" })
		}, "stage 2: file"},
		{"a stage for one box at a time", func(m object) {
			cascade(m, func(_ object, stages []any) { stages[0].(object)["input"].(object)["fixed"] = true })
		}, "stage 2: input: fixed"},
		{"a cascade for one size", func(m object) {
			cascade(m, func(d object, _ []any) { d["input"].(object)["fixed"] = true })
		}, "input: fixed"},
		{"a border around a cascade", func(m object) {
			cascade(m, func(d object, _ []any) { d["border"], d["borderSide"] = 0.25, 256 })
		}, "border: a detector of kind mtcnn"},
		{"a score of 1", func(m object) { m["detector"].(object)["minScore"] = 1 }, "minScore"},
		{"other channels", func(m object) { m["detector"].(object)["input"].(object)["channels"] = "HSV" },
			"RGB or BGR"},
		{"a divisor of 0", func(m object) { m["recogniser"].(object)["input"].(object)["divisor"] = []int{1, 0, 1} },
			"divisor is 0"},
		{"a huge input", func(m object) { m["detector"].(object)["input"].(object)["width"] = 1 << 20 },
			"width or height"},
		{"eyes the wrong way", func(m object) {
			m["recogniser"].(object)["alignment"] = [][]int{{74, 52}, {38, 52}, {56, 72}, {42, 92}, {71, 92}}
		}, "left of the right"},
		{"quality without landmarks", func(m object) { m["quality"] = quality() }, "no landmarks to tell it by"},
		{"quality", func(m object) { graded(m, func(object) {}) }, ""},
		{"quality without terms", func(m object) { graded(m, func(q object) { q["terms"] = []any{} }) },
			"want 1 to 64 terms"},
		{"an unknown measure", func(m object) {
			graded(m, func(q object) { q["terms"].([]any)[0].(object)["measure"] = "beauty" })
		}, `unknown measure "beauty"; known are length, misfit`},
		{"a term without a slope", func(m object) {
			graded(m, func(q object) { q["terms"].([]any)[0].(object)["to"] = 30 })
		}, "from is to"},
		{"a direction for other templates", func(m object) {
			graded(m, func(q object) { q["direction"] = []int{1, 2, 3} })
		}, "direction has 3 numbers, templates have 128"},
		{"grades that fall", func(m object) { graded(m, func(q object) { q["floor"] = 0.6 }) }, "must rise"},
		{"an unknown sign", func(m object) { m["wear"] = []any{wears("glasses", "beard")} },
			`unknown sign "beard"`},
		{"a sign twice", func(m object) { m["wear"] = []any{wears("glasses"), wears("mask", "glasses")} },
			"listed twice"},
		{"no signs", func(m object) { m["wear"] = []any{wears()} }, "signs are missing"},
		{"signs of an unlisted file", func(m object) {
			w := wears("mask")
			w["file"] = "other"
			m["wear"] = []any{w}
		}, "wear: file"},
		{"signs of two networks", func(m object) { m["wear"] = []any{wears("glasses"), wears("mask", "headwear")} },
			""},
		{"no rates", func(m object) { m["calibration"].(object)["rates"] = []any{} }, "rates: want 2"},
		{"falling rates", func(m object) {
			r := m["calibration"].(object)["rates"].([]any)
			r[0], r[1] = r[1], r[0]
		}, "does not rise"},
		{"rates that stop early", func(m object) {
			c := m["calibration"].(object)
			c["rates"] = c["rates"].([]any)[1:]
		}, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := manifest(network)
			row.bend(m)
			p, err := openManifest(t, encode(t, m))
			if row.words == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil {
				t.Fatalf("opened %s", p.Name())
			}
			if !strings.Contains(err.Error(), row.words) {
				t.Errorf("%q does not say %q", err, row.words)
			}
		})
	}
	if _, err := openManifest(t, append(encode(t, manifest(network)), "{}"...)); err == nil {
		t.Error("opened a manifest with trailing data")
	}
}

func TestConfidence(t *testing.T) {
	p, err := openManifest(t, encode(t, manifest(network)))
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ distance, want float64 }{
		{-1, 1}, {0, 1}, {0.4, 0.5}, {2, 0}, {3, 0}, {math.NaN(), 0},
		{0.2, pack.ConfidenceAt(1e-5)}, {0.8, pack.ConfidenceAt(0.5)},
	} {
		if got := p.Confidence(row.distance); math.Abs(got-row.want) > 1e-12 {
			t.Errorf("at %g: %.4f, want %.4f", row.distance, got, row.want)
		}
	}
	last := 1.0
	for i := 1; i <= 2000; i++ {
		got := p.Confidence(float64(i) / 1000)
		if got >= last {
			t.Fatalf("confidence does not fall at %g: %g after %g", float64(i)/1000, got, last)
		}
		last = got
	}
	if got := pack.ConfidenceAt(1e-3); math.Abs(got-0.5) > 1e-12 {
		t.Errorf("a rate of 1e-3 is a confidence of %g", got)
	}
}

// counted is a manifest whose calibration has a worst group.
func counted(t testing.TB) map[string]any {
	t.Helper()
	row := func(distance, rate float64) any { return map[string]any{"distance": distance, "falseAccepts": rate} }
	m := manifest(network)
	m["calibration"] = map[string]any{
		"pairs": 1000000, "people": 2000, "photos": 3000, "method": "counted", "recogniser": sum(network),
		"rates": []any{row(0.2, 1e-6), row(0.3, 1e-5), row(0.4, 1e-4), row(0.5, 1e-3), row(0.9, 0.5)},
		"worst": map[string]any{
			"grouping": "name", "name": "some",
			"rates": []any{row(0.1, 1e-6), row(0.3, 1e-4), row(0.4, 1e-3), row(0.8, 0.5)},
		},
	}
	return m
}

func TestConfidenceGoesByTheWorstGroup(t *testing.T) {
	p, err := openManifest(t, encode(t, counted(t)))
	if err != nil {
		t.Fatal(err)
	}
	for distance, rate := range map[float64]float64{0.1: 1e-6, 0.3: 1e-4, 0.4: 1e-3} {
		if got, want := p.Confidence(distance), pack.ConfidenceAt(rate); math.Abs(got-want) > 1e-12 {
			t.Errorf("confidence at %g is %g, want %g", distance, got, want)
		}
	}
}

func TestThresholdGrowsWithTheGroup(t *testing.T) {
	p, err := openManifest(t, encode(t, counted(t)))
	if err != nil {
		t.Fatal(err)
	}
	for faces, distance := range map[int]float64{1: 0.4, 10: 0.4, 100: 0.4, 1000: 0.3, 10_000: 0.2} {
		if got, want := p.Threshold(faces), p.Confidence(distance); math.Abs(got-want) > 1e-6 {
			t.Errorf("for %d faces %g, want %g, that at %g", faces, got, want, distance)
		}
	}
	if got := p.Threshold(100_000_000); got != 0.95 {
		t.Errorf("%g for a group too large for any threshold, want the highest default, 0.95", got)
	}
	last := 0.5
	for faces := 1; faces < 1<<40; faces *= 3 {
		got := p.Threshold(faces)
		if !(got >= last && got <= 1) {
			t.Fatalf("for %d faces %g, after %g", faces, got, last)
		}
		last = got
	}
	if p, err = openManifest(t, encode(t, manifest(network))); err != nil {
		t.Fatal(err)
	}
	if got := p.Threshold(1 << 20); got != 0.5 {
		t.Errorf("%g without groups, want 0.5 for any number", got)
	}
}

func TestCalibrationOfAnotherNetworkIsRefused(t *testing.T) {
	m := counted(t)
	m["calibration"].(map[string]any)["recogniser"] = sum([]byte("another"))
	_, err := openManifest(t, encode(t, m))
	if err == nil || !strings.Contains(err.Error(), "measured with the recogniser") {
		t.Errorf("got %v", err)
	}
	m = manifest(network)
	delete(m, "calibration")
	if _, err := openManifest(t, encode(t, m)); err == nil || !strings.Contains(err.Error(), "no calibration") {
		t.Errorf("got %v", err)
	}
}

// FuzzManifest looks for manifests that open although they violate a rule.
func FuzzManifest(f *testing.F) {
	f.Add(encode(f, manifest(network)))
	f.Add(encode(f, counted(f)))
	f.Add([]byte(`{"format":1}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := openManifest(t, raw)
		if err != nil {
			if p != nil {
				t.Error("a pack came with an error")
			}
			return
		}
		if strings.ContainsAny(p.Name(), "/\\.") || p.Dim() < 1 {
			t.Errorf("opened %q of %d", p.Name(), p.Dim())
		}
		if c := p.Threshold(1000); !(c >= 0.5 && c <= 1) {
			t.Errorf("threshold of 1,000 faces is %g", c)
		}
		for d := 0.0; d <= 2; d += 0.25 {
			if c := p.Confidence(d); !(c >= 0 && c <= 1) {
				t.Errorf("confidence at %g is %g", d, c)
			}
		}
	})
}
