package bench_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/visage-face/visage/keysource/file"
	"github.com/visage-face/visage/sealed"
)

// openStore makes a store on the embedded engine under dir and runs its background work, as a server does.
func openStore(b *testing.B, dir string) *sealed.Store {
	b.Helper()
	return openConfig(b, storeConfig(b, dir))
}

// storeConfig is that of a store in a directory, with its keys and its root key.
func storeConfig(b *testing.B, dir string) sealed.Config {
	b.Helper()
	data, keys := filepath.Join(dir, "data"), filepath.Join(dir, "keys")
	for _, d := range []string{data, keys} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			b.Fatalf("make a directory: %v", err)
		}
	}
	source, err := file.New(filepath.Join(keys, "root.key"), data)
	if err != nil {
		b.Fatalf("name the root key: %v", err)
	}
	if err := source.Create(); err != nil && !errors.Is(err, fs.ErrExist) {
		b.Fatalf("make the root key: %v", err)
	}
	return sealed.Config{
		Engine: "pebble:" + data, KeyDir: keys,
		Protectors: []sealed.Protector{{Name: "file", Kind: "file", Exposed: true, Source: source}},
	}
}

// openConfig opens a store, and runs it until the benchmark ends.
func openConfig(b *testing.B, cfg sealed.Config) *sealed.Store {
	b.Helper()
	store, end := startStore(b, cfg)
	b.Cleanup(end)
	return store
}

// startStore opens a store, and runs it until end is called.
func startStore(b *testing.B, cfg sealed.Config) (store *sealed.Store, end func()) {
	b.Helper()
	store, err := sealed.Open(b.Context(), cfg)
	if err != nil {
		b.Fatalf("open the store: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var background sync.WaitGroup
	background.Go(func() {
		if err := store.Run(ctx); err != nil {
			b.Errorf("run the store: %v", err)
		}
	})
	return store, func() {
		cancel()
		background.Wait()
		if err := store.Close(); err != nil {
			b.Errorf("close the store: %v", err)
		}
	}
}

// makeSpace creates a space and returns it.
func makeSpace(b *testing.B, store *sealed.Store, id [16]byte) *sealed.Space {
	b.Helper()
	if err := store.Spaces().Create(b.Context(), sealed.SpaceID(id)); err != nil {
		b.Fatalf("create a space: %v", err)
	}
	return store.Space(sealed.SpaceID(id))
}
