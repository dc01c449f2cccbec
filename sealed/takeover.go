package sealed

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/event"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/rowkey"
	"github.com/visage-face/visage/sealed/internal/tree"
)

// Processes that share a store finish what another one began and did not finish before it ended: the turns that
// deletions wait for, the destruction of epoch keys after a turn, the removal of dropped spaces, and the states that
// the root container and the anchors have to know.

// takeOverEvery is how long Run leaves, at most, between two looks at what other processes have left undone. It is also
// the time that a process has for what it began itself: two thirds of it at least, so that others do not look all at
// once.
const takeOverEvery = 30 * time.Second

// lookedTogether is how many spaces one snapshot is for: their heads are read in one round trip.
const lookedTogether = 200

// takeOverForever finishes what processes have left that ended, or that do not get on.
func (s *Store) takeOverForever(ctx context.Context) {
	if !s.sharedEngine() {
		return
	}
	present, unswept := s.Members(), false
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(takeOverEvery - rand.N(takeOverEvery/3)):
		}
		before := present
		present = s.Members()
		if anyLeft(before, present) {
			s.surveyAgain()
			unswept = true
		}
		if unswept { // a turn may have been cut off before its old keys were destroyed, or a drop
			err := s.sweepLeft(ctx)
			s.unswept.Store(&err)
			if unswept = err != nil; unswept && ctx.Err() == nil {
				s.report(Event{Kind: EraseDelayed, Note: s.epochs.Name(), Err: err})
			}
		}
		if err := s.findErasures(ctx); err != nil && ctx.Err() == nil {
			s.report(Event{Kind: EraseDelayed, Err: fmt.Errorf("look for deletions that wait: %w", err)})
		}
	}
}

// anyLeft reports whether a process that was there is not any more.
func anyLeft(before, now []Member) bool {
	return slices.ContainsFunc(before, func(m Member) bool {
		return !slices.ContainsFunc(now, func(n Member) bool { return n.ID == m.ID })
	})
}

// allKnown returns the spaces that have been used since the start.
func (s *Store) allKnown() (list []*Space) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sp := range s.spaces {
		list = append(list, sp)
	}
	return list
}

// findErasures looks in every open space for deletions that wait for a turn. Deletions that waited at the look before,
// under the same keys, are not being finished by the process that made them: this one turns the keys then.
func (s *Store) findErasures(ctx context.Context) error {
	for some := range slices.Chunk(s.allKnown(), lookedTogether) {
		states, err := s.rootStates(ctx, some)
		if err != nil {
			return err
		}
		for sp, state := range states {
			if state.Pair == (format.Pair{}) { // another process has turned the keys, which a transaction follows
				err := sp.view(ctx, func(t *tree.Tx) error {
					state = t.RootState()
					return nil
				})
				if err != nil {
					continue // who uses the space hears of it
				}
			}
			sp.sawRoot(state)
		}
	}
	return nil
}

// rootStates reads where the root containers of those spaces stand that are open: the zero state of one whose keys here
// are not those which it is sealed under.
func (s *Store) rootStates(ctx context.Context, spaces []*Space) (states map[*Space]tree.RootState, err error) {
	env := *s.env
	env.Report = func(Event) {} // who uses a space reports its damage
	keys := make([][]byte, len(spaces))
	for i, sp := range spaces {
		keys[i] = rowkey.Of(format.ID(sp.id), rowkey.Head, rowkey.Root, format.ID{})
	}
	err = s.engine.View(ctx, func(r engine.Reader) error {
		states = map[*Space]tree.RootState{}
		if read := engine.Prefetcher(r); read != nil {
			read(keys...)
		}
		for _, sp := range spaces {
			state, open, err := sp.rootStateIn(&env, r)
			switch {
			case err != nil && !event.IsCorrupt(err):
				return err
			case err == nil && open:
				states[sp] = state
			}
		}
		return nil
	})
	return states, err
}

// rootStateIn reads where the root container stands: see rootStates. It does not open a space that is not open.
func (sp *Space) rootStateIn(env *tree.Env, r engine.Reader) (state tree.RootState, open bool, err error) {
	ring, _ := sp.enterIfOpen()
	if ring == nil {
		return state, false, nil
	}
	defer sp.leave(ring)
	t := tree.NewReader(env, sp.id, ring.Ring, r)
	defer t.Finish()
	err = t.OpenRoot()
	if errors.Is(err, tree.ErrStale) {
		return state, true, nil
	}
	if err == nil {
		state = t.RootState()
	}
	return state, true, err
}

// sawRoot compares a look at the root container with the one before: what had been deleted before that one and still
// waits is this process's to finish.
func (sp *Space) sawRoot(now tree.RootState) {
	now.Row = nil // it is the snapshot's
	sp.mu.Lock()
	before := sp.seenRoot
	sp.seenRoot = now
	left := before.Erased && now.Erased && before.Pair == now.Pair
	if left && before.Sequence > sp.erasedAt {
		sp.erasedAt, sp.erasedUnder = before.Sequence, before.Pair
	}
	sp.mu.Unlock()
	if left {
		sp.store.erasures.add(sp.id)
	}
}

// surveyAgain has the states of all containers looked at anew: a process that ended may have left states that the root
// container does not know.
func (s *Store) surveyAgain() {
	for _, sp := range s.allKnown() {
		sp.mu.Lock()
		sp.surveyed = false
		sp.mu.Unlock()
	}
}

// surveySpaces notes, once for each space that was opened, and again after surveyAgain, what the root container and the
// anchor do not know.
func (s *Store) surveySpaces(ctx context.Context) error {
	var failed error
	for _, sp := range s.allKnown() {
		if err := sp.survey(ctx); err != nil && !isGone(err) {
			failed = errors.Join(failed, fmt.Errorf("look at the containers of space %s: %w", sp.id, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return failed
}

func (sp *Space) survey(ctx context.Context) error {
	sp.mu.Lock()
	due := !sp.surveyed && sp.ring != nil
	sp.surveyed = sp.surveyed || due // not after: a process may leave meanwhile
	sp.mu.Unlock()
	if !due {
		return nil
	}
	var unknown []format.ID
	err := sp.view(ctx, func(t *tree.Tx) (err error) {
		root := t.RootState()
		if unknown, err = t.UnknownStates(); err == nil && !sp.store.anchors.Knows(sp.id, root.Sequence) {
			unknown = append(unknown, rowkey.Root)
		}
		return err
	})
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if err != nil && !event.IsCorrupt(err) { // a transaction reports damage, and it does not go away
		sp.surveyed = false
	}
	for _, id := range unknown {
		sp.dirty[id] = true
	}
	return err
}
