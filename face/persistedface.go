package face

import (
	"errors"
	"fmt"

	"github.com/visage-face/visage/gallery"
	"github.com/visage-face/visage/sealed"
)

// PersistedFace is a face of a list or of a person.
type PersistedFace struct {
	ID       string  // a UUID
	UserData *string // nil: never set
}

// persisted returns a face with its userData.
func persisted(r sealed.Reader, c collectionRecord, f faceRecord) (PersistedFace, error) {
	data, err := getUserData(r, c, f.ID)
	return PersistedFace{ID: f.ID.String(), UserData: data}, err
}

// putFace stores a new face, with a code for each side, under the next sequence number of its collection, and writes
// the state.
func putFace(
	tx sealed.Tx, kind Kind, c collectionRecord, st *stateRecord, f *faceRecord, codes []gallery.Code, data *string,
) error {
	st.Sequence++
	f.Sequence = st.Sequence
	for i, side := range c.sides() {
		record := *f
		record.Code = codes[i]
		if err := side.faces().Add(tx, f.ID.String(), record); err != nil {
			return fmt.Errorf("write face: %w", err)
		}
	}
	st.Faces++
	if c.Migration != nil {
		st.Sent++
	}
	if data != nil {
		if err := userData.In(c.Incarnation.String()).
			Add(tx, f.ID.String(), userDataRecord{UserData: *data}); err != nil {
			return fmt.Errorf("write userData of a face: %w", err)
		}
	}
	if !kind.isGroup() {
		if err := noteDay(tx, c, st); err != nil {
			return err
		}
		st.note(faceAdded, f.ID) // those of groups are searched after the next training, and not listed
	}
	return putState(tx, kind, c, st)
}

// removeFace deletes a face with its userData, and subtracts it from the state, which the caller writes.
func removeFace(tx sealed.Tx, c collectionRecord, st *stateRecord, id uuid) error {
	st.note(faceGone, id)
	return removeFaceRecords(tx, c, st, id)
}

// removeFaceRecords is removeFace without a note of the change.
func removeFaceRecords(tx sealed.Tx, c collectionRecord, st *stateRecord, id uuid) error {
	of := c.Incarnation.String()
	if err := remove(tx, c.faces(), id.String()); err != nil {
		return err
	}
	st.Faces--
	if c.Migration != nil {
		switch err := c.next().faces().Delete(tx, id.String()); {
		case err == nil:
			st.Sent--
		case !errors.Is(err, sealed.ErrNotFound):
			return fmt.Errorf("delete the face of a migration: %w", err)
		}
	}
	if err := remove(tx, matched.In(of), id.String()); err != nil {
		return err
	}
	return remove(tx, userData.In(of), id.String())
}
