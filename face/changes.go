package face

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/visage-face/visage/sealed"
)

// Galleries, orders and names are kept in memory by each process, and what they show may be changed by another one. So
// the changes of a collection are numbered, and written down with what they change in one transaction; each of these
// copies knows the number of the last change that it holds. Whoever uses a copy reads the number of the last change
// first, which is in a record that they read anyway, and when the copy lacks changes it applies those that the log has,
// or is made again when the log does not reach back to them. So nothing that was deleted is found after the deletion
// has returned, in whichever process, and no clock or message between processes is needed.

// change is a change of a collection that copies in memory have to follow.
type change struct {
	what changeKind
	id   string // the 16 bytes of the id of a face or person; the id of a collection, which is not logged
}

type changeKind byte

const (
	faceAdded     changeKind = iota + 1 // to a list
	faceGone                            // of a list or a person
	faceSent                            // it has a template of the migration in progress for the first time
	faceReplaced                        // it has another template of the migration in progress
	sidesChanged                        // a migration began or ended; without an id
	personAdded                         // with or without a face
	personRenamed                       //
	personGone                          // with all faces
	itemAdded                           // to the lists or groups of a kind; counted, and not in the log
	itemGone                            // likewise
)

// follows reports whether the gallery of a trained collection has to follow the change: faces that are added are not
// searched before the next training, which makes another gallery.
func (c change) follows() bool {
	switch c.what {
	case faceGone, faceSent, faceReplaced, sidesChanged, personGone:
		return true
	}
	return false
}

// MarshalBinary returns the kind and the id.
func (c change) MarshalBinary() ([]byte, error) { return append([]byte{byte(c.what)}, c.id...), nil }

// UnmarshalBinary reads what MarshalBinary returns.
func (c *change) UnmarshalBinary(b []byte) error {
	if len(b) == 0 {
		return errors.New("a change without a kind")
	}
	*c = change{changeKind(b[0]), string(b[1:])}
	return nil
}

// changesRecord holds some changes in their order. That in a state record has the latest; the others have
// changesTogether each, and the number of the block modulo mostBlocks as their id.
type changesRecord struct {
	_      struct{} `cbor:",toarray"`
	Before uint64   // the number of the change before the first
	List   []change
}

// changes has the earlier changes of a collection: In(incarnation). In(kind) has the number of changes of the lists or
// groups of a kind, in one record without a List.
var changes = sealed.NewTable[changesRecord]("face.change", 1)

const (
	headID = "head"
	// changesTogether is how many changes are in a block, so that one transaction in four writes a record of the log.
	// The state record of a collection, which has one to two times as many, stays below 256 bytes.
	changesTogether = 4
	// mostBlocks is how many blocks a log has; the next one takes the place of the first. With them, a copy that
	// lacks up to 4,096 changes follows, and the log of a collection takes 400 kB at most.
	mostBlocks = 1024
	// scanFrom is how many blocks are read one by one; more are read with the whole log.
	scanFrom = 32
)

// last returns the number of the last change; 0: there was none.
func (r changesRecord) last() uint64 { return r.Before + uint64(len(r.List)) }

func blockID(before uint64) string {
	return strconv.FormatUint(before/changesTogether%mostBlocks, 10)
}

// add appends changes to those that a head has, and writes the blocks that are full. The caller writes the head.
func (r *changesRecord) add(tx sealed.Tx, in sealed.Container[changesRecord], more ...change) error {
	r.List = append(slices.Clip(r.List), more...)
	for len(r.List) >= 2*changesTogether {
		block := changesRecord{Before: r.Before, List: r.List[:changesTogether]}
		if err := in.Put(tx, blockID(r.Before), block); err != nil {
			return fmt.Errorf("write changes: %w", err)
		}
		r.Before, r.List = r.Before+changesTogether, r.List[changesTogether:]
	}
	return nil
}

// since returns the changes after a number, from a head and its log. reaches is false when the log does not have them
// all any more.
func (r changesRecord) since(
	rd sealed.Reader, in sealed.Container[changesRecord], after uint64,
) (list []change, reaches bool, err error) {
	switch {
	case after > r.last(), r.Before > after && r.Before-after > mostBlocks*changesTogether:
		return nil, false, nil
	case after >= r.Before:
		return r.List[after-r.Before:], true, nil
	}
	first := after - after%changesTogether
	read := func(before uint64) (changesRecord, error) { return in.Get(rd, blockID(before)) }
	if (r.Before-first)/changesTogether > scanFrom {
		all := make(map[uint64]changesRecord, mostBlocks)
		for block, err := range in.All(rd) {
			if err != nil {
				return nil, false, fmt.Errorf("read changes: %w", err)
			}
			all[block.Before] = block
		}
		read = func(before uint64) (changesRecord, error) {
			block, ok := all[before]
			if !ok {
				return block, sealed.ErrNotFound
			}
			return block, nil
		}
	}
	for before := first; before < r.Before; before += changesTogether {
		block, err := read(before)
		if errors.Is(err, sealed.ErrNotFound) || err == nil && block.Before != before {
			return nil, false, nil
		}
		if err != nil {
			return nil, false, fmt.Errorf("read changes: %w", err)
		}
		list = append(list, block.List[max(before, after)-before:]...)
	}
	return append(list, r.List...), true, nil
}

// stored is what a transaction has changed, for the copies in memory: consecutive changes after a number.
type stored struct {
	after uint64
	list  []change
	names map[string]string // the folded names of persons that were added or renamed, by change.id
}

func (s stored) last() uint64 { return s.after + uint64(len(s.list)) }

// mostEarly limits the changes that wait for earlier ones; without them a copy reads the log.
const mostEarly = 4096

// followed is how far a copy follows the changes of what it shows. Transactions that commit at the same time report
// their changes in any order.
type followed struct {
	at    uint64            // the number of the last change that the copy has
	early map[uint64]stored // what came before the changes that precede it, by stored.after
}

// hold keeps changes until due returns them.
func (f *followed) hold(s stored) {
	if f.early == nil || len(f.early) >= mostEarly {
		f.early = make(map[uint64]stored)
	}
	f.early[s.after] = s
}

// due returns the changes that the copy, which has those up to at, has to apply now, in order.
func (f *followed) due() []stored {
	var due []stored
	for after, s := range f.early {
		switch {
		case s.last() <= f.at:
			delete(f.early, after)
		case after < f.at: // read from the log while others were applied
			delete(f.early, after)
			f.early[f.at] = stored{after: f.at, list: s.list[f.at-after:], names: s.names}
		}
	}
	for {
		s, ok := f.early[f.at]
		if !ok {
			return due
		}
		delete(f.early, f.at)
		f.at = s.last()
		due = append(due, s)
	}
}
