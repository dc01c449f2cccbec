package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/visage-face/visage/sealed"
)

// errForeign says that something else has appended to the log. Retrying does not help.
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
	after := l.tail
	var data [][]byte
	for _, q := range batch {
		q.first = after.size + 1
		for _, e := range q.events {
			entry := place(after.size+1, after.last, e.body)
			data, after = append(data, entry), after.add(entry)
		}
	}
	err := l.entries.Append(ctx, func(first uint64) ([][]byte, error) {
		if first != l.tail.size+1 {
			return nil, errForeign
		}
		return data, nil
	})
	if err != nil {
		l.doubt = &doubt{after: after}
		for _, q := range batch {
			if q.done == nil {
				l.doubt.noted++
			}
		}
		return err
	}
	l.tail = after
	l.metrics.batch.Observe(float64(len(data)))
	return nil
}

// clearDoubt finds out whether the transaction that failed is on disk nevertheless: a disk may fail after it has
// written. If it is, its noted events are taken off the queue instead of being written twice.
func (l *Log) clearDoubt(ctx context.Context) error {
	if l.doubt == nil {
		return nil
	}
	next, err := l.entries.Next(ctx)
	if err != nil {
		return fmt.Errorf("find out what is on disk: %w", err)
	}
	switch next - 1 {
	case l.tail.size:
	case l.doubt.after.size:
		if err := l.adopt(ctx); err != nil {
			return err
		}
	default:
		return errForeign
	}
	l.doubt = nil
	return nil
}

// adopt treats the transaction in doubt as written if its last entry, and so the chain before it, is the one on disk.
func (l *Log) adopt(ctx context.Context) error {
	for e, err := range l.entries.From(ctx, l.doubt.after.size) {
		if err != nil {
			return fmt.Errorf("find out what is on disk: %w", err)
		}
		if entryHash(e.Data) != l.doubt.after.last {
			return errForeign
		}
	}
	l.tail = l.doubt.after
	l.settle(l.doubt.noted) // the callers that waited have had their error
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
	if err := l.checkpoints.Append(ctx, func(uint64) ([][]byte, error) { return [][]byte{data}, nil }); err != nil {
		return err
	}
	// After the checkpoint, so that it never names one that does not exist. It is stored apart from the log, so that an
	// attacker who puts an older log back has to find and replace it too.
	err = l.store.Space(sealed.Operator).Update(ctx, func(tx sealed.Tx) error {
		rec, err := records.In().Get(tx, recordID)
		if err != nil {
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
