package face_test

import (
	"testing"

	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/sealed"
)

// newStore makes a store in memory with the spaces of two resources.
func newStore(t testing.TB) *sealed.Store {
	t.Helper()
	return openStore(t, sealed.Config{Engine: "memory:", Protectors: protectors(sourcetest.NewFake("root"))}, true)
}

func protectors(source *sourcetest.Fake) []sealed.Protector {
	return []sealed.Protector{{Name: "test", Kind: "fake", Source: source}}
}

func openStore(t testing.TB, cfg sealed.Config, create bool) *sealed.Store {
	t.Helper()
	store := must[*sealed.Store](t)(sealed.Open(t.Context(), cfg))
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Errorf("close store: %v", err)
		}
	})
	if create {
		for _, id := range []sealed.SpaceID{{1}, {2}} {
			mustDo(t, store.Spaces().Create(t.Context(), id))
		}
	}
	return store
}
