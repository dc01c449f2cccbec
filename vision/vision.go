// Package vision turns a photo into faces: their places, their landmarks and attributes, their quality for recognition,
// and the template that stands for each.
//
// Bytes go in, values come out. The package fetches nothing, stores nothing and knows nothing of people: other packages
// decide whose template it is.
package vision

import "github.com/visage-face/visage/vision/internal/geometry"

// Want says what Detect must find in addition to the boxes. The zero value asks for boxes alone, which is the cheapest.
type Want struct {
	// Landmarks asks for Face.Landmarks.
	Landmarks bool
	// Templates asks for Face.Template.
	Templates bool
	// Attributes asks for the attributes of the set. Asking for one that Pipeline.Supports lacks is an error.
	Attributes Attributes
	// Select chooses the detected faces that get landmarks, attributes and templates; the others keep only their box
	// and score. It is given the faces in their final order and returns indices into them. Nil means all.
	Select func(faces []Face) []int
}

// Photo is the result for one photo.
type Photo struct {
	// Width and Height are those of the upright picture, in pixels: after the EXIF orientation was applied.
	Width, Height int
	// Faces are sorted by area, largest first; at most 100.
	Faces []Face
}

// Face is one face on a photo. What was not asked for is nil.
type Face struct {
	// Box is the face rectangle. It lies within the picture.
	Box Box
	// Score is the detector's certainty that this is a face, 0 to 1.
	Score float64
	// Landmarks are the 27 named points.
	Landmarks *Landmarks
	// Attributes are the values of the attributes that were asked for; nil when none was.
	Attributes Measured
	// Template stands for the face: Pipeline.Dim numbers, of unit length. It is biometric data; the caller owns it. It
	// is nil when it was not asked for, and for a face that is too blurred, dark, small, covered or unlike a face to be
	// recognised; the quality of such a face is Low.
	Template []float32
}

// Box is a rectangle in pixels of the upright picture.
type Box struct {
	Left, Top, Width, Height int
}

// Point is a place in pixels of the upright picture, with fields X and Y; fractions count. It may lie a little outside
// of the picture.
type Point = geometry.Point

// Pose is the direction a head points to, in degrees. All are 0 for a face that looks into the camera.
type Pose struct {
	// Pitch is positive when the face looks up.
	Pitch float64
	// Roll is positive when the head is turned clockwise in the picture.
	Roll float64
	// Yaw is positive when the face looks to the right side of the picture.
	Yaw float64
}

// Grade is a coarse measure of quality.
type Grade uint8

// The grades, from unknown to best.
const (
	Ungraded Grade = iota
	Low
	Medium
	High
)

// String returns the grade's name in lower case.
func (g Grade) String() string {
	switch g {
	case Low:
		return "low"
	case Medium:
		return "medium"
	case High:
		return "high"
	}
	return "ungraded"
}

// Landmarks are the 27 points of the Face contract, in fields with the names of the contract. Left and right are sides
// of the picture, not of the person.
type Landmarks = geometry.Landmarks
