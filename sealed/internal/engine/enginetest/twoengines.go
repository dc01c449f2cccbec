package enginetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
)

func two(t *testing.T, p Place) [2]engine.Engine {
	t.Helper()
	if !p.Shared {
		t.Skip("this engine's place is not shared")
	}
	return [2]engine.Engine{open(t, p), open(t, p)}
}

// testTwoSerial has writers of two engines, each with transactions of all scopes and of one, count what the others have
// written.
func testTwoSerial(t *testing.T, p Place) {
	engines := two(t, p)
	const writers, each = 4, 15
	add := func(w engine.Writer) error {
		n := len(scan(t, w, []byte("n"), []byte("o")))
		return w.Put(fmt.Appendf(nil, "n%08d", n), Value(n))
	}
	var all sync.WaitGroup
	for i := range writers {
		all.Go(func() {
			e := engines[i%2]
			for k := range each {
				var err error
				if k%3 == 0 {
					err = e.Update(context.Background(), add)
				} else {
					err = engine.CommitAndWait(context.Background(), e, format.ID{'n'}, add)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	for _, e := range engines {
		view(t, e, func(r engine.Reader) {
			if got := len(scan(t, r, []byte("n"), []byte("o"))); got != writers*each {
				t.Errorf("%d rows, want %d: transactions overlapped", got, writers*each)
			}
		})
	}
}

// testTwoScopes has a transaction of one engine under way while another engine commits to another scope, and is asked
// to write to the same one: that waits until its context ends.
func testTwoScopes(t *testing.T, p Place) {
	engines := two(t, p)
	cause := errors.New("cause")
	put := func(key string, n int) func(engine.Writer) error {
		return func(w engine.Writer) error { return w.Put([]byte(key), Value(n)) }
	}
	inside, leave, done := make(chan struct{}, 1), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- engine.CommitAndWait(context.Background(), engines[0], format.ID{'a'}, func(w engine.Writer) error {
			select {
			case inside <- struct{}{}:
			default: // it runs again
			}
			<-leave
			return put("a", 1)(w)
		})
	}()
	<-inside
	if err := engine.CommitAndWait(t.Context(), engines[1], format.ID{'b'}, put("b", 1)); err != nil {
		t.Errorf("commit to another scope: %v", err)
	}
	for name, run := range map[string]func(context.Context) error{
		"a commit of the scope": func(ctx context.Context) error {
			return engine.CommitAndWait(ctx, engines[1], format.ID{'a'}, put("a", 2))
		},
		"an update": func(ctx context.Context) error { return engines[1].Update(ctx, put("a", 2)) },
	} {
		ctx, end := context.WithCancelCause(t.Context())
		result := make(chan error, 1)
		go func() { result <- run(ctx) }()
		for range 100 { // long enough for it to run, if it could
			view(t, engines[0], func(r engine.Reader) { holds(t, r, "a", -1) })
		}
		end(cause)
		if err := <-result; !errors.Is(err, cause) {
			t.Errorf("%s of another engine ran beside a commit of the scope: %v", name, err)
		}
	}
	close(leave)
	if err := <-done; err != nil {
		t.Error(err)
	}
	for _, e := range engines {
		view(t, e, func(r engine.Reader) {
			holds(t, r, "a", 1)
			holds(t, r, "b", 1)
		})
	}
}
