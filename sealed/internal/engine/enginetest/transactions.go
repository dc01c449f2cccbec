package enginetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
)

func testIsolation(t *testing.T, p Place) {
	e := open(t, p)
	put(t, e, "old", 1)
	err := e.Update(t.Context(), func(w engine.Writer) error {
		if err := errors.Join(w.Put([]byte("new"), Value(2)), w.Delete([]byte("old")),
			w.Delete([]byte("never"))); err != nil {
			return err
		}
		holds(t, w, "new", 2)
		holds(t, w, "old", -1)
		view(t, e, func(r engine.Reader) {
			holds(t, r, "new", -1)
			holds(t, r, "old", 1)
		})
		return w.Put([]byte("new"), Value(3))
	})
	if err != nil {
		t.Fatal(err)
	}
	view(t, e, func(r engine.Reader) {
		holds(t, r, "new", 3)
		holds(t, r, "old", -1)
	})
}

func testRollback(t *testing.T, p Place) {
	e := open(t, p)
	put(t, e, "a", 1)
	stop := errors.New("stop")
	err := e.Update(t.Context(), func(w engine.Writer) error {
		return errors.Join(w.Put([]byte("a"), Value(2)), w.Put([]byte("b"), Value(2)), stop)
	})
	if !errors.Is(err, stop) {
		t.Errorf("got %v, want the function's error", err)
	}
	view(t, e, func(r engine.Reader) {
		holds(t, r, "a", 1)
		holds(t, r, "b", -1)
	})
	if err := e.View(t.Context(), func(engine.Reader) error { return stop }); err != stop {
		t.Errorf("view: got %v, want the function's error as it is", err)
	}
}

func testSerial(t *testing.T, p Place) {
	e := open(t, p)
	const writers, each = 8, 25
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for range each {
				err := e.Update(context.Background(), func(w engine.Writer) error {
					n := len(scan(t, w, nil, nil)) // of all rows so far: any other commit conflicts
					return w.Put(fmt.Appendf(nil, "%08d", n), Value(n))
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	view(t, e, func(r engine.Reader) {
		if got := len(scan(t, r, nil, nil)); got != writers*each {
			t.Errorf("%d rows, want %d: transactions overlapped", got, writers*each)
		}
	})
}

// testScopes has transactions of one scope, of another and of all wait for each other where they must, and nowhere
// else.
func testScopes(t *testing.T, p Place) {
	e := open(t, p)
	one, other := format.ID{'a'}, format.ID{'b'}
	cause := errors.New("cause")
	waited := 0
	write := func(key string, n int) func(engine.Writer) error {
		return func(w engine.Writer) error { return w.Put([]byte(key), Value(n)) }
	}
	wait, err := e.Commit(t.Context(), one, func(w engine.Writer) error {
		for name, run := range map[string]func(context.Context) error{
			"a commit of the scope": func(ctx context.Context) error {
				_, err := e.Commit(ctx, one, write("a", 2))
				return err
			},
			"an update": func(ctx context.Context) error { return e.Update(ctx, write("a", 2)) },
		} {
			ctx, end := context.WithCancelCause(t.Context())
			result := make(chan error, 1)
			go func() { result <- run(ctx) }()
			for range 1_000 { // long enough for it to run, if it could
				runtime.Gosched()
			}
			end(cause)
			if err := <-result; !errors.Is(err, cause) {
				t.Errorf("%s ran beside a commit of the scope: %v", name, err)
			}
			waited++
		}
		wait, err := e.Commit(t.Context(), other, write("b", 1)) // does not wait
		if err != nil {
			return err
		}
		view(t, e, func(r engine.Reader) { holds(t, r, "b", 1) })
		if err := wait(); err != nil {
			return err
		}
		if err := write("a", 1)(w); err != nil {
			return err
		}
		holds(t, w, "a", 1)
		view(t, e, func(r engine.Reader) { holds(t, r, "a", -1) })
		return nil
	})
	if err != nil || waited != 2 {
		t.Fatalf("commit: %v", err)
	}
	view(t, e, func(r engine.Reader) { holds(t, r, "a", 1) })
	again, err := e.Commit(t.Context(), one, func(w engine.Writer) error { // before the first is durable
		holds(t, w, "a", 1)
		return write("a", 3)(w)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, wait := range []func() error{again, wait} {
		if err := wait(); err != nil {
			t.Error(err)
		}
	}
	failed := errors.New("failed")
	if _, err := e.Commit(t.Context(), one, func(w engine.Writer) error {
		return errors.Join(write("a", 4)(w), failed)
	}); !errors.Is(err, failed) {
		t.Errorf("commit of a function that fails: %v", err)
	}
	if err := e.Update(t.Context(), func(w engine.Writer) error { // nothing is held any more
		holds(t, w, "a", 3)
		return nil
	}); err != nil {
		t.Error(err)
	}
}

func testUnsealed(t *testing.T, p Place) {
	e := open(t, p)
	err := e.Update(t.Context(), func(w engine.Writer) error { return w.Put([]byte("a"), format.Sealed{}) })
	if !errors.Is(err, engine.ErrUnsealed) {
		t.Errorf("got %v, want %v", err, engine.ErrUnsealed)
	}
}

func testContext(t *testing.T, p Place) {
	e := open(t, p)
	cause := errors.New("cause")
	ctx, end := context.WithCancelCause(t.Context())
	err := e.Update(ctx, func(w engine.Writer) error {
		// Another writer waits for this one, until its own context ends.
		waiting, stop := context.WithCancelCause(t.Context())
		stop(cause)
		if err := e.Update(
			waiting, func(engine.Writer) error { t.Error("ran beside another"); return nil },
		); !errors.Is(err, cause) {
			t.Errorf("waiting writer: got %v, want its cause", err)
		}
		end(cause)
		return w.Put([]byte("a"), Value(1))
	})
	if !errors.Is(err, cause) {
		t.Errorf("context ended while the function ran: got %v, want its cause", err)
	}
	if err := e.View(ctx, func(engine.Reader) error { return nil }); !errors.Is(err, cause) {
		t.Errorf("view with an ended context: got %v, want its cause", err)
	}
	view(t, e, func(r engine.Reader) { holds(t, r, "a", -1) })
}

func testModel(t *testing.T, p Place) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	model := map[string]int{}
	e, err := p.Open(t)
	if err != nil {
		t.Fatal(err)
	}
	for round := range 150 {
		next := map[string]int{}
		for k, v := range model {
			next[k] = v
		}
		give := errors.New("give up")
		err := e.Update(t.Context(), func(w engine.Writer) error {
			for range random.IntN(12) {
				key := fmt.Sprint(random.IntN(60))
				if random.IntN(3) == 0 {
					delete(next, key)
					if err := w.Delete([]byte(key)); err != nil {
						return err
					}
				} else {
					n := random.IntN(1000)
					next[key] = n
					if err := w.Put([]byte(key), Value(n)); err != nil {
						return err
					}
				}
			}
			if random.IntN(4) == 0 {
				return give
			}
			return nil
		})
		switch {
		case err == nil:
			model = next
		case !errors.Is(err, give):
			t.Fatal(err)
		}
		if !p.Forgets && round%40 == 39 {
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			if e, err = p.Open(t); err != nil {
				t.Fatal(err)
			}
		}
		view(t, e, func(r engine.Reader) {
			got := 0
			for row, err := range r.Scan(nil, nil) {
				if err != nil {
					t.Error(err)
				}
				if n, ok := model[string(row.Key)]; !ok || !bytes.Equal(row.Value, Value(n).Bytes()) {
					t.Errorf("round %d: row %q is not the model's", round, row.Key)
				}
				got++
			}
			if got != len(model) {
				t.Errorf("round %d: %d rows, want %d", round, got, len(model))
			}
		})
		if t.Failed() {
			break
		}
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}
