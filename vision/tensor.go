package vision

import (
	"image"
	"math"

	"github.com/visage-face/visage/vision/internal/ort"
	"github.com/visage-face/visage/vision/pack"
)

// affine maps a place in a network's input to one in the picture: (a·x + b·y + c, d·x + e·y + f), both in pixels whose
// centres have whole numbers.
type affine struct{ a, b, c, d, e, f float64 }

// apply maps one point.
func (m affine) apply(x, y float64) (float64, float64) {
	return m.a*x + m.b*y + m.c, m.d*x + m.e*y + m.f
}

// scale is by how much the map enlarges, at most: 2 means that every second pixel of the picture is skipped.
func (m affine) scale() float64 { return max(math.Hypot(m.a, m.d), math.Hypot(m.b, m.e)) }

// newTensor returns a zero tensor for n pictures of the given size.
func newTensor(n, width, height int) ort.Tensor {
	return ort.Tensor{
		Shape: []int64{int64(n), 3, int64(height), int64(width)},
		Data:  make([]float32, n*3*width*height),
	}
}

// planes are the three channels of one picture inside a tensor, ready to be filled.
type planes struct {
	width, height int
	// channel[i] takes the picture's red, green and blue in turn, whatever their order in the tensor.
	channel [3][]float32
	// table[i] turns a channel's value into the network's number: value·mul[i] + add[i].
	mul, add [3]float32
}

// plane returns the i-th picture of t, to be filled as in asks.
func plane(t ort.Tensor, i int, in pack.Input) planes {
	h, w := int(t.Shape[2]), int(t.Shape[3])
	p := planes{width: w, height: h}
	for c := range 3 {
		from := c // the tensor's channel that takes red, green or blue
		if in.Channels == "BGR" {
			from = 2 - c
		}
		start := (i*3 + from) * w * h
		p.channel[c] = t.Data[start : start+w*h]
		p.mul[c] = float32(1 / in.Divisor[from])
		p.add[c] = float32(-in.Mean[from] / in.Divisor[from])
	}
	return p
}

// fill samples the picture at the places that m gives, between four pixels each. Outside of the rectangle within, all is
// black. Pixels on its edge blend into the black.
func (p planes) fill(img *image.NRGBA, within image.Rectangle, m affine) {
	within = within.Intersect(img.Rect)
	if m.b == 0 && m.d == 0 {
		p.fillUpright(img, within, m)
		return
	}
	for y := range p.height {
		for x := range p.width {
			sx, sy := m.apply(float64(x), float64(y))
			p.put(y*p.width+x, sampleAt(img, within, sx, sy))
		}
	}
}

func (p planes) put(at int, rgb [3]float32) {
	for c := range 3 {
		p.channel[c][at] = rgb[c]*p.mul[c] + p.add[c]
	}
}

// sampleAt returns the picture's colour at a place between pixels, each channel from 0 to 255.
func sampleAt(img *image.NRGBA, within image.Rectangle, x, y float64) (rgb [3]float32) {
	left, top := math.Floor(x), math.Floor(y)
	if left < float64(within.Min.X-1) || top < float64(within.Min.Y-1) ||
		left >= float64(within.Max.X) || top >= float64(within.Max.Y) {
		return rgb
	}
	fx, fy := float32(x-left), float32(y-top)
	add := func(px, py int, weight float32) {
		if weight == 0 || px < within.Min.X || py < within.Min.Y || px >= within.Max.X || py >= within.Max.Y {
			return
		}
		i := img.PixOffset(px, py)
		rgb[0] += weight * float32(img.Pix[i])
		rgb[1] += weight * float32(img.Pix[i+1])
		rgb[2] += weight * float32(img.Pix[i+2])
	}
	px, py := int(left), int(top)
	add(px, py, (1-fx)*(1-fy))
	add(px+1, py, fx*(1-fy))
	add(px, py+1, (1-fx)*fy)
	add(px+1, py+1, fx*fy)
	return rgb
}

// column says from which two pixels of a row a sample comes, as offsets of bytes, and how much of each; both weights are
// 0 outside of the picture.
type column struct {
	left, right   int
	wLeft, wRight float32
}

// fillUpright is fill for maps that do not turn: it works row by row, with the columns' weights computed once.
func (p planes) fillUpright(img *image.NRGBA, within image.Rectangle, m affine) {
	columns := make([]column, p.width)
	for x := range columns {
		columns[x] = between(m.a*float64(x)+m.c, within.Min.X, within.Max.X, img.Rect.Min.X, 4)
	}
	for y := range p.height {
		row := between(m.e*float64(y)+m.f, within.Min.Y, within.Max.Y, img.Rect.Min.Y, img.Stride)
		upper, lower := img.Pix[row.left:], img.Pix[row.right:]
		for x, c := range columns {
			w00, w01 := row.wLeft*c.wLeft, row.wLeft*c.wRight
			w10, w11 := row.wRight*c.wLeft, row.wRight*c.wRight
			a, b := upper[c.left:c.left+3:c.left+3], upper[c.right:c.right+3:c.right+3]
			d, e := lower[c.left:c.left+3:c.left+3], lower[c.right:c.right+3:c.right+3]
			at := y*p.width + x
			for k := range 3 {
				v := w00*float32(a[k]) + w01*float32(b[k]) + w10*float32(d[k]) + w11*float32(e[k])
				p.channel[k][at] = v*p.mul[k] + p.add[k]
			}
		}
	}
}

// between finds the two pixels around a place on one axis, of those from low up to high.
func between(at float64, low, high, origin, stride int) column {
	floor := math.Floor(at)
	part := float32(at - floor)
	var c column
	if i := int(floor); floor >= float64(low) && floor < float64(high) {
		c.left, c.wLeft = (i-origin)*stride, 1-part
	}
	if i := int(floor) + 1; floor+1 >= float64(low) && floor+1 < float64(high) {
		c.right, c.wRight = (i-origin)*stride, part
	}
	return c
}
