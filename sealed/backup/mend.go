package backup

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keys"
	"github.com/visage-face/visage/sealed/internal/keystore"
	"github.com/visage-face/visage/sealed/internal/stream"
)

// MendKeyring puts epoch keys that are missing back from a keyring, and returns how many. It is for a key directory
// that was lost while the data was not: only keys that the data still speaks of are taken, so an old keyring brings
// nothing back that was erased. Errors: ErrForeign, ErrNotAuthentic, ErrMalformed.
func (b *Backup) MendKeyring(ctx context.Context, keyring io.Reader) (mended int, err error) {
	release, err := b.hold()
	if err != nil {
		return 0, err
	}
	defer release()
	defer func() {
		if err != nil {
			err = fmt.Errorf("mend the key directory: %w", err)
		}
	}()
	var found []stream.Frame
	in, err := open(keyring, stream.Keyring, b.known)
	if err == nil {
		err = eachFrame(ctx, in, func(f stream.Frame) error {
			if f.Kind == stream.EpochKey && len(f.Key) == 20 {
				found = append(
					found, stream.Frame{Key: append([]byte(nil), f.Key...), Value: append([]byte(nil), f.Value...)},
				)
			}
			return nil
		})
	}
	if err == nil {
		err = checkStream(b.root, in)
	}
	if err != nil {
		return 0, err
	}
	var failed error
	for _, f := range found {
		id, epoch := format.SpaceID(f.Key[:16]), binary.BigEndian.Uint32(f.Key[16:])
		done, err := b.mendEpoch(ctx, id, epoch, f.Value)
		if err != nil { // the others are no worse for it
			failed = errors.Join(failed, fmt.Errorf("epoch key %d of space %s: %w", epoch, id, err))
		}
		if done {
			mended++
		}
		if ctx.Err() != nil {
			break
		}
	}
	return mended, failed
}

// mendEpoch puts an epoch key back if a bundle speaks of it and it is not there.
func (b *Backup) mendEpoch(ctx context.Context, id format.SpaceID, epoch uint32, value []byte) (done bool, err error) {
	doc, err := b.bundles.Read(ctx, id)
	if errors.Is(err, keys.ErrNoSpace) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	known := doc.State == keys.Active && slices.ContainsFunc(doc.Epochs,
		func(e keys.EpochDoc) bool { return e.Number == epoch })
	if !known {
		return false, nil
	}
	if _, err := b.epochs.Get(ctx, format.ID(id), epoch); !errors.Is(err, keystore.ErrNotFound) {
		return false, err
	}
	carried, err := b.bundles.Carried(id, epoch, value)
	if err != nil {
		return false, err
	}
	err = b.epochs.Put(ctx, format.ID(id), epoch, carried)
	if errors.Is(err, keystore.ErrExists) { // a version that somebody deleted by hand, and which takes its place
		if err = b.epochs.DestroyEpoch(ctx, format.ID(id), epoch); err == nil {
			err = b.epochs.Put(ctx, format.ID(id), epoch, carried)
		}
	}
	return err == nil, err
}
