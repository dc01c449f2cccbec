package measure_test

import (
	"context"
	"errors"
	"testing"

	"github.com/visage-face/visage/gallery/measure"
)

func TestRunMeasuresEverything(t *testing.T) {
	var said []string
	got, err := measure.Run(t.Context(), measure.Config{
		Faces: 2_001, Dim: 24, Probes: 3, Rounds: 2, Progress: func(what string) { said = append(said, what) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if got.Faces != 2_001 || got.Dim != 24 || got.Probes != 3 || got.Kernel == "" || len(said) != 2 {
		t.Errorf("got %+v after %q", got, said)
	}
	for name, n := range map[string]float64{
		"bytes a face": got.BytesPerFace, "bandwidth": got.ReadBandwidth, "best": got.Best.Bandwidth(),
		"near": got.Near.Bandwidth(), "any": got.Any.Bandwidth(),
		"near together": got.NearAll.Seconds(), "any together": got.AnyAll.Seconds(), "int8": got.Int8.Seconds(),
		"float32": got.Float32.Seconds(),
	} {
		if n <= 0 {
			t.Errorf("%s: %g", name, n)
		}
	}
}

func TestRunRefusesAndStops(t *testing.T) {
	if _, err := measure.Run(t.Context(), measure.Config{Faces: -1}); err == nil {
		t.Error("a negative number of faces was measured")
	}
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(enough)
	if _, err := measure.Run(ctx, measure.Config{Faces: 100, Dim: 8}); !errors.Is(err, enough) {
		t.Errorf("got %v, want the cause", err)
	}
}
