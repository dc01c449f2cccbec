package sealed_test

import (
	"bytes"
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
	"testing/synctest"
	"time"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed"
	pgtest "github.com/visage-face/visage/test/postgres"
)

// placed is a configuration with epoch keys in a vault, over rows that several processes of the test share. They are
// kept until the test ends.
func placed(t *testing.T, name string, vault sealed.EpochVault) sealed.Config {
	t.Helper()
	cfg := sealed.Config{Engine: "memory:" + t.Name() + name, EpochVault: vault, Shared: true,
		Protectors: []sealed.Protector{{Name: "test", Kind: "fake", Source: protector(t)}}}
	t.Cleanup(sealed.KeepPlace(t, cfg.Engine))
	return cfg
}

// TestOtherPlaceOfKeys: a server whose settings name another place than the keys are in does not start, and writes
// nothing there, whether that place is empty or of another store.
func TestOtherPlaceOfKeys(t *testing.T) {
	cfg := placed(t, "", newKV())
	cfg.AnchorDir = t.TempDir()
	one := open(t, cfg)
	create(t, one, spaceA)
	folder := cfg
	folder.EpochVault, folder.KeyDir = nil, t.TempDir()
	for _, readOnly := range []bool{false, true} {
		other := cfg
		other.EpochVault, other.ReadOnly = newKV(), readOnly
		_, err := sealed.Open(t.Context(), other)
		place, ok := errors.AsType[*sealed.PlaceError](err)
		if !ok || !errors.Is(err, sealed.ErrOtherPlace) || !strings.Contains(place.Text, "the data says kv (place "+
			one.PlaceID(t).String()+"); kv has no mark of this store") {
			t.Errorf("an empty place, read only %v: %v", readOnly, err)
		}
		if left := other.EpochVault.(*kv).keys(); len(left) != 0 {
			t.Errorf("the other place has %v", left)
		}
	}
	two := open(t, cfg) // which is not kept from it
	eraseSomething(t, two, spaceA)
}

// eraseSomething puts and erases a record.
func eraseSomething(t *testing.T, s *sealed.Store, id sealed.SpaceID) {
	t.Helper()
	put(t, s.Space(id), "x", note{"gone", "gone"})
	eraseOne(t, s.Space(id), "x", "gone")
}

// TestPlaceIsAdoptedOnce: of several servers that open a store from before it was recorded where its keys lie, all find
// the same place; those that have another one are refused.
func TestPlaceIsAdoptedOnce(t *testing.T) {
	for round := range 20 {
		vaults := []*kv{newKV(), newKV()}
		cfg := placed(t, fmt.Sprint(round), vaults[0])
		cfg.AnchorDir = t.TempDir()
		first := open(t, cfg)
		create(t, first, spaceA)
		vaults[1].values = map[string][][]byte{}
		for _, path := range vaults[0].keys() {
			vaults[1].values[path] = vaults[0].values[path]
		}
		sealed.ForgetPlace(t, first)
		closeStore(t, first)
		var all sync.WaitGroup
		opened := make([]*sealed.Store, 8)
		refused := make([]error, len(opened))
		for i := range opened {
			all.Go(func() {
				cfg := cfg
				cfg.EpochVault = vaults[i%2]
				opened[i], refused[i] = sealed.Open(t.Context(), cfg)
			})
		}
		all.Wait()
		place, count := sealed.SpaceID{}, [2]int{}
		for i, s := range opened {
			if s == nil {
				if !errors.Is(refused[i], sealed.ErrOtherPlace) {
					t.Errorf("refused: %v", refused[i])
				}
				continue
			}
			count[i%2]++
			if id := s.PlaceID(t); place != (sealed.SpaceID{}) && id != place {
				t.Errorf("two places: %s and %s", id, place)
			} else {
				place = id
			}
		}
		for _, s := range opened {
			if s != nil {
				closeStore(t, s)
			}
		}
		if count != [2]int{4, 0} && count != [2]int{0, 4} {
			t.Fatalf("of the servers with the two places, %v have started", count)
		}
	}
}

// TestFirstPlace: the first place that is recorded, of a store that was restored or is from before places were, is one
// that has its keys. A start with another one is refused, and records nothing: the next one has the right place.
func TestFirstPlace(t *testing.T) {
	for _, from := range []string{"restored", "from before"} {
		for _, shared := range []bool{true, false} {
			t.Run(fmt.Sprint(from, shared), func(t *testing.T) {
				cfg := placed(t, "", newKV())
				cfg.Shared = shared
				s := open(t, cfg)
				put(t, create(t, s, spaceA), "x", note{"1", "one"})
				if from == "restored" {
					b := save(t, s)
					back := placed(t, " restored", newKV())
					back.Protectors, back.Shared = cfg.Protectors, shared
					if err := restore(t, back, b.keyring, b.data); err != nil {
						t.Fatal(err)
					}
					cfg = back
				} else {
					sealed.ForgetPlace(t, s)
				}
				closeStore(t, s)
				wrong := cfg
				wrong.EpochVault = newKV()
				for _, marked := range []bool{false, true} {
					_, err := sealed.Open(t.Context(), wrong)
					if !errors.Is(err, sealed.ErrOtherPlace) ||
						!strings.Contains(err.Error(), "does not have the operator's epoch key") {
						t.Errorf("with a place that has a mark (%v) and no keys: %v", marked, err)
					}
					if mark := wrong.EpochVault.(*kv).mark(); mark != "" && !marked {
						t.Errorf("it has got the mark %s", mark)
					}
					wrong.EpochVault = strayed(s, 1, "")
				}
				s = open(t, cfg)
				if got := all(t, s.Space(spaceA), "x"); got["1"] != "one" {
					t.Errorf("with the right one: %v", got)
				}
				eraseSomething(t, s, spaceA)
			})
		}
	}
}

// strayed is a place without keys that has a mark of a store: one that was replaced count times, less one, with more of
// its fields.
func strayed(s *sealed.Store, count int, more string) *kv {
	mark := fmt.Sprintf(`{"place":"%032x","count":%d,"beat":"%032x"%s}`, 1, count, 2, more)
	return &kv{values: map[string][][]byte{"places/" + strings.ReplaceAll(s.Instance(), "-", ""): {[]byte(mark)}}}
}

// TestLostFirstPlace: where the keys of a store from before places were recorded are lost, a start that brings them
// back takes the empty place.
func TestLostFirstPlace(t *testing.T) {
	cfg := placed(t, "", newKV())
	s := open(t, cfg)
	put(t, create(t, s, spaceA), "x", note{"1", "one"})
	b := save(t, s)
	sealed.ForgetPlace(t, s)
	closeStore(t, s)
	cfg.EpochVault = newKV()
	finding := cfg
	finding.FindKeys = true
	finding.Shared = false
	s = open(t, finding)
	if n, err := s.Backup().MendKeyring(t.Context(), bytes.NewReader(b.keyring)); err != nil || n != 2 {
		t.Errorf("brought back %d, %v", n, err)
	}
	closeStore(t, s)
	s = open(t, cfg)
	if got := all(t, s.Space(spaceA), "x"); got["1"] != "one" {
		t.Errorf("afterwards: %v", got)
	}
}

// TestCloneDestroysNothing: a clone of the database, with the same place of epoch keys, does not destroy or replace a
// key, whether it is taken while the original works or starts at the same moment, and the original goes on.
func TestCloneDestroysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		vault := newKV()
		cfg := placed(t, "", vault)
		one := open(t, cfg)
		create(t, one, spaceA)
		put(t, one.Space(spaceA), "x", note{"1", "one"}, note{"2", "two"})
		two := open(t, cfg)
		clone := placed(t, " clone", vault)
		clone.Protectors = cfg.Protectors
		sealed.CopyRows(t, one, clone.Engine)
		copied := open(t, clone)
		before := vault.keys()
		eraseFirst := func(tx sealed.Tx) error { return notes.In("x").Delete(tx, "1") }
		_, err := copied.Space(spaceA).Erase(t.Context(), eraseFirst)
		if !errors.Is(err, sealed.ErrOtherCopy) {
			t.Errorf("the clone erases: %v", err)
		}
		if err := copied.RootKey().Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- copied.Run(ctx) }()
		time.Sleep(time.Minute)
		if p := copied.EpochKeys(); !errors.Is(p.Refused, sealed.ErrOtherCopy) {
			t.Errorf("the clone says %+v", p)
		}
		stop()
		<-ran
		has := map[string]bool{}
		for _, path := range vault.keys() {
			has[path] = true
		}
		for _, path := range before {
			if !has[path] || len(vault.values[path]) != 1 {
				t.Errorf("the clone has destroyed or replaced %s", path)
			}
		}
		eraseOne(t, two.Space(spaceA), "x", "1")
		eraseOne(t, one.Space(spaceA), "x", "2")
		eraseSomething(t, two, spaceA)
		sealed.CopyRows(t, one, clone.Engine+" later")
		time.Sleep(time.Minute)
		later := clone
		later.Engine += " later"
		if s, err := sealed.Open(t.Context(), later); err == nil {
			closeStore(t, s)
		}
		if p := one.EpochKeys(); p.Refused != nil {
			t.Errorf("the original: %v", p.Refused)
		}
	})
}

// TestCloneOfYesterday is not opened, unless the operator says that it takes over: then the original is refused.
func TestCloneOfYesterday(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		vault := newKV()
		cfg, clone := placed(t, "", vault), placed(t, " clone", vault)
		clone.Protectors = cfg.Protectors
		heard := make(chan sealed.Event, 10)
		cfg.Report = func(e sealed.Event) {
			if e.Kind == sealed.KeysElsewhere {
				heard <- e
			}
		}
		one := open(t, cfg)
		put(t, create(t, one, spaceA), "x", note{"1", "one"})
		sealed.CopyRows(t, one, clone.Engine)
		time.Sleep(time.Hour)
		if _, err := sealed.Open(t.Context(), clone); !errors.Is(err, sealed.ErrOtherCopy) ||
			!strings.Contains(err.Error(), "--accept-rollback") {
			t.Errorf("a clone of an hour ago: %v", err)
		}
		clone.AcceptRollback = true
		other := open(t, clone)
		eraseSomething(t, other, spaceA)
		time.Sleep(time.Minute)
		eraseFirst := func(tx sealed.Tx) error { return notes.In("x").Delete(tx, "1") }
		_, err := one.Space(spaceA).Erase(t.Context(), eraseFirst)
		if !errors.Is(err, sealed.ErrOtherCopy) {
			t.Errorf("the store whose place was taken erases: %v", err)
		}
		if e := <-heard; !errors.Is(e.Err, sealed.ErrOtherCopy) || e.Note != "kv" || len(heard) != 0 {
			t.Errorf("heard %+v, and %d more", e, len(heard))
		}
	})
}

// TestAcceptedPlace: a place other than that of the data is accepted when it has the store's keys, and no other process
// has the store open.
func TestAcceptedPlace(t *testing.T) {
	vault := newKV()
	cfg := placed(t, "", vault)
	one := open(t, cfg)
	put(t, create(t, one, spaceA), "x", note{"1", "one"})
	copied := func() *kv {
		place := strayed(one, 1, "")
		for _, path := range vault.live() {
			place.values[path] = slices.Clone(vault.values[path])
		}
		return place
	}
	other := cfg
	other.AcceptRollback = true
	refuses := func(place *kv, says string) {
		t.Helper()
		other.EpochVault = place
		s, err := sealed.Open(t.Context(), other)
		if !errors.Is(err, sealed.ErrOtherPlace) || !strings.Contains(err.Error(), says) {
			t.Errorf("another place is accepted: %v", err)
		}
		if err == nil {
			closeStore(t, s)
		}
	}
	refuses(copied(), "other processes that have the store open")
	refuses(strayed(one, 1, ""), "does not have the operator's epoch key")
	eraseSomething(t, one, spaceA)
	two := open(t, cfg) // the data has the place from before
	eraseSomething(t, two, spaceA)
	closeStore(t, one)
	closeStore(t, two)
	refuses(strayed(one, 1, ""), "does not have the operator's epoch key")
	other.EpochVault = copied()
	three := open(t, other)
	if got := all(t, three.Space(spaceA), "x"); got["1"] != "one" {
		t.Errorf("in the place that was accepted: %v", got)
	}
	eraseSomething(t, three, spaceA)
}

// TestDataFromBeforeAMove: data that was put back to before its keys were moved takes the place that they were moved
// to, on the operator's word, also if the operator's own key was replaced there since.
func TestDataFromBeforeAMove(t *testing.T) {
	from, to := newKV(), newKV()
	cfg := sealed.WithSettling(placed(t, "", from), time.Millisecond)
	cfg.Shared = false
	s := open(t, cfg)
	put(t, create(t, s, spaceA), "x", note{"1", "one"})
	before := placed(t, " before", to)
	before.Protectors, before.Shared = cfg.Protectors, false
	sealed.CopyRows(t, s, before.Engine)
	closeStore(t, s)
	moved := cfg
	moved.EpochVault = to
	if _, err := sealed.MoveEpochKeys(t.Context(), cfg, moved); err != nil {
		t.Fatal(err)
	}
	s = open(t, moved)
	eraseSomething(t, s, sealed.Operator)
	closeStore(t, s)
	if _, err := sealed.Open(t.Context(), before); !errors.Is(err, sealed.ErrOtherPlace) {
		t.Errorf("without a word of the operator: %v", err)
	}
	before.AcceptRollback = true
	s = open(t, before)
	if got := all(t, s.Space(spaceA), "x"); got["1"] != "one" {
		t.Errorf("afterwards: %v", got)
	}
}

// TestStoreThatWasNotClosed: a server that was killed starts at once, and erases when it is sure that no other copy of
// its data does. One that was closed erases at once.
func TestStoreThatWasNotClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		vault := newKV()
		cfg := placed(t, "", vault)
		one := open(t, cfg)
		create(t, one, spaceA)
		after := placed(t, " after", vault) // the rows as the killed one has left them
		after.Protectors = cfg.Protectors
		sealed.CopyRows(t, one, after.Engine)
		closeStore(t, one) // its row in the first engine
		began := time.Now()
		s := open(t, after)
		put(t, s.Space(spaceA), "x", note{"1", "one"})
		if took := time.Since(began); took != 0 {
			t.Errorf("it could be written to after %v", took)
		}
		eraseSomething(t, s, spaceA)
		if took := time.Since(began); took < 15*time.Second || took > 25*time.Second {
			t.Errorf("it erases after %v", took)
		}
		closeStore(t, s)
		began = time.Now()
		s = open(t, after)
		eraseSomething(t, s, spaceA)
		if took := time.Since(began); took != 0 {
			t.Errorf("closed and opened, it erases after %v", took)
		}
	})
}

// TestFailoverThatLosesBeats: servers go on when their database has lost its newest commits.
func TestFailoverThatLosesBeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := placed(t, "", newKV())
		s := open(t, cfg)
		create(t, s, spaceA)
		before := s.Rows(t)
		time.Sleep(30 * time.Second)
		sealed.SetBack(t, s, before)
		time.Sleep(time.Minute)
		eraseSomething(t, s, spaceA)
		if p := s.EpochKeys(); p.Refused != nil {
			t.Error(p.Refused)
		}
	})
}

// TestPlaceOfYesterday: a place that was put back from a copy is taken, and told of.
func TestPlaceOfYesterday(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		vault := newKV()
		cfg := placed(t, "", vault)
		told := 0
		cfg.Report = func(e sealed.Event) {
			if e.Kind == sealed.KeysOlder {
				told++
			}
		}
		s := open(t, cfg)
		create(t, s, spaceA)
		older := maps.Clone(vault.values)
		time.Sleep(time.Minute)
		closeStore(t, s)
		vault.values = older
		s = open(t, cfg)
		eraseSomething(t, s, spaceA)
		if told != 1 {
			t.Errorf("told of it %d times", told)
		}
	})
}

// fuse ends a process at one of its calls to places of keys.
type fuse struct {
	mu    sync.Mutex
	calls int
	blows int
	done  bool // that call is done all the same
	blown bool
}

// fusedKV is a kv that a fuse is in the way to.
type fusedKV struct {
	*kv
	name string
	f    *fuse
}

var errBlown = &keysource.Error{Class: keysource.ErrDenied, Text: "the process was killed"}

func (k fusedKV) through(op func() error) error {
	k.f.mu.Lock()
	defer k.f.mu.Unlock()
	if k.f.blown {
		return errBlown
	}
	k.f.calls++
	if k.f.blown = k.f.calls-1 == k.f.blows; !k.f.blown {
		return op()
	}
	if k.f.done {
		_ = op() // nobody hears
	}
	return errBlown
}

func (k fusedKV) Name() string { return k.name }

func (k fusedKV) Read(ctx context.Context, path string) (value []byte, version int, err error) {
	err = k.through(func() error {
		value, version, err = k.kv.Read(ctx, path)
		return err
	})
	return value, version, err
}

func (k fusedKV) Write(ctx context.Context, path string, after int, value []byte) (version int, ok bool, err error) {
	err = k.through(func() error {
		version, ok, err = k.kv.Write(ctx, path, after, value)
		return err
	})
	return version, ok, err
}

func (k fusedKV) Delete(ctx context.Context, path string) error {
	return k.through(func() error { return k.kv.Delete(ctx, path) })
}

func (k fusedKV) List(ctx context.Context, path string) (names []string, err error) {
	err = k.through(func() error {
		names, err = k.kv.List(ctx, path)
		return err
	})
	return names, err
}

// TestMoveThatIsKilled ends a move at each of its calls to the two places. No server starts in between, with neither of
// them, once it has begun; the same command finishes it, or the one for the way back, and nothing is lost, nor left
// where it was.
func TestMoveThatIsKilled(t *testing.T) {
	for _, way := range []string{"done", "not done", "back"} {
		t.Run(way, func(t *testing.T) {
			for blows, blown := 0, true; blown; blows++ {
				synctest.Test(t, func(t *testing.T) { blown = killMove(t, way, blows) })
				if t.Failed() {
					t.Fatalf("at call %d", blows)
				}
			}
		})
	}
}

func killMove(t *testing.T, way string, blows int) (blown bool) {
	source, target := newKV(), newKV()
	f := &fuse{blows: -1, done: way == "done"}
	cfg := sealed.WithSettling(placed(t, fmt.Sprint(way, blows), fusedKV{source, "source", f}), time.Millisecond)
	s := open(t, cfg)
	create(t, s, spaceA)
	put(t, s.Space(spaceA), "x", note{"1", "one"}, note{"2", "two"})
	eraseOne(t, s.Space(spaceA), "x", "1")
	create(t, s, spaceB)
	put(t, s.Space(spaceB), "x", note{"3", "three"})
	closeStore(t, s)
	to := cfg
	to.EpochVault = fusedKV{target, "target", f}
	f.calls, f.blows = 0, blows
	_, err := sealed.MoveEpochKeys(t.Context(), cfg, to)
	if blown = f.blown; blown == (err == nil) {
		t.Fatalf("killed: %v, %v", blown, err)
	}
	*f = fuse{blows: -1}
	for _, cfg := range []sealed.Config{cfg, to} {
		s, err := sealed.Open(t.Context(), cfg)
		switch {
		case err == nil: // it has not begun, or was finished
			eraseSomething(t, s, spaceA)
			closeStore(t, s)
		case !errors.Is(err, sealed.ErrKeysMoving) && !errors.Is(err, sealed.ErrOtherPlace):
			t.Errorf("a server in between, with the keys in %s: %v", cfg.EpochVault.Name(), err)
		}
	}
	left, gone := source, to
	if way == "back" && blown {
		if s, err := sealed.Open(t.Context(), cfg); errors.Is(err, sealed.ErrKeysMoving) {
			left, gone = target, cfg
			cfg, to = to, cfg
		} else if err == nil {
			closeStore(t, s)
		}
	}
	for range 2 { // also once more
		if _, err := sealed.MoveEpochKeys(t.Context(), cfg, to); err != nil {
			t.Fatalf("again: %v", err)
		}
	}
	if _, err := sealed.Open(t.Context(), cfg); !errors.Is(err, sealed.ErrOtherPlace) ||
		!strings.Contains(err.Error(), "has had them until they were moved") {
		t.Errorf("with the place from before: %v", err)
	}
	for path := range left.values {
		if !strings.HasPrefix(path, "places/") && left.values[path][len(left.values[path])-1] != nil {
			t.Errorf("%s is left", path)
		}
	}
	s = open(t, gone)
	if got := all(t, s.Space(spaceA), "x"); len(got) != 1 || got["2"] != "two" {
		t.Errorf("afterwards: %v", got)
	}
	if got := all(t, s.Space(spaceB), "x"); got["3"] != "three" {
		t.Errorf("afterwards: %v", got)
	}
	eraseSomething(t, s, spaceB)
	verifyClean(t, s)
	closeStore(t, s)
	return blown
}

// moving is a store whose move to another place is interrupted at a call to one of the two places.
type moving struct {
	t        *testing.T
	from, to *kv
	fuse     *fuse
	cfg      sealed.Config // with the place that the keys are in
}

// startMove starts a move, unless blows is negative.
func startMove(t *testing.T, name string, blows int, done bool) *moving {
	t.Helper()
	m := &moving{t: t, from: newKV(), to: newKV(), fuse: &fuse{blows: -1}}
	m.cfg = sealed.WithSettling(placed(t, name, fusedKV{m.from, "source", m.fuse}), time.Millisecond)
	s := open(t, m.cfg)
	put(t, create(t, s, spaceA), "x", note{"1", "one"})
	closeStore(t, s)
	if blows >= 0 {
		*m.fuse = fuse{blows: blows, done: done}
		_ = m.move(m.cfg, m.with(m.to, "target"))
	}
	return m
}

// with returns the configuration with the keys in a place.
func (m *moving) with(place *kv, name string) sealed.Config {
	cfg := m.cfg
	cfg.EpochVault = fusedKV{place, name, m.fuse}
	return cfg
}

func (m *moving) move(from, to sealed.Config) error {
	_, err := sealed.MoveEpochKeys(m.t.Context(), from, to)
	return err
}

// opens makes sure that the store is whole, with a configuration.
func (m *moving) opens(cfg sealed.Config) {
	m.t.Helper()
	s := open(m.t, cfg)
	if got := all(m.t, s.Space(spaceA), "x"); got["1"] != "one" {
		m.t.Errorf("afterwards: %v", got)
	}
	eraseSomething(m.t, s, spaceA)
	verifyClean(m.t, s)
	closeStore(m.t, s)
}

// live returns the epoch keys that are in a place.
func (k *kv) live() (paths []string) {
	for _, path := range k.keys() {
		if versions := k.values[path]; versions[len(versions)-1] != nil {
			paths = append(paths, path)
		}
	}
	return paths
}

// mark returns the newest mark of a place, or nothing.
func (k *kv) mark() string {
	for path, versions := range k.values {
		if strings.HasPrefix(path, "places/") {
			return string(versions[len(versions)-1])
		}
	}
	return ""
}

// TestMoveWhoseTargetIsLost: while the source of an interrupted move has its keys, the move begins anew when its target
// was emptied, or goes to a third place.
func TestMoveWhoseTargetIsLost(t *testing.T) {
	for _, third := range []bool{false, true} {
		began := 0
		for blows, blown := 0, true; blown; blows++ {
			synctest.Test(t, func(t *testing.T) {
				whole := len(startMove(t, fmt.Sprint(third, blows, " whole"), -1, false).from.live())
				m := startMove(t, fmt.Sprint(third, blows), blows, false)
				blown = m.fuse.blown
				*m.fuse = fuse{blows: -1}
				to := m.with(m.to, "target")
				s, err := sealed.Open(t.Context(), m.cfg)
				if err == nil {
					closeStore(t, s)
				}
				if !errors.Is(err, sealed.ErrKeysMoving) || len(m.from.live()) < whole {
					return
				}
				began++
				m.to.values = map[string][][]byte{}
				if third {
					to = m.with(newKV(), "third")
				}
				moved, err := sealed.MoveEpochKeys(t.Context(), m.cfg, to)
				if err != nil {
					t.Fatalf("again, at call %d: %v", blows, err)
				}
				if (moved.Abandoned == "target") != third {
					t.Errorf("it has abandoned %q", moved.Abandoned)
				}
				m.opens(to)
			})
		}
		if began == 0 {
			t.Errorf("third %v: no call has interrupted a move that had begun", third)
		}
	}
}

// TestMoveToAThirdPlaceAndBack: where keys are only in the target that a move was to leave, it is finished with that
// one, also when a third place was tried.
func TestMoveToAThirdPlaceAndBack(t *testing.T) {
	tried := 0
	for blows, blown := 0, true; blown; blows++ {
		synctest.Test(t, func(t *testing.T) {
			m := startMove(t, fmt.Sprint(blows), blows, true)
			blown = m.fuse.blown
			*m.fuse = fuse{blows: -1}
			to := m.with(m.to, "target")
			if !blown || strings.Contains(m.from.mark(), "left") || len(m.to.live()) <= len(m.from.live()) {
				return
			}
			tried++
			if err := m.move(m.cfg, m.with(newKV(), "third")); err == nil {
				t.Errorf("at call %d it was moved without some keys", blows)
			}
			if err := m.move(m.cfg, to); err != nil {
				t.Fatalf("at call %d: %v", blows, err)
			}
			m.opens(to)
		})
	}
	if tried == 0 {
		t.Error("no call has interrupted it there")
	}
}

// TestMoveThatIsKilledTwice ends a move after its source says that the keys have left it, and ends the way back at each
// of its calls. The same way back finishes it.
func TestMoveThatIsKilledTwice(t *testing.T) {
	forth := -1
	for blows, blown := 0, true; blown && forth < 0; blows++ {
		synctest.Test(t, func(t *testing.T) {
			m := startMove(t, fmt.Sprint(blows), blows, true)
			if blown = m.fuse.blown; strings.Contains(m.from.mark(), "left") {
				forth = blows
			}
		})
	}
	for blows, blown := 0, true; blown; blows++ {
		for _, done := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				m := startMove(t, fmt.Sprint("back", blows, done), forth, true)
				from := m.with(m.to, "target")
				*m.fuse = fuse{blows: blows, done: done}
				_ = m.move(from, m.cfg)
				blown = m.fuse.blown
				*m.fuse = fuse{blows: -1}
				if err := m.move(from, m.cfg); err != nil {
					t.Fatalf("back, after it was killed at call %d: %v", blows, err)
				}
				m.opens(m.cfg)
			})
		}
	}
}

// TestMoveToAStrayMark: a place that has a first mark and no keys is moved to: the mark is of a server that was not the
// first to record its place, or of a move that went elsewhere in the end.
func TestMoveToAStrayMark(t *testing.T) {
	for more, count := range map[string]int{"": 1, fmt.Sprintf(`,"state":"arriving","other":"%032x"`, 3): 1,
		` `: 2} {
		synctest.Test(t, func(t *testing.T) {
			m := startMove(t, more, -1, false)
			s := open(t, m.cfg)
			stray := strayed(s, count, more)
			closeStore(t, s)
			to := m.with(stray, "stray")
			err := m.move(m.cfg, to)
			if count > 1 { // somebody has used it
				if !errors.Is(err, sealed.ErrNotMovable) {
					t.Errorf("to a place that was used: %v", err)
				}
				m.opens(m.cfg)
				return
			}
			if err != nil {
				t.Fatalf("to a place with the mark %s: %v", stray.mark(), err)
			}
			m.opens(to)
		})
	}
}

// TestMoveToTheKeysOfAnother: a place that another copy of the store has its keys in is not moved to.
func TestMoveToTheKeysOfAnother(t *testing.T) {
	dir := t.TempDir()
	cfg := sealed.WithSettling(config(t, "pebble"), time.Millisecond)
	closeStore(t, open(t, cfg))
	other := cfg
	other.Engine, other.KeyDir = sealed.Pebble(filepath.Join(dir, "data")), filepath.Join(dir, "keys")
	err := errors.Join(os.CopyFS(filepath.Join(dir, "data"), os.DirFS(strings.TrimPrefix(cfg.Engine, "pebble:"))),
		os.CopyFS(other.KeyDir, os.DirFS(cfg.KeyDir)))
	err = errors.Join(err, filepath.WalkDir(other.KeyDir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			err = os.Chmod(path, 0o600)
		}
		return err
	}))
	if err != nil {
		t.Fatal(err)
	}
	moved := other
	moved.KeyDir = filepath.Join(dir, "moved")
	if _, err := sealed.MoveEpochKeys(t.Context(), other, moved); err != nil {
		t.Fatal(err)
	}
	if _, err := sealed.MoveEpochKeys(t.Context(), cfg, moved); !errors.Is(err, sealed.ErrNotMovable) {
		t.Errorf("to the place of another copy: %v", err)
	}
	s := open(t, cfg) // nothing was begun
	create(t, s, spaceA)
}

// TestStoreThatWasMovedAway: what a move of a store has left does not start beside the store, with the same keys.
func TestStoreThatWasMovedAway(t *testing.T) {
	local := config(t, "pebble")
	s := open(t, local)
	put(t, create(t, s, spaceA), "x", note{"1", "one"})
	closeStore(t, s)
	moved := local
	moved.Engine = pgtest.Shared(t).Database(t)
	if _, err := sealed.Move(t.Context(), local, moved, nil); err != nil {
		t.Fatal(err)
	}
	s = open(t, moved)
	eraseSomething(t, s, spaceA)
	if _, err := sealed.Open(t.Context(), local); !errors.Is(err, sealed.ErrOtherCopy) {
		t.Errorf("what the move has left, while the store is open: %v", err)
	}
	closeStore(t, s)
	if _, err := sealed.Open(t.Context(), local); !errors.Is(err, sealed.ErrOtherCopy) {
		t.Errorf("what the move has left: %v", err)
	}
	s = open(t, moved)
	if got := all(t, s.Space(spaceA), "x"); got["1"] != "one" {
		t.Errorf("afterwards: %v", got)
	}
}
