package sealed

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"github.com/fxamacker/cbor/v2"

	"github.com/visage-face/visage/internal/arena"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/rowkey"
)

// turnPages is how many lowest key pages one transaction of a turn rewrites: about a megabyte.
const turnPages = 64

// Turn makes a generation the current one, together with a fresh epoch key: one small transaction seals the head of the
// root container under the two. When the generation is another one, every key page is then rewritten under a fresh key
// as well, so that whoever could open the old ones cannot follow what is added; records are not touched, and requests
// go on meanwhile. Retire ends the keys from before.
//
// With the generation that is current already, it finishes a turn that was interrupted, or else turns the epoch alone,
// and ends the one before. src opens what has a customer's slot; nil will do when nothing has. The space must be open.
// It can be repeated after any error.
func (b *Bundle) Turn(ctx context.Context, generation uint32, src keysource.Source) error {
	sp := b.sp
	sp.keying.Lock()
	defer sp.keying.Unlock()
	doc, err := b.read(ctx)
	if err != nil {
		return fmt.Errorf("turn the keys of space %s: %w", sp.id, err)
	}
	if generation != doc.Current.Generation || !doc.Turning {
		if err := b.turnRoot(ctx, generation, src); err != nil {
			return fmt.Errorf("turn the keys of space %s: %w", sp.id, err)
		}
	}
	if doc, err = b.read(ctx); err != nil || !doc.Turning {
		return err
	}
	if err := sp.rewritePages(ctx); err != nil {
		return fmt.Errorf("rewrite the key pages of space %s: %w", sp.id, err)
	}
	sp.store.using.RLock()
	defer sp.store.using.RUnlock()
	return b.changeLocked(ctx, func(now *bundleDoc) error {
		now.Turning = false
		return nil
	})
}

func (b *Bundle) read(ctx context.Context) (bundleDoc, error) {
	b.sp.store.using.RLock()
	defer b.sp.store.using.RUnlock()
	return b.sp.store.readBundle(ctx, b.sp.id)
}

// turnRoot turns the head of the root container to a generation that the bundle has, and a fresh epoch. keying is held.
func (b *Bundle) turnRoot(ctx context.Context, generation uint32, src keysource.Source) error {
	sp, s := b.sp, b.sp.store
	ring, fence, err := sp.enter(ctx)
	if err != nil {
		return err
	}
	defer sp.leave(ring)
	s.using.RLock()
	defer s.using.RUnlock()
	doc, err := s.readBundle(ctx, sp.id)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(doc.Generations, func(g generationDoc) bool { return g.Number == generation })
	if at < 0 {
		return fmt.Errorf("there is no generation %d", generation)
	}
	data, err := arena.New(format.KeySize)
	if err != nil {
		return err
	}
	defer data.Free()
	if ring.generation == generation {
		copy(data.Bytes(), ring.data())
	} else if err := s.unwrapDataKey(ctx, data.Bytes(), sp.id, doc.Generations[at], src); err != nil {
		return fmt.Errorf("unwrap data key of generation %d: %w", generation, err)
	}
	return b.sealRoot(ctx, ring, fence, doc, generation, data.Bytes(), func(now *bundleDoc, epoch epochDoc) {
		if ring.generation == generation {
			now.Epochs = []epochDoc{epoch}
		} else {
			now.Epochs, now.Turning = append(now.Epochs, epoch), true
		}
	})
}

// sealRoot seals the head of the root container under a data key and a fresh epoch key, and changes the bundle in the
// same transaction; change says which epochs it then has. The new epoch key is in the key store before the transaction
// that needs it, and those that the bundle no longer has leave it after: whatever is cut off in between, the bundle
// says which of them counts. keying is held, and the root is in use.
func (b *Bundle) sealRoot(
	ctx context.Context, ring *keyring, fence uint64, doc bundleDoc, generation uint32, data []byte,
	change func(*bundleDoc, epochDoc),
) error {
	sp, s := b.sp, b.sp.store
	key, err := arena.New(format.KeySize)
	if err != nil {
		return err
	}
	defer key.Free()
	rand.Read(key.Bytes()) // never fails: the runtime ends the process instead
	epoch, err := b.keepEpoch(doc, data, key.Bytes())
	if err != nil {
		return err
	}
	pair := format.Pair{Generation: generation, Epoch: epoch.Number}
	ring.addRoot(pair, format.RootKey(data, key.Bytes()))
	var sequence uint64
	kept := 0
	err = sp.commitAlone(ctx, func(w engine.Writer) error {
		t := &txn{sp: sp, ring: ring, r: w, w: w}
		defer t.finish()
		if err := t.openRoot(); err != nil {
			return err
		}
		sequence = t.root.head.Sequence
		t.root.head.Pair, t.root.head.Erased = pair, 0
		if err := t.root.write(); err != nil {
			return err
		}
		err := b.putBundle(w, func(now *bundleDoc) error {
			if now.Sequence != doc.Sequence {
				return ErrChanged
			}
			now.Current = pair
			change(now, epoch)
			kept = len(now.Epochs)
			return nil
		})
		if err != nil {
			return err
		}
		return sp.stillOpen(fence)
	})
	// the key that was made stays in the key store; nothing is sealed under it unless the commit was made after all
	if err != nil {
		ring.onlyRoot(doc.Current)
		return err
	}
	ring.onlyRoot(pair)
	copy(ring.data(), data)
	ring.generation = generation
	if kept == 1 { // the bundle no longer speaks of the epochs before; begun is begun
		if err := s.destroyEpochs(format.ID(sp.id), pair.Epoch); err != nil {
			return err
		}
	}
	sp.turned(sequence, doc.Current)
	return nil
}

// keepEpoch puts a fresh epoch key into the key store.
func (b *Bundle) keepEpoch(doc bundleDoc, data, key []byte) (epochDoc, error) {
	s, space := b.sp.store, format.ID(b.sp.id)
	number := doc.Current.Epoch
	for _, e := range doc.Epochs {
		number = max(number, e.Number)
	}
	number++
	// The bundle does not know this epoch, so a key of it was left by a crash, and nothing was ever sealed under it.
	if err := s.epochs.DestroyEpoch(space, number); err != nil {
		return epochDoc{}, err
	}
	if err := s.epochs.Put(space, number,
		format.SealEpoch(s.root.Bytes(), data, s.instance, space, number, key)); err != nil {
		return epochDoc{}, fmt.Errorf("keep the epoch key: %w", err)
	}
	return epochDoc{Number: number, Commitment: format.EpochKeyCommitment(key, space, number)}, nil
}

// destroyEpochs destroys the keys of all epochs before one.
func (s *Store) destroyEpochs(space format.ID, before uint32) error {
	epochs, err := s.epochs.List(space)
	for _, e := range epochs {
		if e < before {
			err = errors.Join(err, s.epochs.DestroyEpoch(space, e))
		}
	}
	if err != nil {
		return fmt.Errorf("destroy old epoch keys of space %s: %w", SpaceID(space), err)
	}
	return nil
}

// rewritePages brings every page under a fresh key, folding the nursery rows on the way.
func (sp *Space) rewritePages(ctx context.Context) error {
	var containers []format.ID
	err := sp.View(ctx, func(r Reader) (err error) {
		containers, err = r.txn().containers()
		return err
	})
	for _, c := range containers {
		position := format.ID{}
		for more := true; more && err == nil; {
			var goOn format.ID
			err = sp.updateAlone(ctx, func(t *txn) (err error) {
				goOn, more, err = t.turnStep(c, position)
				return err
			})
			position = goOn
		}
	}
	return err
}

// containers lists the containers of the space.
func (t *txn) containers() (list []format.ID, err error) {
	w := t.root.leaves()
	for {
		n, err := w.next()
		if err != nil || n == nil {
			return list, err
		}
		if err := t.root.open(n); err != nil {
			return list, err
		}
		for i := range n.page.Len() {
			if id, _ := n.page.At(i); id != rowkey.Root {
				list = append(list, id)
			}
		}
	}
}

// turnStep rewrites up to turnPages lowest pages of a container, those above them and its head, and returns where to go
// on.
func (t *txn) turnStep(container, position format.ID) (goOn format.ID, more bool, err error) {
	tr, err := t.tree(container)
	if err != nil || tr == nil || tr.head.Dropped {
		return position, false, err
	}
	tr.rekey, tr.written = true, true
	for range turnPages {
		leaf, err := tr.leaf(position)
		if err == nil {
			err = tr.change(leaf)
		}
		if err != nil {
			return position, false, err
		}
		if position, more = rowkey.Next(leaf.upper); !more {
			break
		}
	}
	return position, more, nil
}

// Retire ends every key but the current ones: their slots leave the bundle and their epoch keys are destroyed, so that
// copies from before open no more, wherever they are. It refuses while a turn is not finished. It can be repeated after
// any error. src is not needed any more.
func (b *Bundle) Retire(ctx context.Context, src keysource.Source) error {
	sp, s := b.sp, b.sp.store
	sp.keying.Lock()
	defer sp.keying.Unlock()
	s.using.RLock()
	defer s.using.RUnlock()
	var current format.Pair
	err := b.changeLocked(ctx, func(doc *bundleDoc) error {
		if doc.Turning {
			return errors.New("pages are still sealed under older keys: finish the turn first")
		}
		current = doc.Current
		doc.Generations = slices.DeleteFunc(doc.Generations,
			func(g generationDoc) bool { return g.Number != current.Generation })
		doc.Epochs = slices.DeleteFunc(doc.Epochs, func(e epochDoc) bool { return e.Number != current.Epoch })
		return nil
	})
	if err != nil {
		return fmt.Errorf("retire the keys of space %s: %w", sp.id, err)
	}
	return s.destroyEpochs(format.ID(sp.id), current.Epoch)
}

// putBundle changes the bundle inside a transaction.
func (b *Bundle) putBundle(w engine.Writer, fn func(*bundleDoc) error) error {
	s, key := b.sp.store, rowkey.OfSpace(format.ID(b.sp.id), rowkey.Bundle)
	row, ok, err := w.Get(key)
	if err != nil {
		return err
	}
	if !ok {
		return ErrNoSpace
	}
	doc, err := s.decodeBundle(b.sp.id, row)
	if err != nil {
		return err
	}
	if doc.State != stateActive {
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
	return w.Put(key, format.SealBundle(s.root.Bytes(), s.instance, format.ID(b.sp.id), raw))
}
