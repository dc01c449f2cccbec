package tflite

import (
	"math"
	"slices"
	"testing"
)

// plain computes what a file says, operator by operator as it stands there, in double precision and with channels last.
// It has nothing in common with the conversion but the reader.
type plain struct {
	*testing.T
	*model
	at map[int]array
}

// array is a tensor of doubles, last dimension fastest.
type array struct {
	shape []int
	data  []float64
}

func zeros(shape ...int) array { return array{shape, make([]float64, product(shape))} }

// run returns the outputs for one input of any height and width.
func (m *model) run(t *testing.T, input array) []array {
	t.Helper()
	p := &plain{T: t, model: m, at: map[int]array{m.inputs[0]: input}}
	for _, op := range m.operators {
		p.at[op.outputs[0]] = p.step(op)
	}
	var out []array
	for _, i := range m.outputs {
		out = append(out, p.at[i])
	}
	return out
}

// value returns an input of an operator, computed or constant.
func (p *plain) value(tensor int) array {
	if a, ok := p.at[tensor]; ok {
		return a
	}
	t := p.tensors[tensor]
	data, err := t.floats()
	if err != nil {
		p.Fatal(err)
	}
	a := array{shape: t.shape}
	for _, v := range data {
		a.data = append(a.data, float64(v))
	}
	return a
}

func (p *plain) step(op operator) array {
	each := func(f func(float64) float64) array {
		x := p.value(op.inputs[0])
		out := array{shape: x.shape}
		for _, v := range x.data {
			out.data = append(out.data, f(v))
		}
		return out
	}
	// The smaller operand repeats along the channels, or has one number for all of them.
	both := func(f func(a, b float64) float64) array {
		a, b := p.value(op.inputs[0]), p.value(op.inputs[1])
		if len(a.data) < len(b.data) {
			swapped := f
			a, b, f = b, a, func(x, y float64) float64 { return swapped(y, x) }
		}
		out := zeros(a.shape...)
		repeat := 1
		if n := len(b.shape); n == len(a.shape) && b.shape[n-1] == 1 {
			repeat = a.shape[n-1]
		}
		for i := range out.data {
			out.data[i] = f(a.data[i], b.data[i/repeat%len(b.data)])
		}
		return out
	}
	channels := func(f func(a, b float64) float64) array {
		x := p.value(op.inputs[0])
		last := x.shape[len(x.shape)-1]
		out := zeros(append(slices.Clone(x.shape[:len(x.shape)-1]), 1)...)
		for i := range out.data {
			out.data[i] = x.data[i*last]
			for _, v := range x.data[i*last+1 : (i+1)*last] {
				out.data[i] = f(out.data[i], v)
			}
		}
		return out
	}
	add := func(a, b float64) float64 { return a + b }
	switch op.code {
	case opAdd:
		return both(add)
	case opSub:
		return both(func(a, b float64) float64 { return a - b })
	case opMul:
		return both(func(a, b float64) float64 { return a * b })
	case opDiv:
		return both(func(a, b float64) float64 { return a / b })
	case opRelu:
		return each(func(v float64) float64 { return math.Max(v, 0) })
	case opNeg:
		return each(func(v float64) float64 { return -v })
	case opAbs:
		return each(math.Abs)
	case opExp:
		return each(math.Exp)
	case opSum:
		return channels(add)
	case opReduceMax:
		return channels(math.Max)
	case opReshape:
		return array{p.tensors[op.outputs[0]].shape, p.value(op.inputs[0]).data}
	case opFullyConnected:
		x, w, b := p.value(op.inputs[0]), p.value(op.inputs[1]), p.value(op.inputs[2])
		out := zeros(1, len(b.data))
		for o := range out.data {
			out.data[o] = b.data[o]
			for i, v := range x.data {
				out.data[o] += v * w.data[o*len(x.data)+i]
			}
		}
		return activated(out, op.options.activation)
	case opMaxPool:
		x := p.value(op.inputs[0])
		return windows(x, op.options, op.options.size[1], op.options.size[0], x.shape[3],
			func(inside []cell, c int) float64 {
				most := math.Inf(-1)
				for _, in := range inside {
					most = math.Max(most, x.data[in.at+c])
				}
				return most
			})
	case opConv:
		x, w, b := p.value(op.inputs[0]), p.value(op.inputs[1]), p.value(op.inputs[2])
		in := x.shape[3]
		return windows(x, op.options, w.shape[1], w.shape[2], len(b.data), func(inside []cell, c int) float64 {
			sum := b.data[c]
			for _, k := range inside {
				from := w.data[(c*w.shape[1]*w.shape[2]+k.index)*in:]
				for i, v := range x.data[k.at : k.at+in] {
					sum += v * from[i]
				}
			}
			return sum
		})
	case opDepthwiseConv:
		x, w, b := p.value(op.inputs[0]), p.value(op.inputs[1]), p.value(op.inputs[2])
		return windows(x, op.options, w.shape[1], w.shape[2], len(b.data), func(inside []cell, c int) float64 {
			sum := b.data[c]
			for _, k := range inside {
				sum += x.data[k.at+c] * w.data[k.index*len(b.data)+c]
			}
			return sum
		})
	}
	p.Fatalf("operator %d", op.code)
	return array{}
}

// cell is a place of a window that lies within the input: its place in the window, and where its channels begin.
type cell struct{ index, at int }

// windows computes every output number of a convolution or a pooling from the cells below its window.
func windows(x array, o options, high, wide, channels int, f func(inside []cell, channel int) float64) array {
	place := func(size, window, stride int) (count, before int) {
		if o.valid {
			return (size-window)/stride + 1, 0
		}
		count = (size + stride - 1) / stride
		return count, max((count-1)*stride+window-size, 0) / 2
	}
	rows, top := place(x.shape[1], high, o.strides[1])
	columns, left := place(x.shape[2], wide, o.strides[0])
	out := zeros(x.shape[0], rows, columns, channels)
	for n := range x.shape[0] {
		for r := range rows {
			for k := range columns {
				var inside []cell
				for i := range high {
					for j := range wide {
						y, z := r*o.strides[1]+i-top, k*o.strides[0]+j-left
						if y >= 0 && y < x.shape[1] && z >= 0 && z < x.shape[2] {
							inside = append(inside, cell{i*wide + j, ((n*x.shape[1]+y)*x.shape[2] + z) * x.shape[3]})
						}
					}
				}
				for c := range channels {
					out.data[((n*rows+r)*columns+k)*channels+c] = f(inside, c)
				}
			}
		}
	}
	return activated(out, o.activation)
}

func activated(x array, kind int8) array {
	for i, v := range x.data {
		if kind == 1 {
			x.data[i] = math.Max(v, 0)
		}
	}
	return x
}
