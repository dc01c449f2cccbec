package sealed_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/sealed/backup"
)

// replicas opens stores that share everything, as processes do. What any of them finds to be damaged fails the test.
func replicas(t *testing.T, n int) (all []*sealed.Store, cfg sealed.Config) {
	t.Helper()
	cfg = shared(t)
	cfg.AnchorDir = t.TempDir()
	cfg.Report = func(e sealed.Event) {
		if e.Kind == sealed.Corrupt {
			t.Errorf("reported: %s, %v", e.Space, e.Err)
		}
	}
	for range n {
		all = append(all, open(t, cfg))
	}
	return all, cfg
}

func eraseOne(t *testing.T, sp *sealed.Space, parent, id string) sealed.Receipt {
	t.Helper()
	r, err := sp.Erase(t.Context(), func(tx sealed.Tx) error { return notes.In(parent).Delete(tx, id) })
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestReplicasSeeTurns turns the keys in one process, in every way, while others read and write.
func TestReplicasSeeTurns(t *testing.T) {
	s, _ := replicas(t, 2)
	a, b := create(t, s[0], spaceA), s[1].Space(spaceA)
	put(t, a, "x", note{"1", "one"}, note{"2", "two"})
	put(t, b, "x", note{"3", "three"})
	for i, turn := range []func(*sealed.Space, *sealed.Store){
		func(sp *sealed.Space, _ *sealed.Store) { eraseOne(t, sp, "x", "1") },
		func(_ *sealed.Space, s *sealed.Store) {
			b := s.Bundle(spaceA)
			generation, err := b.Wrap(t.Context(), nil)
			if err == nil {
				err = errors.Join(b.Turn(t.Context(), generation, nil), b.Retire(t.Context(), nil))
			}
			if err != nil {
				t.Fatal(err)
			}
		},
		func(_ *sealed.Space, s *sealed.Store) {
			if err := s.Bundle(spaceA).Rewrap(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
		},
	} {
		put(t, a, "x", note{"1", "one"})
		turn(a, s[0])
		put(t, b, "x", note{"2", fmt.Sprint("after turn ", i)})
		for _, sp := range []*sealed.Space{b, a} {
			if got := all(t, sp, "x")["2"]; got != fmt.Sprint("after turn ", i) {
				t.Errorf("turn %d: got %q", i, got)
			}
		}
		put(t, b, "x", note{"1", "one"})
		turn(b, s[1]) // in the other direction
		put(t, a, "x", note{"2", "and back"})
		if got := all(t, b, "x")["2"]; got != "and back" {
			t.Errorf("turn %d: got %q", i, got)
		}
	}
	for _, s := range s {
		verifyClean(t, s)
	}
}

// TestReplicasCreateAtOnce has two processes make a space at the same moment: one has made it, and the other one finds
// it.
func TestReplicasCreateAtOnce(t *testing.T) {
	s, _ := replicas(t, 2)
	for i := range 200 {
		id := sealed.SpaceID{7, byte(i)}
		var errs [2]error
		var both sync.WaitGroup
		for r := range errs {
			both.Go(func() { errs[r] = s[r].Spaces().Create(t.Context(), id) })
		}
		both.Wait()
		if errs[0] != nil {
			errs[0], errs[1] = errs[1], errs[0]
		}
		if errs[0] != nil || !errors.Is(errs[1], sealed.ErrExists) {
			t.Fatalf("space %d: %v", i, errs)
		}
		put(t, s[0].Space(id), "x", note{"1", "one"})
		if got := all(t, s[1].Space(id), "x"); got["1"] != "one" {
			t.Fatalf("space %d has %v", i, got)
		}
	}
}

// TestReplicasEraseAtOnce has processes erase in the same spaces at the same time, and sweep: every space still opens
// in each of them, and in one that starts; nothing that was erased is left in the key store.
func TestReplicasEraseAtOnce(t *testing.T) {
	s, cfg := replicas(t, 3)
	var spaces []sealed.SpaceID
	for i := range 8 {
		id := sealed.SpaceID{9, byte(i)}
		create(t, s[i%3], id)
		spaces = append(spaces, id)
		for p, s := range s {
			put(t, s.Space(id), "x", note{fmt.Sprint(p), "text"}, note{"stays", "text"})
		}
	}
	var all sync.WaitGroup
	for p, s := range s {
		for _, id := range spaces {
			all.Go(func() {
				r, err := s.Space(id).Erase(context.Background(),
					func(tx sealed.Tx) error { return notes.In("x").Delete(tx, fmt.Sprint(p)) })
				if err != nil || r.Epoch == 0 {
					t.Errorf("erase: %+v, %v", r, err)
				}
				if err := s.SweepEpochs(context.Background()); err != nil {
					t.Errorf("sweep: %v", err)
				}
			})
		}
	}
	all.Wait()
	for _, s := range append(s, open(t, cfg)) {
		for _, id := range spaces {
			if got := allOf(t, s.Space(id)); !maps.Equal(got, map[string]string{"stays": "text"}) {
				t.Errorf("space %s holds %v", id, got)
			}
		}
		verifyClean(t, s)
	}
	for _, id := range spaces {
		if err := s[0].SweepEpochs(t.Context()); err != nil {
			t.Fatal(err)
		}
		if doc, kept := s[0].Epochs(t, id); slices.Min(kept) != doc {
			t.Errorf("space %s: the bundle has epoch %d, the key store %v", id, doc, kept)
		}
	}
}

func allOf(t *testing.T, sp *sealed.Space) map[string]string { t.Helper(); return all(t, sp, "x") }

// TestReplicasSweepDuringATurn has a process sweep, and another one turn, between the moment that a third has put its
// new epoch key and its commit.
func TestReplicasSweepDuringATurn(t *testing.T) {
	cfg := shared(t)
	s, process := openPausable(t, cfg)
	other := open(t, cfg)
	sp := create(t, s, spaceA)
	put(t, sp, "x", note{"1", "one"}, note{"2", "two"}, note{"3", "three"})
	erased := false
	process.BeforeCommit(func() {
		if erased {
			return
		}
		erased = true
		if err := other.SweepEpochs(t.Context()); err != nil {
			t.Error(err)
		}
	})
	eraseOne(t, sp, "x", "1")
	turned := false
	process.BeforeCommit(func() {
		if turned {
			return
		}
		turned = true
		eraseOne(t, other.Space(spaceA), "x", "2")
	})
	put(t, sp, "x", note{"1", "again"})
	eraseOne(t, sp, "x", "1")
	if !erased || !turned {
		t.Fatal("the test was not in between")
	}
	for _, s := range []*sealed.Store{s, other, open(t, cfg)} {
		if got := all(t, s.Space(spaceA), "x"); !maps.Equal(got, map[string]string{"3": "three"}) {
			t.Errorf("got %v", got)
		}
	}
}

// TestReplicasLock locks a space in one process: another one, which has it open, does not read or commit any more.
func TestReplicasLock(t *testing.T) {
	s, _ := replicas(t, 2)
	a, b := create(t, s[0], spaceA), s[1].Space(spaceA)
	put(t, b, "x", note{"1", "one"})
	lease := b.Lease()
	cause := errors.New("revoked")
	locked := make(chan struct{})
	under := b.Update(t.Context(), func(tx sealed.Tx) error { // the lock comes while this is under way
		go func() { s[0].Bundle(spaceA).Lock(cause); close(locked) }()
		return notes.In("x").Put(tx, "2", note{"2", "before or after the lock"})
	})
	<-locked
	for _, err := range []error{
		b.View(t.Context(), func(sealed.Reader) error { return nil }),
		b.Update(t.Context(), func(sealed.Tx) error { return nil }),
	} {
		if !errors.Is(err, sealed.ErrLocked) || !errors.Is(err, sealed.ErrLockedElsewhere) {
			t.Errorf("after a lock elsewhere: %v", err)
		}
	}
	if err := context.Cause(lease); !errors.Is(err, sealed.ErrLockedElsewhere) {
		t.Errorf("the lease ended with %v", err)
	}
	if err := a.View(t.Context(), func(sealed.Reader) error { return nil }); !errors.Is(err, cause) {
		t.Errorf("where it was locked: %v", err)
	}
	for _, s := range s {
		if err := s.Bundle(spaceA).Load(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	if got := all(t, b, "x"); (under == nil) != (got["2"] != "") {
		t.Errorf("the transaction that met the lock said %v, and there is %v", under, got)
	}
	put(t, a, "x", note{"3", "three"})
	put(t, b, "x", note{"4", "four"})
}

// TestReplicasMeetAKeySource: another process has put a customer's key in the place of the service's before anybody
// used the space here. That is no refusal: the key was not asked here yet.
func TestReplicasMeetAKeySource(t *testing.T) {
	s, _ := replicas(t, 2)
	a, b := create(t, s[0], spaceA), s[1].Space(spaceA)
	put(t, a, "x", note{"1", "one"})
	vault := sourcetest.NewFake("customer")
	if err := s[0].Bundle(spaceA).Rewrap(t.Context(), nil, vault); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		err := b.View(t.Context(), func(sealed.Reader) error { return nil })
		if !errors.Is(err, sealed.ErrLocked) || !errors.Is(err, sealed.ErrLockedElsewhere) {
			t.Errorf("before the key was asked: %v", err)
		}
	}
	if err := s[1].Bundle(spaceA).Load(t.Context(), vault); err != nil {
		t.Fatal(err)
	}
	if got := all(t, b, "x"); got["1"] != "one" {
		t.Errorf("got %v", got)
	}
}

// TestReplicasRewrapAfterATurn: one process has turned the epoch, for an erasure, and another one that has the space
// open, and reads nothing of it, goes to another version of the key.
func TestReplicasRewrapAfterATurn(t *testing.T) {
	s, _ := replicas(t, 2)
	a, b := create(t, s[0], spaceA), s[1].Space(spaceA)
	put(t, a, "x", note{"1", "one"}, note{"2", "two"})
	vault := sourcetest.NewFake("customer")
	if err := s[0].Bundle(spaceA).Rewrap(t.Context(), nil, vault); err != nil {
		t.Fatal(err)
	}
	if err := s[1].Bundle(spaceA).Load(t.Context(), vault); err != nil {
		t.Fatal(err)
	}
	all(t, b, "x")
	eraseOne(t, b, "x", "1")
	wraps := 0
	counted := slowSource{vault, func() { wraps++ }}
	err := s[0].Bundle(spaceA).Rewrap(t.Context(), counted)
	if !errors.Is(err, sealed.ErrChanged) {
		t.Errorf("the first attempt: %v, want that the keys have changed", err)
	}
	if wraps != 0 {
		t.Errorf("the first attempt has wrapped %d times", wraps)
	}
	if err := s[0].Bundle(spaceA).Rewrap(t.Context(), counted); err != nil {
		t.Errorf("the second attempt: %v", err)
	}
	for i, sp := range []*sealed.Space{a, b} {
		if err := sp.View(t.Context(), func(sealed.Reader) error { return nil }); errors.Is(err, sealed.ErrLocked) {
			err = s[i].Bundle(spaceA).Load(t.Context(), vault) // the data key is another one
			if err != nil {
				t.Fatal(err)
			}
		}
		if got := all(t, sp, "x"); !maps.Equal(got, map[string]string{"2": "two"}) {
			t.Errorf("got %v", got)
		}
	}
}

// TestReplicasDrop drops a space in one process, and makes one of the same id.
func TestReplicasDrop(t *testing.T) {
	s, _ := replicas(t, 2)
	a, b := create(t, s[0], spaceA), s[1].Space(spaceA)
	put(t, a, "x", note{"1", "one"})
	put(t, b, "x", note{"2", "two"})
	for _, s := range s { // states that must not be held against the space that comes
		eraseOne(t, s.Space(spaceA), "x", "1")
		put(t, s.Space(spaceA), "x", note{"1", "one"})
		if err := s.Anchor(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := s[0].Spaces().Drop(t.Context(), spaceA); err != nil {
		t.Fatal(err)
	}
	if err := b.View(t.Context(), func(sealed.Reader) error { return nil }); !errors.Is(err, sealed.ErrNoSpace) {
		t.Errorf("view of what was dropped elsewhere: %v", err)
	}
	again := create(t, s[0], spaceA)
	put(t, again, "x", note{"1", "anew"})
	if got := all(t, s[1].Space(spaceA), "x"); !maps.Equal(got, map[string]string{"1": "anew"}) {
		t.Errorf("got %v", got)
	}
	if err := s[0].Spaces().Drop(t.Context(), spaceA); err != nil {
		t.Fatal(err)
	}
	create(t, s[0], spaceA) // before the other one has looked
	if err := s[1].Space(spaceA).Update(t.Context(), func(sealed.Tx) error { return nil }); !errors.Is(err,
		sealed.ErrNoSpace) {
		t.Errorf("update of a space whose id another one has now: %v", err)
	}
	put(t, s[1].Space(spaceA), "x", note{"2", "two"})
	if err := s[1].Spaces().Create(t.Context(), spaceA); !errors.Is(err, sealed.ErrExists) {
		t.Errorf("create what exists: %v", err)
	}
}

// TestReplicasAgreeWithAModel has processes read, write, delete, erase, fold, lock and turn in the same containers at
// once. What each acknowledged is there, all see the same, and nothing is found to be damaged.
func TestReplicasAgreeWithAModel(t *testing.T) {
	s, cfg := replicas(t, 3)
	for _, s := range s {
		s.SmallPages()
	}
	create(t, s[0], spaceA)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	const rounds, ids = 60, 12
	var all sync.WaitGroup
	wants := make([]map[string]string, 6)
	var mu sync.Mutex
	counted, happened := 0, map[string]int{}
	happens := func(what string) { mu.Lock(); defer mu.Unlock(); happened[what]++ }
	for w := range wants {
		all.Go(func() {
			store := s[w%len(s)]
			random := rand.New(rand.NewPCG(seed, uint64(w)))
			want := map[string]string{}
			wants[w] = want
			for round := range rounds {
				next := maps.Clone(want)
				giveUp := errors.New("give up")
				fn := func(tx sealed.Tx) error {
					next = maps.Clone(want)
					n, err := counters.In().Get(tx, "all")
					if err != nil && !errors.Is(err, sealed.ErrNotFound) {
						return err
					}
					for range 1 + random.IntN(4) {
						id := fmt.Sprint(w, "-", random.IntN(ids))
						text, there := next[id]
						got, err := notes.In("x").Get(tx, id)
						if there && (err != nil || got.Text != text) || !there && !errors.Is(err, sealed.ErrNotFound) {
							return fmt.Errorf("get %s: %v, %w; want %q", id, got, err, text)
						}
						if there && random.IntN(3) == 0 {
							delete(next, id)
							if err := notes.In("x").Delete(tx, id); err != nil {
								return err
							}
							continue
						}
						next[id] = fmt.Sprint(round, random.IntN(1000))
						if err := notes.In("x").Put(tx, id, note{id, next[id]}); err != nil {
							return err
						}
					}
					if random.IntN(8) == 0 {
						return giveUp
					}
					return counters.In().Put(tx, "all", counter{n.N + 1})
				}
				sp := store.Space(spaceA)
				var err error
				if random.IntN(4) == 0 {
					_, err = sp.Erase(context.Background(), fn)
					happens("erase")
				} else {
					err = sp.Update(context.Background(), fn)
					happens("update")
				}
				unfinished, isErase := errors.AsType[*sealed.EraseError](err)
				switch {
				case err == nil || isErase:
					want = next
					wants[w] = next
					mu.Lock()
					counted++
					mu.Unlock()
					if isErase && !errors.Is(unfinished, sealed.ErrLocked) {
						t.Error(err)
					}
				case errors.Is(err, giveUp):
				case errors.Is(err, sealed.ErrLocked):
					happens("met a lock")
				default:
					t.Error(err)
				}
				switch random.IntN(24) {
				case 0:
					store.Bundle(spaceA).Lock(giveUp)
					happens("lock")
				case 1:
					if err := sp.Fold(context.Background()); err != nil && !errors.Is(err, sealed.ErrLocked) {
						t.Error(err)
					}
				case 2:
					if err := turnGeneration(store.Bundle(spaceA)); err == nil {
						happens("turn")
					} else if !errors.Is(err, sealed.ErrLocked) && !errors.Is(err, sealed.ErrChanged) &&
						!sealed.IsTurning(err) {
						t.Error(err)
					}
				case 3:
					if err := store.Anchor(context.Background()); err != nil {
						t.Error(err)
					}
				}
				for store.Bundle(spaceA).Load(context.Background(), nil) != nil {
				}
			}
		})
	}
	all.Wait()
	if t.Failed() {
		return
	}
	want := map[string]string{}
	for _, w := range wants {
		maps.Copy(want, w)
	}
	for _, s := range append(s, open(t, cfg)) {
		if err := s.Bundle(spaceA).Load(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if got := allOf(t, s.Space(spaceA)); !maps.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		err := s.Space(spaceA).View(t.Context(), func(r sealed.Reader) error {
			n, err := counters.In().Get(r, "all")
			if err == nil && n.N != counted {
				t.Errorf("%d transactions were acknowledged, %d are there", counted, n.N)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
		verifyClean(t, s)
	}
	t.Log(happened)
	if happened["turn"] == 0 || happened["lock"] == 0 || happened["met a lock"] == 0 {
		t.Errorf("the test looks at too little: %v", happened)
	}
}

func turnGeneration(b *sealed.Bundle) error {
	generation, err := b.Wrap(context.Background(), nil)
	if err == nil {
		err = b.Turn(context.Background(), generation, nil)
	}
	if err == nil {
		err = b.Retire(context.Background(), nil)
	}
	return err
}

// TestReplicasTakeTheSameKeys: a process with another root, another directory of epoch keys or another format is
// refused, and changes nothing.
func TestReplicasTakeTheSameKeys(t *testing.T) {
	s, cfg := replicas(t, 1)
	create(t, s[0], spaceA)
	before := s[0].Rows(t)
	for name, c := range map[string]struct {
		change func(*sealed.Config)
		open   func(sealed.Config) (*sealed.Store, error)
		want   func(error) bool
	}{
		"root": {
			change: func(cfg *sealed.Config) { cfg.Protectors = shared(t).Protectors },
			want: func(err error) bool {
				_, ok := errors.AsType[*sealed.RootError](err)
				return ok
			},
		},
		"epoch keys": {
			open: func(cfg sealed.Config) (*sealed.Store, error) { return sealed.OpenWithoutKeys(t.Context(), cfg) },
			want: func(err error) bool {
				return errors.Is(err, sealed.ErrOtherPlace) &&
					strings.Contains(err.Error(), "All servers need the same")
			},
		},
		"a later format, while others have the store open": {
			change: func(cfg *sealed.Config) {
				*cfg = sealed.WithSteps(*cfg, sealed.Step{Name: "next", Since: "9.0.0"})
			},
			want: func(err error) bool { return errors.Is(err, sealed.ErrInUse) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, open := cfg, func(cfg sealed.Config) (*sealed.Store, error) { return sealed.Open(t.Context(), cfg) }
			if c.change != nil {
				c.change(&cfg)
			}
			if c.open != nil {
				open = c.open
			}
			other, err := open(cfg)
			if !c.want(err) {
				t.Errorf("got %v, %v", other, err)
			}
		})
	}
	if after := s[0].Rows(t); !slices.EqualFunc(before, after, func(a, b sealed.Row) bool {
		return a.Kind == 'M' && a.Kind == b.Kind || bytes.Equal(a.Value, b.Value)
	}) {
		t.Error("rows were changed")
	}
	put(t, s[0].Space(spaceA), "x", note{"1", "one"})
}

// TestReplicasOfAnEarlierFormat brings a shared store to a later format: a process that knows the earlier one alone is
// refused from then on.
func TestReplicasOfAnEarlierFormat(t *testing.T) {
	cfg := shared(t)
	keep := open(t, cfg) // or it would be forgotten
	next := sealed.WithSteps(cfg, sealed.Step{Name: "next", Since: "9.0.0"})
	closeAndKeep(t, keep, cfg, func() {
		s := open(t, next)
		if s.Maintenance().Format() != sealed.Format+1 {
			t.Errorf("format %d", s.Maintenance().Format())
		}
		open(t, next) // beside it
		if _, err := sealed.Open(t.Context(), cfg); err == nil {
			t.Error("a program that knows an earlier format has opened the store")
		} else if _, ok := errors.AsType[*sealed.NewerError](err); !ok {
			t.Error(err)
		}
	})
}

// closeAndKeep closes a store, and runs fn while its rows are still kept.
func closeAndKeep(t *testing.T, s *sealed.Store, cfg sealed.Config, fn func()) {
	t.Helper()
	defer sealed.KeepPlace(t, cfg.Engine)()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	fn()
}

// TestReplicasDetectARollback puts the rows of an earlier moment back while nobody has the store open: a process that
// starts finds that the anchors, which another one has written, have seen later states.
func TestReplicasDetectARollback(t *testing.T) {
	s, cfg := replicas(t, 2)
	sp := create(t, s[0], spaceA)
	put(t, sp, "x", note{"1", "one"})
	yesterday := s[0].Rows(t)
	put(t, s[1].Space(spaceA), "x", note{"1", "changed"})
	put(t, sp, "x", note{"2", "two"})
	for _, s := range s {
		if err := s.Anchor(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	defer sealed.KeepPlace(t, cfg.Engine)()
	for _, s := range s {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	sealed.PutBack(t, cfg, yesterday)
	late := open(t, cfg)
	err := late.Space(spaceA).View(t.Context(), func(sealed.Reader) error { return nil })
	if !errors.Is(err, sealed.ErrRollback) {
		t.Errorf("a store of yesterday: %v", err)
	}
}

// TestReplicasAnchorNoOlderState has processes write their anchors in any order: what stands is the newest state.
func TestReplicasAnchorNoOlderState(t *testing.T) {
	s, cfg := replicas(t, 2)
	create(t, s[0], spaceA)
	for round := range 6 {
		put(t, s[round%2].Space(spaceA), "x", note{"1", fmt.Sprint(round)})
		put(t, s[1-round%2].Space(spaceA), "x", note{"2", fmt.Sprint(round)})
		for i := range s { // the one that saw less comes last in every second round
			if err := s[(round/2+i)%2].Anchor(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		late := open(t, cfg)
		put(t, late.Space(spaceA), "x", note{"3", fmt.Sprint(round)})
		if err := late.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestReplicasRotateTheRoot rotates the root key in one process while another one reads, writes and makes spaces.
func TestReplicasRotateTheRoot(t *testing.T) {
	s, _ := replicas(t, 2)
	sp := create(t, s[0], spaceA)
	put(t, sp, "x", note{"1", "one"})
	put(t, s[1].Space(spaceA), "x", note{"2", "two"})
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for _, s := range s {
		running.Go(func() {
			if err := s.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	defer running.Wait()
	defer stop()
	if err := s[0].RootKey().Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s[1].RootKey().Rotate(t.Context()); err != nil && !errors.Is(err, sealed.ErrRotating) {
		t.Errorf("rotate in both: %v", err)
	}
	eraseOne(t, s[0].Space(spaceA), "x", "1") // its bundle is sealed under the new key now
	put(t, s[1].Space(spaceA), "x", note{"3", "three"})
	create(t, s[1], sealed.SpaceID{7})
	put(t, s[0].Space(sealed.SpaceID{7}), "x", note{"1", "one"})
	for { // until it has been sealed anew, in both
		state, err := s[1].RootKey().State(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !state.Rotation.Running {
			break
		}
		runtime.Gosched()
	}
	for _, s := range s {
		verifyClean(t, s)
		if got := allOf(t, s.Space(spaceA)); !maps.Equal(got, map[string]string{"2": "two", "3": "three"}) {
			t.Errorf("got %v", got)
		}
	}
}

// TestVerifyBesideReplicas verifies a store that others write to: it finds nothing, and leaves nothing.
func TestVerifyBesideReplicas(t *testing.T) {
	s, cfg := replicas(t, 2)
	create(t, s[0], spaceA)
	ctx, stop := context.WithCancel(t.Context())
	var writing sync.WaitGroup
	defer writing.Wait()
	defer stop()
	for w, s := range s {
		writing.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				_, err := s.Space(spaceA).Erase(context.Background(), func(tx sealed.Tx) error {
					if err := notes.In("x").Put(tx, fmt.Sprint(w, n), note{}); err != nil || n == 0 {
						return err
					}
					return notes.In("x").Delete(tx, fmt.Sprint(w, n-1))
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	cfg.ReadOnly = true
	for range 10 {
		looking := open(t, cfg)
		tally := verifyClean(t, looking)
		if tally.Spaces != 2 || tally.Locked != 0 {
			t.Errorf("looked at %+v", tally)
		}
		if err := looking.Space(spaceA).Update(t.Context(), func(tx sealed.Tx) error {
			return notes.In("x").Put(tx, "1", note{})
		}); !errors.Is(err, sealed.ErrReadOnly) {
			t.Errorf("write to what is only read: %v", err)
		}
		var keyring bytes.Buffer
		if _, err := s[0].Backup().WriteKeyring(t.Context(), &keyring); err != nil {
			t.Errorf("back up the keyring: %v", err)
		}
		if err := looking.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRestoreAlone restores a backup, which is refused where a store is, and which nothing can open meanwhile.
func TestRestoreAlone(t *testing.T) {
	s, cfg := replicas(t, 2)
	put(t, create(t, s[0], spaceA), "x", note{"1", "one"})
	var data, keyring bytes.Buffer
	if _, err := s[1].Backup().WriteData(t.Context(), &data); err != nil {
		t.Fatal(err)
	}
	if _, err := s[1].Backup().WriteKeyring(t.Context(), &keyring); err != nil {
		t.Fatal(err)
	}
	restore := func(cfg sealed.Config) error {
		return sealed.Restore(t.Context(), cfg, bytes.NewReader(keyring.Bytes()), bytes.NewReader(data.Bytes()))
	}
	if err := restore(cfg); !errors.Is(err, backup.ErrNotEmpty) {
		t.Errorf("restore over a store that is open: %v", err)
	}
	cfg.Engine += " elsewhere"
	cfg.AnchorDir = ""
	defer sealed.KeepPlace(t, cfg.Engine)()
	if err := restore(cfg); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := allOf(t, open(t, cfg).Space(spaceA)); !maps.Equal(got, map[string]string{"1": "one"}) {
			t.Errorf("got %v", got)
		}
	}
}
