package drill_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/server/drill"
)

// stuck is a server whose backup never ends, and of which no copy is made.
type stuck struct{ t *testing.T }

// Backup implements drill.Source.
func (stuck) Backup(ctx context.Context, _ func(io.Reader) error) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

// Keyring implements drill.Source.
func (stuck) Keyring(ctx context.Context, _ func(io.Reader) error) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

// Restore implements drill.Copies.
func (s stuck) Restore(context.Context, string, io.ReadSeeker, io.Reader) error {
	s.t.Error("a copy is made")
	return nil
}

// Start implements drill.Copies.
func (s stuck) Start(context.Context, string) (drill.Access, func() error, error) {
	s.t.Error("a copy is started")
	return drill.Access{}, nil, errors.ErrUnsupported
}

// left fails the test if a rehearsal has left files.
func left(t *testing.T, dir string) {
	t.Helper()
	if _, err := os.Lstat(filepath.Join(dir, "rehearsal")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder of the rehearsal is left: %v", err)
	}
}

// TestARehearsalEndsWithinAnHour rehearses on a server whose backup does not end.
func TestARehearsalEndsWithinAnHour(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		room, err := drill.New(drill.Config{Dir: dir, Copies: stuck{t}})
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		report, err := room.Run(t.Context(), stuck{t}, drill.Plan{Resource: "reception"}, nil)
		if took := time.Since(begun); !errors.Is(err, context.DeadlineExceeded) || report != nil || took != time.Hour {
			t.Errorf("after %v: %+v, %v", took, report, err)
		}
	})
	left(t, dir)
}

// TestARehearsalNeedsRoom has data of which no two copies fit on the volume: nothing is copied.
func TestARehearsalNeedsRoom(t *testing.T) {
	dir := t.TempDir()
	huge, err := os.Create(filepath.Join(dir, "data"))
	if err != nil {
		t.Fatal(err)
	}
	defer huge.Close()
	if err := huge.Truncate(4 << 40); err != nil { // without a byte on disk
		t.Skipf("this file system has no files with holes: %v", err)
	}
	room, err := drill.New(drill.Config{Dir: dir, Copies: stuck{t}})
	if err != nil {
		t.Fatal(err)
	}
	var steps []drill.Step
	report, err := room.Run(t.Context(), stuck{t}, drill.Plan{Resource: "reception"},
		func(s drill.Step) { steps = append(steps, s) })
	if _, short := errors.AsType[visage.Shortage](err); !short || report != nil {
		t.Errorf("%+v, %v", report, err)
	}
	if len(steps) != 1 || steps[0] != drill.StepRemove {
		t.Errorf("the steps were %q", steps)
	}
	left(t, dir)
}
