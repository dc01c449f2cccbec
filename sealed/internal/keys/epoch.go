package keys

import (
	"crypto/hmac"
	"errors"
	"fmt"

	"github.com/visage-face/visage/sealed/internal/event"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keystore"
)

func (b *Bundles) openEpoch(dst, data []byte, id format.SpaceID, e EpochDoc) error {
	value, err := b.epochs.Get(format.ID(id), e.Number)
	if errors.Is(err, keystore.ErrNotFound) {
		return b.report.Corrupt(&event.CorruptError{Space: id, What: "epoch key",
			Err: fmt.Errorf("%w; restore the key directory from its newest copy", err)})
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

// keepEpoch puts a fresh epoch key into the key store.
func (b *Bundles) keepEpoch(id format.SpaceID, doc Doc, data, key []byte) (EpochDoc, error) {
	space := format.ID(id)
	number := doc.Current.Epoch
	for _, e := range doc.Epochs {
		number = max(number, e.Number)
	}
	number++
	// The bundle does not know this epoch, so a key of it was left by a crash, and nothing was ever sealed under it.
	if err := b.epochs.DestroyEpoch(space, number); err != nil {
		return EpochDoc{}, err
	}
	if err := b.epochs.Put(space, number,
		format.SealEpoch(b.root.Current(), data, b.root.Instance, space, number, key)); err != nil {
		return EpochDoc{}, fmt.Errorf("keep the epoch key: %w", err)
	}
	return EpochDoc{Number: number, Commitment: format.EpochKeyCommitment(key, space, number)}, nil
}

// EndEpochs destroys the keys of all epochs of a space before one.
func (b *Bundles) EndEpochs(id format.SpaceID, before uint32) error {
	space := format.ID(id)
	epochs, err := b.epochs.List(space)
	for _, e := range epochs {
		if e < before {
			err = errors.Join(err, b.epochs.DestroyEpoch(space, e))
		}
	}
	if err != nil {
		return fmt.Errorf("destroy old epoch keys of space %s: %w", id, err)
	}
	return nil
}

// Epoch reads an epoch key as it is stored, sealed. Error: keystore.ErrNotFound.
func (b *Bundles) Epoch(id format.SpaceID, number uint32) ([]byte, error) {
	return b.epochs.Get(format.ID(id), number)
}

// DropEpochs destroys all epoch keys of a space.
func (b *Bundles) DropEpochs(id format.SpaceID) error { return b.epochs.Destroy(format.ID(id)) }

// MissingEpoch is what is found when the key store lacks an epoch key that the bundle names.
func (b *Bundles) MissingEpoch(id format.SpaceID, err error) error {
	return b.report.Corrupt(&event.CorruptError{Space: id, What: "epoch key",
		Err: fmt.Errorf("%w; restore the key directory from its newest copy", err)})
}
