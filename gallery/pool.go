package gallery

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"
)

// ErrTooLarge says that a gallery alone needs more memory than the pool's budget.
var ErrTooLarge = errors.New("the gallery exceeds the memory budget")

// ErrBusy says that the budget is taken by galleries that are being loaded now. Trying again later helps.
var ErrBusy = errors.New("the memory budget is taken by galleries that are loading")

// mostGalleries bounds how many galleries a pool holds, however small. Each has pages of its own, and a process may
// have 65,530 mappings on Linux unless the operator allows more.
const mostGalleries = 10_000

// Key names a gallery in a pool.
type Key struct {
	Scope   string // what the vectors belong to; changes reach all versions of a scope
	Version uint64 // which of its states is loaded
}

// Pool keeps galleries in memory, within a budget: it loads them on demand, once for all who wait, and drops the one
// least recently used when another needs the memory. It is safe for concurrent use.
//
// A gallery that is dropped to make room while a search uses it no longer counts towards the budget, but keeps its
// memory until the search ends. Until then the pool may hold more than its budget.
type Pool struct {
	budget int64
	wg     sync.WaitGroup // the loads

	mu      sync.Mutex // never held while waiting, loading, searching or changing
	closed  bool
	entries map[Key]*entry
	recent  *list.List // of *entry, loaded ones only, the most recently used first
	bytes   int64
	stats   Stats
}

// Stats counts what a pool did since it was made, and what it holds now.
type Stats struct {
	Galleries               int   // loaded now
	Bytes                   int64 // of loaded and loading galleries
	Hits, Loads, Evictions  uint64
	FailedLoads, LeaseDrops uint64
}

// entry is a gallery with its state in the pool. Its fields are guarded by the pool's mu, except for g.
type entry struct {
	key     Key
	g       *Gallery
	cancel  context.CancelCauseFunc // of the load
	loaded  chan struct{}           // closed when the load has ended, one way or the other
	err     error                   // how the load ended; final once loaded is closed
	ready   bool                    // loaded without an error
	pending []func(*Gallery) error  // changes that came during the load
	users   int                     // callers that wait for it or use it
	bytes   int64
	gone    bool          // not in the pool any more
	place   *list.Element // in recent; nil until ready
	unwatch func() bool   // stops watching the lease
}

// NewPool makes a pool that holds at most budget bytes of galleries.
func NewPool(budget int64) (*Pool, error) {
	if budget < 1 {
		return nil, fmt.Errorf("the memory budget for galleries must be positive; got %d bytes", budget)
	}
	return &Pool{budget: budget, entries: make(map[Key]*entry), recent: list.New()}, nil
}

// Source says how to load a gallery.
type Source struct {
	Lease context.Context // the gallery lives no longer than this context
	Dim   int             // the length of the vectors
	// Load fills the gallery. Its context ends with the lease, when nobody waits any more, and when the gallery is
	// dropped meanwhile.
	Load func(ctx context.Context, g *Gallery) error
}

// Use calls use with the gallery of key, and loads it first when it is not in memory. The gallery must not be used
// after use has returned. Errors: the cause of ctx or of the lease when one of them ends; the error of the load, the
// same for all that waited for it; one that wraps ErrTooLarge or ErrBusy when there is no memory; ErrDropped when the
// gallery was dropped meanwhile; what use returns.
func (p *Pool) Use(ctx context.Context, key Key, src Source, use func(*Gallery) error) error {
	e, err := p.enter(key, src)
	if err != nil {
		return err
	}
	defer p.leave(e)
	select {
	case <-e.loaded:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if e.err != nil {
		return e.err
	}
	return use(e.g)
}

// enter finds or makes the entry of a key and counts the caller among its users.
func (p *Pool) enter(key Key, src Source) (*entry, error) {
	if src.Lease.Err() != nil {
		return nil, context.Cause(src.Lease)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, ErrDropped
	}
	if e := p.entries[key]; e != nil {
		e.users++
		if e.ready {
			p.stats.Hits++
			p.recent.MoveToFront(e.place)
		}
		return e, nil
	}
	g, err := New(src.Dim)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(src.Lease)
	e := &entry{key: key, g: g, cancel: cancel, loaded: make(chan struct{}), users: 1}
	g.reserve = func(bytes int64) error { return p.reserve(e, bytes) }
	e.unwatch = context.AfterFunc(src.Lease, func() { p.end(e, context.Cause(src.Lease)) })
	p.entries[key] = e
	p.stats.Loads++
	p.wg.Go(func() { p.load(ctx, e, src.Load) })
	return e, nil
}

// leave removes a user. A load without users is stopped.
func (p *Pool) leave(e *entry) {
	p.mu.Lock()
	e.users--
	if e.users == 0 && !e.ready && !e.gone {
		p.unlinkLocked(e)
		e.cancel(context.Canceled)
	}
	clearIt := e.gone && e.users == 0
	p.mu.Unlock()
	if clearIt {
		e.g.close(ErrDropped)
	}
}

// load runs a load, then makes its gallery ready or publishes its error.
func (p *Pool) load(ctx context.Context, e *entry, fill func(context.Context, *Gallery) error) {
	err := fill(ctx, e.g)
	if err == nil {
		err = p.catchUp(e)
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause // the cause replaces the error of the load
	}
	p.mu.Lock()
	e.cancel(nil)
	if err == nil && e.gone {
		err = ErrDropped
	}
	e.err = err
	if err != nil {
		p.stats.FailedLoads++
		p.unlinkLocked(e)
	}
	clearIt := e.gone && e.users == 0
	close(e.loaded)
	p.mu.Unlock()
	if err != nil || clearIt {
		e.g.close(ErrDropped)
	}
}

// catchUp applies the changes that arrived during the load, until none is left, and makes the gallery ready.
func (p *Pool) catchUp(e *entry) error {
	for {
		p.mu.Lock()
		changes := e.pending
		e.pending = nil
		if len(changes) == 0 {
			var evicted []*entry
			if !e.gone {
				e.ready = true
				e.place = p.recent.PushFront(e)
				if p.recent.Len() > mostGalleries {
					evicted = p.evictLocked(evicted, p.recent.Back().Value.(*entry))
				}
			}
			p.mu.Unlock()
			closeAll(evicted)
			return nil
		}
		p.mu.Unlock()
		for _, change := range changes {
			if err := change(e.g); err != nil {
				return err
			}
		}
	}
}

// Change applies a change to every version of a scope that is in memory, and to those being loaded before they are
// used. Call it after the change is stored: a load that begins later reads it. A gallery whose change fails is dropped,
// and loaded again when it is next asked for.
func (p *Pool) Change(scope string, change func(*Gallery) error) {
	p.mu.Lock()
	var ready []*entry
	for key, e := range p.entries {
		switch {
		case key.Scope != scope:
		case e.ready:
			e.users++
			ready = append(ready, e)
		default:
			e.pending = append(e.pending, change)
		}
	}
	p.mu.Unlock()
	for _, e := range ready {
		if err := change(e.g); err != nil {
			p.end(e, ErrDropped)
		}
		p.leave(e)
	}
}

// Drop drops the galleries of a scope from memory, except for the version keep; with keep nil, all of them. Loads and
// searches under way are stopped with ErrDropped.
func (p *Pool) Drop(scope string, keep *uint64) {
	p.mu.Lock()
	var dropped []*entry
	for key, e := range p.entries {
		if key.Scope == scope && (keep == nil || key.Version != *keep) {
			dropped = append(dropped, e)
		}
	}
	p.mu.Unlock()
	for _, e := range dropped {
		p.end(e, ErrDropped)
	}
}

// end takes a gallery out of the pool, stops its load and its searches, and clears it when the last user has left.
func (p *Pool) end(e *entry, cause error) {
	p.mu.Lock()
	if e.gone {
		p.mu.Unlock()
		return
	}
	if cause != ErrDropped {
		p.stats.LeaseDrops++
	}
	p.unlinkLocked(e)
	e.cancel(cause)
	e.g.drop(cause)
	clearIt := e.ready && e.users == 0
	p.mu.Unlock()
	if clearIt {
		e.g.close(cause)
	}
}

// unlinkLocked removes an entry from the pool's maps and counts.
func (p *Pool) unlinkLocked(e *entry) {
	if e.gone {
		return
	}
	e.gone = true
	e.unwatch()
	delete(p.entries, e.key)
	if e.place != nil {
		p.recent.Remove(e.place)
	}
	p.bytes -= e.bytes
	e.bytes = 0
}

// reserve counts memory for an entry, and drops others to make room, the least recently used first. It must not wait.
func (p *Pool) reserve(e *entry, bytes int64) error {
	p.mu.Lock()
	if e.gone {
		p.mu.Unlock()
		if bytes > 0 {
			return ErrDropped
		}
		return nil
	}
	if e.bytes+bytes > p.budget {
		p.mu.Unlock()
		why := fmt.Errorf("%w: it needs more than the %d bytes that all galleries together may use", ErrTooLarge,
			p.budget)
		if n := e.g.want.Load(); n > 0 {
			why = fmt.Errorf("%w: %d bytes for %d vectors", why, e.g.needs(), n)
		}
		return why
	}
	var evicted []*entry
	victim := p.recent.Back()
	for p.bytes+bytes > p.budget && victim != nil {
		v := victim.Value.(*entry)
		victim = victim.Prev()
		if v == e {
			continue
		}
		evicted = p.evictLocked(evicted, v)
	}
	var err error
	if p.bytes+bytes > p.budget {
		err = fmt.Errorf("%w: %d of %d bytes", ErrBusy, p.bytes, p.budget)
	} else {
		p.bytes += bytes
		e.bytes += bytes
	}
	p.mu.Unlock()
	closeAll(evicted)
	return err
}

// evictLocked removes a gallery from the pool to free its memory, and adds it to those that are cleared after mu is
// released. If the gallery is in use, its last user clears it.
func (p *Pool) evictLocked(evicted []*entry, v *entry) []*entry {
	p.unlinkLocked(v)
	p.stats.Evictions++
	if v.users == 0 {
		evicted = append(evicted, v)
	}
	return evicted
}

func closeAll(evicted []*entry) {
	for _, v := range evicted {
		v.g.close(ErrDropped)
	}
}

// Stats returns the counts.
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stats
	s.Galleries, s.Bytes = p.recent.Len(), p.bytes
	return s
}

// Bytes returns the memory of the loaded and loading galleries of each scope that has any.
func (p *Pool) Bytes() map[string]int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	bytes := map[string]int64{}
	for key, e := range p.entries {
		bytes[key.Scope] += e.bytes
	}
	return bytes
}

// Progress is how far a load has come.
type Progress struct {
	Key      Key
	Loaded   int // vectors
	Expected int // of so many, as far as the load knows
}

// Loading returns the loads under way, in no particular order.
func (p *Pool) Loading() []Progress {
	p.mu.Lock()
	var entries []*entry
	for _, e := range p.entries {
		if !e.ready {
			entries = append(entries, e)
		}
	}
	p.mu.Unlock()
	all := make([]Progress, len(entries))
	for i, e := range entries {
		all[i] = Progress{Key: e.key, Loaded: e.g.Len(), Expected: int(e.g.want.Load())}
	}
	return all
}

// Close drops every gallery and waits for the loads to end. Use fails afterwards.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	all := make([]*entry, 0, len(p.entries))
	for _, e := range p.entries {
		all = append(all, e)
	}
	p.mu.Unlock()
	for _, e := range all {
		p.end(e, ErrDropped)
	}
	p.wg.Wait()
}
