package faceapi_test

import (
	"testing"

	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/sealed"
)

// newStore makes a store in memory with the spaces of a faceServer's resources.
func newStore(t testing.TB) *sealed.Store {
	t.Helper()
	store, err := sealed.Open(t.Context(), sealed.Config{
		Engine:     "memory:",
		Protectors: []sealed.Protector{{Name: "test", Kind: "fake", Source: sourcetest.NewFake("root")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Errorf("close store: %v", err)
		}
	})
	for _, id := range []sealed.SpaceID{sealed.SpaceID(alice.ID), sealed.SpaceID(bob.ID)} {
		if err := store.Spaces().Create(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	return store
}
