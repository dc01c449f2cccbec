package sealed_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/visage-face/visage/sealed"
)

// diary is what transactions on one space saw and did. Each of them reads a clock and moves it on, so that the clock
// tells in which order they were committed.
type diary struct {
	sp *sealed.Space

	mu        sync.Mutex
	committed []transaction
	refused   []int // what the clock said to functions that failed of themselves
	counts    map[string]int
}

type transaction struct {
	clock int
	steps []observation
}

// observation is one step of a transaction and what it saw.
type observation struct {
	do, parent, id, text string
	there                bool
	all                  map[string]string // of a scan
}

// transact runs a random transaction, and takes down what it saw if it was acknowledged.
func (h *diary) transact(writer int, random *rand.Rand) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	seed, end := random.Uint64(), random.IntN(14)
	var clock int
	var saw []observation
	fn := func(tx sealed.Tx) error {
		steps := rand.New(rand.NewPCG(seed, 1)) // it may run twice
		saw = nil
		now, err := counters.In().Get(tx, "clock")
		if err != nil {
			return err
		}
		clock = now.N
		for i := range steps.IntN(6) {
			o, err := h.step(tx, steps, fmt.Sprint(clock, "/", i))
			if err != nil {
				return err
			}
			saw = append(saw, o)
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
		case 4:
			if err := notes.In("dropped").Put(tx, fmt.Sprint(clock), note{fmt.Sprint(clock), "dropped"}); err != nil {
				return err
			}
		}
		return counters.In().Put(tx, "clock", counter{clock + 1})
	}
	if end == 5 {
		go cancel() // wherever it is by then
	}
	err := h.run(ctx, writer, random.IntN(8) == 0, fn)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err == nil:
		h.counts["committed"]++
		h.committed = append(h.committed, transaction{clock, saw})
	case errors.Is(err, errGivenUp):
		h.counts["given up"]++
		h.refused = append(h.refused, clock)
	case errors.Is(err, errPanicked), errors.Is(err, errExited), errors.Is(err, context.Canceled),
		errors.Is(err, sealed.ErrLocked):
		h.counts["ended otherwise"]++
	default:
		return err
	}
	return nil
}

// run runs a transaction on a goroutine of its own, which may end with it.
func (h *diary) run(ctx context.Context, writer int, erase bool, fn func(sealed.Tx) error) error {
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
			_, err = h.sp.Erase(ctx, fn)
			if _, delayed := errors.AsType[*sealed.EraseError](err); delayed {
				err = nil // the deletion is committed
			}
			return
		}
		err = h.sp.Update(ctx, fn)
	}()
	return <-result
}

// step does one thing to records that all writers share.
func (h *diary) step(tx sealed.Tx, random *rand.Rand, text string) (o observation, err error) {
	o.parent, o.id, o.text = string("xy"[random.IntN(2)]), fmt.Sprint(random.IntN(20)), text
	c := notes.In(o.parent)
	switch random.IntN(9) {
	case 0, 1:
		o.do, o.there = "delete", true
		if err = c.Delete(tx, o.id); errors.Is(err, sealed.ErrNotFound) {
			o.there, err = false, nil
		}
	case 2:
		o.do, o.there = "get", true
		var got note
		if got, err = c.Get(tx, o.id); errors.Is(err, sealed.ErrNotFound) {
			o.there, err = false, nil
		}
		o.text = got.Text
	case 3:
		o.do = "has"
		o.there, err = c.Has(tx, o.id)
	case 4: // add what is not there
		o.do = "insert"
		if o.there, err = c.Has(tx, o.id); err == nil && !o.there {
			err = c.Add(tx, o.id, note{o.id, text})
		}
	case 5:
		if random.IntN(4) > 0 {
			o.do = "has"
			o.there, err = c.Has(tx, o.id)
			break
		}
		o.do = "scan"
		o.all, err = h.scan(tx, c, random)
	default:
		o.do = "put"
		err = c.Put(tx, o.id, note{o.id, text})
	}
	return o, err
}

// scan reads a container as a whole, one way or the other, sometimes with a look at another one in the middle of it.
func (h *diary) scan(tx sealed.Tx, c sealed.Container[note], random *rand.Rand) (map[string]string, error) {
	all := map[string]string{}
	if random.IntN(2) == 0 {
		var mu sync.Mutex
		err := c.Each(context.Background(), tx, func(encoded []byte) error {
			var n note
			if err := cbor.Unmarshal(encoded, &n); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			all[n.ID] = n.Text
			return nil
		})
		return all, err
	}
	nested := random.IntN(2) == 0
	for n, err := range c.All(tx) {
		if err != nil {
			return nil, err
		}
		all[n.ID] = n.Text
		if nested {
			nested = false
			if err := notes.In("beside").Put(tx, "1", note{"1", n.Text}); err != nil {
				return nil, err
			}
			for _, err := range notes.In("beside").All(tx) { // which was written to just now
				if err != nil {
					return nil, err
				}
			}
		}
	}
	return all, nil
}

// check has a model do what was acknowledged, in the order of the clock: each transaction must have seen what the
// model has.
func (h *diary) check(t *testing.T) {
	slices.SortFunc(h.committed, func(a, b transaction) int { return a.clock - b.clock })
	want := model{"x": {}, "y": {}}
	for i, tx := range h.committed {
		if tx.clock != i {
			t.Fatalf("a transaction was told %d, after %d that were acknowledged", tx.clock, i)
		}
		for _, o := range tx.steps {
			records := want[o.parent]
			text, there := records[o.id]
			right := there == o.there
			switch o.do {
			case "delete":
				delete(records, o.id)
			case "get":
				right = right && text == o.text
			case "insert":
				if !there {
					records[o.id] = o.text
				}
			case "put":
				right = true
				records[o.id] = o.text
			case "scan":
				right = maps.Equal(records, o.all)
			}
			if !right {
				t.Errorf("transaction %d: %+v, where the model has %q (%t)", i, o, text, there)
			}
		}
	}
	for _, clock := range h.refused {
		if clock > len(h.committed) {
			t.Errorf("a function that failed was told %d, and %d were acknowledged", clock, len(h.committed))
		}
	}
	for parent, records := range want {
		if got := all(t, h.sp, parent); !maps.Equal(got, records) {
			t.Errorf("container %s: got %v, want %v", parent, got, records)
		}
	}
}

// TestTransactionsAreSerial has 16 writers read and write the same records, while the space is locked and loaded,
// folded, turned, anchored, verified and backed up. What was acknowledged must have happened in one order, in which
// everybody saw what was there.
func TestTransactionsAreSerial(t *testing.T) {
	engines(t, func(t *testing.T, cfg sealed.Config) {
		seed := seedOf(t)
		store := open(t, cfg)
		store.SmallPages()
		h := &diary{sp: create(t, store, spaceA), counts: map[string]int{}}
		update(t, h.sp, func(tx sealed.Tx) error { return counters.In().Put(tx, "clock", counter{}) })
		ctx, stop := context.WithCancel(t.Context())
		var background, writers sync.WaitGroup
		background.Go(func() {
			if err := store.Run(ctx); err != nil {
				t.Errorf("run: %v", err)
			}
		})
		background.Go(func() {
			random := rand.New(rand.NewPCG(seed, 100))
			for ctx.Err() == nil {
				switch random.IntN(8) {
				case 0:
					if random.IntN(10) > 0 { // most would meet nothing else
						break
					}
					store.Bundle(spaceA).Lock(errors.New("for a moment"))
					if err := store.Bundle(spaceA).Load(context.Background(), nil); err != nil {
						t.Errorf("load: %v", err)
					}
				case 1:
					_ = h.sp.Fold(ctx) // these end with ctx
				case 2:
					_ = store.Anchor(ctx)
				case 3:
					_ = notes.In("dropped").Drop(ctx, h.sp)
				case 4:
					keys, err := store.Bundle(spaceA).Keys(ctx)
					if err == nil {
						_ = store.Bundle(spaceA).Turn(ctx, keys.Slots[0].Generation, nil)
					}
				case 5:
					verifyClean(t, store)
				case 6:
					if _, err := store.Backup().WriteData(ctx, io.Discard); err != nil && ctx.Err() == nil {
						t.Errorf("backup: %v", err)
					}
				}
				runtime.Gosched()
			}
		})
		for w := range 16 {
			writers.Go(func() {
				random := rand.New(rand.NewPCG(seed, uint64(w)))
				for i := range 60 {
					if err := h.transact(w, random); err != nil {
						t.Errorf("writer %d, transaction %d: %v", w, i, err)
						return
					}
				}
			})
		}
		writers.Wait()
		stop()
		background.Wait()
		if err := store.Bundle(spaceA).Load(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		h.check(t)
		verifyClean(t, store)
		t.Logf("%v", h.counts)
	})
}
