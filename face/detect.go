package face

import (
	"context"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/vision"
)

// The values that hold when a request names none.
const (
	DefaultRecognitionModel = "recognition_01"
	DefaultDetectionModel   = "detection_01"
	DefaultTimeToLive       = 86_400 // seconds a detected face is kept; also the most
)

// The shapes of a face are those of vision, under the same names, so that callers need not know that room.
type (
	Box       = vision.Box       // in pixels of the upright picture, within it
	Point     = vision.Point     // in pixels of the upright picture
	Landmarks = vision.Landmarks // the 27 points of contract §3.4
	Pose      = vision.Pose      // degrees
)

// DetectQuery says what Detect shall do (contract §4).
type DetectQuery struct {
	ReturnFaceID     bool     // keep the faces for recognition and give each an id; the contract's default is true
	ReturnLandmarks  bool     // find Face.Landmarks
	Attributes       []string // names of contract §3.3 in any case; none: Face.Attributes stays nil
	RecognitionModel string   // empty: DefaultRecognitionModel
	DetectionModel   string   // empty: DefaultDetectionModel
	TimeToLive       *int     // seconds the ids live, 60 to 86,400; nil: DefaultTimeToLive
}

// Face is one detected face.
type Face struct {
	ID               string // a UUID; empty when no id was asked for
	RecognitionModel string // the model of the query, always set
	Box              Box
	Landmarks        *Landmarks  // nil when not asked for
	Attributes       *Attributes // nil when none was asked for
}

// Attributes are the attributes that were asked for; the others are nil or empty.
type Attributes struct {
	HeadPose *Pose
	Blur     *Level // "low", "medium", "high"
	Exposure *Level // "underExposure", "goodExposure", "overExposure"
	Noise    *Level // "low", "medium", "high"
	Quality  string // qualityForRecognition: "low", "medium", "high"; empty when not asked for
}

// Level is a measured attribute: the value, 0 to 1, and the name of the range it lies in, spelled as contract §3.3 has it.
type Level struct {
	Name  string
	Value float64
}

// Detect finds the faces on a photo (the bytes of an image file), largest first, at most 100. A photo of nobody gives an empty list.
// With q.ReturnFaceID the template of each face is kept, sealed, for q.TimeToLive, and can be named in Verify, Identify, FindSimilar and Group.
//
// Refusals: BadArgument, InvalidImage, InvalidImageSize; and, of kind visage.Unsupported with Feature "UnsupportedFeature", InvalidRequest for
// attributes that are retired, need an approval, or that no installed network gives.
func (s *Service) Detect(ctx context.Context, res visage.Resource, photo []byte, q DetectQuery) ([]Face, error) {
	return nil, errNotWired
}
