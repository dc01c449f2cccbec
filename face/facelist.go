package face

import (
	"context"

	"github.com/visage-face/visage"
)

// Enrolment is a photo and which face on it to add to a list or person (contract §7.1).
type Enrolment struct {
	Photo          []byte  // the bytes of an image file; not kept
	TargetFace     *Box    // which face is meant when there are several; see ParseTargetFace
	DetectionModel string  // empty: DefaultDetectionModel
	UserData       *string // at most 1,024 UTF-16 code units; nil: none
}

// ParseTargetFace reads the contract's "left,top,width,height". The refusal is BadArgument.
func ParseTargetFace(s string) (Box, error) { return Box{}, errNotWired }

// AddFace adds the one face on a photo to a face list and returns its persisted face id.
// Refusals: BadArgument, InvalidImage, InvalidImageSize, QuotaExceeded, FaceListNotFound and so on, LargeFaceListTrainingNotFinished.
func (s *Service) AddFace(ctx context.Context, res visage.Resource, list Ref, e Enrolment) (string, error) {
	return "", errNotWired
}

// Faces returns the faces of a list, sorted by id; the result is not nil.
func (s *Service) Faces(ctx context.Context, res visage.Resource, list Ref, p Page) ([]PersistedFace, error) {
	return nil, errNotWired
}

// GetFace returns one face of a list. Refusals: PersistedFaceNotFound, also for a face id of the wrong shape; so it is in the methods below.
func (s *Service) GetFace(ctx context.Context, res visage.Resource, list Ref, faceID string) (PersistedFace, error) {
	return PersistedFace{}, errNotWired
}

// UpdateFace sets the userData of a face of a list; nil leaves it as it is.
func (s *Service) UpdateFace(ctx context.Context, res visage.Resource, list Ref, faceID string, userData *string) error {
	return errNotWired
}

// DeleteFace removes a face from a list. It is not found by any search that begins afterwards.
func (s *Service) DeleteFace(ctx context.Context, res visage.Resource, list Ref, faceID string) error {
	return errNotWired
}
