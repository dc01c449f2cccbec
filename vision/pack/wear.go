package pack

import (
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strings"

	"github.com/visage-face/visage/vision/internal/onnx"
)

// Wear describes a network that sees what a face wears and what covers it.
type Wear struct {
	File string `json:"file"`
	// Output names the tensor with one number for each sign: the probability that it is present, 0 to 1.
	Output string `json:"output"`
	Input  Input  `json:"input"`
	// Alignment is where five points of the face are in the input, as for the recogniser.
	Alignment [5][2]float64 `json:"alignment"`
	// Signs are what the numbers stand for, in their order. Each sign belongs to one network of the pack.
	Signs []Sign `json:"signs"`
}

// Sign is a property that a network can see on a face.
type Sign string

// The signs.
const (
	SignGlasses          Sign = "glasses"    // of any kind, sunglasses too
	SignSunglasses       Sign = "sunglasses" // dark or mirroring lenses
	SignEyesOccluded     Sign = "eyesOccluded"
	SignMouthOccluded    Sign = "mouthOccluded"
	SignNoseOccluded     Sign = "noseOccluded"
	SignForeheadOccluded Sign = "foreheadOccluded"
	SignMask             Sign = "mask" // a medical or protective mask, even when it does not cover the nose
	SignHeadwear         Sign = "headwear"
)

var signs = []Sign{
	SignGlasses, SignSunglasses, SignEyesOccluded, SignMouthOccluded, SignNoseOccluded, SignForeheadOccluded, SignMask,
	SignHeadwear,
}

// checkWear checks the wear networks.
func checkWear(files map[string]bool, all []Wear) error {
	seen := map[Sign]bool{}
	for _, w := range all {
		if err := checkNetwork(files, w.File, w.Output, w.Input); err != nil {
			return err
		}
		if err := checkAlignment(w.Alignment); err != nil {
			return err
		}
		if len(w.Signs) == 0 {
			return errors.New("signs are missing")
		}
		for _, s := range w.Signs {
			if !slices.Contains(signs, s) {
				return fmt.Errorf("unknown sign %q; known are %v", s, signs)
			}
			if seen[s] {
				return fmt.Errorf("sign %q is listed twice", s)
			}
			seen[s] = true
		}
	}
	return nil
}

// withWear adds the wear networks. They were fitted for this project, see docs/models.md; their coefficients are in
// wear.bin.
func (r recipe) withWear() recipe {
	c := coefficients{left: wearCoefficients}
	c.heading()
	for _, w := range wearNetworks {
		file := w.build(&c)
		r.manifest.Wear = append(r.manifest.Wear, w.about)
		r = r.with(w.about.File, func(fs.FS, *Manifest) ([]byte, error) { return file, c.end() })
	}
	return r
}

// wearCoefficients begins with a line that describes the content. Then come the layers of the networks in the order of
// wearNetworks, each output for itself: scale and bias as 32-bit floats, and 8-bit weights that the scale multiplies,
// in the order input channel, row, column.
//
//go:embed wear.bin
var wearCoefficients []byte

const wearHeading = "visage wear 1\n"

// wearNetwork is a network of a few convolutions of 3 × 3 and two dense layers, all but the last with a ReLU.
type wearNetwork struct {
	about Wear
	convs []wearConv
	dense int // outputs of the first dense layer
}

type wearConv struct{ channels, stride int }

// wearNetworks look at two sections of the face: the eyes, large, and all of the head.
var wearNetworks = []wearNetwork{
	{
		about: Wear{
			File: "wear-eyes.onnx", Output: "signs", Input: wearInput(80, 40), Alignment: wearAlignment(39.5, 18, 37),
			Signs: []Sign{SignGlasses, SignSunglasses},
		},
		convs: []wearConv{{12, 2}, {24, 2}, {32, 1}, {40, 2}}, dense: 24,
	},
	{
		about: Wear{
			File: "wear-face.onnx", Output: "signs", Input: wearInput(64, 64), Alignment: wearAlignment(31.5, 28, 18),
			Signs: []Sign{SignMouthOccluded, SignNoseOccluded, SignMask, SignForeheadOccluded, SignHeadwear},
		},
		convs: []wearConv{{12, 2}, {24, 2}, {32, 2}, {48, 2}}, dense: 32,
	},
}

func wearInput(width, height int) Input {
	return Input{
		Name: "face", Width: width, Height: height, Channels: "RGB",
		Mean: [3]float64{127.5, 127.5, 127.5}, Divisor: [3]float64{127.5, 127.5, 127.5},
	}
}

// wearAlignment puts the middle of the eyes at x, y and the eyes so many pixels apart.
func wearAlignment(x, y, apart float64) [5][2]float64 {
	return [5][2]float64{
		{x - apart/2, y}, {x + apart/2, y}, {x, y + 0.62*apart}, {x - 0.42*apart, y + 1.12*apart},
		{x + 0.42*apart, y + 1.12*apart},
	}
}

// build returns the network's file. Input "face" (N, 3, height, width); output "signs" (N, signs).
func (w wearNetwork) build(c *coefficients) []byte {
	g := onnx.NewGraph(strings.TrimSuffix(w.about.File, ".onnx"))
	n, width, height := onnx.Dim{Name: "N"}, w.about.Input.Width, w.about.Input.Height
	x := g.Input(w.about.Input.Name, n, onnx.Dim{Size: 3}, onnx.Dim{Size: int64(height)}, onnx.Dim{Size: int64(width)})
	in := 3
	for _, l := range w.convs {
		weights, bias := c.layer(in*9, l.channels)
		x = g.Relu(g.Conv(x, onnx.Conv{
			Weights: weights, Shape: [4]int{l.channels, in, 3, 3}, Bias: bias, Stride: l.stride, Padding: onnx.SameEven,
			Groups: 1,
		}))
		in, width, height = l.channels, width/l.stride, height/l.stride
	}
	dense := func(x onnx.Value, in, out int) onnx.Value {
		weights, bias := c.layer(in, out)
		return g.Dense(x, transposed(weights, out, in), in, out, bias)
	}
	flat, signs := in*width*height, len(w.about.Signs)
	x = dense(g.Relu(dense(g.Flatten(x), flat, w.dense)), w.dense, signs)
	g.Output(g.Sigmoid(x), w.about.Output, n, onnx.Dim{Size: int64(signs)})
	return g.Marshal()
}

// transposed turns rows into columns.
func transposed(m []float32, rows, columns int) []float32 {
	t := make([]float32, len(m))
	for r := range rows {
		for c := range columns {
			t[c*rows+r] = m[r*columns+c]
		}
	}
	return t
}

// coefficients reads layers one after the other. Missing numbers are read as 0, and end reports them.
type coefficients struct {
	left  []byte
	short bool
}

func (c *coefficients) heading() {
	if rest, ok := strings.CutPrefix(string(c.left), wearHeading); ok {
		c.left = []byte(rest)
		return
	}
	c.short = true
}

// layer returns weights in the order output, input, and a bias for each output.
func (c *coefficients) layer(in, out int) (weights, bias []float32) {
	weights, bias = make([]float32, in*out), make([]float32, out)
	for o := range out {
		if len(c.left) < 8+in {
			c.short = true
			break
		}
		scale := math.Float32frombits(binary.LittleEndian.Uint32(c.left))
		bias[o] = math.Float32frombits(binary.LittleEndian.Uint32(c.left[4:]))
		for i, b := range c.left[8 : 8+in] {
			weights[o*in+i] = scale * float32(int8(b))
		}
		c.left = c.left[8+in:]
	}
	return weights, bias
}

// end reports coefficients that do not match those of the networks.
func (c *coefficients) end() error {
	if c.short || len(c.left) != 0 {
		return errors.New("the embedded coefficients do not fit these networks")
	}
	return nil
}
