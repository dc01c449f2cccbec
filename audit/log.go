// Package audit keeps what happened, so that it can be shown afterwards that nothing was left out, added or changed.
//
// Events become entries of a log that is sealed under the instance root: it can be read while a customer's key is gone.
// Each entry holds the hash of the one before, and a Merkle tree over all of them is signed every second, as
// docs/formats/audit.md says. Whoever keeps a signed checkpoint elsewhere can prove later that the log still holds what
// it held then.
package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/visage-face/visage/sealed"
)

// How far the log may run behind, and how much is written at once.
const (
	// bytes of noted events that are not on disk: what the end of a full disk needs to be told
	maxBuffer = 64 << 20
	maxBehind = 60 * time.Second // age of the oldest of them: after that, data operations fail too
	maxBatch  = 1000             // entries a transaction; other writers of the store wait for it
	signEvery = 1000             // entries a checkpoint, when there are many
	signAfter = time.Second      // and the time between checkpoints, when there are few
	keepPause = time.Minute      // between two attempts to keep nodes, after one has failed
)

// ErrBehind is returned by Note when the disk does not keep up: what is not audited is not done.
var ErrBehind = errors.New("the audit log is behind: what happened lately is not on disk")

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
}

// Config is what a Log is made of.
type Config struct {
	// Store keeps the log. Nobody else may append to it: a store has one Log at a time. Required.
	Store *sealed.Store
	// Logger gets what no caller is told. Default: discard.
	Logger *slog.Logger
}

// Log is the audit log of an instance. It is safe for concurrent use. What it has on disk is read through History.
type Log struct {
	*History
	entries, checkpoints, nodes stream
	signer                      *signer
	log                         *slog.Logger
	metrics                     *metrics
	wake                        chan struct{} // holds one: Run shall look at the queue

	keeping sync.Mutex // held while nodes are kept; no other lock is taken with it
	keeper  keeper     // guarded by keeping

	// writing is held, by whoever has put something into it, while entries and checkpoints are written. It is taken
	// before mu.
	writing chan struct{}
	tail    tail   // guarded by writing: the end of what is on disk
	doubt   *doubt // guarded by writing: a transaction of which it is not known whether it is on disk
	signed  uint64 // guarded by writing: the size of the last checkpoint

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

// queued is an event on its way to the disk.
type queued struct {
	body []byte
	kind Kind
	at   time.Time
	done chan error // nil for noted events; else holds one
}

// doubt is a transaction that ended with an error.
type doubt struct {
	after tail
	noted int // events of it that are still at the front of the queue
}

// Open opens the log of a store, and makes it on the first use. It reads what is behind the last checkpoint and fails
// with a *BrokenError when that does not fit together; History.Verify looks at everything. It starts nothing; see Run.
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
		wake: make(chan struct{}, 1), writing: make(chan struct{}, 1),
	}
	l.metrics = newMetrics(l)
	if l.tail, l.signed, err = h.resume(ctx, signer, rec); err != nil {
		return nil, err
	}
	return l, nil
}

// Append writes an event and returns when its entry is on disk. Calls that come at the same time share a transaction.
// When it fails, the operation must: it is for uses of keys and changes of who may use them. An error leaves open
// whether the entry was written, save that of a ctx that had ended before. An event that is not one, by its kind or its
// details, is an error and a mistake of the caller. It must not be called within a transaction of the store, for which
// it would wait; Note may.
func (l *Log) Append(ctx context.Context, e Event) error {
	q, err := newQueued(e)
	if err != nil {
		return err
	}
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
		// What is on its way to the disk gets there, whoever leaves meanwhile: others wait for the same transaction.
		l.flush(context.WithoutCancel(ctx))
		<-l.writing
		err = <-q.done
	case <-ctx.Done():
		return fmt.Errorf("write audit entry %s: %w", e.Kind, context.Cause(ctx))
	}
	if err != nil {
		return fmt.Errorf("write audit entry %s: %w", e.Kind, err)
	}
	return nil
}

// Note takes an event of a data operation and returns at once; Run writes it. Events are written in the order of the
// calls, those of Append among them. When what was noted and is not on disk has 64 MiB, or is 60 s old, Note fails with
// ErrBehind and takes nothing, and the operation must fail.
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
	if l.bytes+len(q.body) > maxBuffer || l.behindLocked() > maxBehind {
		l.metrics.failed.WithLabelValues("note").Inc()
		return ErrBehind
	}
	l.queue = append(l.queue, q)
	l.bytes += len(q.body)
	l.wakeUp()
	return nil
}

// wakeUp has Run look at what there is to do.
func (l *Log) wakeUp() {
	select {
	case l.wake <- struct{}{}:
	default: // it will look anyway
	}
}

func newQueued(e Event) (*queued, error) {
	e, err := e.clean()
	if err != nil {
		return nil, err
	}
	body, err := encodeBody(e)
	if err != nil {
		return nil, err
	}
	return &queued{body: body, kind: e.Kind, at: time.Now()}, nil
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

// Run writes what was noted and signs checkpoints until ctx ends; then it writes what is left, signs the last one and
// returns nil, or what kept it from that. What fails before is logged, counted and tried again. It runs once at a time.
func (l *Log) Run(ctx context.Context) error {
	tick := time.NewTicker(signAfter)
	defer tick.Stop()
	var rest time.Time // nodes are not tried before: they follow from the entries, and nothing waits for them
	for failing := false; ; {
		var due bool
		select {
		case <-ctx.Done():
			// The last of it must be on disk; the store's own deadlines bound how long that takes.
			return l.work(context.WithoutCancel(ctx), true)
		case <-tick.C:
			due = true
		case <-l.wake:
		}
		if failing && !due {
			continue // a disk that fails is tried, and told of, once a second
		}
		err := l.work(ctx, due)
		if failing = err != nil; failing {
			l.log.ErrorContext(ctx, "audit log not written", "err", err)
			continue
		}
		if time.Now().Before(rest) {
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
	if err := l.flush(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	if l.tail.size == l.signed || !due && l.tail.size-l.signed < signEvery {
		return nil
	}
	return l.sign(context.WithoutCancel(ctx))
}
