package face

import (
	"context"
	"time"

	"github.com/visage-face/visage"
)

// Status says how far a training is, spelled as contract §8 has it for v1.2.
type Status string

// The states of a training.
const (
	NotStarted Status = "notStarted" // asked for, waiting for its turn
	Running    Status = "running"
	Succeeded  Status = "succeeded"
	Failed     Status = "failed"
)

// Training is the state of the latest training of a group or large face list. Times are UTC.
type Training struct {
	Status      Status
	Created     time.Time // when it was asked for
	LastAction  time.Time // when Status last changed
	LastSuccess time.Time // when the last successful training ended, kept through later runs; zero: never
	Message     string    // why it failed; empty otherwise
}

// Train asks for a training of a group or a large face list; Run performs it. Searches use the state at the time of this call once it has
// succeeded; a failed training leaves the one before in force.
// Refusals: PersonGroupNotFound and so on; PersonGroupTrainingNotFinished and so on while one is under way; BadArgument for a small face
// list, which is never trained.
func (s *Service) Train(ctx context.Context, res visage.Resource, ref Ref) error {
	return errNotWired
}

// Training returns the state of the latest training. Refusals of kind NotFound: PersonGroupNotFound and so on; PersonGroupNotTrained and so
// on when none was ever asked for.
func (s *Service) Training(ctx context.Context, res visage.Resource, ref Ref) (Training, error) {
	return Training{}, errNotWired
}
