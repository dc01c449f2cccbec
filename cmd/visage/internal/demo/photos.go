package demo

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"math"

	"golang.org/x/image/draw"
	"golang.org/x/image/math/f64"
)

// photo is a picture and its encoded bytes.
type photo struct {
	name    string
	picture image.Image
	bytes   []byte
}

func decodePhoto(name string, b []byte) (photo, error) {
	picture, err := jpeg.Decode(bytes.NewReader(b))
	if err != nil {
		return photo{}, fmt.Errorf("decode %s: %w", name, err)
	}
	return photo{name, picture, b}, nil
}

// variant is a way to derive a photo from another.
type variant struct {
	name    string
	degrees float64 // of the turn
	scale   float64
	light   float64 // factor of the brightness
	quality int     // of the JPEG file
}

// variants derive photos as another camera, another angle and other light would make them.
var variants = []variant{
	{name: "darker, turned by 8 degrees", degrees: 8, scale: 0.85, light: 0.6, quality: 70},
	{name: "brighter, turned by -6 degrees, at two thirds of the size", degrees: -6, scale: 0.67, light: 1.35,
		quality: 55},
}

// matrix maps points of the original to points of the variant, about the middle of both.
func (v variant) matrix(size image.Point) (m f64.Aff3, to image.Point) {
	to = image.Pt(int(float64(size.X)*v.scale), int(float64(size.Y)*v.scale))
	sin, cos := math.Sincos(v.degrees * math.Pi / 180)
	sin, cos = sin*v.scale, cos*v.scale
	cx, cy := float64(size.X)/2, float64(size.Y)/2
	return f64.Aff3{cos, -sin, float64(to.X)/2 - cos*cx + sin*cy, sin, cos, float64(to.Y)/2 - sin*cx - cos*cy}, to
}

// place maps a point of the original into the variant.
func (v variant) place(size image.Point, x, y float64) (float64, float64) {
	m, _ := v.matrix(size)
	return m[0]*x + m[1]*y + m[2], m[3]*x + m[4]*y + m[5]
}

// apply makes the variant of a photo.
func (v variant) apply(p photo) (photo, error) {
	m, to := v.matrix(p.picture.Bounds().Size())
	out := image.NewRGBA(image.Rect(0, 0, to.X, to.Y))
	draw.Draw(out, out.Bounds(), image.NewUniform(color.Gray{128}), image.Point{}, draw.Src)
	draw.BiLinear.Transform(out, m, p.picture, p.picture.Bounds(), draw.Over, nil)
	for i, c := range out.Pix {
		if i%4 != 3 { // not the alpha channel
			out.Pix[i] = uint8(min(255, float64(c)*v.light))
		}
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, out, &jpeg.Options{Quality: v.quality}); err != nil {
		return photo{}, fmt.Errorf("encode a variant of %s: %w", p.name, err)
	}
	return photo{p.name + ", " + v.name, out, b.Bytes()}, nil
}
