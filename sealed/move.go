package sealed

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"iter"
	"maps"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/rowkey"
)

// ErrNotMovable is for Move: the target holds something else.
var ErrNotMovable = errors.New("the target holds something else than the beginning of this copy")

// Moved is what a Move has copied, up to now or in all.
type Moved struct {
	Records int    // all of them
	Found   int    // of these, those that an earlier attempt had copied
	Bytes   uint64 // of keys and values
	// Digest is SHA-256 over all keys and values, read back from the target.
	Digest [sha256.Size]byte
}

// Move copies a store from one engine to another, as it is: nothing is opened. No process may have the source open;
// over a database, those that do are found out, and nobody can write to the source until Move returns. The target is
// empty, or has what an attempt that was interrupted has left, which then goes on. It is a store only at the end, when
// all that is there was read back and compared: the row of the instance comes last. Epoch keys and anchors stay where
// they are. progress is called when a part was written, with what is in the target by then; it may be nil.
//
// Errors: ErrInUse, ErrNotMovable, fs.ErrNotExist when there is no store in the source, *NewerError, ErrFull.
func Move(ctx context.Context, from, to Config, progress func(Moved)) (Moved, error) {
	if dir, local := strings.CutPrefix(from.Engine, onDisk+":"); local {
		if _, err := os.Stat(dir); err != nil {
			return Moved{}, fmt.Errorf("move: %w", err)
		}
	}
	source, _, err := openEngine(ctx, from)
	if err != nil {
		return Moved{}, fmt.Errorf("move: open the source: %w", err)
	}
	defer source.Close()
	target, _, err := openEngine(ctx, to)
	if err != nil {
		return Moved{}, fmt.Errorf("move: open the target: %w", err)
	}
	defer target.Close()
	m := &move{source: source, target: target, progress: progress}
	if err := m.run(ctx); err != nil {
		return m.done, fmt.Errorf("move: %w", err)
	}
	return m.done, nil
}

// What one transaction of a move writes.
const (
	moveRows  = 8_192
	moveBytes = 8 << 20
)

// portion is rows to be written, and what is in the target afterwards.
type portion struct {
	engine.Batch
	done Moved
}

// move is a Move under way.
type move struct {
	source, target engine.Engine
	progress       func(Moved)
	done           Moved
	digest         hash.Hash // of what was read from the source
	instance       []byte    // the row that makes the target a store
	silent         members   // those of the source that have ended without closing it
}

// members are the rows of the processes that have a store open.
type members map[string]string

func readMembers(r engine.Reader) (members, error) {
	all := members{}
	from := rowkey.OfSpace(rowkey.LeaseScope, rowkey.Member)
	for row, err := range r.Scan(from, rowkey.After(from)) {
		if err != nil {
			return nil, err
		}
		all[string(row.Key)] = string(row.Value)
	}
	return all, nil
}

// errMoveInUse says that a server has the source of a move open.
var errMoveInUse = fmt.Errorf("%w: a server works with the source; stop every server that does", ErrInUse)

func (m *move) run(ctx context.Context) error {
	if !m.source.Shared() { // it is open here alone
		return m.source.View(ctx, func(r engine.Reader) error { return m.copy(ctx, r) })
	}
	if err := m.alone(ctx); err != nil {
		return err
	}
	if source, ok := m.source.(engine.Freezer); ok {
		return source.Freeze(ctx, func(r engine.Reader) error { return m.copy(ctx, r) })
	}
	return m.source.Update(ctx, func(w engine.Writer) error { return m.copy(ctx, w) }) // it writes nothing
}

// silentFor is longer than a process lets pass between two signs that it has the store open.
const silentFor = 16 * time.Second

// alone waits until no process shows that it has the source open. One that ended without closing it needs silentFor to
// be taken for dead.
func (m *move) alone(ctx context.Context) error {
	var first members
	for began := time.Now(); ; {
		var now members
		err := m.source.View(ctx, func(r engine.Reader) (err error) {
			now, err = readMembers(r)
			return err
		})
		if err != nil {
			return err
		}
		if first == nil {
			first = now
		}
		for key, value := range now {
			if first[key] != value {
				return errMoveInUse
			}
		}
		if len(now) == 0 || time.Since(began) > silentFor {
			m.silent = now
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Second):
		}
	}
}

// copy copies, reads back and compares, and makes the target a store.
func (m *move) copy(ctx context.Context, source engine.Reader) error {
	m.done, m.digest, m.instance = Moved{}, sha256.New(), nil
	err := m.target.View(ctx, func(there engine.Reader) error {
		group, inner := errgroup.WithContext(ctx)
		batches := make(chan portion, 1)
		group.Go(func() error { return m.write(inner, batches) })
		group.Go(func() error {
			defer close(batches)
			return m.read(inner, source, there, batches)
		})
		return group.Wait()
	})
	if err != nil {
		return err
	}
	if m.instance == nil {
		return fmt.Errorf("there is no store in the source: %w", os.ErrNotExist)
	}
	if err := m.verify(ctx); err != nil {
		return err
	}
	// A server that has opened the source since alone, before its lock, has left its row; and if the lock is gone, with
	// its session, nothing is read any more.
	if m.source.Shared() {
		now, err := readMembers(source)
		if err != nil {
			return err
		}
		if !maps.Equal(now, m.silent) {
			return errMoveInUse
		}
	}
	value, err := format.Restored(rowkey.Instance, m.instance)
	if err != nil {
		return err
	}
	return m.target.Update(ctx, func(w engine.Writer) error {
		return w.Put(rowkey.OfSpace(format.ID{}, rowkey.Instance), value)
	})
}

// moves yields the rows of a store that are moved: not those that say which processes have it open. The row of the
// instance goes to instance instead.
func moves(r engine.Reader, instance *[]byte) iter.Seq2[engine.Row, error] {
	members := rowkey.OfSpace(rowkey.LeaseScope, rowkey.Member)
	own := rowkey.OfSpace(format.ID{}, rowkey.Instance)
	return func(yield func(engine.Row, error) bool) {
		for row, err := range r.Scan(nil, nil) {
			switch {
			case err != nil:
				yield(row, err)
				return
			case bytes.HasPrefix(row.Key, members):
			case bytes.Equal(row.Key, own):
				*instance = bytes.Clone(row.Value)
			case !yield(row, nil):
				return
			}
		}
	}
}

// read reads the source, beside what the target has, and sends on what that lacks.
func (m *move) read(ctx context.Context, source, there engine.Reader, batches chan<- portion) error {
	var theirs []byte
	next, stop := iter.Pull2(moves(there, &theirs))
	defer stop()
	old, err, more := next()
	var batch portion
	size := 0
	send := func() error {
		batch.done = m.done
		select {
		case batches <- batch:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		batch, size = portion{}, 0
		return nil
	}
	for row, readErr := range moves(source, &m.instance) {
		if readErr != nil {
			return fmt.Errorf("read the source: %w", readErr)
		}
		if err != nil {
			return fmt.Errorf("read the target: %w", err)
		}
		count(m.digest, row)
		m.done.Records++
		m.done.Bytes += uint64(len(row.Key) + len(row.Value))
		if more && bytes.Equal(old.Key, row.Key) && bytes.Equal(old.Value, row.Value) {
			m.done.Found++
			old, err, more = next()
			continue
		}
		if more && bytes.Compare(old.Key, row.Key) <= 0 {
			return ErrNotMovable
		}
		if len(row.Key) <= len(format.ID{}) {
			return fmt.Errorf("read the source: a key of %d bytes is of no row", len(row.Key))
		}
		value, err := format.Restored(row.Key[len(format.ID{})], row.Value)
		if err != nil {
			return fmt.Errorf("read the source: the row %x: %w", row.Key, err)
		}
		batch.Keys, batch.Values = append(batch.Keys, bytes.Clone(row.Key)), append(batch.Values, value)
		if size += len(row.Key) + len(row.Value); len(batch.Keys) >= moveRows || size >= moveBytes {
			if err := send(); err != nil {
				return err
			}
		}
	}
	if err != nil {
		return fmt.Errorf("read the target: %w", err)
	}
	if more || theirs != nil && !bytes.Equal(theirs, m.instance) {
		return ErrNotMovable
	}
	return send()
}

// write writes what read sends.
func (m *move) write(ctx context.Context, batches <-chan portion) error {
	loader, _ := m.target.(engine.Loader)
	for batch := range batches {
		var err error
		switch {
		case len(batch.Keys) == 0:
		case loader != nil:
			err = loader.Load(ctx, batch.Batch)
		default:
			err = m.target.Update(ctx, func(w engine.Writer) error {
				for i, key := range batch.Keys {
					if err := w.Put(key, batch.Values[i]); err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err != nil {
			return fmt.Errorf("write the target: %w", err)
		}
		if m.progress != nil {
			m.progress(batch.done)
		}
	}
	return nil
}

// verify reads the target, and compares it with what was read from the source.
func (m *move) verify(ctx context.Context) error {
	m.digest.Sum(m.done.Digest[:0])
	return m.target.View(ctx, func(r engine.Reader) error {
		var instance []byte
		digest, records := sha256.New(), 0
		for row, err := range moves(r, &instance) {
			if err != nil {
				return fmt.Errorf("read the target: %w", err)
			}
			count(digest, row)
			records++
		}
		if records != m.done.Records || !bytes.Equal(digest.Sum(nil), m.done.Digest[:]) {
			return fmt.Errorf("the target has %d records, and the source %d: they are not the same", records,
				m.done.Records)
		}
		return nil
	})
}

// count adds a row to a digest.
func count(h hash.Hash, row engine.Row) {
	var length [8]byte
	for _, part := range [][]byte{row.Key, row.Value} {
		binary.BigEndian.PutUint64(length[:], uint64(len(part)))
		h.Write(length[:]) // a hash takes everything
		h.Write(part)
	}
}
