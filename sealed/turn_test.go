package sealed_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/sealed"
)

func TestTurningToACustomersKeyRewritesSecretsOnly(t *testing.T) {
	engines(t, func(t *testing.T, cfg sealed.Config) {
		ctx := t.Context()
		s := open(t, cfg)
		sp := create(t, s, spaceA)
		var list []note
		for i := range 700 {
			list = append(list, note{fmt.Sprint(i), "x"})
		}
		put(t, sp, "a", list...)
		put(t, sp, "b", note{"1", "uno"})
		b := s.Bundle(spaceA)
		vault := sourcetest.NewFake("customer")

		// Requests go on while keys are turned.
		stop := make(chan struct{})
		var work sync.WaitGroup
		halt := sync.OnceFunc(func() { close(stop); work.Wait() })
		defer halt()
		work.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				err := sp.Update(ctx, func(tx sealed.Tx) error {
					return notes.In("c").Put(tx, fmt.Sprint(i%50), note{fmt.Sprint(i % 50), fmt.Sprint(i)})
				})
				if err == nil {
					err = sp.View(ctx, func(r sealed.Reader) error {
						_, err := notes.In("a").Get(r, fmt.Sprint(i%700))
						return err
					})
				}
				if err != nil {
					t.Errorf("request %d while keys turn: %v", i, err)
					return
				}
			}
		})
		generation, err := b.Wrap(ctx, vault)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // a turn can be repeated
			if err := b.Turn(ctx, generation, vault); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.Retire(ctx, vault); err != nil {
			t.Fatal(err)
		}
		halt()

		keys, err := b.Keys(ctx)
		if err != nil || keys.Turning || len(keys.Slots) != 1 || keys.Slots[0].Role != sealed.Customer ||
			!keys.Slots[0].Current {
			t.Fatalf("keys: %+v, %v", keys, err)
		}
		if err := b.Probe(ctx, "", vault); err != nil {
			t.Errorf("probe: %v", err)
		}
		if err := b.Probe(ctx, "", sourcetest.NewFake("another")); err == nil {
			t.Error("another key's probe passes")
		}
		if got := all(t, sp, "a"); len(got) != 700 {
			t.Errorf("%d records, want 700", len(got))
		}
		if tally, err := s.Maintenance().Verify(ctx, func(f sealed.Finding) { t.Error(f.Err) }); err != nil ||
			tally.Findings != 0 {
			t.Errorf("verify: %+v, %v", tally, err)
		}

		// Without the customer's key it does not open; with it, it does; a refusal is the source's own.
		b.Lock(errors.New("revoked"))
		if err := b.Load(ctx, nil); !errors.Is(err, sealed.ErrLocked) {
			t.Errorf("load without the customer's key: %v", err)
		}
		vault.Fail(keysource.ErrDenied)
		if err := b.Load(ctx, vault); !errors.Is(err, keysource.ErrDenied) {
			t.Errorf("load while refused: %v", err)
		}
		vault.Fail(nil)
		if err := b.Load(ctx, vault); err != nil {
			t.Fatal(err)
		}

		// And back to the service's keys.
		if generation, err = b.Wrap(ctx, nil); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(b.Turn(ctx, generation, vault), b.Retire(ctx, vault)); err != nil {
			t.Fatal(err)
		}
		b.Lock(errors.New("restart"))
		if err := b.Load(ctx, nil); err != nil {
			t.Fatal(err)
		}
		if got := all(t, sp, "b"); fmt.Sprint(got) != "map[1:uno]" {
			t.Errorf("got %v", got)
		}
	})
}

func TestRewrapChangesNoPage(t *testing.T) {
	ctx := t.Context()
	s := open(t, config(t, "memory"))
	sp := create(t, s, spaceA)
	put(t, sp, "a", note{"1", "one"})
	b, vault := s.Bundle(spaceA), sourcetest.NewFake("customer")
	generation, err := b.Wrap(ctx, vault)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(b.Turn(ctx, generation, vault), b.Retire(ctx, vault)); err != nil {
		t.Fatal(err)
	}
	before, err := b.Keys(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Rewrap(ctx, vault); err != nil {
		t.Fatal(err)
	}
	after, err := b.Keys(ctx)
	if err != nil || len(after.Slots) != 1 || after.Slots[0].Generation != before.Slots[0].Generation+1 ||
		after.Sequence != before.Sequence+1 || after.Turning {
		t.Errorf("before %+v, after %+v, %v", before, after, err)
	}
	b.Lock(errors.New("restart"))
	if err := b.Load(ctx, vault); err != nil {
		t.Fatal(err)
	}
	if got := all(t, sp, "a"); fmt.Sprint(got) != "map[1:one]" {
		t.Errorf("got %v", got)
	}
}

func TestNotesGoByCompareAndSet(t *testing.T) {
	ctx := t.Context()
	s := open(t, config(t, "memory"))
	create(t, s, spaceA)
	b := s.Bundle(spaceA)
	keys, err := b.Keys(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.SetNote(ctx, keys.Sequence, []byte("step 1")); err != nil {
		t.Fatal(err)
	}
	if err := b.SetNote(ctx, keys.Sequence, []byte("late")); !errors.Is(err, sealed.ErrChanged) {
		t.Errorf("a late note: %v, want %v", err, sealed.ErrChanged)
	}
	if keys, err = b.Keys(ctx); err != nil || !bytes.Equal(keys.Note, []byte("step 1")) {
		t.Errorf("keys: %+v, %v", keys, err)
	}
}

// TestAnEpochThatIsRetiredOpensNoOldCopy shows what turning is for: a copy of the data from before a deletion, with
// every key that still exists, does not open.
func TestAnEpochThatIsRetiredOpensNoOldCopy(t *testing.T) {
	ctx := t.Context()
	cfg := config(t, "pebble")
	s := open(t, cfg)
	sp := create(t, s, spaceA)
	put(t, sp, "a", note{"1", "deleted later"}, note{"2", "stays"})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	dir := strings.TrimPrefix(cfg.Engine, "pebble:")
	backup := filepath.Join(t.TempDir(), "backup")
	if err := os.CopyFS(backup, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	s = open(t, cfg)
	sp = s.Space(spaceA)
	update(t, sp, func(tx sealed.Tx) error { return notes.In("a").Delete(tx, "1") })
	b := s.Bundle(spaceA)
	if err := errors.Join(b.Turn(ctx, 1, nil), b.Retire(ctx, nil)); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(all(t, sp, "a")); got != "map[2:stays]" {
		t.Fatalf("got %s", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	old := cfg
	old.Engine = "pebble:" + backup
	s = open(t, old)
	err := s.Space(spaceA).View(ctx, func(r sealed.Reader) error {
		_, err := notes.In("a").Get(r, "1")
		return err
	})
	var corrupt *sealed.CorruptError
	if !errors.As(err, &corrupt) || corrupt.What != "epoch key" {
		t.Errorf("the old copy: %v, want its epoch key to be gone", err)
	}
}

// TestATurnThatTheVaultRefusedIsDoneOver: nothing has changed, and the turn that is repeated is a true one.
func TestATurnThatTheVaultRefusedIsDoneOver(t *testing.T) {
	ctx := t.Context()
	cfg := config(t, "lasting")
	s := open(t, cfg)
	sp := create(t, s, spaceA)
	put(t, sp, "a", note{"1", "one"})
	b, vault := s.Bundle(spaceA), sourcetest.NewFake("customer")
	first := epochs(t, cfg)
	generation, err := b.Wrap(ctx, vault)
	if err != nil {
		t.Fatal(err)
	}
	vault.Fail(keysource.ErrUnknown)
	if err := b.Turn(ctx, generation, vault); !errors.Is(err, keysource.ErrUnknown) {
		t.Fatalf("turn while the vault is away: %v", err)
	}
	if got := fmt.Sprint(all(t, sp, "a")); got != "map[1:one]" {
		t.Errorf("got %s", got)
	}
	vault.Fail(nil)
	if err := b.Turn(ctx, generation, vault); err != nil {
		t.Fatal(err)
	}
	if got := epochs(t, cfg); len(got) != 2 {
		t.Errorf("epochs %s before the old keys are retired, want two", got)
	}
	if err := b.Retire(ctx, vault); err != nil {
		t.Fatal(err)
	}
	second := epochs(t, cfg)
	if len(second) != 1 || second[0] == first[0] {
		t.Errorf("epochs %s after %s, want another one", second, first)
	}
	vault.Fail(keysource.ErrUnknown) // an epoch turns without the vault, as long as the space is open
	if err := b.Turn(ctx, generation, nil); err != nil {
		t.Errorf("turn the epoch: %v", err)
	}
	if got := epochs(t, cfg); len(got) != 1 || got[0] == second[0] {
		t.Errorf("epochs %s after %s, want another one", got, second)
	}
	vault.Fail(nil)
	b.Lock(errors.New("restart"))
	if err := b.Load(ctx, vault); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(all(t, sp, "a")); got != "map[1:one]" {
		t.Errorf("got %s", got)
	}
	verifyClean(t, s)
}

// epochs lists the epochs of spaceA that have a key in the key store.
func epochs(t *testing.T, cfg sealed.Config) (list []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(cfg.KeyDir, "epochs", "*", fmt.Sprintf("%x", spaceA[:]), "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		list = append(list, filepath.Base(f))
	}
	return list
}

// TestNotesAreStoredWhilePagesAreRewritten: a refusal of a key is noted, and must not wait for the pages of a large
// space.
func TestNotesAreStoredWhilePagesAreRewritten(t *testing.T) {
	ctx := t.Context()
	s, process := openPausable(t, shared(t))
	put(t, create(t, s, spaceA), "a", note{"1", "one"})
	b, vault := s.Bundle(spaceA), sourcetest.NewFake("customer")
	generation, err := b.Wrap(ctx, vault)
	if err != nil {
		t.Fatal(err)
	}
	commits := 0
	process.BeforeCommit(func() {
		if commits++; commits != 2 { // the first one begins the turn, and the note's own is the third
			return
		}
		keys, err := b.Keys(ctx)
		if err != nil || !keys.Turning {
			t.Errorf("keys while pages are rewritten: %+v, %v", keys, err)
		}
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if err := b.SetNote(short, keys.Sequence, []byte("refused")); err != nil {
			t.Errorf("a note while pages are rewritten: %v", err)
		}
	})
	if err := errors.Join(b.Turn(ctx, generation, vault), b.Retire(ctx, vault)); err != nil {
		t.Fatal(err)
	}
	if keys, err := b.Keys(ctx); err != nil || string(keys.Note) != "refused" || keys.Turning {
		t.Errorf("after %d commits: %+v, %v", commits, keys, err)
	}
}

// TestANoteWaitsAsLongAsItsContext: another change of the keys may wait for a vault.
func TestANoteWaitsAsLongAsItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, config(t, "memory"))
		create(t, s, spaceA)
		b, vault := s.Bundle(spaceA), sourcetest.NewFake("customer")
		keys, err := b.Keys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		asked, answer, wrapped := make(chan struct{}), make(chan struct{}), make(chan error, 1)
		go func() {
			_, err := b.Wrap(t.Context(), slowSource{vault, sync.OnceFunc(func() { close(asked); <-answer })})
			wrapped <- err
		}()
		<-asked
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := b.SetNote(ctx, keys.Sequence, []byte("late")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a note during another change: %v", err)
		}
		close(answer)
		if err := <-wrapped; err != nil {
			t.Error(err)
		}
	})
}

// slowSource is a key whose store takes its time to wrap.
type slowSource struct {
	keysource.Source
	wait func()
}

// Wrap implements keysource.Source.
func (s slowSource) Wrap(ctx context.Context, inner []byte) ([]byte, keysource.Ref, error) {
	s.wait()
	return s.Source.Wrap(ctx, inner)
}

// TestErasuresGoOnWhilePagesAreRewritten erases records while every page is brought under other keys.
func TestErasuresGoOnWhilePagesAreRewritten(t *testing.T) {
	engines(t, func(t *testing.T, cfg sealed.Config) {
		ctx := t.Context()
		s := open(t, cfg)
		s.SmallPages()
		sp := create(t, s, spaceA)
		want := map[string]string{}
		var list []note
		for i := range 300 {
			list = append(list, note{fmt.Sprint(i), "x"})
			want[fmt.Sprint(i)] = "x"
		}
		put(t, sp, "a", list...)
		b := s.Bundle(spaceA)
		stop := make(chan struct{})
		var work sync.WaitGroup
		var during atomic.Int64 // erasures that ended in the middle of a turn
		work.Go(func() {
			for i := range list {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := sp.Erase(ctx, func(tx sealed.Tx) error {
					return notes.In("a").Delete(tx, fmt.Sprint(i))
				}); err != nil {
					t.Errorf("erase %d: %v", i, err)
					return
				}
				delete(want, fmt.Sprint(i))
				if keys, err := b.Keys(ctx); err == nil && keys.Turning {
					during.Add(1)
				}
			}
			if during.Load() == 0 {
				t.Error("all records were erased, and no erasure ended in the middle of a turn")
			}
		})
		for turns := 0; turns < 3 || during.Load() == 0 && !t.Failed(); {
			generation, err := b.Wrap(ctx, nil)
			if errors.Is(err, sealed.ErrChanged) { // an erasure was quicker
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(b.Turn(ctx, generation, nil), b.Retire(ctx, nil)); err != nil {
				t.Fatal(err)
			}
			turns++
		}
		close(stop)
		work.Wait()
		if got := all(t, sp, "a"); !maps.Equal(got, want) {
			t.Errorf("%d records, want %d", len(got), len(want))
		}
		verifyClean(t, s)
		b.Lock(errors.New("restart"))
		if err := b.Load(ctx, nil); err != nil {
			t.Fatal(err)
		}
		if got := all(t, sp, "a"); !maps.Equal(got, want) {
			t.Errorf("after a restart: %d records, want %d", len(got), len(want))
		}
	})
}
