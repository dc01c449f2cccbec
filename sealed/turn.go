package sealed

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"github.com/visage-face/visage/internal/arena"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed/internal/format"
)

// turnPages is how many key pages one transaction of a turn rewrites: about a megabyte.
const turnPages = 64

// Turn makes a generation the current one, together with a fresh epoch key, and rewrites every key page of the space under the two; records are
// not touched, and requests go on meanwhile. Afterwards the keys from before still open old copies; Retire ends that.
//
// With the generation that is current already, it finishes a turn that was interrupted, or else turns the epoch alone. src opens what has a
// customer's slot; nil will do when nothing has. The space must be open. It can be repeated after any error.
func (b *Bundle) Turn(ctx context.Context, generation uint32, src keysource.Source) error {
	sp := b.sp
	sp.keying.Lock()
	defer sp.keying.Unlock()
	if err := b.beginTurn(ctx, generation, src); err != nil {
		return fmt.Errorf("begin to turn the keys of space %s: %w", sp.id, err)
	}
	if err := sp.rewritePages(ctx); err != nil {
		return fmt.Errorf("rewrite the key pages of space %s: %w", sp.id, err)
	}
	return nil
}

// beginTurn makes the new pair known to every transaction before the first row is sealed under it, and waits until the last writer under the old pair
// has left: from then on no row of the old pair can appear. keying is held.
func (b *Bundle) beginTurn(ctx context.Context, generation uint32, src keysource.Source) error {
	s := b.sp.store
	s.using.RLock()
	doc, err := s.readBundle(ctx, b.sp.id)
	if err == nil && !slices.ContainsFunc(doc.Generations, func(g generationDoc) bool { return g.Number == generation }) {
		err = fmt.Errorf("there is no generation %d", generation)
	}
	// A turn that was cut off before it made its epoch current has turned nothing yet: it is begun again, with the epoch it made.
	unfinished := err == nil && doc.Current.Generation == generation && len(doc.Epochs) > 1 && doc.Epochs[len(doc.Epochs)-1].Number == doc.Current.Epoch
	if err == nil && !unfinished {
		err = b.addEpoch(ctx, &doc)
	}
	s.using.RUnlock()
	if err != nil {
		return err
	}
	if err := b.publish(ctx, src); err != nil || unfinished {
		return err
	}
	pair := format.Pair{Generation: generation, Epoch: doc.Epochs[len(doc.Epochs)-1].Number}
	s.using.RLock()
	err = b.changeLocked(ctx, func(now *bundleDoc) error {
		now.Current = pair
		return nil
	})
	s.using.RUnlock()
	if err != nil {
		return err
	}
	return b.publish(ctx, src)
}

// addEpoch makes the next epoch, unless an interrupted turn has already.
func (b *Bundle) addEpoch(ctx context.Context, doc *bundleDoc) error {
	s, space := b.sp.store, format.ID(b.sp.id)
	newest := doc.Epochs[len(doc.Epochs)-1].Number
	if newest > doc.Current.Epoch {
		return nil
	}
	key, err := arena.New(format.KeySize)
	if err != nil {
		return err
	}
	defer key.Free()
	rand.Read(key.Bytes()) // never fails: the runtime ends the process instead
	epoch := epochDoc{Number: newest + 1, Commitment: format.EpochKeyCommitment(key.Bytes(), space, newest+1)}
	// The bundle does not know this epoch, so a key of it was left by a crash, and nothing was ever sealed under it.
	if err := s.epochs.DestroyEpoch(space, epoch.Number); err != nil {
		return err
	}
	if err := s.epochs.Put(space, epoch.Number, format.SealEpoch(s.root.Bytes(), s.instance, space, epoch.Number, key.Bytes())); err != nil {
		return fmt.Errorf("keep the epoch key: %w", err)
	}
	doc.Epochs = append(doc.Epochs, epoch)
	return b.changeLocked(ctx, func(now *bundleDoc) error {
		now.Epochs = append(now.Epochs, epoch)
		return nil
	})
}

// publish opens the keys as the bundle now has them, and waits until nobody uses the ones before.
func (b *Bundle) publish(ctx context.Context, src keysource.Source) error {
	b.sp.mu.Lock()
	fence := b.sp.fence
	b.sp.mu.Unlock()
	ring, err := b.sp.store.openKeys(ctx, b.sp.id, src)
	if err != nil {
		return err
	}
	return b.sp.swap(ctx, ring, fence)
}

// rewritePages brings every page under the current pair, folding the nursery rows on the way.
func (sp *Space) rewritePages(ctx context.Context) error {
	var containers []format.ID
	err := sp.View(ctx, func(r Reader) error {
		seen := map[format.ID]bool{}
		collect := func(id format.ID) error {
			if !seen[id] {
				containers = append(containers, id)
			}
			seen[id] = true
			return nil
		}
		return errors.Join(r.txn().eachContainer(rowPage, collect), r.txn().eachContainer(rowNursery, collect))
	})
	for _, c := range containers {
		if err == nil && c != rootContainer {
			err = sp.foldContainer(ctx, c)
		}
		position := format.ID{}
		for more := true; more && err == nil; {
			var goOn format.ID
			err = sp.Update(ctx, func(tx Tx) (err error) {
				goOn, more, err = tx.writable().turnStep(c, position)
				return err
			})
			position = goOn
		}
	}
	return err
}

// turnStep rewrites up to turnPages pages at or after position that are not under the current pair, and returns where to go on.
func (t *txn) turnStep(container, position format.ID) (goOn format.ID, more bool, err error) {
	lower, upper := containerRange(format.ID(t.sp.id), rowPage, container, position)
	var pages []*format.Page
	defer func() {
		for _, p := range pages {
			p.Wipe()
		}
	}()
	for row, err := range scanRows(t.r, lower, upper) {
		if err != nil {
			return position, false, err
		}
		pair, err := format.PeekPair(row.Value)
		if err == nil && pair == t.ring.current {
			continue
		}
		page, err := t.openPage(row)
		if err != nil {
			return position, false, err
		}
		if pages = append(pages, page); len(pages) == turnPages {
			break
		}
	}
	for _, p := range pages {
		p.Version++
		if err := t.putPage(container, p); err != nil {
			return position, false, err
		}
		position = p.Upper
	}
	if len(pages) < turnPages {
		return position, false, nil
	}
	goOn, more = next(position)
	return goOn, more, nil
}

// Retire ends every key but the current ones: their slots leave the bundle and their epoch keys are destroyed, so that copies of old pages,
// wherever they are, open no more. It refuses while a row is sealed under one of them. It can be repeated after any error.
func (b *Bundle) Retire(ctx context.Context, src keysource.Source) error {
	sp := b.sp
	sp.keying.Lock()
	defer sp.keying.Unlock()
	if err := sp.left(ctx); err != nil { // a writer from before the turn may still seal under the old keys
		return fmt.Errorf("retire the keys of space %s: %w", sp.id, err)
	}
	var current format.Pair
	err := sp.View(ctx, func(r Reader) error {
		current = r.txn().ring.current
		return r.txn().onlyCurrent()
	})
	if err != nil {
		return fmt.Errorf("retire the keys of space %s: %w", sp.id, err)
	}
	s := sp.store
	s.using.RLock()
	err = b.changeLocked(ctx, func(doc *bundleDoc) error {
		if current != doc.Current { // a turn was cut off before its keys were published: what is open here still writes under the old ones
			return errors.New("the keys that are open are not the current ones: finish the turn first")
		}
		doc.Generations = slices.DeleteFunc(doc.Generations, func(g generationDoc) bool { return g.Number != current.Generation })
		doc.Epochs = slices.DeleteFunc(doc.Epochs, func(e epochDoc) bool { return e.Number != current.Epoch })
		return nil
	})
	s.using.RUnlock()
	if err != nil {
		return fmt.Errorf("retire the keys of space %s: %w", sp.id, err)
	}
	// The bundle no longer speaks of them; begun is begun.
	ctx = context.WithoutCancel(ctx)
	epochs, err := s.epochs.List(format.ID(sp.id))
	for _, e := range epochs {
		if e != current.Epoch {
			err = errors.Join(err, s.epochs.DestroyEpoch(format.ID(sp.id), e))
		}
	}
	if err != nil {
		return fmt.Errorf("destroy old epoch keys of space %s: %w", sp.id, err)
	}
	return b.publish(ctx, src)
}

// onlyCurrent refuses when a page or nursery row is not under the current pair.
func (t *txn) onlyCurrent() error {
	space := format.ID(t.sp.id)
	for _, kind := range []byte{rowPage, rowNursery} {
		for row, err := range scanRows(t.r, spaceKey(space, kind), after(spaceKey(space, kind))) {
			if err != nil {
				return err
			}
			if pair, err := format.PeekPair(row.Value); err != nil || pair != t.ring.current {
				return errors.Join(err, errors.New("rows are still sealed under older keys: finish the turn first"))
			}
		}
	}
	return nil
}
