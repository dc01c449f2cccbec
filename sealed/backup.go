package sealed

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/visage-face/visage/internal/arena"
	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keystore"
	"github.com/visage-face/visage/sealed/internal/rowkey"
	"github.com/visage-face/visage/sealed/internal/stream"
)

// Saved is what a backup was written with.
type Saved struct {
	Rows, Bytes int64
}

// WriteBackup writes the records and logs of all spaces to w, as they are at one moment, while everything goes on. What
// it writes is sealed as it is stored, and holds no key and no wrapped key: without a keyring (WriteKeyring) of the
// same time or later it is noise. It needs no customer's key, and works while spaces are locked. docs/formats/backup.md
// describes the stream.
func (s *Store) WriteBackup(ctx context.Context, w io.Writer) (Saved, error) {
	return s.writeStream(ctx, w, stream.Data, func(add func(stream.Frame) error) error {
		return s.engine.View(ctx, func(r engine.Reader) error {
			return eachRange(r, func(from, to []byte, data bool) error {
				if !data {
					return nil
				}
				return copyRows(ctx, add, r, from, to)
			})
		})
	})
}

// WriteKeyring writes everything that WriteBackup leaves out to w: the key pages, the wrapped keys and the epoch keys.
// It opens nothing by itself: the instance root is needed, and the key of a customer whose key it is under. Only the
// newest one is ever needed; an older one holds the keys of what was erased since.
func (s *Store) WriteKeyring(ctx context.Context, w io.Writer) (Saved, error) {
	return s.writeStream(ctx, w, stream.Keyring, func(add func(stream.Frame) error) error {
		for {
			err := s.engine.View(ctx, func(r engine.Reader) error {
				epochs, err := s.epochsOf(r)
				if err != nil {
					return err
				}
				for _, e := range epochs {
					if err := add(e); err != nil {
						return err
					}
				}
				return eachRange(r, func(from, to []byte, data bool) error {
					if data {
						return nil
					}
					return copyRows(ctx, add, r, from, to)
				})
			})
			if !errors.Is(err, keystore.ErrNotFound) || ctx.Err() != nil {
				return err
			}
			// An epoch ended between the snapshot and the look at its key: nothing was written yet, and a new snapshot
			// knows the next one.
		}
	})
}

// epochsOf reads the epoch keys of every bundle in the snapshot.
func (s *Store) epochsOf(r engine.Reader) (frames []stream.Frame, err error) {
	err = rowkey.EachSpace(r, func(space format.ID) error {
		row, ok, err := r.Get(rowkey.OfSpace(space, rowkey.Bundle))
		if err != nil || !ok {
			return err
		}
		doc, err := s.bundles.Decode(SpaceID(space), row)
		if err != nil {
			return err
		}
		for _, e := range doc.Epochs {
			sealed, err := s.epochs.Get(space, e.Number)
			if err != nil {
				return fmt.Errorf("read epoch key %d of space %s: %w", e.Number, SpaceID(space), err)
			}
			frames = append(
				frames, stream.Frame{Kind: stream.EpochKey, Key: binary.BigEndian.AppendUint32(space[:], e.Number),
					Value: sealed},
			)
		}
		return nil
	})
	return frames, err
}

// eachRange divides all rows, in the order of their keys, into those of data and those of keys: records and logs are
// data, every other kind is the keyring's, those among them that a later version adds.
func eachRange(r engine.Reader, fn func(from, to []byte, data bool) error) error {
	cut := func(space format.ID, kind byte, end []byte) error {
		first := rowkey.OfSpace(space, kind)
		return errors.Join(fn(space[:], first, false), fn(first, rowkey.After(first), true), fn(rowkey.After(first),
			end, false))
	}
	if err := cut(format.ID{}, rowkey.Log, rowkey.FirstSpace[:]); err != nil {
		return err
	}
	return rowkey.EachSpace(r, func(space format.ID) error { return cut(space, rowkey.Record, rowkey.After(space[:])) })
}

func copyRows(ctx context.Context, add func(stream.Frame) error, r engine.Reader, from, to []byte) error {
	for row, err := range r.Scan(from, to) {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := add(stream.Frame{Kind: stream.Row, Key: row.Key, Value: row.Value}); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) writeStream(
	ctx context.Context, w io.Writer, content stream.Content, fill func(add func(stream.Frame) error) error,
) (Saved, error) {
	s.root.Hold()
	defer s.root.Release()
	if s.isClosed() {
		return Saved{}, ErrClosed
	}
	var key []byte
	arena.Do(func() { key = format.BackupKey(s.root.Key(), s.root.Instance, string(content)) })
	defer clear(key)
	total, err := stream.Write(ctx, w, key, stream.Header{
		Content: content, Instance: s.Instance(), Taken: time.Now().UTC(), Format: s.format,
		Since: since(s.steps, s.format),
	}, fill)
	if err != nil {
		return Saved{}, fmt.Errorf("write %s backup: %w", content, err)
	}
	return Saved{total.Rows, total.Bytes}, nil
}
