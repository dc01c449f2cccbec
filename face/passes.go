package face

import (
	"context"
	"errors"
	"sync"

	"github.com/visage-face/visage/cluster/placement"
	"github.com/visage-face/visage/gallery"
)

// entry returns the face as a gallery keeps it.
func (f faceRecord) entry() gallery.Entry {
	return gallery.Entry{ID: gallery.ID(f.ID), Owner: gallery.ID(f.Person), Order: f.Sequence, Code: f.Code}
}

// passes lets parts of a collection that are loaded at the same time share a reading of its rows. Only an open row
// shows which part it is of, so that every reading costs as much as one of the whole collection. A load that comes
// before a reading has begun takes part in it; those that come later share the next one.
type passes struct {
	mu   sync.Mutex // guards the field below, and those of each pass
	last map[passOf]*pass
}

// passOf is what a pass reads.
type passOf struct {
	collection string
	version    uint64
	count      int // of parts
}

// pass is one reading.
type pass struct {
	ctx    context.Context // ends when no load waits for it any more
	cancel context.CancelFunc
	done   chan struct{}

	began bool
	loads []*partLoad
	left  int // how many of the loads have ended before the pass

	at, trained uint64 // these and err are final once done is closed
	err         error
}

// partLoad fills the gallery of one part.
type partLoad struct {
	ctx   context.Context
	end   context.CancelCauseFunc // this load alone
	index int
	g     *gallery.Gallery
}

// partReader reads a collection for the loads that begin returns, which it calls once, just before the first row.
type partReader func(ctx context.Context, begin func() []*partLoad) (at, trained uint64, err error)

// load fills the gallery of a part, together with others that are loaded now. A load that ends alone while rows are
// read returns when the pass ends.
func (ps *passes) load(
	ctx context.Context, of passOf, index int, g *gallery.Gallery, read partReader,
) (at, trained uint64, err error) {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	l := &partLoad{ctx, end, index, g}
	p := ps.join(of, l, read)
	select {
	case <-p.done:
	case <-ctx.Done():
		if ps.leave(p, l) {
			<-p.done // until then the pass may add to the gallery
		}
	}
	if cause := context.Cause(ctx); cause != nil {
		return 0, 0, cause
	}
	return p.at, p.trained, p.err
}

// join adds a load to a pass that has not begun, or to a new one, which begins after the one before.
func (ps *passes) join(of passOf, l *partLoad, read partReader) *pass {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p := ps.last[of]
	if p != nil && !p.began {
		p.loads = append(p.loads, l)
		return p
	}
	before := p
	p = &pass{done: make(chan struct{}), loads: []*partLoad{l}}
	p.ctx, p.cancel = context.WithCancel(context.WithoutCancel(l.ctx)) // it goes on without its first load
	if ps.last == nil {
		ps.last = make(map[passOf]*pass)
	}
	ps.last[of] = p
	go ps.run(of, p, before, read)
	return p
}

// leave takes a load out, stops a pass whose last load it was, and reports whether the load has to wait for its end.
func (ps *passes) leave(p *pass, l *partLoad) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p.left++
	if p.left == len(p.loads) {
		p.began = true // nobody joins a pass that is stopped
		p.cancel()
		return true
	}
	return p.began
}

func (ps *passes) run(of passOf, p, before *pass, read partReader) {
	defer close(p.done)
	defer p.cancel()
	if before != nil {
		select {
		case <-before.done:
		case <-p.ctx.Done():
		}
	}
	if p.err = p.ctx.Err(); p.err == nil {
		p.at, p.trained, p.err = read(p.ctx, func() []*partLoad { return ps.begin(p) })
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p.began = true
	if ps.last[of] == p {
		delete(ps.last, of)
	}
}

// begin lets no load join a pass any more, and returns those that it is for.
func (ps *passes) begin(p *pass) []*partLoad {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p.began = true
	var loads []*partLoad
	for _, l := range p.loads {
		if l.ctx.Err() == nil { // one that has ended may have returned, and its gallery is closed
			loads = append(loads, l)
		}
	}
	return loads
}

// expect tells galleries how many faces they will have, of so many in count parts.
func expect(loads []*partLoad, faces, count int) {
	for _, l := range loads {
		l.g.Expect((faces + count - 1) / count)
	}
}

// adder returns a function that adds a face to the galleries of its part, among count parts. A gallery that takes no
// more, as when there is no memory, ends its own load and no other.
func adder(loads []*partLoad, count int) func(faceRecord) error {
	of := make(map[int][]*partLoad, len(loads))
	for _, l := range loads {
		of[l.index] = append(of[l.index], l)
	}
	return func(f faceRecord) error {
		for _, l := range of[placement.Partition(f.ID, count)] {
			if l.ctx.Err() != nil {
				continue
			}
			if err := l.g.Add(f.entry()); errors.Is(err, gallery.ErrVector) {
				return err
			} else if err != nil {
				l.end(err)
			}
		}
		return nil
	}
}
