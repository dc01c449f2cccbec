package vision

import "fmt"

// ImageErrorKind says what is wrong with a photo's bytes.
type ImageErrorKind uint8

// The kinds of ImageError.
const (
	// UnknownFormat: the bytes are none of JPEG, PNG, GIF, BMP and WebP.
	UnknownFormat ImageErrorKind = iota + 1
	// Broken: the format is known, the content cannot be decoded.
	Broken
	// TooFewBytes: the file is shorter than the least allowed.
	TooFewBytes
	// TooManyBytes: the file is longer than the most allowed.
	TooManyBytes
	// TooSmall: the picture's width or height is below the least allowed.
	TooSmall
	// TooLarge: the picture's width, height or number of pixels is above the most allowed. It was not decoded.
	TooLarge
)

// ImageError says that the photo handed to Detect cannot be used, whoever sends it and however often.
type ImageError struct {
	// Kind is for programs to decide on.
	Kind ImageErrorKind
	// Message is a sentence for the sender, without a full stop. It holds nothing of the photo but its measures.
	Message string
}

// Error implements error.
func (e *ImageError) Error() string { return e.Message }

// UnsupportedError says that attributes were asked for that the pack has no network for.
type UnsupportedError struct {
	// Asked are the attributes that the pack does not give, Supported those it gives.
	Asked, Supported Attributes
}

// Error implements error. It lists what is supported.
func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("attributes %v are not supported by the installed model pack, which supports %v",
		e.Asked.Names(), e.Supported.Names())
}
