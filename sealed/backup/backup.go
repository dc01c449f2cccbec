// Package backup is the streams of a backup: it writes those of an open store, and makes a store of them again. A
// backup is two streams, the data and the keyring: neither opens anything without the other, and a keyring alone
// decides what comes back. docs/formats/backup.md describes them.
package backup

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/visage-face/visage/internal/arena"
	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keys"
	"github.com/visage-face/visage/sealed/internal/keystore"
	"github.com/visage-face/visage/sealed/internal/rowkey"
	"github.com/visage-face/visage/sealed/internal/stream"
)

// Backup backs up an open store.
type Backup struct {
	root    *keys.Root
	engine  engine.Engine
	epochs  keystore.Store
	bundles *keys.Bundles
	closed  func() bool
	format  func(engine.Reader) (uint32, error)
	since   func(format uint32) string // the first version of the program that knows a format
	known   uint32                     // the newest format that the program knows
}

// Config says what is backed up.
type Config struct {
	Root    *keys.Root
	Engine  engine.Engine
	Epochs  keystore.Store
	Bundles *keys.Bundles
	Closed  func() bool // reports whether the store was closed
	// Format reads the format of the store.
	Format func(engine.Reader) (uint32, error)
	// Since returns the first version of the program that knows a format.
	Since func(format uint32) string
	Known uint32 // the newest format that the program knows
}

// New returns the backup of a store. Stores have a method that calls it.
func New(c Config) *Backup {
	return &Backup{root: c.Root, engine: c.Engine, epochs: c.Epochs, bundles: c.Bundles, closed: c.Closed,
		format: c.Format, since: c.Since, known: c.Known}
}

// hold holds the root of a store that is open.
func (b *Backup) hold() (release func(), err error) {
	release = b.root.Hold()
	if b.closed() {
		release()
		return nil, engine.ErrClosed
	}
	return release, nil
}

// Saved is what a backup was written with.
type Saved struct {
	Rows, Bytes int64
}

// WriteData writes the records and logs of all spaces to w, as they are at one moment, while everything goes on. What
// it writes is sealed as it is stored, and holds no key and no wrapped key: without a keyring (WriteKeyring) of the
// same time or later it is noise. It needs no customer's key, and works while spaces are locked. docs/formats/backup.md
// describes the stream.
func (b *Backup) WriteData(ctx context.Context, w io.Writer) (Saved, error) {
	return b.writeStream(ctx, w, stream.Data, func(add func(stream.Frame) error, number uint32) error {
		return b.engine.View(ctx, func(r engine.Reader) error {
			if err := b.same(r, number); err != nil {
				return err
			}
			return eachRange(r, func(from, to []byte, data bool) error {
				if !data {
					return nil
				}
				return copyRows(ctx, add, r, from, to)
			})
		})
	})
}

// WriteKeyring writes everything that WriteData leaves out to w: the key pages, the wrapped keys and the epoch keys.
// It opens nothing by itself: the instance root is needed, and the key of a customer whose key it is under. Only the
// newest one is ever needed; an older one holds the keys of what was erased since.
func (b *Backup) WriteKeyring(ctx context.Context, w io.Writer) (Saved, error) {
	return b.writeStream(ctx, w, stream.Keyring, func(add func(stream.Frame) error, number uint32) error {
		var missing []byte // the bundle whose epoch key was not there
		for {
			again := false
			err := b.engine.View(ctx, func(r engine.Reader) error {
				if err := b.same(r, number); err != nil {
					return err
				}
				epochs, of, err := b.epochsOf(ctx, r)
				if err != nil {
					again = errors.Is(err, keystore.ErrNotFound) && !bytes.Equal(of, missing)
					missing = of
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
			if !again || ctx.Err() != nil {
				return err
			}
			// An epoch ended between the snapshot and the look at its key, whoever turned it: nothing was written yet,
			// and a new snapshot has another bundle, which knows the next one. If it has the same, the key is gone.
		}
	})
}

// epochsOf reads the epoch keys of every bundle in the snapshot. An error is of the bundle with the row of.
func (b *Backup) epochsOf(ctx context.Context, r engine.Reader) (frames []stream.Frame, of []byte, err error) {
	err = rowkey.EachSpace(r, func(space format.ID) error {
		row, ok, err := r.Get(rowkey.OfSpace(space, rowkey.Bundle))
		if err != nil || !ok {
			return err
		}
		of = bytes.Clone(row)
		doc, err := b.bundles.Decode(format.SpaceID(space), row)
		if err != nil || doc.State != keys.Active { // those that a dropped space names are on their way out
			return err
		}
		for _, e := range doc.Epochs {
			sealed, err := b.epochs.Get(ctx, space, e.Number)
			if err != nil {
				return fmt.Errorf("read epoch key %d of space %s: %w", e.Number, format.SpaceID(space), err)
			}
			frames = append(
				frames, stream.Frame{Kind: stream.EpochKey, Key: binary.BigEndian.AppendUint32(space[:], e.Number),
					Value: sealed},
			)
		}
		return nil
	})
	return frames, of, err
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

// ErrFormat says that the store has got another format since a backup of it began, whose header has that of before.
var ErrFormat = errors.New("the store has just got another format: take the backup once more")

// same makes sure that a snapshot has the format that the header of the stream says.
func (b *Backup) same(r engine.Reader, number uint32) error {
	now, err := b.format(r)
	if err == nil && now != number {
		err = ErrFormat
	}
	return err
}

func (b *Backup) writeStream(
	ctx context.Context, w io.Writer, content stream.Content,
	fill func(add func(stream.Frame) error, number uint32) error,
) (Saved, error) {
	release, err := b.hold()
	if err != nil {
		return Saved{}, err
	}
	defer release()
	doc, err := b.root.Read(ctx)
	if err != nil {
		return Saved{}, fmt.Errorf("write %s backup: %w", content, err)
	}
	var key []byte
	root := b.root.Current()
	arena.Do(func() { key = format.BackupKey(root.Key, b.root.Instance, string(content)) })
	defer clear(key)
	total, err := stream.Write(ctx, w, key, stream.Header{
		Content: content, Instance: format.SpaceID(b.root.Instance).String(), Taken: time.Now().UTC(),
		Format: doc.Number, Since: b.since(doc.Number), Root: root.Version - 1,
	}, func(add func(stream.Frame) error) error { return fill(add, doc.Number) })
	if err != nil {
		return Saved{}, fmt.Errorf("write %s backup: %w", content, err)
	}
	return Saved{total.Rows, total.Bytes}, nil
}
