package face

import (
	"slices"

	"github.com/visage-face/visage/sealed"
)

// note adds changes that the next putState writes.
func (st *stateRecord) note(what changeKind, ids ...uuid) {
	if len(ids) == 0 {
		st.noted = append(st.noted, change{what: what})
	}
	for _, id := range ids {
		st.noted = append(st.noted, change{what, string(id[:])})
	}
}

// writeChanges writes the noted changes, except the head.
func (st *stateRecord) writeChanges(tx sealed.Tx, c collectionRecord) error {
	if err := st.Changes.add(tx, changes.In(c.Incarnation.String()), st.noted...); err != nil {
		return err
	}
	if slices.ContainsFunc(st.noted, change.follows) {
		st.Followed = st.Changes.last()
	}
	st.written, st.noted = append(st.written, st.noted...), nil
	return nil
}

// changesSince returns the changes of a collection after a number.
func (st stateRecord) changesSince(r sealed.Reader, c collectionRecord, after uint64) ([]change, bool, error) {
	return st.Changes.since(r, changes.In(c.Incarnation.String()), after)
}

// stored returns what the transaction that wrote the state has changed.
func (st stateRecord) stored() stored {
	return stored{after: st.Changes.last() - uint64(len(st.written)), list: st.written}
}
