package gallery

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
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
	Scope   string // what the vectors belong to; its changes concern all versions
	Version uint64 // which of its states is loaded
	Part    Part   // which of its vectors; the zero value: all
}

// Part is one of several parts into which vectors are divided. Which vectors are in it is decided by who loads them.
type Part struct {
	Index, Count int // part Index, from 0, of Count
}

// Pool keeps galleries in memory, within a budget: it loads them on demand, once for all who wait, and drops the one
// least recently used when another needs the memory. It is safe for concurrent use.
//
// A gallery that is dropped to make room while a search uses it no longer counts towards the budget, but keeps its
// memory until the search ends. Until then the pool may hold more than its budget.
//
// What a gallery was loaded from may change, also by others. Changes of a scope are numbered, and a gallery has the
// number of the last one that it holds: Use brings it up to the number that the search needs before it is searched.
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
	src     Source                  // of the caller that had it loaded
	turn    chan struct{}           // holds one value while nobody changes the gallery after its load
	at      atomic.Uint64           // the last change that it holds; raised by the holder of turn
	wanted  uint64                  // the last change that came during the load
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

// Source says how to load a gallery, and how to bring one up to date.
type Source struct {
	Lease context.Context // the gallery lives no longer than this context
	Dim   int             // the length of the vectors
	At    uint64          // the number of the last change that a search has to see
	// Load fills the gallery and returns the number of the last change that it holds. Its context ends with the lease,
	// when nobody waits any more, and when the gallery is dropped meanwhile.
	Load func(ctx context.Context, g *Gallery) (at uint64, err error)
	// Follow applies the changes after a number, all or none, and returns the number of the last one. Calls for one
	// gallery do not overlap. An error that wraps ErrDropped says that the gallery has to be loaded again. Not needed
	// where nothing changes.
	Follow func(ctx context.Context, g *Gallery, after uint64) (at uint64, err error)
	// Keep lets a load go on when nobody waits for it any more: others have an answer by then, and will ask here again.
	Keep bool
}

// loads is how often Use loads a gallery that cannot be brought up to date.
const loads = 3

// Use calls use with the gallery of key, up to date to src.At, and loads it first when it is not in memory. The gallery
// must not be used after use has returned. Errors: the cause of ctx or of the lease when one of them ends; the error of
// the load, the same for all that waited for it; that of src.Follow; one that wraps ErrTooLarge or ErrBusy when there
// is no memory; ErrDropped when the gallery was dropped meanwhile; what use returns.
func (p *Pool) Use(ctx context.Context, key Key, src Source, use func(*Gallery) error) error {
	for range loads {
		e, err := p.enter(key, src)
		if err != nil {
			return err
		}
		behind, err := p.useEntry(ctx, e, src, use) // with an error in both cases
		if !behind {
			return err
		}
	}
	return ErrDropped
}

// useEntry waits for a gallery and uses it. It reports whether the gallery could not be brought up to date, and was
// dropped.
func (p *Pool) useEntry(ctx context.Context, e *entry, src Source, use func(*Gallery) error) (behind bool, err error) {
	defer p.leave(e)
	select {
	case <-e.loaded:
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	if e.err != nil {
		return false, e.err
	}
	if e.at.Load() < src.At {
		if err := p.follow(ctx, e, src, src.At); err != nil {
			return errors.Is(err, errBehind), err
		}
		if at := e.at.Load(); at < src.At {
			return false, fmt.Errorf("%w: it was to see change %d, and the last is %d", ErrDropped, src.At, at)
		}
	}
	return false, use(e.g)
}

// errBehind says that a gallery could not be brought up to date, and has been dropped.
var errBehind = fmt.Errorf("%w: it cannot follow", ErrDropped)

// follow brings a loaded gallery up to date, at least to a number. A gallery that cannot follow is dropped, with
// errBehind, before anybody else may change it: it may have a part of the changes.
func (p *Pool) follow(ctx context.Context, e *entry, src Source, to uint64) error {
	select {
	case <-e.turn:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { e.turn <- struct{}{} }()
	at := e.at.Load()
	if at >= to {
		return nil
	}
	if cause := context.Cause(e.g.ctx); cause != nil {
		return cause
	}
	now, err := src.Follow(ctx, e.g, at)
	if cause := context.Cause(e.g.ctx); cause != nil {
		return cause // somebody else has dropped it
	}
	if errors.Is(err, ErrDropped) {
		p.end(e, ErrDropped)
		return errBehind
	}
	if err != nil {
		return err
	}
	e.at.Store(max(at, now))
	return nil
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
	e := &entry{
		key: key, g: g, cancel: cancel, loaded: make(chan struct{}), src: src, turn: make(chan struct{}, 1), users: 1,
	}
	e.turn <- struct{}{}
	g.reserve = func(bytes int64) error { return p.reserve(e, bytes) }
	e.unwatch = context.AfterFunc(src.Lease, func() { p.end(e, context.Cause(src.Lease)) })
	p.entries[key] = e
	p.stats.Loads++
	p.wg.Go(func() { p.load(ctx, e) })
	return e, nil
}

// leave removes a user. A load without users is stopped, unless its Source keeps it.
func (p *Pool) leave(e *entry) {
	p.mu.Lock()
	e.users--
	if e.users == 0 && !e.ready && !e.gone && !e.src.Keep {
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
func (p *Pool) load(ctx context.Context, e *entry) {
	at, err := e.src.Load(ctx, e.g)
	if err == nil {
		err = p.catchUp(ctx, e, at)
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

// catchUp follows the changes that arrived during the load, until none is left, and makes the gallery ready.
func (p *Pool) catchUp(ctx context.Context, e *entry, at uint64) error {
	for {
		e.at.Store(at)
		p.mu.Lock()
		if e.wanted <= at {
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
		now, err := e.src.Follow(ctx, e.g, at)
		if err == nil && now <= at {
			err = fmt.Errorf("%w: changes after %d cannot be read", ErrDropped, at)
		}
		if err != nil {
			return err
		}
		at = now
	}
}

// Apply brings the galleries of a scope up to date with stored changes, so that what was deleted does not stay in
// memory until the next search: those after one number, up to and including another. change is called for galleries
// that hold all changes before, with their version, and reports whether it has applied these; otherwise they are left
// to the next search. Galleries that lack earlier changes follow by their Source, also those that are being loaded. One
// for which this fails is dropped.
func (p *Pool) Apply(
	ctx context.Context, scope string, after, to uint64, change func(version uint64, g *Gallery) (bool, error),
) {
	p.mu.Lock()
	var ready []*entry
	for key, e := range p.entries {
		switch {
		case key.Scope != scope:
		case e.ready:
			e.users++
			ready = append(ready, e)
		default:
			e.wanted = max(e.wanted, to)
		}
	}
	p.mu.Unlock()
	for _, e := range ready {
		p.apply(ctx, e, after, to, change)
		p.leave(e)
	}
}

// apply is Apply for one gallery, which it drops before anybody else may change it: it may have a part of the changes.
func (p *Pool) apply(
	ctx context.Context, e *entry, after, to uint64, change func(version uint64, g *Gallery) (bool, error),
) {
	select {
	case <-e.turn:
	case <-ctx.Done():
		p.end(e, ErrDropped)
		return
	}
	defer func() { e.turn <- struct{}{} }()
	at := e.at.Load()
	if at >= to {
		return
	}
	done, err := true, error(nil)
	if at == after {
		at = to
		done, err = change(e.key.Version, e.g)
	} else {
		at, err = e.src.Follow(ctx, e.g, at)
	}
	switch {
	case err != nil:
		p.end(e, ErrDropped)
	case done:
		e.at.Store(at)
	}
}

// Refresh brings every loaded gallery up to date by its Source, for those that are not searched: they too must not keep
// what was deleted. One that cannot follow is dropped. Any other error leaves it as it is, so that a store that does
// not answer for a moment does not have everything loaded again: no search uses it before it has followed.
func (p *Pool) Refresh(ctx context.Context) {
	p.mu.Lock()
	var ready []*entry
	for _, e := range p.entries {
		if e.ready && e.src.Follow != nil {
			e.users++
			ready = append(ready, e)
		}
	}
	p.mu.Unlock()
	for _, e := range ready {
		_ = p.follow(ctx, e, e.src, math.MaxUint64) // the next call, or a search, tries again
		p.leave(e)
	}
}

// Drop drops the galleries of a scope from memory. Loads and searches under way are stopped with ErrDropped.
func (p *Pool) Drop(scope string) { p.dropBelow(scope, math.MaxUint64) }

// Retire drops the versions of a scope before one that replaces them.
func (p *Pool) Retire(scope string, before uint64) { p.dropBelow(scope, before) }

func (p *Pool) dropBelow(scope string, version uint64) {
	p.mu.Lock()
	var dropped []*entry
	for key, e := range p.entries {
		if key.Scope == scope && key.Version < version {
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

// Parts returns how many parts are loaded or being loaded, and their memory.
func (p *Pool) Parts() (n int, bytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, e := range p.entries {
		if key.Part.Count > 0 {
			n++
			bytes += e.bytes
		}
	}
	return n, bytes
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
