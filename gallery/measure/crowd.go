package measure

import (
	"context"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"unsafe"

	"github.com/visage-face/visage/gallery"
	"github.com/visage-face/visage/internal/arena"
)

const (
	facesPerPerson = 4
	// spread is the length of the noise that is added to a person's direction of length 1 for each face: two faces of
	// one person are then 1 - 1/(1+spread²) = 0.26 apart.
	spread = 0.6
)

// crowd is a gallery of synthetic faces, their vectors in full, and probes: other faces of the same persons.
type crowd struct {
	gallery *gallery.Gallery
	memory  *arena.Buffer
	vectors []float32
	dim     int
	probes  []gallery.Code
}

func newCrowd(ctx context.Context, cfg Config) (*crowd, error) {
	g, err := gallery.New(cfg.Dim)
	if err != nil {
		return nil, err
	}
	c := &crowd{gallery: g, dim: cfg.Dim}
	if c.memory, err = arena.New(cfg.Faces * cfg.Dim * 4); err != nil {
		c.close()
		return nil, err
	}
	c.vectors = floats(c.memory)
	g.Expect(cfg.Faces)
	persons := (cfg.Faces + facesPerPerson - 1) / facesPerPerson
	workers := runtime.GOMAXPROCS(0)
	errs := make([]error, workers)
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			for p := w; p < persons && errs[w] == nil; p += workers {
				if errs[w] = context.Cause(ctx); errs[w] == nil {
					errs[w] = c.addPerson(p, cfg.Faces)
				}
			}
		})
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			c.close()
			return nil, err
		}
	}
	for i := range cfg.Probes {
		rnd, person := c.person(i * persons / cfg.Probes)
		for range facesPerPerson {
			c.face(rnd, person, make([]float32, c.dim))
		}
		probe := make([]float32, c.dim)
		c.face(rnd, person, probe)
		code, err := gallery.Encode(probe)
		if err != nil {
			c.close()
			return nil, err
		}
		c.probes = append(c.probes, code)
	}
	return c, nil
}

// person returns a person's direction, and the random numbers of its faces.
func (c *crowd) person(p int) (*rand.Rand, []float32) {
	rnd := rand.New(rand.NewPCG(uint64(p), 1))
	v := make([]float32, c.dim)
	c.direction(rnd, v)
	return rnd, v
}

// face makes v a face of a person.
func (c *crowd) face(rnd *rand.Rand, person, v []float32) {
	c.direction(rnd, v)
	for i := range v {
		v[i] = person[i] + spread*v[i]
	}
	normalise(v)
}

func (c *crowd) direction(rnd *rand.Rand, v []float32) {
	for i := range v {
		v[i] = float32(rnd.NormFloat64())
	}
	normalise(v)
}

func normalise(v []float32) {
	square := 0.0
	for _, x := range v {
		square += float64(x) * float64(x)
	}
	scale := 1 / math.Sqrt(square)
	for i, x := range v {
		v[i] = float32(float64(x) * scale)
	}
}

// addPerson adds a person's faces, up to the given total.
func (c *crowd) addPerson(p, faces int) error {
	rnd, person := c.person(p)
	for i := p * facesPerPerson; i < min((p+1)*facesPerPerson, faces); i++ {
		v := c.vectors[i*c.dim : (i+1)*c.dim]
		c.face(rnd, person, v)
		code, err := gallery.Encode(v)
		if err != nil {
			return err
		}
		if err := c.gallery.Add(gallery.Entry{ID: id(i), Owner: id(p), Order: uint64(i), Code: code}); err != nil {
			return err
		}
	}
	return nil
}

func id(n int) (id gallery.ID) {
	binary.BigEndian.PutUint64(id[:], uint64(n)+1)
	return id
}

func (c *crowd) close() {
	c.gallery.Close()
	if c.memory != nil {
		c.memory.Free()
	}
}

// floats returns an arena's memory as numbers. An arena begins at a page and holds no pointers.
func floats(b *arena.Buffer) []float32 {
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(b.Bytes()))), len(b.Bytes())/4)
}
