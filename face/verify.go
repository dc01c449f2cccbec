package face

import (
	"context"

	"github.com/visage-face/visage"
)

// VerifyQuery says what Verify compares (contract §5.1): FaceID1 with FaceID2, or FaceID with PersonID in one of the two groups, or, with
// no group, in the person directory. Empty means not given.
type VerifyQuery struct {
	FaceID1, FaceID2   string
	FaceID, PersonID   string
	PersonGroupID      string
	LargePersonGroupID string
}

// Verdict is Verify's answer.
type Verdict struct {
	Identical  bool    // Confidence is at least 0.5
	Confidence float64 // 0 to 1, five decimals
}

// Verify says whether two faces are of one person. A person with several faces is compared by the best of them. Groups need not be trained.
func (s *Service) Verify(ctx context.Context, res visage.Resource, q VerifyQuery) (Verdict, error) {
	return Verdict{}, errNotWired
}
