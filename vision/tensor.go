package vision

import (
	"image"
	"math"

	"github.com/visage-face/visage/vision/internal/geometry"
	"github.com/visage-face/visage/vision/internal/ort"
	"github.com/visage-face/visage/vision/internal/photo"
	"github.com/visage-face/visage/vision/pack"
)

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
	// A channel's value v becomes v·mul[i] + add[i].
	mul, add [3]float32
}

// plane returns the i-th picture of t, to fill as in asks.
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

// fillSmooth is fill for maps that may skip pixels of the picture: it averages pixels first, so that fine patterns do
// not become coarse ones.
func (p planes) fillSmooth(img *photo.RGB, within image.Rectangle, m geometry.Affine) {
	p.fillAveraged(p.pixels(img, within.Intersect(image.Rect(0, 0, img.W, img.H)), m))
}

// fillAveraged is fillSmooth for a picture that has all its pixels.
func (p planes) fillAveraged(img *photo.RGB, within image.Rectangle, m geometry.Affine) {
	times := int(max(math.Hypot(m.A, m.D), math.Hypot(m.B, m.E)))
	if times < 2 || within.Empty() {
		p.fill(img, within, m)
		return
	}
	part := within.Intersect(p.seen(m).Inset(-2 * times))
	if part.Empty() {
		p.fill(img, part, m)
		return
	}
	small := shrink(img, part, times)
	// The first pixel of the small picture lies in the middle of the pixels that it is the mean of.
	k, middle := float64(times), float64(times-1)/2
	to := geometry.Affine{
		A: 1 / k, C: -(float64(part.Min.X) + middle) / k,
		E: 1 / k, F: -(float64(part.Min.Y) + middle) / k,
	}
	p.fill(small, image.Rect(0, 0, small.W, small.H), m.Then(to))
}

// pixels returns a picture with the pixels that m shows, with within and m for that picture. A picture that was decoded
// at a reduced scale is used where m would skip pixels of it, or where m shows much of it and does not need twice as
// many; elsewhere the part that m shows is decoded in full.
func (p planes) pixels(
	img *photo.RGB, within image.Rectangle, m geometry.Affine,
) (*photo.RGB, image.Rectangle, geometry.Affine) {
	whole, scale := img.Reduced()
	if whole == img || within.Empty() {
		return img, within, m
	}
	step := max(math.Hypot(m.A, m.D), math.Hypot(m.B, m.E)) * scale.By
	shown := within.Intersect(p.seen(m).Inset(-2 * int(step/scale.By+1)))
	if much := 4*shown.Dx()*shown.Dy() > img.W*img.H; step >= 1 || much && step > 0.5 {
		to := geometry.Affine{A: scale.By, C: scale.X, E: scale.By, F: scale.Y}
		edge := func(x, y int) image.Point { // between pixels
			at := to.Apply(geometry.Point{X: float64(x) - 0.5, Y: float64(y) - 0.5})
			return image.Pt(int(math.Round(at.X+0.5)), int(math.Round(at.Y+0.5)))
		}
		within = image.Rectangle{Min: edge(within.Min.X, within.Min.Y), Max: edge(within.Max.X, within.Max.Y)}
		return whole, within, m.Then(to)
	}
	if shown.Empty() {
		return whole, image.Rectangle{}, m // black
	}
	part, at := img.Part(shown, 0)
	move := at.Min.Sub(shown.Min)
	return part, at, m.Then(geometry.Affine{A: 1, C: float64(move.X), E: 1, F: float64(move.Y)})
}

// seen returns the rectangle of the picture that m shows.
func (p planes) seen(m geometry.Affine) image.Rectangle {
	left, top, right, bottom := math.Inf(1), math.Inf(1), math.Inf(-1), math.Inf(-1)
	w, h := float64(p.width), float64(p.height)
	for _, corner := range [4]geometry.Point{{}, {X: w}, {Y: h}, {X: w, Y: h}} {
		at := m.Apply(corner)
		left, top, right, bottom = min(left, at.X), min(top, at.Y), max(right, at.X), max(bottom, at.Y)
	}
	return image.Rect(int(left), int(top), int(right)+1, int(bottom)+1)
}

// shrink returns a part of the picture with times × times pixels averaged into one; the remainder at the edges is
// averaged too.
func shrink(img *photo.RGB, part image.Rectangle, times int) *photo.RGB {
	small := &photo.RGB{W: (part.Dx() + times - 1) / times, H: (part.Dy() + times - 1) / times}
	small.Pix = make([]byte, 3*small.W*small.H)
	sums := make([]uint32, 3*small.W)
	for y := range small.H {
		clear(sums)
		top, bottom := part.Min.Y+y*times, min(part.Min.Y+(y+1)*times, part.Max.Y)
		for row := top; row < bottom; row++ {
			from := img.Pix[3*(row*img.W+part.Min.X) : 3*(row*img.W+part.Max.X)]
			if times == 2 { // the most frequent case
				for to := sums; len(from) >= 6 && len(to) >= 3; from, to = from[6:], to[3:] {
					to[0] += uint32(from[0]) + uint32(from[3])
					to[1] += uint32(from[1]) + uint32(from[4])
					to[2] += uint32(from[2]) + uint32(from[5])
				}
				for c, v := range from { // a last column without a second
					sums[len(sums)-3+c] += uint32(v)
				}
				continue
			}
			for x := 0; x < small.W; x++ {
				sum := sums[3*x : 3*x+3 : 3*x+3]
				for n := min(times, len(from)/3); n > 0; n-- {
					sum[0] += uint32(from[0])
					sum[1] += uint32(from[1])
					sum[2] += uint32(from[2])
					from = from[3:]
				}
			}
		}
		out := small.Pix[3*y*small.W : 3*(y+1)*small.W]
		for x := range small.W {
			if n := uint32((bottom - top) * min(times, part.Dx()-x*times)); n == 4 {
				out[3*x], out[3*x+1], out[3*x+2] = byte((sums[3*x]+2)>>2), byte((sums[3*x+1]+2)>>2),
					byte((sums[3*x+2]+2)>>2)
			} else {
				for c := range 3 {
					out[3*x+c] = byte((sums[3*x+c] + n/2) / n)
				}
			}
		}
	}
	return small
}

// fill samples the picture at the places that m gives for the input, between four pixels each. Outside of the rectangle
// within, all is black. Pixels on its edge blend into the black.
func (p planes) fill(img *photo.RGB, within image.Rectangle, m geometry.Affine) {
	within = within.Intersect(image.Rect(0, 0, img.W, img.H))
	if within.Empty() { // also a picture without pixels
		for c := range 3 {
			for i := range p.channel[c] {
				p.channel[c][i] = p.add[c]
			}
		}
		return
	}
	if m.B == 0 && m.D == 0 {
		p.fillUpright(img, within, m)
		return
	}
	inner := image.Rectangle{Min: within.Min, Max: within.Max.Sub(image.Pt(1, 1))} // pixels with all their neighbours
	for y := range p.height {
		for x := range p.width {
			at := m.Apply(geometry.Point{X: float64(x), Y: float64(y)})
			left, top := math.Floor(at.X), math.Floor(at.Y)
			if left < float64(inner.Min.X) || top < float64(inner.Min.Y) ||
				left >= float64(inner.Max.X) || top >= float64(inner.Max.Y) {
				p.put(y*p.width+x, sampleAt(img, within, at))
				continue
			}
			fx, fy := float32(at.X-left), float32(at.Y-top)
			w00, w01, w10, w11 := (1-fx)*(1-fy), fx*(1-fy), (1-fx)*fy, fx*fy
			i := 3 * (int(top)*img.W + int(left))
			a, b := (*[6]byte)(img.Pix[i:]), (*[6]byte)(img.Pix[i+3*img.W:])
			for c := range 3 {
				v := w00*float32(a[c]) + w01*float32(a[c+3]) + w10*float32(b[c]) + w11*float32(b[c+3])
				p.channel[c][y*p.width+x] = v*p.mul[c] + p.add[c]
			}
		}
	}
}

func (p planes) put(at int, rgb [3]float32) {
	for c := range 3 {
		p.channel[c][at] = rgb[c]*p.mul[c] + p.add[c]
	}
}

// sampleAt returns the picture's colour at a place between pixels, each channel from 0 to 255.
func sampleAt(img *photo.RGB, within image.Rectangle, at geometry.Point) (rgb [3]float32) {
	left, top := math.Floor(at.X), math.Floor(at.Y)
	if left < float64(within.Min.X-1) || top < float64(within.Min.Y-1) ||
		left >= float64(within.Max.X) || top >= float64(within.Max.Y) {
		return rgb
	}
	fx, fy := float32(at.X-left), float32(at.Y-top)
	add := func(px, py int, weight float32) {
		if weight == 0 || px < within.Min.X || py < within.Min.Y || px >= within.Max.X || py >= within.Max.Y {
			return
		}
		i := 3 * (py*img.W + px)
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

// column holds the two pixels of a row that a sample comes from, as offsets of bytes, and their weights; both weights
// are 0 outside of the picture.
type column struct {
	left, right   int
	wLeft, wRight float32
}

// fillUpright is fill for maps that do not turn: it works row by row, with the weights of the columns computed once.
func (p planes) fillUpright(img *photo.RGB, within image.Rectangle, m geometry.Affine) {
	columns := make([]column, p.width)
	for x := range columns {
		columns[x] = between(m.A*float64(x)+m.C, within.Min.X, within.Max.X, 3)
	}
	for y := range p.height {
		row := between(m.E*float64(y)+m.F, within.Min.Y, within.Max.Y, 3*img.W)
		upper, lower := img.Pix[row.left:], img.Pix[row.right:]
		start, end := y*p.width, (y+1)*p.width
		red, green, blue := p.channel[0][start:end], p.channel[1][start:end:end], p.channel[2][start:end:end]
		for x := range red {
			c := &columns[x]
			w00, w01 := row.wLeft*c.wLeft, row.wLeft*c.wRight
			w10, w11 := row.wRight*c.wLeft, row.wRight*c.wRight
			a, b := (*[3]byte)(upper[c.left:]), (*[3]byte)(upper[c.right:])
			d, e := (*[3]byte)(lower[c.left:]), (*[3]byte)(lower[c.right:])
			r := w00*float32(a[0]) + w01*float32(b[0]) + w10*float32(d[0]) + w11*float32(e[0])
			g := w00*float32(a[1]) + w01*float32(b[1]) + w10*float32(d[1]) + w11*float32(e[1])
			bl := w00*float32(a[2]) + w01*float32(b[2]) + w10*float32(d[2]) + w11*float32(e[2])
			red[x], green[x], blue[x] = r*p.mul[0]+p.add[0], g*p.mul[1]+p.add[1], bl*p.mul[2]+p.add[2]
		}
	}
}

// between returns the two pixels around a place on one axis, from low up to high.
func between(at float64, low, high, stride int) column {
	floor := math.Floor(at)
	part := float32(at - floor)
	var c column
	if i := int(floor); floor >= float64(low) && floor < float64(high) {
		c.left, c.wLeft = i*stride, 1-part
	}
	if i := int(floor) + 1; floor+1 >= float64(low) && floor+1 < float64(high) {
		c.right, c.wRight = i*stride, part
	}
	return c
}
