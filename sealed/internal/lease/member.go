package lease

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/rowkey"
)

// memberTTL is how long a process that ended without closing its store counts as one that has it open.
const memberTTL = 15 * time.Second

// joinRest is how long Join waits between two looks at the processes that are in its way.
const joinRest = memberTTL / 30

// Join notes that this process has the store open, alone or beside others that joined so. What a process left that
// ended without closing is waited for until it has run out. Error: engine.ErrInUse, when another process is in the way.
func (l *Leases) Join(ctx context.Context, alone bool) error {
	if !l.shared {
		return nil
	}
	c := &Claim{of: l, member: true, key: rowkey.OfLease(rowkey.Member, l.self), done: make(chan struct{})}
	c.ctx, c.end = context.WithCancelCause(l.life)
	started := map[string]string{} // rows that are in the way, by key, as they were first seen
	for {
		inTheWay, err := c.join(ctx, alone, started)
		if err == nil && !inTheWay {
			break
		}
		if err != nil {
			c.end(err)
			return err
		}
		select {
		case <-ctx.Done():
			c.end(context.Cause(ctx))
			return context.Cause(ctx)
		case <-time.After(joinRest):
		}
	}
	l.mu.Lock()
	l.member = c
	l.mu.Unlock()
	l.work.Go(func() { l.stayForever(c) })
	return nil
}

// Share lets other processes open the store from now on. Error: ErrLost.
func (l *Leases) Share(ctx context.Context) error {
	if !l.shared {
		return nil
	}
	l.member.alone.Store(false)
	return l.member.renew(ctx)
}

func (c *Claim) join(ctx context.Context, alone bool, started map[string]string) (inTheWay bool, err error) {
	l := c.of
	c.row.Lock()
	defer c.row.Unlock()
	defer l.root.Hold()()
	began := time.Now()
	err = engine.CommitAndWait(ctx, l.engine, rowkey.LeaseScope, func(w engine.Writer) error {
		inTheWay = false
		// A store that was brought to a later format since is refused, or written in that format from now on.
		number, err := l.look(w)
		if err != nil {
			return err
		}
		var dead [][]byte
		var others []Member
		err = l.eachMember(w, func(key []byte, f found) error {
			if f.doc.Holder == l.self {
				return nil
			}
			if l.expired(key, f) {
				dead = append(dead, key)
				return nil
			}
			others = append(others, f.member())
			if !alone && !f.doc.Alone {
				return nil
			}
			if first, ok := started[string(key)]; ok && first != string(f.row) {
				return fmt.Errorf("%w, which keeps its lease", engine.ErrInUse)
			}
			started[string(key)], inTheWay = string(f.row), true
			return nil
		})
		if err != nil || inTheWay {
			return err
		}
		for _, key := range dead {
			if err := w.Delete(key); err != nil {
				return err
			}
		}
		l.met(others)
		l.Write(number)
		c.alone.Store(alone)
		c.doc = doc{Holder: l.self, Count: 1, TTL: memberTTL.Milliseconds(), Alone: alone, Note: l.noteOf(c),
			Knows: l.knows, Writes: l.writes()}
		return l.put(w, c.key, c.doc)
	})
	c.until = began.Add(safe(memberTTL))
	return inTheWay, err
}

// eachMember calls fn for every process that has the store open, or had.
func (l *Leases) eachMember(r engine.Reader, fn func(key []byte, f found) error) error {
	return l.each(r, rowkey.Member, fn)
}

// each calls fn for every row of a kind.
func (l *Leases) each(r engine.Reader, kind byte, fn func(key []byte, f found) error) error {
	from := rowkey.OfSpace(rowkey.LeaseScope, kind)
	for row, err := range r.Scan(from, rowkey.After(from)) {
		if err != nil {
			return err
		}
		key := append([]byte(nil), row.Key...)
		f, err := l.decode(key, row.Value)
		if err == nil {
			err = fn(key, f)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *Leases) met(others []Member) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.members = others
}

// noteOf returns what the row of a claim says of this process: nothing, unless it is that of a member.
func (l *Leases) noteOf(c *Claim) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !c.member {
		return nil
	}
	return l.note
}

// Member is a process that has the store open.
type Member struct {
	ID   format.ID // random, of this opening
	Self bool      // this process
	Note []byte    // what it tells the others; nil: nothing. Not to be changed
	// Knows is the newest format of a store that it knows.
	Knows uint32
}

func (f found) member() Member {
	return Member{ID: f.doc.Holder, Note: f.doc.Note, Knows: max(f.doc.Knows, firstShared)}
}

// Members returns the processes that have the store open, this one first, as they were seen a moment ago: one that
// ended without closing its store counts for 15 seconds more.
func (l *Leases) Members() []Member {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Member{{ID: l.self, Self: true, Note: l.note, Knows: l.knows}}, l.members...)
}

// MaxNote is the size of the largest note of a member, in bytes.
const MaxNote = 1024

// Announce replaces what this process tells the others. They know it within a fifth of the time that a member may be
// silent. When it fails, the note is written with the next renewal.
func (l *Leases) Announce(ctx context.Context, note []byte) error {
	if len(note) > MaxNote {
		return fmt.Errorf("a note of %d bytes, more than %d", len(note), MaxNote)
	}
	l.mu.Lock()
	l.note = bytes.Clone(note)
	c := l.member
	l.mu.Unlock()
	if c == nil {
		return nil
	}
	return c.renew(ctx)
}

// stayForever keeps the store noted as open here, and counts the others. A process that was paused for so long that
// others took it for dead joins again, unless it was alone or somebody else is now.
func (l *Leases) stayForever(c *Claim) {
	defer close(c.done)
	for {
		alone := c.alone.Load()
		select {
		case <-c.ctx.Done():
			return
		case <-time.After(memberTTL / 5):
		}
		renew := func(ctx context.Context) error {
			err := c.renew(ctx)
			if errors.Is(err, ErrLost) && !alone {
				_, err = c.join(ctx, false, map[string]string{})
			}
			return err
		}
		writes := l.writes()
		err := within(c.ctx, memberTTL, renew)
		if err == nil { // it must not take so long that the next renewal comes too late
			err = within(c.ctx, memberTTL/5, func(ctx context.Context) error {
				return errors.Join(l.follow(ctx), l.count(ctx))
			})
		}
		if err == nil && l.writes() != writes { // others wait to be told
			err = within(c.ctx, memberTTL, renew)
		}
		_, newer := errors.AsType[*format.NewerError](err)
		if newer {
			l.refuse(err)
		}
		if newer || errors.Is(err, ErrLost) || errors.Is(err, engine.ErrInUse) {
			return // the row is not there, so nothing more is written: see Guard
		}
	}
}

func within(ctx context.Context, d time.Duration, fn func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return fn(ctx)
}

// listedFor is how long a process that was silent until it did not count any more is still listed by Survey. Then its
// row is removed, so that a process which starts later does not count it: it would have to watch the row for as long as
// a member may be silent.
const listedFor = 3 * memberTTL

// count counts the others.
func (l *Leases) count(ctx context.Context) error {
	defer l.root.Hold()()
	var dead bool
	err := l.engine.View(ctx, func(r engine.Reader) error {
		var others []Member
		dead = false
		err := l.eachMember(r, func(key []byte, f found) error {
			switch {
			case f.doc.Holder == l.self:
			case !l.expired(key, f):
				others = append(others, f.member())
			case l.silent(key) >= memberTTL+listedFor:
				dead = true
			}
			return nil
		})
		if err == nil {
			l.met(others)
		}
		return err
	})
	if err != nil || !dead {
		return err
	}
	return l.remove(ctx, func(key []byte, f found) (bool, error) {
		return l.expired(key, f) && l.silent(key) >= memberTTL+listedFor, nil
	})
}

// remove removes the rows of other processes that dead reports. The root must be held.
func (l *Leases) remove(ctx context.Context, dead func(key []byte, f found) (bool, error)) error {
	return engine.CommitAndWait(ctx, l.engine, rowkey.LeaseScope, func(w engine.Writer) error {
		var keys [][]byte
		err := l.eachMember(w, func(key []byte, f found) error {
			if f.doc.Holder == l.self {
				return nil
			}
			is, err := dead(key, f)
			if is {
				keys = append(keys, key)
			}
			return err
		})
		for _, key := range keys {
			if err == nil {
				err = w.Delete(key)
			}
		}
		return err
	})
}

// Settle waits until every other process that has the store open seals under a version of the root key, or a later one:
// what it says of itself then is sealed so.
func (l *Leases) Settle(ctx context.Context, version uint32) error {
	if !l.shared {
		return nil
	}
	for {
		behind := false
		err := func() error {
			defer l.root.Hold()()
			return l.engine.View(ctx, func(r engine.Reader) error {
				behind = false
				return l.eachMember(r, func(key []byte, f found) error {
					at, err := format.RootVersion(f.row)
					behind = behind || at < version && f.doc.Holder != l.self && !l.expired(key, f)
					return err
				})
			})
		}()
		if err != nil || !behind {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(joinRest):
		}
	}
}

// Guard returns the engine for everything but leases: once the process has joined, transactions that write fail with
// engine.ErrInUse when others have taken it for dead.
func (l *Leases) Guard() engine.Engine {
	if !l.shared {
		return l.engine
	}
	return guarded{l.engine, l}
}

type guarded struct {
	engine.Engine
	leases *Leases
}

// Update implements engine.Engine.
func (g guarded) Update(ctx context.Context, fn func(engine.Writer) error) error {
	defer g.leases.enter()()
	return g.Engine.Update(ctx, func(w engine.Writer) error {
		if err := g.leases.present(w); err != nil {
			return err
		}
		return fn(w)
	})
}

// Commit implements engine.Engine.
func (g guarded) Commit(
	ctx context.Context, scope format.ID, fn func(engine.Writer) error,
) (wait func() error, err error) {
	defer g.leases.enter()()
	return g.Engine.Commit(ctx, scope, func(w engine.Writer) error {
		g.leases.prefetch(w, scope)
		if err := g.leases.present(w); err != nil {
			return err
		}
		return fn(w)
	})
}

// prefetch reads what present does together with what a transaction on a space reads first.
func (l *Leases) prefetch(r engine.Reader, space format.ID) {
	l.mu.Lock()
	c := l.member
	l.mu.Unlock()
	if read := engine.Prefetcher(r); read != nil && c != nil {
		read(c.key, rowkey.OfSpace(space, rowkey.Bundle), rowkey.Of(space, rowkey.Head, rowkey.Root, format.ID{}))
	}
}

func (l *Leases) isClosed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

// present makes sure that the row of this process is there.
func (l *Leases) present(r engine.Reader) error {
	l.mu.Lock()
	c := l.member
	l.mu.Unlock()
	if c == nil {
		return nil
	}
	_, ok, err := r.Get(c.key)
	if err == nil && !ok && l.isClosed() { // Close has given the row back
		return engine.ErrClosed
	}
	switch {
	case err != nil || ok:
		return err
	case c.alone.Load():
		return errAbsent
	}
	return &AbsentError{}
}

var errAbsent = fmt.Errorf("%w: this process did not answer for so long that its place was given to others",
	engine.ErrInUse)

// AbsentError says that this process, which shares the store, did not answer for so long that its place was given to
// others. It takes part again within seconds. It is an engine.ErrInUse and a visage.Outage.
type AbsentError struct{}

// Error says so to operators.
func (*AbsentError) Error() string { return errAbsent.Error() }

// Unwrap returns engine.ErrInUse.
func (*AbsentError) Unwrap() error { return errAbsent }

// Outage is the sentence for a caller.
func (*AbsentError) Outage() string {
	return "This server was suspended and is rejoining the other replicas. Nothing was changed. Try again."
}
