package sealed

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/visage-face/visage/internal/arena"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keystore"
	"github.com/visage-face/visage/sealed/internal/rowkey"
)

// bundleDoc is a space's keys, wrapped, with what wrapped them, and where the space stands. It is sealed under the
// instance root.
type bundleDoc struct {
	Sequence    uint64          `cbor:"1,keyasint"` // grows with every change; compare-and-set goes by it
	Fence       uint64          `cbor:"2,keyasint"` // grows with every lock that has to outlive the process
	State       string          `cbor:"3,keyasint"` // stateActive or stateDropped
	Current     format.Pair     `cbor:"4,keyasint"` // what the head of the root container is sealed under
	Generations []generationDoc `cbor:"5,keyasint"`
	Epochs      []epochDoc      `cbor:"6,keyasint"` // in the order they were made
	Note        []byte          `cbor:"7,keyasint"` // of whoever drives changes of keys; see Bundle.SetNote
	// the space is to be put in order before anybody uses it; see reconcile
	Restored bool `cbor:"8,keyasint"`
	Turning  bool `cbor:"9,keyasint"` // a turn to another generation has begun, and pages are still to be rewritten
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
	Role      string `cbor:"2,keyasint"`
	URI       string `cbor:"3,keyasint"`
	Version   string `cbor:"4,keyasint"`
	Algorithm string `cbor:"5,keyasint"`
	Wrapped   []byte `cbor:"6,keyasint"`
	Probe     []byte `cbor:"7,keyasint"` // random bytes, wrapped like the data key
	ProbeSum  []byte `cbor:"8,keyasint"` // what they must be
}

type epochDoc struct {
	Number     uint32 `cbor:"1,keyasint"`
	Commitment []byte `cbor:"2,keyasint"`
}

const (
	stateActive  = "active"
	stateDropped = "dropped" // its keys are gone; its rows are going, and this document goes last

	roleService      = "service"
	roleCustomer     = "customer"
	algorithmService = "A256GCM"
)

func (d generationDoc) slot(sd slotDoc) format.Slot {
	return format.Slot{Number: sd.Number, Role: sd.Role, Generation: d.Number, URI: sd.URI, Version: sd.Version,
		Algorithm: sd.Algorithm, Commitment: d.Commitment}
}

// Create makes a space under the service-managed slot: its first data key, sealed under the instance root, its first
// epoch key, in the key store, and its root container. Refusing errors: ErrExists, *FullError.
func (s *Store) Create(ctx context.Context, id SpaceID) error {
	if !id.Valid() {
		return fmt.Errorf("create space %s: not an id a space can have", id)
	}
	s.using.RLock()
	defer s.using.RUnlock()
	s.lifecycle.Lock()
	defer s.lifecycle.Unlock()
	space := format.ID(id)
	if id != Operator {
		if err := s.volumes.MayCreate(); err != nil {
			return fmt.Errorf("create space %s: %w", id, err)
		}
	}
	if err := s.vacant(ctx, id); err != nil {
		return err
	}
	keys, err := arena.New(3 * format.KeySize) // data key, epoch key, blinding key
	if err != nil {
		return err
	}
	defer keys.Free()
	rand.Read(keys.Bytes()) // never fails: the runtime ends the process instead
	data, epoch, blind := keys.Bytes()[:32], keys.Bytes()[32:64], keys.Bytes()[64:]

	// An earlier attempt that a crash cut off may have left epoch keys behind. Nothing was ever sealed under them,
	// since there is no bundle.
	if err := s.epochs.Destroy(space); err != nil {
		return err
	}
	if err := s.epochs.Put(space, 1, format.SealEpoch(s.root.Bytes(), data, s.instance, space, 1, epoch)); err != nil {
		return fmt.Errorf("keep the epoch key: %w", err)
	}
	generation := generationDoc{Number: 1, Commitment: format.DataKeyCommitment(data, space, 1)}
	slot := slotDoc{Number: 1, Role: roleService, Algorithm: algorithmService}
	slot.Wrapped = format.SealInner(s.root.Bytes(), s.instance, space, generation.slot(slot), data)
	generation.Slots = []slotDoc{slot}
	doc := bundleDoc{
		Sequence: 1, State: stateActive, Current: format.Pair{Generation: 1, Epoch: 1},
		Generations: []generationDoc{generation},
		Epochs:      []epochDoc{{Number: 1, Commitment: format.EpochKeyCommitment(epoch, space, 1)}},
	}
	raw, err := cbor.Marshal(doc)
	if err != nil {
		return err
	}
	page := format.NewPage(0, format.ID{}, format.MaxID)
	defer page.Wipe()
	page.Version = 1
	page.Append(format.ID{}, format.Secret{Key: blind, Version: 1})
	head := &format.Head{Pair: doc.Current, Sequence: 1, Height: 1, Root: freshSecret(1)}
	defer clear(head.Root.Key)
	rootKey, hedge := format.RootKey(data, epoch), format.HedgeKey(data, space)
	defer clear(rootKey)
	defer clear(hedge)
	at := format.Place{Instance: s.instance, Space: space, Container: rowkey.Root}
	err = s.updateIn(ctx, space, func(w engine.Writer) error {
		if _, ok, err := w.Get(rowkey.OfSpace(space, rowkey.Bundle)); ok || err != nil {
			return errors.Join(err, ErrExists)
		}
		if err := w.Put(rowkey.Of(space, rowkey.Page, rowkey.Root, page.Upper),
			format.SealPage(at, head.Root.Key, hedge, page)); err != nil {
			return err
		}
		if err := w.Put(rowkey.Of(space, rowkey.Head, rowkey.Root, format.ID{}),
			format.SealHead(at, rootKey, hedge, head)); err != nil {
			return err
		}
		return w.Put(rowkey.OfSpace(space, rowkey.Bundle), format.SealBundle(s.root.Bytes(), s.instance, space, raw))
	})
	if err != nil {
		return fmt.Errorf("create space %s: %w", id, err)
	}
	s.report(Event{Kind: SpaceCreated, Space: id})
	return nil
}

// vacant makes sure that nothing of a space is there: neither the space, nor what is left of one of its name. lifecycle
// is held.
func (s *Store) vacant(ctx context.Context, id SpaceID) error {
	switch doc, err := s.readBundle(ctx, id); {
	case err == nil && doc.State != stateDropped:
		return ErrExists
	case err == nil:
		return s.removeDropped(ctx, format.ID(id))
	case !errors.Is(err, ErrNoSpace):
		return err
	}
	return s.engine.View(ctx, func(r engine.Reader) error {
		for _, err := range r.Scan(id[:], rowkey.After(id[:])) {
			if err == nil {
				err = s.report.Corrupt(&CorruptError{Space: id, What: "bundle", Err: errNoBundle})
			}
			return err
		}
		return nil
	})
}

var errNoBundle = errors.New("there are rows of the space and no bundle: restore the data directory from a backup")

// readBundle reads a space's bundle, that of a dropped one too. Errors: ErrNoSpace, *CorruptError.
func (s *Store) readBundle(ctx context.Context, id SpaceID) (doc bundleDoc, err error) {
	var row []byte
	err = s.engine.View(ctx, func(r engine.Reader) error {
		var ok bool
		if row, ok, err = r.Get(rowkey.OfSpace(format.ID(id), rowkey.Bundle)); err == nil && !ok {
			return ErrNoSpace
		}
		return err
	})
	if err != nil {
		return bundleDoc{}, err
	}
	return s.decodeBundle(id, row)
}

func (s *Store) decodeBundle(id SpaceID, row []byte) (doc bundleDoc, err error) {
	raw, err := format.OpenBundle(s.root.Bytes(), s.instance, format.ID(id), row)
	if err != nil {
		return bundleDoc{}, s.report.Corrupt(&CorruptError{Space: id, What: "bundle", Err: err})
	}
	if err := format.Strict.Unmarshal(raw, &doc); err != nil {
		return bundleDoc{},
			s.report.Corrupt(&CorruptError{Space: id, What: "bundle",
				Err: fmt.Errorf("%w: %v", format.ErrMalformed, err)})
	}
	return doc, nil
}

// Bundle is a space's keys: who may open it, and whether it is open.
type Bundle struct{ sp *Space }

// Load opens the space with the key that src unwraps; nil means the service-managed slot, which needs no source. A
// locked space opens again, with a new lease. Spaces that are not locked open by themselves on first use when they have
// a service-managed slot. Errors: ErrNoSpace, *CorruptError, what src says.
func (b *Bundle) Load(ctx context.Context, src keysource.Source) error { return b.sp.load(ctx, src) }

// Lock closes the space: from now on View and Update answer ErrLocked with cause, transactions under way fail at their
// commit, and the lease has ended. Lock waits, for a bounded time, until those still inside have left, and the keys are
// wiped when the last one has. It holds until Load, in this process.
func (b *Bundle) Lock(cause error) { b.LockNow(cause); b.Drain() }

// LockNow is Lock without the waiting, which is Drain's.
func (b *Bundle) LockNow(cause error) { b.sp.lock(cause) }

// Drain waits, for a bounded time, until those who were inside a locked space have left.
func (b *Bundle) Drain() { b.sp.drain() }

// Renew lets the lease run until the given time; the zero time means without end, which is how a space opens. A lease
// that has run out answers ErrGrace until it is renewed; keys stay loaded.
func (b *Bundle) Renew(until time.Time) { b.sp.renew(until) }

// openKeys reads a space's bundle and makes its keyring.
func (s *Store) openKeys(ctx context.Context, id SpaceID, src keysource.Source) (*keyring, error) {
	s.using.RLock()
	defer s.using.RUnlock()
	doc, err := s.readBundle(ctx, id)
	if err != nil {
		return nil, err
	}
	if doc.State == stateDropped {
		return nil, ErrNoSpace
	}
	if doc.State != stateActive {
		return nil,
			s.report.Corrupt(&CorruptError{Space: id, What: "bundle",
				Err: fmt.Errorf("%w: state %q is not known", format.ErrMalformed, doc.State)})
	}
	g, e := doc.current()
	if g == nil || e == nil {
		return nil,
			s.report.Corrupt(&CorruptError{Space: id, What: "bundle",
				Err: fmt.Errorf("%w: the current keys are not among its keys", format.ErrMalformed)})
	}
	ring, err := newKeyring(&s.rings)
	if err != nil {
		return nil, err
	}
	err = s.openRing(ctx, id, ring, doc, *g, *e, src)
	if err == nil && doc.Restored {
		err = s.reconcile(ctx, id, ring)
	}
	if err != nil {
		ring.free()
		return nil, err
	}
	return ring, nil
}

// current returns the generation and epoch that the root container is sealed under; nil where the bundle has none.
func (d *bundleDoc) current() (g *generationDoc, e *epochDoc) {
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

// openRing fills a keyring.
func (s *Store) openRing(
	ctx context.Context, id SpaceID, ring *keyring, doc bundleDoc, g generationDoc, e epochDoc, src keysource.Source,
) error {
	if err := s.unwrapDataKey(ctx, ring.data(), id, g, src); err != nil {
		return fmt.Errorf("unwrap data key of generation %d: %w", g.Number, err)
	}
	ring.generation = g.Number
	ring.take(slotHedge, format.HedgeKey(ring.data(), format.ID(id)))
	scratch, err := arena.New(format.KeySize)
	if err != nil {
		return err
	}
	defer scratch.Free()
	// A space under two keys, while one takes over from the other, needs both to open, as whoever refuses one of them
	// expects.
	for _, other := range doc.Generations {
		if other.Number == g.Number {
			continue
		}
		if err := s.unwrapDataKey(ctx, scratch.Bytes(), id, other, src); err != nil {
			return fmt.Errorf("unwrap data key of generation %d: %w", other.Number, err)
		}
	}
	if err := s.openEpochKey(scratch.Bytes(), ring.data(), id, e); err != nil {
		return err
	}
	ring.addRoot(format.Pair{Generation: g.Number, Epoch: e.Number}, format.RootKey(ring.data(), scratch.Bytes()))
	return s.openBlind(ctx, id, ring, doc.Sequence)
}

func (s *Store) unwrapDataKey(
	ctx context.Context, dst []byte, id SpaceID, g generationDoc, src keysource.Source,
) error {
	for _, slot := range g.Slots {
		inner := slot.Wrapped
		if slot.Role != roleService {
			if src == nil {
				continue
			}
			var err error
			if inner, err = src.Unwrap(ctx, keysource.Ref{URI: slot.URI, Version: slot.Version},
				slot.Wrapped); err != nil {
				return err
			}
		}
		if err := format.OpenInner(dst, s.root.Bytes(), s.instance, format.ID(id), g.slot(slot), inner); err != nil {
			return s.report.Corrupt(&CorruptError{Space: id, What: "bundle", Err: err})
		}
		return nil
	}
	return fmt.Errorf("%w: no slot of the space can be opened without its key source", ErrLocked)
}

func (s *Store) openEpochKey(dst, data []byte, id SpaceID, e epochDoc) error {
	value, err := s.epochs.Get(format.ID(id), e.Number)
	if errors.Is(err, keystore.ErrNotFound) {
		return s.report.Corrupt(&CorruptError{Space: id, What: "epoch key",
			Err: fmt.Errorf("%w; restore the key directory from its newest copy", err)})
	}
	if err != nil {
		return fmt.Errorf("read epoch key %d: %w", e.Number, err)
	}
	err = format.OpenEpoch(dst, s.root.Bytes(), data, s.instance, format.ID(id), e.Number, value)
	if err == nil && !hmac.Equal(format.EpochKeyCommitment(dst, format.ID(id), e.Number), e.Commitment) {
		err = fmt.Errorf("%w: the epoch key does not match its commitment", format.ErrNotAuthentic)
	}
	if err != nil {
		return s.report.Corrupt(&CorruptError{Space: id, What: "epoch key", Err: err})
	}
	return nil
}

// openBlind reads the blinding key, an entry of the root container.
func (s *Store) openBlind(ctx context.Context, id SpaceID, ring *keyring, bundle uint64) error {
	return s.engine.View(ctx, func(r engine.Reader) error {
		t := &txn{sp: &Space{store: s, id: id}, ring: ring, r: r}
		defer t.finish()
		err := t.openRoot()
		if errors.Is(err, errStale) {
			err = s.report.Corrupt(&CorruptError{Space: id, Container: rowkey.Root.String(), What: "head",
				Err: fmt.Errorf("%w: it is sealed under other keys than the bundle says", format.ErrNotAuthentic)})
		}
		if err != nil {
			return err
		}
		if err := s.checkAnchor(id, bundle, t.root.head, t.root.row); err != nil {
			return err
		}
		if t.root.head.Erased > 0 {
			ring.erased = t.root.head.Sequence
		}
		secret, ok, err := t.root.entry(format.ID{})
		if err != nil {
			return err
		}
		if !ok {
			return t.corrupt("key page", rowkey.Root, format.ID{}, errors.New("the blinding key is missing"))
		}
		ring.take(slotBlind, secret.Key)
		ring.take(slotSet, format.SetKey(ring.blind()))
		return nil
	})
}
