package photo

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"

	"github.com/bep/imagemeta"
	"golang.org/x/image/bmp"
	"golang.org/x/image/webp"
)

// format is one sort of file.
type format struct {
	name   string
	magic  string // the first bytes; a question mark stands for any
	config func(io.Reader) (image.Config, error)
	decode func(io.Reader) (image.Image, error)
	// perPixel returns the most bytes that the decoder holds for each pixel of a picture with this header.
	perPixel func(file []byte, c image.Config) int
	// exif is the format's name where EXIF is read; zero where it is not.
	exif imagemeta.ImageFormat
	// mix is how the format's colour differences are meant.
	mix *mixture
}

// formats are all that Decode knows.
var formats = [...]format{
	{"JPEG", "\xff\xd8", jpeg.DecodeConfig, jpeg.Decode, jpegPerPixel, imagemeta.JPEG, &jfif},
	{"PNG", "\x89PNG\r\n\x1a\n", png.DecodeConfig, png.Decode, modelPerPixel, imagemeta.PNG, nil},
	// gif.Decode stops after the first frame. A frame lies within the screen, or is refused.
	{"GIF", "GIF8?a", gif.DecodeConfig, gif.Decode, modelPerPixel, 0, nil},
	{"BMP", "BM", bmp.DecodeConfig, bmp.Decode, modelPerPixel, 0, nil},
	{"WebP", "RIFF????WEBPVP8", webp.DecodeConfig, webp.Decode, webpPerPixel, imagemeta.WebP, &studio},
}

// formatOf returns the file's format by its first bytes, or nil.
func formatOf(file []byte) *format {
	for i := range formats {
		if starts(file, formats[i].magic) {
			return &formats[i]
		}
	}
	return nil
}

func starts(file []byte, magic string) bool {
	if len(file) < len(magic) {
		return false
	}
	for i := range len(magic) {
		if magic[i] != '?' && magic[i] != file[i] {
			return false
		}
	}
	return true
}

// measure returns the size in the file's header, if it is within the limits.
func (f *format) measure(file []byte) (width, height int, err error) {
	c, err := guard(file, f.config)
	if err != nil {
		return 0, 0, broken(err)
	}
	if c.Width < 1 || c.Height < 1 {
		return 0, 0, broken(fmt.Errorf("%s header with a size of %d × %d", f.name, c.Width, c.Height))
	}
	const sampleBytes = 3 // of RGB
	tooMany := func(most string) error {
		return &Error{Kind: TooManyPixels,
			Message: fmt.Sprintf("the image has %d × %d pixels, the most allowed is %s", c.Width, c.Height, most)}
	}
	if c.Width > MaxSide || c.Height > MaxSide {
		return 0, 0, tooMany(fmt.Sprintf("%d on a side", MaxSide))
	}
	pixels := c.Width * c.Height
	if pixels > MaxPixels {
		return 0, 0, tooMany(fmt.Sprintf("%d in all", MaxPixels))
	}
	if each := f.perPixel(file, c) + sampleBytes; pixels*each > MaxMemory {
		return 0, 0, tooMany(fmt.Sprintf("%d in all for an image of this kind", MaxMemory/each))
	}
	if f.name == "JPEG" && jpegScans(file)*pixels > maxScanned {
		return 0, 0, broken(fmt.Errorf("a JPEG of %d × %d pixels with too many scans", c.Width, c.Height))
	}
	return c.Width, c.Height, nil
}

// read decodes the picture.
func (f *format) read(file []byte) (image.Image, error) {
	src, err := guard(file, f.decode)
	if err != nil {
		return nil, broken(err)
	}
	return src, nil
}

// guard runs a decoder. Some panic on files made for that.
func guard[T any](file []byte, decode func(io.Reader) (T, error)) (_ T, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("decoder panicked: %v", r)
		}
	}()
	return decode(bytes.NewReader(file))
}

// modelPerPixel is perPixel for decoders that hold the picture and, while they put interlaced rows in order, at most half
// of it again.
func modelPerPixel(_ []byte, c image.Config) int {
	if _, ok := c.ColorModel.(color.Palette); ok {
		return 2
	}
	switch c.ColorModel {
	case color.GrayModel:
		return 2
	case color.RGBA64Model, color.NRGBA64Model, color.Gray16Model:
		return 12 // grey with a transparent shade is decoded in full colour
	}
	return 6
}

// webpPerPixel is perPixel for WebP, whose lossless sort keeps a second copy while it expands a palette. The alpha of the
// lossy sort is stored as a lossless picture.
func webpPerPixel([]byte, image.Config) int { return 9 }

// maxScanned is the most pixels that the scans of a JPEG pass over. A scan of forty bytes may pass over all pixels, and
// refine each; a file of nothing else keeps a decoder busy that cannot be stopped. This is 25 scans of the largest
// picture, or some seconds, and 83 of one of 12 megapixels; encoders make about ten.
const maxScanned = 25 * MaxPixels

// jpegScans counts the scans up to the end of the picture. What follows the end may be a film, and what lies within
// segments a preview: their bytes look like scans, and are none.
func jpegScans(file []byte) int {
	scans := 0
	for at := 2; at+4 <= len(file); {
		marker := file[at+1]
		switch {
		case file[at] != 0xff || marker == 0 || marker == 0xff || marker >= 0xd0 && marker <= 0xd7:
			at++ // data of a scan, filling, or a restart within a scan
			continue
		case marker == 0xd9:
			return scans
		case marker == 0xda:
			scans++
		}
		at += 2 + int(file[at+2])<<8 + int(file[at+3])
	}
	return scans
}

// jpegPerPixel counts the samples, and the coefficients that a progressive picture is kept as, by what is in the header
// of its frame.
func jpegPerPixel(file []byte, _ image.Config) int {
	const coefficient = 4 // bytes
	progressive, samples := jpegFrame(file)
	each := samples
	if progressive {
		each += coefficient * samples
	}
	if samples >= 3 {
		each += samples + 1 // RGB and CMYK are put together in a copy
	}
	return each
}

// jpegFrame reads the frame header of a JPEG: whether it is progressive, and how many samples it has for a pixel, rounded
// up. If there is no header it returns the worst, and the decoder will say what is wrong.
func jpegFrame(file []byte) (progressive bool, samples int) {
	for at := 2; at+4 <= len(file); {
		if file[at] != 0xff || file[at+1] == 0 {
			at++
			continue
		}
		marker, n := file[at+1], int(file[at+2])<<8+int(file[at+3])
		switch {
		case marker == 0xff:
			at++
			continue
		case marker >= 0xd0 && marker <= 0xd7: // restart marks stand alone
			at += 2
			continue
		case marker == 0xda || marker == 0xd9: // picture before its header, end
			return true, 4
		case marker >= 0xc0 && marker <= 0xc2:
			return marker == 0xc2, frameSamples(file[at+4 : min(at+2+max(n, 2), len(file))])
		}
		at += 2 + n
	}
	return true, 4
}

// frameSamples reads the components' sampling factors: each has a share of the pixels that is its factors' product over
// that of the largest factors.
func frameSamples(header []byte) int {
	const before, each = 6, 3 // bytes before the components, and of each
	if len(header) < before || len(header) < before+each*int(header[5]) || header[5] < 1 || header[5] > 4 {
		return 4
	}
	sum, maxH, maxV := 0, 1, 1
	for c := range int(header[5]) {
		h, v := int(header[before+each*c+1]>>4), int(header[before+each*c+1]&15)
		sum, maxH, maxV = sum+h*v, max(maxH, h), max(maxV, v)
	}
	if header[5] == 1 {
		return 1 // the factors of a single component mean nothing
	}
	return (sum + maxH*maxV - 1) / (maxH * maxV)
}
