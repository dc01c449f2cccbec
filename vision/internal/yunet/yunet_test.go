package yunet_test

import (
	"math"
	"testing"

	"github.com/visage-face/visage/vision/internal/geometry"
	"github.com/visage-face/visage/vision/internal/yunet"
)

// tensors are the outputs for an input of 64 × 96 pixels, in which nothing is a face.
func tensors() [][]float32 {
	var out [][]float32
	for _, s := range []int{8, 16, 32} {
		cells := (64 / s) * (96 / s)
		for _, n := range []int{1, 1, 4, 10} {
			out = append(out, make([]float32, n*cells))
		}
	}
	return out
}

func TestOutputsAreInDecodesOrder(t *testing.T) {
	names := yunet.Outputs()
	if len(names) != len(tensors()) ||
		names[0] != "cls_8" || names[5] != "obj_16" || names[10] != "bbox_32" || names[11] != "kps_32" {
		t.Errorf("outputs are %v", names)
	}
}

func TestDecodePlacesAFace(t *testing.T) {
	// Stride, cell by column and row, and what comes of it.
	for i, c := range []struct{ stride, column, row int }{{8, 5, 7}, {16, 1, 4}, {32, 1, 2}} {
		out := tensors()
		cell := c.row*(64/c.stride) + c.column
		out[4*i][cell], out[4*i+1][cell] = 0.81, 1.25 // a certainty above 1 counts as 1
		copy(out[4*i+2][4*cell:], []float32{0.5, -0.25, float32(math.Log(2)), float32(math.Log(3))})
		for j := range 10 {
			out[4*i+3][10*cell+j] = float32(j) / 8
		}
		faces, err := yunet.Decode(out, 64, 96, 0.6)
		if err != nil || len(faces) != 1 {
			t.Fatalf("stride %d: %d faces (%v), want 1", c.stride, len(faces), err)
		}
		s, x, y := float64(c.stride), float64(c.column*c.stride), float64(c.row*c.stride)
		want := yunet.Face{Box: yunet.Box{Left: x - s/2, Top: y - 1.75*s, Right: x + 1.5*s, Bottom: y + 1.25*s},
			Score: 0.9}
		for j := range want.Points {
			want.Points[j] = geometry.Point{X: x + float64(2*j)/8*s, Y: y + float64(2*j+1)/8*s}
		}
		got := faces[0]
		if off := max(math.Abs(got.Left-want.Left), math.Abs(got.Top-want.Top), math.Abs(got.Right-want.Right),
			math.Abs(got.Bottom-want.Bottom), math.Abs(got.Score-want.Score)); off > 1e-5 || got.Points != want.Points {
			t.Errorf("stride %d: face is %+v, want %+v", c.stride, got, want)
		}
	}
}

func TestDecodeHonoursMinScore(t *testing.T) {
	out := tensors()
	for i, v := range []float32{0, -1, 0.3, 0.64, float32(math.NaN()), 1} {
		out[0][i], out[1][i] = v, 1
	}
	for _, c := range []struct {
		least float64
		want  int
	}{{0.5, 3}, {0.79, 2}, {0.81, 1}, {1, 1}, {1.01, 0}} {
		if faces, err := yunet.Decode(out, 64, 96, c.least); err != nil || len(faces) != c.want {
			t.Errorf("least score %v: %d faces (%v), want %d", c.least, len(faces), err, c.want)
		}
	}
}

func TestDecodeRefusesWhatDoesNotFit(t *testing.T) {
	short := tensors()
	short[6] = short[6][1:]
	broken := tensors()
	broken[0][0], broken[1][0], broken[2][2] = 1, 1, 1e6 // e^1000000 pixels wide
	lost := tensors()
	lost[0][0], lost[1][0], lost[3][9] = 1, 1, float32(math.NaN())
	for name, c := range map[string]struct {
		out           [][]float32
		width, height int
	}{
		"short output":    {short, 64, 96},
		"other size":      {tensors(), 96, 96},
		"uneven size":     {tensors(), 60, 96},
		"no size":         {tensors(), 0, 0},
		"missing outputs": {tensors()[:9], 64, 96},
		"no outputs":      {nil, 64, 96},
		"endless box":     {broken, 64, 96},
		"point nowhere":   {lost, 64, 96},
	} {
		if faces, err := yunet.Decode(c.out, c.width, c.height, 0.5); err == nil || faces != nil {
			t.Errorf("%s: %d faces, want an error", name, len(faces))
		}
	}
}
