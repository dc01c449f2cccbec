package vision

import (
	"fmt"

	"github.com/visage-face/visage/vision/internal/photo"
)

// ImageErrorKind is the reason why a photo cannot be used.
type ImageErrorKind uint8

// The kinds of ImageError.
const (
	// UnknownFormat: the file is not a JPEG, PNG, GIF, BMP, WebP, HEIC or AVIF file.
	UnknownFormat = ImageErrorKind(photo.NotAnImage)
	// Broken: the format is known, but the content cannot be decoded.
	Broken = ImageErrorKind(photo.Broken)
	// TooFewBytes: the file is shorter than the minimum.
	TooFewBytes = ImageErrorKind(photo.TooFewBytes)
	// TooManyBytes: the file is longer than the maximum.
	TooManyBytes = ImageErrorKind(photo.TooManyBytes)
	// TooLarge: the width, the height or the number of pixels is above the maximum. The picture was not decoded.
	TooLarge = ImageErrorKind(photo.TooManyPixels)
)

// ImageError reports that Detect cannot use a photo, now or later.
type ImageError struct {
	// Kind is for programs to decide by.
	Kind ImageErrorKind
	// Message is a sentence for the sender, without a full stop. Of the photo it contains nothing but its sizes.
	Message string
	// Cause is the error of the decoder, or nil. It is for the log.
	Cause error
}

// Error implements error.
func (e *ImageError) Error() string { return e.Message }

// Unwrap returns the cause.
func (e *ImageError) Unwrap() error { return e.Cause }

// UnsupportedError reports that a request needs a network that the pack does not have.
type UnsupportedError struct {
	// Asked are the attributes that the pack does not give, Supported those it gives.
	Asked, Supported Attributes
	// Landmarks says that landmarks were asked for, and the pack has no network for them.
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
