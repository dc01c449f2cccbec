package tflite

import (
	"fmt"

	"github.com/visage-face/visage/vision/internal/onnx"
)

// window returns how a convolution or a pooling moves over its input.
func (o options) window() (stride int, padding onnx.Padding, err error) {
	if o.strides[0] < 1 || o.strides[0] > 16 || o.strides[0] != o.strides[1] {
		return 0, 0, fmt.Errorf("strides of %v: %w", o.strides, ErrUnsupported)
	}
	if o.valid {
		return o.strides[0], onnx.Valid, nil
	}
	return o.strides[0], onnx.SameUpper, nil
}

// activation adds the function that an operator of the file applies to its own output.
func (c *converter) activation(v onnx.Value, kind int8) (onnx.Value, error) {
	switch kind {
	case 0:
		return v, nil
	case 1:
		return c.Relu(v), nil
	}
	return "", fmt.Errorf("activation %d: %w", kind, ErrUnsupported)
}

// conv adds CONV_2D, with weights in the order output, row, column, input, or DEPTHWISE_CONV_2D, with weights in the
// order 1, row, column, channel.
func (c *converter) conv(op operator) (onnx.Value, error) {
	ts, err := c.operands(op, 3)
	if err != nil {
		return "", err
	}
	in, shape := ts[0].shape, ts[1].shape
	if len(in) != 4 || len(shape) != 4 {
		return "", fmt.Errorf("%w: convolution of shape %v by %v", ErrMalformed, in, shape)
	}
	stride, padding, err := op.options.window()
	if err != nil {
		return "", err
	}
	rows, columns, perGroup, out, groups := shape[1], shape[2], shape[3], shape[0], 1
	if op.code == opDepthwiseConv {
		perGroup, out, groups = 1, shape[3], shape[3]
		if shape[0] != 1 {
			return "", fmt.Errorf("%w: depthwise convolution by shape %v", ErrMalformed, shape)
		}
	}
	if perGroup*groups != in[3] {
		return "", fmt.Errorf("convolution of %d channels by shape %v: %w", in[3], shape, ErrUnsupported)
	}
	if op.options.dilations != [2]int{1, 1} {
		return "", fmt.Errorf("dilations of %v: %w", op.options.dilations, ErrUnsupported)
	}
	if made := c.tensors[op.outputs[0]].shape; len(made) != 4 || made[3] != out {
		return "", fmt.Errorf("%w: convolution by shape %v gives shape %v", ErrMalformed, shape, made)
	}
	weights, err := c.constant(op.inputs[1], shape...)
	if err != nil {
		return "", err
	}
	bias, err := c.constant(op.inputs[2], out)
	if err != nil {
		return "", err
	}

	turned := make([]float32, 0, len(weights))
	at := func(o, r, k, i int) float32 {
		if c.opts.Transposed {
			r, k = k, r
		}
		if groups > 1 {
			return weights[(r*columns+k)*out+o]
		}
		return weights[((o*rows+r)*columns+k)*perGroup+i]
	}
	if c.opts.Transposed && rows != columns {
		return "", fmt.Errorf("transposed kernel of %d × %d: %w", rows, columns, ErrUnsupported)
	}
	for o := range out {
		for i := range perGroup {
			for r := range rows {
				for k := range columns {
					turned = append(turned, at(o, r, k, i))
				}
			}
		}
	}
	x, err := c.value(op.inputs[0])
	if err != nil {
		return "", err
	}
	return c.activation(c.Conv(x, onnx.Conv{
		Weights: turned, Shape: [4]int{out, perGroup, rows, columns}, Bias: bias,
		Stride: stride, Padding: padding, Groups: groups,
	}), op.options.activation)
}

// maxPool adds MAX_POOL_2D.
func (c *converter) maxPool(op operator) (onnx.Value, error) {
	stride, padding, err := op.options.window()
	if err != nil {
		return "", err
	}
	size := op.options.size
	if size[0] != size[1] || size[0] < 1 || size[0] > 16 {
		return "", fmt.Errorf("pooling over %v: %w", size, ErrUnsupported)
	}
	x, err := c.spatial(op)
	if err != nil {
		return "", err
	}
	return c.activation(c.MaxPool(x, size[0], stride, padding), op.options.activation)
}

// spatial returns the first input of an operator, which must have rows and columns.
func (c *converter) spatial(op operator) (onnx.Value, error) {
	ts, err := c.operands(op, 1)
	if err != nil {
		return "", err
	}
	if len(ts[0].shape) != 4 {
		return "", fmt.Errorf("%w: operator %d of shape %v", ErrMalformed, op.code, ts[0].shape)
	}
	return c.value(op.inputs[0])
}

// dense adds FULLY_CONNECTED, with weights in the order output, input. It reads rows, columns and channels in this
// order; its weights are rearranged to the order of the graph: channels, rows, columns.
func (c *converter) dense(op operator) (onnx.Value, error) {
	ts, err := c.operands(op, 2)
	if err != nil {
		return "", err
	}
	shape := ts[1].shape
	rows, columns, channels := 1, 1, 0
	switch in := ts[0].shape; len(in) {
	case 2:
		channels = in[1]
	case 4:
		rows, columns, channels = in[1], in[2], in[3]
	}
	if len(shape) != 2 || shape[1] != rows*columns*channels {
		return "", fmt.Errorf("%w: dense layer of shape %v by %v", ErrMalformed, ts[0].shape, shape)
	}
	if rows*columns > 1 && c.opts.FreeSize {
		return "", fmt.Errorf("dense layer over pictures of any size: %w", ErrUnsupported)
	}
	out, in := shape[0], shape[1]
	weights, err := c.constant(op.inputs[1], shape...)
	if err != nil {
		return "", err
	}
	var bias []float32
	if len(op.inputs) > 2 && op.inputs[2] >= 0 {
		if bias, err = c.constant(op.inputs[2], out); err != nil {
			return "", err
		}
	}
	turned := make([]float32, len(weights))
	for r := range rows {
		for k := range columns {
			for ch := range channels {
				to := (ch*rows+r)*columns + k
				if c.opts.Transposed {
					to = (ch*columns+k)*rows + r
				}
				for o := range out {
					turned[to*out+o] = weights[o*in+(r*columns+k)*channels+ch]
				}
			}
		}
	}
	x, err := c.value(op.inputs[0])
	if err != nil {
		return "", err
	}
	if len(ts[0].shape) == 4 {
		x = c.Flatten(x)
	}
	return c.activation(c.Dense(x, turned, in, out, bias), op.options.activation)
}

// reshape adds RESHAPE of one pixel to its channels.
func (c *converter) reshape(op operator) (onnx.Value, error) {
	ts, err := c.operands(op, 1)
	if err != nil {
		return "", err
	}
	from, to := ts[0].shape, c.tensors[op.outputs[0]].shape
	if product(from) != product(to) {
		return "", fmt.Errorf("%w: shape %v cannot become %v", ErrMalformed, from, to)
	}
	// Several pixels have their numbers in another order in the graph.
	if len(from) != 4 || from[1]*from[2] != 1 || len(to) != 2 || from[0] != to[0] {
		return "", fmt.Errorf("change of shape from %v to %v: %w", from, to, ErrUnsupported)
	}
	x, err := c.value(op.inputs[0])
	if err != nil {
		return "", err
	}
	return c.Flatten(x), nil
}

func product(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

// softmax adds SOFTMAX, or the quotient that other files have in its place: e^(x-max) over its sum along the channels.
func (c *converter) softmax(op operator) (onnx.Value, error) {
	x := -1
	switch {
	case op.code == opSoftmax && len(op.inputs) == 1 && op.options.beta == 1:
		x = op.inputs[0]
	case op.code == opDiv && len(op.inputs) == 2:
		exp, sum := c.producers[op.inputs[0]], c.producers[op.inputs[1]]
		if exp.code != opExp || len(exp.inputs) != 1 || !c.reduces(sum, opSum, op.inputs[0]) {
			break
		}
		if sub := c.producers[exp.inputs[0]]; sub.code == opSub && len(sub.inputs) == 2 &&
			c.reduces(c.producers[sub.inputs[1]], opReduceMax, sub.inputs[0]) {
			x = sub.inputs[0]
		}
	}
	if x < 0 {
		return "", fmt.Errorf("quotient or softmax of another kind: %w", ErrUnsupported)
	}
	v, err := c.value(x)
	if err != nil {
		return "", err
	}
	switch axis := len(c.tensors[x].shape) - 1; axis {
	case 1, 2:
		return c.Softmax(v, axis), nil
	case 3:
		return c.Softmax(v, 1), nil
	}
	return "", fmt.Errorf("softmax of shape %v: %w", c.tensors[x].shape, ErrUnsupported)
}

// reduces reports whether an operator reduces a tensor along its channels and keeps the dimension.
func (c *converter) reduces(op operator, code, tensor int) bool {
	if op.code != code || len(op.inputs) != 2 || op.inputs[0] != tensor || tensor < 0 || op.inputs[1] < 0 ||
		!op.options.keepDimensions {
		return false
	}
	axes, err := c.tensors[op.inputs[1]].integers()
	last := len(c.tensors[tensor].shape) - 1
	return err == nil && len(axes) == 1 && (axes[0] == -1 || axes[0] == last) && last >= 1
}
