package photo

import (
	"fmt"
	"image"
	"image/color"
	"sync"

	"github.com/visage-face/visage/vision/internal/jpeg"
)

// enoughSide is the least number of pixels of a reduced picture's longer side: as many as detectors look at.
const enoughSide = 1000

// reduction returns the scale, in eighths, at which a picture of a size is decoded; jpeg.Full for those that gain
// nothing.
func reduction(width, height int) int {
	long := max(width, height)
	for n := 1; n <= jpeg.Full/2; n++ {
		if long*n >= enoughSide*jpeg.Full {
			return n
		}
	}
	return jpeg.Full
}

// reduced is what a picture that was decoded at a reduced scale keeps.
type reduced struct {
	whole *RGB
	scale Scale
	turn  orientation

	mu    sync.Mutex // guards what follows
	file  *jpeg.File
	parts []part
	kept  int // pixels of parts
}

// part is a part of a picture at full scale.
type part struct {
	box image.Rectangle
	img *RGB
}

// Scale says where the places of a picture lie on a copy of another size: (x, y) at (x·By + X, y·By + Y).
type Scale struct{ By, X, Y float64 }

// Reduced returns the whole picture as it was decoded, and where its places lie there: p itself, or fewer pixels.
func (p *RGB) Reduced() (*RGB, Scale) {
	if p.reduced == nil {
		return p, Scale{By: 1}
	}
	return p.reduced.whole, p.reduced.scale
}

// Part returns a picture that shows at least a box of p, and where the box lies on it. It may have fewer pixels than p
// if those of the box's longer side are still enough; otherwise it has all of them, and they are decoded if they were
// not yet. The box is cut to the picture. It is safe for concurrent use.
func (p *RGB) Part(box image.Rectangle, enough int) (*RGB, image.Rectangle) {
	box = box.Intersect(image.Rect(0, 0, p.W, p.H))
	r := p.reduced
	if r == nil || box.Empty() {
		return p, box
	}
	if s := r.scale; float64(max(box.Dx(), box.Dy()))*s.By >= float64(enough) && enough > 0 {
		edge := func(at int, shift float64) int { return int((float64(at)-0.5)*s.By + shift + 1) } // rounded
		onWhole := image.Rect(edge(box.Min.X, s.X), edge(box.Min.Y, s.Y), edge(box.Max.X, s.X), edge(box.Max.Y, s.Y))
		return r.whole, onWhole.Intersect(image.Rect(0, 0, r.whole.W, r.whole.H))
	}
	found := r.part(box, p.W, p.H)
	return found.img, box.Sub(found.box.Min)
}

// widest is the largest number of pixels on each side that are decoded in addition to those asked for.
const widest = 64

// part returns a part of a picture of width × height pixels that has the box on it.
func (r *reduced) part(box image.Rectangle, width, height int) part {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.parts {
		if box.In(p.box) {
			return p
		}
	}
	// The next request for the same face needs slightly more or less of it.
	around := box.Inset(-min(max(box.Dx(), box.Dy())/4, widest)).Intersect(image.Rect(0, 0, width, height))
	src, err := r.file.Part(r.turn.inverse().moved(around, width, height))
	if err != nil {
		panic(fmt.Sprintf("a part of a picture cannot be decoded, and the whole could: %v", err))
	}
	stored := src.Bounds()
	switch m := src.(type) {
	case *image.Gray:
		m.Rect = m.Rect.Sub(stored.Min)
	case *image.YCbCr:
		m.Rect = m.Rect.Sub(stored.Min)
	}
	found := part{
		box: r.turn.moved(stored, r.file.Width, r.file.Height),
		img: draw(src, stored.Dx(), stored.Dy(), r.turn, &jfif),
	}
	if n := found.img.W * found.img.H; r.kept+n > width*height { // no more than the whole picture would take
		r.parts, r.kept = nil, 0
	}
	r.parts, r.kept = append(r.parts, found), r.kept+found.img.W*found.img.H
	return found
}

// large is a picture that was decoded at a reduced scale, of n to 8. As an image it is as large as its file says.
type large struct {
	small image.Image
	file  *jpeg.File
	n     int
}

// ColorModel implements image.Image.
func (l *large) ColorModel() color.Model { return l.small.ColorModel() }

// Bounds implements image.Image.
func (l *large) Bounds() image.Rectangle { return image.Rect(0, 0, l.file.Width, l.file.Height) }

// At implements image.Image.
func (l *large) At(x, y int) color.Color { return l.small.At(x*l.n/jpeg.Full, y*l.n/jpeg.Full) }

// upright turns the picture.
func (l *large) upright(turn orientation) *RGB {
	size := l.small.Bounds()
	r := &reduced{whole: draw(l.small, size.Dx(), size.Dy(), turn, &jfif), turn: turn, file: l.file}
	whole := turn.moved(l.Bounds(), l.file.Width, l.file.Height)
	by := float64(l.n) / jpeg.Full
	r.scale = Scale{By: by, X: by/2 - 0.5, Y: by/2 - 0.5}
	// The last pixels stand for less than others if the size is no multiple; mirrored, they are the first.
	mirrorX, mirrorY := turn.mirrors()
	if mirrorX {
		r.scale.X += float64(r.whole.W) - by*float64(whole.Dx())
	}
	if mirrorY {
		r.scale.Y += float64(r.whole.H) - by*float64(whole.Dy())
	}
	return &RGB{W: whole.Dx(), H: whole.Dy(), reduced: r}
}
