package face

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/gallery"
	"github.com/visage-face/visage/sealed"
)

// view reads from a resource's space. Errors that have an answer in the contract come back as refusals.
func (s *Service) view(ctx context.Context, res visage.Resource, fn func(sealed.Reader) error) error {
	return outcome(s.space(res).View(ctx, fn))
}

// manyRecords is how many records a snapshot reads for so long, about 70 ms, that it counts as one that lasts.
const manyRecords = 20_000

// viewMany is view for a function that reads about so many records.
func (s *Service) viewMany(
	ctx context.Context, res visage.Resource, records int, fn func(sealed.Reader) error,
) error {
	return outcome(readMany(ctx, s.space(res), records, fn))
}

func readMany(ctx context.Context, space *sealed.Space, records int, fn func(sealed.Reader) error) error {
	if records < manyRecords {
		return space.View(ctx, fn)
	}
	return space.LongView(ctx, fn)
}

// update changes a resource's space: all or nothing, durable when it returns nil. fn may run twice.
func (s *Service) update(ctx context.Context, res visage.Resource, fn func(sealed.Tx) error) error {
	return outcome(s.space(res).Update(ctx, fn))
}

func (s *Service) space(res visage.Resource) *sealed.Space {
	return s.store.Space(sealed.SpaceID(res.ID))
}

// retryWhenBusy is the retry time of refusals for lack of search memory, which loads in progress free soon, and for a
// key store that does not answer. Loading a million faces takes about three seconds.
const retryWhenBusy = 5 * time.Second

// outcome turns the errors of sealed and gallery that have an answer in the contract into refusals.
func outcome(err error) error {
	var refusal *visage.Refusal
	switch {
	case err == nil || errors.As(err, &refusal):
		return err
	case errors.Is(err, sealed.ErrLockedElsewhere): // until this process has asked the key, or heard why
		refusal = visage.Refuse(visage.Unavailable, "EncryptionKeyUnavailable",
			"The key that protects the data of this resource was changed or refused at another replica, and is being "+
				"asked here. Try again in a moment.")
		refusal.RetryAfter = time.Second
		return refusal
	case errors.Is(err, sealed.ErrReopened):
		refusal = visage.Refuse(visage.Unavailable, "EncryptionKeyUnavailable",
			"The data of this resource was closed while the request was under way, and is open again. Nothing was "+
				"changed. Try again.")
		refusal.RetryAfter = time.Second
		return refusal
	case errors.Is(err, sealed.ErrLocked):
		return visage.Refuse(visage.KeyRevoked, "EncryptionKeyRevoked",
			"The key that protects the data of this resource refuses access. Restore its permission to use the "+
				"resource again.")
	case errors.Is(err, sealed.ErrGrace):
		refusal = visage.Refuse(visage.Unavailable, "EncryptionKeyUnavailable",
			"The key vault that protects the data of this resource has not answered within the grace period. Try "+
				"again later.")
		refusal.RetryAfter = retryWhenBusy
		return refusal
	case errors.Is(err, gallery.ErrBusy):
		refusal = visage.Refuse(visage.Unavailable, "ServiceUnavailable",
			"The search memory of the server is in use while other collections are loaded. Try again later.")
		refusal.RetryAfter = retryWhenBusy
		return refusal
	case errors.Is(err, gallery.ErrTooLarge):
		return visage.Refuse(visage.Unavailable, "ServiceUnavailable",
			"The collection cannot be searched on this server: %v.", err)
	}
	return err
}

// ended turns the error of work that the end of a space's lease cut short into the refusal that later requests get.
func ended(lease context.Context, err error) error {
	cause := context.Cause(lease)
	if cause == nil || errors.Is(cause, sealed.ErrClosed) || errors.Is(cause, sealed.ErrNoSpace) {
		return outcome(err)
	}
	return outcome(fmt.Errorf("%w: %w", sealed.ErrLocked, cause))
}

// report logs an error of background work, unless it is expected: the service stops, the customer's key denies access,
// or the resource has just been deleted. The work is tried again in a later round.
func (s *Service) report(ctx context.Context, work string, id visage.ResourceID, err error) {
	refusal, refused := errors.AsType[*visage.Refusal](err)
	if err == nil || ctx.Err() != nil || errors.Is(err, sealed.ErrNoSpace) ||
		refused && refusal.Kind == visage.KeyRevoked {
		return
	}
	s.log.Warn("background work failed, to be tried again", "work", work, "resource", id.String(), "err", err)
}
