package memory_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/engine/enginetest"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/memory"
)

func TestConformance(t *testing.T) {
	enginetest.Run(t, func(*testing.T) enginetest.Place {
		return enginetest.Place{Forgets: true,
			Open: func(testing.TB) (engine.Engine, error) { return memory.New(), nil }}
	})
	n := 0
	enginetest.Run(t, func(*testing.T) enginetest.Place {
		n++
		name := fmt.Sprint(t.Name(), n)
		keep := memory.Open(name)
		t.Cleanup(func() { _ = keep.Close() })
		return enginetest.Place{Forgets: true,
			Open: func(testing.TB) (engine.Engine, error) { return memory.Open(name), nil }}
	})
}

// TestShared opens engines of one name, which have the same rows and epoch keys for as long as one of them is open.
func TestShared(t *testing.T) {
	space := format.ID{1}
	a, b := memory.Open(t.Name()), memory.Open(t.Name())
	err := a.Update(t.Context(), func(w engine.Writer) error { return w.Put([]byte("row"), enginetest.Value(1)) })
	if err = errors.Join(err, a.Epochs().Put(t.Context(), space, 1, []byte("key")), a.Close()); err != nil {
		t.Fatal(err)
	}
	there := func(e *memory.Engine) (rows, keys bool) {
		t.Helper()
		err := e.View(t.Context(), func(r engine.Reader) (err error) {
			_, rows, err = r.Get([]byte("row"))
			return err
		})
		_, keyErr := e.Epochs().Get(t.Context(), space, 1)
		if err != nil {
			t.Error(err)
		}
		return rows, keyErr == nil
	}
	if rows, keys := there(b); !rows || !keys || !b.Shared() {
		t.Errorf("the other engine has rows: %t, keys: %t", rows, keys)
	}
	other := memory.Open("another name")
	defer other.Close()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	again := memory.Open(t.Name())
	defer again.Close()
	for _, e := range []*memory.Engine{other, again} {
		if rows, keys := there(e); rows || keys {
			t.Errorf("rows: %t, keys: %t", rows, keys)
		}
	}
}

func TestConformanceOfASharedPlace(t *testing.T) {
	enginetest.Run(t, func(t *testing.T) enginetest.Place {
		return enginetest.Place{Forgets: true, Shared: true,
			Open: func(testing.TB) (engine.Engine, error) { return memory.Open(t.Name()), nil }}
	})
}
