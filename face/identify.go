package face

import (
	"context"

	"github.com/visage-face/visage"
)

// IdentifyQuery says who is looked for, and where (contract §5.2). Of the four scopes exactly one must be given; empty or nil means not given.
type IdentifyQuery struct {
	FaceIDs              []string
	PersonGroupID        string
	LargePersonGroupID   string
	DynamicPersonGroupID string
	PersonIDs            []string // persons of the directory, or {"*"}; a list that is not nil counts as given
	MaxCandidates        int      // for each face, 1 to 100. The default differs by version of the contract, so the caller fills it in
	Threshold            *float64 // the least confidence of a candidate, 0 to 1; nil: 0.5
}

// Identified holds the persons one query face may be.
type Identified struct {
	FaceID     string
	Candidates []Candidate // best first, not nil, possibly empty
}

// Candidate is a person found, with the confidence of the best of its faces.
type Candidate struct {
	PersonID   string
	Confidence float64 // 0 to 1, five decimals
}

// Identify finds, for each query face in the order of the request, the persons of a group it may be. The group is searched as it was at its
// last successful training, less what was deleted since.
func (s *Service) Identify(ctx context.Context, res visage.Resource, q IdentifyQuery) ([]Identified, error) {
	return nil, errNotWired
}
