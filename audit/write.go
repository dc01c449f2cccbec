package audit

import (
	"context"
	"errors"
	"fmt"

	"github.com/visage-face/visage/sealed"
)

// errForeign is a log that somebody else has appended to. It does not go away by trying again.
var errForeign = errors.New("the log holds entries that were not written here")

// flush writes the queue, in transactions of at most maxBatch entries. The caller holds writing. After an error those that wait for
// the transaction are told and are off the queue; what was noted stays on it.
func (l *Log) flush(ctx context.Context) error {
	for {
		batch, err := l.take(ctx)
		if err == nil && len(batch) == 0 {
			return nil
		}
		if err == nil {
			err = l.write(ctx, batch)
		}
		l.settle(batch, err)
		if err != nil {
			l.metrics.failed.WithLabelValues("append").Inc()
			return err
		}
	}
}

// take returns the front of the queue, without taking it off. With an error it returns all that wait.
func (l *Log) take(ctx context.Context) ([]*queued, error) {
	err := l.clearDoubt(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.queue)
	if err == nil {
		n = min(n, maxBatch)
	}
	return append([]*queued(nil), l.queue[:n]...), err
}

// settle tells those who wait for batch what became of it and takes off the queue what is done with.
func (l *Log) settle(batch []*queued, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	rest := make([]*queued, 0, len(l.queue))
	noted := 0
	for _, q := range batch {
		switch {
		case q.done != nil:
			q.done <- err
		case err != nil:
			rest = append(rest, q)
			noted++
		default:
			l.bytes -= len(q.body)
		}
		if err == nil {
			l.metrics.written.WithLabelValues(string(q.kind)).Inc()
		}
	}
	l.queue = append(rest, l.queue[len(batch):]...)
	if l.doubt != nil {
		l.doubt.noted = noted
	}
}

// write appends one transaction.
func (l *Log) write(ctx context.Context, batch []*queued) error {
	after := l.tail
	data := make([][]byte, len(batch))
	for i, q := range batch {
		data[i] = place(after.size+1, after.last, q.body)
		after = after.add(data[i])
	}
	err := l.entries.Append(ctx, func(first uint64) ([][]byte, error) {
		if first != l.tail.size+1 {
			return nil, errForeign
		}
		return data, nil
	})
	if err != nil {
		l.doubt = &doubt{after: after}
		return err
	}
	l.tail = after
	l.metrics.batch.Observe(float64(len(batch)))
	return nil
}

// clearDoubt finds out whether the transaction that failed is on disk nevertheless: a disk may fail after it has written. Then what
// was noted in it is done with, rather than written twice.
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

// adopt takes the transaction in doubt for written, when its last entry, and so the chain before it, is the one on disk.
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
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, q := range l.queue[:l.doubt.noted] {
		l.bytes -= len(q.body)
		l.metrics.written.WithLabelValues(string(q.kind)).Inc()
	}
	l.queue = l.queue[l.doubt.noted:]
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
	// After the checkpoint, so that it never speaks of one that is not there. It is in another place than the log: whoever puts an
	// older log back has to know of it too.
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
