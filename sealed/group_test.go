package sealed_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/visage-face/visage/sealed"
)

// inOneGroup runs functions as transactions that follow each other without a pause, in this order, and returns what
// became of each.
func inOneGroup(t *testing.T, sp *sealed.Space, all ...func(sealed.Tx) error) []error {
	t.Helper()
	errs := make([]error, len(all))
	inside := make(chan struct{})
	var once sync.Once
	var writers sync.WaitGroup
	for i, fn := range all {
		writers.Go(func() {
			errs[i] = sp.Update(t.Context(), func(tx sealed.Tx) error {
				if i == 0 {
					once.Do(func() {
						close(inside)
						for sp.Queued() < len(all)-1 {
							runtime.Gosched()
						}
					})
				}
				return fn(tx)
			})
		})
		<-inside
		for i < len(all)-1 && sp.Queued() < i { // so that they stand in line in this order
			runtime.Gosched()
		}
	}
	writers.Wait()
	return errs
}

// TestMemberMeetsItsOwnDamageAlone has one of a group write where a key page is damaged, which shows only when the
// group is sealed. The others, one of which fails because of what another has written, must be as if it had not been
// there.
func TestMemberMeetsItsOwnDamageAlone(t *testing.T) {
	cfg := config(t, "lasting")
	s, err := sealed.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.SmallPages()
	sp := create(t, s, spaceA)
	for i := range 30 {
		put(t, sp, "bad", note{fmt.Sprint(i), "old"})
	}
	put(t, sp, "good", note{"old", "old"})
	if err := sp.Fold(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, cfg) // with no page in memory
	sp = s.Space(spaceA)
	damaged := 0
	for _, row := range s.Rows(t) {
		if row.Kind > '0' && row.Kind <= '9' && !row.Root() {
			changed := append([]byte(nil), row.Value...)
			changed[len(changed)/2] ^= 1
			s.Overwrite(t, row.Key, changed)
			damaged++
		}
	}
	if damaged == 0 {
		t.Fatal("there is no upper page to damage")
	}
	taken := errors.New("taken")
	runs := make([]int, 5)
	errs := inOneGroup(t, sp,
		func(tx sealed.Tx) error {
			runs[0]++
			return notes.In("good").Put(tx, "1", note{"1", "new"})
		},
		func(tx sealed.Tx) error {
			runs[1]++
			if err := notes.In("good").Put(tx, "2", note{"2", "new"}); err != nil {
				return err
			}
			return notes.In("bad").Add(tx, "new", note{"new", "new"})
		},
		func(tx sealed.Tx) error {
			runs[2]++
			if there, err := notes.In("good").Has(tx, "1"); err != nil || !there {
				return err
			}
			return taken
		},
		func(tx sealed.Tx) error { // acts on what will not be there
			runs[3]++
			there, err := notes.In("good").Has(tx, "2")
			if err != nil {
				return err
			}
			return notes.In("good").Put(tx, "3", note{"3", fmt.Sprint(there)})
		},
		func(tx sealed.Tx) error {
			runs[4]++
			c, err := counters.In().Get(tx, "common")
			if err != nil && !errors.Is(err, sealed.ErrNotFound) {
				return err
			}
			return counters.In().Put(tx, "common", counter{c.N + 1})
		},
	)
	for i, want := range []error{nil, nil, taken, nil, nil} {
		if i == 1 {
			if corrupt, ok := errors.AsType[*sealed.CorruptError](errs[i]); !ok || corrupt.What != "key page" {
				t.Errorf("the member that meets damage: %v", errs[i])
			}
		} else if !errors.Is(errs[i], want) && (i != 2 || errs[i] != nil) { // which may be the first to run again
			t.Errorf("member %d: %v, want %v", i, errs[i], want)
		}
		if runs[i] != 2 {
			t.Errorf("member %d ran %d times, want twice", i, runs[i])
		}
	}
	got := all(t, sp, "good")
	if want := map[string]string{"old": "old", "1": "new", "3": "false"}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	err = sp.View(t.Context(), func(r sealed.Reader) error {
		c, err := counters.In().Get(r, "common")
		if c.N != 1 {
			t.Errorf("the counter is at %d, want 1", c.N)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestFailureIsToldOnceItsReasonIsDurable has a function fail because of what another one of its group has written,
// after it has read a whole container. The disk fails before that is durable: nobody may hear of the reason then.
func TestFailureIsToldOnceItsReasonIsDurable(t *testing.T) {
	for _, scan := range []bool{false, true} {
		t.Run(fmt.Sprintf("scan=%t", scan), func(t *testing.T) {
			var armed atomic.Bool
			failing := make(chan struct{}) // closed when the disk may fail
			fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
				sync := op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData ||
					op.Kind == errorfs.OpFileSyncTo
				if !sync || filepath.Ext(op.Path) != ".log" || !armed.Load() {
					return nil
				}
				<-failing
				return errorfs.ErrInjected
			}))
			keys := sealed.Protector{Name: "test", Kind: "fake", Source: protector(t)}
			cfg := sealed.Config{KeyDir: filepath.Join(t.TempDir(), "keys"), Protectors: []sealed.Protector{keys}}
			store, err := sealed.OpenOn(t.Context(), cfg, fs)
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close() // which fails, as its disk did
			sp := create(t, store, spaceA)
			taken := errors.New("taken")
			var once sync.Once
			errs := inOneGroup(t, sp,
				func(tx sealed.Tx) error {
					armed.Store(true)
					return notes.In("x").Put(tx, "1", note{"1", "new"})
				},
				func(tx sealed.Tx) error {
					defer once.Do(func() { close(failing) })
					if _, err := notes.In("x").Get(tx, "1"); err != nil {
						return err
					}
					if scan {
						for _, err := range notes.In("x").All(tx) {
							if err != nil {
								return err
							}
						}
					}
					return taken
				},
			)
			for i, err := range errs {
				if !errors.Is(err, sealed.ErrBroken) {
					t.Errorf("member %d: %v, want %v", i, err, sealed.ErrBroken)
				}
			}
		})
	}
}

// TestNothingRunsForWhoWaitedThroughALock locks a space while writers wait for their turn: their functions must not
// run any more.
func TestNothingRunsForWhoWaitedThroughALock(t *testing.T) {
	engines(t, func(t *testing.T, cfg sealed.Config) {
		store := open(t, cfg)
		sp := create(t, store, spaceA)
		var locking sync.WaitGroup
		ran := func(sealed.Tx) error {
			t.Error("a function ran though the space is locked")
			return nil
		}
		lock := func(sealed.Tx) error {
			lease := sp.Lease()
			locking.Go(func() { store.Bundle(spaceA).Lock(nil) })
			<-lease.Done()
			return nil
		}
		for i, err := range inOneGroup(t, sp, lock, ran, ran) {
			if !errors.Is(err, sealed.ErrLocked) {
				t.Errorf("member %d: %v, want %v", i, err, sealed.ErrLocked)
			}
		}
		locking.Wait()
	})
}

// TestStoreClosesUnderWriters closes a store while 16 writers write, scan and erase.
func TestStoreClosesUnderWriters(t *testing.T) {
	engines(t, func(t *testing.T, cfg sealed.Config) {
		for range 10 {
			store, err := sealed.Open(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			sp := store.Space(spaceA)
			if err := store.Spaces().Create(t.Context(), spaceA); err != nil && !errors.Is(err, sealed.ErrExists) {
				t.Fatal(err)
			}
			var done atomic.Int64
			var writers sync.WaitGroup
			for w := range 16 {
				writers.Go(func() {
					for i := 0; ; i++ {
						id := fmt.Sprint(w, i%5)
						fn := func(tx sealed.Tx) error {
							if i%3 == 2 {
								for _, err := range notes.In("x").All(tx) {
									if err != nil {
										return err
									}
								}
							}
							if i%5 == 4 {
								return notes.In("x").Delete(tx, fmt.Sprint(w, 0))
							}
							return notes.In("x").Put(tx, id, note{id, "new"})
						}
						var err error
						if i%10 == 4 {
							_, err = sp.Erase(context.Background(), fn)
						} else {
							err = sp.Update(context.Background(), fn)
						}
						if late, ok := errors.AsType[*sealed.EraseError](err); ok {
							err = late.Err
						}
						switch {
						case err == nil, errors.Is(err, sealed.ErrNotFound):
							done.Add(1)
						case errors.Is(err, sealed.ErrClosed):
							return
						default:
							t.Errorf("writer %d: %v", w, err)
							return
						}
					}
				})
			}
			for done.Load() < 100 {
				runtime.Gosched()
			}
			if err := store.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
			writers.Wait()
		}
	})
}

// TestNothingStagedIsLeft has transactions end in every way, and looks at the memory in which they had what they wrote
// and read.
func TestNothingStagedIsLeft(t *testing.T) {
	scan := func(tx sealed.Tx) error {
		for _, err := range notes.In("x").All(tx) {
			if err != nil {
				return err
			}
		}
		return nil
	}
	failed := errors.New("failed")
	for name, end := range map[string]func(tx sealed.Tx, cancel func(), lock func()) error{
		"well":              func(sealed.Tx, func(), func()) error { return nil },
		"failed":            func(sealed.Tx, func(), func()) error { return failed },
		"panicked":          func(sealed.Tx, func(), func()) error { panic("writer 0") },
		"exited":            func(sealed.Tx, func(), func()) error { runtime.Goexit(); return nil },
		"given up":          func(_ sealed.Tx, cancel func(), _ func()) error { cancel(); return nil },
		"locked":            func(_ sealed.Tx, _, lock func()) error { lock(); return nil },
		"scanned":           func(tx sealed.Tx, _, _ func()) error { return scan(tx) },
		"scanned, failed":   func(tx sealed.Tx, _, _ func()) error { return errors.Join(scan(tx), failed) },
		"scanned, exited":   func(tx sealed.Tx, _, _ func()) error { _ = scan(tx); runtime.Goexit(); return nil },
		"given up, scanned": func(tx sealed.Tx, cancel func(), _ func()) error { cancel(); return scan(tx) },
		"locked, scanned":   func(tx sealed.Tx, _, lock func()) error { lock(); return scan(tx) },
		"deleted and failed": func(tx sealed.Tx, _,
			_ func()) error {
			return errors.Join(notes.In("x").Delete(tx, "1"), failed)
		},
	} {
		t.Run(name, func(t *testing.T) {
			store := open(t, config(t, "memory"))
			sp := create(t, store, spaceA)
			put(t, sp, "x", note{"1", "old"}, note{"2", "old"})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var locking sync.WaitGroup
			lock := func() {
				lease := sp.Lease()
				locking.Go(func() { store.Bundle(spaceA).Lock(nil) })
				<-lease.Done()
			}
			var staged [][]byte
			done := make(chan struct{})
			go func() {
				defer close(done)
				defer func() { _ = recover() }()
				_ = sp.Update(ctx, func(tx sealed.Tx) error {
					if _, err := notes.In("x").Get(tx, "2"); err != nil {
						return err
					}
					for _, text := range []string{"new", "newer"} {
						if err := notes.In("x").Put(tx, "1", note{"1", text}); err != nil {
							return err
						}
						if err := notes.In("x").Add(tx, text, note{text, text}); err != nil {
							return err
						}
						staged = append(staged, sealed.InTheClear(tx)...)
					}
					return end(tx, cancel, lock)
				})
			}()
			<-done
			locking.Wait()
			if len(staged) < 8 {
				t.Errorf("%d pieces were staged: the test looks at the wrong things", len(staged))
			}
			for i, piece := range staged {
				if bytes.ContainsFunc(piece, func(r rune) bool { return r != 0 }) {
					t.Errorf("piece %d of what was staged is left: %q", i, piece)
				}
			}
		})
	}
}

// TestGroupsAreBounded has more transactions stand in line than one commit takes, by number, by records and by size.
func TestGroupsAreBounded(t *testing.T) {
	for name, c := range map[string]struct{ writers, records, size, least, most int }{
		"members": {150, 1, 10, 3, 3},
		"records": {6, 600, 10, 3, 3},
		"bytes":   {12, 1, 200 << 10, 3, 3}, // padded to a quarter of a megabyte
		"scans":   {150, 1, 10, 18, 45},     // every tenth leaves its group, the one before it committed and it alone
	} {
		t.Run(name, func(t *testing.T) {
			var commits atomic.Int64
			watch := func(id sealed.SpaceID, phase sealed.Phase) {
				if id == spaceA && phase == sealed.BeforeSealing {
					commits.Add(1)
				}
			}
			keys := sealed.Protector{Name: "test", Kind: "fake", Source: protector(t)}
			cfg := sealed.Config{KeyDir: filepath.Join(t.TempDir(), "keys"), Protectors: []sealed.Protector{keys}}
			store, err := sealed.OpenWatched(t.Context(), cfg, vfs.NewMem(), watch)
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			sp := create(t, store, spaceA)
			all := make([]func(sealed.Tx) error, c.writers)
			for i := range all {
				all[i] = func(tx sealed.Tx) error {
					n, err := counters.In().Get(tx, "common")
					if err != nil && !errors.Is(err, sealed.ErrNotFound) {
						return err
					}
					if name == "scans" && i%10 == 9 {
						seen := 0
						for _, err := range notes.In("x").All(tx) {
							if err != nil {
								return err
							}
							seen++
						}
						if seen != n.N*c.records {
							return fmt.Errorf("a scan finds %d records, and the counter says %d", seen, n.N)
						}
					}
					for k := range c.records {
						id := fmt.Sprint(i, "/", k)
						if err := notes.In("x").Add(tx, id, note{id, strings.Repeat("x", c.size)}); err != nil {
							return err
						}
					}
					return counters.In().Put(tx, "common", counter{n.N + 1})
				}
			}
			before := commits.Load()
			for i, err := range inOneGroup(t, sp, all...) {
				if err != nil {
					t.Errorf("writer %d: %v", i, err)
				}
			}
			if n := int(commits.Load() - before); n < c.least || n > c.most {
				t.Errorf("%d commits, want %d to %d", n, c.least, c.most)
			}
			err = sp.View(t.Context(), func(r sealed.Reader) error {
				n, err := counters.In().Get(r, "common")
				if n.N != c.writers {
					t.Errorf("the counter is at %d, want %d", n.N, c.writers)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
			verifyClean(t, store)
		})
	}
}

// scarce is a file system that says how much of it is free.
type scarce struct {
	vfs.FS
	free *atomic.Uint64
}

func (fs scarce) GetDiskUsage(string) (vfs.DiskUsage, error) {
	const total = 100 << 30
	free := fs.free.Load()
	return vfs.DiskUsage{AvailBytes: free, TotalBytes: total, UsedBytes: total - free}, nil
}

// TestFullVolumeRefusesItsOwn has transactions share a commit while the volume is full: those that add are refused,
// each by itself, and those that delete are not.
func TestFullVolumeRefusesItsOwn(t *testing.T) {
	var free atomic.Uint64
	free.Store(50 << 30)
	keys := sealed.Protector{Name: "test", Kind: "fake", Source: protector(t)}
	cfg := sealed.Config{KeyDir: filepath.Join(t.TempDir(), "keys"), Protectors: []sealed.Protector{keys}}
	store, err := sealed.OpenOn(t.Context(), cfg, scarce{vfs.NewMem(), &free})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	sp := create(t, store, spaceA)
	put(t, sp, "x", note{"1", "old"}, note{"2", "old"}, note{"3", "old"})
	volumes := store.Maintenance().Volumes()
	if len(volumes) == 0 || volumes[0].Reserve == 0 {
		t.Fatalf("the volume is not known: %+v", volumes)
	}
	free.Store(volumes[0].Reserve / 2)
	store.Maintenance().Volumes() // looks at the volume, which no real one loses so fast
	write := func(id string) func(sealed.Tx) error {
		return func(tx sealed.Tx) error { return notes.In("x").Put(tx, id, note{id, "new"}) }
	}
	remove := func(id string) func(sealed.Tx) error {
		return func(tx sealed.Tx) error { return notes.In("x").Delete(tx, id) }
	}
	errs := inOneGroup(t, sp, write("1"), remove("2"), write("2"),
		func(tx sealed.Tx) error { return errors.Join(write("3")(tx), remove("1")(tx)) },
		func(tx sealed.Tx) error {
			if there, err := notes.In("x").Has(tx, "2"); err != nil || there {
				return fmt.Errorf("has 2: %t, %w", there, err)
			}
			return nil
		},
		write("4"))
	for i, err := range errs {
		if refused := i == 0 || i == 2 || i == 5; refused != errors.Is(err, sealed.ErrFull) || !refused && err != nil {
			t.Errorf("member %d: %v", i, err)
		}
	}
	if got := all(t, sp, "x"); len(got) != 1 || got["3"] != "new" {
		t.Errorf("got %v", got)
	}
	verifyClean(t, store)
}
