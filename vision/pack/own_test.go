package pack_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/visage-face/visage/vision/pack"
)

// packFolder makes a folder with a pack.
func packFolder(t *testing.T, m map[string]any) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "some")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{pack.ManifestName: encode(t, m), "net.onnx": network} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func mustOpen(t *testing.T, dir string) *pack.Pack {
	t.Helper()
	p, err := pack.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestOwnCalibrationGoesBeforeTheMakers(t *testing.T) {
	dir := packFolder(t, manifest(network))
	maker := mustOpen(t, dir)
	if maker.Own() != "" {
		t.Errorf("uses %s, which does not exist", maker.Own())
	}
	c := mustOpen(t, packFolder(t, counted(t))).Manifest().Calibration
	if err := c.Write(pack.OwnCalibration(dir)); err != nil {
		t.Fatal(err)
	}
	own := mustOpen(t, dir)
	if own.Own() != pack.OwnCalibration(dir) || own.Confidence(0.3) == maker.Confidence(0.3) ||
		own.Confidence(0.3) != c.Confidence(0.3) {
		t.Errorf("at 0.3: %g by %q, the maker's %g, the operator's %g", own.Confidence(0.3), own.Own(),
			maker.Confidence(0.3),
			c.Confidence(0.3))
	}
	if err := os.Remove(pack.OwnCalibration(dir)); err != nil {
		t.Fatal(err)
	}
	if back := mustOpen(t, dir); back.Confidence(0.3) != maker.Confidence(0.3) {
		t.Error("the pack does not return to the manifest's calibration")
	}
}

func TestOwnCalibrationThatDoesNotFit(t *testing.T) {
	for name, c := range map[string]struct{ file, want string }{
		"another network": {
			strings.Replace(string(encode(t, counted(t)["calibration"])), sum(network), sum([]byte("x")), 1),
			"measured with the recogniser"},
		"no network": {strings.Replace(string(encode(t, counted(t)["calibration"])), sum(network), "", 1),
			"its field recogniser is missing"},
		"an impossible distance at 0.5": {
			strings.Replace(string(encode(t, counted(t)["calibration"])), "{",
				`{"half":{"distance":-5,"falseAccepts":0},`, 1),
			"half: the distance is not between 0 and 2"},
		"an impossible rate at 0.5": {
			strings.Replace(string(encode(t, counted(t)["calibration"])), "{", `{"groups":[{"name":"some","rates":[],`+
				`"half":{"distance":0.4,"falseAccepts":0,"high":7}}],`, 1),
			`group "some": half: a count is negative, or a rate`},
		"no JSON":          {"oops", "invalid character"},
		"an unknown field": {`{"colour":"red"}`, "unknown field"},
		"more after it":    {string(encode(t, counted(t)["calibration"])) + "{}", "something follows"},
		"nothing in it":    {"{}", "method is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := packFolder(t, manifest(network))
			if err := os.WriteFile(pack.OwnCalibration(dir), []byte(c.file), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := pack.Open(dir)
			if err == nil || !strings.Contains(err.Error(), c.want) ||
				!strings.Contains(err.Error(), "remove the file") {
				t.Errorf("got %v, want %q and what to do", err, c.want)
			}
			if _, err := pack.OpenToCalibrate(dir); err != nil {
				t.Errorf("cannot be calibrated anew: %v", err)
			}
		})
	}
}

func TestPackWithoutCalibration(t *testing.T) {
	m := manifest(network)
	delete(m, "calibration")
	dir := packFolder(t, m)
	if _, err := pack.Open(dir); !errors.Is(err, pack.ErrUncalibrated) {
		t.Errorf("got %v, want ErrUncalibrated", err)
	}
	p, err := pack.OpenToCalibrate(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Confidence(0.1); got != 0 {
		t.Errorf("confidence %g of a distance that is not a number", got)
	}
	c := mustOpen(t, packFolder(t, counted(t))).Manifest().Calibration
	if err := c.Write(pack.OwnCalibration(dir)); err != nil {
		t.Fatal(err)
	}
	if got := mustOpen(t, dir).Confidence(0.4); got != 0.5 {
		t.Errorf("confidence %g at 0.4 once calibrated, want 0.5", got)
	}
}

func TestFalseAcceptsBetweenRows(t *testing.T) {
	c := mustOpen(t, packFolder(t, counted(t))).Manifest().Calibration
	for distance, want := range map[float64]float64{0.01: 1e-6, 0.2: 1e-6, 0.3: 1e-5, 0.5: 1e-3, 1.5: 0.5} {
		if got := c.FalseAccepts(distance); got < want*0.999 || got > want*1.001 {
			t.Errorf("at %g: %g, want %g", distance, got, want)
		}
	}
	if got := c.FalseAccepts(0.35); got <= 1e-5 || got >= 1e-4 {
		t.Errorf("between 1e-5 and 1e-4: %g", got)
	}
}
