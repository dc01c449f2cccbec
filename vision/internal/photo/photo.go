// Package photo turns the bytes of an image file, whoever sent them, into an upright picture, at a bounded cost.
//
// What browsers show is read, and what phones make: JPEG, PNG, GIF (the first frame only), BMP, WebP (no animations),
// HEIC and AVIF, told apart by their
// first bytes, with the faults that browsers step over. Colour profiles are ignored. What is transparent is laid on
// white, as on paper. Decoders that are not written in Go run in a sandbox.
package photo

import (
	"context"
	"errors"
	"fmt"
	"image"
	"time"

	"github.com/visage-face/visage/vision/internal/sandbox"
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
	// picture it makes. It refuses pictures with fewer pixels than MaxPixels if they are progressive JPEGs with little
	// or no subsampling, whose decoder keeps all coefficients (from 19 megapixels on), or of 16 bits a channel (from 35
	// on).
	MaxMemory = 512 << 20
	// MaxSandbox is the most bytes that a decoder in a sandbox has, beside MaxMemory: for HEIC, AVIF, and the JPEG
	// files that Go's decoder refuses.
	MaxSandbox = 1 << 30
)

// RGB is a picture. Its pixels are packed row after row from the top, each as its red, green and blue.
type RGB struct {
	// Pix has 3 * W * H bytes. It is nil for a picture that is large and was decoded at a reduced scale: Part and
	// Reduced return the pixels of every picture.
	Pix  []byte
	W, H int // pixels of the picture as it is in the file, upright
	// Note says what was wrong with the file and did not hinder its decoding, in words for a log; usually it is empty.
	// It holds nothing of the file but numbers.
	Note string

	reduced *reduced // nil if Pix is there
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

// sandboxTime is the most that a decoder in a sandbox may take for a file. The largest pictures take a quarter of it on
// a slow machine.
const sandboxTime = 30 * time.Second

// Close waits for what runs in the sandboxes and frees them.
func (d *Decoder) Close() error { return errors.Join(d.jpeg.Close(), d.heif.Close(), d.avif.Close()) }

// Decode returns the picture in a file, turned upright as its metadata says. A broken or missing orientation is no
// error. An error is an *Error; or the cause of ctx, when it ended first; or a failure of a sandbox, which says nothing
// of the file. The caller owns the picture, which may keep the file's bytes: they must not change while it is used.
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
	// The decoders read the size again on their own. Should one ever disagree with its header, the limits above were
	// not those of this picture, and the buffer below would not fit.
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

// checkBytes holds a file to the limits of its length.
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
