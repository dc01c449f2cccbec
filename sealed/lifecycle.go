package sealed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/event"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keys"
	"github.com/visage-face/visage/sealed/internal/rowkey"
	"github.com/visage-face/visage/sealed/internal/tree"
)

// Spaces is the spaces of a store as they come and go.
type Spaces struct{ store *Store }

// Spaces returns the verbs for spaces that come and go.
func (s *Store) Spaces() *Spaces { return &Spaces{s} }

// Create makes a space under the service-managed slot: its first data key, sealed under the instance root, its first
// epoch key, in the key store, and its root container. Refusing errors: ErrExists, *FullError.
func (p *Spaces) Create(ctx context.Context, id SpaceID) error {
	s := p.store
	if !id.Valid() {
		return fmt.Errorf("create space %s: not an id a space can have", id)
	}
	defer s.root.Hold()()
	s.lifecycle.Lock()
	defer s.lifecycle.Unlock()
	if id != Operator {
		if err := s.volumes.MayCreate(); err != nil {
			return fmt.Errorf("create space %s: %w", id, err)
		}
	}
	if err := s.vacant(ctx, id); err != nil {
		return err
	}
	at := format.Place{Instance: s.root.Instance, Space: format.ID(id), Container: rowkey.Root}
	err := s.bundles.Create(ctx, id, func(w engine.Writer, keys keys.Seedling) error {
		return tree.CreateRoot(w, at, keys.Pair, keys.Root, keys.Hedge, keys.Blind)
	})
	if err != nil {
		return fmt.Errorf("create space %s: %w", id, err)
	}
	s.report(Event{Kind: event.SpaceCreated, Space: id})
	return nil
}

// vacant makes sure that nothing of a space is there: neither the space, nor what is left of one of its name. lifecycle
// is held.
func (s *Store) vacant(ctx context.Context, id SpaceID) error {
	switch doc, err := s.bundles.Read(ctx, id); {
	case err == nil && doc.State != keys.Dropped:
		return ErrExists
	case err == nil:
		return s.removeDropped(ctx, format.ID(id))
	case !errors.Is(err, ErrNoSpace):
		return err
	}
	return s.engine.View(ctx, func(r engine.Reader) error {
		// Another process may have made the space since.
		_, made, err := r.Get(rowkey.OfSpace(format.ID(id), rowkey.Bundle))
		if err == nil && made {
			err = ErrExists
		}
		if err != nil {
			return err
		}
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

// List lists the spaces that exist, the operator's own among them, and those whose bundle is damaged.
func (p *Spaces) List(ctx context.Context) ([]SpaceID, error) {
	ids, _, err := p.store.listSpaces(ctx)
	if err != nil {
		return nil, fmt.Errorf("list spaces: %w", err)
	}
	return ids, nil
}

// listSpaces returns the spaces that exist and those that were dropped and have rows left.
func (s *Store) listSpaces(ctx context.Context) (exist, dropped []SpaceID, err error) {
	defer s.root.Hold()()
	var ids []SpaceID
	err = s.engine.View(ctx, func(r engine.Reader) error {
		return rowkey.EachSpace(r, func(space format.ID) error {
			_, ok, err := r.Get(rowkey.OfSpace(space, rowkey.Bundle))
			if ok {
				ids = append(ids, SpaceID(space))
			}
			return err
		})
	})
	for _, id := range ids {
		if err != nil {
			break
		}
		doc, bundleErr := s.bundles.Read(ctx, id)
		_, damaged := errors.AsType[*CorruptError](bundleErr)
		switch {
		case bundleErr == nil && doc.State == keys.Dropped:
			dropped = append(dropped, id)
		case bundleErr == nil || damaged:
			exist = append(exist, id)
		case !errors.Is(bundleErr, ErrNoSpace): // gone meanwhile
			err = bundleErr
		}
	}
	return exist, dropped, err
}

// removeBatch is how many rows one transaction of a drop removes.
const removeBatch = 2_000

// Drop removes a space for good: its wrapped data key first, then its epoch keys, and from there on no row of it opens,
// in whatever copy. Its rows follow in transactions of bounded size; what a crash or an outage interrupts, Run
// finishes, or another Drop: one that returns nil has destroyed the epoch keys. A space whose bundle is damaged can be
// dropped too. Errors: ErrNoSpace.
func (p *Spaces) Drop(ctx context.Context, id SpaceID) error {
	s := p.store
	if id == Operator {
		return errors.New("drop space: the operator's own space cannot be dropped")
	}
	s.lifecycle.Lock()
	defer s.lifecycle.Unlock()
	err := func() error {
		defer s.root.Hold()()
		return s.bundles.Drop(ctx, id)
	}()
	if err != nil {
		return fmt.Errorf("drop space %s: %w", id, err)
	}
	sp := s.Space(id)
	sp.lock(ErrNoSpace)
	sp.drain()
	s.mu.Lock()
	delete(s.spaces, id)
	s.mu.Unlock()
	s.folds.forget(id)
	s.anchors.Forget(ctx, id)
	s.report(Event{Kind: SpaceDropped, Space: id})
	// Begun is begun: a caller who goes away must not leave the keys behind.
	return s.removeDropped(context.WithoutCancel(ctx), format.ID(id))
}

// sweepDroppedEvery is how long Run leaves between two looks for drops that were interrupted. The caller of a drop gets
// the error, and repeats it; this is for drops that nobody repeats.
const sweepDroppedEvery = time.Hour

// sweepDroppedForever finishes drops that an outage interrupted, here or in another process.
func (s *Store) sweepDroppedForever(ctx context.Context) {
	tick := time.NewTicker(sweepDroppedEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := s.sweepDropped(ctx); err != nil && ctx.Err() == nil {
			s.report(Event{Kind: EraseDelayed, Err: err})
		}
	}
}

// sweepDropped finishes drops that were interrupted.
func (s *Store) sweepDropped(ctx context.Context) error {
	_, dropped, err := s.listSpaces(ctx)
	for _, id := range dropped {
		err = errors.Join(err, s.sweep(ctx, id))
	}
	return err
}

func (s *Store) sweep(ctx context.Context, id SpaceID) error {
	s.lifecycle.Lock()
	defer s.lifecycle.Unlock()
	doc, err := func() (keys.Doc, error) {
		defer s.root.Hold()()
		return s.bundles.Read(ctx, id)
	}()
	if errors.Is(err, ErrNoSpace) || err == nil && doc.State != keys.Dropped {
		return nil // a Create was quicker, and did this first
	}
	if err != nil {
		return err
	}
	return s.removeDropped(ctx, format.ID(id))
}

// removeDropped removes what is left of a space that is marked as dropped; the mark goes last. lifecycle is held.
// Another process may do the same, and may have made a space of the same id since: each step looks at the mark.
func (s *Store) removeDropped(ctx context.Context, space format.ID) error {
	epochs, err := s.bundles.Epochs(ctx, SpaceID(space))
	if err != nil {
		return fmt.Errorf("list the epoch keys of space %s: %w", SpaceID(space), err)
	}
	mark := rowkey.OfSpace(space, rowkey.Bundle)
	marked, row, doc := false, []byte(nil), keys.Doc{}
	look := func(r engine.Reader) error {
		defer s.root.Hold()()
		now, ok, err := r.Get(mark)
		if err != nil || !ok {
			marked = false
			return err
		}
		if row != nil {
			marked = bytes.Equal(row, now)
			return nil
		}
		doc, err = s.bundles.Decode(SpaceID(space), now)
		marked, row = err == nil && doc.State == keys.Dropped, bytes.Clone(now)
		return err
	}
	if err := s.engine.View(ctx, look); err != nil || !marked {
		return err
	}
	if err := s.bundles.DropEpochs(ctx, SpaceID(space), doc, epochs); err != nil {
		return fmt.Errorf("destroy the epoch keys of space %s: %w", SpaceID(space), err)
	}
	for done := false; !done; {
		err := engine.CommitAndWait(ctx, s.engine, space, func(w engine.Writer) error {
			if err := look(w); err != nil || !marked {
				done = err == nil
				return err
			}
			keys, err := rowkey.Collect(w, space[:], rowkey.After(space[:]), removeBatch)
			if err != nil {
				return err
			}
			done = len(keys) < removeBatch
			for _, key := range keys {
				if bytes.Equal(key, mark) && !done {
					continue
				}
				if err := w.Delete(key); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("remove the rows of space %s: %w", SpaceID(space), err)
		}
	}
	return nil
}

// AcceptRollback lets a space open whose state is older than its anchor, as after a restore. The caller keeps a
// record of that.
func (p *Spaces) AcceptRollback(id SpaceID) { p.store.anchors.Forget(context.Background(), id) }
