package arena

import (
	"fmt"
	"runtime"
	"sync"
)

// Slab gives out small buffers that share pages, for secrets of which there are very many: a buffer of New takes a
// whole page for itself, even if it holds a single key. The zero value is ready for use, by many goroutines at once.
//
// The memory has the protection of New: locked, not dumped, and wiped by Free at once, independently of its neighbours.
// A slot is never used twice, so a slice that is kept after Free reads zeros and never another secret; once all slots
// of its page are free, the page is returned and reading it is a fault. Writes after Free are detected at that point,
// and cause a panic.
type Slab struct {
	mu   sync.Mutex
	open *slabPage // the page of the next slot; nil: none
}

// slabPage is a page that slots are cut from, one after the other.
type slabPage struct {
	slab   *Slab // its mu guards all fields below
	whole  []byte
	locked bool
	used   int // bytes allocated
	live   int // slots that are not free yet
}

// slotAlign is the alignment of slots: a cache line, so that no two secrets share one.
const slotAlign = 64

// New returns size bytes of zeroed secret memory. Sizes above half a page get pages of their own.
func (s *Slab) New(size int) (*Buffer, error) {
	page := pageSize()
	if size <= 0 || size > page/2 {
		return New(size)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil || s.open.used+size > len(s.open.whole) {
		whole, locked, err := mapPages(page)
		if err != nil {
			return nil, fmt.Errorf("allocate %d bytes of secret memory: %w", size, err)
		}
		s.open = &slabPage{slab: s, whole: whole, locked: locked}
	}
	p := s.open
	slot := p.whole[p.used:][:size:size]
	p.used = min(p.used+(size+slotAlign-1)/slotAlign*slotAlign, len(p.whole))
	p.live++
	b := &Buffer{&state{whole: slot, data: slot, locked: p.locked, page: p}}
	runtime.AddCleanup(b, func(s *state) { s.free() }, b.state)
	return b, nil
}

// leave records that a slot, which was wiped, is free, and returns the page after the last one.
func (p *slabPage) leave() {
	p.slab.mu.Lock()
	defer p.slab.mu.Unlock()
	p.live--
	if p.live > 0 {
		return
	}
	if p == p.slab.open {
		p.slab.open = nil
	}
	for _, b := range p.whole {
		if b != 0 {
			panic("arena: secret memory was written to after Free")
		}
	}
	unmapPages(p.whole)
	p.whole = nil
}
