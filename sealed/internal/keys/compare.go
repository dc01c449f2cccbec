package keys

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/visage-face/visage/internal/arena"
	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/event"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/rowkey"
)

// What Compare and Follow say of a ring that is not as the bundle says, since another process has changed that.
var (
	ErrTurned  = errors.New("another process has turned the keys") // Follow opens the new ones
	ErrOlder   = errors.New("the snapshot is older than the keys") // a newer one will do
	ErrFenced  = errors.New("another process has locked the space")
	ErrForeign = errors.New("another process has changed the data key, which a key source has to open")
	ErrGone    = errors.New("another process has dropped the space")
)

// Saw notes the bundle that a ring was opened with.
func (k *Ring) Saw(row []byte, doc Doc) { k.seen.Store(&seen{row, doc.Sequence, doc.Fence, doc.Made}) }

// Sequence returns the sequence of the bundle that the ring was last held against.
func (k *Ring) Sequence() uint64 { return k.seen.Load().sequence }

// Compare holds a ring against the bundle as a transaction reads it. In the usual case that is one row with the bytes
// that were there before. Errors: ErrTurned, ErrOlder, ErrFenced, ErrGone, *CorruptError. The ring must be in use.
func (b *Bundles) Compare(r engine.Reader, id format.SpaceID, ring *Ring) error {
	row, ok, err := r.Get(rowkey.OfSpace(format.ID(id), rowkey.Bundle))
	if err == nil && !ok {
		err = ErrGone
	}
	if err != nil {
		return err
	}
	before := ring.seen.Load()
	if bytes.Equal(row, before.row) {
		return nil
	}
	defer b.root.Hold()()
	doc, err := b.Decode(id, row)
	if err == nil {
		err = before.check(doc)
	}
	if err != nil {
		return err
	}
	if !ring.has(doc.Current) {
		return ErrTurned
	}
	ring.seen.CompareAndSwap(before, &seen{bytes.Clone(row), doc.Sequence, doc.Fence, doc.Made})
	return nil
}

func (s *seen) check(doc Doc) error {
	switch {
	case doc.State == Dropped || !bytes.Equal(doc.Made, s.made):
		return ErrGone
	case doc.Sequence < s.sequence:
		return ErrOlder
	case doc.Fence != s.fence:
		return ErrFenced
	}
	return nil
}

// Follow brings a ring to the keys that another process has made current. Errors: as Compare, and ErrForeign. The root
// must be held, and the ring be in use.
func (b *Bundles) Follow(ctx context.Context, id format.SpaceID, ring *Ring) error {
	ring.changing.Lock()
	defer ring.changing.Unlock()
	for {
		row, err := b.Row(ctx, id)
		if errors.Is(err, ErrNoSpace) {
			err = ErrGone
		}
		if err != nil {
			return err
		}
		doc, err := b.Decode(id, row)
		if err == nil {
			err = ring.seen.Load().check(doc)
		}
		if err != nil {
			return err
		}
		if !ring.has(doc.Current) {
			err = b.Reporting(func(event.Event) {}).follow(ctx, id, doc, ring)
		}
		if err == nil {
			ring.Saw(row, doc)
			return nil
		}
		if now, rowErr := b.Row(ctx, id); rowErr != nil || bytes.Equal(now, row) {
			if e, ok := errors.AsType[*event.CorruptError](err); ok {
				err = b.report.Corrupt(e)
			}
			return errors.Join(err, rowErr)
		} // else it was turned once more in between
	}
}

// follow opens the keys of a bundle into a ring that has earlier ones of the same space.
func (b *Bundles) follow(ctx context.Context, id format.SpaceID, doc Doc, ring *Ring) error {
	g, e := doc.current()
	if g == nil || e == nil {
		return b.damaged(id, errNoCurrent)
	}
	keys, err := arena.New(2 * format.KeySize)
	if err != nil {
		return err
	}
	defer keys.Free()
	data, epoch := keys.Bytes()[:format.KeySize], keys.Bytes()[format.KeySize:]
	if g.Number == ring.generation {
		copy(data, ring.data())
	} else if err := b.unwrap(ctx, data, id, *g, nil); errors.Is(err, ErrLocked) {
		return ErrForeign
	} else if err != nil {
		return fmt.Errorf("unwrap data key of generation %d: %w", g.Number, err)
	}
	if err := b.openEpoch(ctx, epoch, data, id, *e); err != nil {
		return err
	}
	ring.addRoot(doc.Current, format.RootKey(data, epoch))
	ring.onlyRoot(doc.Current)
	copy(ring.data(), data)
	ring.generation = g.Number
	return nil
}
