package sealed_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"

	"github.com/visage-face/visage/sealed"
)

// TestEachVisitsWhatAllYields visits a container of several chunks, partly folded, before its transaction's end too.
func TestEachVisitsWhatAllYields(t *testing.T) {
	engines(t, func(t *testing.T, cfg sealed.Config) {
		sp := create(t, open(t, cfg), spaceA)
		var list []note
		for i := range 1500 {
			list = append(list, note{fmt.Sprint("n", i), fmt.Sprint("text ", i)})
		}
		put(t, sp, "x", list[:1200]...)
		if err := sp.Fold(t.Context()); err != nil {
			t.Fatal(err)
		}
		put(t, sp, "x", list[1200:]...)
		put(t, sp, "y", note{"other", "container"})
		visited := func(r sealed.Reader) (map[string]int, error) {
			var mu sync.Mutex
			seen := map[string]int{}
			err := notes.In("x").Each(t.Context(), r, func(encoded []byte) error {
				mu.Lock()
				defer mu.Unlock()
				seen[string(encoded)]++
				return nil
			})
			return seen, err
		}
		var before, now map[string]int
		err := sp.View(t.Context(), func(r sealed.Reader) (err error) {
			before, err = visited(r)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		for encoded, n := range before {
			if n != 1 {
				t.Errorf("%q was visited %d times", encoded, n)
			}
		}
		if len(before) != len(list) {
			t.Errorf("%d records were visited, want %d", len(before), len(list))
		}
		update(t, sp, func(tx sealed.Tx) (err error) {
			if err := notes.In("x").Put(tx, "new", note{"new", "text"}); err != nil {
				return err
			}
			now, err = visited(tx) // an error lets a transaction of a shared store run again
			return err
		})
		maps.DeleteFunc(now, func(encoded string, _ int) bool { return before[encoded] == 1 })
		if len(now) != 1 {
			t.Errorf("the transaction's own record: %d more were visited, want one", len(now))
		}
	})
}

func TestEachStops(t *testing.T) {
	sp := create(t, open(t, config(t, "memory")), spaceA)
	var list []note
	for i := range 2000 {
		list = append(list, note{fmt.Sprint(i), "text"})
	}
	put(t, sp, "x", list...)
	enough := errors.New("enough")
	err := sp.View(t.Context(), func(r sealed.Reader) error {
		return notes.In("x").Each(t.Context(), r, func([]byte) error { return enough })
	})
	if !errors.Is(err, enough) {
		t.Errorf("with visit's error: got %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	err = sp.View(t.Context(), func(r sealed.Reader) error {
		return notes.In("x").Each(ctx, r, func([]byte) error {
			cancel(enough)
			return nil
		})
	})
	if !errors.Is(err, enough) {
		t.Errorf("with its context: got %v", err)
	}
	err = sp.View(t.Context(), func(r sealed.Reader) error {
		return notes.In("nothing").Each(t.Context(), r, func([]byte) error { return enough })
	})
	if err != nil {
		t.Errorf("of an empty container: %v", err)
	}
}
