package jpeg

import "image"

// canvas takes the blocks of some units.
type canvas struct {
	units  image.Rectangle
	n      int // pixels of a block's side
	planes []plane
}

// plane takes the blocks of one component.
type plane struct {
	pix    []byte
	stride int
}

// canvas returns a canvas for some of the file's units.
func (f *File) canvas(units image.Rectangle, n int) *canvas {
	c := &canvas{units: units, n: n}
	for _, p := range f.parts {
		w, h := units.Dx()*p.h*n, units.Dy()*p.v*n
		c.planes = append(c.planes, plane{make([]byte, w*h), w})
	}
	return c
}

// picture returns the picture on the canvas. Pixels outside of the bounds are padding.
func (c *canvas) picture(bounds image.Rectangle) image.Image {
	p := c.planes
	if len(p) == 1 {
		return &image.Gray{Pix: p[0].pix, Stride: p[0].stride, Rect: bounds}
	}
	ratio := image.YCbCrSubsampleRatio444
	wide, high := p[0].stride > p[1].stride, len(p[0].pix)/p[0].stride > len(p[1].pix)/p[1].stride
	switch {
	case wide && high:
		ratio = image.YCbCrSubsampleRatio420
	case wide:
		ratio = image.YCbCrSubsampleRatio422
	case high:
		ratio = image.YCbCrSubsampleRatio440
	}
	return &image.YCbCr{
		Y: p[0].pix, Cb: p[1].pix, Cr: p[2].pix, YStride: p[0].stride, CStride: p[1].stride,
		SubsampleRatio: ratio, Rect: bounds,
	}
}
