package api

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/visage-face/visage"
)

// caller is the party that limits apply to: a resource, a principal or, without a credential, a client address.
type caller string

// memory divides the memory of one plane for bodies among its callers, so that no plane waits for another. An
// authenticated caller has a part, in which bodies are admitted in order, by their whole length; an address has a
// smaller part. A waiting body keeps the memory it has; therefore waits are limited, and stalled bodies are cut off.
type memory struct {
	whole, part, strangersPart int64

	mu      sync.Mutex
	free    int64
	callers map[caller]*share
	waiting []*want // the oldest first
}

// share is the memory of one caller. It is guarded by memory.mu.
type share struct {
	reading  map[*body]bool // being read
	waiting  int            // number of bodies that wait for memory
	promised int64
	held     int64
	bodies   map[*body]int64 // the promise to each body that has memory
}

// want is a body that waits for memory.
type want struct {
	body    *body
	promise int64
	take    int64
	granted chan struct{}
}

// Limits of waiting.
const (
	partsOfAll       = 4    // callers that can use their whole part at a time
	partsOfStrangers = 16   // likewise
	maxReading       = 1024 // bodies that one caller sends at a time
	maxWaiting       = 256  // bodies of one caller that wait for memory
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

// errFull refuses a body beyond maxReading or maxWaiting.
func errFull() error {
	r := visage.Refuse(visage.TooMany, "", "Too many requests are sending their bodies at the same time. Try "+
		"again in 1 s.")
	r.RetryAfter = time.Second
	return r
}

// errNoMemory refuses a body that has waited for maxPatience.
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

// enter counts a body of an authenticated caller until leave is called. Beyond maxReading, a stalled body is cut off
// for it.
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

// take reserves n more bytes for a body, and waits for them until ctx ends.
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
	// A body that waits for others of its own caller may do so until its route's timeout: it holds little memory.
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
	m.serve() // the next ones may fit
	return err
}

// displace cuts off stalled bodies whose memory a waiting body needs.
func (m *memory) displace(w *want) {
	m.mu.Lock()
	var slow []*body
	for c, other := range m.callers {
		if c != w.body.holder && m.free >= w.take {
			continue // it waits for bodies of its own caller
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

// fits reports whether a request for memory can be granted.
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

// serve grants all requests for memory that fit now, the oldest first and in order for each caller.
func (m *memory) serve() {
	passed := map[caller]bool{} // callers with an earlier request that does not fit
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

// release returns the memory of a body.
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

// pending holds the bodies that are read without an authenticated caller: of requests that need no credential, and the
// rest of refused ones. Their number is limited, and beyond the limit the oldest is cut off: a client that sends its
// body at once is not affected.
type pending struct {
	all, ofOne int

	mu        sync.Mutex
	bodies    []*body // the oldest first
	byAddress map[caller]int
}

// Limits of the bodies that are read without an authenticated caller.
const (
	maxPending    = 8192
	maxPendingOne = 4096 // from one address
)

func newPending() *pending {
	return &pending{all: maxPending, ofOne: maxPendingOne, byAddress: map[caller]int{}}
}

// join adds a body, and leave removes it.
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

// takeOldest removes the oldest body for which those is true.
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
