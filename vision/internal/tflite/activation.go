package tflite

import (
	"fmt"
	"slices"

	"github.com/visage-face/visage/vision/internal/onnx"
)

// value is a tensor as a function of a value in the graph: of every number x of channel c it is above[c]·x where x is
// positive and below[c]·x elsewhere. Such functions are what files write PReLU with, in several ways: as
// relu(x) + a·(x−|x|), whose slope is 2a, or as relu(x) + a·(−relu(−x)), whose slope is a. They are put together here,
// and only the result becomes a node.
type value struct {
	of onnx.Value
	// above and below have a number a channel, or one for all.
	above, below []float32
}

// whole is a value of the graph itself.
func whole(v onnx.Value) value { return value{of: v, above: []float32{1}, below: []float32{1}} }

// node adds the function to the graph. rank is the number of the tensor's dimensions.
func (v value) node(c *converter, rank int) (onnx.Value, error) {
	are := func(slopes []float32, want float32) bool {
		return !slices.ContainsFunc(slopes, func(s float32) bool { return s != want })
	}
	switch {
	case !are(v.above, 1) || rank < 2 || rank > 4:
		return "", fmt.Errorf("activation that is no PReLU: %w", ErrUnsupported)
	case are(v.below, 1):
		return v.of, nil
	case are(v.below, 0):
		return c.Relu(v.of), nil
	}
	if rank == 3 {
		return "", fmt.Errorf("PReLU without rows and columns: %w", ErrUnsupported)
	}
	return c.PRelu(v.of, v.below, rank), nil
}

// arithmetic adds RELU, NEG, ABS, MUL by a constant for each channel, SUB and ADD: as a part of an activation where
// that is possible, and ADD else.
func (c *converter) arithmetic(op operator) (value, error) {
	binary := op.code == opMul || op.code == opSub || op.code == opAdd
	least := 1
	if binary {
		least = 2
	}
	ts, err := c.operands(op, least)
	if err != nil {
		return value{}, err
	}
	if binary && op.options.activation != 0 {
		return value{}, fmt.Errorf("sum or product with an activation: %w", ErrUnsupported)
	}
	shape := c.tensors[op.outputs[0]].shape
	if op.code == opMul {
		return c.scaled(op, ts)
	}
	for _, t := range ts[:least] {
		if !slices.Equal(t.shape, shape) {
			return value{}, fmt.Errorf("operator %d on shapes %v and %v: %w", op.code, t.shape, shape, ErrUnsupported)
		}
	}
	a, err := c.partialValue(op.inputs[0])
	if err != nil {
		return value{}, err
	}
	switch op.code {
	case opRelu:
		// Below zero a positive slope gives negative numbers.
		return a.each(func(s float32) float32 { return max(s, 0) }, func(s float32) float32 { return min(s, 0) }), nil
	case opNeg:
		return a.each(func(s float32) float32 { return -s }, func(s float32) float32 { return -s }), nil
	case opAbs:
		return a.each(func(s float32) float32 { return max(s, -s) }, func(s float32) float32 { return min(s, -s) }), nil
	}
	b, err := c.partialValue(op.inputs[1])
	if err != nil {
		return value{}, err
	}
	if a.of == b.of {
		combine := func(x, y float32) float32 { return x + y }
		if op.code == opSub {
			combine = func(x, y float32) float32 { return x - y }
		}
		return value{of: a.of, above: pairwise(a.above, b.above, combine), below: pairwise(a.below, b.below, combine)},
			nil
	}
	if op.code == opSub {
		return value{}, fmt.Errorf("difference of two values: %w", ErrUnsupported)
	}
	x, err := c.value(op.inputs[0])
	if err != nil {
		return value{}, err
	}
	y, err := c.value(op.inputs[1])
	if err != nil {
		return value{}, err
	}
	return whole(c.Add(x, y)), nil
}

// scaled is MUL of a value by a constant for each channel, in either order.
func (c *converter) scaled(op operator, ts []tensor) (value, error) {
	x, by := 0, 1
	if ts[0].data != nil {
		x, by = 1, 0
	}
	shape := ts[x].shape
	if len(shape) < 2 || !slices.Equal(shape, c.tensors[op.outputs[0]].shape) {
		return value{}, fmt.Errorf("product of shapes %v and %v: %w", shape, ts[by].shape, ErrUnsupported)
	}
	channels := shape[len(shape)-1]
	factors, err := c.constant(op.inputs[by], channels)
	if err != nil {
		return value{}, err
	}
	v, err := c.partialValue(op.inputs[x])
	if err != nil {
		return value{}, err
	}
	times := func(s, f float32) float32 { return s * f }
	return value{of: v.of, above: pairwise(v.above, factors, times), below: pairwise(v.below, factors, times)}, nil
}

// each applies a function to the slopes on either side.
func (v value) each(above, below func(float32) float32) value {
	out := value{of: v.of, above: slices.Clone(v.above), below: slices.Clone(v.below)}
	for i, s := range out.above {
		out.above[i] = above(s)
	}
	for i, s := range out.below {
		out.below[i] = below(s)
	}
	return out
}

// pairwise combines two lists of slopes, of which either may have one for all channels.
func pairwise(a, b []float32, combine func(x, y float32) float32) []float32 {
	out := make([]float32, max(len(a), len(b)))
	for i := range out {
		out[i] = combine(a[i%len(a)], b[i%len(b)])
	}
	return out
}
