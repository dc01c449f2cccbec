package sealed_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/sealed"
)

// kv is a key-value store with versions in memory, which can refuse, and which has standbys.
type kv struct {
	mu      sync.Mutex
	values  map[string][][]byte // by version; nil: destroyed
	refuses bool
	away    bool // no answer
	full    bool // its disk is
	stale   bool // lists are of a standby that has heard of nothing
}

func newKV() *kv { return &kv{values: map[string][][]byte{}} }

func (k *kv) refuse(refuses bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refuses = refuses
}

// keys returns the paths of all epoch keys, in order.
func (k *kv) keys() (paths []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for path := range k.values {
		if strings.HasPrefix(path, "epochs/") {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths
}

func (k *kv) call(op func()) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.refuses {
		return &keysource.Error{Class: keysource.ErrDenied, Text: "no"}
	}
	if k.away {
		return &keysource.Error{Class: keysource.ErrUnknown, Text: "no answer"}
	}
	if k.full {
		return fmt.Errorf("write: %w", syscall.ENOSPC)
	}
	op()
	return nil
}

func (k *kv) Read(_ context.Context, path string) (value []byte, version int, err error) {
	err = k.call(func() {
		if version = len(k.values[path]); version > 0 {
			value = k.values[path][version-1]
		}
	})
	return value, version, err
}

func (k *kv) Write(_ context.Context, path string, after int, value []byte) (version int, ok bool, err error) {
	err = k.call(func() {
		if ok = len(k.values[path]) == after; ok {
			k.values[path] = append(k.values[path], value)
			version = after + 1
		}
	})
	return version, ok, err
}

func (k *kv) Keeps(context.Context) error { return k.call(func() {}) }

func (k *kv) Destroy(_ context.Context, path string, versions ...int) error {
	return k.call(func() {
		for _, n := range versions {
			if n <= len(k.values[path]) {
				k.values[path][n-1] = nil
			}
		}
	})
}

func (k *kv) Delete(_ context.Context, path string) error {
	return k.call(func() { delete(k.values, path) })
}

func (k *kv) List(_ context.Context, path string) (names []string, err error) {
	err = k.call(func() {
		for p := range k.values {
			if k.stale {
				break
			}
			rest, ok := strings.CutPrefix(p, path+"/")
			if !ok {
				continue
			}
			name, _, folder := strings.Cut(rest, "/")
			if folder {
				name += "/"
			}
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	})
	return names, err
}

func (k *kv) Name() string { return "kv" }

// TestStaleListsHideNoKey: what an erasure, a turn or a drop ends is destroyed by its number, whether or not the key
// store lists it.
func TestStaleListsHideNoKey(t *testing.T) {
	vault := newKV()
	s := open(t, sealed.Config{Engine: "memory:", EpochVault: vault,
		Protectors: []sealed.Protector{{Name: "test", Kind: "fake", Source: protector(t)}}})
	vault.stale = true
	own := len(vault.keys())
	sp := create(t, s, spaceA)
	put(t, sp, "x", note{"1", "one"}, note{"2", "two"})
	eraseOne(t, sp, "x", "1")
	if left := vault.keys(); len(left) != own+1 {
		t.Errorf("after an erasure the keys %v are left, want one of the space", left)
	}
	customer := sourcetest.NewFake("customer")
	b := s.Bundle(spaceA)
	g, err := b.Wrap(t.Context(), customer)
	if err == nil {
		err = errors.Join(b.Turn(t.Context(), g, customer), b.Retire(t.Context(), customer))
	}
	if err != nil {
		t.Fatal(err)
	}
	if left := vault.keys(); len(left) != own+1 {
		t.Errorf("after a turn the keys %v are left, want one of the space", left)
	}
	if err := s.Spaces().Drop(t.Context(), spaceA); err != nil {
		t.Fatal(err)
	}
	if left := vault.keys(); len(left) != own {
		t.Errorf("after the drop the keys %v are left", left)
	}
}

// TestDropWhileTheKeysAreAway: a drop that could not destroy the keys is not acknowledged, however often it is
// repeated, and is finished by a later one, or by Run.
func TestDropWhileTheKeysAreAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		vault := newKV()
		cfg := sealed.Config{Engine: "memory:", EpochVault: vault,
			Protectors: []sealed.Protector{{Name: "test", Kind: "fake", Source: protector(t)}}}
		s := open(t, cfg)
		own := len(vault.keys())
		create(t, s, spaceA)
		create(t, s, sealed.SpaceID{2})
		vault.refuse(true)
		for range 2 {
			err := s.Spaces().Drop(t.Context(), spaceA)
			if _, away := errors.AsType[visage.Outage](err); !away {
				t.Fatalf("while the keys cannot be destroyed: %v", err)
			}
		}
		if err := s.Spaces().Drop(t.Context(), sealed.SpaceID{2}); err == nil {
			t.Fatal("no error")
		}
		vault.refuse(false)
		if err := s.Spaces().Drop(t.Context(), spaceA); err != nil {
			t.Fatal(err)
		}
		if left := vault.keys(); len(left) != own+1 {
			t.Errorf("the keys %v are left", left)
		}
		if err := s.Spaces().Drop(t.Context(), spaceA); !errors.Is(err, sealed.ErrNoSpace) {
			t.Errorf("once more: %v", err)
		}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		ran := make(chan error, 1)
		go func() { ran <- s.Run(ctx) }()
		synctest.Wait()
		if left := vault.keys(); len(left) != own {
			t.Errorf("after the start of Run the keys %v are left", left)
		}
		create(t, s, sealed.SpaceID{3})
		vault.refuse(true)
		if err := s.Spaces().Drop(t.Context(), sealed.SpaceID{3}); err == nil {
			t.Fatal("no error")
		}
		vault.refuse(false)
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if left := vault.keys(); len(left) != own {
			t.Errorf("two hours later the keys %v are left", left)
		}
		stop()
		if err := <-ran; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func (k *kv) leave(away bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.away = away
}

func (k *kv) fill(full bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.full = full
}

// TestCloseWhileTheKeysAreAway waits as long as one call does, however many anchors there are to write, and writes them
// all when the place answers.
func TestCloseWhileTheKeysAreAway(t *testing.T) {
	for _, away := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			vault := newKV()
			s, err := sealed.Open(t.Context(), sealed.Config{Engine: "memory:", EpochVault: vault,
				Protectors: []sealed.Protector{{Name: "test", Kind: "fake", Source: protector(t)}}})
			if err != nil {
				t.Fatal(err)
			}
			const spaces = 30
			for i := range byte(spaces) {
				put(t, create(t, s, sealed.SpaceID{i + 1}), "x", note{"1", "one"})
			}
			vault.leave(away)
			began := time.Now()
			if err := s.Close(); (err != nil) != away {
				t.Errorf("closed while the vault is away (%v): %v", away, err)
			}
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("it took %v", took)
			}
			anchors := 0
			for path := range vault.values {
				if strings.HasPrefix(path, "anchors/") {
					anchors++
				}
			}
			if !away && anchors < spaces {
				t.Errorf("%d anchors for %d spaces", anchors, spaces)
			}
		})
	}
}

// TestOpenWhileTheKeysAreAway: a start can tell that it is worth another attempt.
func TestOpenWhileTheKeysAreAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		vault := newKV()
		cfg := placed(t, "", vault)
		closeStore(t, open(t, cfg))
		vault.leave(true)
		s, err := sealed.Open(t.Context(), cfg)
		if away, ok := errors.AsType[*sealed.KeysAwayError](err); !ok || away.Place != "kv" {
			t.Errorf("opened %v, %v", s, err)
		}
		vault.leave(false)
		closeStore(t, open(t, cfg))
	})
}

// TestSweepWaitsForTheKeys: what a crash has left is destroyed when the place of the keys answers, or has room, and the
// store is served until then.
func TestSweepWaitsForTheKeys(t *testing.T) {
	for name, trouble := range map[string]func(*kv, bool){"away": (*kv).leave, "full": (*kv).fill} {
		t.Run(name, func(t *testing.T) { sweepWaits(t, trouble) })
	}
}

func sweepWaits(t *testing.T, trouble func(k *kv, on bool)) {
	synctest.Test(t, func(t *testing.T) {
		vault := newKV()
		var delayed atomic.Int64
		s := open(t, sealed.Config{Engine: "memory:", EpochVault: vault,
			Protectors: []sealed.Protector{{Name: "test", Kind: "fake", Source: protector(t)}},
			Report: func(e sealed.Event) {
				if e.Kind == sealed.EraseDelayed {
					delayed.Add(1)
				}
			}})
		own := len(vault.keys())
		sp := create(t, s, spaceA)
		put(t, sp, "x", note{"1", "one"})
		create(t, s, spaceB)
		vault.refuse(true)
		if err := s.Spaces().Drop(t.Context(), spaceB); err == nil {
			t.Fatal("dropped without the keys")
		}
		vault.refuse(false)
		trouble(vault, true)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		ran := make(chan error, 1)
		go func() { ran <- s.Run(ctx) }()
		time.Sleep(10 * time.Minute)
		select {
		case err := <-ran:
			t.Fatalf("the store has ended: %v", err)
		default:
		}
		if p, n := s.EpochKeys(), delayed.Load(); p.Unswept == nil || n < 3 || n > 60 {
			t.Errorf("after ten minutes: %+v, reported %d times", p, n)
		}
		put(t, sp, "x", note{"2", "two"})
		trouble(vault, false)
		time.Sleep(2 * time.Minute)
		if p := s.EpochKeys(); p.Unswept != nil || p.Refused != nil {
			t.Errorf("afterwards: %+v", p)
		}
		if left := vault.keys(); len(left) != own+1 {
			t.Errorf("the keys %v are left", left)
		}
		eraseSomething(t, s, spaceA)
		stop()
		if err := <-ran; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// standby is a node of a kv that serves reads from before the newest writes.
type standby struct {
	*kv
	before map[string][][]byte // what there was when it fell behind
	seen   sync.Map            // by path, how often it was read
	// after that many reads of a path it knows that a value has come, and that one has gone
	comes, goes int
}

func (k *kv) standby(comes, goes int) *standby {
	return &standby{kv: k, before: maps.Clone(k.values), comes: comes, goes: goes}
}

func (s *standby) Read(ctx context.Context, path string) (value []byte, version int, err error) {
	old := s.before[path]
	count, _ := s.seen.LoadOrStore(path, new(atomic.Int64))
	reads := int(count.(*atomic.Int64).Add(1))
	behind := reads <= s.comes
	if len(old) > 0 {
		behind = reads <= s.goes
	}
	switch {
	case !behind:
		return s.kv.Read(ctx, path)
	case len(old) == 0:
		return nil, 0, nil
	}
	return old[len(old)-1], len(old), nil
}

// TestMoveBetweenTwoNodesOfOnePlace: a move between two addresses of one place destroys nothing, though both addresses
// answer from before the newest write.
func TestMoveBetweenTwoNodesOfOnePlace(t *testing.T) {
	const never = 1_000
	for name, lag := range map[string]struct{ comes, goes int }{
		"a probe is seen late":       {4, never},
		"a destruction is seen late": {never, 6},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				vault := newKV()
				cfg := sealed.Config{Engine: "memory:" + t.Name(), EpochVault: vault, AnchorDir: t.TempDir(),
					Protectors: []sealed.Protector{{Name: "test", Kind: "fake", Source: protector(t)}}}
				defer sealed.KeepPlace(t, cfg.Engine)()
				s := open(t, cfg)
				put(t, create(t, s, spaceA), "x", note{"1", "one"})
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				before := vault.keys()
				from, to := cfg, cfg
				from.EpochVault = vault.standby(lag.comes, lag.goes)
				to.EpochVault = vault.standby(lag.comes, lag.goes)
				_, err := sealed.MoveEpochKeys(t.Context(), from, to)
				if err == nil || !strings.Contains(err.Error(), "are the same place") {
					t.Errorf("moved: %v", err)
				}
				if after := vault.keys(); !slices.Equal(after, before) {
					t.Errorf("there are the keys %v, there were %v", after, before)
				}
				s = open(t, cfg)
				if got := all(t, s.Space(spaceA), "x"); got["1"] != "one" {
					t.Errorf("afterwards: %v", got)
				}
			})
		})
	}
}

// TestMoveWithAnOlderCopyOfTheData: keys that the data at hand does not name move as well, if a newer copy of it may
// need them; those of dropped spaces and ended epochs do not.
func TestMoveWithAnOlderCopyOfTheData(t *testing.T) {
	vault, dir := newKV(), t.TempDir()
	cfg := sealed.WithSettling(config(t, "pebble"), time.Millisecond)
	cfg.EpochVault, cfg.AnchorDir = vault, filepath.Join(dir, "anchors")
	s := open(t, cfg)
	own := vault.keys()
	create(t, s, sealed.SpaceID{2})
	vault.refuse(true)
	if err := s.Spaces().Drop(t.Context(), sealed.SpaceID{2}); err == nil {
		t.Fatal("dropped without the keys")
	}
	vault.refuse(false)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	older := cfg
	older.Engine, older.AcceptRollback = sealed.Pebble(filepath.Join(dir, "older")), true
	if err := os.CopyFS(filepath.Join(dir, "older"), os.DirFS(strings.TrimPrefix(cfg.Engine, "pebble:"))); err != nil {
		t.Fatal(err)
	}
	s = open(t, cfg)
	put(t, create(t, s, spaceA), "x", note{"1", "one"})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// of the operator's space, a turn that did not come to its commit, and one that did not come to its destruction
	folder, number := path.Split(own[0])
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 {
		t.Fatal(number, err)
	}
	vault.values[folder+strconv.Itoa(n+1)] = [][]byte{{1}}
	vault.values[folder+strconv.Itoa(n-1)] = [][]byte{{2}}
	to, target := cfg, newKV()
	to.EpochVault = target
	moved, err := sealed.MoveEpochKeys(t.Context(), older, to)
	if err != nil || moved.Spaces != 2 || moved.Epochs != 3 {
		t.Fatalf("moved %+v, %v", moved, err)
	}
	if left := vault.keys(); len(left) != 0 {
		t.Errorf("the keys %v are left", left)
	}
	if target.values[folder+strconv.Itoa(n+1)] == nil || target.values[folder+strconv.Itoa(n-1)] != nil {
		t.Errorf("the target has %v", target.keys())
	}
	if _, err := sealed.Open(t.Context(), to); !errors.Is(err, sealed.ErrOtherPlace) {
		t.Errorf("the newer copy of the data, whose keys another copy has moved: %v", err)
	}
	to.AcceptRollback = true
	s = open(t, to)
	if got := all(t, s.Space(spaceA), "x"); got["1"] != "one" {
		t.Errorf("the newer copy of the data: %v", got)
	}
}

// TestKeysOfSpacesThatAreGone: keys of a dropped space that a restored vault has again are reported, and stay.
func TestKeysOfSpacesThatAreGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		vault := newKV()
		stray := make(chan sealed.Event, 10)
		cfg := sealed.Config{Engine: "memory:", EpochVault: vault,
			Protectors: []sealed.Protector{{Name: "test", Kind: "fake", Source: protector(t)}},
			Report: func(e sealed.Event) {
				if e.Kind == sealed.KeysStray {
					stray <- e
				}
			}}
		s := open(t, cfg)
		create(t, s, spaceA)
		create(t, s, sealed.SpaceID{2})
		run := func() {
			ctx, stop := context.WithCancel(t.Context())
			ran := make(chan error, 1)
			go func() { ran <- s.Run(ctx) }()
			synctest.Wait()
			stop()
			if err := <-ran; err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
		run()
		if len(stray) != 0 {
			t.Fatalf("reported %+v", <-stray)
		}
		older := maps.Clone(vault.values)
		if err := s.Spaces().Drop(t.Context(), spaceA); err != nil {
			t.Fatal(err)
		}
		vault.values = older
		before := vault.keys()
		run()
		if len(stray) != 1 {
			t.Fatalf("%d reports", len(stray))
		}
		id := strings.ReplaceAll(spaceA.String(), "-", "")
		if e := <-stray; e.Note != "1 spaces in kv: "+id || e.Space != (sealed.SpaceID{}) {
			t.Errorf("reported %+v", e)
		}
		if after := vault.keys(); !slices.Equal(after, before) {
			t.Errorf("there are the keys %v, there were %v", after, before)
		}
	})
}

// TestKeysThatArePutRight: what is said of stray keys ends when an operator has removed them, and what is said of a
// place that was put back from an older copy when the missing keys were brought back, without a restart.
func TestKeysThatArePutRight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		vault := newKV()
		cfg := placed(t, "", vault)
		s := open(t, cfg)
		create(t, s, spaceA)
		create(t, s, spaceB)
		older := maps.Clone(vault.values)
		eraseSomething(t, s, spaceA)
		if err := s.Spaces().Drop(t.Context(), spaceB); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		closeStore(t, s)
		newest := vault.keys()
		missing := map[string][][]byte{}
		for _, path := range newest {
			if older[path] == nil {
				missing[path] = vault.values[path]
			}
		}
		vault.values = older

		s = open(t, cfg)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		ran := make(chan error, 1)
		go func() { ran <- s.Run(ctx) }()
		time.Sleep(time.Hour)
		if p := s.EpochKeys(); p.Stray != 1 || !p.Older {
			t.Errorf("put back from an older copy: %+v", p)
		}
		vault.mu.Lock()
		maps.Copy(vault.values, missing)
		for path := range vault.values {
			if strings.Contains(path, strings.ReplaceAll(spaceB.String(), "-", "")) {
				delete(vault.values, path)
			}
		}
		vault.mu.Unlock()
		time.Sleep(11 * time.Minute)
		if p := s.EpochKeys(); p.Stray != 0 || p.Older {
			t.Errorf("put right: %+v", p)
		}
		if left := vault.keys(); !slices.Equal(left, newest) {
			t.Errorf("the keys %v are there, want %v", left, newest)
		}
		stop()
		if err := <-ran; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}
