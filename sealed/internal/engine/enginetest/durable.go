package enginetest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/visage-face/visage/sealed/internal/engine"
)

func testClose(t *testing.T, p Place) {
	e := open(t, p)
	inside, closed := make(chan struct{}), make(chan error, 1)
	var all sync.WaitGroup
	all.Go(func() {
		err := e.View(context.Background(), func(r engine.Reader) error {
			close(inside)
			for { // until Close has begun: a new transaction is refused while this one goes on
				if err := e.View(context.Background(), func(engine.Reader) error { return nil }); err != nil {
					break
				}
				runtime.Gosched()
			}
			select {
			case <-closed:
				t.Error("closed while a transaction was under way")
			default:
			}
			_, _, err := r.Get([]byte("a"))
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-inside
	closed <- e.Close()
	all.Wait()
	for range 2 {
		if err := e.View(t.Context(), func(engine.Reader) error { return nil }); !errors.Is(err, engine.ErrClosed) {
			t.Errorf("view: got %v, want %v", err, engine.ErrClosed)
		}
		if err := e.Update(t.Context(), func(engine.Writer) error { return nil }); !errors.Is(err, engine.ErrClosed) {
			t.Errorf("update: got %v, want %v", err, engine.ErrClosed)
		}
		if err := e.Close(); err != nil {
			t.Errorf("closed again: %v", err)
		}
	}
}

func testDurable(t *testing.T, p Place) {
	if p.Forgets {
		t.Skip("this engine forgets")
	}
	for round := range 3 {
		e, err := p.Open(t)
		if err != nil {
			t.Fatal(err)
		}
		view(t, e, func(r engine.Reader) {
			if got := len(scan(t, r, nil, nil)); got != round*50 {
				t.Errorf("round %d: %d rows, want %d", round, got, round*50)
			}
		})
		var all sync.WaitGroup
		for i := range 50 {
			all.Go(func() { put(t, e, fmt.Sprintf("%d/%d", round, i), i) })
		}
		all.Wait()
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func testOnce(t *testing.T, p Place) {
	if p.Forgets {
		t.Skip("each of this engine's is another")
	}
	e := open(t, p)
	second, err := p.Open(t)
	switch {
	case p.Shared && err == nil:
		put(t, e, "of one", 1)
		view(t, second, func(r engine.Reader) { holds(t, r, "of one", 1) })
		if err := second.Close(); err != nil {
			t.Error(err)
		}
	case p.Shared:
		t.Errorf("second opener: %v", err)
	case !errors.Is(err, engine.ErrInUse):
		if err == nil {
			second.Close()
		}
		t.Errorf("second opener: got %v, want %v", err, engine.ErrInUse)
	}
	put(t, e, "still", 1)
}
