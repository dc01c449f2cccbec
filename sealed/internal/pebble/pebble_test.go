package pebble_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/engine/enginetest"
	"github.com/visage-face/visage/sealed/internal/pebble"
)

func TestConformance(t *testing.T) {
	enginetest.Run(t, func(t *testing.T) enginetest.Place {
		dir := t.TempDir()
		return enginetest.Place{Open: func(testing.TB) (engine.Engine,
			error) {
			return opened(pebble.Open(pebble.Config{Dir: dir}))
		}}
	})
}

// opened keeps a nil *pebble.Engine from becoming an engine that is not nil.
func opened(e *pebble.Engine, err error) (engine.Engine, error) {
	if err != nil {
		return nil, err
	}
	return e, nil
}

// TestPowerCut takes the power away after every few commits, with none, some or all of what was not synced surviving:
// what was acknowledged must be there, whole, in every case.
func TestPowerCut(t *testing.T) {
	for _, percent := range []int{0, 25, 50, 100} {
		t.Run(fmt.Sprint(percent), func(t *testing.T) {
			fs := vfs.NewCrashableMem()
			acknowledged := 0
			for round := range 12 {
				e, err := pebble.Open(pebble.Config{Dir: "data", FS: fs})
				if err != nil {
					t.Fatal(err)
				}
				rows := 0
				err = e.View(t.Context(), func(r engine.Reader) error {
					for _, err := range r.Scan(nil, nil) {
						if err != nil {
							return err
						}
						rows++
					}
					return nil
				})
				if err != nil || rows != acknowledged {
					t.Fatalf("round %d: %d rows, %v, want %d", round, rows, err, acknowledged)
				}
				for i := range 5 {
					err := e.Update(t.Context(), func(w engine.Writer) error {
						return errors.Join(w.Put(fmt.Appendf(nil, "%d/%d/a", round, i), enginetest.Value(i)),
							w.Put(fmt.Appendf(nil, "%d/%d/b", round, i), enginetest.Value(i)))
					})
					if err != nil {
						t.Fatal(err)
					}
					acknowledged += 2
				}
				after := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: crashRandom(round)})
				if err := e.Close(); err != nil {
					t.Fatal(err)
				}
				fs = after
			}
		})
	}
}

// TestFaultsByIndex fails the nth write to the log, for n = 0, 1, 2 … until a run ends without meeting it. Each failure
// must be noticed: the commit that met it must not be acknowledged, nor any later one, and what was acknowledged before
// must be there when the directory is opened anew.
func TestFaultsByIndex(t *testing.T) {
	met := 0
	for n := int32(0); ; n++ {
		disk := vfs.NewMem()
		var count, injected atomic.Int32
		armed := atomic.Bool{}
		faulty := errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
			logWrite := strings.HasSuffix(op.Path, ".log") &&
				(op.Kind == errorfs.OpFileWrite || op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData)
			if !armed.Load() || !logWrite || count.Add(1) != n+1 {
				return nil
			}
			injected.Add(1)
			return errorfs.ErrInjected
		}))
		e, err := pebble.Open(pebble.Config{Dir: "data", FS: faulty})
		if err != nil {
			t.Fatal(err)
		}
		armed.Store(true)
		acknowledged, failed := 0, false
		for i := range 6 {
			err := e.Update(context.Background(),
				func(w engine.Writer) error { return w.Put(fmt.Appendf(nil, "%d", i), enginetest.Value(i)) })
			if err == nil && failed {
				t.Fatalf("fault %d: a commit was acknowledged after one had failed", n)
			}
			failed = failed || err != nil
			if err == nil {
				acknowledged++
			}
		}
		armed.Store(false)
		if failed != (injected.Load() > 0) {
			t.Fatalf("fault %d: injected %d, noticed %t", n, injected.Load(), failed)
		}
		if failed {
			if err := e.View(context.Background(), func(engine.Reader) error { return nil }); err == nil {
				t.Errorf("fault %d: reads go on after the disk failed", n)
			}
		}
		if err := e.Close(); err != nil && !failed {
			t.Errorf("fault %d: close: %v", n, err)
		}
		if !failed {
			break
		}
		met++
	}
	if met == 0 {
		t.Error("no fault was ever met: the test looks at the wrong operations")
	}
	t.Logf("%d faults, each noticed", met)
}

func crashRandom(seed int) *rand.Rand { return rand.New(rand.NewPCG(uint64(seed), 1)) }

// TestADirectoryWithoutItsMarkersIsDamaged: the engine would take the directory for a new one, and remove everything in
// it.
func TestADirectoryWithoutItsMarkersIsDamaged(t *testing.T) {
	for _, marker := range []string{"marker.manifest", "marker.format-version"} {
		fs := vfs.NewMem()
		open := func() (*pebble.Engine, error) { return pebble.Open(pebble.Config{Dir: "data", FS: fs}) }
		e, err := open()
		if err != nil {
			t.Fatal(err)
		}
		err = e.Update(t.Context(), func(w engine.Writer) error { return w.Put([]byte("key"), enginetest.Value(1)) })
		if err := errors.Join(err, e.Close()); err != nil {
			t.Fatal(err)
		}
		files := func() (names []string) {
			names, err := fs.List("data")
			if err != nil {
				t.Fatal(err)
			}
			return names
		}
		for _, name := range files() {
			if strings.HasPrefix(name, marker) {
				if err := fs.Remove(fs.PathJoin("data", name)); err != nil {
					t.Fatal(err)
				}
			}
		}
		before := files()
		if _, err := open(); !errors.Is(err, engine.ErrDamaged) {
			t.Errorf("without %s: got %v, want %v", marker, err, engine.ErrDamaged)
		}
		for _, name := range before {
			if strings.HasSuffix(name, ".sst") && !slices.Contains(files(), name) {
				t.Errorf("without %s: %s was removed", marker, name)
			}
		}
	}
}

// TestReadAgain reads the same row many times after much was written: its block is kept, however much memory writing
// takes.
func TestReadAgain(t *testing.T) {
	var reads atomic.Int64
	counted := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileReadAt && strings.HasSuffix(op.Path, ".sst") {
			reads.Add(1)
		}
		return nil
	}))
	e, err := pebble.Open(pebble.Config{Dir: "data", FS: counted})
	if err != nil {
		t.Fatal(err)
	}
	const parts, rows = 48, 512
	long := strings.Repeat("k", 8<<10)
	key := func(part, row int) []byte { return fmt.Appendf(nil, "%d/%d/%s", part, row, long) }
	for part := range parts { // 192 MiB, 4 MiB at a time: all memory for what is written is in use
		err := e.Update(t.Context(), func(w engine.Writer) error {
			for row := range rows {
				if err := w.Put(key(part, row), enginetest.Value(row)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	defer e.Close()
	read := func() {
		t.Helper()
		err := e.View(t.Context(), func(r engine.Reader) error {
			_, ok, err := r.Get(key(1, 1))
			if err == nil && !ok {
				err = errors.New("the row is gone")
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	read()
	if reads.Load() == 0 {
		t.Fatal("the row is not in a table")
	}
	for range 1000 {
		before := reads.Load()
		for range 100 {
			read()
		}
		if reads.Load() == before {
			return
		}
		// a compaction may have read
	}
	t.Error("a row that is read again and again comes from its table each time")
}

// noTables is a file system that has no room for tables while it is full.
type noTables struct {
	vfs.FS
	full atomic.Bool
}

// Create implements vfs.FS.
func (n *noTables) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if n.full.Load() && strings.HasSuffix(name, ".sst") {
		return nil, &os.PathError{Op: "create", Path: name, Err: syscall.ENOSPC}
	}
	return n.FS.Create(name, category)
}

// TestClosesOnAFullVolume closes an engine whose last changes find no room for a table: they are in the log, and there
// when it opens again.
func TestClosesOnAFullVolume(t *testing.T) {
	fs := &noTables{FS: vfs.NewMem()}
	e, err := pebble.Open(pebble.Config{Dir: "data", FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	fs.full.Store(true)
	if err := e.Update(t.Context(),
		func(w engine.Writer) error { return w.Put([]byte("a"), enginetest.Value(1)) }); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	fs.full.Store(false)
	if e, err = pebble.Open(pebble.Config{Dir: "data", FS: fs}); err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	err = e.View(t.Context(), func(r engine.Reader) error {
		if value, ok, err := r.Get([]byte("a")); err != nil || !ok || len(value) == 0 {
			return fmt.Errorf("%d bytes, %v, %w", len(value), ok, err)
		}
		return nil
	})
	if err != nil {
		t.Errorf("what was written before: %v", err)
	}
}
