package sealed_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/file"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/sealed/backup"
)

// watcher hears the events of the root key.
type watcher struct {
	mu   sync.Mutex
	said []string
	ends chan sealed.Event // rotations that have ended or failed
}

func watch(cfg *sealed.Config) *watcher {
	w := &watcher{ends: make(chan sealed.Event, 16)}
	cfg.Report = func(e sealed.Event) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if strings.HasPrefix(string(e.Kind), "root ") {
			w.said = append(w.said, string(e.Kind)+" "+e.Note)
		}
		if e.Kind == sealed.RootRotated || e.Kind == sealed.RootDelayed {
			w.ends <- e
		}
	}
	return w
}

func (w *watcher) has(text string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Contains(w.said, text)
}

func addFile(t *testing.T, name string) (path string, p sealed.Protector) {
	t.Helper()
	dir := t.TempDir()
	path = filepath.Join(dir, name)
	src, err := file.New(path, filepath.Join(dir, "data"))
	if err == nil {
		err = src.Create()
	}
	if err != nil {
		t.Fatal(err)
	}
	return path, sealed.Protector{Name: name, Kind: "file", Entry: "file:" + path, Exposed: true, Source: src,
		Fingerprint: true}
}

// TestProtectorsOfOneKind: keys of one kind of key stores are told apart by their entries, since their versions only
// count. One that was removed does not come back by the settings, and takes the place of no other; another key can be
// added, and be named in the settings, after a removal.
func TestProtectorsOfOneKind(t *testing.T) {
	key := func(name, entry string) sealed.Protector {
		return sealed.Protector{Name: name, Kind: "vault", Entry: "vault:" + entry, Source: sourcetest.NewFake(entry)}
	}
	other := sealed.Protector{Name: "other", Kind: "tpm", Entry: "tpm:1", Source: sourcetest.NewFake("other")}
	named := func(p sealed.Protector, name string) sealed.Protector { p.Name = name; return p }
	a, b, c := key("vault", "a"), key("vault", "b"), key("vault", "c")
	for name, settings := range map[string][]sealed.Protector{
		"successor first": {other, b, named(a, "vault 2")}, "removed first": {other, a, named(b, "vault 2")},
		"opened by the successor": {b, named(a, "vault 2"), other},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t, "lasting")
			cfg.Protectors = []sealed.Protector{other, a}
			s := open(t, cfg)
			if err := s.RootKey().Remove(t.Context(), "vault"); err != nil {
				t.Fatal(err)
			}
			if _, err := s.RootKey().Add(t.Context(), b); err != nil {
				t.Fatal(err)
			}
			closeStore(t, s)
			cfg.Protectors = settings
			s = open(t, cfg)
			requireProtectors(t, s, []string{"vault:a"}, "tpm:1", "vault:b")
		})
	}
	for name, after := range map[string]struct {
		settings []sealed.Protector
		ignored  []string
	}{
		"another key after a removal": {[]sealed.Protector{other, c}, nil},
		"and the removed one":         {[]sealed.Protector{other, a, named(c, "vault 2")}, []string{"vault:a"}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t, "lasting")
			cfg.Protectors = []sealed.Protector{other, a}
			s := open(t, cfg)
			if err := s.RootKey().Remove(t.Context(), "vault"); err != nil {
				t.Fatal(err)
			}
			closeStore(t, s)
			cfg.Protectors = after.settings
			requireProtectors(t, open(t, cfg), after.ignored, "tpm:1", "vault:c")
		})
	}
	t.Run("from one to the other", func(t *testing.T) {
		cfg := config(t, "lasting")
		cfg.Protectors = []sealed.Protector{a}
		s := open(t, cfg)
		name, err := s.RootKey().Add(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.RootKey().Remove(t.Context(), "vault"); err != nil {
			t.Fatal(err)
		}
		closeStore(t, s)
		cfg.Protectors = []sealed.Protector{b}
		s = open(t, cfg)
		requireProtectors(t, s, nil, "vault:b")
		if err := s.RootKey().Remove(t.Context(), name); !errors.Is(err, sealed.ErrLastProtector) {
			t.Errorf("the last one is removed: %v", err)
		}
	})
	t.Run("replaced in the settings", func(t *testing.T) {
		cfg := config(t, "lasting")
		cfg.Protectors = []sealed.Protector{other, a}
		closeStore(t, open(t, cfg))
		cfg.Protectors = []sealed.Protector{other, b}
		s := open(t, cfg)
		if err := s.RootKey().Remove(t.Context(), "vault"); err != nil {
			t.Fatal(err)
		}
		requireProtectors(t, s, nil, "tpm:1", "vault:b")
	})
	t.Run("spelled in another way", func(t *testing.T) {
		cfg := config(t, "lasting")
		cfg.Protectors = []sealed.Protector{other, a, named(b, "vault 2")}
		closeStore(t, open(t, cfg))
		x, y := a, b
		x.Name, x.Entry, y.Entry = "vault 2", "VAULT:a", "VAULT:b"
		cfg.Protectors = []sealed.Protector{other, y, x}
		requireProtectors(t, open(t, cfg), nil, "tpm:1", "vault:a", "vault:b")
	})
}

// requireProtectors requires that the root key has the protectors of some entries, that each of them opens it, that the
// settings name others in vain, and that the root key can be rotated.
func requireProtectors(t *testing.T, s *sealed.Store, ignored []string, entries ...string) {
	t.Helper()
	state, err := s.RootKey().State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range state.Protectors {
		got = append(got, p.Entry)
	}
	if slices.Sort(got); !slices.Equal(got, entries) || !slices.Equal(state.Ignored, ignored) {
		t.Errorf("protected by %q, %q ignored; want %q and %q", got, state.Ignored, entries, ignored)
	}
	said, err := s.RootKey().Test(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, err := range said {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.RootKey().Rotate(t.Context()); err != nil {
		t.Errorf("rotate: %v", err)
	}
}

// TestProtectorsComeAndGo: each change of protectors holds over restarts, and what would leave none is refused.
func TestProtectorsComeAndGo(t *testing.T) {
	cfg := config(t, "lasting")
	w := watch(&cfg)
	path, onDisk := addFile(t, "file")
	cfg.Protectors = []sealed.Protector{onDisk}
	s := open(t, cfg)
	put(t, create(t, s, spaceA), "a", note{"1", "one"})
	root := s.RootKey()
	if err := root.Remove(t.Context(), "file"); !errors.Is(err, sealed.ErrLastProtector) {
		t.Errorf("the last one is removed: %v", err)
	}
	if err := root.Remove(t.Context(), "none"); !errors.Is(err, sealed.ErrNoProtector) {
		t.Errorf("one that there is not is removed: %v", err)
	}
	safe := sealed.Protector{Name: "safe", Kind: "fake", Entry: "fake:safe", Source: sourcetest.NewFake("safe")}
	broken := sourcetest.NewFake("broken")
	broken.Fail(keysource.ErrUnknown)
	if _, err := root.Add(t.Context(), sealed.Protector{Name: "broken", Kind: "fake", Entry: "fake:broken",
		Source: broken}); !errors.Is(err, keysource.ErrUnknown) {
		t.Errorf("one that does not answer is added: %v", err)
	}
	name, err := root.Add(t.Context(), safe)
	if err != nil || name != "fake" {
		t.Fatalf("added as %q: %v", name, err)
	}
	for _, again := range []sealed.Protector{safe, onDisk} {
		if _, err := root.Add(t.Context(), again); !errors.Is(err, sealed.ErrProtected) {
			t.Errorf("%s is added twice: %v", again.Name, err)
		}
	}
	fake := safe.Source.(*sourcetest.Fake)
	fake.Fail(keysource.ErrDenied)
	said, err := root.Test(t.Context())
	if err != nil || said["file"] != nil || !errors.Is(said["fake"], keysource.ErrDenied) || len(said) != 2 {
		t.Errorf("the test says %v, %v", said, err)
	}
	if err := root.Remove(t.Context(), "file"); !errors.Is(err, sealed.ErrLastProtector) ||
		!errors.Is(err, keysource.ErrDenied) {
		t.Errorf("the last one that answers is removed: %v", err)
	}
	fake.Fail(nil)
	if err := root.Remove(t.Context(), "file"); err != nil {
		t.Fatal(err)
	}
	state, err := root.State(t.Context())
	if err != nil || !state.Exposed || len(state.Protectors) != 1 || !state.Protectors[0].Attached {
		t.Errorf("after the removal: %+v, %v", state, err)
	}
	closeStore(t, s)

	// The settings still name the file, which opens nothing and does not come back, also from another place.
	moved := filepath.Join(filepath.Dir(path), "moved")
	if err := os.Rename(path, moved); err != nil {
		t.Fatal(err)
	}
	elsewhere, err := file.New(moved, filepath.Join(t.TempDir(), "data"))
	if err != nil {
		t.Fatal(err)
	}
	onDisk.Entry, onDisk.Source = "file:"+moved, elsewhere
	cfg.Protectors = []sealed.Protector{onDisk}
	if s, err := sealed.Open(t.Context(), cfg); err == nil {
		closeStore(t, s)
		t.Fatal("a protector that was removed opens the store")
	}
	cfg.Protectors = []sealed.Protector{onDisk, safe}
	s = open(t, cfg)
	if state, err := s.RootKey().State(t.Context()); err != nil || len(state.Protectors) != 1 ||
		!slices.Equal(state.Ignored, []string{"file:" + moved}) {
		t.Errorf("the state is %+v, %v", state, err)
	}
	if !w.has("root unprotected file") || !w.has("root protector ignored file:"+moved) {
		t.Errorf("said %q", w.said)
	}
	if _, err := s.RootKey().Add(t.Context(), onDisk); err != nil {
		t.Errorf("what was removed is added again: %v", err)
	}
	closeStore(t, s)
	cfg.Protectors = []sealed.Protector{onDisk}
	if got := all(t, open(t, cfg).Space(spaceA), "a"); got["1"] != "one" {
		t.Errorf("got %v", got)
	}
}

// rotating is a store with all kinds of things that are sealed under the root key.
type rotating struct {
	cfg      sealed.Config
	vault    *sourcetest.Fake
	watch    *watcher
	store    *sealed.Store
	portable []byte
	keyFile  sealed.Protector
}

const (
	logEntries = 600 // more than a batch
	purpose    = "test"
)

func newRotating(t *testing.T) *rotating {
	t.Helper()
	r := &rotating{cfg: config(t, "lasting"), vault: sourcetest.NewFake("vault")}
	r.cfg.AnchorDir = filepath.Join(t.TempDir(), "anchors")
	_, r.keyFile = addFile(t, "file")
	r.cfg.Protectors = append([]sealed.Protector{r.keyFile}, r.cfg.Protectors...)
	r.watch = watch(&r.cfg)
	r.store = open(t, r.cfg)
	put(t, create(t, r.store, spaceA), "a", note{"1", "one"})
	sp := create(t, r.store, spaceB)
	put(t, sp, "b", note{"2", "two"})
	b := r.store.Bundle(spaceB)
	g, err := b.Wrap(t.Context(), r.vault)
	if err == nil {
		err = errors.Join(b.Turn(t.Context(), g, r.vault), b.Retire(t.Context(), r.vault))
	}
	if err != nil {
		t.Fatal(err)
	}
	list := make([]string, logEntries)
	for i := range list {
		list[i] = fmt.Sprint("entry ", i)
	}
	appendAll(t, r.store.Log("log"), list...)
	if r.portable, err = r.store.Portable(purpose).Seal([]byte("taken away")); err != nil {
		t.Fatal(err)
	}
	return r
}

// run runs the store until a rotation ends.
func (r *rotating) run(t *testing.T) sealed.Event {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.store.Run(ctx) }()
	e := <-r.watch.ends
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	return e
}

// check makes sure that everything is there, and that nothing is sealed under earlier versions of the root key.
func (r *rotating) check(t *testing.T, s *sealed.Store) {
	t.Helper()
	if err := s.Bundle(spaceB).Load(t.Context(), r.vault); err != nil {
		t.Fatal(err)
	}
	if got := all(t, s.Space(spaceA), "a"); got["1"] != "one" {
		t.Errorf("under the service's key: %v", got)
	}
	if got := all(t, s.Space(spaceB), "b"); got["2"] != "two" {
		t.Errorf("under a customer's key: %v", got)
	}
	if got := entries(t, s.Log("log"), 1); len(got) != logEntries || got[0] != "1:entry 0" {
		t.Errorf("the log has %d entries", len(got))
	}
	if got, err := s.Portable(purpose).Open(r.portable); err != nil || string(got) != "taken away" {
		t.Errorf("a portable value: %q, %v", got, err)
	}
	verifyClean(t, s)
	state, err := s.RootKey().State(t.Context())
	if err != nil || state.Rotation.Running {
		t.Errorf("the state is %+v, %v", state, err)
	}
	for what, versions := range s.RootVersions(t, r.cfg.AnchorDir) {
		if !slices.Equal(versions, []uint32{state.Version}) {
			t.Errorf("%s: sealed under versions %d, want %d alone", what, versions, state.Version)
		}
	}
}

// TestRotation: after a rotation, and after another one, everything opens, and nothing is under the key before; so it
// is after a restart, and with a backup from before.
func TestRotation(t *testing.T) {
	r := newRotating(t)
	before := save(t, r.store)
	for version := uint32(2); version <= 3; version++ {
		if err := r.store.RootKey().Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := r.store.RootKey().Rotate(t.Context()); !errors.Is(err, sealed.ErrRotating) {
			t.Errorf("a second rotation at the same time: %v", err)
		}
		if e := r.run(t); e.Err != nil {
			t.Fatal(e.Err)
		}
		state, err := r.store.RootKey().State(t.Context())
		if err != nil || state.Version != version {
			t.Errorf("the state is %+v, %v", state, err)
		}
		r.check(t, r.store)
	}
	put(t, r.store.Space(spaceA), "a", note{"3", "three"})
	after := save(t, r.store)
	closeStore(t, r.store)
	r.store = open(t, r.cfg)
	r.check(t, r.store)

	there := elsewhere(t, r.cfg)
	if err := restore(t, there, before.keyring, after.data); !errors.Is(err, backup.ErrNotAuthentic) ||
		!strings.Contains(err.Error(), "as new as the backup") {
		t.Errorf("a keyring from before the rotation, and a backup from after it: %v", err)
	}
	there = elsewhere(t, r.cfg)
	there.Report = r.cfg.Report
	if err := restore(t, there, after.keyring, before.data); err != nil {
		t.Fatal(err)
	}
	closeStore(t, r.store)
	r.store = open(t, there)
	if e := r.run(t); e.Err != nil {
		t.Fatal(e.Err)
	}
	r.check(t, r.store)
}

// TestRotationNeedsAllProtectors: with one that does not answer nothing changes.
func TestRotationNeedsAllProtectors(t *testing.T) {
	r := newRotating(t)
	r.cfg.Protectors[1].Source.(*sourcetest.Fake).Fail(keysource.ErrUnknown)
	if err := r.store.RootKey().Rotate(t.Context()); !errors.Is(err, keysource.ErrUnknown) ||
		!strings.Contains(err.Error(), "with test") {
		t.Errorf("got %v", err)
	}
	if state, err := r.store.RootKey().State(t.Context()); err != nil || state.Version != 1 || state.Rotation.Running {
		t.Errorf("the state is %+v, %v", state, err)
	}
	closeStore(t, r.store)
	r.cfg.Protectors[1].Source.(*sourcetest.Fake).Fail(nil)
	r.cfg.Protectors = r.cfg.Protectors[:1]
	s := open(t, r.cfg)
	if err := s.RootKey().Rotate(t.Context()); !errors.Is(err, sealed.ErrDetached) {
		t.Errorf("with a protector that the settings do not name: %v", err)
	}
}

// TestRotationIsResumed stops a rotation at each of its parts, as a crash does, and starts the store anew.
func TestRotationIsResumed(t *testing.T) {
	stopped := errors.New("stopped here")
	seen := map[string]int{}
	for n := 1; ; n++ {
		r := newRotating(t)
		calls, at := 0, ""
		r.store.AtRotation(func(step string) error {
			if calls++; calls == n {
				at = step
				return stopped
			}
			return nil
		})
		if err := r.store.RootKey().Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
		e := r.run(t)
		if e.Err == nil {
			r.check(t, r.store)
			break // there are no more parts
		}
		if !errors.Is(e.Err, stopped) {
			t.Fatal(e.Err)
		}
		seen[at]++
		put(t, r.store.Space(spaceA), "a", note{"4", "four"}) // data goes on in between
		closeStore(t, r.store)
		r.store = open(t, r.cfg)
		if got := all(t, r.store.Space(spaceA), "a"); got["1"] != "one" || got["4"] != "four" {
			t.Errorf("stopped at %s: got %v", at, got)
		}
		if e := r.run(t); e.Err != nil {
			t.Errorf("stopped at %s: %v", at, e.Err)
		}
		r.check(t, r.store)
	}
	want := map[string]int{"settle": 1, "anchors": 1, "bundles": 3, "epochs": 3, "logs": 3, "finish": 1}
	if !maps.Equal(seen, want) {
		t.Errorf("stopped at %v, want %v", seen, want)
	}
}

// TestRotationLetsWorkGoOn writes and reads while the root key is rotated, again and again.
func TestRotationLetsWorkGoOn(t *testing.T) {
	r := newRotating(t)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.store.Run(ctx) }()
	var all sync.WaitGroup
	working, halt := context.WithCancel(t.Context())
	all.Go(func() {
		for i := 0; working.Err() == nil; i++ {
			put(t, r.store.Space(spaceA), "a", note{fmt.Sprint("w", i%50), "text"})
			appendAll(t, r.store.Log("other"), "entry")
		}
	})
	all.Go(func() {
		for i := 0; working.Err() == nil; i++ {
			if err := r.store.Bundle(spaceB).Rewrap(t.Context(), r.vault); err != nil {
				t.Error(err)
				return
			}
		}
	})
	all.Go(func() {
		for i := 0; working.Err() == nil; i++ {
			id := sealed.SpaceID{9, byte(i)}
			if err := r.store.Spaces().Create(t.Context(), id); err != nil {
				t.Error(err)
				return
			}
			if err := r.store.Spaces().Drop(t.Context(), id); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 5 {
		if err := r.store.RootKey().Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
		if e := <-r.watch.ends; e.Err != nil {
			t.Fatal(e.Err)
		}
	}
	halt()
	all.Wait()
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	r.check(t, r.store)
	closeStore(t, r.store)
	r.store = open(t, r.cfg)
	r.check(t, r.store)
}

// TestThiefWithTheOldKeyFile: a protector that was exposed is removed, and the root key rotated. Somebody who has a
// copy of the key file, the row that it opens from before, and everything that is on the disk afterwards opens nothing,
// also when old rows are still somewhere on the disk.
func TestThiefWithTheOldKeyFile(t *testing.T) {
	for _, c := range []struct {
		name   string
		rotate bool
		rows   func(sealed.Row) bool // that the thief puts back, from before
		opens  bool
	}{
		{"the rotation is left out", false, func(r sealed.Row) bool { return r.Kind == 'I' }, true},
		{"the row of the instance", true, func(r sealed.Row) bool { return r.Kind == 'I' }, false},
		{"all bundles too", true, func(r sealed.Row) bool { return r.Kind == 'I' || r.Kind == 'B' }, false},
		{"everything but the key directory", true, func(sealed.Row) bool { return true }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRotating(t)
			old := r.store.Rows(t)
			if err := r.store.RootKey().Remove(t.Context(), "file"); err != nil {
				t.Fatal(err)
			}
			if c.rotate {
				if err := r.store.RootKey().Rotate(t.Context()); err != nil {
					t.Fatal(err)
				}
				if e := r.run(t); e.Err != nil {
					t.Fatal(e.Err)
				}
				state, err := r.store.RootKey().State(t.Context())
				if err != nil || state.Exposed {
					t.Errorf("the state is %+v, %v", state, err)
				}
			}
			closeStore(t, r.store)
			sealed.PutBack(t, r.cfg, slices.DeleteFunc(old, func(row sealed.Row) bool { return !c.rows(row) }))
			loot := r.cfg
			loot.Report, loot.AcceptRollback, loot.Protectors = nil, true, []sealed.Protector{r.keyFile}
			s, err := sealed.Open(t.Context(), loot)
			if err == nil {
				err = s.Space(spaceA).View(t.Context(), func(sealed.Reader) error { return nil })
				closeStore(t, s)
			}
			if opens := err == nil; opens != c.opens {
				t.Errorf("opens: %t (%v), want %t", opens, err, c.opens)
			}
			if _, corrupt := errors.AsType[*sealed.CorruptError](err); !c.opens && !corrupt {
				t.Errorf("got %v, want what was sealed anew not to open", err)
			}
		})
	}
}
