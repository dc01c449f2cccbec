package keys

import (
	"context"
	"crypto/hmac"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/visage-face/visage/sealed/internal/event"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keystore"
)

func (b *Bundles) openEpoch(ctx context.Context, dst, data []byte, id format.SpaceID, e EpochDoc) error {
	value, err := b.epochs.Get(ctx, format.ID(id), e.Number)
	if errors.Is(err, keystore.ErrNotFound) {
		return b.MissingEpoch(id, err)
	}
	if err != nil {
		return fmt.Errorf("read epoch key %d: %w", e.Number, err)
	}
	err = format.OpenEpoch(dst, b.root.Of, data, b.root.Instance, format.ID(id), e.Number, value)
	if err == nil && !hmac.Equal(format.EpochKeyCommitment(dst, format.ID(id), e.Number), e.Commitment) {
		err = fmt.Errorf("%w: the epoch key does not match its commitment", format.ErrNotAuthentic)
	}
	if err != nil {
		return b.report.Corrupt(&event.CorruptError{Space: id, What: "epoch key", Err: err})
	}
	return nil
}

func isNotFound(err error) bool { return errors.Is(err, keystore.ErrNotFound) }

// keepEpoch puts a fresh epoch key into the key store, under a number that no key of the space has: one that the bundle
// does not know may be of another process, whose turn is under way. Those that a crash left are lower from then on, and
// go with the epochs before.
func (b *Bundles) keepEpoch(
	ctx context.Context, id format.SpaceID, doc Doc, data, key []byte,
) (EpochDoc, error) {
	number := doc.Current.Epoch
	for _, e := range doc.Epochs {
		number = max(number, e.Number)
	}
	taken, err := b.epochs.List(ctx, format.ID(id))
	if err != nil {
		return EpochDoc{}, fmt.Errorf("list the epoch keys: %w", err)
	}
	for _, e := range taken {
		number = max(number, e)
	}
	return b.putEpoch(ctx, id, number+1, data, key)
}

// putEpoch puts a fresh epoch key into the key store, under the first number from first on that is free.
func (b *Bundles) putEpoch(
	ctx context.Context, id format.SpaceID, first uint32, data, key []byte,
) (EpochDoc, error) {
	space := format.ID(id)
	for number := first; ; number++ {
		err := b.epochs.Put(ctx, space, number,
			format.SealEpoch(b.root.Current(), data, b.root.Instance, space, number, key))
		if errors.Is(err, keystore.ErrExists) {
			continue
		}
		if err != nil {
			return EpochDoc{}, fmt.Errorf("keep the epoch key: %w", err)
		}
		return EpochDoc{Number: number, Commitment: format.EpochKeyCommitment(key, space, number)}, nil
	}
}

// firstEpoch returns the number of a new space's first epoch: higher than those that an earlier attempt left. Where
// processes share the store it is also one that no space of the same id has had, as far as chance can tell: one that
// still removes what a dropped space left must not take the new one's key.
func (b *Bundles) firstEpoch(ctx context.Context, space format.ID) (uint32, error) {
	number := uint32(0)
	if b.engine.Shared() {
		const room = 1 << 30 // of 1 << 32
		random := format.RandomID()
		number = binary.BigEndian.Uint32(random[:]) % room
	}
	left, err := b.epochs.List(ctx, space)
	for _, e := range left {
		number = max(number, e)
	}
	return number + 1, err
}

// EndEpochs destroys the keys of all epochs of a space before one. The known ones are those that the bundle had: their
// destruction does not depend on a list of the key store, which may be older than they are, and finds orphans beside
// them. Begun is begun: that the caller goes away does not stop it.
func (b *Bundles) EndEpochs(ctx context.Context, id format.SpaceID, before uint32, known ...uint32) error {
	ctx = context.WithoutCancel(ctx)
	listed, err := b.epochs.List(ctx, format.ID(id))
	err = errors.Join(err, b.destroyEpochs(ctx, id, append(listed, known...), uint64(before)))
	if err != nil {
		return fmt.Errorf("destroy old epoch keys of space %s: %w", id, err)
	}
	return nil
}

// destroyEpochs destroys the keys of epochs of a space, each once, of those before one.
func (b *Bundles) destroyEpochs(ctx context.Context, id format.SpaceID, epochs []uint32, before uint64) error {
	slices.Sort(epochs)
	var err error
	for _, e := range slices.Compact(epochs) {
		if uint64(e) < before {
			err = errors.Join(err, b.epochs.DestroyEpoch(ctx, format.ID(id), e))
		}
	}
	return err
}

// numbers returns the numbers of epochs.
func numbers(epochs []EpochDoc) (list []uint32) {
	for _, e := range epochs {
		list = append(list, e.Number)
	}
	return list
}

// Ended reports whether a pair has ended, so that nothing which it opened opens any more: its epoch is none of the
// bundle's, and its key is destroyed, which another process that turned it may not have come to.
func (b *Bundles) Ended(ctx context.Context, id format.SpaceID, doc Doc, pair format.Pair) (bool, error) {
	if pair == (format.Pair{}) || len(doc.Epochs) == 0 {
		return false, nil
	}
	for _, e := range doc.Epochs {
		if e.Number <= pair.Epoch {
			return false, nil
		}
	}
	return true, b.EndEpochs(ctx, id, doc.Epochs[0].Number, pair.Epoch)
}

// Epochs lists the numbers of all epoch keys of a space.
func (b *Bundles) Epochs(ctx context.Context, id format.SpaceID) ([]uint32, error) {
	return b.epochs.List(ctx, format.ID(id))
}

// DropEpochs destroys the epoch keys of a space that was dropped, which its mark names, those that were listed before
// the mark was read, and what else the key store has of it if nobody shares that.
func (b *Bundles) DropEpochs(ctx context.Context, id format.SpaceID, mark Doc, listed []uint32) error {
	err := b.destroyEpochs(ctx, id, append(listed, numbers(mark.Epochs)...), math.MaxUint64)
	if err == nil && !b.engine.Shared() {
		err = b.epochs.Destroy(ctx, format.ID(id))
	}
	return err
}

// MissingEpoch is what is found when the key store lacks an epoch key that the bundle names.
func (b *Bundles) MissingEpoch(id format.SpaceID, err error) error {
	return b.report.Corrupt(&event.CorruptError{Space: id, What: "epoch key",
		Err: fmt.Errorf("%w; restore the epoch keys from their newest copy", err)})
}
