package audit

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/visage-face/visage/sealed"
)

// errForeign says that something else has appended to a log that one process writes. Retrying does not help.
var errForeign = errors.New("the log holds entries that this process did not write")

// flush writes the queue, in transactions of the events of at most maxBatch calls. The caller holds writing. On an
// error every waiting caller gets it and its events leave the queue; noted events stay.
func (l *Log) flush(ctx context.Context) error {
	for {
		err := l.clearDoubt(ctx)
		batch := l.front()
		if err == nil && len(batch) > 0 {
			err = l.write(ctx, batch)
		}
		if err != nil {
			l.metrics.failed.WithLabelValues("append").Inc()
			l.fail(err)
			return err
		}
		if len(batch) == 0 {
			return nil
		}
		l.settle(len(batch))
	}
}

// front returns the front of the queue, and leaves it there.
func (l *Log) front() []*queued {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.queue[:min(len(l.queue), maxBatch)])
}

// settle takes the first n calls off the queue, whose events are on disk, and answers those that wait.
func (l *Log) settle(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, q := range l.queue[:n] {
		for _, e := range q.events {
			l.metrics.written.WithLabelValues(string(e.kind)).Inc()
		}
		if q.done != nil {
			q.done <- nil
		} else {
			l.bytes -= q.bytes()
		}
	}
	l.queue = slices.Delete(l.queue, 0, n)
}

// fail answers every waiting caller with err and takes its events off the queue: the operation fails.
func (l *Log) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue = slices.DeleteFunc(l.queue, func(q *queued) bool {
		if q.done != nil {
			q.done <- err
		}
		return q.done != nil
	})
}

// write appends one transaction.
func (l *Log) write(ctx context.Context, batch []*queued) error {
	var before, after tail
	var data [][]byte
	err := l.entries.Extend(ctx, func(first uint64, since sealed.Since) (_ [][]byte, err error) {
		if before, err = l.follow(l.tail, first, since); err != nil {
			return nil, err
		}
		data, after = before.link(batch)
		return data, nil
	})
	if err != nil {
		if len(data) > 0 {
			l.doubt = &doubt{before: before, after: after}
			for _, q := range batch {
				if q.done == nil {
					l.doubt.noted++
				}
			}
		}
		return err
	}
	l.tail = after
	l.metrics.batch.Observe(float64(len(data)))
	return nil
}

// link makes the entries of a batch that follow t, and the tail behind them.
func (t tail) link(batch []*queued) (data [][]byte, after tail) {
	after = t
	for _, q := range batch {
		q.first = after.size + 1
		for _, e := range q.events {
			entry := place(after.size+1, after.last, e.body)
			data, after = append(data, entry), after.add(entry)
		}
	}
	return data, after
}

// follow returns the tail before the entry next, with what other processes have appended behind t. It accepts nothing
// that does not follow from t.
func (l *Log) follow(t tail, next uint64, since sealed.Since) (tail, error) {
	if next == t.size+1 {
		return t, nil
	}
	if !l.shared {
		return tail{}, errForeign
	}
	if next <= t.size {
		return tail{}, &BrokenError{Sequence: next, Err: errShorter}
	}
	for raw, err := range since(t.size + 1) {
		if err != nil {
			return tail{}, broken(t.size+1, err)
		}
		e, err := decodeEntry(raw.Data)
		if err == nil && (e.Sequence != t.size+1 || e.Previous != t.last) {
			err = errChain
		}
		if err != nil {
			return tail{}, &BrokenError{Sequence: t.size + 1, Err: err}
		}
		if t = t.add(raw.Data); t.size+1 == next {
			return t, nil
		}
	}
	return tail{}, &BrokenError{Sequence: t.size + 1, Err: errMissing}
}

// catchUp follows what other processes have appended, so that a transaction has little of it to read. The caller holds
// writing.
func (l *Log) catchUp(ctx context.Context) error {
	if !l.shared || l.doubt != nil {
		return nil
	}
	next, err := l.entries.Next(ctx)
	if err != nil {
		return fmt.Errorf("read what other processes have written: %w", err)
	}
	l.tail, err = l.followed(ctx, next)
	return err
}

// followed is follow outside of a transaction. With an error it returns the tail as it was.
func (l *Log) followed(ctx context.Context, next uint64) (tail, error) {
	after, err := l.follow(l.tail, next, func(first uint64) iter.Seq2[sealed.Entry, error] {
		return l.entries.From(ctx, first)
	})
	if err != nil {
		return l.tail, err
	}
	return after, nil
}

// clearDoubt finds out whether the transaction that failed is on disk nevertheless: a disk may fail after it has
// written, and a connection break. If it is, its noted events are taken off the queue instead of being written twice.
func (l *Log) clearDoubt(ctx context.Context) error {
	if l.doubt == nil {
		return nil
	}
	next, err := l.entries.Next(ctx)
	if err != nil {
		return fmt.Errorf("find out what is on disk: %w", err)
	}
	switch size := next - 1; {
	case size == l.doubt.before.size:
	case size == l.doubt.after.size, l.shared && size > l.doubt.before.size:
		if err := l.adopt(ctx, size); err != nil {
			return err
		}
	default:
		return errForeign
	}
	l.doubt = nil
	return nil
}

// adopt treats the transaction in doubt as written if its last entry, and so the chain before it, is the one on disk.
// Otherwise the entries there are those of other processes.
func (l *Log) adopt(ctx context.Context, size uint64) error {
	written := false
	if size >= l.doubt.after.size {
		raw, err := gather(ctx, l.entries, span{l.doubt.after.size, 1})
		if err == nil && len(raw) == 0 {
			err = errMissing
		}
		if err != nil {
			return fmt.Errorf("find out what is on disk: %w", err)
		}
		written = entryHash(raw[0]) == l.doubt.after.last
	}
	if !written && !l.shared {
		return errForeign
	}
	if written {
		l.tail = l.doubt.after
		l.settle(l.doubt.noted) // the callers that waited have had their error
	}
	return nil
}

// sign writes a checkpoint of all that is on disk. The caller holds writing.
func (l *Log) sign(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			l.metrics.failed.WithLabelValues("checkpoint").Inc()
			err = fmt.Errorf("write a checkpoint: %w", err)
		}
	}()
	size, root := l.tail.size, l.tail.edge.root()
	signed, err := sign(l.signer, size, root)
	if err != nil {
		return err
	}
	data := encodeCheckpoint(signed, l.tail.edge)
	last := uint64(0) // the size of the last one that another process has signed since
	err = l.checkpoints.Extend(ctx, func(first uint64, since sealed.Since) ([][]byte, error) {
		last = 0
		if l.shared && first > 1 {
			if last, err = l.sizeOf(since(first - 1)); err != nil || last >= size {
				return nil, err
			}
		}
		return [][]byte{data}, nil
	})
	if err != nil {
		return err
	}
	if last >= size {
		l.signed = size
		return nil
	}
	// After the checkpoint, so that it never names one that does not exist. It is stored apart from the log, so that an
	// attacker who puts an older log back has to find and replace it too.
	err = l.store.Space(sealed.Operator).Update(ctx, func(tx sealed.Tx) error {
		rec, err := records.In().Get(tx, recordID)
		if err != nil || rec.Size >= size {
			return err
		}
		rec.Size, rec.Root = size, root[:]
		return records.In().Put(tx, recordID, rec)
	})
	if err != nil {
		return err
	}
	l.signed = size
	l.metrics.signed.Inc()
	return nil
}

// sizeOf returns the size of the first checkpoint that a stream yields.
func (l *Log) sizeOf(stream iter.Seq2[sealed.Entry, error]) (uint64, error) {
	for raw, err := range stream {
		if err != nil {
			return 0, brokenCheckpoint(0, err)
		}
		c, _, err := decodeCheckpoint(raw.Data, l.signer)
		return c.Size, err
	}
	return 0, errMissing
}
