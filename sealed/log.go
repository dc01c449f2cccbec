package sealed

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/rowkey"
)

// Log is an append-only stream of entries, sealed under the instance root and not under any space's keys: it can be
// read while every space is locked. Entries are numbered from 1 without gaps. A Log is safe for concurrent use.
type Log struct {
	store *Store
	id    format.ID
}

// Entry is one entry of a log.
type Entry struct {
	Sequence uint64
	Data     []byte
}

// Log returns the log of a name. It need not be made: it exists by what is appended to it.
func (s *Store) Log(name string) *Log {
	defer s.root.Hold()()
	l := &Log{store: s}
	if !s.isClosed() {
		l.id = format.LogID(s.root.First(), s.root.Instance, name)
	}
	return l
}

// Append adds the entries that fn returns, in one transaction; they are durable when it returns nil. fn gets the
// sequence number that the first of them will have; it may run more than once, and others that append at the same time
// wait. An entry is at most MaxRecord bytes.
func (l *Log) Append(ctx context.Context, fn func(first uint64) ([][]byte, error)) error {
	return l.Extend(ctx, func(first uint64, _ Since) ([][]byte, error) { return fn(first) })
}

// Since yields the entries of a log from a sequence number on, as a transaction sees them. It is valid until the
// function that has got it returns. Errors are those of Log.From.
type Since func(first uint64) iter.Seq2[Entry, error]

// Extend is Append for entries that depend on those before them, which another process may have appended: fn reads
// them with since.
func (l *Log) Extend(ctx context.Context, fn func(first uint64, since Since) ([][]byte, error)) error {
	s := l.store
	defer s.root.Hold()()
	if s.isClosed() {
		return ErrClosed
	}
	return engine.CommitAndWait(ctx, s.engine, format.ID{}, func(w engine.Writer) error {
		next, err := l.next(w)
		if err != nil {
			return err
		}
		entries, err := fn(next, func(first uint64) iter.Seq2[Entry, error] { return l.entries(w, max(first, 1)) })
		if err != nil || len(entries) == 0 {
			return err
		}
		for _, data := range entries {
			if len(data) > MaxRecord {
				return fmt.Errorf("append to a log: an entry of %d bytes is over the limit of %d", len(data), MaxRecord)
			}
			if err := l.put(w, next, data); err != nil {
				return err
			}
			next++
		}
		return l.put(w, 0, binary.BigEndian.AppendUint64(nil, next))
	})
}

// Next returns the sequence number that the next entry will have.
func (l *Log) Next(ctx context.Context) (next uint64, err error) {
	s := l.store
	defer s.root.Hold()()
	if s.isClosed() {
		return 0, ErrClosed
	}
	err = s.engine.View(ctx, func(r engine.Reader) error {
		next, err = l.next(r)
		return err
	})
	return next, err
}

// From yields the entries from a sequence number on (0 and 1 both mean all), as they were when the loop began. An entry
// that does not open or is missing is yielded as a *CorruptError and ends the loop, as every error does. The loop must
// not close the store.
func (l *Log) From(ctx context.Context, first uint64) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		s := l.store
		defer s.root.Hold()()
		if s.isClosed() {
			yield(Entry{}, ErrClosed)
			return
		}
		stopped := false
		err := s.engine.View(ctx, func(r engine.Reader) error {
			for e, err := range l.entries(r, max(first, 1)) {
				if err != nil {
					return err
				}
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				if !yield(e, nil) {
					stopped = true
					return nil
				}
			}
			return nil
		})
		if err != nil && !stopped {
			yield(Entry{}, err)
		}
	}
}

// entries walks the rows from first on and holds them against the head: none may be missing, at the end either.
func (l *Log) entries(r engine.Reader, first uint64) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		next, err := l.next(r)
		if err != nil {
			yield(Entry{}, err)
			return
		}
		want := first
		for row, err := range r.Scan(logKey(l.id, first), rowkey.After(logKey(l.id, 0)[:33])) {
			if err != nil {
				yield(Entry{}, err)
				return
			}
			_, sequence, ok := logAt(row.Key)
			if !ok {
				continue // Verify tells of it
			}
			if sequence != want || sequence >= next {
				break
			}
			data, err := format.OpenLogEntry(l.store.root.Of, l.store.root.Instance, l.id, sequence, row.Value)
			if err != nil {
				yield(Entry{}, l.corrupt(sequence, err))
				return
			}
			if !yield(Entry{sequence, data}, nil) {
				return
			}
			want++
		}
		if want < next {
			yield(Entry{}, l.corrupt(want, errors.New("the entry is missing")))
		}
	}
}

// next reads the log's head.
func (l *Log) next(r engine.Reader) (uint64, error) {
	value, ok, err := r.Get(logKey(l.id, 0))
	if err != nil {
		return 0, err
	}
	if !ok {
		for _, err := range r.Scan(logKey(l.id, 1), rowkey.After(logKey(l.id, 0)[:33])) {
			if err == nil {
				err = l.corrupt(0, errors.New("the head of the log is missing"))
			}
			return 0, err
		}
		return 1, nil
	}
	head, err := format.OpenLogEntry(l.store.root.Of, l.store.root.Instance, l.id, 0, value)
	if err == nil && len(head) != 8 {
		err = fmt.Errorf("%w: a log's head of %d bytes", format.ErrMalformed, len(head))
	}
	if err != nil {
		return 0, l.corrupt(0, err)
	}
	return binary.BigEndian.Uint64(head), nil
}

func (l *Log) put(w engine.Writer, sequence uint64, data []byte) error {
	return w.Put(logKey(l.id, sequence),
		format.SealLogEntry(l.store.root.Current(), l.store.root.Instance, l.id, sequence, data))
}

func (l *Log) corrupt(sequence uint64, err error) error {
	return l.store.report.Corrupt(&CorruptError{Container: l.id.String(), Record: fmt.Sprint(sequence),
		What: "log entry", Err: err})
}

func logKey(log format.ID, sequence uint64) []byte {
	return binary.BigEndian.AppendUint64(append(rowkey.OfSpace(format.ID{}, rowkey.Log), log[:]...), sequence)
}

// logAt returns the log and sequence number that a row's key names.
func logAt(key []byte) (log format.ID, sequence uint64, ok bool) {
	if len(key) != 41 || format.ID(key[:16]) != (format.ID{}) || key[16] != rowkey.Log {
		return format.ID{}, 0, false
	}
	return format.ID(key[17:33]), binary.BigEndian.Uint64(key[33:]), true
}

// verifyLogs opens every entry of every log. root is in use.
func (s *Store) verifyLogs(r engine.Reader, found func(error)) error {
	from, to := rowkey.OfSpace(format.ID{}, rowkey.Log), rowkey.After(rowkey.OfSpace(format.ID{}, rowkey.Log))
	for {
		var log *format.ID
		for row, err := range r.Scan(from, to) {
			if err != nil {
				return err
			}
			if id, _, ok := logAt(row.Key); ok {
				log = &id
				break
			}
		}
		if log == nil {
			return nil
		}
		l := &Log{s, *log}
		for _, err := range l.entries(r, 1) {
			var corrupt *CorruptError
			if errors.As(err, &corrupt) {
				found(err)
			} else if err != nil {
				return err
			}
		}
		from = rowkey.After(logKey(*log, 0)[:33])
	}
}
