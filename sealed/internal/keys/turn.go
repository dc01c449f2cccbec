package keys

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"github.com/visage-face/visage/internal/arena"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
)

// Commit seals the head of the root container under a pair and calls put, both in one transaction, without
// others beside it. When it returns nil, all of that is durable.
type Commit func(pair format.Pair, put func(engine.Writer) error) error

// ErrTurning says that a turn to another generation is under way.
var ErrTurning = errors.New("pages are still sealed under older keys: finish the turn first")

// Wrap adds a generation to a bundle: see sealed.Bundle.Wrap. The caller must be the only one to change keys, and
// hold the root; the same applies to the functions below.
func (b *Bundles) Wrap(
	ctx context.Context, id format.SpaceID, to []keysource.Source,
) (generation uint32, err error) {
	doc, err := b.Read(ctx, id)
	if err != nil {
		return 0, err
	}
	data, err := arena.New(format.KeySize)
	if err != nil {
		return 0, err
	}
	defer data.Free()
	rand.Read(data.Bytes()) // never fails: the runtime ends the process instead
	g, err := b.wrapNext(ctx, id, doc, data.Bytes(), to)
	if err != nil {
		return 0, err
	}
	return g.Number, b.Change(ctx, id, func(now *Doc) error {
		if now.Sequence != doc.Sequence {
			return ErrChanged
		}
		now.Generations = append(now.Generations, g)
		return nil
	})
}

// Rewrap wraps the current data key anew: see sealed.Bundle.Rewrap. enter returns the keyring of the space, with what
// is to be called when it is not used any more; a nil ring says that the space is not open. It returns the pair that
// has ended, the zero one when nothing was turned.
func (b *Bundles) Rewrap(
	ctx context.Context, id format.SpaceID, src keysource.Source, to []keysource.Source,
	enter func() (*Ring, func()), commit Commit,
) (ended format.Pair, err error) {
	doc, i, data, err := b.openCurrent(ctx, id, src)
	if err != nil {
		return ended, err
	}
	defer data.Free()
	if !doc.Turning {
		ring, leave := enter()
		defer leave()
		if ring != nil {
			if !ring.has(doc.Current) {
				return ended, ErrTurned // before any key is asked to wrap
			}
			rand.Read(data.Bytes()) // never fails: the runtime ends the process instead
			fresh, err := b.wrapNext(ctx, id, doc, data.Bytes(), to)
			if err != nil {
				return ended, err
			}
			return b.turn(ctx, id, ring, doc, fresh.Number, data.Bytes(), func(now *Doc, epoch EpochDoc) {
				now.Generations, now.Epochs = []generationDoc{fresh}, []EpochDoc{epoch}
			}, commit)
		}
	}
	g := doc.Generations[i]
	slots, err := b.wrapSlots(ctx, id, g, g.nextSlot(), data.Bytes(), to)
	if err != nil {
		return ended, fmt.Errorf("wrap data key of generation %d: %w", g.Number, err)
	}
	return ended, b.replaceSlots(ctx, id, doc, i, slots)
}

// RewrapSlot wraps the current data key anew in the slot of one key: see sealed.Bundle.RewrapSlot.
func (b *Bundles) RewrapSlot(ctx context.Context, id format.SpaceID, uri string, src keysource.Source) error {
	doc, i, data, err := b.openCurrent(ctx, id, onlySlot{src, uri})
	if err != nil {
		return err
	}
	defer data.Free()
	g := doc.Generations[i]
	at := slices.IndexFunc(g.Slots, func(s slotDoc) bool { return s.URI == uri })
	slot, err := b.wrapSlot(ctx, id, g, g.nextSlot(), data.Bytes(), src)
	if err == nil && slot.URI != uri {
		err = fmt.Errorf("%w: key %q has wrapped instead of %q", keysource.ErrWrong, slot.URI, uri)
	}
	if err != nil {
		return fmt.Errorf("wrap data key of generation %d: %w", g.Number, err)
	}
	slots := slices.Clone(g.Slots)
	slots[at] = slot
	return b.replaceSlots(ctx, id, doc, i, slots)
}

// onlySlot opens the slot of one key only.
type onlySlot struct {
	keysource.Source
	uri string
}

// Unwrap implements keysource.Source.
func (s onlySlot) Unwrap(ctx context.Context, ref keysource.Ref, blob []byte) (inner []byte, err error) {
	if ref.URI != s.uri {
		return nil, ErrOtherSlot
	}
	return s.Source.Unwrap(ctx, ref, blob)
}

// openCurrent reads a bundle and opens its current data key, which the caller frees. at is the position of its
// generation.
func (b *Bundles) openCurrent(
	ctx context.Context, id format.SpaceID, src keysource.Source,
) (doc Doc, at int, data *arena.Buffer, err error) {
	doc, err = b.Read(ctx, id)
	if err != nil {
		return doc, 0, nil, err
	}
	at = slices.IndexFunc(doc.Generations, func(g generationDoc) bool { return g.Number == doc.Current.Generation })
	if at < 0 || len(doc.Generations[at].Slots) == 0 {
		return doc, 0, nil, b.damaged(id, errNoCurrent)
	}
	data, err = arena.New(format.KeySize)
	if err != nil {
		return doc, 0, nil, err
	}
	if err := b.unwrap(ctx, data.Bytes(), id, doc.Generations[at], src); err != nil {
		data.Free()
		return doc, 0, nil, fmt.Errorf("unwrap data key of generation %d: %w", doc.Generations[at].Number, err)
	}
	return doc, at, data, nil
}

// nextSlot returns a number that no slot of the generation has.
func (d generationDoc) nextSlot() uint32 {
	number := uint32(1)
	for _, sd := range d.Slots {
		number = max(number, sd.Number+1)
	}
	return number
}

// replaceSlots stores other slots of a generation of a bundle that was read as doc.
func (b *Bundles) replaceSlots(ctx context.Context, id format.SpaceID, doc Doc, at int, slots []slotDoc) error {
	return b.Change(ctx, id, func(now *Doc) error {
		if now.Sequence != doc.Sequence {
			return ErrChanged
		}
		now.Generations[at].Slots = slots
		return nil
	})
}

// Turn makes a generation that the bundle has the current one, together with a fresh epoch, and returns the pair that
// has ended. When the generation is another one, the bundle says from there on that pages are to be rewritten, until
// Turned.
func (b *Bundles) Turn(
	ctx context.Context, id format.SpaceID, ring *Ring, generation uint32, src keysource.Source, commit Commit,
) (ended format.Pair, err error) {
	doc, err := b.Read(ctx, id)
	if err != nil {
		return ended, err
	}
	at := slices.IndexFunc(doc.Generations, func(g generationDoc) bool { return g.Number == generation })
	if at < 0 {
		return ended, fmt.Errorf("%w: there is no generation %d any more", ErrChanged, generation)
	}
	data, err := arena.New(format.KeySize)
	if err != nil {
		return ended, err
	}
	defer data.Free()
	same := ring.copyData(data.Bytes(), generation)
	if !same {
		if err := b.unwrap(ctx, data.Bytes(), id, doc.Generations[at], src); err != nil {
			return ended, fmt.Errorf("unwrap data key of generation %d: %w", generation, err)
		}
	}
	return b.turn(ctx, id, ring, doc, generation, data.Bytes(), func(now *Doc, epoch EpochDoc) {
		if same {
			now.Epochs = []EpochDoc{epoch}
		} else {
			now.Epochs, now.Turning = append(now.Epochs, epoch), true
		}
	}, commit)
}

// turn takes a space to a data key and a fresh epoch key; change says which epochs the bundle then has. The new epoch
// key is in the key store before the transaction that needs it, and those that the bundle no longer has leave it after:
// whatever is cut off in between, the bundle says which of them counts.
func (b *Bundles) turn(
	ctx context.Context, id format.SpaceID, ring *Ring, doc Doc, generation uint32, data []byte,
	change func(*Doc, EpochDoc), commit Commit,
) (ended format.Pair, err error) {
	if !ring.has(doc.Current) {
		return ended, ErrTurned
	}
	key, err := arena.New(format.KeySize)
	if err != nil {
		return ended, err
	}
	defer key.Free()
	rand.Read(key.Bytes()) // never fails: the runtime ends the process instead
	epoch, err := b.keepEpoch(ctx, id, doc, data, key.Bytes())
	if err != nil {
		return ended, err
	}
	kept, pair := 0, format.Pair{Generation: generation, Epoch: epoch.Number}
	turned := func() error {
		ring.changing.Lock()
		defer ring.changing.Unlock()
		if !ring.has(doc.Current) {
			return ErrTurned
		}
		ring.addRoot(pair, format.RootKey(data, key.Bytes()))
		err := commit(pair, func(w engine.Writer) error {
			return b.Put(w, id, func(now *Doc) error {
				if now.Sequence != doc.Sequence {
					return ErrChanged
				}
				now.Current = pair
				change(now, epoch)
				kept = len(now.Epochs)
				return nil
			})
		})
		// the key that was made stays in the key store; nothing is sealed under it unless the commit was made after all
		if err != nil {
			ring.onlyRoot(doc.Current)
			return err
		}
		ring.onlyRoot(pair)
		copy(ring.data(), data)
		ring.generation = generation
		return nil
	}
	if err := turned(); err != nil {
		return ended, err
	}
	if kept == 1 { // the bundle no longer speaks of the epochs before
		if err := b.EndEpochs(ctx, id, pair.Epoch, numbers(doc.Epochs)...); err != nil {
			return ended, err
		}
	}
	return doc.Current, nil
}

// Turned notes that every page is sealed under the current generation.
func (b *Bundles) Turned(ctx context.Context, id format.SpaceID) error {
	return b.Change(ctx, id, func(now *Doc) error {
		now.Turning = false
		return nil
	})
}

// Retire ends every key but the current ones: their slots leave the bundle and their epoch keys are destroyed.
func (b *Bundles) Retire(ctx context.Context, id format.SpaceID) error {
	var current format.Pair
	var before []uint32
	err := b.Change(ctx, id, func(doc *Doc) error {
		if doc.Turning {
			return ErrTurning
		}
		current, before = doc.Current, numbers(doc.Epochs)
		doc.Generations = slices.DeleteFunc(doc.Generations,
			func(g generationDoc) bool { return g.Number != current.Generation })
		doc.Epochs = slices.DeleteFunc(doc.Epochs, func(e EpochDoc) bool { return e.Number != current.Epoch })
		return nil
	})
	if err != nil {
		return err
	}
	return b.EndEpochs(ctx, id, current.Epoch, before...)
}
