package api

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/visage-face/visage"
)

// caller is whose share something counts to: a resource, or somebody who has proved who they are, or else the address
// that they come from.
type caller string

// memory shares out what one plane may need for bodies, so that no plane waits for another. A caller who is known has a
// part of it, within which bodies are let in one after the other, by their whole length; a caller who is not known has
// a smaller one. A body that waits holds what it has, so that waiting has an end and those whose clients have stopped
// sending give way.
type memory struct {
	whole, part, strangersPart int64

	mu      sync.Mutex
	free    int64
	callers map[caller]*share
	waiting []*want // the oldest first
}

// share is what one caller has. It is guarded by memory.mu.
type share struct {
	reading  map[*body]bool // that are being read
	waiting  int            // of them
	promised int64
	held     int64
	bodies   map[*body]int64 // those with memory, and what was promised to each
}

// want is a body that waits for memory.
type want struct {
	body    *body
	promise int64
	take    int64
	granted chan struct{}
}

// Bounds of waiting.
const (
	partsOfAll       = 4    // callers can use their whole part at a time
	partsOfStrangers = 16   // likewise
	maxReading       = 1024 // bodies of one caller at a time
	maxWaiting       = 256  // of them, that wait for memory
	maxPatience      = 10 * time.Second
)

// newMemory makes the memory of a plane whose longest body has longest bytes.
func newMemory(bytes, longest int64) *memory {
	return &memory{
		whole: bytes, free: bytes, part: max(bytes/partsOfAll, longest),
		strangersPart: max(bytes/partsOfStrangers, longest),
		callers:       map[caller]*share{},
	}
}

// errFull is the refusal of one body more.
func errFull() error {
	r := visage.Refuse(visage.TooMany, "", "Too many requests are sending their bodies at the same time. Try "+
		"again in 1 s.")
	r.RetryAfter = time.Second
	return r
}

// errNoMemory is the refusal of a body that waited in vain.
func errNoMemory() error {
	r := visage.Refuse(visage.Unavailable, "", "The service has no memory left for the body. Try again in 1 s.")
	r.RetryAfter = time.Second
	return r
}

func (m *memory) shareOf(c caller) *share {
	s := m.callers[c]
	if s == nil {
		s = &share{reading: map[*body]bool{}, bodies: map[*body]int64{}}
		m.callers[c] = s
	}
	return s
}

func (m *memory) forget(c caller, s *share) {
	if len(s.reading) == 0 && s.waiting == 0 && len(s.bodies) == 0 {
		delete(m.callers, c)
	}
}

// enter counts a body that a known caller begins to send, until leave. Beyond maxReading one gives way of which nothing
// has come for a while.
func (m *memory) enter(b *body) (leave func(), err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.shareOf(b.holder)
	if len(s.reading) >= maxReading {
		made := false
		for o := range s.reading {
			if o.cut(stall) {
				delete(s.reading, o)
				made = true
				break
			}
		}
		if !made {
			return nil, errFull()
		}
	}
	s.reading[b] = true
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(s.reading, b)
		m.forget(b.holder, s)
	}, nil
}

// take gives a body n bytes more, when they are free. It waits no longer than ctx lives.
func (m *memory) take(ctx context.Context, b *body, n int64) error {
	w := &want{body: b, take: n, granted: make(chan struct{})}
	m.mu.Lock()
	s := m.shareOf(b.holder)
	if _, known := s.bodies[b]; !known && b.proved {
		w.promise = b.most
		if b.declared >= 0 {
			w.promise = b.declared
		}
	}
	first := func(o *want) bool { return o.promise > 0 && o.body.holder == b.holder }
	if m.fits(s, w) && (w.promise == 0 || !slices.ContainsFunc(m.waiting, first)) {
		m.grant(s, w)
		m.mu.Unlock()
		return nil
	}
	if s.waiting >= maxWaiting {
		m.forget(b.holder, s)
		m.mu.Unlock()
		return errFull()
	}
	s.waiting++
	m.waiting = append(m.waiting, w)
	m.mu.Unlock()

	b.wait(true)
	err := m.wait(ctx, s, w)
	b.wait(false)
	return err
}

func (m *memory) wait(ctx context.Context, s *share, w *want) error {
	// Who waits for others of the same caller may do so as long as its route lets it: it holds next to nothing.
	var patience <-chan time.Time
	if w.promise == 0 {
		timer := time.NewTimer(maxPatience)
		defer timer.Stop()
		patience = timer.C
	}
	look := time.NewTicker(stall / 4)
	defer look.Stop()
	var err error
	for err == nil {
		select {
		case <-w.granted:
			return nil
		case <-look.C:
			m.displace(w)
		case <-patience:
			err = errNoMemory()
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	at := slices.Index(m.waiting, w)
	if at < 0 {
		return nil // it was granted meanwhile
	}
	m.waiting = slices.Delete(m.waiting, at, at+1)
	s.waiting--
	m.forget(w.body.holder, s)
	m.serve() // those behind it may fit
	return err
}

// displace cuts off bodies that stand in the way of one that waits and of which nothing has come for a while.
func (m *memory) displace(w *want) {
	m.mu.Lock()
	var slow []*body
	for c, other := range m.callers {
		if c != w.body.holder && m.free >= w.take {
			continue // it waits for those of its own caller
		}
		for b := range other.bodies {
			slow = append(slow, b)
		}
	}
	m.mu.Unlock()
	for _, b := range slow {
		b.cut(stall)
	}
}

// fits reports whether a body may have what it wants.
func (m *memory) fits(s *share, w *want) bool {
	switch {
	case w.take > m.free:
		return false
	case !w.body.proved:
		return s.held+w.take <= m.strangersPart
	}
	return w.promise == 0 || s.promised == 0 || s.promised+w.promise <= m.part
}

func (m *memory) grant(s *share, w *want) {
	m.free -= w.take
	s.held += w.take
	s.promised += w.promise
	s.bodies[w.body] += w.promise
	w.body.held += w.take
}

// serve grants what has become possible: to each caller in order, and to the callers as they came.
func (m *memory) serve() {
	passed := map[caller]bool{} // who waits for its own turn
	m.waiting = slices.DeleteFunc(m.waiting, func(w *want) bool {
		s := m.callers[w.body.holder]
		if w.promise > 0 && passed[w.body.holder] {
			return false
		}
		if !m.fits(s, w) {
			passed[w.body.holder] = passed[w.body.holder] || w.promise > 0
			return false
		}
		s.waiting--
		m.grant(s, w)
		close(w.granted)
		return true
	})
}

// release gives back what a body has.
func (m *memory) release(b *body) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.callers[b.holder]
	if s == nil {
		return
	}
	promised, known := s.bodies[b]
	if !known {
		return
	}
	delete(s.bodies, b)
	s.promised -= promised
	s.held -= b.held
	m.free += b.held
	b.held = 0
	m.serve()
	m.forget(b.holder, s)
}

// pending knows the bodies that are read for nobody who is known: of requests that need no credential, and what is left
// of refused ones. There is a bound on them, and beyond it the oldest gives way: whoever sends a body at once is never
// in the way of another, and whoever waits is.
type pending struct {
	all, ofOne int

	mu        sync.Mutex
	bodies    []*body // the oldest first
	byAddress map[caller]int
}

// Bounds of bodies that are read for nobody who is known.
const (
	maxPending    = 8192
	maxPendingOne = 4096 // from one address
)

func newPending() *pending {
	return &pending{all: maxPending, ofOne: maxPendingOne, byAddress: map[caller]int{}}
}

// join counts a body in; what it returns counts it out.
func (p *pending) join(b *body) (leave func()) {
	p.mu.Lock()
	var oldest *body
	if p.byAddress[b.address] >= p.ofOne {
		oldest = p.takeOldest(func(o *body) bool { return o.address == b.address })
	} else if len(p.bodies) >= p.all {
		oldest = p.takeOldest(func(*body) bool { return true })
	}
	p.bodies = append(p.bodies, b)
	p.byAddress[b.address]++
	p.mu.Unlock()
	if oldest != nil {
		oldest.cut(0)
	}
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.remove(b)
	}
}

// takeOldest takes the oldest body out that is one of those.
func (p *pending) takeOldest(those func(*body) bool) *body {
	at := slices.IndexFunc(p.bodies, those)
	if at < 0 {
		return nil
	}
	oldest := p.bodies[at]
	p.remove(oldest)
	return oldest
}

func (p *pending) remove(b *body) {
	at := slices.Index(p.bodies, b)
	if at < 0 {
		return // it was cut off
	}
	p.bodies = slices.Delete(p.bodies, at, at+1)
	if p.byAddress[b.address]--; p.byAddress[b.address] == 0 {
		delete(p.byAddress, b.address)
	}
}
