package demo

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/jpeg"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"
)

// label is a box and the text above it.
type label struct {
	box   Box
	text  string
	known bool
}

var (
	knownColour   = color.RGBA{0x1f, 0x8f, 0x4e, 0xff}
	unknownColour = color.RGBA{0x9a, 0x3b, 0x3b, 0xff}
)

// annotate draws labels on a photo and returns it as a JPEG file.
func annotate(p photo, labels []label) ([]byte, error) {
	parsed, err := opentype.Parse(gobold.TTF)
	if err != nil {
		return nil, fmt.Errorf("read font: %w", err)
	}
	bounds := p.picture.Bounds()
	size := max(14, float64(bounds.Dx())/64)
	face, err := opentype.NewFace(parsed, &opentype.FaceOptions{Size: size, DPI: 72, Hinting: font.HintingFull})
	if err != nil {
		return nil, fmt.Errorf("read font: %w", err)
	}
	defer face.Close()
	out := image.NewRGBA(bounds)
	draw.Draw(out, bounds, p.picture, bounds.Min, draw.Src)
	thick := max(2, bounds.Dx()/400)
	for _, l := range labels {
		colour := unknownColour
		if l.known {
			colour = knownColour
		}
		frame(out, image.Rect(l.box.Left, l.box.Top, l.box.Left+l.box.Width, l.box.Top+l.box.Height), thick, colour)
		width := font.MeasureString(face, l.text).Ceil() + 12
		height := int(size * 1.4)
		left := max(0, min(l.box.Left-thick, bounds.Dx()-width))
		top := l.box.Top - height
		if top < 0 {
			top = l.box.Top + l.box.Height
		}
		fill(out, image.Rect(left, top, left+width, top+height), colour)
		writer := font.Drawer{
			Dst: out, Src: image.White, Face: face,
			Dot: fixed.P(left+6, top+height-int(size*0.35)),
		}
		writer.DrawString(l.text)
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, out, &jpeg.Options{Quality: 88}); err != nil {
		return nil, fmt.Errorf("encode picture: %w", err)
	}
	return b.Bytes(), nil
}

func fill(dst draw.Image, r image.Rectangle, c color.Color) {
	draw.Draw(dst, r, image.NewUniform(c), image.Point{}, draw.Src)
}

func frame(dst draw.Image, r image.Rectangle, thick int, c color.Color) {
	outer := r.Inset(-thick)
	fill(dst, image.Rect(outer.Min.X, outer.Min.Y, outer.Max.X, r.Min.Y), c)
	fill(dst, image.Rect(outer.Min.X, r.Max.Y, outer.Max.X, outer.Max.Y), c)
	fill(dst, image.Rect(outer.Min.X, r.Min.Y, r.Min.X, r.Max.Y), c)
	fill(dst, image.Rect(r.Max.X, r.Min.Y, outer.Max.X, r.Max.Y), c)
}
