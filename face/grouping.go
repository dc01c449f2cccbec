package face

import (
	"context"

	"github.com/visage-face/visage"
)

// Grouping is Group's answer: every face id of the query is in it exactly once. Neither field is nil.
type Grouping struct {
	Groups [][]string // by falling size, each of two or more faces alike
	Messy  []string   // the faces like no other
}

// Group sorts 2 to 1,000 detected faces into groups that look like one person each (contract §5.4).
func (s *Service) Group(ctx context.Context, res visage.Resource, faceIDs []string) (Grouping, error) {
	return Grouping{}, errNotWired
}
