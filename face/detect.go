package face

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/vision"
)

// The values that hold when a request names none.
const (
	DefaultRecognitionModel = "recognition_01"
	DefaultDetectionModel   = "detection_01"
	DefaultTimeToLive       = 86_400 // seconds that a detected face is kept; also the most
)

// leastTimeToLive is the least a caller may ask for, in seconds.
const leastTimeToLive = 60

// The shapes of a face are those of vision under the same names, so that callers need not know that room.
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
	ID               string // a UUID; empty when no id was asked for, or the face is too poor to be recognised by
	RecognitionModel string // the model of the query, always set
	Box              Box
	Landmarks        *Landmarks  // nil when not asked for
	Attributes       *Attributes // nil when none was asked for
}

// Detect finds the faces on a photo (the bytes of an image file), largest first, at most 100. A photo of nobody gives
// an empty list. With q.ReturnFaceID the template of each face is kept, sealed, for q.TimeToLive, and its id can be
// used in Verify, Identify, FindSimilar and Group. A face of which no template can be made, because it is blurred,
// covered or not a face at all, is in the answer without an id.
//
// Refusals: BadArgument, InvalidImage, InvalidImageSize; and InvalidRequest of kind visage.Unsupported, with Feature
// "UnsupportedFeature", for attributes that are retired, need an approval, or that no installed network gives.
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
		answer[i] = Face{RecognitionModel: model, Box: f.Box, Landmarks: f.Landmarks}
		if len(q.Attributes) > 0 {
			answer[i].Attributes = measured(f)
		}
	}
	if q.ReturnFaceID {
		expires := time.Now().Add(time.Duration(ttl) * time.Second)
		if err := s.keep(ctx, res, recogniser, model, expires, found.Faces, answer); err != nil {
			return nil, fmt.Errorf("keep detected faces: %w", err)
		}
	}
	s.metrics.detected.Add(float64(len(answer)))
	return answer, nil
}

// keep stores the templates of detected faces until they expire, and then gives the faces their ids. Faces without a
// template get none.
func (s *Service) keep(
	ctx context.Context, res visage.Resource, m Recogniser, model string, expires time.Time, found []vision.Face,
	answer []Face,
) error {
	hour := hourNumber(expires)
	var records []detectionRecord
	defer forget(&records)
	var of []int // the index of each record's face
	for i, f := range found {
		if f.Template == nil {
			continue
		}
		code, err := encode(m, f.Template)
		if err != nil {
			return err
		}
		of = append(of, i)
		records = append(records, detectionRecord{
			ID: newFaceID(hour), Expires: expires.UnixMilli(), Model: model, Networks: m.Name(),
			Code: storedCode(code),
		})
	}
	if len(records) == 0 {
		return nil
	}
	err := s.update(ctx, res, func(tx sealed.Tx) error {
		name := hourName(hour)
		if _, err := hours.In().Get(tx, name); errors.Is(err, sealed.ErrNotFound) {
			if err := hours.In().Put(tx, name, hourRecord{Hour: hour}); err != nil {
				return fmt.Errorf("note hour: %w", err)
			}
		} else if err != nil {
			return fmt.Errorf("read hour: %w", err)
		}
		for _, d := range records {
			if err := detections.In(name).Add(tx, d.ID.String(), d); err != nil {
				return fmt.Errorf("write detected face: %w", err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i, d := range records {
		answer[of[i]].ID = d.ID.String()
	}
	return nil
}

// hourNumber counts the hours since 1970.
func hourNumber(t time.Time) int64 { return t.Unix() / 3600 }

// hourName is the name of the container for the faces that expire in an hour.
func hourName(hour int64) string { return strconv.FormatInt(hour, 10) }

// probes reads detected faces, in the order asked for. kind is that of the refusal for a face that is unknown or
// expired: the contract has both 400 and 404.
func (s *Service) probes(r sealed.Reader, kind visage.Kind, ids ...string) ([]detectionRecord, error) {
	now := time.Now()
	found := make([]detectionRecord, len(ids))
	for i, text := range ids {
		id, err := parseID("face", text)
		if err != nil {
			return nil, err
		}
		d, err := detections.In(hourName(hourOf(id, hourNumber(now)))).Get(r, text)
		if err != nil && !errors.Is(err, sealed.ErrNotFound) {
			return nil, fmt.Errorf("read detected face: %w", err)
		}
		// A template of networks that are not installed any more can be compared with nothing: the face must be
		// detected again, as when its time is up.
		if err != nil || now.UnixMilli() >= d.Expires || s.packs[d.Networks] == nil {
			return nil, visage.Refuse(kind, "FaceNotFound", "The face %s does not exist, or its time to live has "+
				"ended.", text)
		}
		found[i] = d
	}
	return found, nil
}

// sameModel refuses faces that cannot be compared with what a model and networks made.
func sameModel(model, networks string, found ...detectionRecord) error {
	for _, d := range found {
		switch {
		case d.Model != model:
			return badArgument(
				"recognitionModel incompatible: the face %s was detected with %s, which cannot be compared with %s.",
				d.ID, d.Model, model)
		case d.Networks != networks:
			return badArgument(
				"recognitionModel incompatible: the face %s was detected by the model pack %s, which cannot be "+
					"compared with %s.",
				d.ID, d.Networks, networks)
		}
	}
	return nil
}
