// Package photo turns the bytes of an image file from any sender into an upright picture, at a bounded cost.
//
// It reads the formats of browsers and phones: JPEG, PNG, GIF (the first frame only), BMP, WebP (no animations), HEIC
// and AVIF. It recognises them by their first bytes, and tolerates the faults that browsers tolerate. Colour profiles
// are ignored. Transparent pixels are drawn on white. Decoders that are not written in Go run in a sandbox.
package photo

import (
	"context"
	"errors"
	"fmt"
	"image"
	"time"

	"github.com/visage-face/visage/vision/internal/sandbox"
)

// Limits of Decode, each inclusive. MinBytes and MaxBytes are those of the Face contract; the others bound the memory
// that a file can make Decode use.
const (
	MinBytes = 1 << 10
	MaxBytes = 6 << 20
	// MaxSide is the largest width, and the largest height, of a picture in pixels.
	MaxSide = 16384
	// MaxPixels is the largest number of pixels of a picture.
	MaxPixels = 40_000_000
	// MaxMemory is the largest number of bytes that a decode needs at one time, according to the header of the file:
	// for the decoder and for the picture. It refuses pictures with fewer pixels than MaxPixels if they are progressive
	// JPEGs with little or no subsampling, whose decoder keeps all coefficients (from 19 megapixels on), or have 16
	// bits a channel (from 35 on).
	MaxMemory = 512 << 20
	// MaxSandbox is the largest number of bytes that a decoder in a sandbox has, in addition to MaxMemory: for HEIC,
	// AVIF, and the JPEG files that Go's decoder refuses.
	MaxSandbox = 1 << 30
)

// RGB is a picture. Its pixels are packed row after row from the top, each as its red, green and blue.
type RGB struct {
	// Pix has 3 * W * H bytes. It is nil for a picture that is large and was decoded at a reduced scale: Part and
	// Reduced return the pixels of every picture.
	Pix  []byte
	W, H int // pixels of the picture as it is in the file, upright
	// Note names a fault of the file that did not prevent its decoding, in words for a log; usually it is empty. Of the
	// file it contains only numbers.
	Note string

	reduced *reduced // nil if Pix is there
}

// Kind is the reason why a file cannot be used.
type Kind uint8

// The kinds of Error.
const (
	// NotAnImage: the file has none of the formats.
	NotAnImage Kind = iota + 1
	// Broken: the format is known, but the content cannot be decoded, because it is damaged or of a rare kind.
	Broken
	// TooFewBytes: the file is shorter than MinBytes.
	TooFewBytes
	// TooManyBytes: the file is longer than MaxBytes.
	TooManyBytes
	// TooManyPixels: the picture is larger than MaxSide, MaxPixels or MaxMemory allow. It was not decoded.
	TooManyPixels
)

// Error reports that a file cannot be used, now or later.
type Error struct {
	// Kind is for programs to decide by.
	Kind Kind
	// Message is a sentence for the sender, without a full stop. Of the file it contains nothing but its sizes.
	Message string
	// Cause is the error of the decoder, or nil. It is for the log.
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

// Decoder decodes files. It is safe for concurrent use.
type Decoder struct {
	jpeg, heif, avif *sandbox.Program
}

// NewDecoder returns a Decoder. It costs nothing until a file needs a sandbox. The caller closes it.
func NewDecoder() *Decoder {
	limits := sandbox.Limits{Memory: MaxSandbox, Time: sandboxTime}
	return &Decoder{
		jpeg: sandbox.New(jpegProgram, limits), heif: sandbox.New(heifProgram, limits),
		avif: sandbox.New(avifProgram, limits),
	}
}

// sandboxTime is the longest time of a decoder in a sandbox for one file. The largest pictures take a quarter of it on
// a slow machine.
const sandboxTime = 30 * time.Second

// Close waits for running decoders in sandboxes and frees them.
func (d *Decoder) Close() error { return errors.Join(d.jpeg.Close(), d.heif.Close(), d.avif.Close()) }

// Decode returns the picture in a file, upright according to its metadata. A broken or missing orientation is no error.
// An error is an *Error; or the cause of ctx, when it ended first; or a failure of a sandbox, which is not about the
// file. The caller owns the picture. It may refer to the bytes of the file, which must not change while it is used.
func (d *Decoder) Decode(ctx context.Context, file []byte) (*RGB, error) {
	if err := checkBytes(file); err != nil {
		return nil, err
	}
	f := formatOf(file)
	if f == nil {
		return nil, notAnImage(file)
	}
	width, height, err := f.measure(file)
	if err != nil {
		return nil, err
	}
	type result struct {
		m    image.Image
		note string
	}
	src, err := guard(func() (r result, err error) {
		r.m, r.note, err = f.read(ctx, d, file)
		return r, err
	})
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err, sandbox.ErrUnavailable):
		return nil, fmt.Errorf("decode %s file: %w", f.name, err)
	case errors.Is(err, sandbox.ErrTime):
		return nil, &Error{Kind: TooManyPixels, Message: "the image takes too long to decode", Cause: err}
	case err != nil:
		return nil, broken(f.name, file, err)
	}
	// The decoders read the size again themselves. If one ever disagreed with the header, the limits above would not
	// have been checked for this picture, and the buffer below would not fit.
	if b := src.m.Bounds(); !b.In(image.Rect(0, 0, width, height)) {
		return nil, broken(f.name, file, fmt.Errorf("%s picture of %v in a frame of %d × %d", f.name, b, width, height))
	}
	if whole, ok := src.m.(*packed); ok { // a crop within a HEIC file
		width, height = whole.W, whole.H
	}
	turn := upright
	if f.turn != nil {
		turn = f.turn(file)
	}
	if large, ok := src.m.(*large); ok {
		p := large.upright(turn)
		p.Note = src.note
		return p, nil
	}
	p := draw(src.m, width, height, turn, f.mix)
	p.Note = src.note
	return p, nil
}

// checkBytes checks the length of a file against the limits.
func checkBytes(file []byte) error {
	switch {
	case len(file) == 0:
		return &Error{Kind: TooFewBytes, Message: "the body is empty; send the bytes of an image"}
	case len(file) < MinBytes:
		message := fmt.Sprintf("the image has %d bytes, the least allowed is %d", len(file), MinBytes)
		if cause := mistaken(file); cause != "" && formatOf(file) == nil {
			message += ", and " + cause
		}
		return &Error{Kind: TooFewBytes, Message: message}
	case len(file) > MaxBytes:
		return &Error{Kind: TooManyBytes,
			Message: fmt.Sprintf("the image has %d bytes, the most allowed is %d", len(file), MaxBytes)}
	}
	return nil
}
