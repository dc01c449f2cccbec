package evaluation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/visage-face/visage/gallery"
	"github.com/visage-face/visage/vision"
)

// Recogniser makes templates of faces. *vision.Pipeline is one.
type Recogniser interface {
	Detect(ctx context.Context, photo []byte, want vision.Want) (*vision.Photo, error)
	Supports() vision.Attributes
	Name() string
}

// Faces are the faces of the subjects of a set's photos. They are biometric data, held only in memory.
type Faces struct {
	pack   string
	set    Set
	people int
	// By photo:
	person []int32
	seen   []sighting
	// usable are the photos with a template, in order.
	usable []int32
	// groups divide the photos; masks has a bit for each group of a photo.
	groups []group
	masks  []uint64
}

// sighting is the data of the subject's face on a photo. Angles and measures are NaN when unknown.
type sighting struct {
	template   []float32 // of the stored code; nil when there is none
	made       []float32 // the template as the recogniser made it
	found      bool      // a face was found
	reason     string    // why there is no template
	width      int       // of the face, in pixels
	yaw, light float64
	eyewear    vision.Eyewear
}

// maxPhoto is the largest size of a photo in bytes; it is more than any camera makes.
const maxPhoto = 64 << 20

// Look finds the subject's face on every photo, several photos at the same time: parallel, or one for each processor if
// that is 0. progress, if set, is called for each finished photo, never concurrently.
func Look(ctx context.Context, s Set, r Recogniser, parallel int, progress func(done, of int)) (*Faces, error) {
	if err := s.checkGroups(); err != nil {
		return nil, err
	}
	if parallel < 1 {
		parallel = runtime.GOMAXPROCS(0) // respects the limits of a container
	}
	f := &Faces{pack: r.Name(), set: s, person: make([]int32, len(s.Photos)), seen: make([]sighting, len(s.Photos))}
	numbers := map[string]int32{}
	for i, p := range s.Photos {
		n, found := numbers[p.Person]
		if !found {
			n = int32(len(numbers))
			numbers[p.Person] = n
		}
		f.person[i] = n
	}
	f.people = len(numbers)
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(parallel)
	var done atomic.Int64
	for i, p := range s.Photos {
		if ctx.Err() != nil {
			break
		}
		work.Go(func() error {
			seen, err := lookAt(ctx, r, p.Path)
			if err != nil {
				return fmt.Errorf("photo %s: %w", p.Path, err)
			}
			f.seen[i] = seen
			if n := int(done.Add(1)); progress != nil {
				progress(n, len(s.Photos))
			}
			return nil
		})
	}
	if err := work.Wait(); err != nil {
		return nil, err
	}
	if ctx.Err() != nil && done.Load() < int64(len(s.Photos)) {
		return nil, context.Cause(ctx)
	}
	for i := range f.seen {
		if f.seen[i].template != nil {
			f.usable = append(f.usable, int32(i))
		}
	}
	f.group()
	return f, nil
}

// subject is the face of the person whose photo this is: of the faces at least half as wide as the widest, the one
// nearest to the middle. A person beside the subject is often nearer to the camera, and cut off by the edge. photo has
// a face.
func subject(photo *vision.Photo) vision.Face {
	widest := 0
	for _, f := range photo.Faces {
		widest = max(widest, f.Box.Width)
	}
	away := func(f vision.Face) float64 {
		return math.Hypot(float64(2*f.Box.Left+f.Box.Width-photo.Width), float64(2*f.Box.Top+f.Box.Height-photo.Height))
	}
	found := -1
	for i, f := range photo.Faces {
		if 2*f.Box.Width >= widest && (found < 0 || away(f) < away(photo.Faces[found])) {
			found = i
		}
	}
	return photo.Faces[found]
}

// lookAt finds the subject's face on the photo in a file. An unusable photo is not an error.
func lookAt(ctx context.Context, r Recogniser, path string) (sighting, error) {
	nothing := func(reason string) sighting { return sighting{reason: reason, yaw: math.NaN(), light: math.NaN()} }
	b, err := readPhoto(path)
	if err != nil {
		return nothing(err.Error()), nil
	}
	measured := r.Supports() & (vision.HeadPose | vision.Exposure | vision.Glasses)
	photo, err := r.Detect(ctx, b, vision.Want{Templates: true, Attributes: measured})
	if unusable, ok := errors.AsType[*vision.ImageError](err); ok {
		return nothing(unusable.Message), nil
	}
	if err != nil {
		return sighting{}, err
	}
	if len(photo.Faces) == 0 {
		return nothing("no face found"), nil
	}
	face := subject(photo)
	seen := nothing("")
	seen.found, seen.made, seen.width = true, face.Template, face.Box.Width
	if face.Template == nil {
		seen.reason = "a face was found, but no template could be made of it"
	} else if code, err := gallery.Encode(face.Template); err != nil {
		return sighting{}, err
	} else {
		seen.template = code.Vector() // the template that the service would store and compare
	}
	if pose, ok := face.Attributes[vision.HeadPose].(vision.Pose); ok {
		seen.yaw = pose.Yaw
	}
	if exposure, ok := face.Attributes[vision.Exposure].(vision.Level); ok {
		seen.light = exposure.Value
	}
	if eyewear, ok := face.Attributes[vision.Glasses].(vision.Eyewear); ok {
		seen.eyewear = eyewear
	}
	return seen, nil
}

func readPhoto(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, errors.Unwrap(err) // the path is printed beside it
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPhoto+1))
	if err != nil {
		return nil, errors.New("cannot be read")
	}
	if len(b) > maxPhoto {
		return nil, fmt.Errorf("more than %d bytes", maxPhoto)
	}
	return b, nil
}

// half returns the faces of every other person, the same ones each time: side is 0 or 1.
func (f *Faces) half(side int) *Faces {
	h := *f
	h.usable = nil
	for _, i := range f.usable {
		if int(mix(uint32(f.person[i])))&1 == side {
			h.usable = append(h.usable, i)
		}
	}
	return &h
}

// mix spreads a number over all bits.
func mix(x uint32) uint32 {
	x = (x ^ x>>16) * 0x7feb352d
	x = (x ^ x>>15) * 0x846ca68b
	return x ^ x>>16
}
