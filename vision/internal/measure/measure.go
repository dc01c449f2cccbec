// Package measure measures the pixels of a face: how blurred, how bright and how noisy they are, and from that how well
// the face can be recognised.
//
// It uses no network. Each measure is a published method or a simple statistic, scaled so that the levels of the Face
// contract (low, medium, high; under, good, over) agree with what people see.
package measure

import (
	"image"
	"math"
	"slices"

	"github.com/visage-face/visage/vision/internal/photo"
)

// Values are the measures of a face, each from 0 to 1.
type Values struct {
	// Blur: below 0.25 is low, from 0.75 high.
	Blur float64
	// Exposure: below 0.25 is under-exposed, from 0.75 over-exposed.
	Exposure float64
	// Noise: below 0.3 is low, from 0.7 high.
	Noise float64
}

// Face measures the face in a box, in pixels of the picture. A tenth of the box at each edge is left out, because it
// shows more of the background than of the face. A box without pixels counts as fully blurred and black.
func Face(p *photo.RGB, box image.Rectangle) Values {
	box = box.Intersect(image.Rect(0, 0, p.W, p.H))
	inner := box.Inset(min(box.Dx(), box.Dy()) / 10)
	if inner.Empty() {
		return Values{Blur: 1}
	}
	small := shrunk(p.Part(inner, 2*side))
	// Noise concerns single pixels, so a part of a large face is enough.
	middle := inner.Min.Add(inner.Size().Sub(image.Pt(window, window)).Div(2))
	part := image.Rectangle{middle, middle.Add(image.Pt(window, window))}.Intersect(inner)
	return Values{Blur: blur(small), Exposure: exposure(small), Noise: noise(greyOf(p.Part(part, 0)))}
}

// grey is the luma of a picture (ITU-R BT.601), 0 to 255.
type grey struct {
	pix  []float32
	w, h int
}

// luma returns the luma of the first pixel in pix.
func luma(pix []byte) float32 {
	return 0.299*float32(pix[0]) + 0.587*float32(pix[1]) + 0.114*float32(pix[2])
}

func greyOf(p *photo.RGB, box image.Rectangle) *grey {
	g := &grey{make([]float32, 0, box.Dx()*box.Dy()), box.Dx(), box.Dy()}
	for y := box.Min.Y; y < box.Max.Y; y++ {
		for row := p.Pix[3*(y*p.W+box.Min.X) : 3*(y*p.W+box.Max.X)]; len(row) >= 3; row = row[3:] {
			g.pix = append(g.pix, luma(row))
		}
	}
	return g
}

const (
	// side is the largest number of pixels on a side at which blur and exposure are measured: about what recognisers
	// see. Details that are lost when a face is reduced to it do not matter. Smaller faces are measured as they are.
	side = 112
	// window is the largest number of pixels on a side at which noise is measured: a thousand blocks.
	window = 256
)

// shrunk returns the content of the box with the longer side at most side. Each pixel is the mean of those that it
// replaces.
func shrunk(p *photo.RGB, box image.Rectangle) *grey {
	long := max(box.Dx(), box.Dy())
	if long <= side {
		return greyOf(p, box)
	}
	w, h := max(1, box.Dx()*side/long), max(1, box.Dy()*side/long)
	s := &grey{make([]float32, w*h), w, h}
	for y := range h {
		y0, y1 := box.Min.Y+y*box.Dy()/h, box.Min.Y+(y+1)*box.Dy()/h
		for x := range w {
			x0, x1 := box.Min.X+x*box.Dx()/w, box.Min.X+(x+1)*box.Dx()/w
			var sum float32
			for v := y0; v < y1; v++ {
				for row := p.Pix[3*(v*p.W+x0) : 3*(v*p.W+x1)]; len(row) >= 3; row = row[3:] {
					sum += luma(row)
				}
			}
			s.pix[y*w+x] = sum / float32((y1-y0)*(x1-x0))
		}
	}
	return s
}

// Ends of the scale of blur, in results of the method below. sharp: the result for sharp portraits; blurred: for a
// portrait blurred with sigma 4 pixels at the size above, at which people can no longer tell whose face it is.
const (
	sharp   = 0.30
	blurred = 0.85
)

// blur follows F. Crete et al., "The blur effect: perception and estimation with a new no-reference perceptual blur
// metric" (Proc. SPIE 6492, 2007): the picture is blurred again, and the less its gradients lose, the more blurred it
// was before. The result does not depend on contrast. The more blurred of the two directions counts, because motion
// blurs only one.
func blur(g *grey) float64 {
	kept := max(keptGradient(g), keptGradient(g.transposed()))
	return min(max((kept-sharp)/(blurred-sharp), 0), 1)
}

// keptGradient returns the fraction of the gradients along rows that remains after a mean over nine pixels, 0 to 1.
func keptGradient(g *grey) float64 {
	const reach = 4 // of nine pixels, to each side
	var all, lost float64
	mean := make([]float32, g.w)
	for y := range g.h {
		row := g.pix[y*g.w : (y+1)*g.w]
		for x := range row {
			var sum float32
			for i := x - reach; i <= x+reach; i++ {
				sum += row[min(max(i, 0), g.w-1)]
			}
			mean[x] = sum / (2*reach + 1)
		}
		for x := 1; x < g.w; x++ {
			was, is := math.Abs(float64(row[x]-row[x-1])), math.Abs(float64(mean[x]-mean[x-1]))
			all += was
			lost += max(was-is, 0)
		}
	}
	if all == 0 {
		return 1 // no gradients at all
	}
	return (all - lost) / all
}

func (g *grey) transposed() *grey {
	t := &grey{make([]float32, len(g.pix)), g.h, g.w}
	for y := range g.h {
		for x := range g.w {
			t.pix[x*g.h+y] = g.pix[y*g.w+x]
		}
	}
	return t
}

// exposure is the mean of the dark, the middle and the bright end of the luma: its 5th, 50th and 95th percentiles. The
// middle alone would take dark skin in good light for a dark photo, but dark skin has highlights.
func exposure(g *grey) float64 {
	var count [256]int
	for _, l := range g.pix {
		count[min(max(int(l+0.5), 0), 255)]++
	}
	at := func(part float64) float64 {
		left := part * float64(len(g.pix))
		for l, n := range count {
			if left -= float64(n); left < 0 {
				return float64(l) / 255
			}
		}
		return 1
	}
	return (at(0.05) + at(0.5) + at(0.95)) / 3
}

// noisy is the standard deviation, in levels of luma, at which noise is 1.
const noisy = 20

// noise follows J. Immerkær, "Fast Noise Variance Estimation" (Computer Vision and Image Understanding 64(2), 1996):
// the difference of two Laplacians cancels edges and slopes, and its mean size gives the standard deviation. It is
// computed by blocks, and the median block counts, so that hair is not taken for noise. Blocks that are all black or
// all white, where noise is cut off, do not count.
func noise(g *grey) float64 {
	const block = 8
	var deviations []float64
	for top := 1; top+block < g.h; top += block {
		for left := 1; left+block < g.w; left += block {
			var sum, mean float64
			for y := top; y < top+block; y++ {
				up, row, down := g.pix[(y-1)*g.w:], g.pix[y*g.w:], g.pix[(y+1)*g.w:]
				for x := left; x < left+block; x++ {
					sum += math.Abs(float64(up[x-1] - 2*up[x] + up[x+1] - 2*row[x-1] + 4*row[x] - 2*row[x+1] +
						down[x-1] - 2*down[x] + down[x+1]))
					mean += float64(row[x])
				}
			}
			if mean /= block * block; mean < 4 || mean > 251 {
				continue
			}
			deviations = append(deviations, math.Sqrt(math.Pi/2)*sum/(6*block*block))
		}
	}
	if len(deviations) == 0 {
		return 0
	}
	slices.Sort(deviations)
	return min(deviations[len(deviations)/2]/noisy, 1)
}
