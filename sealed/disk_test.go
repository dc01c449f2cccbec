package sealed

import (
	"context"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/visage-face/visage/sealed/internal/pebble"
)

// OpenOn opens a store as Open does, over a file system that the test rules. The key directory is the operating system's.
func OpenOn(ctx context.Context, cfg Config, fs vfs.FS) (*Store, error) {
	eng, err := pebble.Open(pebble.Config{Dir: "data", FS: fs})
	if err != nil {
		return nil, err
	}
	return openOver(ctx, cfg, eng, "data")
}
