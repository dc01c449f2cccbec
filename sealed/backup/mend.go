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
	for _, f := range found {
		id, epoch := format.SpaceID(f.Key[:16]), binary.BigEndian.Uint32(f.Key[16:])
		doc, err := b.bundles.Read(ctx, id)
		if errors.Is(err, keys.ErrNoSpace) {
			continue
		}
		if err != nil {
			return mended, err
		}
		known := slices.ContainsFunc(doc.Epochs, func(e keys.EpochDoc) bool { return e.Number == epoch })
		if _, err := b.epochs.Get(format.ID(id), epoch); !known || !errors.Is(err, keystore.ErrNotFound) {
			continue
		}
		value, err := b.bundles.Carried(id, epoch, f.Value)
		if err == nil {
			err = b.epochs.Put(format.ID(id), epoch, value)
		}
		if err != nil {
			return mended, err
		}
		mended++
	}
	return mended, nil
}
