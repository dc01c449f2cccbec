package sealed_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/visage-face/visage/sealed"
)

// storm is many writers on the containers of some spaces, each with records of its own and one that all of a space
// change.
type storm struct {
	store  *sealed.Store
	spaces []sealed.SpaceID

	mu       sync.Mutex
	counted  map[sealed.SpaceID]int // changes of the common record that were acknowledged
	happened map[string]int
}

func (s *storm) count(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.happened[what]++
}

var errGivenUp = errors.New("given up")

// write does rounds of random transactions, and knows afterwards what there is of the writer's own.
func (s *storm) write(t *testing.T, writer int, random *rand.Rand, rounds int) map[sealed.SpaceID]model {
	want := map[sealed.SpaceID]model{}
	for _, id := range s.spaces {
		want[id] = model{"x": {}, "y": {}, fmt.Sprint("own ", writer): {}}
	}
	for round := range rounds {
		id := s.spaces[random.IntN(len(s.spaces))]
		ctx, cancel := context.WithCancel(context.Background())
		next := want[id].clone()
		change := random.IntN(2) == 0
		end := random.IntN(16) // how the function ends
		length := random.IntN(6)
		whole := random.IntN(12) == 0
		seed := random.Uint64()
		fn := func(tx sealed.Tx) error {
			steps := rand.New(rand.NewPCG(seed, 1)) // it may run twice
			next = want[id].clone()
			for range length {
				if err := s.step(steps, tx, writer, next, round); err != nil {
					return err
				}
			}
			if whole {
				if err := s.scan(tx, writer, next); err != nil {
					return err
				}
			}
			if change {
				c, err := counters.In().Get(tx, "common")
				if err != nil && !errors.Is(err, sealed.ErrNotFound) {
					return err
				}
				if err := counters.In().Put(tx, "common", counter{c.N + 1}); err != nil {
					return err
				}
			}
			switch end {
			case 0:
				return errGivenUp
			case 1:
				panic(fmt.Sprint("writer ", writer))
			case 2:
				runtime.Goexit()
			case 3:
				cancel()
			}
			return nil
		}
		if end == 4 {
			go cancel() // wherever it is by then
		}
		err := s.transact(ctx, id, writer, random.IntN(8) == 0, fn)
		cancel()
		switch {
		case err == nil:
			want[id] = next
			if change {
				s.mu.Lock()
				s.counted[id]++
				s.mu.Unlock()
			}
			s.count("committed")
		case errors.Is(err, errGivenUp), errors.Is(err, errPanicked), errors.Is(err, errExited),
			errors.Is(err, context.Canceled),
			errors.Is(err, sealed.ErrLocked):
			s.count(errors.Unwrap(fmt.Errorf("%w", err)).Error()[:6])
		default:
			t.Errorf("writer %d, round %d: %v", writer, round, err)
			return want
		}
	}
	return want
}

var (
	errPanicked = errors.New("panicked")
	errExited   = errors.New("exited")
)

// transact runs a transaction on a goroutine of its own, which may end with it.
func (s *storm) transact(
	ctx context.Context, id sealed.SpaceID, writer int, erase bool, fn func(sealed.Tx) error,
) error {
	result := make(chan error, 1)
	go func() {
		err := errExited
		defer func() {
			if r := recover(); r != nil {
				err = errPanicked
				if r != fmt.Sprint("writer ", writer) {
					err = fmt.Errorf("somebody else's panic: %v", r)
				}
			}
			result <- err
		}()
		if erase {
			_, err = s.store.Space(id).Erase(ctx, fn)
			if _, delayed := errors.AsType[*sealed.EraseError](err); delayed {
				err = nil // the deletion is committed
			}
			return
		}
		err = s.store.Space(id).Update(ctx, fn)
	}()
	return <-result
}

func (s *storm) step(random *rand.Rand, tx sealed.Tx, writer int, want model, round int) error {
	parent := []string{"x", "y", fmt.Sprint("own ", writer)}[random.IntN(3)]
	id := fmt.Sprint(writer, "/", random.IntN(30))
	c, records := notes.In(parent), want[parent]
	switch random.IntN(8) {
	case 0, 1:
		_, there := records[id]
		if err := c.Delete(tx, id); there != (err == nil) || err != nil && !errors.Is(err, sealed.ErrNotFound) {
			return fmt.Errorf("delete %s/%s, there %t: %w", parent, id, there, err)
		}
		delete(records, id)
	case 2:
		got, err := c.Get(tx, id)
		text, there := records[id]
		if there && (err != nil || got.Text != text) || !there && !errors.Is(err, sealed.ErrNotFound) {
			return fmt.Errorf("get %s/%s: %v, %w, want %q", parent, id, got, err, text)
		}
		if has, err := c.Has(tx, id); err != nil || has != there {
			return fmt.Errorf("has %s/%s: %t, %w", parent, id, has, err)
		}
	case 3:
		if _, there := records[id]; there {
			return nil
		}
		if err := c.Add(tx, id, note{id, "added"}); err != nil {
			return err
		}
		records[id] = "added"
	default:
		text := strings.Repeat(fmt.Sprint(round), random.IntN(30))
		if err := c.Put(tx, id, note{id, text}); err != nil {
			return err
		}
		records[id] = text
	}
	return nil
}

// scan reads containers as a whole inside a transaction, which finds what the writer knows of.
func (s *storm) scan(tx sealed.Tx, writer int, want model) error {
	for parent, records := range want {
		got := map[string]string{}
		for v, err := range notes.In(parent).All(tx) {
			if err != nil {
				return err
			}
			if strings.HasPrefix(v.ID, fmt.Sprint(writer, "/")) {
				got[v.ID] = v.Text
			}
		}
		if !maps.Equal(got, records) {
			return fmt.Errorf("scan of %s: got %v, want %v", parent, got, records)
		}
	}
	return nil
}

// TestWritersThatShareCommitsAgreeWithAModel has 16 writers write to shared and to separate containers of two spaces,
// with functions that fail, panic, end their goroutine and scan, contexts that end, and locks, folds and drops in
// between. Each writer knows exactly what there must be.
func TestWritersThatShareCommitsAgreeWithAModel(t *testing.T) {
	engines(t, func(t *testing.T, cfg sealed.Config) {
		seed := seedOf(t)
		s := &storm{store: open(t, cfg), spaces: []sealed.SpaceID{spaceA, spaceB}, counted: map[sealed.SpaceID]int{},
			happened: map[string]int{}}
		s.store.SmallPages()
		for _, id := range s.spaces {
			create(t, s.store, id)
		}
		ctx, stop := context.WithCancel(t.Context())
		var background, writers sync.WaitGroup
		background.Go(func() {
			if err := s.store.Run(ctx); err != nil {
				t.Errorf("run: %v", err)
			}
		})
		background.Go(func() { // locks, folds and drops
			random := rand.New(rand.NewPCG(seed, 100))
			for ctx.Err() == nil {
				id := s.spaces[random.IntN(len(s.spaces))]
				switch random.IntN(4) {
				case 0:
					s.store.Bundle(id).Lock(errors.New("for a moment"))
					if err := s.store.Bundle(id).Load(context.Background(), nil); err != nil {
						t.Errorf("load: %v", err)
					}
				case 1:
					_ = s.store.Space(id).Fold(ctx) // ends with ctx, or with the lock
				case 2:
					_ = s.store.Anchor(ctx)
				case 3:
					update := func(tx sealed.Tx) error { return notes.In("dropped").Put(tx, "1", note{"1", "dropped"}) }
					if s.store.Space(id).Update(ctx, update) == nil {
						_ = notes.In("dropped").Drop(ctx, s.store.Space(id))
					}
				}
				runtime.Gosched()
			}
		})
		const count = 16
		want := make([]map[sealed.SpaceID]model, count)
		for w := range count {
			writers.Go(func() { want[w] = s.write(t, w, rand.New(rand.NewPCG(seed, uint64(w))), 60) })
		}
		writers.Wait()
		stop()
		background.Wait()
		for _, id := range s.spaces {
			for s.store.Bundle(id).Load(t.Context(), nil) != nil {
			}
			sp := s.store.Space(id)
			expected := map[string]map[string]string{"x": {}, "y": {}}
			for _, of := range want {
				for parent, records := range of[id] {
					if expected[parent] == nil {
						expected[parent] = map[string]string{}
					}
					maps.Copy(expected[parent], records)
				}
			}
			for parent, records := range expected {
				if got := all(t, sp, parent); !maps.Equal(got, records) {
					t.Errorf("space %s, container %s: got %v, want %v", id, parent, got, records)
				}
			}
			err := sp.View(t.Context(), func(r sealed.Reader) error {
				got, err := counters.In().Get(r, "common")
				if got.N != s.counted[id] {
					t.Errorf("space %s: the common record was changed %d times, and it says %d", id, s.counted[id],
						got.N)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		}
		verifyClean(t, s.store)
		t.Logf("%v", s.happened)
		for _, what := range []string{"committed", "given ", "panick", "exited", "contex"} {
			if s.happened[what] == 0 {
				t.Errorf("nothing %s: the test looks at the wrong things", what)
			}
		}
	})
}

// TestDroppedUnderAMember drops a space while a function that writes to it is still at work: what it reads then is of a
// space that is gone, and not damaged.
func TestDroppedUnderAMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config(t, "memory")
		damage := 0
		cfg.Report = func(e sealed.Event) {
			if e.Kind == sealed.Corrupt {
				damage++
			}
		}
		s := open(t, cfg)
		sp := create(t, s, spaceA)
		put(t, sp, "a", note{"1", "one"})
		inside, dropped := make(chan struct{}), make(chan struct{})
		ended := make(chan error)
		go func() {
			ended <- sp.Update(t.Context(), func(tx sealed.Tx) error {
				close(inside)
				<-dropped
				_, err := notes.In("a").Get(tx, "1")
				return err
			})
		}()
		<-inside
		if err := s.Spaces().Drop(t.Context(), spaceA); err != nil {
			t.Fatal(err)
		}
		close(dropped)
		if err := <-ended; !errors.Is(err, sealed.ErrNoSpace) && !errors.Is(err, sealed.ErrLocked) || damage > 0 {
			t.Errorf("got %v and %d reports of damage, want a space that is gone", err, damage)
		}
	})
}
