package archive_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/visage-face/visage/internal/durable"
	"github.com/visage-face/visage/sealed/archive"
)

// untouched makes sure that an Add that failed left an archive as if it had not been: nothing is listed, no file is
// half there, and what an earlier Add had kept is as it was.
func untouched(t *testing.T, a *archive.Archive, dir string, kept ...archive.Backup) {
	t.Helper()
	all, err := a.List()
	if err != nil || len(all) != len(kept) {
		t.Errorf("%d backups are listed, want %d, %v", len(all), len(kept), err)
	}
	for _, b := range kept {
		if err := a.Verify(t.Context(), b); err != nil {
			t.Error(err)
		}
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(d.Name(), ".new-") {
			t.Errorf("%s is left behind", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestFaultsByIndex fails, fills the disk or cancels at each step of writing the nth chunk, for n = 0, 1, 2 … until a
// run ends clean: every fault is noticed, and what was written before the fault is used by the next run.
func TestFaultsByIndex(t *testing.T) {
	whole := rows(t, 12_000, time.Unix(1, 0))
	broken := errors.New("broken")
	faults := map[string]func(cancel context.CancelCauseFunc) error{
		"failed": func(context.CancelCauseFunc) error { return broken },
		"disk full": func(context.CancelCauseFunc) error {
			return errors.Join(broken, &fs.PathError{Op: "write", Err: syscall.ENOSPC})
		},
		"cancelled": func(cancel context.CancelCauseFunc) error { cancel(broken); return nil },
	}
	steps := []durable.Step{durable.StepWrite, durable.StepSync, durable.StepReadBack, durable.StepPlace}
	// run adds a backup to a new archive with a fault at the nth time of a step, and reports whether there was one.
	run := func(t *testing.T, name string, step durable.Step, n int64) bool {
		a, dir := open(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		var at atomic.Int64
		a.Before(func(s durable.Step, _ string) error {
			if s == step && at.Add(1)-1 == n {
				return faults[name](cancel)
			}
			return nil
		})
		added, err := a.Add(ctx, bytes.NewReader(whole))
		if at.Load() <= n {
			if err != nil {
				t.Errorf("without a fault: %v", err)
			}
			untouched(t, a, dir, added.Backup)
			return false
		}
		if !errors.Is(err, broken) {
			t.Errorf("chunk %d: %v", n, err)
		}
		if name == "disk full" && !durable.IsFull(err) {
			t.Errorf("chunk %d: %v does not say that the disk is full", n, err)
		}
		untouched(t, a, dir)
		a.Before(nil)
		if added, err = a.Add(t.Context(), bytes.NewReader(whole)); err != nil {
			t.Fatalf("chunk %d: again, without a fault: %v", n, err)
		}
		untouched(t, a, dir, added.Backup)
		return true
	}
	for name := range faults {
		for _, step := range steps {
			t.Run(name+"/"+string(step), func(t *testing.T) {
				n := int64(0)
				for run(t, name, step, n) && !t.Failed() {
					n++
				}
				if n < 2 {
					t.Errorf("%d chunks were written", n)
				}
			})
		}
	}
}

// TestChunkThatChangesOnTheDisk: what is on the disk is read back, and not what the writer remembers.
func TestChunkThatChangesOnTheDisk(t *testing.T) {
	whole := rows(t, 5_000, time.Unix(1, 0))
	for name, change := range map[string]func(f *os.File, size int64) error{
		"first byte": func(f *os.File, _ int64) error { _, err := f.WriteAt([]byte{0xff}, 0); return err },
		"inside": func(f *os.File, size int64) error {
			_, err := f.WriteAt([]byte{0, 1, 2, 3, 4, 5, 6, 7}, size/2)
			return err
		},
		"last byte": func(f *os.File, size int64) error {
			var b [1]byte
			if _, err := f.ReadAt(b[:], size-1); err != nil {
				return err
			}
			b[0]++
			_, err := f.WriteAt(b[:], size-1)
			return err
		},
		"cut":    func(f *os.File, size int64) error { return f.Truncate(size - 1) },
		"longer": func(f *os.File, size int64) error { return f.Truncate(size + 1) },
		"empty":  func(f *os.File, _ int64) error { return f.Truncate(0) },
	} {
		t.Run(name, func(t *testing.T) {
			a, dir := open(t)
			var changed atomic.Bool
			a.Before(func(step durable.Step, file string) error {
				if step != durable.StepReadBack || changed.Swap(true) {
					return nil
				}
				f, err := os.OpenFile(file, os.O_RDWR, 0)
				if err != nil {
					return err
				}
				info, err := f.Stat()
				if err != nil {
					return err
				}
				return errors.Join(change(f, info.Size()), f.Close())
			})
			if _, err := a.Add(t.Context(), bytes.NewReader(whole)); !errors.Is(err, archive.ErrDamaged) {
				t.Errorf("got %v", err)
			}
			untouched(t, a, dir)
			if !changed.Load() {
				t.Error("nothing was read back")
			}
			added, err := a.Add(t.Context(), bytes.NewReader(whole))
			if err != nil {
				t.Fatal(err)
			}
			untouched(t, a, dir, added.Backup)
		})
	}
}

// TestConnectionThatEnds: a stream that ends or fails anywhere is not added, and keeps nothing waiting.
func TestConnectionThatEnds(t *testing.T) {
	a, dir := open(t)
	kept := add(t, a, rows(t, 5_000, time.Unix(1, 0))).Backup
	whole := rows(t, 20_000, time.Unix(2, 0), 1, 9_000)
	for _, at := range []int{0, 1, 17, 100, 200, 1 << 20, len(whole) / 2, len(whole) - 50, len(whole) - 33,
		len(whole) - 1} {
		if _, err := a.Add(t.Context(), bytes.NewReader(whole[:at])); !errors.Is(err, archive.ErrMalformed) {
			t.Errorf("cut at %d: %v", at, err)
		}
		r := io.MultiReader(bytes.NewReader(whole[:at]), iotest.ErrReader(io.ErrClosedPipe))
		if _, err := a.Add(t.Context(), r); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("failed at %d: %v", at, err)
		}
		untouched(t, a, dir, kept)
	}
	changed := bytes.Clone(whole)
	changed[len(changed)/2] ^= 1
	if _, err := a.Add(t.Context(), bytes.NewReader(changed)); !errors.Is(err, archive.ErrMalformed) {
		t.Errorf("changed on its way: %v", err)
	}
	untouched(t, a, dir, kept)
}

// TestTwoAtOnce: two backups that are added at the same time share what they have in common, and both are whole.
func TestTwoAtOnce(t *testing.T) {
	_, dir := open(t)
	var all sync.WaitGroup
	for i, whole := range [][]byte{rows(t, 20_000, time.Unix(1, 0)), rows(t, 20_000, time.Unix(2, 0), 3, 15_000)} {
		all.Go(func() {
			a, err := archive.Open(dir) // as in another process
			if err == nil {
				_, err = a.Add(t.Context(), bytes.NewReader(whole))
			}
			if err != nil {
				t.Errorf("backup %d: %v", i, err)
			}
		})
	}
	all.Wait()
	a, err := archive.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	backups, err := a.List()
	if err != nil || len(backups) != 2 {
		t.Fatalf("%d backups, %v", len(backups), err)
	}
	untouched(t, a, dir, backups...)
	if n := len(chunks(t, dir)); n >= len(backups[0].Chunks)+len(backups[1].Chunks) {
		t.Errorf("%d chunks: the two share none", n)
	}
}

// TestVerifyEndsWithItsContext, and says so rather than that something is damaged.
func TestVerifyEndsWithItsContext(t *testing.T) {
	a, _ := open(t)
	b := add(t, a, rows(t, 10_000, time.Unix(1, 0))).Backup
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Verify(ctx, b); !errors.Is(err, context.Canceled) || errors.Is(err, archive.ErrDamaged) {
		t.Errorf("got %v", err)
	}
}

// TestPruneWhileAdding: a chunk that an Add counts on is not removed under it by another process.
func TestPruneWhileAdding(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("nothing is locked on this system")
	}
	a, dir := open(t)
	other, err := archive.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	var pruned atomic.Int32
	a.Before(func(step durable.Step, _ string) error {
		if step == durable.StepPlace {
			if _, _, err := other.Prune(1); err == nil {
				pruned.Add(1)
			} else if !errors.Is(err, archive.ErrBusy) {
				return err
			}
		}
		return nil
	})
	added := add(t, a, rows(t, 20_000, time.Unix(1, 0)))
	if pruned.Load() > 0 {
		t.Errorf("pruned %d times while a backup was added", pruned.Load())
	}
	untouched(t, a, dir, added.Backup)
	if _, _, err := other.Prune(1); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	untouched(t, a, dir, added.Backup)
}
