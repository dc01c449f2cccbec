package sealed

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/event"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keys"
	"github.com/visage-face/visage/sealed/internal/keystore"
	"github.com/visage-face/visage/sealed/internal/place"
)

// KeysMoved is what a MoveEpochKeys has done.
type KeysMoved struct {
	From, To string // the places, for people
	Spaces   int
	Epochs   int // keys that the target has now
	Found    int // of these, those that an earlier attempt had put there
	Anchors  int
	// Abandoned is a third place that an attempt before was to move the keys to, and that may have some of them, which
	// no erasure reaches; empty: there is none.
	Abandoned string
}

// MoveEpochKeys moves the epoch keys and anchors of a store to another place. from and to differ in that alone. No
// other process may have the store open. Every key that a bundle names, and every key of a space without a bundle, is
// put into the target, read back from it and compared before anything in the source is destroyed; an attempt that was
// interrupted goes on when it is repeated. Keys of dropped spaces, and those of epochs before the first that a bundle
// names, are not moved: they are what erasures and crashes have left. At the end the source has no keys of this store
// any more, or an erasure would not reach them.
//
// Errors: ErrInUse, ErrNotMovable when the target has other keys of this store.
func MoveEpochKeys(ctx context.Context, from, to Config) (moved KeysMoved, err error) {
	if scheme, dir, _ := strings.Cut(to.Engine, ":"); scheme == onDisk && !to.keysElsewhere() {
		if err := keysApart(dir, to.KeyDir); err != nil {
			return moved, fmt.Errorf("move the epoch keys: %w", err)
		}
	}
	from.Shared, from.moving = false, true
	s, err := Open(ctx, from)
	if err != nil {
		return moved, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	var data engine.Engine
	if s.database != nil {
		data = s.database
	}
	target, err := openEpochs(ctx, to, data, s.root.Instance)
	if err != nil {
		return moved, fmt.Errorf("move the epoch keys: %w", err)
	}
	defer target.Close()
	m := &keysMove{s: s, source: s.epochs, target: target, settling: cmp.Or(from.settling, defaultSettling),
		copied: map[format.ID]bool{}, done: KeysMoved{From: s.epochs.Name(), To: target.Name()}}
	if err := m.run(ctx, to); err != nil {
		return m.done, fmt.Errorf("move the epoch keys: %w", err)
	}
	return m.done, nil
}

// keysMove is a MoveEpochKeys under way.
type keysMove struct {
	s      *Store
	source *place.Place
	target keystore.Place
	// settling is how long places are asked again whether they are one: a node that follows another one may answer from
	// before the newest write.
	settling time.Duration
	copied   map[format.ID]bool // the spaces whose keys the target has
	dropped  []format.ID        // those whose keys nobody needs
	done     KeysMoved
}

const (
	defaultSettling = 5 * time.Second
	settlingStep    = 500 * time.Millisecond
)

func (m *keysMove) run(ctx context.Context, to Config) error {
	defer m.s.root.Hold()()
	if err := m.apart(ctx); err != nil {
		return err
	}
	marks, err := m.source.Target(ctx, m.target)
	if errors.Is(err, place.ErrTaken) {
		err = fmt.Errorf("%w: %w", ErrNotMovable, err)
	}
	if err != nil {
		return err
	}
	m.done.Abandoned = marks.Abandoned
	exist, dropped, err := m.s.listSpaces(ctx)
	if err != nil {
		return err
	}
	for _, id := range dropped {
		m.dropped = append(m.dropped, format.ID(id))
	}
	// A space with keys and without a bundle is what a damaged or older copy of the data looks like.
	keyed, err := m.source.Spaces(ctx)
	if err != nil {
		return err
	}
	for _, space := range keyed {
		if !slices.Contains(m.dropped, space) {
			exist = append(exist, SpaceID(space))
		}
	}
	rows := map[SpaceID][]byte{}
	for _, id := range append(exist, Operator) {
		if m.copied[format.ID(id)] {
			continue
		}
		if rows[id], err = m.copySpace(ctx, id); err != nil {
			return fmt.Errorf("space %s: %w", id, err)
		}
		m.copied[format.ID(id)] = true
		m.done.Spaces++
	}
	if err := m.copyAnchors(ctx, to); err != nil {
		return err
	}
	for id, row := range rows { // nobody has turned meanwhile
		now, err := m.s.bundles.Row(ctx, id)
		if row == nil && errors.Is(err, ErrNoSpace) {
			continue
		}
		if err != nil || !bytes.Equal(now, row) {
			return errors.Join(err, ErrChanged)
		}
	}
	if err := m.clear(ctx); err != nil {
		return err
	}
	if err := marks.Finish(ctx); err != nil {
		return err
	}
	return m.clearAnchors(ctx)
}

// clearAnchors removes the anchors that lay with the keys. They hold no secret, and nobody reads them any more.
func (m *keysMove) clearAnchors(ctx context.Context) error {
	in, ok := m.source.Place.(keystore.Anchors)
	if !ok {
		return nil
	}
	spaces, err := in.Anchored(ctx)
	for _, space := range spaces {
		var value []byte
		if value, err = in.Anchor(ctx, space); err == nil {
			err = in.SetAnchor(ctx, space, value, nil)
		}
		if err != nil && !errors.Is(err, keystore.ErrNotFound) {
			return fmt.Errorf("remove the anchors from %s: %w", m.done.From, err)
		}
		err = nil
	}
	return err
}

// apart makes sure that the two places are not one under two names: what is destroyed in the source would be the only
// copy. Each gets a value that the other one must not have.
func (m *keysMove) apart(ctx context.Context) (err error) {
	places := []keystore.Place{m.source, m.target}
	probes := make([]format.ID, len(places))
	for i, place := range places {
		value := make([]byte, 32)
		rand.Read(value) // never fails: the runtime ends the process instead
		probes[i] = format.RandomID()
		defer func() { err = errors.Join(err, place.Destroy(context.WithoutCancel(ctx), probes[i])) }()
		if err := place.Put(ctx, probes[i], 1, value); err != nil {
			return err
		}
	}
	return m.settle(ctx, func() error {
		for i, place := range places {
			switch _, err := place.Get(ctx, probes[len(places)-1-i], 1); {
			case err == nil:
				return m.errSamePlace()
			case !errors.Is(err, keystore.ErrNotFound):
				return err
			}
		}
		return nil
	})
}

func (m *keysMove) errSamePlace() error {
	return fmt.Errorf("%s and %s are the same place", m.done.From, m.done.To)
}

// settle calls look again and again until it fails, and gives up when the places have settled.
func (m *keysMove) settle(ctx context.Context, look func() error) error {
	for until := time.Now().Add(m.settling); ; {
		if err := look(); err != nil || !time.Now().Before(until) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(min(settlingStep, m.settling)):
		}
	}
}

// copySpace copies the keys of a space that its bundle names, and returns the bundle's row; nil: it has none. Keys of
// later epochs are copied as well: the data may be an older copy. Of a damaged or missing bundle nobody knows which it
// named, so all are copied.
func (m *keysMove) copySpace(ctx context.Context, id SpaceID) (row []byte, err error) {
	var doc keys.Doc
	row, err = m.s.bundles.Row(ctx, id)
	if err == nil {
		doc, err = m.s.bundles.Decode(id, row)
	}
	if err != nil && !event.IsCorrupt(err) && !errors.Is(err, ErrNoSpace) {
		return nil, err
	}
	first, named := uint32(0), map[uint32]bool{}
	for i, e := range doc.Epochs {
		if named[e.Number] = true; i == 0 {
			first = e.Number
		}
		if err := m.copyKey(ctx, id, e.Number); err != nil {
			return nil, fmt.Errorf("epoch key %d: %w", e.Number, err)
		}
	}
	numbers, err := m.source.List(ctx, format.ID(id))
	if err != nil {
		return nil, err
	}
	for _, n := range numbers {
		if n < first || named[n] {
			continue
		}
		// One that is listed and not there has been destroyed, and a crash came before its name went.
		if err := m.copyKey(ctx, id, n); err != nil && !errors.Is(err, keystore.ErrNotFound) {
			return nil, fmt.Errorf("epoch key %d: %w", n, err)
		}
	}
	return row, nil
}

func (m *keysMove) copyKey(ctx context.Context, id SpaceID, epoch uint32) error {
	value, err := m.source.Get(ctx, format.ID(id), epoch)
	if errors.Is(err, keystore.ErrNotFound) { // an earlier attempt has destroyed it, after it was copied
		if _, err = m.target.Get(ctx, format.ID(id), epoch); err == nil {
			m.done.Epochs++
			m.done.Found++
		}
		return err
	}
	if err != nil {
		return err
	}
	err = m.target.Put(ctx, format.ID(id), epoch, value)
	found := errors.Is(err, keystore.ErrExists)
	if err != nil && !found {
		return err
	}
	there, err := m.target.Get(ctx, format.ID(id), epoch)
	if err != nil {
		return err
	}
	if !bytes.Equal(there, value) {
		return fmt.Errorf("%w: %s has another key of this number", ErrNotMovable, m.done.To)
	}
	m.done.Epochs++
	if found {
		m.done.Found++
	}
	return nil
}

func (m *keysMove) copyAnchors(ctx context.Context, to Config) error {
	all, err := m.s.anchors.All(ctx)
	if err != nil {
		return err
	}
	next := keys.NewAnchors(m.s.root, false, func(Event) {})
	if in, ok := m.target.(keystore.Anchors); ok && to.AnchorDir == "" {
		err = next.OpenIn(ctx, in, m.done.To)
	} else {
		err = next.Open(to.AnchorDir, m.s.sharedEngine())
	}
	if err != nil {
		return err
	}
	for _, anchor := range all {
		next.Set(anchor)
		m.done.Anchors++
	}
	return next.Write(ctx)
}

// clear destroys the keys of this store in the source: those that the target has, and those of dropped spaces. After
// the first space it looks whether the target still has the keys.
func (m *keysMove) clear(ctx context.Context) error {
	spaces, err := m.source.Spaces(ctx)
	tried := false
	for _, space := range spaces {
		switch {
		case slices.Contains(m.dropped, space): // below
		case !m.copied[space]:
			err = errors.Join(err, fmt.Errorf("space %s got keys meanwhile", SpaceID(space)))
		case tried:
			err = errors.Join(err, m.source.Destroy(ctx, space))
		default:
			var failed error
			if tried, failed = m.tryClear(ctx, space); failed != nil {
				return failed
			}
		}
	}
	for _, space := range m.dropped {
		err = errors.Join(err, m.source.Destroy(ctx, space))
	}
	if err != nil {
		return fmt.Errorf("%s has all keys now, and %s still has some; repeat this before a server starts: %w",
			m.done.To, m.done.From, err)
	}
	return nil
}

// tryClear destroys the keys of a space in the source, and puts them back if the target then lacks them. It answers
// false if there was none to try it with.
func (m *keysMove) tryClear(ctx context.Context, space format.ID) (tried bool, err error) {
	numbers, err := m.source.List(ctx, space)
	if err != nil {
		return false, err
	}
	values := map[uint32][]byte{}
	for _, n := range numbers {
		value, err := m.target.Get(ctx, space, n)
		if errors.Is(err, keystore.ErrNotFound) {
			continue // it is of an earlier epoch, and was not copied
		}
		if err != nil {
			return false, err
		}
		values[n] = bytes.Clone(value)
	}
	err = m.source.Destroy(ctx, space)
	if err == nil && len(values) > 0 {
		err = m.settle(ctx, func() error {
			for n, value := range values {
				there, err := m.target.Get(ctx, space, n)
				if errors.Is(err, keystore.ErrNotFound) || err == nil && !bytes.Equal(there, value) {
					return m.errSamePlace()
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err == nil {
		return len(values) > 0, nil
	}
	for n, value := range values {
		back := m.source.Put(context.WithoutCancel(ctx), space, n, value)
		if back != nil && !errors.Is(back, keystore.ErrExists) {
			err = errors.Join(err, fmt.Errorf("put back epoch key %d of space %s, which \"visage keyring import\" can "+
				"bring back from the newest keyring: %w", n, SpaceID(space), back))
		}
	}
	return false, err
}
