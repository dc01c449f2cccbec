package sealed

import (
	"context"
	"reflect"
	"sync"
	"unsafe"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/pebble"
)

// OpenOn opens a store as Open does, over a file system that the test rules. The key directory is the operating
// system's.
func OpenOn(ctx context.Context, cfg Config, fs vfs.FS) (*Store, error) {
	eng, err := pebble.Open(pebble.Config{Dir: "data", FS: fs, Admit: cfg.admit})
	if err != nil {
		return nil, err
	}
	return openOver(ctx, cfg, eng, "data")
}

// Phase is a moment of a commit.
type Phase string

// The phases of a commit.
const (
	BeforeSealing Phase = "before it is sealed"
	AfterSealing  Phase = "after it was sealed"
	AfterApplying Phase = "after it was applied, before it is durable"
)

// OpenWatched is OpenOn, and calls watch in each phase of every commit to a space.
func OpenWatched(ctx context.Context, cfg Config, fs vfs.FS, watch func(SpaceID, Phase)) (*Store, error) {
	eng, err := pebble.Open(pebble.Config{Dir: "data", FS: fs, Admit: cfg.admit})
	if err != nil {
		return nil, err
	}
	return openOver(ctx, cfg, watched{eng, eng, watch}, "data")
}

type watched struct {
	engine.Engine
	engine.Volume
	watch func(SpaceID, Phase)
}

func (e watched) Commit(
	ctx context.Context, scope format.ID, fn func(engine.Writer) error,
) (wait func() error, err error) {
	e.watch(SpaceID(scope), BeforeSealing)
	wait, err = e.Engine.Commit(ctx, scope, func(w engine.Writer) error {
		err := fn(w)
		e.watch(SpaceID(scope), AfterSealing)
		return err
	})
	if err == nil {
		e.watch(SpaceID(scope), AfterApplying)
	}
	return wait, err
}

// Queued is how many wait for their turn to write to the space. Nobody but tests asks, so the room of commits has no
// door for it.
func (sp *Space) Queued() int {
	floor := reflect.ValueOf(sp.writing).Elem().FieldByName("floor")
	mu := (*sync.Mutex)(unsafe.Pointer(floor.FieldByName("mu").UnsafeAddr()))
	mu.Lock()
	defer mu.Unlock()
	return floor.FieldByName("waiting").Len()
}
