// Package audit records security events in a log that proves that no entry was left out, added or changed.
//
// Rooms make events and hand them to the Recorder, whose documentation says what is on disk when it returns. Events
// become entries of a log that is sealed under the instance root key, so that it can be read while a customer's key is
// revoked. Each entry holds the hash of the one before, and a Merkle tree over all entries is signed every second
// (docs/formats/audit.md). With a signed checkpoint that is kept elsewhere, anyone can check later that the log still
// holds what it held then.
package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/visage-face/visage/sealed"
)

// How far the log may run behind, and how much is written at once.
const (
	maxBuffer = 64 << 20         // bytes of noted events that are not on disk
	maxBehind = 60 * time.Second // age of the oldest of them: after that, Note fails
	maxBatch  = 1000             // calls of Append and Note in a transaction; other writers of the store wait for it
	signEvery = 1000             // entries a checkpoint, when there are many
	signAfter = time.Second      // and the time between checkpoints, when there are few
	keepPause = time.Minute      // between two attempts to keep nodes, after one has failed
)

// ErrBehind is returned by Note when the disk does not keep up.
var ErrBehind = errors.New("the audit log is behind: recent events are not on disk yet")

// The names of the log's streams in the store.
const (
	entriesName     = "audit/entries"
	checkpointsName = "audit/checkpoints"
	nodesName       = "audit/nodes"
)

// stream is what the log asks of an append-only stream. sealed.Log has the words of the contract.
type stream interface {
	reader
	Append(ctx context.Context, fn func(first uint64) ([][]byte, error)) error
	Extend(ctx context.Context, fn func(first uint64, since sealed.Since) ([][]byte, error)) error
}

// Config is what a Log is made of.
type Config struct {
	// Store keeps the log. Only one Log may append to it at a time, or one in each of the processes that share the
	// store. Required.
	Store *sealed.Store
	// Logger gets the failures that are not returned to a caller. Default: discard.
	Logger *slog.Logger
}

// Log is the audit log of an instance, and its Recorder. It is safe for concurrent use. What it has on disk is read
// through History.
type Log struct {
	*History
	entries, checkpoints, nodes stream
	signer                      *signer
	log                         *slog.Logger
	metrics                     *metrics
	runs                        *runs
	wake                        chan struct{} // holds one: Run looks at the queue

	keeping sync.Mutex // held while nodes are kept; no other lock is taken with it
	keeper  keeper     // guarded by keeping

	// writing is a mutex: the caller whose value is in it writes entries and checkpoints. It is taken before mu.
	writing chan struct{}
	tail    tail   // guarded by writing: the end of what is on disk
	doubt   *doubt // guarded by writing: a failed transaction that may be on disk nevertheless
	signed  uint64 // guarded by writing: the size of the last checkpoint that is known here
	shared  bool   // other processes append to the log too
	duty    duty   // guarded by writing

	mu    sync.Mutex
	queue []*queued // guarded by mu: in the order of the calls
	bytes int       // guarded by mu: of those in queue that were noted
}

// tail is the end of a log: what the next entry needs to know.
type tail struct {
	size uint64 // entries
	last hash   // of the last of them
	edge edge
}

// add returns the tail with one entry more. It does not change t.
func (t tail) add(encoded []byte) tail {
	return tail{t.size + 1, entryHash(encoded), t.edge.grow(t.size, tlog.RecordHash(encoded))}
}

// queued is the events of one call, on their way to the disk together.
type queued struct {
	events []encoded
	at     time.Time
	done   chan error // nil for a noted event; else holds one
	first  uint64     // sequence number of the first event; set before done holds nil
}

// encoded is an event without its place in the log.
type encoded struct {
	kind Kind
	body []byte
}

func (q *queued) bytes() (n int) {
	for _, e := range q.events {
		n += len(e.body)
	}
	return n
}

// doubt is a transaction that ended with an error.
type doubt struct {
	before, after tail
	noted         int // noted events of it, which are still at the front of the queue
}

// Open opens the log of a store, and creates it on first use. It reads the entries after the last checkpoint and fails
// with a *BrokenError when they do not follow from it; History.Verify reads everything. It starts nothing; see Run.
func Open(ctx context.Context, cfg Config) (*Log, error) {
	if cfg.Store == nil {
		return nil, errors.New("open audit log: no store")
	}
	l, err := openOn(ctx, cfg, cfg.Store.Log(entriesName), cfg.Store.Log(checkpointsName), cfg.Store.Log(nodesName))
	if err != nil {
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	return l, nil
}

func openOn(ctx context.Context, cfg Config, entries, checkpoints, nodes stream) (*Log, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	rec, err := readRecord(ctx, cfg.Store, true)
	if err != nil {
		return nil, err
	}
	h := newHistory(cfg.Store, entries, checkpoints, nodes)
	signer, _, err := newSigner(h.origin, rec.PrivateKey)
	if err != nil {
		return nil, err
	}
	l := &Log{
		History: h, entries: entries, checkpoints: checkpoints, nodes: nodes, signer: signer, log: cfg.Logger,
		wake: make(chan struct{}, 1), writing: make(chan struct{}, 1), shared: cfg.Store.Shared(),
	}
	l.runs, l.metrics = newRuns(l.Note), newMetrics(l)
	if l.tail, l.signed, err = h.resume(ctx, signer, rec); err != nil {
		return nil, err
	}
	return l, nil
}

// Append implements Recorder. Calls that come at the same time share a transaction.
func (l *Log) Append(ctx context.Context, events ...Event) error {
	q, err := newQueued(events...)
	if err != nil {
		return err
	}
	return l.append(ctx, q)
}

// Place implements Placer.
func (l *Log) Place(ctx context.Context, e Event) (sequence uint64, err error) {
	q, err := newQueued(e)
	if err != nil {
		return 0, err
	}
	if err := l.append(ctx, q); err != nil {
		return 0, err
	}
	return q.first, nil
}

// append queues events and waits until they are on disk.
func (l *Log) append(ctx context.Context, q *queued) (err error) {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	q.done = make(chan error, 1)
	l.mu.Lock()
	l.queue = append(l.queue, q)
	l.mu.Unlock()
	select {
	case err = <-q.done: // another caller wrote it
	case l.writing <- struct{}{}:
		// The transaction goes on when this caller leaves: others wait for it too.
		l.flush(context.WithoutCancel(ctx))
		<-l.writing
		err = <-q.done
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("write audit entry %s: %w", q.kinds(), err)
	}
	return nil
}

// Note queues an event and returns at once; Run writes it. It may be called within a transaction of the store. Events
// are written in the order of the calls, those of Append among them. When the noted events that are not on disk have
// 64 MiB, or the oldest of them is 60 s old, Note fails with ErrBehind and the event is not queued.
func (l *Log) Note(ctx context.Context, e Event) error {
	q, err := newQueued(e)
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.bytes+q.bytes() > maxBuffer || l.behindLocked() > maxBehind {
		l.metrics.failed.WithLabelValues("note").Inc()
		return ErrBehind
	}
	l.queue = append(l.queue, q)
	l.bytes += q.bytes()
	l.wakeUp()
	return nil
}

// Tally implements Recorder. While the log is behind, because the disk is full for example, events are counted in
// memory and written when it has caught up.
func (l *Log) Tally(ctx context.Context, e Event) error { return l.runs.tally(ctx, e) }

// Settle writes the counts of all runs now and ends the runs: for an instance that stops and whose last entry shall
// say so.
func (l *Log) Settle(ctx context.Context) error { return l.runs.tell(ctx, time.Time{}) }

// wakeUp makes Run look at the queue.
func (l *Log) wakeUp() {
	select {
	case l.wake <- struct{}{}:
	default: // Run will look anyway
	}
}

func newQueued(events ...Event) (*queued, error) {
	q := &queued{events: make([]encoded, len(events)), at: time.Now()}
	for i, e := range events {
		e, err := e.clean()
		if err != nil {
			return nil, err
		}
		body, err := encodeBody(e)
		if err != nil {
			return nil, err
		}
		q.events[i] = encoded{e.Kind, body}
	}
	return q, nil
}

// kinds names the events, for errors.
func (q *queued) kinds() string {
	all := make([]string, len(q.events))
	for i, e := range q.events {
		all[i] = string(e.kind)
	}
	return strings.Join(slices.Compact(all), ", ")
}

// behindLocked is the age of the oldest noted event that is not on disk.
func (l *Log) behindLocked() time.Duration {
	for _, q := range l.queue {
		if q.done == nil {
			return time.Since(q.at)
		}
	}
	return 0
}

// Run writes noted events and the counts of runs, and signs checkpoints, until ctx ends; then it writes what is left,
// signs the last checkpoint and returns nil, or the error that prevented it. Failures before that are logged, counted
// and retried. It may run only once at a time. Of the processes that share a store, one signs for all.
func (l *Log) Run(ctx context.Context) error {
	defer l.resign()
	tick, counts := time.NewTicker(signAfter), time.NewTicker(runTick)
	defer tick.Stop()
	defer counts.Stop()
	var rest time.Time // nodes are not tried before: they follow from the entries, and nothing waits for them
	for failing := false; ; {
		var due bool
		select {
		case <-ctx.Done():
			ctx = context.WithoutCancel(ctx) // the store's own deadlines bound how long the last entries take
			return errors.Join(l.Settle(ctx), l.work(ctx, true))
		case now := <-counts.C:
			if err := l.runs.tell(ctx, now); err != nil && ctx.Err() == nil {
				l.log.ErrorContext(ctx, "counts of repeated events not written to the audit log yet", "err", err)
			}
			continue
		case <-tick.C:
			due = true
		case <-l.wake:
		}
		if failing && !due {
			continue // a failing disk is retried, and logged, once a second
		}
		err := l.work(ctx, due)
		if failing = err != nil; failing {
			l.log.ErrorContext(ctx, "audit log not written", "err", err)
			continue
		}
		if time.Now().Before(rest) || !l.onDuty() {
			continue
		}
		more, err := l.keepNodes(ctx)
		if err != nil && ctx.Err() == nil {
			l.log.ErrorContext(ctx, "nodes of the audit log not kept", "err", err)
			rest = time.Now().Add(keepPause)
		}
		if more {
			l.wakeUp()
		}
	}
}

// work writes the queue, and a checkpoint when one is due.
func (l *Log) work(ctx context.Context, due bool) error {
	l.writing <- struct{}{}
	defer func() { <-l.writing }()
	ctx = context.WithoutCancel(ctx)
	if err := l.flush(ctx); err != nil {
		return err
	}
	if due {
		if err := l.catchUp(ctx); err != nil {
			return err
		}
	}
	if l.tail.size == l.signed || !due && l.tail.size-l.signed < signEvery {
		return nil
	}
	if took, err := l.takeDuty(ctx); err != nil || !took {
		return err
	}
	return l.sign(ctx)
}
