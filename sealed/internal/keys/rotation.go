package keys

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"github.com/visage-face/visage/internal/arena"
	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/event"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/rowkey"
)

// Rotate makes a new root key, wrapped by all protectors, and the one before openable through the new one alone: in one
// transaction, so that a crash leaves the one or the other. What the earlier versions sealed is still sealed under them
// when it returns. Errors: ErrRotating, ErrLastVersion, what a protector says.
func (r *Root) Rotate(ctx context.Context) error {
	return r.again(ctx, func(doc Instance) error { return r.rotate(ctx, doc) })
}

func (r *Root) rotate(ctx context.Context, doc Instance) error {
	switch {
	case doc.Rotating:
		return ErrRotating
	case doc.Version == format.MaxVersion:
		return ErrLastVersion
	}
	key, err := arena.New(format.KeySize)
	if err != nil {
		return err
	}
	rand.Read(key.Bytes()) // never fails: the runtime ends the process instead
	next := format.InstanceKey{Version: doc.Version + 1, Key: key.Bytes()}
	wrapped := make([]protectorDoc, 0, len(doc.Protectors))
	for _, at := range doc.Protectors {
		again, err := r.wrapAgain(ctx, at, doc, next)
		if err != nil {
			key.Free()
			return fmt.Errorf("wrap the new root key with %s: %w", at.Name, err)
		}
		wrapped = append(wrapped, again)
	}
	var former []formerDoc
	old := r.versions.Load()
	for i, key := range old.keys[:doc.Version] {
		earlier := format.InstanceKey{Version: uint32(i) + 1, Key: key.Bytes()}
		former = append(former, formerDoc{earlier.Version, format.SealFormer(next, r.Instance, earlier)})
	}
	all := &versions{current: next.Version, keys: append(append([]*arena.Buffer(nil), old.keys...), key)}
	r.document.Lock()
	defer r.document.Unlock()
	err = engine.CommitAndWait(ctx, r.engine, format.ID{}, func(w engine.Writer) error {
		now, err := r.read(w)
		switch {
		case err != nil:
			return err
		case now.Rotating || now.Version != doc.Version: // another process was quicker
			return ErrRotating
		case len(now.Protectors) != len(doc.Protectors) ||
			slices.ContainsFunc(now.Protectors, func(p protectorDoc) bool { return !doc.has(p) }):
			return errOvertaken // one that was added must wrap as well, and one that was removed must not come back
		}
		return r.putNext(w, now, next, wrapped, former)
	})
	if err != nil {
		// A commit that fails may have happened all the same; the row says which.
		row, _, readErr := r.Row(context.WithoutCancel(ctx))
		if readErr != nil || format.CheckInstance(next.Key, row) != nil {
			key.Free()
			return errors.Join(err, readErr)
		}
	}
	r.versions.Store(all)
	r.report(event.Event{Kind: event.RootRotating, Note: fmt.Sprint(next.Version)})
	return nil
}

// putNext writes the document with the next version of the key.
func (r *Root) putNext(
	w engine.Writer, doc Instance, next format.InstanceKey, wrapped []protectorDoc, former []formerDoc,
) error {
	doc.Version, doc.Commitment = next.Version, format.RootKeyCommitment(next.Key, r.Instance)
	doc.Protectors, doc.Former, doc.Rotating, doc.Made = wrapped, former, true, now()
	doc.Kit, doc.Proved = 0, 0 // those of the version before
	doc.Exposed = false
	doc.Exposed = doc.exposed()
	value, err := sealInstance(next.Key, doc)
	if err != nil {
		return err
	}
	return w.Put(rowkey.OfSpace(format.ID{}, rowkey.Instance), value)
}

// wrapAgain wraps a new key with a protector of the document. The source has to open the present key first: in its
// place, another process may have removed the protector and added another one under its name.
func (r *Root) wrapAgain(
	ctx context.Context, at protectorDoc, doc Instance, next format.InstanceKey,
) (protectorDoc, error) {
	p, ok := r.source(at.Name)
	if !ok {
		return protectorDoc{}, ErrDetached
	}
	if err := r.testOne(ctx, at, doc); err != nil {
		return protectorDoc{}, err
	}
	again, err := r.wrap(ctx, p, next)
	again.Name, again.Exposed, again.Added = at.Name, at.Exposed || again.Exposed, at.Added
	return again, err
}

// Settle waits until everybody has left who may still seal under an earlier version of the key.
func (r *Root) Settle(ctx context.Context) error {
	r.mu.Lock()
	before := r.holders
	before.retired = true
	if before.n == 0 {
		close(before.gone)
	}
	r.holders = newHolders()
	r.mu.Unlock()
	select {
	case <-before.gone:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Rotated notes that nothing is left that the current version of the key has yet to seal.
func (r *Root) Rotated(ctx context.Context) error {
	err := r.Change(ctx, func(doc *Instance) error {
		doc.Rotating = false
		return nil
	})
	if err == nil {
		r.report(event.Event{Kind: event.RootRotated, Note: fmt.Sprint(r.Current().Version)})
	}
	return err
}

// Reseal seals a bundle under the current version of the root key, with the data keys in its service-managed slots. It
// reports whether there was anything to do. A customer's slot keeps the version that is inside of what the vault
// wrapped, until it is wrapped anew. The root must be held.
func (b *Bundles) Reseal(ctx context.Context, id format.SpaceID) (changed bool, err error) {
	key := rowkey.OfSpace(format.ID(id), rowkey.Bundle)
	err = engine.CommitAndWait(ctx, b.engine, format.ID(id), func(w engine.Writer) error {
		changed = false
		row, ok, err := w.Get(key)
		if err != nil || !ok {
			return err // a space that is gone
		}
		at, err := format.RootVersion(row)
		if err != nil {
			return b.damaged(id, err)
		}
		doc, err := b.Decode(id, row)
		if err != nil {
			return err
		}
		again, err := b.resealSlots(id, &doc)
		if err != nil || !again && at == b.root.Current().Version {
			return err
		}
		changed = true
		value, err := b.seal(id, doc)
		if err != nil {
			return err
		}
		return w.Put(key, value)
	})
	return changed, err
}

func (b *Bundles) resealSlots(id format.SpaceID, doc *Doc) (changed bool, err error) {
	data, err := arena.New(format.KeySize)
	if err != nil {
		return false, err
	}
	defer data.Free()
	for _, g := range doc.Generations {
		for i := range g.Slots {
			slot := &g.Slots[i]
			if slot.Role != Service || slot.root() == b.root.Current().Version {
				continue
			}
			if err := b.openInner(data.Bytes(), id, g, *slot, slot.Wrapped); err != nil {
				return false, err
			}
			slot.Wrapped = b.sealInner(id, g, slot, data.Bytes())
			changed = true
		}
	}
	return changed, nil
}

// Carry brings the epoch keys of a space under the current version of the root key. The caller is the only one to
// change keys of the space, and holds the root.
func (b *Bundles) Carry(ctx context.Context, id format.SpaceID) error {
	space := format.ID(id)
	if !b.engine.Shared() { // what is unfinished may be another process's
		if err := b.epochs.Tidy(ctx, space); err != nil {
			return fmt.Errorf("destroy what is left of epoch keys of space %s: %w", id, err)
		}
	}
	epochs, err := b.epochs.List(ctx, space)
	if err != nil {
		return fmt.Errorf("list the epoch keys of space %s: %w", id, err)
	}
	for _, e := range epochs {
		value, err := b.epochs.Get(ctx, space, e)
		if isNotFound(err) {
			if named, readErr := b.names(ctx, id, e); readErr != nil {
				return readErr
			} else if named {
				return fmt.Errorf("epoch key %d of space %s is in use and cannot be read: %w", e, id, err)
			}
			continue // overwritten, and to be removed
		}
		if err != nil {
			return fmt.Errorf("read epoch key %d: %w", e, err)
		}
		again, err := b.Carried(id, e, value)
		if err != nil {
			return err
		}
		if &again[0] == &value[0] {
			continue
		}
		err = b.epochs.Replace(ctx, space, e, value, again)
		if isNotFound(err) && b.engine.Shared() {
			continue // another process has destroyed it
		}
		if err != nil {
			return fmt.Errorf("replace epoch key %d: %w", e, err)
		}
	}
	return nil
}

// names reports whether the bundle of a space that exists names an epoch now.
func (b *Bundles) names(ctx context.Context, id format.SpaceID, epoch uint32) (bool, error) {
	doc, err := b.Read(ctx, id)
	if errors.Is(err, ErrNoSpace) {
		return false, nil
	}
	return doc.State == Active && slices.Contains(numbers(doc.Epochs), epoch), err
}

// Carried returns the value of an epoch key for the current version of the root key.
func (b *Bundles) Carried(id format.SpaceID, epoch uint32, value []byte) ([]byte, error) {
	again, err := format.CarryEpoch(b.root.Of, b.root.Current(), b.root.Instance, format.ID(id), epoch, value)
	if err != nil {
		return nil, b.report.Corrupt(&event.CorruptError{Space: id, What: "epoch key", Err: err})
	}
	return again, nil
}
