// Package follow keeps what several processes hold in memory of the store that they share in step with it.
//
// A Value is held of a set of records, with the version that these have in the store. Every transaction that changes
// the records raises their version; every process looks at the version four times a second, and when something that is
// asked for is missing. In a store that is not shared, none of this costs more than one small record a change.
package follow

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/sealed/internal/moment"
)

const (
	// Every is the time between two looks at the version: how long a change in one process may be unknown to another.
	Every = 250 * time.Millisecond
	// stale is when a value is looked at before it is used: Run has not come to it, because the process was stopped.
	stale = 4 * Every
	// missed is the shortest time between two looks because something was missing: what is missing may be asked for
	// without end, by anybody.
	missed = 10 * time.Millisecond
	// lookTime is the longest time that a look of a caller without a context takes.
	lookTime = 2 * time.Second
)

// version is how often a set of records was changed.
type version struct{ N []byte } // 8 bytes, big-endian: every version has the same length on disk

var versions = sealed.NewTable[version]("follow/version", 1)

// errBehind is for transactions: the value is older than what they see.
var errBehind = errors.New("the records were changed by another process")

// Config is what a Value is made of.
type Config[T any] struct {
	// Store has the records in its operator's space. Required.
	Store *sealed.Store
	// Name names the set of records in the store, for ever. Required.
	Name string
	// Read reads the records. It may run more than once. Required.
	Read func(sealed.Reader) (T, error)
	// Swapped is called after a value was replaced, with the values in their order and one at a time. Optional.
	Swapped func(T)
	// Logger gets the failures that are not returned to a caller. Default: discard.
	Logger *slog.Logger
}

// Value is what a process holds in memory of a set of records. It is safe for concurrent use.
type Value[T any] struct {
	cfg    Config[T]
	space  *sealed.Space
	shared bool
	now    atomic.Pointer[held[T]]       // nil: not loaded yet
	looked atomic.Pointer[moment.Moment] // when the last look began that succeeded

	// looking is a mutex: the caller whose value is in it looks, because something is missing or the value is stale
	looking chan struct{}
	last    time.Time // guarded by looking: when the last of these looks began

	checks   sync.Mutex
	checking *check // guarded by checks: the look that callers of Current share; nil: none is under way

	swapping sync.Mutex // held while a value is replaced
}

// check is a look under way.
type check struct {
	done chan struct{} // closed when it has ended
	err  error         // set before
}

// held is a value with its version.
type held[T any] struct {
	value   T
	version uint64
}

// New makes a Value, which holds nothing before Load.
func New[T any](cfg Config[T]) *Value[T] {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Value[T]{cfg: cfg, space: cfg.Store.Space(sealed.Operator), shared: cfg.Store.Shared(),
		looking: make(chan struct{}, 1)}
}

// Now returns the value. If the process has not looked at its version for a second, Now does so first: a process that
// was stopped for a while does not answer from what it knew then. Current says what happens when it cannot look.
func (v *Value[T]) Now() T {
	if v.shared && v.isStale() {
		v.lookBeforeUse()
	}
	return v.now.Load().value
}

// Current makes sure that the value is not older than a second: it compares an older one with the store, as long as
// ctx and the engine's patience last. Without Current, Now answers from what is known when the store cannot be asked;
// what lets anybody in is asked for behind Current alone. Error: why the store cannot be asked, mostly a visage.Outage.
func (v *Value[T]) Current(ctx context.Context) error {
	for v.shared && v.isStale() {
		v.checks.Lock()
		c, first := v.checking, v.checking == nil
		if first {
			c = &check{done: make(chan struct{})}
			v.checking = c
		}
		v.checks.Unlock()
		if first {
			err := v.checkOnce(ctx, c)
			if err != nil {
				return err
			}
			continue
		}
		select {
		case <-c.done:
			if c.err != nil {
				return c.err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// checkOnce looks for all who wait for c. That its own caller goes away is nothing to the others: they look again.
func (v *Value[T]) checkOnce(ctx context.Context, c *check) (err error) {
	defer func() {
		if ctx.Err() == nil {
			c.err = err
		}
		v.checks.Lock()
		v.checking = nil
		v.checks.Unlock()
		close(c.done)
	}()
	_, err = v.look(ctx)
	return err
}

func (v *Value[T]) isStale() bool {
	looked := v.looked.Load()
	return looked == nil || looked.Age() >= stale
}

func (v *Value[T]) lookBeforeUse() {
	ctx, cancel := context.WithTimeout(context.Background(), lookTime)
	defer cancel()
	v.lookOnce(ctx, v.isStale)
}

// lookOnce looks at the version while no other caller does, if that is needed still when it is this one's turn.
func (v *Value[T]) lookOnce(ctx context.Context, needed func() bool) {
	select {
	case v.looking <- struct{}{}:
		defer func() { <-v.looking }()
	case <-ctx.Done():
		return
	}
	if !needed() {
		return
	}
	if rest := missed - time.Since(v.last); rest > 0 {
		timer := time.NewTimer(rest)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
	}
	v.last = time.Now()
	if _, err := v.look(ctx); err != nil && ctx.Err() == nil { // what is done with the value needs the store too
		v.cfg.Logger.WarnContext(ctx, "records not compared with the store", "records", v.cfg.Name, "err", err)
	}
}

// Load reads the records and holds them, unless newer ones are held by then.
func (v *Value[T]) Load(ctx context.Context) error {
	var h held[T]
	begun := moment.Now()
	err := v.space.View(ctx, func(r sealed.Reader) (err error) {
		if h.version, err = v.version(r); err == nil {
			h.value, err = v.cfg.Read(r)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("read %s: %w", v.cfg.Name, err)
	}
	v.swap(h)
	v.lookedAt(begun)
	return nil
}

// lookedAt notes when a look began that has shown that the value held is that of the store.
func (v *Value[T]) lookedAt(begun moment.Moment) {
	for {
		last := v.looked.Load()
		if last != nil && !begun.After(*last) || v.looked.CompareAndSwap(last, &begun) {
			return
		}
	}
}

func (v *Value[T]) swap(h held[T]) {
	v.swapping.Lock()
	defer v.swapping.Unlock()
	if now := v.now.Load(); now != nil && now.version > h.version {
		return
	}
	v.now.Store(&h)
	if v.cfg.Swapped != nil {
		v.cfg.Swapped(h.value)
	}
}

// Missed is to be called before something is refused that is missing in the value, because another process may have
// made it: Missed compares the value with the store, and reports whether it was replaced, so that it is worth looking
// again. All callers together cause a hundred reads of one record a second at most, whatever they ask for; a caller
// waits for its turn, 10 ms, and not longer than ctx.
func (v *Value[T]) Missed(ctx context.Context) bool {
	if !v.shared {
		return false
	}
	came, before := time.Now(), v.now.Load().version
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	v.lookOnce(ctx, func() bool { return !v.last.After(came) })
	return v.now.Load().version != before
}

// Look compares the value with the store at once, and reports whether it was replaced. It is for callers that were
// authenticated; Missed is for all others.
func (v *Value[T]) Look(ctx context.Context) (changed bool, err error) {
	if !v.shared {
		return false, nil
	}
	return v.look(ctx)
}

// look reads the version, and the records when it has changed.
func (v *Value[T]) look(ctx context.Context) (changed bool, err error) {
	var stored uint64
	begun := moment.Now()
	err = v.space.View(ctx, func(r sealed.Reader) (err error) {
		stored, err = v.version(r)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("read the version of %s: %w", v.cfg.Name, err)
	}
	if v.now.Load().version == stored {
		v.lookedAt(begun)
		return false, nil
	}
	return true, v.Load(ctx)
}

// Update runs fn as a transaction that changes the records, with their value as the transaction sees it, raises their
// version, and holds the new value when it returns nil. fn may run more than once. A caller that goes away does not
// keep a change that is stored from taking effect.
func (v *Value[T]) Update(ctx context.Context, fn func(tx sealed.Tx, now T) error) error {
	for {
		h := v.now.Load()
		err := v.space.Update(ctx, func(tx sealed.Tx) error {
			begun := moment.Now()
			if err := v.check(tx, h.version); err != nil {
				return err
			}
			v.lookedAt(begun) // so that Now does not look within fn
			if err := fn(tx, h.value); err != nil {
				return err
			}
			return v.Raise(tx)
		})
		if errors.Is(err, errBehind) {
			if err := v.Load(ctx); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		return v.Load(context.WithoutCancel(ctx))
	}
}

func (v *Value[T]) check(r sealed.Reader, want uint64) error {
	stored, err := v.version(r)
	if err == nil && stored != want {
		err = errBehind
	}
	return err
}

// Raise raises the version of the records, in the transaction that changes them. What Update does needs no Raise.
func (v *Value[T]) Raise(tx sealed.Tx) error {
	stored, err := v.version(tx)
	if err != nil {
		return err
	}
	return versions.In().Put(tx, v.cfg.Name, version{binary.BigEndian.AppendUint64(nil, stored+1)})
}

func (v *Value[T]) version(r sealed.Reader) (uint64, error) {
	stored, err := versions.In().Get(r, v.cfg.Name)
	if errors.Is(err, sealed.ErrNotFound) {
		return 0, nil
	}
	if err == nil && len(stored.N) != 8 {
		err = fmt.Errorf("the version of %s has %d bytes", v.cfg.Name, len(stored.N))
	}
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(stored.N), nil
}

// Looker is a Value of any type, for Run.
type Looker interface {
	Current(ctx context.Context) error
	follow(ctx context.Context) error
	isShared() bool
}

// Current is Value.Current of several values.
func Current(ctx context.Context, values ...Looker) error {
	for _, v := range values {
		if err := v.Current(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (v *Value[T]) isShared() bool { return v.shared }

func (v *Value[T]) follow(ctx context.Context) error {
	_, err := v.look(ctx)
	return err
}

// Run looks at the versions of values until ctx ends. Failures are logged, the first of a row, and tried again.
func Run(ctx context.Context, log *slog.Logger, values ...Looker) {
	if len(values) == 0 || !values[0].isShared() {
		<-ctx.Done()
		return
	}
	tick := time.NewTicker(Every)
	defer tick.Stop()
	for failing := false; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var failures []error
		for _, v := range values {
			failures = append(failures, v.follow(ctx))
		}
		err := errors.Join(failures...)
		if err != nil && !failing && ctx.Err() == nil {
			log.ErrorContext(ctx, "changes of other processes not seen", "err", err)
		}
		failing = err != nil
	}
}
