package tflite

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"runtime"

	flatbuffers "github.com/google/flatbuffers/go"
)

// Bounds on what a file may claim. The largest network that we convert has 5 MB, 200 operators and 8 million numbers.
const (
	maxFile     = 64 << 20
	maxItems    = 4096 // tensors, buffers, operators, bytes of a name
	maxOperands = 16   // of an operator, and inputs and outputs of the graph
	maxRank     = 8
	maxElements = 1 << 25
)

// ErrMalformed says that a file is no TensorFlow Lite model, or a damaged one.
var ErrMalformed = errors.New("not a valid TensorFlow Lite model")

// model is what a file holds of a network: its one subgraph.
type model struct {
	tensors         []tensor
	operators       []operator
	inputs, outputs []int
}

// tensor is a value in the graph, with its contents if it is a constant.
type tensor struct {
	name  string
	shape []int
	kind  elementType
	// data are the stored bytes of a constant, nil for a value that is computed.
	data []byte
}

// elementType is the schema's TensorType.
type elementType int8

const (
	typeFloat32 elementType = 0
	typeInt32   elementType = 2
)

// The operators' codes in the schema.
const (
	opAdd            = 0
	opConv           = 3
	opDepthwiseConv  = 4
	opFullyConnected = 9
	opMaxPool        = 17
	opMul            = 18
	opRelu           = 19
	opReshape        = 22
	opSoftmax        = 25
	opSub            = 41
	opDiv            = 42
	opExp            = 47
	opNeg            = 59
	opSum            = 74
	opReduceMax      = 82
	opAbs            = 101
)

// operator is one step of the graph; the steps before it make what it reads. inputs may hold -1 for an optional tensor
// that is not given.
type operator struct {
	code            int
	inputs, outputs []int
	options         options
}

// options are what the schema says of operators beside their tensors; each kind has some of them.
type options struct {
	valid          bool   // windows lie within the input; otherwise it is padded as TensorFlow's SAME
	strides, size  [2]int // of windows: across, down
	dilations      [2]int
	activation     int8
	keepDimensions bool
	beta           float32
}

// readOptions reads the table of an operator of the given code.
func readOptions(code int, t table) options {
	o := options{dilations: [2]int{1, 1}}
	pair := func(field int, missing int32) [2]int {
		return [2]int{int(t.int32(field, missing)), int(t.int32(field+1, missing))}
	}
	switch code {
	case opConv:
		o.valid, o.strides, o.activation, o.dilations = t.int8(0) == 1, pair(1, 0), t.int8(3), pair(4, 1)
	case opDepthwiseConv:
		o.valid, o.strides, o.activation, o.dilations = t.int8(0) == 1, pair(1, 0), t.int8(4), pair(5, 1)
	case opMaxPool:
		o.valid, o.strides, o.size, o.activation = t.int8(0) == 1, pair(1, 0), pair(3, 0), t.int8(5)
	case opFullyConnected, opAdd, opSub, opMul, opDiv:
		o.activation = t.int8(0)
	case opSum, opReduceMax:
		o.keepDimensions = t.int8(0) != 0
	case opSoftmax:
		o.beta = t.float32(0)
	}
	return o
}

// table is a FlatBuffers table. The zero table has no fields: each reads as its default.
type table struct{ flatbuffers.Table }

// read parses a file. The library checks no bounds by itself: an offset that leads out of the file ends in a panic of
// the Go runtime, which becomes ErrMalformed here. Nothing is allocated by a length before that length is checked.
func read(file []byte) (_ *model, err error) {
	defer malformed(&err)
	if len(file) < 8 || string(file[4:8]) != "TFL3" {
		return nil, fmt.Errorf("%w: the identifier TFL3 is missing", ErrMalformed)
	}
	if len(file) > maxFile {
		return nil, fmt.Errorf("%w: it is larger than %d bytes", ErrMalformed, maxFile)
	}
	root := table{flatbuffers.Table{Bytes: file, Pos: flatbuffers.GetUOffsetT(file)}}
	if v := root.int32(0, 0); v != 3 {
		return nil, fmt.Errorf("%w: version %d of the schema, want 3", ErrMalformed, v)
	}
	graphs := root.tables(2)
	if len(graphs) != 1 {
		return nil, fmt.Errorf("%w: %d subgraphs, want 1", ErrMalformed, len(graphs))
	}
	g, codes, buffers := graphs[0], root.tables(1), root.tables(4)
	m := &model{inputs: g.ints(1, maxOperands), outputs: g.ints(2, maxOperands)}
	for i, t := range g.tables(0) {
		made, err := readTensor(t, buffers)
		if err != nil {
			return nil, fmt.Errorf("tensor %d: %w", i, err)
		}
		m.tensors = append(m.tensors, made)
	}
	ready := map[int]bool{}
	for _, in := range m.inputs {
		ready[in] = true
	}
	for i, t := range g.tables(3) {
		code := t.int32(0, 0)
		if code < 0 || int(code) >= len(codes) {
			return nil, fmt.Errorf("%w: operator %d has no code", ErrMalformed, i)
		}
		// Codes up to 127 may stand in the older field alone, which has one byte.
		c := codes[code]
		op := operator{
			code:   max(int(c.int8(0)), int(c.int32(3, 0))),
			inputs: t.ints(1, maxOperands), outputs: t.ints(2, maxOperands),
		}
		op.options = readOptions(op.code, t.table(4))
		for _, in := range op.inputs {
			if in < -1 || in >= len(m.tensors) || in >= 0 && m.tensors[in].data == nil && !ready[in] {
				return nil, fmt.Errorf("%w: operator %d reads tensor %d, which is not there yet", ErrMalformed, i, in)
			}
		}
		if len(op.outputs) != 1 {
			return nil, fmt.Errorf("%w: operator %d has %d outputs, want 1", ErrMalformed, i, len(op.outputs))
		}
		if err := m.checkComputed(op.outputs); err != nil {
			return nil, fmt.Errorf("operator %d: %w", i, err)
		}
		if ready[op.outputs[0]] {
			return nil, fmt.Errorf("%w: tensor %d is computed twice", ErrMalformed, op.outputs[0])
		}
		ready[op.outputs[0]] = true
		m.operators = append(m.operators, op)
	}
	if err := errors.Join(m.checkComputed(m.inputs), m.checkComputed(m.outputs)); err != nil {
		return nil, err
	}
	return m, nil
}

// checkComputed finds tensors that are not there or cannot be computed because they are constants.
func (m *model) checkComputed(list []int) error {
	for _, i := range list {
		if i < 0 || i >= len(m.tensors) || m.tensors[i].data != nil {
			return fmt.Errorf("%w: tensor %d is not there or is a constant", ErrMalformed, i)
		}
	}
	return nil
}

func readTensor(t table, buffers []table) (tensor, error) {
	made := tensor{name: t.text(3), shape: t.ints(0, maxRank), kind: elementType(t.int8(1))}
	n := 1
	for _, d := range made.shape {
		if d < 1 || d > maxElements || n > maxElements/d {
			return tensor{}, fmt.Errorf("%w: shape %v is out of bounds", ErrMalformed, made.shape)
		}
		n *= d
	}
	at := t.int32(2, 0)
	if at < 0 || int(at) >= len(buffers) {
		return tensor{}, fmt.Errorf("%w: buffer %d of %d", ErrMalformed, at, len(buffers))
	}
	data := buffers[at].bytes(0)
	if len(data) == 0 {
		return made, nil
	}
	if t.table(6).Bytes != nil {
		return tensor{}, fmt.Errorf("%s is sparse: %w", made.name, ErrUnsupported)
	}
	if (made.kind == typeFloat32 || made.kind == typeInt32) && len(data) != 4*n {
		return tensor{}, fmt.Errorf("%w: %d bytes do not make shape %v", ErrMalformed, len(data), made.shape)
	}
	made.data = data
	return made, nil
}

// floats returns the contents of a constant of floats.
func (t tensor) floats() ([]float32, error) {
	switch {
	case t.data == nil:
		return nil, fmt.Errorf("%s is computed, and a constant is needed: %w", t.name, ErrUnsupported)
	case t.kind == typeFloat32:
		out := make([]float32, len(t.data)/4)
		for i := range out {
			out[i] = math.Float32frombits(binary.LittleEndian.Uint32(t.data[4*i:]))
		}
		return out, nil
	}
	return nil, fmt.Errorf("%s has elements of type %d, and floats are needed: %w", t.name, t.kind, ErrUnsupported)
}

// integers returns the contents of a constant of 32-bit integers.
func (t tensor) integers() ([]int, error) {
	if t.data == nil || t.kind != typeInt32 {
		return nil, fmt.Errorf("%s is no constant of 32-bit integers: %w", t.name, ErrUnsupported)
	}
	out := make([]int, len(t.data)/4)
	for i := range out {
		out[i] = int(int32(binary.LittleEndian.Uint32(t.data[4*i:])))
	}
	return out, nil
}

// field returns where the value of a field lies, and whether it is there.
func (t table) field(number int) (flatbuffers.UOffsetT, bool) {
	if t.Bytes == nil {
		return 0, false
	}
	o := t.Offset(flatbuffers.VOffsetT(4 + 2*number))
	return t.Pos + flatbuffers.UOffsetT(o), o != 0
}

func (t table) int8(number int) int8 {
	at, ok := t.field(number)
	if !ok {
		return 0
	}
	return t.GetInt8(at)
}

func (t table) int32(number int, missing int32) int32 {
	at, ok := t.field(number)
	if !ok {
		return missing
	}
	return t.GetInt32(at)
}

func (t table) float32(number int) float32 {
	at, ok := t.field(number)
	if !ok {
		return 0
	}
	return t.GetFloat32(at)
}

// table returns a field that is a table, the zero table if it is missing.
func (t table) table(number int) table {
	at, ok := t.field(number)
	if !ok {
		return table{}
	}
	return table{flatbuffers.Table{Bytes: t.Bytes, Pos: t.Indirect(at)}}
}

// vector returns where the elements of a field lie and how many there are; all of them lie within the file.
func (t table) vector(number, width int) (start, length int) {
	at, ok := t.field(number)
	if !ok {
		return 0, 0
	}
	start = int(at) + int(t.GetUOffsetT(at))
	length = int(flatbuffers.GetUint32(t.Bytes[start:]))
	start += flatbuffers.SizeUint32
	if length > (len(t.Bytes)-start)/width {
		panic(outside{})
	}
	return start, length
}

func (t table) bytes(number int) []byte {
	start, length := t.vector(number, 1)
	return t.Bytes[start : start+length]
}

// text returns a field that is a short string.
func (t table) text(number int) string {
	b := t.bytes(number)
	if len(b) > maxItems {
		panic(outside{})
	}
	return string(b)
}

// ints returns a field that is a list of at most so many integers.
func (t table) ints(number, most int) []int {
	start, length := t.vector(number, 4)
	if length > most {
		panic(outside{})
	}
	out := make([]int, length)
	for i := range out {
		out[i] = int(flatbuffers.GetInt32(t.Bytes[start+4*i:]))
	}
	return out
}

func (t table) tables(number int) []table {
	start, length := t.vector(number, 4)
	if length > maxItems {
		panic(outside{})
	}
	out := make([]table, length)
	for i := range out {
		at := start + 4*i
		out[i] = table{flatbuffers.Table{Bytes: t.Bytes, Pos: t.Indirect(flatbuffers.UOffsetT(at))}}
	}
	return out
}

// outside is the panic of a length that is out of bounds.
type outside struct{}

// malformed turns the panics of damaged files into ErrMalformed. All others go on.
func malformed(err *error) {
	switch r := recover().(type) {
	case nil:
	case outside:
		*err = fmt.Errorf("%w: a length is out of bounds", ErrMalformed)
	case runtime.Error:
		*err = fmt.Errorf("%w: an offset leads out of the file", ErrMalformed)
	default:
		panic(r)
	}
}
