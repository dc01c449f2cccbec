package sealed_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/visage-face/visage/sealed"
)

// crowdWriters is how many write at the same time.
const crowdWriters = 16

// crowd is many writers that share commits, over a file system that stops, tears and fails. Each transaction takes the
// next number of all, and leaves it with what it writes.
type crowd struct {
	cfg   sealed.Config
	disk  *vfs.MemFS
	store *sealed.Store

	newest atomic.Int64 // number of the newest transaction whose function has ended well

	mu      sync.Mutex // guards all below
	past    [crowdWriters][]crowdState
	acked   [crowdWriters]int
	commits map[int64]bool // numbers that were the newest when a commit began to be sealed
}

// crowdState is what there is of one writer after a transaction.
type crowdState struct {
	number  int64
	records map[string]string
}

func newCrowd(t *testing.T, fault func(errorfs.Op) error) *crowd {
	t.Helper()
	c := &crowd{
		cfg: sealed.Config{KeyDir: filepath.Join(t.TempDir(), "keys"),
			Protectors: []sealed.Protector{{Name: "test", Kind: "fake", Source: protector(t)}}},
		disk:    vfs.NewCrashableMem(),
		commits: map[int64]bool{0: true},
	}
	for w := range c.past {
		c.past[w] = []crowdState{{0, map[string]string{}}}
	}
	watch := func(id sealed.SpaceID, phase sealed.Phase) {
		if id == spaceA && phase == sealed.BeforeSealing {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.commits[c.newest.Load()] = true
		}
	}
	var err error
	if c.store, err = sealed.OpenWatched(t.Context(), c.cfg, errorfs.Wrap(c.disk, errorfs.InjectorFunc(fault)),
		watch); err != nil {
		t.Fatal(err)
	}
	c.store.SmallPages()
	create(t, c.store, spaceA)
	return c
}

// run has every writer do some transactions, and returns when each has done them or has failed.
func (c *crowd) run(ctx context.Context, seed uint64, each int) error {
	errs := make([]error, crowdWriters)
	var all sync.WaitGroup
	for w := range crowdWriters {
		all.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(w)))
			for i := 0; i < each && errs[w] == nil; i++ {
				errs[w] = c.transact(ctx, w, random, i)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

func (c *crowd) transact(ctx context.Context, w int, random *rand.Rand, i int) error {
	sp := c.store.Space(spaceA)
	if w == 0 && i%8 == 7 {
		return sp.Fold(ctx)
	}
	begun := c.acked[w] + 1 // its own writer's alone
	var last map[string]string
	c.mu.Lock()
	last = c.past[w][begun-1].records
	c.mu.Unlock()
	fails, deletes, id := random.IntN(8) == 0, random.IntN(3) == 0, fmt.Sprint(w, "/", random.IntN(12))
	fn := func(tx sealed.Tx) error {
		n, err := counters.In().Get(tx, "common")
		if err != nil && !errors.Is(err, sealed.ErrNotFound) {
			return err
		}
		next := crowdState{int64(n.N) + 1, maps.Clone(last)}
		next.records["last"] = fmt.Sprint(next.number)
		for _, parent := range []string{"shared", fmt.Sprint("own ", w)} {
			if err := notes.In(parent).Put(tx, fmt.Sprint(w), note{"last", next.records["last"]}); err != nil {
				return err
			}
			if _, there := last[id]; deletes && there {
				err = notes.In(parent).Delete(tx, id)
				delete(next.records, id)
			} else {
				next.records[id] = fmt.Sprint(next.number)
				err = notes.In(parent).Put(tx, id, note{id, next.records[id]})
			}
			if err != nil {
				return err
			}
		}
		if err := counters.In().Put(tx, "common", counter{int(next.number)}); err != nil {
			return err
		}
		if fails {
			return errGivenUp
		}
		c.mu.Lock()
		c.past[w] = append(c.past[w][:begun], next)
		c.mu.Unlock()
		c.newest.Store(next.number)
		return nil
	}
	var err error
	if deletes && random.IntN(8) == 0 {
		_, err = sp.Erase(ctx, fn)
		if delayed, ok := errors.AsType[*sealed.EraseError](err); ok {
			c.acknowledge(w, begun) // it is deleted
			return delayed
		}
	} else {
		err = sp.Update(ctx, fn)
	}
	if fails && errors.Is(err, errGivenUp) {
		return nil
	}
	if err == nil {
		c.acknowledge(w, begun)
	}
	return err
}

func (c *crowd) acknowledge(w, begun int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.acked[w] = begun
}

// crowdWreck is what a crash has left, and the states that each writer may be in.
type crowdWreck struct {
	what    string
	disk    *vfs.MemFS
	keys    map[string][]byte
	may     [crowdWriters][]crowdState
	commits map[int64]bool
}

// wrecked takes the power away now; see faultyStore.wrecked.
func (c *crowd) wrecked(what string, percent int, seed uint64) *crowdWreck {
	c.mu.Lock()
	acked := c.acked
	c.mu.Unlock()
	keys := readKeys(c.cfg.KeyDir)
	disk := c.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(seed, 3))})
	if !maps.EqualFunc(keys, readKeys(c.cfg.KeyDir), bytes.Equal) || outOfOrder(disk) {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	w := &crowdWreck{what: fmt.Sprintf("%s, %d %% of what was not synced survives", what, percent), disk: disk,
		keys: keys, commits: maps.Clone(c.commits)}
	for i := range w.may {
		w.may[i] = append([]crowdState(nil), c.past[i][acked[i]:]...)
	}
	return w
}

// examine opens what a crash left. Every writer must be in one of the states that it may be in; with strict, what there
// is must moreover be all transactions up to some number, which is where a commit ended.
func (w *crowdWreck) examine(t *testing.T, cfg sealed.Config, strict bool) {
	t.Helper()
	cfg.KeyDir = filepath.Join(t.TempDir(), "keys")
	writeKeys(t, cfg.KeyDir, w.keys)
	store, err := sealed.OpenOn(t.Context(), cfg, w.disk)
	if err != nil {
		t.Fatalf("%s: does not open: %v", w.what, err)
	}
	sp := store.Space(spaceA)
	common := 0
	err = sp.View(t.Context(), func(r sealed.Reader) error {
		c, err := counters.In().Get(r, "common")
		common = c.N
		if errors.Is(err, sealed.ErrNotFound) {
			err = nil
		}
		return err
	})
	if err != nil {
		t.Errorf("%s: %v", w.what, err)
	}
	if strict && !w.commits[int64(common)] {
		t.Errorf("%s: ends with transaction %d, in the middle of a commit", w.what, common)
	}
	shared := all(t, sp, "shared")
	delete(shared, "last")
	for i, may := range w.may {
		found := all(t, sp, fmt.Sprint("own ", i))
		at := -1
		for j, state := range may {
			if maps.Equal(state.records, found) {
				at = j
			}
		}
		if at < 0 {
			t.Errorf("%s: writer %d has none of the %d states that it may: %v, want %v", w.what, i, len(may), found,
				may)
			continue
		}
		for id, text := range found {
			if id != "last" && shared[id] != text {
				t.Errorf("%s: writer %d: half of a transaction is there: %s is %q and %q", w.what, i, id, text,
					shared[id])
			}
		}
		if !strict {
			continue
		}
		if may[at].number > int64(common) || at+1 < len(may) && may[at+1].number <= int64(common) {
			t.Errorf("%s: writer %d is at its transaction %d, where all are at %d", w.what, i, may[at].number, common)
		}
	}
	if _, err := store.Maintenance().Verify(t.Context(), func(f sealed.Finding) {
		t.Errorf("%s: %v", w.what,
			f.Err)
	}); err != nil {
		t.Errorf("%s: verify: %v", w.what, err)
	}
	if err := store.Close(); err != nil {
		t.Errorf("%s: close: %v", w.what, err)
	}
	if t.Failed() {
		t.FailNow()
	}
}

// TestPowerCutAtEveryOperationOfSharedCommits takes the power away before operation after operation, while 16 writers
// share commits: what was acknowledged is there, of every other transaction all or nothing, and of every commit all or
// nothing.
func TestPowerCutAtEveryOperationOfSharedCommits(t *testing.T) {
	want, seed := points(t, 60), seedOf(t)
	tried, acknowledged, commits := 0, 0, 0
	for round := uint64(0); tried < want; round++ {
		var mu sync.Mutex
		var wrecks []*crowdWreck
		var c *crowd
		armed := false
		c = newCrowd(t, func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() == errorfs.OpIsRead {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			if armed && tried+len(wrecks) < want {
				percent := []int{0, 30, 70, 100}[len(wrecks)%4]
				what := fmt.Sprintf("seed %d, before operation %d, %s", seed+round, len(wrecks), filepath.Ext(op.Path))
				if w := c.wrecked(what, percent, seed+uint64(len(wrecks))); w != nil {
					wrecks = append(wrecks, w)
				}
			}
			return nil
		})
		mu.Lock()
		armed = true
		mu.Unlock()
		if err := c.run(t.Context(), seed+round, 24); err != nil {
			t.Fatalf("seed %d: %v", seed+round, err)
		}
		mu.Lock()
		armed = false
		mu.Unlock()
		for _, n := range c.acked {
			acknowledged += n
		}
		commits += len(c.commits) - 1
		if err := c.store.Close(); err != nil {
			t.Fatal(err)
		}
		for _, w := range wrecks {
			w.examine(t, c.cfg, true)
		}
		tried += len(wrecks)
	}
	t.Attr("power-cuts", fmt.Sprint(tried))
	t.Attr("transactions-acknowledged", fmt.Sprint(acknowledged))
	t.Attr("commits", fmt.Sprint(commits))
	if commits >= acknowledged {
		t.Errorf("%d transactions in %d commits: none was shared", acknowledged, commits)
	}
}

// TestFailingDiskUnderSharedCommits has operation n fail, or the disk be full from operation n on, while 16 writers
// share commits. What was acknowledged is there afterwards, on the disk as it is and after a power cut, and of what
// failed all or nothing.
func TestFailingDiskUnderSharedCommits(t *testing.T) {
	each, seed := max(20, points(t, 20)/20), seedOf(t)
	for _, fault := range []struct {
		name  string
		err   error
		stays bool
	}{{"one-error", errorfs.ErrInjected, false}, {"full-disk", syscall.ENOSPC, true}} {
		t.Run(fault.name, func(t *testing.T) {
			counts := map[string]int{}
			for n := range each {
				crowdFails(t, seed+uint64(n/crowdFaults), n%crowdFaults, fault.name, fault.err, fault.stays, counts)
			}
			if counts["met"] == 0 || counts["noticed"]+counts["process-ends"] == 0 {
				t.Errorf("%v: the test looks at the wrong operations", counts)
			}
			for name, n := range counts {
				t.Attr(name, fmt.Sprint(n))
			}
		})
	}
}

// crowdFaults is how many operations of one workload fail, each in a run of its own: it has about as many.
const crowdFaults = 16

func crowdFails(t *testing.T, seed uint64, at int, name string, fault error, stays bool, counts map[string]int) {
	t.Helper()
	const off = -1
	var mu sync.Mutex // guards what follows
	count, met, ended := off, false, false
	var wrecks []*crowdWreck
	what := fmt.Sprintf("seed %d, %s at operation %d", seed, name, at)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var c *crowd
	c = newCrowd(t, func(op errorfs.Op) error {
		kept := op.Kind == errorfs.OpFileClose || op.Kind == errorfs.OpLock || op.Kind == errorfs.OpFileSyncTo ||
			op.Kind == errorfs.OpFilePreallocate
		if frees := op.Kind == errorfs.OpRemove || op.Kind == errorfs.OpRemoveAll; kept || stays && frees ||
			op.Kind.ReadOrWrite() == errorfs.OpIsRead {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		if count == off {
			return nil
		}
		if count++; count != at+1 && !(stays && count > at) {
			return nil
		}
		met = true
		if !stops(op) {
			return fault
		}
		for _, percent := range []int{100, 0} {
			if w := c.wrecked(what+", which ends the process", percent, seed); w != nil {
				wrecks = append(wrecks, w)
			}
		}
		count, ended = off, true // the process has ended: what goes on is its ghost
		stop()
		return nil
	})
	mu.Lock()
	count = 0
	mu.Unlock()
	// Few enough that the engine does not change to another log meanwhile: where that fails it ends the process, with a
	// log that fails.
	failure := c.run(ctx, seed, 2)
	mu.Lock()
	count = off
	mu.Unlock()
	if failure != nil && !met {
		t.Fatalf("%s: failed without a fault: %v", what, failure)
	}
	closed := c.store.Close() // says what has failed, if it did
	if !ended {
		if failure == nil && !met && closed != nil {
			t.Fatalf("%s: close: %v", what, closed)
		}
		for _, percent := range []int{100, 0} {
			if w := c.wrecked(fmt.Sprintf("%s (%v)", what, failure), percent, seed); w != nil {
				wrecks = append(wrecks, w)
			}
		}
	}
	for _, w := range wrecks {
		w.examine(t, c.cfg, false)
		counts["examined"]++
	}
	for name, is := range map[string]bool{"met": met, "noticed": failure != nil && !ended, "process-ends": ended} {
		if is {
			counts[name]++
		}
	}
}

// TestRevocationInEveryPhaseOfASharedCommit locks a space in each phase of a commit that seven transactions share, some
// of which delete. Until the commit is sealed nothing of it happens, and each is told so; from then on all of it does.
func TestRevocationInEveryPhaseOfASharedCommit(t *testing.T) {
	for _, at := range []sealed.Phase{sealed.BeforeSealing, sealed.AfterSealing, sealed.AfterApplying} {
		t.Run(string(at), func(t *testing.T) {
			cause := errors.New("revoked")
			cfg := sealed.Config{KeyDir: filepath.Join(t.TempDir(), "keys"),
				Protectors: []sealed.Protector{{Name: "test", Kind: "fake", Source: protector(t)}}}
			var armed atomic.Bool
			var store *sealed.Store
			var locked sync.WaitGroup
			watch := func(id sealed.SpaceID, phase sealed.Phase) {
				if id != spaceA || phase != at || !armed.CompareAndSwap(true, false) {
					return
				}
				lease := store.Space(id).Lease()
				locked.Go(func() { store.Bundle(id).Lock(cause) }) // waits for those who are inside
				<-lease.Done()
			}
			store, err := sealed.OpenWatched(t.Context(), cfg, vfs.NewMem(), watch)
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			sp := create(t, store, spaceA)
			const members = 7
			want := map[string]string{}
			for i := range members {
				id := fmt.Sprint(i)
				put(t, sp, "x", note{id, "old"})
				want[id] = "old"
			}
			armed.Store(true)
			errs := make([]error, members)
			inside := make(chan struct{})
			var writers sync.WaitGroup
			for i := range members {
				if i == 1 {
					<-inside
				}
				writers.Go(func() {
					errs[i] = sp.Update(t.Context(), func(tx sealed.Tx) error {
						if i == 0 { // so that all are in one group
							close(inside)
							for sp.Queued() < members-1 {
								runtime.Gosched()
							}
						}
						if i%3 == 2 {
							return notes.In("x").Delete(tx, fmt.Sprint(i))
						}
						return notes.In("x").Put(tx, fmt.Sprint(i), note{fmt.Sprint(i), "new"})
					})
				})
			}
			writers.Wait()
			locked.Wait()
			for i, err := range errs {
				if at == sealed.BeforeSealing {
					if !errors.Is(err, sealed.ErrLocked) || !errors.Is(err, cause) {
						t.Errorf("member %d: got %v, want %v with its cause", i, err, sealed.ErrLocked)
					}
					continue
				}
				if err != nil {
					t.Errorf("member %d: %v", i, err)
				}
				if want[fmt.Sprint(i)] = "new"; i%3 == 2 {
					delete(want, fmt.Sprint(i))
				}
			}
			if err := store.Bundle(spaceA).Load(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			if got := all(t, sp, "x"); !maps.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
			verifyClean(t, store)
		})
	}
}
