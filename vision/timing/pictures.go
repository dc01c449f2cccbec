package timing

import (
	"bytes"
	"fmt"
	"image"
	_ "image/gif" // formats of the photo to measure with
	"image/jpeg"
	_ "image/png"
	"math/rand/v2"

	"golang.org/x/image/draw"
)

// The sizes of the two photos that are measured, in pixels: of an old camera, and of a phone.
const (
	SmallWidth  = 640
	SmallHeight = 480
	LargeWidth  = 4000
	LargeHeight = 3000
)

// Pictures is one scene in two sizes.
type Pictures struct {
	// Small and Large are JPEG files.
	Small, Large []byte
	// Pixels are the source of Small: packed rows of red, green and blue.
	Pixels []byte
}

// grain is the deviation of the noise on the large photo, in levels: enlarged pictures are smoother, and so smaller as
// files, than photos of a phone, which take 2 to 4 MB at this size.
const grain = 5

// NewPictures scales a part of a photo, given as a file, to both sizes. An empty part stands for the largest one in the
// middle that has their shape.
func NewPictures(photo []byte, part image.Rectangle) (Pictures, error) {
	src, _, err := image.Decode(bytes.NewReader(photo))
	if err != nil {
		return Pictures{}, fmt.Errorf("decode the photo to measure with: %w", err)
	}
	if part.Empty() {
		part = middle(src.Bounds())
	}
	small, pixels, err := scaled(src, part, SmallWidth, SmallHeight, 0, 90)
	if err != nil {
		return Pictures{}, err
	}
	large, _, err := scaled(src, part, LargeWidth, LargeHeight, grain, 92)
	if err != nil {
		return Pictures{}, err
	}
	return Pictures{Small: small, Large: large, Pixels: pixels}, nil
}

// middle returns the largest part of a picture that is four wide and three high, and lies in its middle.
func middle(b image.Rectangle) image.Rectangle {
	w, h := b.Dx(), b.Dx()*3/4
	if h > b.Dy() {
		w, h = b.Dy()*4/3, b.Dy()
	}
	at := b.Min.Add(image.Pt((b.Dx()-w)/2, (b.Dy()-h)/2))
	return image.Rectangle{Min: at, Max: at.Add(image.Pt(w, h))}
}

// scaled returns a part of a picture as a JPEG file of the given size, and the pixels that went into it.
func scaled(
	src image.Image, part image.Rectangle, w, h int, noise float64, quality int,
) (file, pixels []byte, err error) {
	canvas := image.NewRGBA(image.Rect(0, 0, w, h))
	draw.CatmullRom.Scale(canvas, canvas.Bounds(), src, part, draw.Src, nil)
	random := rand.New(rand.NewPCG(1, 2)) // the same for every run
	for i := 0; noise > 0 && i < len(canvas.Pix); i += 4 {
		n := noise * random.NormFloat64()
		for c := i; c < i+3; c++ {
			canvas.Pix[c] = byte(min(max(float64(canvas.Pix[c])+n, 0), 255))
		}
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, canvas, &jpeg.Options{Quality: quality}); err != nil {
		return nil, nil, fmt.Errorf("encode a photo to measure with: %w", err)
	}
	pixels = make([]byte, 0, 3*w*h)
	for i := 0; i < len(canvas.Pix); i += 4 {
		pixels = append(pixels, canvas.Pix[i:i+3]...)
	}
	return b.Bytes(), pixels, nil
}
