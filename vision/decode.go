package vision

import (
	"bytes"
	"image"
	"image/draw"
	_ "image/gif"
	_ "image/jpeg"
	_ "image/png"
)

// decode returns the picture in the photo's bytes.
func decode(photo []byte) (*image.NRGBA, error) {
	src, _, err := image.Decode(bytes.NewReader(photo))
	switch {
	case err == image.ErrFormat:
		return nil, &ImageError{Kind: UnknownFormat, Message: "the image format is not one of JPEG, PNG, GIF, BMP and WebP"}
	case err != nil:
		return nil, &ImageError{Kind: Broken, Message: "the image cannot be decoded"}
	}
	b := src.Bounds()
	img := image.NewNRGBA(image.Rect(0, 0, b.Dx(), b.Dy()))
	if ycc, ok := src.(*image.YCbCr); ok {
		colours(img, ycc)
		return img, nil
	}
	draw.Draw(img, img.Rect, src, b.Min, draw.Src)
	return img, nil
}
