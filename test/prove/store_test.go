package prove_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/visage-face/visage/keysource/file"
	"github.com/visage-face/visage/sealed"
)

// openStore opens the sealed store under dir, and creates it if it does not exist: data/ for the engine, keys/ for the
// root key and epoch keys.
func openStore(ctx context.Context, dir string) (*sealed.Store, error) {
	data, keys := filepath.Join(dir, "data"), filepath.Join(dir, "keys")
	for _, d := range []string{data, keys} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, err
		}
	}
	source, err := file.New(filepath.Join(keys, "root.key"), data)
	if err != nil {
		return nil, fmt.Errorf("name the root key: %w", err)
	}
	if err := source.Create(); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make the root key: %w", err)
	}
	return sealed.Open(ctx, sealed.Config{
		Engine: "pebble:" + data, KeyDir: keys,
		Protectors: []sealed.Protector{{Name: "file", Kind: "file", Exposed: true, Source: source}},
	})
}

// openSpace returns the space of the store child, and creates it if it does not exist.
func openSpace(ctx context.Context, store *sealed.Store) (*sealed.Space, error) {
	if err := store.Spaces().Create(ctx, proveSpace); err != nil && !errors.Is(err, sealed.ErrExists) {
		return nil, fmt.Errorf("create the space: %w", err)
	}
	return store.Space(proveSpace), nil
}
