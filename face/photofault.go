package face

import (
	"errors"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/vision"
)

// PhotoFault is the reason why a photo was refused, for programs that say it in their own words.
type PhotoFault string

// The faults of photos.
const (
	NotAPicture   PhotoFault = "not-a-picture"
	BrokenPicture PhotoFault = "broken"
	TooFewBytes   PhotoFault = "too-few-bytes"
	TooManyBytes  PhotoFault = "too-many-bytes"
	TooManyPixels PhotoFault = "too-many-pixels"
	NoFace        PhotoFault = "no-face"
	SeveralFaces  PhotoFault = "several-faces" // and none was selected
	LowQuality    PhotoFault = "low-quality"   // nobody can be recognised by the face
)

// FaultOf returns why a photo was refused; empty for an error of another sort.
func FaultOf(err error) PhotoFault {
	if photo, ok := errors.AsType[*photoError](err); ok {
		return photo.fault
	}
	return ""
}

// photoError is a refusal of a photo with its fault.
type photoError struct {
	fault   PhotoFault
	refusal *visage.Refusal
}

func (e *photoError) Error() string { return e.refusal.Error() }

func (e *photoError) Unwrap() error { return e.refusal }

// imageFaults are the faults of files, by the kind of the error of vision.
var imageFaults = map[vision.ImageErrorKind]PhotoFault{
	vision.UnknownFormat: NotAPicture, vision.Broken: BrokenPicture, vision.TooFewBytes: TooFewBytes,
	vision.TooManyBytes: TooManyBytes, vision.TooLarge: TooManyPixels,
}
