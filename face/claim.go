package face

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
)

// round is how often Run looks at every resource for work that no request of this process announced: trainings that a
// crash interrupted, and work that failed before. See also Resume.
const round = time.Minute

// claimFor is how long background work stays with a process that does not answer any more. Its loads are limited by
// memory and decryption, so a process that is only slow renews its claim many times meanwhile.
const claimFor = 15 * time.Second

// alone runs background work for a resource unless another process does. Then, or when that process dies, the agenda
// gets the resource again after a while. The context of the work ends with the claim. Each transaction of the work has
// to check for itself that there still is something to do: a process that was paused may go on after its claim was
// lost. Where that is not enough, the transaction calls claim.Check.
func (s *Service) alone(
	ctx context.Context, work string, id visage.ResourceID, again *agenda,
	do func(ctx context.Context, claim *sealed.Claim) error,
) error {
	claim, err := s.store.Claim(ctx, "face/"+work+"/"+id.String(), claimFor)
	if errors.Is(err, sealed.ErrClaimed) {
		again.addLater(id, claimFor)
		return nil
	}
	if err != nil {
		return fmt.Errorf("claim the work: %w", err)
	}
	defer claim.Release()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	defer context.AfterFunc(claim.Context(), func() { end(context.Cause(claim.Context())) })()
	return do(ctx, claim)
}
