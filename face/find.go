package face

import (
	"errors"
	"fmt"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
)

// find reads a collection. An id that is not allowed is not found.
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

// findSame is findState for a collection that was found before; one that was deleted and made again is not found.
func findSame(r sealed.Reader, ref Ref, before collectionRecord) (collectionRecord, stateRecord, error) {
	c, st, err := findState(r, ref)
	if err == nil && c.Incarnation != before.Incarnation {
		err = ref.notFound()
	}
	return c, st, err
}

// findIdle is findState for a change, which is refused during a training.
func findIdle(r sealed.Reader, ref Ref) (collectionRecord, stateRecord, error) {
	c, st, err := findState(r, ref)
	if err == nil && st.Training.underWay() {
		err = ref.notFinished()
	}
	return c, st, err
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

// findFace reads a persisted face of a collection that belongs to the given person (zero in a list).
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

// getTotals reads the totals of a resource; they are zero in a space without the record.
func getTotals(r sealed.Reader) (totalsRecord, error) {
	t, err := totals.In().Get(r, totalsID)
	if err != nil && !errors.Is(err, sealed.ErrNotFound) {
		return t, fmt.Errorf("read totals: %w", err)
	}
	return t, nil
}

// putState writes a collection's state, with the changes that were noted.
func putState(tx sealed.Tx, kind Kind, c collectionRecord, st *stateRecord) error {
	if err := st.writeChanges(tx, c); err != nil {
		return err
	}
	if err := states.In(kind.String()).Put(tx, c.Incarnation.String(), *st); err != nil {
		return fmt.Errorf("write state of %s: %w", kind, err)
	}
	return nil
}

// putTrash records contents that a sweep has to drop.
func putTrash(tx sealed.Tx, t trashRecord) error {
	if err := trash.In().Put(tx, t.id(), t); err != nil {
		return fmt.Errorf("record contents to drop: %w", err)
	}
	return nil
}

// remove deletes a record if it exists.
func remove[T any](tx sealed.Tx, c sealed.Container[T], id string) error {
	if err := c.Delete(tx, id); err != nil && !errors.Is(err, sealed.ErrNotFound) {
		return fmt.Errorf("delete a record: %w", err)
	}
	return nil
}
