package place

import (
	"context"
	"errors"
	"fmt"

	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keys"
	"github.com/visage-face/visage/sealed/internal/keystore"
)

// ErrTaken says that a place that keys were to be moved to is in use by another copy of the store.
var ErrTaken = errors.New("it has the epoch keys of another copy of this store")

// Move is a move of all keys to another place: first Target, then the keys, then Finish. Servers do not open the store
// in between, with neither place. A move that was interrupted goes on with Target, also the other way round, or to a
// third place if the first one is lost.
type Move struct {
	// Abandoned is the name of another place that keys were being moved to. It may have some; empty: there is none.
	Abandoned string

	from *Place
	to   keystore.Place
	raw  []byte // of the mark of the target
	mark mark
}

// Target says, in the data and in the other place, that keys are being moved there. Errors: ErrTaken, *Error.
func (p *Place) Target(ctx context.Context, to keystore.Place) (*Move, error) {
	m := &Move{from: p, to: to}
	for {
		err := m.begin(ctx)
		if err == nil {
			return m, nil
		}
		if ctx.Err() != nil || !errors.Is(err, keystore.ErrChanged) && !errors.Is(err, errOvertaken) {
			return nil, err
		}
	}
}

func (m *Move) begin(ctx context.Context) (err error) {
	s, err := m.from.look(ctx)
	if err != nil {
		return err
	}
	if m.raw, err = m.to.Mark(ctx); err != nil && !errors.Is(err, keystore.ErrNotFound) {
		return fmt.Errorf("read the mark of %s: %w", m.to.Name(), err)
	}
	m.mark = mark{}
	if m.raw != nil {
		if m.mark, err = parse(m.raw); err != nil {
			return fmt.Errorf("%s: %w", m.to.Name(), err)
		}
	}
	at := format.ID(m.mark.Place)
	switch {
	case m.raw != nil && at == s.doc.ID: // the way back of a move that was begun, or one that was finished
		return nil
	case s.verdict == other && (s.doc.Moving == nil || at != s.doc.Moving.ID):
		return m.from.errOther(s) // the keys are in neither of the two
	case m.mark.State == arriving && format.ID(m.mark.Other) == s.doc.ID: // what an attempt before has left
	default:
		if err := m.free(ctx); err != nil {
			return err
		}
		m.mark = mark{Place: id(format.RandomID()), Count: 1, Beat: id(format.RandomID()), State: arriving,
			Other: id(s.doc.ID)}
		if err := m.to.SetMark(ctx, m.raw, m.mark.bytes()); err != nil {
			return err
		}
		m.raw = m.mark.bytes()
	}
	return m.from.change(ctx, func(now *keys.Placed) (*keys.Placed, error) {
		if now == nil || now.ID != s.doc.ID {
			return nil, errOvertaken
		}
		// The source has its keys, so that another target can take the place of the one that they were being moved to:
		// that one may have lost its mark, or be gone. Of keys that are there alone, the copying says so.
		if now.Moving != nil && now.Moving.ID != format.ID(m.mark.Place) && now.Moving.Name != m.to.Name() {
			m.Abandoned = now.Moving.Name
		}
		next := *now
		next.Moving = &keys.Moving{ID: format.ID(m.mark.Place), Name: m.to.Name()}
		return &next, nil
	})
}

// free makes sure that no store uses the target. A first mark without keys is of a store that did not come to use it,
// or of a move that went elsewhere.
func (m *Move) free(ctx context.Context) error {
	if m.raw == nil || m.mark.State == left {
		return nil
	}
	if m.mark.Count == 1 {
		if spaces, err := m.to.Spaces(ctx); err != nil || len(spaces) == 0 {
			return err
		}
	}
	return fmt.Errorf("%s: %w", m.to.Name(), ErrTaken)
}

// Finish makes the other place that of the store, when all keys are there and none is left. It ends the beats.
func (m *Move) Finish(ctx context.Context) error {
	m.from.End()
	s, err := m.from.look(ctx)
	if err != nil {
		return err
	}
	if s.raw != nil && s.mark.State != left {
		gone := s.mark
		gone.State, gone.Other = left, m.mark.Place
		if err := m.from.SetMark(ctx, s.raw, gone.bytes()); err != nil {
			return fmt.Errorf("write into %s that the keys have left it: %w", m.from.Name(), err)
		}
	}
	if s.doc.Moving == nil && s.doc.ID == format.ID(m.mark.Place) {
		if m.mark.State != left {
			return nil // it was finished before
		}
		// All but this was done before, on the way back to a place that the keys had left.
		return m.to.SetMark(ctx, m.raw, newest(s.doc).bytes())
	}
	var next keys.Placed
	err = m.from.change(ctx, func(now *keys.Placed) (*keys.Placed, error) {
		if now == nil || now.Moving == nil {
			return nil, errOvertaken
		}
		next = keys.Placed{ID: format.ID(m.mark.Place), Name: m.to.Name(), Count: max(now.Count, m.mark.Count) + 1,
			Beat: format.RandomID(), Before: format.ID(m.mark.Beat), Idle: true}
		return &next, nil
	})
	if err != nil {
		return err
	}
	// Or the next opening does it: the data knows this mark as the one before.
	return m.to.SetMark(ctx, m.raw, newest(&next).bytes())
}
