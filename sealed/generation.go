package sealed

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"github.com/visage-face/visage/internal/arena"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
)

// Role says whose key wraps a data key.
type Role string

// The roles of a slot.
const (
	Service  Role = roleService  // the service's: the instance root alone opens it
	Customer Role = roleCustomer // a customer's, in a vault of theirs; the instance root is needed as well
)

// Slot is one wrapping of one generation of a space's data key.
type Slot struct {
	Generation uint32
	Role       Role
	Ref        keysource.Ref // zero for Service
	Current    bool          // what is written now is sealed under this generation
}

// Keys is how a space's keys stand.
type Keys struct {
	Sequence uint64 // grows with every change
	Slots    []Slot
	Turning  bool   // keys other than the current ones are still alive: Turn or Retire has work to do
	Note     []byte // what SetNote kept, for whoever drives the changes
}

// ErrChanged says that the keys are not as they were when the caller looked.
var ErrChanged = errors.New("the space's keys have changed meanwhile")

// Keys returns how the space's keys stand. It needs no key but the instance root, so it works while the space is
// locked.
func (b *Bundle) Keys(ctx context.Context) (Keys, error) {
	s := b.sp.store
	s.using.RLock()
	defer s.using.RUnlock()
	doc, err := s.readBundle(ctx, b.sp.id)
	if err == nil && doc.State == stateDropped {
		err = ErrNoSpace
	}
	if err != nil {
		return Keys{}, err
	}
	k := Keys{Sequence: doc.Sequence, Turning: len(doc.Generations) > 1 || len(doc.Epochs) > 1, Note: doc.Note}
	for _, g := range doc.Generations {
		for _, sd := range g.Slots {
			k.Slots = append(k.Slots, Slot{
				Generation: g.Number, Role: Role(sd.Role), Ref: keysource.Ref{URI: sd.URI, Version: sd.Version},
				Current: g.Number == doc.Current.Generation,
			})
		}
	}
	return k, nil
}

// SetNote keeps a note with the keys, if their sequence is still the given one; else ErrChanged. It works while the
// space is locked.
func (b *Bundle) SetNote(ctx context.Context, sequence uint64, note []byte) error {
	return b.change(ctx, func(doc *bundleDoc) error {
		if doc.Sequence != sequence {
			return ErrChanged
		}
		doc.Note = note
		return nil
	})
}

// Wrap adds a generation: a fresh data key, sealed under the instance root and wrapped by src, or kept in the
// service-managed slot when src is nil. Nothing is sealed under it until Turn. What src wrapped has been unwrapped
// again and compared, and so has the probe, when it returns nil.
func (b *Bundle) Wrap(ctx context.Context, src keysource.Source) (generation uint32, err error) {
	b.sp.keying.Lock()
	defer b.sp.keying.Unlock()
	s := b.sp.store
	s.using.RLock()
	defer s.using.RUnlock()
	doc, err := s.readBundle(ctx, b.sp.id)
	if err != nil {
		return 0, err
	}
	data, err := arena.New(format.KeySize)
	if err != nil {
		return 0, err
	}
	defer data.Free()
	rand.Read(data.Bytes()) // never fails: the runtime ends the process instead
	g, err := s.wrapNext(ctx, b.sp.id, doc, data.Bytes(), src)
	if err != nil {
		return 0, err
	}
	return g.Number, b.changeLocked(ctx, func(now *bundleDoc) error {
		if now.Sequence != doc.Sequence {
			return ErrChanged
		}
		now.Generations = append(now.Generations, g)
		return nil
	})
}

// wrapNext makes the next generation of a space out of a data key.
func (s *Store) wrapNext(
	ctx context.Context, id SpaceID, doc bundleDoc, data []byte, src keysource.Source,
) (generationDoc, error) {
	g := generationDoc{Number: 1}
	for _, old := range doc.Generations {
		g.Number = max(g.Number, old.Number+1)
	}
	g.Commitment = format.DataKeyCommitment(data, format.ID(id), g.Number)
	slot, err := s.wrapSlot(ctx, id, g, 1, data, src)
	if err != nil {
		return generationDoc{}, fmt.Errorf("wrap data key of generation %d: %w", g.Number, err)
	}
	g.Slots = []slotDoc{slot}
	return g, nil
}

// Rewrap goes from the key that wraps now to the one that src wraps with now, another version of it as a rule, in one
// small transaction: no page and no record changes. src must still open what is there.
//
// In a space that is open it is a fresh data key, under which the head of the root container is sealed together with a
// fresh epoch key: what opens copies of the keyring from before is then wrapped by the version before alone. In one
// that is not, the data key is the same, wrapped anew.
func (b *Bundle) Rewrap(ctx context.Context, src keysource.Source) error {
	b.sp.keying.Lock()
	defer b.sp.keying.Unlock()
	s := b.sp.store
	s.using.RLock()
	defer s.using.RUnlock()
	doc, err := s.readBundle(ctx, b.sp.id)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(doc.Generations, func(g generationDoc) bool { return g.Number == doc.Current.Generation })
	if i < 0 || len(doc.Generations[i].Slots) == 0 {
		return s.report.Corrupt(&CorruptError{Space: b.sp.id, What: "bundle",
			Err: fmt.Errorf("%w: the current keys are not among its keys", format.ErrMalformed)})
	}
	g := doc.Generations[i]
	data, err := arena.New(format.KeySize)
	if err != nil {
		return err
	}
	defer data.Free()
	if err := s.unwrapDataKey(ctx, data.Bytes(), b.sp.id, g, src); err != nil {
		return fmt.Errorf("unwrap data key of generation %d: %w", g.Number, err)
	}
	b.sp.mu.Lock()
	ring, fence := b.sp.ring, b.sp.fence
	if ring != nil && b.sp.closedLocked() == nil && !doc.Turning {
		ring.users++
	} else {
		ring = nil
	}
	b.sp.mu.Unlock()
	if ring != nil {
		defer b.sp.leave(ring)
		rand.Read(data.Bytes()) // never fails: the runtime ends the process instead
		fresh, err := s.wrapNext(ctx, b.sp.id, doc, data.Bytes(), src)
		if err != nil {
			return err
		}
		return b.sealRoot(ctx, ring, fence, doc, fresh.Number, data.Bytes(), func(now *bundleDoc, epoch epochDoc) {
			now.Generations, now.Epochs = []generationDoc{fresh}, []epochDoc{epoch}
		})
	}
	number := uint32(1)
	for _, sd := range g.Slots {
		number = max(number, sd.Number+1)
	}
	slot, err := s.wrapSlot(ctx, b.sp.id, g, number, data.Bytes(), src)
	if err != nil {
		return fmt.Errorf("wrap data key of generation %d: %w", g.Number, err)
	}
	return b.changeLocked(ctx, func(now *bundleDoc) error {
		if now.Sequence != doc.Sequence {
			return ErrChanged
		}
		now.Generations[i].Slots = []slotDoc{slot}
		return nil
	})
}

// Probe asks src for the probe of the current slot and compares it. keysource.ErrWrong: the source answered with
// something else. It neither reads nor changes whether the space is open.
func (b *Bundle) Probe(ctx context.Context, src keysource.Source) error {
	s := b.sp.store
	s.using.RLock()
	defer s.using.RUnlock()
	doc, err := s.readBundle(ctx, b.sp.id)
	if err != nil {
		return err
	}
	for _, g := range doc.Generations {
		for _, slot := range g.Slots {
			if g.Number == doc.Current.Generation && slot.Role == roleCustomer {
				return probe(ctx, src, b.sp.id, g, slot)
			}
		}
	}
	return errors.New("probe: the space is not under a customer's key")
}

// Discard takes out a generation that nothing was ever sealed under. The current one is refused, and so is one that a
// Turn has begun with.
func (b *Bundle) Discard(ctx context.Context, generation uint32) error {
	return b.change(ctx, func(doc *bundleDoc) error {
		if doc.Current.Generation == generation || doc.Turning {
			return fmt.Errorf("discard generation %d: it is in use", generation)
		}
		doc.Generations = slices.DeleteFunc(doc.Generations,
			func(g generationDoc) bool { return g.Number == generation })
		return nil
	})
}

// wrapSlot makes a slot for a data key and proves that it opens again.
func (s *Store) wrapSlot(
	ctx context.Context, id SpaceID, g generationDoc, number uint32, data []byte, src keysource.Source,
) (slotDoc, error) {
	slot := slotDoc{Number: number, Role: roleService, Algorithm: algorithmService}
	if src == nil {
		slot.Wrapped = format.SealInner(s.root.Bytes(), s.instance, format.ID(id), g.slot(slot), data)
		return slot, nil
	}
	// The inner seal binds the exact key, so the key is asked for its name first; whether it was that key that wrapped
	// is checked afterwards.
	key, err := src.Describe(ctx, keysource.Ref{})
	if err != nil {
		return slotDoc{}, err
	}
	slot.Role, slot.URI, slot.Version, slot.Algorithm = roleCustomer, key.Ref.URI, key.Ref.Version, key.Algorithm
	inner := format.SealInner(s.root.Bytes(), s.instance, format.ID(id), g.slot(slot), data)
	if slot.Wrapped, err = wrapAndCompare(ctx, src, key.Ref, inner); err != nil {
		return slotDoc{}, err
	}
	random := make([]byte, format.KeySize)
	rand.Read(random) // never fails: the runtime ends the process instead
	slot.ProbeSum = format.ProbeSum(random, format.ID(id), g.Number)
	if slot.Probe, err = wrapAndCompare(ctx, src, key.Ref, random); err != nil {
		return slotDoc{}, fmt.Errorf("the probe: %w", err)
	}
	return slot, nil
}

func wrapAndCompare(ctx context.Context, src keysource.Source, want keysource.Ref, inner []byte) ([]byte, error) {
	blob, ref, err := src.Wrap(ctx, inner)
	if err != nil {
		return nil, err
	}
	if ref != want {
		return nil, fmt.Errorf("%w: version %s was asked for, version %s has wrapped", keysource.ErrWrong, want.Version,
			ref.Version)
	}
	back, err := src.Unwrap(ctx, ref, blob)
	if err != nil {
		return nil, fmt.Errorf("unwrap what was just wrapped: %w", err)
	}
	if !hmac.Equal(back, inner) {
		return nil, fmt.Errorf("%w: what was just wrapped unwraps to something else", keysource.ErrWrong)
	}
	return blob, nil
}

func probe(ctx context.Context, src keysource.Source, id SpaceID, g generationDoc, slot slotDoc) error {
	random, err := src.Unwrap(ctx, keysource.Ref{URI: slot.URI, Version: slot.Version}, slot.Probe)
	if err != nil {
		return err
	}
	if len(random) == 0 || !hmac.Equal(format.ProbeSum(random, format.ID(id), g.Number), slot.ProbeSum) {
		return fmt.Errorf("%w: the probe unwraps to something else", keysource.ErrWrong)
	}
	return nil
}

// change changes the bundle by compare-and-set; fn may run twice.
func (b *Bundle) change(ctx context.Context, fn func(*bundleDoc) error) error {
	b.sp.keying.Lock()
	defer b.sp.keying.Unlock()
	b.sp.store.using.RLock()
	defer b.sp.store.using.RUnlock()
	return b.changeLocked(ctx, fn)
}

// changeLocked is change for who holds keying and uses the root.
func (b *Bundle) changeLocked(ctx context.Context, fn func(*bundleDoc) error) error {
	return b.sp.store.updateIn(ctx, format.ID(b.sp.id), func(w engine.Writer) error { return b.putBundle(w, fn) })
}
