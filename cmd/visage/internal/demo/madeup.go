package demo

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"

	"github.com/visage-face/visage/vision"
)

// recorder is the model pack with a memory of the templates it made, which must not be found on disk. It also reads
// synthetic photos, so that a crowd is enrolled in seconds rather than hours.
type recorder struct {
	*vision.Pipeline
	mu        sync.Mutex
	templates [][]float32
}

// Detect implements face.Recogniser.
func (r *recorder) Detect(ctx context.Context, photo []byte, want vision.Want) (*vision.Photo, error) {
	if n, ok := bytes.CutPrefix(photo, madeUpHead); ok {
		return r.invent(string(bytes.TrimRight(n, ".")), want)
	}
	found, err := r.Pipeline.Detect(ctx, photo, want)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range found.Faces {
		if f.Template != nil {
			r.templates = append(r.templates, slices.Clone(f.Template)) // a copy: the service may wipe its own
		}
	}
	return found, nil
}

var (
	madeUpHead = []byte("a made-up photo, number ")
	madeUpBox  = Box{Top: 50, Left: 50, Width: 100, Height: 100}
)

// madeUp makes a photo that only the recorder can read, of the smallest size that the service accepts.
func madeUp(number int) []byte {
	b := fmt.Append(slices.Clone(madeUpHead), number)
	return append(b, bytes.Repeat([]byte{'.'}, 1<<10)...)
}

// invent finds the one face of a synthetic photo.
func (r *recorder) invent(number string, want vision.Want) (*vision.Photo, error) {
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("a synthetic photo without a number: %w", err)
	}
	f := vision.Face{
		Box:   vision.Box{Left: madeUpBox.Left, Top: madeUpBox.Top, Width: madeUpBox.Width, Height: madeUpBox.Height},
		Score: 1,
	}
	found := &vision.Photo{Width: 200, Height: 200, Faces: []vision.Face{f}}
	if want.Select != nil && len(want.Select(found.Faces)) == 0 {
		return found, nil
	}
	if want.Attributes&vision.Quality != 0 {
		found.Faces[0].Attributes = vision.Measured{vision.Quality: vision.High}
	}
	if want.Templates {
		random := rand.New(rand.NewPCG(n, 1))
		t := make([]float32, r.Dim())
		var sum float64
		for i := range t {
			t[i] = float32(random.NormFloat64())
			sum += float64(t[i]) * float64(t[i])
		}
		for i := range t {
			t[i] /= float32(math.Sqrt(sum))
		}
		found.Faces[0].Template = t
	}
	return found, nil
}
