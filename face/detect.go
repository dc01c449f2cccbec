package face

import (
	"context"
	"fmt"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/vision"
)

// leastTimeToLive is the shortest time to live that a caller may ask for, in seconds.
const leastTimeToLive = 60

// DetectQuery says what Detect must do (contract §4).
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
	ID               string // a UUID; empty when no id was asked for, or no template can be made of the face
	RecognitionModel string // the model of the query, always set
	Box              Box
	Landmarks        *Landmarks // nil when not asked for
	Attributes       Attributes // those that were asked for; nil when none was
}

// Detect finds the faces on a photo (the bytes of an image file), largest first, at most 100. A photo without faces
// gives an empty list. With q.ReturnFaceID the template of each face is kept, sealed, for q.TimeToLive, and its id can
// be used in Verify, Identify, FindSimilar and Group. A face without a template, because it is blurred, covered or not
// a face at all, is in the answer without an id.
//
// Refusals: BadArgument, InvalidImage, InvalidImageSize; and InvalidRequest of kind visage.Unsupported, with InnerCode
// "UnsupportedFeature", for attributes that are retired, need an approval, or that no installed network measures.
func (s *Service) Detect(ctx context.Context, res visage.Resource, photo []byte, q DetectQuery) ([]Face, error) {
	recogniser, model, err := s.model(q.RecognitionModel)
	if err != nil {
		return nil, err
	}
	detector, err := detectionModel(q.DetectionModel)
	if err != nil {
		return nil, err
	}
	if q.ReturnLandmarks && !detector.landmarks {
		return nil, badArgument("The detection model %s does not return landmarks.", q.DetectionModel)
	}
	attributes, err := parseAttributes(q.Attributes, detector, model, recogniser.Supports())
	if err != nil {
		return nil, err
	}
	ttl := DefaultTimeToLive
	if q.TimeToLive != nil {
		ttl = *q.TimeToLive
	}
	if err := between("faceIdTimeToLive", ttl, leastTimeToLive, DefaultTimeToLive); err != nil {
		return nil, err
	}
	found, err := recogniser.Detect(ctx, photo, vision.Want{
		Landmarks: q.ReturnLandmarks, Templates: q.ReturnFaceID, Attributes: attributes,
	})
	if err != nil {
		return nil, fmt.Errorf("detect: %w", imageError(err))
	}
	defer func() {
		for _, f := range found.Faces {
			clear(f.Template)
		}
	}()
	answer := make([]Face, len(found.Faces))
	for i, f := range found.Faces {
		answer[i] = Face{
			RecognitionModel: model, Box: f.Box, Landmarks: f.Landmarks, Attributes: f.Attributes,
		}
	}
	if q.ReturnFaceID {
		expires := time.Now().Add(time.Duration(ttl) * time.Second)
		ids, err := s.keep(ctx, res, recogniser, model, expires, found.Faces)
		if err != nil {
			return nil, fmt.Errorf("keep detected faces: %w", err)
		}
		for i, id := range ids {
			answer[i].ID = id
		}
	}
	s.metrics.detected.Add(float64(len(answer)))
	return answer, nil
}
