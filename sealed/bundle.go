package sealed

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keys"
	"github.com/visage-face/visage/sealed/internal/tree"
)

// Keys is how a space's keys stand.
type Keys = keys.Standing

// Slot is one wrapping of one generation of a space's data key.
type Slot = keys.Slot

// Role says whose key wraps a data key.
type Role = keys.Role

// The roles of a slot.
const (
	Service  = keys.Service  // the service's: the instance root alone opens it
	Customer = keys.Customer // a customer's, in a vault of theirs; the instance root is needed as well
)

// Bundle is a space's keys: who may open it, and whether it is open.
type Bundle struct{ sp *Space }

// Load opens the space with the key that src unwraps; nil means the service-managed slot, which needs no source. A
// locked space opens again, with a new lease. Spaces that are not locked open by themselves on first use when they have
// a service-managed slot. Errors: ErrNoSpace, *CorruptError, what src says.
func (b *Bundle) Load(ctx context.Context, src keysource.Source) error {
	if b.sp.store.sharedEngine() && b.sp.isOpen() {
		// it may be locked elsewhere, which it then finds and is locked here too
		err := b.sp.view(ctx, func(*tree.Tx) error { return nil })
		if !errors.Is(err, ErrLocked) {
			return err
		}
	}
	return b.sp.load(ctx, src)
}

// Lock closes the space: from now on View and Update answer ErrLocked with cause, transactions under way fail at their
// commit, and the lease has ended. Lock waits, for a bounded time, until those still inside have left, and the keys are
// wiped when the last one has. It holds until Load, in this process.
//
// Where other processes share the store, they lock the space as well: see LockElsewhere. When the database does not
// take that in time, LockElsewhere goes on in the background until it does.
func (b *Bundle) Lock(cause error) {
	b.LockNow(cause)
	if sp := b.sp; sp.store.shared {
		ctx, cancel := context.WithTimeout(sp.store.life, drainTime)
		if err := b.LockElsewhere(ctx); err != nil && !isGone(err) {
			b.LockElsewhereLater(func() bool { return true })
		}
		cancel()
	}
	b.Drain()
}

// LockNow is Lock in this process alone, and without the waiting, which is Drain's.
func (b *Bundle) LockNow(cause error) { b.sp.lock(cause) }

// LockElsewhere moves the fence of a space in the store, durably: every process that has the space open finds that in
// its next transaction, or at the commit of the one under way, and locks it with ErrLockedElsewhere. A process that
// cannot read the fence cannot read anything else of the store either, so it serves nothing meanwhile. A space that is
// loaded afterwards, here or elsewhere, is open again. Who finds a space locked elsewhere does not call it: that would
// lock those that have loaded it again. Errors: ErrNoSpace, the engine's.
func (b *Bundle) LockElsewhere(ctx context.Context) error {
	defer b.sp.store.root.Hold()()
	if b.sp.store.isClosed() {
		return ErrClosed
	}
	return b.sp.store.bundles.Fence(ctx, b.sp.id)
}

// lockAgain is how long LockElsewhere waits before it is tried again.
const lockAgain = time.Second

// LockElsewhereLater tries LockElsewhere in the background until the engine takes it, for one that has failed. It ends
// early when still answers false, because the lock has ended, or the store is closed. Of two at once one is enough.
func (b *Bundle) LockElsewhereLater(still func() bool) {
	if sp := b.sp; sp.lockingElsewhere.CompareAndSwap(false, true) {
		go func() {
			defer sp.lockingElsewhere.Store(false)
			b.lockElsewhereWhile(still)
		}()
	}
}

func (b *Bundle) lockElsewhereWhile(still func() bool) {
	for life := b.sp.store.life; ; {
		select {
		case <-life.Done():
			return
		case <-time.After(lockAgain):
		}
		if !still() {
			return
		}
		if err := b.LockElsewhere(life); err == nil || isGone(err) {
			return
		}
	}
}

// Drain waits, for a bounded time, until those who were inside a locked space have left.
func (b *Bundle) Drain() { b.sp.drain() }

// Renew lets the lease run until the given time; the zero time means without end, which is how a space opens. A lease
// that has run out answers ErrGrace until it is renewed; keys stay loaded.
func (b *Bundle) Renew(until time.Time) { b.sp.renew(until) }

// Keys returns how the space's keys stand. It needs no key but the instance root, so it works while the space is
// locked.
func (b *Bundle) Keys(ctx context.Context) (Keys, error) {
	doc, err := b.read(ctx)
	if err == nil && doc.State == keys.Dropped {
		err = ErrNoSpace
	}
	if err != nil {
		return Keys{}, err
	}
	return doc.Standing(), nil
}

func (b *Bundle) read(ctx context.Context) (keys.Doc, error) {
	defer b.sp.store.root.Hold()()
	return b.sp.store.bundles.Read(ctx, b.sp.id)
}

// SetNote keeps a note with the keys, if their sequence is still the given one; else ErrChanged. It works while the
// space is locked, and while Turn rewrites pages. For other changes of the keys it waits as long as ctx.
func (b *Bundle) SetNote(ctx context.Context, sequence uint64, note []byte) error {
	done, err := b.sp.keyedIn(ctx)
	if err != nil {
		return err
	}
	defer done()
	return b.sp.store.bundles.SetNote(ctx, b.sp.id, sequence, note)
}

// MaxSlots is how many keys can wrap one data key at the same time.
const MaxSlots = keys.MaxSlots

// ErrOtherSlot is what a source answers to Unwrap when another slot of the same data key is to be opened instead of the
// one that it was asked for. Without it, the first slot that src is asked for opens the data key or fails.
var ErrOtherSlot = keys.ErrOtherSlot

// Wrap adds a generation: a fresh data key, sealed under the instance root and wrapped by each of the sources, in slots
// of that order; a nil source stands for the service-managed slot. Nothing is sealed under it until Turn. What a source
// wrapped has been unwrapped again and compared, and so has the probe, when it returns nil.
func (b *Bundle) Wrap(ctx context.Context, to ...keysource.Source) (generation uint32, err error) {
	defer b.sp.keyed()()
	return b.sp.store.bundles.Wrap(ctx, b.sp.id, to)
}

// Rewrap goes from the keys that wrap now to those that the sources in to wrap with, in one small transaction: no page
// and no record changes. src opens what is there. Without to, src wraps as well: with another version of its key, as a
// rule.
//
// In a space that is open it is a fresh data key, under which the head of the root container is sealed together with a
// fresh epoch key: what opens copies of the keyring from before is then wrapped by the slots before alone. In one that
// is not, the data key is the same, wrapped anew. Where another process has turned the keys, as for an erasure, it
// follows and says ErrChanged; then it can be called again.
func (b *Bundle) Rewrap(ctx context.Context, src keysource.Source, to ...keysource.Source) error {
	defer b.sp.keyed()()
	if len(to) == 0 {
		to = []keysource.Source{src}
	}
	var r reseal
	ended, err := b.sp.store.bundles.Rewrap(ctx, b.sp.id, src, to, func() (*keys.Ring, func()) {
		ring, fence := b.sp.enterIfOpen()
		if ring == nil {
			return nil, func() {}
		}
		r = reseal{sp: b.sp, ring: ring.Ring, fence: fence}
		return ring.Ring, func() { b.sp.leave(ring) }
	}, func(pair format.Pair, put func(engine.Writer) error) error { return r.commit(ctx, pair, put) })
	if err == nil && ended != (format.Pair{}) {
		b.sp.turned(r.sequence, ended)
	}
	if errors.Is(err, keys.ErrTurned) || errors.Is(err, keys.ErrOlder) {
		ring, _ := b.sp.enterIfOpen()
		if ring == nil {
			return ErrChanged
		}
		defer b.sp.leave(ring)
		err = b.sp.overtaken(ctx, ring, err)
	}
	return err
}

// RewrapSlot wraps the same data key anew in the slot of one key, with src, which opens that slot. The other slots stay
// and are not asked, so a copy of the slot from before still opens the data key: Rewrap ends that.
func (b *Bundle) RewrapSlot(ctx context.Context, uri string, src keysource.Source) error {
	defer b.sp.keyed()()
	return b.sp.store.bundles.RewrapSlot(ctx, b.sp.id, uri, src)
}

// Probe asks src for the probe of the current slot of a key, and compares it; an empty uri stands for the first slot.
// keysource.ErrWrong: the source answered with something else. It neither reads nor changes whether the space is open.
func (b *Bundle) Probe(ctx context.Context, uri string, src keysource.Source) error {
	return b.probe(ctx, uri, src, func(doc keys.Doc) uint32 { return doc.Current.Generation })
}

// ProbeNext is Probe for a slot of a generation that Wrap has made, and that Turn may not have made current yet.
func (b *Bundle) ProbeNext(ctx context.Context, generation uint32, uri string, src keysource.Source) error {
	return b.probe(ctx, uri, src, func(keys.Doc) uint32 { return generation })
}

func (b *Bundle) probe(ctx context.Context, uri string, src keysource.Source, of func(keys.Doc) uint32) error {
	s := b.sp.store
	defer s.root.Hold()()
	doc, err := s.bundles.Read(ctx, b.sp.id)
	if err != nil {
		return err
	}
	return s.bundles.Probe(ctx, b.sp.id, doc, of(doc), uri, src)
}

// NextLabel returns the label of the data key that Wrap makes next: a key that is to wrap it can be tried with that.
func (b *Bundle) NextLabel(ctx context.Context) (keysource.Label, error) {
	doc, err := b.read(ctx)
	if err != nil {
		return keysource.Label{}, err
	}
	return b.sp.store.bundles.NextLabel(b.sp.id, doc), nil
}

// Discard takes out a generation that nothing was ever sealed under. The current one is refused, and so is one that a
// Turn has begun with.
func (b *Bundle) Discard(ctx context.Context, generation uint32) error {
	defer b.sp.keyed()()
	return b.sp.store.bundles.Discard(ctx, b.sp.id, generation)
}

// Turn makes a generation the current one, together with a fresh epoch key: one small transaction seals the head of the
// root container under the two. When the generation is another one, every key page is then rewritten under a fresh key
// as well, so that the old ones do not open what is added; records are not touched, and requests
// go on meanwhile. Retire ends the keys from before.
//
// With the generation that is current already, it finishes a turn that was interrupted, or else turns the epoch alone,
// and ends the one before. src opens what has a customer's slot; nil will do when nothing has. The space must be open.
// It can be repeated after any error.
func (b *Bundle) Turn(ctx context.Context, generation uint32, src keysource.Source) error {
	sp := b.sp
	sp.turning.Lock()
	defer sp.turning.Unlock()
	if err := b.turnUnlessTurning(ctx, generation, src); err != nil {
		return fmt.Errorf("turn the keys of space %s: %w", sp.id, err)
	}
	// A large space takes minutes. Erasures go on meanwhile, and so do notes: a refusal of a key is one.
	doc, err := b.read(ctx)
	if err != nil || !doc.Turning {
		return err
	}
	if err := sp.rewritePages(ctx); err != nil {
		return fmt.Errorf("rewrite the key pages of space %s: %w", sp.id, err)
	}
	defer sp.keyed()()
	return sp.store.bundles.Turned(ctx, sp.id)
}

// turnUnlessTurning begins a turn to a generation, unless one has begun.
func (b *Bundle) turnUnlessTurning(ctx context.Context, generation uint32, src keysource.Source) error {
	sp := b.sp
	sp.keying.Lock()
	defer sp.keying.Unlock()
	doc, err := b.read(ctx)
	if err != nil || generation == doc.Current.Generation && doc.Turning {
		return err
	}
	_, err = sp.turn(ctx, generation, src)
	return err
}

// Retire ends every key but the current ones: their slots leave the bundle and their epoch keys are destroyed, so that
// copies from before open no more, wherever they are. It refuses while a turn is not finished. It can be repeated after
// any error. src is not needed any more.
func (b *Bundle) Retire(ctx context.Context, src keysource.Source) error {
	defer b.sp.keyed()()
	if err := b.sp.store.bundles.Retire(ctx, b.sp.id); err != nil {
		return fmt.Errorf("retire the keys of space %s: %w", b.sp.id, err)
	}
	return nil
}

// Bundle returns the key verbs of a space.
func (s *Store) Bundle(id SpaceID) *Bundle { return &Bundle{s.Space(id)} }
