package face

import (
	"context"

	"github.com/visage-face/visage"
)

// The modes of FindSimilar.
const (
	MatchPerson = "matchPerson" // only faces above the same-person line
	MatchFace   = "matchFace"   // the most alike, however little
)

// SimilarQuery says which face is looked for, and among which (contract §5.3). Of the three sources exactly one must be given.
type SimilarQuery struct {
	FaceID          string
	FaceIDs         []string // detected faces; a list that is not nil counts as given
	FaceListID      string
	LargeFaceListID string
	MaxCandidates   *int   // 1 to 1,000; nil: 20
	Mode            string // MatchPerson or MatchFace; empty: MatchPerson
}

// Similar is one face found: either a detected one or one of a list; the other id is empty.
type Similar struct {
	FaceID          string
	PersistedFaceID string
	Confidence      float64 // 0 to 1, five decimals
}

// FindSimilar returns the faces most alike to a query face, best first; the result is not nil. Small face lists are searched as they are,
// large ones as they were at their last successful training, less what was deleted since.
func (s *Service) FindSimilar(ctx context.Context, res visage.Resource, q SimilarQuery) ([]Similar, error) {
	return nil, errNotWired
}
