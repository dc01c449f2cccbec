// Package tflite turns networks that are stored as TensorFlow Lite files into ONNX files.
//
// It knows the operators of small convolutional networks. TensorFlow Lite keeps channels last, ONNX channels first: the
// weights are rearranged once, here, so that the graph needs no transposition. What several operators of the file say
// together and ONNX says in one (PReLU, softmax) becomes one node, and nothing that no output needs is written.
package tflite

import (
	"errors"
	"fmt"
	"slices"

	"github.com/visage-face/visage/vision/internal/onnx"
)

// Options say how a network appears as ONNX.
type Options struct {
	// Name is the graph's name, Input that of its input, Outputs those of its outputs in the file's order.
	Name, Input string
	Outputs     []string
	// FreeSize lets the height and width of the input differ from run to run. The number of pictures always may.
	FreeSize bool
	// Transposed says that the network was trained on pictures whose rows and columns were exchanged. The converted one
	// takes them upright: the kernels are exchanged instead.
	Transposed bool
}

// ErrUnsupported says that a network does something for which there is no conversion.
var ErrUnsupported = errors.New("not supported")

// Convert returns the network of a TensorFlow Lite file as an ONNX file. Its input has the shape (N, channels, rows,
// columns), as have its outputs of four dimensions; the others keep their shape. Weights are 32-bit floats. Equal input
// gives equal bytes.
//
// The error is ErrMalformed for a file that is damaged and ErrUnsupported for a network that is too unusual.
func Convert(file []byte, opts Options) ([]byte, error) {
	m, err := read(file)
	if err != nil {
		return nil, fmt.Errorf("read TensorFlow Lite file: %w", err)
	}
	out, err := convert(m, opts)
	if err != nil {
		return nil, fmt.Errorf("convert TensorFlow Lite file: %w", err)
	}
	return out, nil
}

// converter builds the graph from its outputs backwards, so that operators which a larger one stands for are not built.
type converter struct {
	*onnx.Graph
	*model
	opts Options
	// producers maps a tensor to its operator; built maps a tensor to its value, once it is in the graph.
	producers map[int]operator
	built     map[int]value
	// weights is how many numbers of constants may still be read: a damaged file could name one constant many times.
	weights int
}

func convert(m *model, opts Options) ([]byte, error) {
	if len(m.inputs) != 1 || len(m.outputs) != len(opts.Outputs) {
		return nil, fmt.Errorf("%d inputs and %d outputs, want 1 and %d: %w",
			len(m.inputs), len(m.outputs), len(opts.Outputs), ErrUnsupported)
	}
	c := &converter{
		Graph: onnx.NewGraph(opts.Name), model: m, opts: opts,
		producers: map[int]operator{}, built: map[int]value{}, weights: maxElements,
	}
	for _, op := range m.operators {
		c.producers[op.outputs[0]] = op
	}
	in := m.tensors[m.inputs[0]]
	if len(in.shape) != 4 || in.kind != typeFloat32 {
		return nil, fmt.Errorf("%w: input of shape %v and type %d", ErrUnsupported, in.shape, in.kind)
	}
	c.built[m.inputs[0]] = whole(c.Input(opts.Input, c.dims(in.shape, "")...))
	for i, out := range m.outputs {
		v, err := c.value(out)
		if err != nil {
			return nil, err
		}
		c.Output(v, opts.Outputs[i], c.dims(m.tensors[out].shape, fmt.Sprint(i+1))...)
	}
	return c.Marshal(), nil
}

// dims is a shape as ONNX declares it; suffix tells the free dimensions of one output from those of another.
func (c *converter) dims(shape []int, suffix string) []onnx.Dim {
	dims := []onnx.Dim{{Name: "N"}}
	size := func(i int) onnx.Dim { return onnx.Dim{Size: int64(shape[i])} }
	switch {
	case len(shape) == 4 && c.opts.FreeSize:
		return append(dims, size(3), onnx.Dim{Name: "H" + suffix}, onnx.Dim{Name: "W" + suffix})
	case len(shape) == 4 && c.opts.Transposed:
		return append(dims, size(3), size(2), size(1))
	case len(shape) == 4:
		return append(dims, size(3), size(1), size(2))
	}
	for i := 1; i < len(shape); i++ {
		dims = append(dims, size(i))
	}
	return dims
}

// value returns what a tensor is in the graph, with the operators that make it.
func (c *converter) value(tensor int) (onnx.Value, error) {
	v, err := c.partialValue(tensor)
	if err != nil {
		return "", err
	}
	made, err := v.node(c, len(c.tensors[tensor].shape))
	if err != nil {
		return "", fmt.Errorf("%s: %w", c.tensors[tensor].name, err)
	}
	c.built[tensor] = whole(made)
	return made, nil
}

// partialValue is value for an activation that is not complete yet.
func (c *converter) partialValue(tensor int) (value, error) {
	if v, ok := c.built[tensor]; ok {
		return v, nil
	}
	op, ok := c.producers[tensor]
	if !ok {
		return value{}, fmt.Errorf("%s: %w: nothing computes it", c.name(tensor), ErrMalformed)
	}
	v, err := c.build(op)
	if err != nil {
		return value{}, fmt.Errorf("%s: %w", c.name(tensor), err)
	}
	c.built[tensor] = v
	return v, nil
}

func (c *converter) name(tensor int) string {
	if tensor < 0 || tensor >= len(c.tensors) {
		return "a missing tensor"
	}
	return c.tensors[tensor].name
}

// build adds an operator to the graph.
func (c *converter) build(op operator) (value, error) {
	switch op.code {
	case opRelu, opNeg, opAbs, opMul, opSub, opAdd:
		return c.arithmetic(op)
	}
	var v onnx.Value
	var err error
	switch op.code {
	case opConv, opDepthwiseConv:
		v, err = c.conv(op)
	case opFullyConnected:
		v, err = c.dense(op)
	case opMaxPool:
		v, err = c.maxPool(op)
	case opReshape:
		v, err = c.reshape(op)
	case opSoftmax, opDiv:
		v, err = c.softmax(op)
	default:
		err = fmt.Errorf("operator %d: %w", op.code, ErrUnsupported)
	}
	return whole(v), err
}

// operands returns the tensors that an operator reads, of which there must be at least so many.
func (c *converter) operands(op operator, least int) ([]tensor, error) {
	if len(op.inputs) < least || slices.Contains(op.inputs[:least], -1) {
		return nil, fmt.Errorf("%w: operator %d reads %v", ErrMalformed, op.code, op.inputs)
	}
	var ts []tensor
	for _, i := range op.inputs {
		if i < 0 {
			ts = append(ts, tensor{})
			continue
		}
		ts = append(ts, c.tensors[i])
	}
	return ts, nil
}

// constant returns the numbers of an operator's input, which must have the given shape.
func (c *converter) constant(tensor int, shape ...int) ([]float32, error) {
	t := c.tensors[tensor]
	if !slices.Equal(t.shape, shape) {
		return nil, fmt.Errorf("%w: %s has shape %v, want %v", ErrMalformed, t.name, t.shape, shape)
	}
	c.weights -= len(t.data) / 4
	if c.weights < 0 {
		return nil, fmt.Errorf("%w: more than %d weights", ErrUnsupported, maxElements)
	}
	return t.floats()
}
