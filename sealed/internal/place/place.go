// Package place makes sure that a store changes epoch keys in one place alone, and that of several copies of its data
// one alone does. Two servers with different places would split the keys: what is destroyed in the one stays in the
// other. A clone of the data with the same place would destroy keys that the original needs.
//
// The place has a mark, and the document of the instance has what the mark must be: the random id of the place, and a
// beat, which is a random number that is replaced every few seconds, in the data first and then in the place, where it
// takes the place of the one before. A copy of the data knows the beat of the moment when it was taken. Once another
// copy has replaced that, the two are told apart: the mark is none that the older copy has seen. So:
//
//   - A process that opens the store must find a mark that its data knows.
//   - Before it destroys or replaces a key, it must have replaced the beat a moment ago.
//   - One that finds a store which was not closed makes no beat before it has watched the mark for longer than the
//     others let pass between two. If somebody replaces it meanwhile, and the data does not have that, the data is a
//     copy.
//
// A place that one machine alone has, beside its data, has an id and no beats.
package place

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/visage-face/visage/sealed/internal/event"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keys"
	"github.com/visage-face/visage/sealed/internal/keystore"
	"github.com/visage-face/visage/sealed/internal/moment"
)

// Config is for Open.
type Config struct {
	In     keystore.Place
	Root   *keys.Root // open
	Report event.Report
	// Beats says that others may have the place, and that beats tell them apart.
	Beats bool
	// Accept takes the place over from another copy of the data.
	Accept bool
	// Holds reports whether a place has the keys of the store, as far as the data tells. It is asked before a place
	// that the data does not know is recorded as the store's: every other one is refused then. Nil: nobody is asked.
	Holds func(context.Context, keystore.Place) (bool, error)
	// Alone reports whether no other process has the store open, which would go on in the place that the data knows
	// while Accept takes another one. Nil: none has.
	Alone func() bool
	// Found takes a place without a mark, such as one whose keys were lost and are about to be brought back.
	Found bool
	// ReadOnly is for a store that is only read: nothing is written.
	ReadOnly bool
	// Moving is for a move of the keys, which may have been interrupted before.
	Moving bool
}

// every is the time between two beats.
const every = 5 * time.Second

// The times between two beats after which a process may not rely on its newest one any more, and after which another
// one may take over.
const (
	trusted  = 2
	watching = 3
)

// Place is a keystore.Place whose keys the store may change.
type Place struct {
	keystore.Place
	root   *keys.Root
	report event.Report
	beats  bool
	moving bool

	wake chan struct{} // asks for a round
	done chan struct{} // closed when there are no more rounds; nil: there are none
	stop context.CancelFunc

	mu        sync.Mutex // guards all below
	round     chan struct{}
	failed    error // of the newest round
	refused   error // the mark is not ours
	confirmed bool  // no other copy of the data makes beats
	opened    time.Time
	first     format.ID     // the beat of the data when it was opened
	beat      format.ID     // as it was last seen
	since     moment.Moment // when it was seen first, or made
	known     []format.ID   // beats that the data has had
	inspected time.Time
}

// lineage is how many beats of the data are remembered: some minutes. A database that fails over to a standby without
// the newest ones is recognised by them.
const lineage = 64

// Open finds out whether the keys in a place are those of the store, and writes into both what a store from before this
// was recorded does not have. Errors: *Error, the place's.
func Open(ctx context.Context, cfg Config) (*Place, error) {
	p := &Place{Place: cfg.In, root: cfg.Root, report: cfg.Report, beats: cfg.Beats,
		moving: cfg.Moving, wake: make(chan struct{}, 1), round: make(chan struct{}), opened: time.Now()}
	if cfg.ReadOnly {
		p.beats = false
		return p, p.check(ctx)
	}
	if err := p.enter(ctx, cfg); err != nil {
		return nil, err
	}
	return p, nil
}

// check is enter without writing.
func (p *Place) check(ctx context.Context) error {
	s, err := p.look(ctx)
	if err != nil {
		return err
	}
	switch {
	case s.doc == nil:
		return nil
	case s.doc.Moving != nil:
		return p.errMoving(s)
	case s.verdict == other || s.verdict == gone:
		return p.errOther(s)
	}
	return nil
}

// verdict is what a mark says to the data.
type verdict int

const (
	fresh   verdict = iota // neither the data nor the place has anything
	found                  // the place has a mark, and the data nothing
	gone                   // the data has something, and the place nothing
	other                  // the mark is of another place, or the keys have left this one
	own                    // the mark is the newest that the data has
	behind                 // it is the one before: a process ended between the two
	older                  // it is one from before: the place was put back from a copy
	ahead                  // it is one that the data had, and has lost since
	foreign                // it is of another copy of the data
)

// standing is what was found.
type standing struct {
	verdict
	raw  []byte // of the mark; nil: there is none
	mark mark
	doc  *keys.Placed
}

// look reads the mark and then the document, in this order: a beat is in the data before it is in the place. What does
// not fit is looked at again, since others go on meanwhile.
func (p *Place) look(ctx context.Context) (s standing, err error) {
	const looks = 3
	for range looks {
		if s, err = p.glance(ctx); err != nil || s.verdict != foreign && s.verdict != found && s.verdict != gone {
			break
		}
	}
	return s, err
}

func (p *Place) glance(ctx context.Context) (s standing, err error) {
	if s.raw, err = p.Mark(ctx); err != nil && !errors.Is(err, keystore.ErrNotFound) {
		return s, fmt.Errorf("read the mark of %s: %w", p.Name(), err)
	}
	if s.raw != nil {
		if s.mark, err = parse(s.raw); err != nil {
			return s, fmt.Errorf("%s: %w", p.Name(), err)
		}
	}
	release := p.root.Hold()
	doc, err := p.root.Read(ctx)
	release()
	if err != nil {
		return s, err
	}
	s.doc = doc.Placed
	s.verdict = p.judge(s)
	return s, nil
}

func (p *Place) judge(s standing) verdict {
	switch {
	case s.doc == nil && s.raw == nil:
		return fresh
	case s.doc == nil:
		return found
	case s.raw == nil:
		return gone
	case format.ID(s.mark.Place) != s.doc.ID || s.mark.State == left:
		return other
	}
	switch beat := format.ID(s.mark.Beat); {
	case beat == s.doc.Beat:
		return own
	case beat == s.doc.Before:
		return behind
	case p.knows(beat):
		return ahead
	case s.mark.Count < s.doc.Count:
		return older
	}
	return foreign
}

func (p *Place) knows(beat format.ID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.known {
		if b == beat {
			return true
		}
	}
	return false
}

// enter makes sure that the place is the store's, once.
func (p *Place) enter(ctx context.Context, cfg Config) error {
	for {
		s, err := p.look(ctx)
		if err != nil {
			return err
		}
		if s.doc != nil && s.doc.Moving != nil && !cfg.Moving {
			return p.errMoving(s)
		}
		if s.verdict == fresh || s.verdict == found || s.verdict == other && cfg.Accept {
			if err := p.holds(ctx, cfg); err != nil {
				return err
			}
		}
		switch s.verdict {
		case fresh:
			m := mark{Place: id(format.RandomID()), Count: 1, Beat: id(format.RandomID())}
			err = p.SetMark(ctx, nil, m.bytes())
		case found:
			err = p.adopt(ctx, s, cfg.Accept)
		case gone:
			if !cfg.Found {
				return p.errOther(s)
			}
			err = p.SetMark(ctx, nil, newest(s.doc).bytes())
		case other:
			if cfg.Moving && (s.doc.Moving != nil && format.ID(s.mark.Place) == s.doc.Moving.ID ||
				s.mark.State == left) {
				p.beats, p.confirmed = false, true // what is left of it is not the store's any more, or not yet
				return nil
			}
			if !cfg.Accept || s.doc.Moving != nil || s.mark.State == left {
				return p.errOther(s)
			}
			if cfg.Alone != nil && !cfg.Alone() {
				return p.errBeside(s)
			}
			err = p.takeOver(ctx, s)
		case foreign:
			if !cfg.Accept {
				return p.errCopy(s)
			}
			err = p.takeOver(ctx, s)
		default:
			if err = p.begin(ctx, s); err == nil {
				return nil
			}
		}
		if err != nil && !errors.Is(err, keystore.ErrChanged) && !errors.Is(err, errOvertaken) {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// holds makes sure that a place which the data does not know has the store's keys.
func (p *Place) holds(ctx context.Context, cfg Config) error {
	if cfg.Holds == nil || cfg.Found {
		return nil
	}
	has, err := cfg.Holds(ctx, p.Place)
	if err == nil && !has {
		err = &Error{ErrOther, fmt.Sprintf("%s does not have the operator's epoch key, which the data names. Set "+
			"epoch-keys to the place that the keys were put into, for example by a restore; if they were lost, "+
			"\"visage keyring import\" brings them back", p.Name())}
	}
	return err
}

// newest is the mark that goes with a document.
func newest(doc *keys.Placed) mark {
	return mark{Place: id(doc.ID), Count: doc.Count, Beat: id(doc.Beat)}
}

// errOvertaken says that another process has changed the document.
var errOvertaken = errors.New("another process was quicker")

// adopt lets the data know the place that it has its keys in. A mark that was replaced is of a copy of the data that
// knows it, so this one is from before.
func (p *Place) adopt(ctx context.Context, s standing, accept bool) error {
	if (s.mark.Count > 1 || s.mark.State != "") && !accept {
		return p.errCopy(s)
	}
	if s.mark.Count > 1 {
		p.report(event.Event{Kind: event.RollbackAccepted, Note: p.Name(), Err: p.errCopy(s)})
	}
	return p.change(ctx, func(now *keys.Placed) (*keys.Placed, error) {
		if now != nil {
			return nil, errOvertaken
		}
		return &keys.Placed{ID: format.ID(s.mark.Place), Name: p.Name(), Count: s.mark.Count,
			Beat: format.ID(s.mark.Beat), Idle: true}, nil
	})
}

// takeOver makes the place that of this copy of the data.
func (p *Place) takeOver(ctx context.Context, s standing) error {
	p.report(event.Event{Kind: event.RollbackAccepted, Note: p.Name(), Err: p.errCopy(s)})
	return p.change(ctx, func(now *keys.Placed) (*keys.Placed, error) {
		if now == nil || now.Beat != s.doc.Beat {
			return nil, errOvertaken
		}
		next := *now
		next.ID, next.Name, next.Idle = format.ID(s.mark.Place), p.Name(), true
		next.Count = max(next.Count, s.mark.Count)
		next.Beat, next.Before = format.ID(s.mark.Beat), format.ID{}
		return &next, nil
	})
}

// change changes the document.
func (p *Place) change(ctx context.Context, fn func(now *keys.Placed) (*keys.Placed, error)) error {
	defer p.root.Hold()()
	return p.root.Change(ctx, func(doc *keys.Instance) error {
		next, err := fn(doc.Placed)
		if err == nil {
			doc.Placed = next
		}
		return err
	})
}

// begin begins to use the place. errOvertaken: another process does so at the same moment; look again.
func (p *Place) begin(ctx context.Context, s standing) error {
	if s.verdict == older {
		p.report(event.Event{Kind: event.KeysOlder, Note: p.Name()})
	}
	p.first, p.confirmed = s.doc.Beat, s.doc.Idle || !p.beats
	p.see(s)
	if p.confirmed && (p.beats || s.verdict != own) {
		return p.advance(ctx, s)
	}
	return nil
}

// see notes the beat that the data has.
func (p *Place) see(s standing) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.doc.Beat == p.beat {
		return
	}
	p.beat, p.since = s.doc.Beat, moment.Now()
	p.known = append(p.known, s.doc.Beat)
	if len(p.known) > lineage {
		p.known = p.known[1:]
	}
}

// advance makes a beat: in the data, and then in the place. errOvertaken: another process has made one.
func (p *Place) advance(ctx context.Context, s standing) error {
	began := moment.Now()
	next := *s.doc
	if s.verdict != behind { // which has its beat in the data already
		next.Count = max(s.doc.Count, s.mark.Count) + 1
		next.Before, next.Beat, next.Idle = format.ID(s.mark.Beat), format.RandomID(), false
		err := p.change(ctx, func(now *keys.Placed) (*keys.Placed, error) {
			if now == nil || now.Beat != s.doc.Beat || now.ID != s.doc.ID || now.Moving != nil && !p.moving {
				return nil, errOvertaken
			}
			next.Moving = now.Moving
			return &next, nil
		})
		if err != nil {
			return err
		}
	}
	err := p.SetMark(ctx, s.raw, newest(&next).bytes())
	if errors.Is(err, keystore.ErrChanged) {
		return errOvertaken
	}
	if err != nil {
		return fmt.Errorf("replace the mark of %s: %w", p.Name(), err)
	}
	s.doc = &next
	p.see(s)
	p.mu.Lock()
	p.since = began
	p.mu.Unlock()
	return nil
}

// Leave says in the data that nobody has the store open any more: it need not be watched when it is opened again. It
// comes after the last change of keys.
func (p *Place) Leave(ctx context.Context) error {
	p.mu.Lock()
	ours := p.confirmed && p.refused == nil
	p.mu.Unlock()
	p.End()
	p.mu.Lock()
	beat := p.beat
	p.mu.Unlock()
	if !p.beats || !ours {
		return nil
	}
	err := p.change(ctx, func(now *keys.Placed) (*keys.Placed, error) {
		if now == nil || now.Beat != beat {
			return nil, errOvertaken
		}
		next := *now
		next.Idle = true
		return &next, nil
	})
	if errors.Is(err, errOvertaken) {
		err = nil
	}
	return err
}

func (p *Place) errOther(s standing) error {
	where := "is place " + format.SpaceID(s.mark.Place).String()
	switch {
	case s.raw == nil:
		where = "has no mark of this store"
	case s.mark.State == left:
		where = "has had them until they were moved to place " + format.SpaceID(s.mark.Other).String()
	}
	return &Error{ErrOther, fmt.Sprintf("the data says %s (place %s); %s %s. All servers need the same epoch-keys. If "+
		"the keys are to go elsewhere, \"visage store move-keys\" moves them; if they were lost, \"visage keyring "+
		"import\" brings them back", s.doc.Name, format.SpaceID(s.doc.ID), p.Name(), where)}
}

func (p *Place) errBeside(s standing) error {
	return &Error{ErrOther, fmt.Sprintf("the data says %s (place %s), which other processes that have the store open "+
		"may use; stop them before one accepts %s, and wait 15 seconds for one that was killed", s.doc.Name,
		format.SpaceID(s.doc.ID), p.Name())}
}

func (p *Place) errMoving(s standing) error {
	return &Error{ErrMoving, fmt.Sprintf("from %s to %s; finish it with the same \"visage store move-keys FROM TO\" "+
		"before a server starts", s.doc.Name, s.doc.Moving.Name)}
}

func (p *Place) errCopy(s standing) error {
	return &Error{ErrCopy, fmt.Sprintf("the mark of %s was replaced by a copy that is not this one, or this data is "+
		"older than the place. If this is a copy, give it keys of its own: restore a backup with another epoch-keys. "+
		"If this data was put back on purpose, and nothing else uses the place, start once with --accept-rollback",
		p.Name())}
}
