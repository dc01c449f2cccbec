// Package lease lets one process at a time do what several that have the same store open must not do at once. A lease
// is a row that its holder rewrites again and again; who wants it takes it over only after it has watched the row
// unchanged for as long as the lease lasts, by its own clock. No clock is compared with another machine's. The numbers
// of leases grow, so that a transaction of a holder that was paused, and has lost the lease without noticing, can be
// told from those of the next one.
package lease

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/event"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keys"
	"github.com/visage-face/visage/sealed/internal/rowkey"
)

// What callers decide on.
var (
	ErrClaimed = errors.New("it is claimed already")
	ErrLost    = errors.New("the claim has ended")
)

// Leases are those of one store, as this process knows them.
type Leases struct {
	engine engine.Engine
	shared bool
	root   *keys.Root // nil: not open yet
	look   func(engine.Reader) (format uint32, err error)
	adopt  func(format uint32)
	knows  uint32
	self   format.ID // of this opening of the store
	life   context.Context
	work   sync.WaitGroup // the goroutines that renew

	mu      sync.Mutex // guards all below
	closed  bool
	held    map[string]*Claim
	seen    map[string]sighting // rows of others, by key
	last    uint64              // the newest number, while the engine is not shared
	member  *Claim              // that the store is open here; nil: not yet, or the engine is not shared
	note    []byte              // of this process, as members have it
	members []Member            // processes that have the store open, without this one
	writing []*writers          // of this process, by the formats that they may write; the last one is the present one
	refused error               // why this process can never be a member again; nil: it can
	gone    chan struct{}       // closed with refused
}

// sighting is a row as it was last read, and when it was first read like that.
type sighting struct {
	row   []byte
	since time.Time
}

// doc is what a lease holds.
type doc struct {
	Holder format.ID `cbor:"1,keyasint"`           // an opening of the store
	Fence  uint64    `cbor:"2,keyasint"`           // grows with every claim of the store, whatever its name
	Count  uint64    `cbor:"3,keyasint"`           // grows with every renewal
	TTL    int64     `cbor:"4,keyasint"`           // how long the lease outlives its last renewal, in milliseconds
	Alone  bool      `cbor:"5,keyasint,omitempty"` // of a member: no other process may have the store open
	Note   []byte    `cbor:"6,keyasint,omitempty"` // of a member: what it tells the others
	Name   string    `cbor:"7,keyasint,omitempty"` // of a claim: what is claimed
	Knows  uint32    `cbor:"8,keyasint,omitempty"` // of a member: the newest format of a store that it knows
	Writes uint32    `cbor:"9,keyasint,omitempty"` // of a member: the format that it writes
}

func (d doc) ttl() time.Duration { return time.Duration(d.TTL) * time.Millisecond }

// New returns the leases of a store whose root is not open yet. They end with life.
func New(life context.Context, eng engine.Engine) *Leases {
	l := &Leases{engine: eng, shared: eng.Shared(), life: life, held: map[string]*Claim{},
		seen: map[string]sighting{}, writing: []*writers{{}}, gone: make(chan struct{})}
	rand.Read(l.self[:]) // never fails: the runtime ends the process instead
	return l
}

// Formats is what a process knows of formats of stores.
type Formats struct {
	// Look returns the format that the store has, or a *format.NewerError.
	Look  func(engine.Reader) (uint32, error)
	Adopt func(number uint32) // is called before this process is a member that writes a format
	Knows uint32              // the newest one that it knows
}

// Open says under which root the rows are sealed, and what is known of formats. It comes before all below.
func (l *Leases) Open(root *keys.Root, formats Formats) {
	l.root, l.look, l.adopt, l.knows = root, formats.Look, formats.Adopt, formats.Knows
}

// Claim is a lease that this process holds.
type Claim struct {
	of     *Leases
	name   string
	member bool          // of a process, and not of a name
	key    []byte        // of its row; nil: the engine is not shared
	doc    doc           // as it was claimed
	alone  atomic.Bool   // of a member
	row    sync.Mutex    // of a member: held while its row is written, so that an older note does not replace a newer
	count  atomic.Uint64 // of renewals
	until  time.Time     // the goroutine that renews has it
	ctx    context.Context
	end    context.CancelCauseFunc
	done   chan struct{} // closed when nobody renews it any more
}

// Claim claims a name for as long as it is renewed, which happens three times in each ttl. Errors: ErrClaimed at once
// when somebody else holds it, be it in this process; ask again. ErrClosed.
func (l *Leases) Claim(ctx context.Context, name string, ttl time.Duration) (*Claim, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, engine.ErrClosed
	}
	if l.held[name] != nil {
		return nil, ErrClaimed
	}
	c := &Claim{of: l, name: name, done: make(chan struct{})}
	if !l.shared {
		l.last++
		c.doc.Fence = l.last
		close(c.done)
	}
	c.ctx, c.end = context.WithCancelCause(l.life)
	l.held[name] = c
	if !l.shared {
		return c, nil
	}
	l.mu.Unlock()
	err := c.claim(ctx, ttl)
	l.mu.Lock()
	if err == nil && l.closed {
		err = engine.ErrClosed // the row outlives it by one ttl
	}
	if err != nil {
		delete(l.held, name)
		c.end(err)
		close(c.done)
		return nil, err
	}
	l.work.Go(c.renewForever)
	return c, nil
}

func (c *Claim) claim(ctx context.Context, ttl time.Duration) error {
	l := c.of
	defer l.root.Hold()()
	c.key = rowkey.OfLease(rowkey.Lease, format.LeaseID(l.root.First(), l.root.Instance, c.name))
	began := time.Now()
	err := engine.CommitAndWait(ctx, l.engine, rowkey.LeaseScope, func(w engine.Writer) error {
		old, ok, err := l.read(w, c.key)
		if err != nil {
			return err
		}
		if ok && !l.expired(c.key, old) {
			return ErrClaimed
		}
		number, err := l.nextFence(w)
		if err != nil {
			return err
		}
		c.doc = doc{Holder: l.self, Fence: number, Count: 1, TTL: ttl.Milliseconds(), Name: c.name}
		return l.put(w, c.key, c.doc)
	})
	c.until = began.Add(safe(ttl))
	return err
}

// safe is how long a holder may rely on a lease: less than others wait, so that clocks which do not run alike do no
// harm.
func safe(ttl time.Duration) time.Duration { return ttl - ttl/8 }

// nextFence takes the next number, which lies under the zero id.
func (l *Leases) nextFence(w engine.Writer) (uint64, error) {
	key := rowkey.OfLease(rowkey.Lease, format.ID{})
	last, _, err := l.read(w, key)
	if err != nil {
		return 0, err
	}
	last.doc.Fence++
	return last.doc.Fence, l.put(w, key, last.doc)
}

// found is a row that was read.
type found struct {
	row []byte
	doc doc
}

// read reads a lease. The root must be held.
func (l *Leases) read(r engine.Reader, key []byte) (f found, ok bool, err error) {
	row, ok, err := r.Get(key)
	if err != nil || !ok {
		return f, false, err
	}
	f, err = l.decode(key, row)
	return f, err == nil, err
}

func (l *Leases) decode(key, row []byte) (f found, err error) {
	raw, err := format.OpenLease(l.root.Of, l.root.Instance, key, row)
	if err == nil {
		if decodeErr := format.Strict.Unmarshal(raw, &f.doc); decodeErr != nil {
			err = fmt.Errorf("%w: %v", format.ErrMalformed, decodeErr)
		}
	}
	if event.IsOutage(err) {
		return f, err
	}
	if err != nil {
		return f, &event.CorruptError{What: "lease", Record: fmt.Sprintf("%x", key[17:]), Err: err}
	}
	f.row = bytes.Clone(row)
	return f, nil
}

func (l *Leases) put(w engine.Writer, key []byte, d doc) error {
	raw, err := cbor.Marshal(d)
	if err != nil {
		return err
	}
	return w.Put(key, format.SealLease(l.root.Current(), l.root.Instance, key, raw))
}

// maxSeen bounds the rows that are watched; those that are forgotten are watched from the beginning.
const maxSeen = 10_000

// expired notes that a row was seen, and reports whether it has not changed for as long as its lease lasts.
func (l *Leases) expired(key []byte, f found) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, ok := l.seen[string(key)]
	if ok && bytes.Equal(s.row, f.row) {
		return time.Since(s.since) >= f.doc.ttl()
	}
	if len(l.seen) >= maxSeen {
		clear(l.seen)
	}
	l.seen[string(key)] = sighting{f.row, time.Now()}
	return false
}

// renewForever renews the lease until it is given back or lost.
func (c *Claim) renewForever() {
	defer close(c.done)
	rest := c.doc.ttl() / 3
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-time.After(rest):
		}
		began := time.Now()
		ctx, cancel := context.WithDeadline(c.ctx, c.until)
		err := c.renew(ctx)
		cancel()
		switch {
		case err == nil:
			c.until = began.Add(safe(c.doc.ttl()))
			rest = c.doc.ttl() / 3
		case errors.Is(err, ErrLost) || !time.Now().Before(c.until):
			c.end(ErrLost)
			c.of.forget(c)
			return
		default: // the engine did not take it: again, while there is time
			rest = c.doc.ttl() / 24
		}
	}
}

func (c *Claim) renew(ctx context.Context) error {
	l := c.of
	c.row.Lock()
	defer c.row.Unlock()
	defer l.root.Hold()()
	next := c.doc
	next.Count += c.count.Add(1)
	next.Alone = c.alone.Load()
	next.Note = l.noteOf(c)
	if c.member {
		next.Writes = l.writes()
	}
	err := engine.CommitAndWait(ctx, l.engine, rowkey.LeaseScope, func(w engine.Writer) error {
		if err := c.check(w); err != nil {
			return err
		}
		return l.put(w, c.key, next)
	})
	return err
}

// check returns ErrLost unless the row is this holder's. The root must be held.
func (c *Claim) check(r engine.Reader) error {
	f, ok, err := c.of.read(r, c.key)
	if err == nil && (!ok || f.doc.Holder != c.doc.Holder || f.doc.Fence != c.doc.Fence) {
		err = ErrLost
	}
	return err
}

// forget lets the name be claimed again by this process.
func (l *Leases) forget(c *Claim) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held[c.name] == c {
		delete(l.held, c.name)
	}
}

// Context ends when the claim does: its cause is ErrLost then, or the store's end.
func (c *Claim) Context() context.Context { return c.ctx }

// Fence is the number of the claim. It is higher than that of every claim before it.
func (c *Claim) Fence() uint64 { return c.doc.Fence }

// Check reads in a transaction whether the claim still holds. Error: ErrLost.
func (c *Claim) Check(r engine.Reader) error {
	if c.ctx.Err() != nil {
		return context.Cause(c.ctx)
	}
	if c.key == nil {
		return nil
	}
	defer c.of.root.Hold()()
	return c.check(r)
}

// releaseTime bounds how long giving a lease back may take: the row runs out by itself.
const releaseTime = 5 * time.Second

// Release gives the claim back. It may be called more than once.
func (c *Claim) Release() {
	c.end(ErrLost)
	<-c.done
	c.of.forget(c)
	if c.key == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), releaseTime)
	defer cancel()
	defer c.of.root.Hold()()
	_ = engine.CommitAndWait(ctx, c.of.engine, rowkey.LeaseScope, func(w engine.Writer) error {
		if err := c.check(w); err != nil {
			return err // it is another's, or was given back
		}
		return w.Delete(c.key)
	}) // or the row runs out
}

// Close gives back all that is held. Nothing can be claimed any more.
func (l *Leases) Close() {
	l.mu.Lock()
	l.closed = true
	var all []*Claim
	for _, c := range l.held {
		all = append(all, c)
	}
	if l.member != nil {
		all = append(all, l.member)
	}
	l.mu.Unlock()
	for _, c := range all {
		c.Release()
	}
	l.work.Wait()
}
