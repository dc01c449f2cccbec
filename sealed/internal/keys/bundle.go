// Package keys is the keys of a store, from the instance root down to where a space's tree of pages begins: protectors
// wrap the root, bundles hold the data keys of each space in slots, epoch keys lie apart in a key store, and a turn
// makes another generation or epoch current. Anchors keep the newest states of spaces apart from the data.
//
// It knows nothing of pages and records: the one thing that is sealed under what it makes is the head of a space's root
// container, and the caller of a turn brings a Commit that seals it. Documents are described in docs/formats/values.md.
package keys

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/event"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keystore"
	"github.com/visage-face/visage/sealed/internal/rowkey"
)

// Doc is a space's keys, wrapped, with what wrapped them, and where the space stands. It is sealed under the
// instance root.
type Doc struct {
	Sequence    uint64          `cbor:"1,keyasint"` // grows with every change; compare-and-set goes by it
	Fence       uint64          `cbor:"2,keyasint"` // grows with every lock that has to outlive the process
	State       string          `cbor:"3,keyasint"` // Active or Dropped
	Current     format.Pair     `cbor:"4,keyasint"` // what the head of the root container is sealed under
	Generations []generationDoc `cbor:"5,keyasint"`
	Epochs      []EpochDoc      `cbor:"6,keyasint"` // in the order they were made
	Note        []byte          `cbor:"7,keyasint"` // kept for the caller that changes keys; see Bundle.SetNote
	// the space is to be put in order before anybody uses it; see reconcile
	Restored bool `cbor:"8,keyasint"`
	Turning  bool `cbor:"9,keyasint"` // a turn to another generation has begun, and pages are still to be rewritten
	// Made tells a space from one of the same id that was dropped before; random. Empty: from before it was kept.
	Made []byte `cbor:"10,keyasint,omitempty"`
}

type generationDoc struct {
	Number     uint32    `cbor:"1,keyasint"`
	Commitment []byte    `cbor:"2,keyasint"`
	Slots      []slotDoc `cbor:"3,keyasint"`
}

// slotDoc is one wrapping of a generation's data key. A customer's slot, in a vault, has a URI and a probe to ask the
// vault with; the service-managed one has neither, since the instance root alone opens it.
type slotDoc struct {
	Number    uint32 `cbor:"1,keyasint"`
	Role      Role   `cbor:"2,keyasint"`
	URI       string `cbor:"3,keyasint"`
	Version   string `cbor:"4,keyasint"`
	Algorithm string `cbor:"5,keyasint"`
	Wrapped   []byte `cbor:"6,keyasint"`
	Probe     []byte `cbor:"7,keyasint"` // random bytes, wrapped like the data key
	ProbeSum  []byte `cbor:"8,keyasint"` // what they must be
	// Root is the version of the root key that sealed the data key inside; zero: the first.
	Root uint32 `cbor:"9,keyasint,omitempty"`
}

// EpochDoc is an epoch that has a key in the key store.
type EpochDoc struct {
	Number     uint32 `cbor:"1,keyasint"`
	Commitment []byte `cbor:"2,keyasint"`
}

const (
	Active  = "active"
	Dropped = "dropped" // its keys are gone; its rows are going, and this document goes last

	algorithmService = "A256GCM"
)

func (d generationDoc) slot(sd slotDoc) format.Slot {
	return format.Slot{Number: sd.Number, Role: string(sd.Role), Generation: d.Number, URI: sd.URI, Version: sd.Version,
		Algorithm: sd.Algorithm, Commitment: d.Commitment}
}

// root returns the version of the root key that the slot is sealed under.
func (s slotDoc) root() uint32 { return max(s.Root, 1) }

// Bundles are the key bundles of all spaces, with the key store that their epoch keys lie in.
type Bundles struct {
	root   *Root
	engine engine.Engine
	epochs keystore.Store
	report event.Report
}

// NewBundles returns the bundles that lie in an engine under a root.
func NewBundles(root *Root, eng engine.Engine, epochs keystore.Store, report event.Report) *Bundles {
	return &Bundles{root, eng, epochs, report}
}

// What callers decide on.
var (
	ErrNoSpace = errors.New("no such space")
	ErrLocked  = errors.New("the space is locked")
	ErrExists  = errors.New("the space exists already")
	ErrChanged = errors.New("the space's keys have changed meanwhile")
	// ErrOtherSlot is what a source answers to Unwrap to leave the slot to another one of the same data key.
	ErrOtherSlot = errors.New("this source opens another slot")
)

// Reporting returns the same bundles, which report what is damaged to somebody else.
func (b *Bundles) Reporting(report event.Report) *Bundles {
	c := *b
	c.report = report
	return &c
}

// Read reads a space's bundle, that of a dropped one too. Errors: ErrNoSpace, *CorruptError.
func (b *Bundles) Read(ctx context.Context, id format.SpaceID) (doc Doc, err error) {
	row, err := b.Row(ctx, id)
	if err != nil {
		return Doc{}, err
	}
	return b.Decode(id, row)
}

// Row reads the row of a space's bundle. Error: ErrNoSpace.
func (b *Bundles) Row(ctx context.Context, id format.SpaceID) (row []byte, err error) {
	err = b.engine.View(ctx, func(r engine.Reader) error {
		value, ok, err := r.Get(rowkey.OfSpace(format.ID(id), rowkey.Bundle))
		if row = bytes.Clone(value); err == nil && !ok {
			return ErrNoSpace
		}
		return err
	})
	return row, err
}

// Decode opens the row of a bundle. The root must be held.
func (b *Bundles) Decode(id format.SpaceID, row []byte) (doc Doc, err error) {
	raw, err := format.OpenBundle(b.root.Of, b.root.Instance, format.ID(id), row)
	if err != nil {
		return Doc{}, b.report.Corrupt(&event.CorruptError{Space: id, What: "bundle", Err: err})
	}
	if err := format.Strict.Unmarshal(raw, &doc); err != nil {
		return Doc{},
			b.report.Corrupt(&event.CorruptError{Space: id, What: "bundle",
				Err: fmt.Errorf("%w: %v", format.ErrMalformed, err)})
	}
	return doc, nil
}

// current returns the generation and epoch that the root container is sealed under; nil where the bundle has none.
func (d *Doc) current() (g *generationDoc, e *EpochDoc) {
	for i := range d.Generations {
		if d.Generations[i].Number == d.Current.Generation {
			g = &d.Generations[i]
		}
	}
	for i := range d.Epochs {
		if d.Epochs[i].Number == d.Current.Epoch {
			e = &d.Epochs[i]
		}
	}
	return g, e
}

// Put changes a bundle inside a transaction: fn changes the document, whose sequence number then grows.
func (b *Bundles) Put(w engine.Writer, id format.SpaceID, fn func(*Doc) error) error {
	key := rowkey.OfSpace(format.ID(id), rowkey.Bundle)
	row, ok, err := w.Get(key)
	if err != nil {
		return err
	}
	if !ok {
		return ErrNoSpace
	}
	doc, err := b.Decode(id, row)
	if err != nil {
		return err
	}
	if doc.State != Active {
		return ErrNoSpace
	}
	if err := fn(&doc); err != nil {
		return err
	}
	doc.Sequence++
	raw, err := cbor.Marshal(doc)
	if err != nil {
		return err
	}
	return w.Put(key, format.SealBundle(b.root.Current(), b.root.Instance, format.ID(id), raw))
}

// Change changes a bundle in a transaction of its own; fn may run twice. The root must be held.
func (b *Bundles) Change(ctx context.Context, id format.SpaceID, fn func(*Doc) error) error {
	return engine.CommitAndWait(ctx, b.engine, format.ID(id), func(w engine.Writer) error { return b.Put(w, id, fn) })
}

func (b *Bundles) seal(id format.SpaceID, doc Doc) (format.Sealed, error) {
	raw, err := cbor.Marshal(doc)
	if err != nil {
		return format.Sealed{}, err
	}
	return format.SealBundle(b.root.Current(), b.root.Instance, format.ID(id), raw), nil
}

// sealInner seals a data key under the root key for a slot, and notes which version that was.
func (b *Bundles) sealInner(id format.SpaceID, g generationDoc, slot *slotDoc, data []byte) (inner []byte) {
	root := b.root.Current()
	if slot.Root = root.Version; root.Version == 1 {
		slot.Root = 0 // as it was written before there were versions
	}
	return format.SealInner(root.Key, b.root.Instance, format.ID(id), g.slot(*slot), data)
}

// openInner reverses sealInner.
func (b *Bundles) openInner(dst []byte, id format.SpaceID, g generationDoc, slot slotDoc, inner []byte) error {
	root, err := b.root.Of(slot.root())
	if err != nil {
		return err
	}
	if root == nil {
		return b.damaged(id, fmt.Errorf("%w: a slot of version %d of the root key", format.ErrMalformed, slot.Root))
	}
	if err := format.OpenInner(dst, root, b.root.Instance, format.ID(id), g.slot(slot), inner); err != nil {
		return b.damaged(id, err)
	}
	return nil
}

// Drop puts a bundle without data keys in place of the space's own; it names the epochs whose keys are to be destroyed.
// A missing bundle would not do as a mark: it is what
// damage looks like, and damage must not delete anything. One that is there already stays. The root must be held.
// Error: ErrNoSpace.
func (b *Bundles) Drop(ctx context.Context, id format.SpaceID) error {
	key := rowkey.OfSpace(format.ID(id), rowkey.Bundle)
	return engine.CommitAndWait(ctx, b.engine, format.ID(id), func(w engine.Writer) error {
		row, ok, err := w.Get(key)
		if err == nil && !ok {
			err = ErrNoSpace
		}
		if err != nil {
			return err
		}
		doc, err := b.Decode(id, row)
		if err != nil && !event.IsCorrupt(err) {
			return err
		}
		if doc.State == Dropped {
			return nil
		}
		mark, err := b.seal(id, Doc{Sequence: doc.Sequence + 1, Fence: doc.Fence + 1, State: Dropped, Made: doc.Made,
			Epochs: doc.Epochs})
		if err != nil {
			return err
		}
		return w.Put(key, mark)
	})
}

// Fence moves the fence of a space, so that every process which has it open locks it. The root must be held.
func (b *Bundles) Fence(ctx context.Context, id format.SpaceID) error {
	return b.Change(ctx, id, func(doc *Doc) error {
		doc.Fence++
		return nil
	})
}

// Restored returns the row of a bundle as a restored store has it: marked, so that its space is put in order before
// anybody uses it.
func (b *Bundles) Restored(id format.SpaceID, row []byte) (format.Sealed, error) {
	doc, err := b.Decode(id, row)
	if err != nil {
		return format.Sealed{}, err
	}
	doc.Restored = doc.State == Active
	return b.seal(id, doc)
}

// Role says whose key wraps a data key.
type Role string

// The roles of a slot.
const (
	Service  Role = "service"  // the service's: the instance root alone opens it
	Customer Role = "customer" // a customer's, in a vault of theirs; the instance root is needed as well
)

var errNoCurrent = fmt.Errorf("%w: the current keys are not among its keys", format.ErrMalformed)

func (b *Bundles) damaged(id format.SpaceID, err error) error {
	return b.report.Corrupt(&event.CorruptError{Space: id, What: "bundle", Err: err})
}
