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

// view reads from a resource's space and says in the contract's words why it could not.
func (s *Service) view(ctx context.Context, res visage.Resource, fn func(sealed.Reader) error) error {
	return outcome(s.space(res).View(ctx, fn))
}

// update changes a resource's space: all or nothing, durable when it returns nil. fn may run twice.
func (s *Service) update(ctx context.Context, res visage.Resource, fn func(sealed.Tx) error) error {
	return outcome(s.space(res).Update(ctx, fn))
}

func (s *Service) space(res visage.Resource) *sealed.Space {
	return s.store.Space(sealed.SpaceID(res.ID))
}

// retryWhenBusy is what a caller is told to wait for memory that loads under way are about to give back, or for a key
// store that does not answer. Loading a million faces takes about three seconds.
const retryWhenBusy = 5 * time.Second

// outcome turns the errors of the rooms below that have an answer in the contract into refusals.
func outcome(err error) error {
	var refusal *visage.Refusal
	switch {
	case err == nil || errors.As(err, &refusal):
		return err
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

// find reads a collection. An id of the wrong shape names none.
func find(r sealed.Reader, ref Ref) (collectionRecord, error) {
	if !validID(ref.ID) {
		return collectionRecord{}, ref.notFound()
	}
	c, err := collections.In(ref.Kind.String()).Get(r, ref.ID)
	if errors.Is(err, sealed.ErrNotFound) {
		return collectionRecord{}, ref.notFound()
	}
	if err != nil {
		return collectionRecord{}, fmt.Errorf("read %s: %w", ref.Kind, err)
	}
	return c, nil
}

// findState reads a collection and its state.
func findState(r sealed.Reader, ref Ref) (collectionRecord, stateRecord, error) {
	c, err := find(r, ref)
	if err != nil {
		return c, stateRecord{}, err
	}
	st, err := states.In(ref.Kind.String()).Get(r, c.Incarnation.String())
	if err != nil {
		return c, st, fmt.Errorf("read state of %s: %w", ref.Kind, err)
	}
	return c, st, nil
}

// findIdle is findState for a change, which must wait until a training has ended.
func findIdle(r sealed.Reader, ref Ref) (collectionRecord, stateRecord, error) {
	c, st, err := findState(r, ref)
	if err == nil && st.Training.underWay() {
		err = ref.notFinished()
	}
	return c, st, err
}

// putState writes a collection's state.
func putState(tx sealed.Tx, kind Kind, c collectionRecord, st stateRecord) error {
	if err := states.In(kind.String()).Put(tx, c.Incarnation.String(), st); err != nil {
		return fmt.Errorf("write state of %s: %w", kind, err)
	}
	return nil
}

// getTotals reads the resource's totals; a space without has none of anything.
func getTotals(r sealed.Reader) (totalsRecord, error) {
	t, err := totals.In().Get(r, totalsID)
	if err != nil && !errors.Is(err, sealed.ErrNotFound) {
		return t, fmt.Errorf("read totals: %w", err)
	}
	return t, nil
}

// findPerson reads a person of a group.
func findPerson(r sealed.Reader, c collectionRecord, id string) (personRecord, error) {
	notFound := visage.Refuse(visage.NotFound, "PersonNotFound", "There is no person %q in %q.", printable(id), c.ID)
	if _, err := visage.ParseUUID(id); err != nil {
		return personRecord{}, notFound
	}
	p, err := persons.In(c.Incarnation.String()).Get(r, id)
	if errors.Is(err, sealed.ErrNotFound) {
		return personRecord{}, notFound
	}
	if err != nil {
		return personRecord{}, fmt.Errorf("read person: %w", err)
	}
	return p, nil
}

// findFace reads a persisted face of a collection, of the given person (zero in a list).
func findFace(r sealed.Reader, c collectionRecord, person uuid, id string) (faceRecord, error) {
	notFound := visage.Refuse(visage.NotFound, "PersistedFaceNotFound", "The persisted face %q does not exist in "+
		"this collection.", printable(id))
	if _, err := visage.ParseUUID(id); err != nil {
		return faceRecord{}, notFound
	}
	f, err := c.faces().Get(r, id)
	if errors.Is(err, sealed.ErrNotFound) || err == nil && f.Person != person {
		return faceRecord{}, notFound
	}
	if err != nil {
		return faceRecord{}, fmt.Errorf("read face: %w", err)
	}
	return f, nil
}

// getUserData reads the userData of a persisted face; nil when none was set.
func getUserData(r sealed.Reader, c collectionRecord, id uuid) (*string, error) {
	d, err := userData.In(c.Incarnation.String()).Get(r, id.String())
	if errors.Is(err, sealed.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read userData of a face: %w", err)
	}
	return &d.UserData, nil
}

// remove deletes a record that may or may not be there.
func remove[T any](tx sealed.Tx, c sealed.Container[T], id string) error {
	if err := c.Delete(tx, id); err != nil && !errors.Is(err, sealed.ErrNotFound) {
		return fmt.Errorf("delete a record: %w", err)
	}
	return nil
}
