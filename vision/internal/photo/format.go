package photo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"io"
)

// format is one kind of image file.
type format struct {
	name  string
	magic string // the first bytes; a question mark stands for any
	// config reads the size in the file's header.
	config func(io.Reader) (image.Config, error)
	// read decodes the picture. The note names faults of the file that were tolerated.
	read func(ctx context.Context, d *Decoder, file []byte) (m image.Image, note string, err error)
	// perPixel returns the largest number of bytes that the decoder holds for each pixel of a picture with this header.
	perPixel func(file []byte, c image.Config) int
	// turn returns how to turn the picture; nil for formats that do not say it.
	turn func(file []byte) orientation
	// mix is the meaning of the colour differences of the format.
	mix *mixture
}

// formats are all formats that Decode reads.
var formats = [...]format{
	{"JPEG", "\xff\xd8", configJPEG, readJPEG, jpegPerPixel, turnBy(metadataOfJPEG), &jfif},
	{"PNG", pngSignature, configPNG, plain(readPNG), modelPerPixel, turnBy(metadataOfPNG), nil},
	{"GIF", "GIF8?a", configGIF, plain(readGIF), modelPerPixel, nil, nil},
	{"BMP", "BM", configBMP, plain(readBMPPixels), modelPerPixel, nil, nil},
	{"WebP", "RIFF????WEBP", configWebP, plain(readWebP), webpPerPixel, turnBy(metadataOfWebP), &studio},
}

// plain is the read function of a format that needs neither a sandbox nor much time.
func plain(
	read func([]byte) (image.Image, string, error),
) func(context.Context, *Decoder, []byte) (image.Image, string, error) {
	return func(_ context.Context, _ *Decoder, file []byte) (image.Image, string, error) { return read(file) }
}

// heifs is the format of HEIC and AVIF files, which are recognised by the brands that they list.
var heifs = format{"HEIC or AVIF", "????ftyp", configHEIF, decodeHEIF, heifPerPixel, turnHEIF, nil}

// turnBy is the turn function of a format with metadata.
func turnBy(find func([]byte) metadata) func([]byte) orientation {
	return func(file []byte) orientation { return find(file).orientation() }
}

// formatOf returns the file's format by its first bytes, or nil.
func formatOf(file []byte) *format {
	for i := range formats {
		if starts(file, formats[i].magic) {
			return &formats[i]
		}
	}
	if isHEIF(file) {
		return &heifs
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
	c, err := guard(func() (image.Config, error) { return f.config(bytes.NewReader(file)) })
	if err != nil {
		return 0, 0, broken(f.name, file, err)
	}
	if c.Width < 1 || c.Height < 1 {
		return 0, 0, broken(f.name, file, fmt.Errorf("%s header with a size of %d × %d", f.name, c.Width, c.Height))
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
		return 0, 0, broken(f.name, file, fmt.Errorf("a JPEG of %d × %d pixels with too many scans", c.Width, c.Height))
	}
	return c.Width, c.Height, nil
}

// guard runs a decoder. Some panic on files that were made for that.
func guard[T any](decode func() (T, error)) (_ T, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("decoder panicked: %v", r)
		}
	}()
	return decode()
}

// modelPerPixel is perPixel of decoders that hold the picture and, while they sort interlaced rows, at most half of it
// again.
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

// heifPerPixel is perPixel of HEIC and AVIF: a picture of RGB while it is turned. The memory of the decoder is that of
// its sandbox, which has a limit of its own.
func heifPerPixel([]byte, image.Config) int { return 3 }

// broken returns the error for a file of a known format that cannot be decoded. An error that is already in words for
// the sender stays; for some of the others, the bytes show the cause.
func broken(name string, file []byte, cause error) error {
	told, known := errors.AsType[*Error](cause)
	if known && told.Kind != Broken {
		return told
	}
	if reason := spoilt(file); reason != "" {
		return &Error{Kind: Broken, Message: "the image cannot be decoded: " + reason, Cause: cause}
	}
	if known {
		return told
	}
	message := fmt.Sprintf("the image cannot be decoded: the %s data is damaged or incomplete", name)
	return &Error{Kind: Broken, Message: message, Cause: cause}
}
