package pack

import (
	"fmt"
	"math"

	"github.com/visage-face/visage/vision/internal/onnx"
	"github.com/visage-face/visage/vision/internal/weights"
)

// The three networks of face-api as ONNX graphs: what its layers compute, with scale and batch-normalisation layers
// folded into the convolutions before them. The folding is done in double precision and rounded once.

// builder adds face-api's layers to a graph. The first missing or misshapen tensor is kept in err; later layers are
// built from zeros and discarded.
type builder struct {
	*onnx.Graph
	set weights.Set
	err error
}

// tensor returns the named tensor, which must have the given shape.
func (b *builder) tensor(name string, shape ...int) []float32 {
	t, ok := b.set[name]
	n := 1
	same := len(t.Shape) == len(shape)
	for i, d := range shape {
		n *= d
		same = same && t.Shape[i] == d
	}
	if !ok || !same {
		if b.err == nil {
			b.err = fmt.Errorf("tensor %q: want shape %v, have %v", name, shape, t.Shape)
		}
		return make([]float32, n)
	}
	return t.Data
}

// filters turns weights from row, column, input, output into output, input, row, column, each output multiplied by its
// scale (nil: 1).
func filters(w []float32, size, in, out int, scale []float64) []float32 {
	turned := make([]float32, len(w))
	for o := range out {
		for i := range in {
			for k := range size * size {
				v := float64(w[(k*in+i)*out+o])
				if scale != nil {
					v *= scale[o]
				}
				turned[(o*in+i)*size*size+k] = float32(v)
			}
		}
	}
	return turned
}

// conv adds an ordinary convolution with a bias.
func (b *builder) conv(x onnx.Value, weight, bias string, size, in, out, stride int) onnx.Value {
	return b.Conv(x, onnx.Conv{
		Weights: filters(b.tensor(weight, size, size, in, out), size, in, out, nil),
		Shape:   [4]int{out, in, size, size},
		Bias:    b.tensor(bias, out),
		Stride:  stride, Padding: onnx.SameEven, Groups: 1,
	})
}

// depthwise adds a 3×3 convolution of each channel by itself, scaled and shifted.
func (b *builder) depthwise(
	x onnx.Value, weight string, channels, stride int, scale []float64, bias []float32,
) onnx.Value {
	// Row, column, channel, 1 is the order filters expects of one input and as many outputs as there are channels.
	return b.Conv(x, onnx.Conv{
		Weights: filters(b.tensor(weight, 3, 3, channels, 1), 3, 1, channels, scale),
		Shape:   [4]int{channels, 1, 3, 3},
		Bias:    bias,
		Stride:  stride, Padding: onnx.SameEven, Groups: channels,
	})
}

// batchNormEpsilon is added to the variance by the detector's normalisation layers.
const batchNormEpsilon = 0.0010000000474974513

// detectorLevels are the detector's grids, finest first, for an input of detectorSize: cells a side, channels, boxes a
// cell.
var detectorLevels = [6]struct{ grid, channels, boxes int }{
	{32, 512, 3}, {16, 1024, 6}, {8, 512, 6}, {4, 256, 6}, {2, 256, 6}, {1, 128, 6},
}

// detectorSize is the side of the square that the detector was trained on, in pixels.
const detectorSize = 512

// buildDetector returns the SSD MobileNet v1 face detector. Input "image" (N, 3, H, W); outputs "boxes" (N, boxes, 4),
// offsets from the anchors, and "scores" (N, boxes), 0 to 1. H and W may be any: the network has no dense layer.
func buildDetector(set weights.Set) ([]byte, error) {
	b := &builder{Graph: onnx.NewGraph("ssd_mobilenet_v1"), set: set}
	n, h, w := onnx.Dim{Name: "N"}, onnx.Dim{Name: "H"}, onnx.Dim{Name: "W"}
	x := b.Input("image", n, onnx.Dim{Size: 3}, h, w)

	pointwise := func(x onnx.Value, scope string, layer, size, in, out, stride int) onnx.Value {
		p := fmt.Sprintf("%s/Conv2d_%d_pointwise/", scope, layer)
		return b.Clip(b.conv(x, p+"weights", p+"convolution_bn_offset", size, in, out, stride), 0, 6)
	}
	normalised := func(x onnx.Value, layer, channels, stride int) onnx.Value {
		p := fmt.Sprintf("MobilenetV1/Conv2d_%d_depthwise/", layer)
		scale, bias := b.batchNorm(p+"BatchNorm/", channels)
		return b.Clip(b.depthwise(x, p+"depthwise_weights", channels, stride, scale, bias), 0, 6)
	}

	channels := [...]int{32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024}
	halves := map[int]bool{2: true, 4: true, 6: true, 12: true}
	x = pointwise(x, "MobilenetV1", 0, 3, 3, channels[0], 2)
	var levels [6]onnx.Value
	for layer := 1; layer <= 13; layer++ {
		stride := 1
		if halves[layer] {
			stride = 2
		}
		x = normalised(x, layer, channels[layer-1], stride)
		x = pointwise(x, "MobilenetV1", layer, 1, channels[layer-1], channels[layer], 1)
		if layer == 11 {
			levels[0] = x
		}
	}
	levels[1] = x
	for i, c := range [4][2]int{{256, 512}, {128, 256}, {128, 256}, {64, 128}} {
		x = pointwise(x, "Prediction", 2*i, 1, detectorLevels[i+1].channels, c[0], 1)
		x = pointwise(x, "Prediction", 2*i+1, 3, c[0], c[1], 2)
		levels[i+2] = x
	}

	var boxes, scores []onnx.Value
	for i, l := range detectorLevels {
		p := fmt.Sprintf("Prediction/BoxPredictor_%d/", i)
		encoding := p + "BoxEncodingPredictor/"
		box := b.conv(levels[i], encoding+"weights", encoding+"biases", 1, l.channels, 4*l.boxes, 1)
		boxes = append(boxes, b.Reshape(b.ChannelsLast(box), 0, -1, 4))
		score := b.faceScores(levels[i], p+"ClassPredictor/", l.channels, l.boxes)
		scores = append(scores, b.Reshape(b.ChannelsLast(score), 0, -1))
	}
	b.Output(b.Concat(1, boxes...), "boxes", n, onnx.Dim{Name: "B"}, onnx.Dim{Size: 4})
	b.Output(b.Sigmoid(b.Concat(1, scores...)), "scores", n, onnx.Dim{Name: "B"})
	return b.Marshal(), b.err
}

// batchNorm returns the factor and the offset for each channel to which the normalisation layer is equal.
func (b *builder) batchNorm(prefix string, channels int) (scale []float64, bias []float32) {
	gamma, beta := b.tensor(prefix+"gamma", channels), b.tensor(prefix+"beta", channels)
	mean, variance := b.tensor(prefix+"moving_mean", channels), b.tensor(prefix+"moving_variance", channels)
	scale, bias = make([]float64, channels), make([]float32, channels)
	for c := range channels {
		scale[c] = float64(gamma[c]) / math.Sqrt(float64(variance[c])+batchNormEpsilon)
		bias[c] = float32(float64(beta[c]) - float64(float64(mean[c])*scale[c]))
	}
	return scale, bias
}

// faceScores adds the class predictor of one level. It has three classes (none, face, and one that is never used); only
// the output channels of face are kept, so that nothing unused is computed.
func (b *builder) faceScores(x onnx.Value, prefix string, in, boxes int) onnx.Value {
	const classes, face = 3, 1
	weight := b.tensor(prefix+"weights", 1, 1, in, classes*boxes)
	bias := b.tensor(prefix+"biases", classes*boxes)
	kept := onnx.Conv{
		Weights: make([]float32, boxes*in), Shape: [4]int{boxes, in, 1, 1}, Bias: make([]float32, boxes),
		Stride: 1, Padding: onnx.SameEven, Groups: 1,
	}
	for o := range boxes {
		kept.Bias[o] = bias[o*classes+face]
		for i := range in {
			kept.Weights[o*in+i] = weight[i*classes*boxes+o*classes+face]
		}
	}
	return b.Conv(x, kept)
}

// anchors returns the detector's reference boxes: for each level the height and width of its boxes in pixels of the
// network's input. The weights carry them one by one; that they repeat in every cell is checked.
func anchors(set weights.Set) ([]Level, error) {
	const total = 5118
	t, ok := set["Output/extra_dim"]
	if !ok || len(t.Data) != 4*total {
		return nil, fmt.Errorf("tensor %q: want %d anchors, have shape %v", "Output/extra_dim", total, t.Shape)
	}
	at := 0
	next := func() (top, left, bottom, right float64) {
		d := t.Data[4*at:]
		at++
		return float64(d[0]), float64(d[1]), float64(d[2]), float64(d[3])
	}
	var levels []Level
	for _, l := range detectorLevels {
		level := Level{Stride: detectorSize / l.grid, Sizes: make([][2]float64, l.boxes)}
		for cell := range l.grid * l.grid {
			cy, cx := (float64(cell/l.grid)+0.5)/float64(l.grid), (float64(cell%l.grid)+0.5)/float64(l.grid)
			for k := range l.boxes {
				top, left, bottom, right := next()
				size := [2]float64{bottom - top, right - left}
				if cell == 0 {
					// A thousandth of a pixel is far below what a box is worth, and keeps the manifest readable.
					level.Sizes[k] = [2]float64{thousandths(size[0] * detectorSize),
						thousandths(size[1] * detectorSize)}
				}
				const near = 1e-5
				if math.Abs(size[0]-level.Sizes[k][0]/detectorSize) > near ||
					math.Abs(size[1]-level.Sizes[k][1]/detectorSize) > near ||
					math.Abs((top+bottom)/2-cy) > near || math.Abs((left+right)/2-cx) > near {
					return nil, fmt.Errorf("anchor %d does not lie on its grid", at-1)
				}
			}
		}
		levels = append(levels, level)
	}
	return levels, nil
}

func thousandths(x float64) float64 { return math.Round(x*1000) / 1000 }

// buildLandmarks returns the network for 68 points. Input "face" (N, 3, 112, 112); output "points" (N, 136): x and y in
// turn, from 0 to 1 over the input.
func buildLandmarks(set weights.Set) ([]byte, error) {
	b := &builder{Graph: onnx.NewGraph("face_landmark_68"), set: set}
	n, side := onnx.Dim{Name: "N"}, onnx.Dim{Size: landmarkSize}
	x := b.Input("face", n, onnx.Dim{Size: 3}, side, side)

	separable := func(x onnx.Value, p string, in, out, stride int) onnx.Value {
		x = b.depthwise(x, p+"depthwise_filter", in, stride, nil, make([]float32, in))
		return b.conv(x, p+"pointwise_filter", p+"bias", 1, in, out, 1)
	}
	channels := [...]int{3, 32, 64, 128, 256}
	for i := range 4 {
		p := fmt.Sprintf("dense%d/", i)
		in, out := channels[i], channels[i+1]
		var sum onnx.Value
		if i == 0 {
			sum = b.Relu(b.conv(x, p+"conv0/filters", p+"conv0/bias", 3, in, out, 2))
		} else {
			sum = b.Relu(separable(x, p+"conv0/", in, out, 2))
		}
		// Each layer sees the sum of all before it, and the block gives the sum of all.
		x = sum
		for j := 1; j <= 3; j++ {
			sum = b.Add(sum, separable(x, fmt.Sprintf("%sconv%d/", p, j), out, out, 1))
			x = b.Relu(sum)
		}
	}
	x = b.Flatten(b.GlobalAveragePool(x))
	x = b.Dense(x, b.tensor("fc/weights", 256, 136), 256, 136, b.tensor("fc/bias", 136))
	b.Output(x, "points", n, onnx.Dim{Size: 136})
	return b.Marshal(), b.err
}

// landmarkSize and recogniserSize are the sides of the networks' square inputs in pixels.
const (
	landmarkSize   = 112
	recogniserSize = 150
)

// buildRecogniser returns the network that turns an aligned face into 128 numbers. Input "face" (N, 3, 150, 150);
// output "template" (N, 128), not of unit length.
func buildRecogniser(set weights.Set) ([]byte, error) {
	b := &builder{Graph: onnx.NewGraph("face_recognition"), set: set}
	n, side := onnx.Dim{Name: "N"}, onnx.Dim{Size: recogniserSize}
	x := b.Input("face", n, onnx.Dim{Size: 3}, side, side)

	scaled := func(x onnx.Value, p string, size, in, out, stride int) onnx.Value {
		weight, bias := b.tensor(p+"/conv/filters", size, size, in, out), b.tensor(p+"/conv/bias", out)
		factor, offset := b.tensor(p+"/scale/weights", out), b.tensor(p+"/scale/biases", out)
		scale, shift := make([]float64, out), make([]float32, out)
		for o := range out {
			scale[o] = float64(factor[o])
			shift[o] = float32(float64(float64(bias[o])*scale[o]) + float64(offset[o]))
		}
		padding := onnx.SameEven
		if stride > 1 {
			padding = onnx.Valid
		}
		return b.Conv(x, onnx.Conv{
			Weights: filters(weight, size, in, out, scale), Shape: [4]int{out, in, size, size}, Bias: shift,
			Stride: stride, Padding: padding, Groups: 1,
		})
	}

	x = b.Relu(scaled(x, "conv32_down", 7, 3, 32, 2))
	x = b.MaxPool(x, 3, 2, onnx.Valid)
	rows := 35 // (150-7)/2+1 = 72, then (72-3)/2+1 = 35
	in := 32
	for _, block := range [...]struct {
		name     string
		channels int
		down     bool
	}{
		{"conv32_1", 32, false}, {"conv32_2", 32, false}, {"conv32_3", 32, false},
		{"conv64_down", 64, true}, {"conv64_1", 64, false}, {"conv64_2", 64, false}, {"conv64_3", 64, false},
		{"conv128_down", 128, true}, {"conv128_1", 128, false}, {"conv128_2", 128, false},
		{"conv256_down", 256, true}, {"conv256_1", 256, false}, {"conv256_2", 256, false},
		{"conv256_down_out", 256, true},
	} {
		out, short, stride := block.channels, x, 1
		if block.down {
			stride = 2
		}
		y := b.Relu(scaled(x, block.name+"/conv1", 3, in, out, stride))
		y = scaled(y, block.name+"/conv2", 3, out, out, 1)
		if block.down {
			short = b.AveragePool(x, 2, 2)
			if out > in {
				short = b.PadEnd(short, out-in, 0, 0)
			}
			// The two ways round differently when they halve an even number of rows.
			if pooled, made := rows/2, (rows-3)/2+1; pooled > made {
				y = b.PadEnd(y, 0, pooled-made, pooled-made)
			}
			rows /= 2
		}
		x = b.Relu(b.Add(short, y))
		in = out
	}
	x = b.Flatten(b.GlobalAveragePool(x))
	x = b.Dense(x, b.tensor("fc", 256, 128), 256, 128, nil)
	b.Output(x, "template", n, onnx.Dim{Size: 128})
	return b.Marshal(), b.err
}
