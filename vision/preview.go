package vision

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/jpeg"
)

// Preview is a photo made small enough to be shown, upright.
type Preview struct {
	JPEG          []byte
	Width, Height int // of the upright photo itself, in the pixels that boxes and points are given in
}

// previewQuality is that of the JPEG file of a preview.
const previewQuality = 85

// Preview returns a photo with at most side pixels on its longer side. The errors are those of Detect.
func (p *Pipeline) Preview(ctx context.Context, photo []byte, side int) (_ *Preview, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("make a preview: panic: %v", r)
		}
	}()
	if side < 1 {
		return nil, fmt.Errorf("make a preview of %d pixels: too small", side)
	}
	release, err := p.limit.take(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	img, err := decode(ctx, p.photos, photo)
	if err != nil {
		return nil, err
	}
	small, _ := img.Reduced()
	if times := (max(small.W, small.H) + side - 1) / side; times > 1 {
		small = shrink(small, image.Rect(0, 0, small.W, small.H), times)
	}
	shown := image.NewRGBA(image.Rect(0, 0, small.W, small.H))
	for i := range small.W * small.H {
		copy(shown.Pix[4*i:], small.Pix[3*i:3*i+3])
		shown.Pix[4*i+3] = 0xff
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, shown, &jpeg.Options{Quality: previewQuality}); err != nil {
		return nil, fmt.Errorf("make a preview: %w", err)
	}
	return &Preview{JPEG: b.Bytes(), Width: img.W, Height: img.H}, nil
}
