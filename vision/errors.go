package vision

import (
	"fmt"

	"github.com/visage-face/visage/vision/internal/photo"
)

// ImageErrorKind says what is wrong with a photo's bytes.
type ImageErrorKind uint8

// The kinds of ImageError.
const (
	// UnknownFormat: the bytes are none of JPEG, PNG, GIF, BMP, WebP, HEIC and AVIF.
	UnknownFormat = ImageErrorKind(photo.NotAnImage)
	// Broken: the format is known, the content cannot be decoded.
	Broken = ImageErrorKind(photo.Broken)
	// TooFewBytes: the file is shorter than the least allowed.
	TooFewBytes = ImageErrorKind(photo.TooFewBytes)
	// TooManyBytes: the file is longer than the most allowed.
	TooManyBytes = ImageErrorKind(photo.TooManyBytes)
	// TooLarge: the picture's width, height or number of pixels is above the most allowed. It was not decoded.
	TooLarge = ImageErrorKind(photo.TooManyPixels)
)

// ImageError says that the photo handed to Detect cannot be used, whoever sends it and however often.
type ImageError struct {
	// Kind is for programs to decide on.
	Kind ImageErrorKind
	// Message is a sentence for the sender, without a full stop. It holds nothing of the photo but its measures.
	Message string
	// Cause is what the decoder said, or nil. It is for the log.
	Cause error
}

// Error implements error.
func (e *ImageError) Error() string { return e.Message }

// Unwrap returns the cause.
func (e *ImageError) Unwrap() error { return e.Cause }

// UnsupportedError says that something was asked for that the pack has no network for.
type UnsupportedError struct {
	// Asked are the attributes that the pack does not give, Supported those it gives.
	Asked, Supported Attributes
	// Landmarks says that landmarks were asked for and the pack has no network for them.
	Landmarks bool
}

// Error implements error. It lists what is supported.
func (e *UnsupportedError) Error() string {
	if e.Asked == 0 {
		return "landmarks are not supported by the installed model pack"
	}
	return fmt.Sprintf("attributes %v are not supported by the installed model pack, which supports %v",
		e.Asked.Names(), e.Supported.Names())
}
