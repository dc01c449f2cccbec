// Package photo turns the bytes of an image file, whoever sent them, into an upright picture, at a bounded cost.
//
// JPEG (baseline and progressive; grey, YCbCr, RGB, CMYK and YCCK), PNG, GIF (the first frame only), BMP and WebP (no
// animations) are told apart by their first bytes. Colour profiles are ignored. What is transparent is laid on white,
// as on paper.
package photo

import (
	"fmt"
	"image"
)

// Limits of what Decode accepts, each inclusive. MinBytes and MaxBytes are those of the Face contract; the others bound
// the memory that a file can make Decode use.
const (
	MinBytes = 1 << 10
	MaxBytes = 6 << 20
	// MaxSide is the most pixels of a picture's width, and of its height.
	MaxSide = 16384
	// MaxPixels is the most pixels of a picture.
	MaxPixels = 40_000_000
	// MaxMemory is the most bytes that a decode needs at one time, by the file's header: for the decoder and for the
	// picture it makes. It refuses pictures with fewer pixels than MaxPixels if they are progressive JPEGs with little or
	// no subsampling, whose decoder keeps all coefficients (from 19 megapixels on), or of 16 bits a channel (from 35 on).
	MaxMemory = 512 << 20
)

// RGB is a picture. Its pixels are packed row after row from the top, each as its red, green and blue.
type RGB struct {
	Pix  []byte // 3 * W * H bytes
	W, H int    // pixels
}

// Kind says what is wrong with a file.
type Kind uint8

// The kinds of Error.
const (
	// NotAnImage: the bytes are of none of the formats.
	NotAnImage Kind = iota + 1
	// Broken: the format is known, the content cannot be decoded, be it damaged or of a rare sort.
	Broken
	// TooFewBytes: the file is shorter than MinBytes.
	TooFewBytes
	// TooManyBytes: the file is longer than MaxBytes.
	TooManyBytes
	// TooManyPixels: the picture is larger than MaxSide, MaxPixels or MaxMemory allow. It was not decoded.
	TooManyPixels
)

// Error says that a file cannot be used, however often it is sent.
type Error struct {
	// Kind is for programs to decide on.
	Kind Kind
	// Message is a sentence for the sender, without a full stop. It holds nothing of the file but its measures.
	Message string
	// Cause is what the decoder said, or nil. It is for the log.
	Cause error
}

// Error implements error.
func (e *Error) Error() string {
	if e.Cause != nil {
		return fmt.Sprintf("%s: %v", e.Message, e.Cause)
	}
	return e.Message
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Decode returns the picture in a file, turned upright as its EXIF orientation says. A broken or missing orientation is
// no error. Every error is an *Error. The caller owns the picture, which shares nothing with file.
func Decode(file []byte) (*RGB, error) {
	switch {
	case len(file) < MinBytes:
		return nil, &Error{Kind: TooFewBytes,
			Message: fmt.Sprintf("the image has %d bytes, the least allowed is %d", len(file), MinBytes)}
	case len(file) > MaxBytes:
		return nil, &Error{Kind: TooManyBytes,
			Message: fmt.Sprintf("the image has %d bytes, the most allowed is %d", len(file), MaxBytes)}
	}
	f := formatOf(file)
	if f == nil {
		return nil, &Error{Kind: NotAnImage, Message: "the image format is not one of JPEG, PNG, GIF, BMP and WebP"}
	}
	width, height, err := f.measure(file)
	if err != nil {
		return nil, err
	}
	src, err := f.read(file)
	if err != nil {
		return nil, err
	}
	// The decoders read the size again on their own. Should one ever disagree with its header, the limits above were
	// not those of this picture, and the buffer below would not fit.
	if b := src.Bounds(); !b.In(image.Rect(0, 0, width, height)) {
		return nil, broken(fmt.Errorf("%s picture of %v in a frame of %d × %d", f.name, b, width, height))
	}
	return draw(src, width, height, orientationOf(file, f), f.mix), nil
}

func broken(cause error) *Error {
	return &Error{Kind: Broken, Message: "the image cannot be decoded", Cause: cause}
}
