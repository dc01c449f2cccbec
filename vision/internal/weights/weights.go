// Package weights reads the weights of a network as TensorFlow.js stores them: a JSON manifest beside binary shards,
// tensors one after the other, some of them quantised to 8 bits.
package weights

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path"
)

// Limits of a manifest. The networks that we convert have at most 200 tensors and 25 MB of weights.
const (
	maxManifest = 1 << 20
	maxShard    = 64 << 20
	maxElements = 1 << 25
)

// Tensor is one tensor of a network, in the manifest's order of dimensions (for a convolution: row, column, input
// channel, output channel).
type Tensor struct {
	Shape []int
	Data  []float32
}

// Set holds the tensors of one network by name.
type Set map[string]Tensor

type entry struct {
	Name         string        `json:"name"`
	Shape        []int         `json:"shape"`
	DType        string        `json:"dtype"`
	Quantization *quantization `json:"quantization"`
}

// quantization says that a tensor is stored as bytes: value = byte × Scale + Min.
type quantization struct {
	DType string  `json:"dtype"`
	Scale float64 `json:"scale"`
	Min   float64 `json:"min"`
}

// Read returns the tensors that the manifest with the given name in fsys describes. Shards are looked for beside it.
// Integer tensors, which only steer the original graph, are left out.
func Read(fsys fs.FS, manifest string) (Set, error) {
	raw, err := readBounded(fsys, manifest, maxManifest)
	if err != nil {
		return nil, fmt.Errorf("read weight manifest: %w", err)
	}
	groups, err := parse(raw)
	if err != nil {
		return nil, fmt.Errorf("weight manifest %s: %w", manifest, err)
	}

	set := Set{}
	for _, g := range groups {
		var shards []byte
		for _, p := range g.Paths {
			shard, err := readBounded(fsys, path.Join(path.Dir(manifest), p), maxShard)
			if err != nil {
				return nil, fmt.Errorf("read weight shard: %w", err)
			}
			shards = append(shards, shard...)
		}
		if err := set.add(g.Weights, shards); err != nil {
			return nil, fmt.Errorf("weight manifest %s: %w", manifest, err)
		}
	}
	return set, nil
}

type group struct {
	Paths   []string `json:"paths"`
	Weights []entry  `json:"weights"`
}

func parse(raw []byte) ([]group, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	var groups []group
	if err := d.Decode(&groups); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("something follows the manifest")
	}
	for _, g := range groups {
		for _, p := range g.Paths {
			if !fs.ValidPath(p) || p != path.Base(p) {
				return nil, fmt.Errorf("shard %q is not a plain file name", p)
			}
		}
	}
	return groups, nil
}

// add splits shards into the tensors that entries describe. No bytes may remain.
func (s Set) add(entries []entry, shards []byte) error {
	for _, e := range entries {
		n, err := elements(e.Shape)
		if err != nil {
			return fmt.Errorf("tensor %q: %w", e.Name, err)
		}
		width := 4
		if e.Quantization != nil {
			if e.Quantization.DType != "uint8" {
				return fmt.Errorf("tensor %q: quantised to %q, which is not supported", e.Name, e.Quantization.DType)
			}
			width = 1
		}
		if len(shards) < n*width {
			return fmt.Errorf("tensor %q: the shards end before it does", e.Name)
		}
		stored := shards[:n*width]
		shards = shards[n*width:]
		switch {
		case e.DType == "int32":
			continue
		case e.DType != "float32":
			return fmt.Errorf("tensor %q: type %q is not supported", e.Name, e.DType)
		}
		if _, twice := s[e.Name]; twice {
			return fmt.Errorf("tensor %q: listed twice", e.Name)
		}
		s[e.Name] = Tensor{Shape: e.Shape, Data: decode(stored, e.Quantization)}
	}
	if len(shards) != 0 {
		return fmt.Errorf("%d bytes of the shards belong to no tensor", len(shards))
	}
	return nil
}

// decode widens stored numbers to float32. Like TensorFlow.js it scales in double precision and rounds once.
func decode(stored []byte, q *quantization) []float32 {
	if q != nil {
		data := make([]float32, len(stored))
		for i, b := range stored {
			// The conversion keeps the compiler from fusing the two operations, which would round differently on
			// processors that can: the converted files must not depend on the machine.
			data[i] = float32(float64(float64(b)*q.Scale) + q.Min)
		}
		return data
	}
	data := make([]float32, len(stored)/4)
	for i := range data {
		data[i] = math.Float32frombits(binary.LittleEndian.Uint32(stored[4*i:]))
	}
	return data
}

func elements(shape []int) (int, error) {
	n := 1
	for _, d := range shape {
		if d < 1 || d > maxElements || n > maxElements/d {
			return 0, fmt.Errorf("shape %v is out of bounds", shape)
		}
		n *= d
	}
	return n, nil
}

func readBounded(fsys fs.FS, name string, limit int64) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, limit)
	}
	return b, nil
}
