// Package onnx writes ONNX files: a graph is built node by node and marshalled to the same bytes every time.
//
// It has the few operators that the conversion of our models needs, with weights in 32-bit floats. The field numbers
// below are those of onnx.proto (ONNX 1.12, IR version 8).
package onnx

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// The versions that the files declare. ONNX Runtime reads both since its version 1.12.
const (
	irVersion = 8
	opset     = 17
)

// Element types of TensorProto.
const (
	typeFloat = 1
	typeInt64 = 7
)

// Types of AttributeProto.
const (
	attrInt    = 2
	attrString = 3
	attrInts   = 7
)

// Value is the name of a tensor in a graph.
type Value string

// Dim is one dimension of an input or output: a number, or a name when it may differ from run to run.
type Dim struct {
	Size int64
	Name string
}

// Graph is an ONNX graph under construction. Names of nodes and weights are made from the order of calls, so equal
// calls give equal bytes. It is not safe for concurrent use.
type Graph struct {
	name                            string
	nodes, weights, inputs, outputs [][]byte
	next                            int
}

// NewGraph returns an empty graph.
func NewGraph(name string) *Graph { return &Graph{name: name} }

// Input declares an input of 32-bit floats.
func (g *Graph) Input(name string, shape ...Dim) Value {
	g.inputs = append(g.inputs, valueInfo(name, shape))
	return Value(name)
}

// Output declares v an output of 32-bit floats under the given name.
func (g *Graph) Output(v Value, name string, shape ...Dim) {
	g.node("Identity", []Value{v}, []Value{Value(name)})
	g.outputs = append(g.outputs, valueInfo(name, shape))
}

// Padding says where the windows of a convolution or a pooling lie at the edges of the input.
type Padding int

const (
	// Valid pads nothing: every window lies within the input.
	Valid Padding = iota
	// SameEven pads so that the output is as large as the input divided by the stride, rounded up. With a stride of 2
	// all padding goes to the end, so that windows start on even rows and columns whatever the input's size; with a
	// stride of 1 it is spread evenly.
	SameEven
	// SameUpper gives an output of the same size, and spreads what padding an input of the given size needs evenly,
	// with an odd one at the end: what TensorFlow calls SAME.
	SameUpper
)

// attrs describes windows of the given size and stride.
func (p Padding) attrs(size [2]int, stride int) [][]byte {
	rows, columns := int64(size[0]), int64(size[1])
	attrs := [][]byte{ints("kernel_shape", rows, columns), ints("strides", int64(stride), int64(stride))}
	switch {
	case p == SameUpper:
		attrs = append(attrs, text("auto_pad", "SAME_UPPER"))
	case p == SameEven && stride > 1:
		attrs = append(attrs, ints("pads", 0, 0, rows-1, columns-1))
	case p == SameEven:
		attrs = append(attrs, ints("pads", (rows-1)/2, (columns-1)/2, (rows-1)/2, (columns-1)/2))
	}
	return attrs
}

// Conv is what distinguishes one convolution from another.
type Conv struct {
	// Weights are in the order output channel, input channel of the group, row, column; Shape says so in numbers.
	Weights []float32
	Shape   [4]int
	// Bias has one number an output channel.
	Bias []float32
	// Stride is the same in both directions.
	Stride  int
	Padding Padding
	// Groups is 1, or the number of channels for a depthwise convolution.
	Groups int
}

// Conv adds a convolution.
func (g *Graph) Conv(x Value, c Conv) Value {
	if want := c.Shape[0] * c.Shape[1] * c.Shape[2] * c.Shape[3]; len(c.Weights) != want || len(c.Bias) != c.Shape[0] {
		panic(fmt.Sprintf("onnx: convolution of shape %v with %d weights and %d biases", c.Shape, len(c.Weights),
			len(c.Bias)))
	}
	dims := []int64{int64(c.Shape[0]), int64(c.Shape[1]), int64(c.Shape[2]), int64(c.Shape[3])}
	w := g.floats(dims, c.Weights)
	b := g.floats(dims[:1], c.Bias)
	attrs := c.Padding.attrs([2]int{c.Shape[2], c.Shape[3]}, c.Stride)
	attrs = slices.Insert(attrs, 2, integer("group", int64(c.Groups)))
	return g.op("Conv", []Value{x, w, b}, attrs...)
}

// Relu adds max(x, 0).
func (g *Graph) Relu(x Value) Value { return g.op("Relu", []Value{x}) }

// PRelu adds x where it is positive, and elsewhere x times the slope of its channel, which is the second dimension.
// rank is the number of x's dimensions.
func (g *Graph) PRelu(x Value, slopes []float32, rank int) Value {
	dims := make([]int64, rank-1)
	for i := range dims {
		dims[i] = 1
	}
	dims[0] = int64(len(slopes))
	return g.op("PRelu", []Value{x, g.floats(dims, slopes)})
}

// Softmax adds e^x over the sum of e^x along an axis.
func (g *Graph) Softmax(x Value, axis int) Value {
	return g.op("Softmax", []Value{x}, integer("axis", int64(axis)))
}

// Clip adds min(max(x, low), high).
func (g *Graph) Clip(x Value, low, high float32) Value {
	return g.op("Clip", []Value{x, g.floats(nil, []float32{low}), g.floats(nil, []float32{high})})
}

// Add adds a + b, element by element.
func (g *Graph) Add(a, b Value) Value { return g.op("Add", []Value{a, b}) }

// Sigmoid adds 1 / (1 + e^-x).
func (g *Graph) Sigmoid(x Value) Value { return g.op("Sigmoid", []Value{x}) }

// MaxPool adds a maximum over size × size windows; padding never is the maximum.
func (g *Graph) MaxPool(x Value, size, stride int, padding Padding) Value {
	return g.op("MaxPool", []Value{x}, padding.attrs([2]int{size, size}, stride)...)
}

// AveragePool adds a mean over size × size windows without padding.
func (g *Graph) AveragePool(x Value, size, stride int) Value {
	return g.op("AveragePool", []Value{x}, Valid.attrs([2]int{size, size}, stride)...)
}

// GlobalAveragePool adds the mean over all rows and columns.
func (g *Graph) GlobalAveragePool(x Value) Value { return g.op("GlobalAveragePool", []Value{x}) }

// PadEnd adds zeros after the last channels, rows and columns.
func (g *Graph) PadEnd(x Value, channels, rows, columns int) Value {
	pads := g.int64s([]int64{0, 0, 0, 0, 0, int64(channels), int64(rows), int64(columns)})
	return g.op("Pad", []Value{x, pads})
}

// Flatten keeps the first dimension and joins the others.
func (g *Graph) Flatten(x Value) Value { return g.op("Flatten", []Value{x}, integer("axis", 1)) }

// ChannelsLast turns channel, row, column into row, column, channel.
func (g *Graph) ChannelsLast(x Value) Value {
	return g.op("Transpose", []Value{x}, ints("perm", 0, 2, 3, 1))
}

// Reshape gives x another shape. 0 keeps a dimension, -1 takes what is left.
func (g *Graph) Reshape(x Value, shape ...int64) Value {
	return g.op("Reshape", []Value{x, g.int64s(shape)})
}

// Concat joins values along an axis.
func (g *Graph) Concat(axis int, xs ...Value) Value {
	return g.op("Concat", xs, integer("axis", int64(axis)))
}

// Dense adds x · weights + bias, weights in the order input, output. A nil bias is none.
func (g *Graph) Dense(x Value, weights []float32, in, out int, bias []float32) Value {
	inputs := []Value{x, g.floats([]int64{int64(in), int64(out)}, weights)}
	if bias != nil {
		inputs = append(inputs, g.floats([]int64{int64(out)}, bias))
	}
	return g.op("Gemm", inputs)
}

// Marshal returns the file's bytes.
func (g *Graph) Marshal() []byte {
	var graph []byte
	for _, n := range g.nodes {
		graph = bytesField(graph, 1, n)
	}
	graph = bytesField(graph, 2, []byte(g.name))
	for _, w := range g.weights {
		graph = bytesField(graph, 5, w)
	}
	for _, i := range g.inputs {
		graph = bytesField(graph, 11, i)
	}
	for _, o := range g.outputs {
		graph = bytesField(graph, 12, o)
	}

	model := intField(nil, 1, irVersion)
	model = bytesField(model, 2, []byte("visage"))
	model = bytesField(model, 7, graph)
	return bytesField(model, 8, intField(nil, 2, opset))
}

// op adds a node with one output and returns that.
func (g *Graph) op(kind string, inputs []Value, attrs ...[]byte) Value {
	out := g.fresh("v")
	g.node(kind, inputs, []Value{out}, attrs...)
	return out
}

func (g *Graph) node(kind string, inputs, outputs []Value, attrs ...[]byte) {
	var b []byte
	for _, v := range inputs {
		b = bytesField(b, 1, []byte(v))
	}
	for _, v := range outputs {
		b = bytesField(b, 2, []byte(v))
	}
	b = bytesField(b, 3, fmt.Appendf(nil, "%s_%d", kind, len(g.nodes)))
	b = bytesField(b, 4, []byte(kind))
	for _, a := range attrs {
		b = bytesField(b, 5, a)
	}
	g.nodes = append(g.nodes, b)
}

func (g *Graph) fresh(prefix string) Value {
	g.next++
	return Value(fmt.Sprintf("%s%d", prefix, g.next))
}

// floats adds a constant of 32-bit floats.
func (g *Graph) floats(dims []int64, data []float32) Value {
	raw := make([]byte, 0, 4*len(data))
	for _, f := range data {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(f))
	}
	return g.constant(dims, typeFloat, raw)
}

// int64s adds a list of integers.
func (g *Graph) int64s(data []int64) Value {
	raw := make([]byte, 0, 8*len(data))
	for _, i := range data {
		raw = binary.LittleEndian.AppendUint64(raw, uint64(i))
	}
	return g.constant([]int64{int64(len(data))}, typeInt64, raw)
}

func (g *Graph) constant(dims []int64, kind uint64, raw []byte) Value {
	name := g.fresh("w")
	var b []byte
	for _, d := range dims {
		b = intField(b, 1, uint64(d))
	}
	b = intField(b, 2, kind)
	b = bytesField(b, 8, []byte(name))
	b = bytesField(b, 9, raw)
	g.weights = append(g.weights, b)
	return name
}

func valueInfo(name string, shape []Dim) []byte {
	var dims []byte
	for _, d := range shape {
		dim := bytesField(nil, 2, []byte(d.Name))
		if d.Name == "" {
			dim = intField(nil, 1, uint64(d.Size))
		}
		dims = bytesField(dims, 1, dim)
	}
	tensor := intField(nil, 1, typeFloat)
	tensor = bytesField(tensor, 2, dims)
	return bytesField(bytesField(nil, 1, []byte(name)), 2, bytesField(nil, 1, tensor))
}

func ints(name string, values ...int64) []byte {
	b := bytesField(nil, 1, []byte(name))
	for _, v := range values {
		b = intField(b, 8, uint64(v))
	}
	return intField(b, 20, attrInts)
}

func integer(name string, value int64) []byte {
	return intField(intField(bytesField(nil, 1, []byte(name)), 3, uint64(value)), 20, attrInt)
}

func text(name, value string) []byte {
	return intField(bytesField(bytesField(nil, 1, []byte(name)), 4, []byte(value)), 20, attrString)
}

func bytesField(b []byte, field protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), value)
}

func intField(b []byte, field protowire.Number, value uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), value)
}
