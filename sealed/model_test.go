package sealed_test

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/visage-face/visage/sealed"
)

// TestMain draws randomness before any test does so inside a synctest bubble, where a process's first read panics under
// some FIPS modules.
func TestMain(m *testing.M) {
	crand.Read(make([]byte, 1))
	m.Run()
}

type counter struct{ N int }

var counters = sealed.NewTable[counter]("counters", 1)

// model is what a space should hold: by container, by id.
type model map[string]map[string]string

func (m model) clone() model {
	c := model{}
	for k, v := range m {
		c[k] = maps.Clone(v)
	}
	return c
}

// TestRandomTransactionsAgreeWithAModel runs random transactions, folds, drops, locks and restarts, and compares with
// plain maps.
func TestRandomTransactionsAgreeWithAModel(t *testing.T) {
	engines(t, func(t *testing.T, cfg sealed.Config) {
		if cfg.KeyDir != "" {
			cfg.AnchorDir = filepath.Join(t.TempDir(), "anchors")
		}
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		random := rand.New(rand.NewPCG(seed, 7))
		s := open(t, cfg)
		s.SmallPages()
		spaces := []sealed.SpaceID{spaceA, spaceB}
		want := map[sealed.SpaceID]model{}
		for _, id := range spaces {
			create(t, s, id)
			want[id] = model{"x": {}, "y": {}}
		}
		for round := range 220 {
			id := spaces[random.IntN(2)]
			sp := s.Space(id)
			next := want[id].clone()
			giveUp := errors.New("give up")
			transaction := func(tx sealed.Tx) error {
				next = want[id].clone()
				for range random.IntN(40) {
					if err := randomStep(random, tx, next, round); err != nil {
						return err
					}
				}
				if random.IntN(6) == 0 {
					return giveUp
				}
				return nil
			}
			var err error
			if random.IntN(3) == 0 {
				_, err = sp.Erase(t.Context(), transaction)
			} else {
				err = sp.Update(t.Context(), transaction)
			}
			switch {
			case err == nil:
				want[id] = next
			case !errors.Is(err, giveUp):
				t.Fatalf("round %d: %v", round, err)
			}
			switch random.IntN(20) {
			case 0, 1, 2:
				if err := sp.Fold(t.Context()); err != nil {
					t.Fatal(err)
				}
			case 3:
				parent := []string{"x", "y"}[random.IntN(2)]
				if err := notes.In(parent).Drop(t.Context(), sp); err != nil {
					t.Fatal(err)
				}
				want[id][parent] = map[string]string{}
			case 4:
				s.Bundle(id).Lock(giveUp)
				if err := s.Bundle(id).Load(t.Context(), nil); err != nil {
					t.Fatal(err)
				}
			case 5:
				if !strings.HasPrefix(cfg.Engine, "memory") {
					if err := s.Close(); err != nil {
						t.Fatal(err)
					}
					s = open(t, cfg)
					s.SmallPages()
				}
			case 7:
				b := s.Bundle(id)
				generation, err := b.Wrap(t.Context(), nil)
				if err == nil {
					err = errors.Join(b.Turn(t.Context(), generation, nil), b.Retire(t.Context(), nil))
				}
				if err != nil {
					t.Fatal(err)
				}
			case 8:
				if err := s.Anchor(t.Context()); err != nil {
					t.Fatal(err)
				}
			case 9:
				verifyClean(t, s)
			case 6:
				if err := s.Spaces().Drop(t.Context(), id); err != nil {
					t.Fatal(err)
				}
				create(t, s, id)
				want[id] = model{"x": {}, "y": {}}
			}
			for _, id := range spaces {
				for parent, records := range want[id] {
					if got := all(t, s.Space(id), parent); !maps.Equal(got, records) {
						t.Fatalf("round %d: space %s, container %s: got %v, want %v", round, id, parent, got, records)
					}
				}
			}
		}
		verifyClean(t, s)
	})
}

func randomStep(random *rand.Rand, tx sealed.Tx, want model, round int) error {
	parent, id := []string{"x", "y"}[random.IntN(2)], fmt.Sprint(random.IntN(400))
	c, records := notes.In(parent), want[parent]
	switch random.IntN(6) {
	case 0:
		_, there := records[id]
		if err := c.Delete(tx, id); there != (err == nil) || err != nil && !errors.Is(err, sealed.ErrNotFound) {
			return fmt.Errorf("delete %s/%s, there %t: %w", parent, id, there, err)
		}
		delete(records, id)
	case 1:
		got, err := c.Get(tx, id)
		text, there := records[id]
		if there && (err != nil || got.Text != text) || !there && !errors.Is(err, sealed.ErrNotFound) {
			return fmt.Errorf("get %s/%s: %v, %w", parent, id, got, err)
		}
		if has, err := c.Has(tx, id); err != nil || has != there {
			return fmt.Errorf("has %s/%s: %t, %w", parent, id, has, err)
		}
	default:
		text := strings.Repeat(fmt.Sprint(round), random.IntN(30))
		if err := c.Put(tx, id, note{id, text}); err != nil {
			return err
		}
		records[id] = text
	}
	return nil
}

func verifyClean(t *testing.T, s *sealed.Store) sealed.Tally {
	t.Helper()
	tally, err := s.Maintenance().Verify(context.Background(), func(f sealed.Finding) {
		t.Errorf("finding: %v",
			f.Err)
	})
	if err != nil {
		t.Error(err)
	}
	return tally
}

// TestNothingCommitsAfterTheFence locks a space while writers write and the folder folds: what was acknowledged is
// there, what was refused is not, and nothing changes once Lock has returned.
func TestNothingCommitsAfterTheFence(t *testing.T) {
	engines(t, func(t *testing.T, cfg sealed.Config) {
		s := open(t, cfg)
		sp := create(t, s, spaceA)
		ctx, stop := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() {
			if err := s.Run(ctx); err != nil {
				t.Errorf("run: %v", err)
			}
		})
		defer all.Wait()
		defer stop()
		cause := errors.New("revoked")
		acknowledged := make([]int, 4)
		for round := range 8 {
			lease := sp.Lease()
			var writers sync.WaitGroup
			for w := range acknowledged {
				writers.Go(func() {
					for {
						err := sp.Update(context.Background(), func(tx sealed.Tx) error {
							for i := range 40 { // enough that the folder has work
								if err := notes.In("bulk").Put(tx, fmt.Sprint(w, acknowledged[w], i),
									note{}); err != nil {
									return err
								}
							}
							return counters.In().Put(tx, fmt.Sprint(w), counter{acknowledged[w] + 1})
						})
						if err != nil {
							if !errors.Is(err, sealed.ErrLocked) || !errors.Is(err, cause) {
								t.Errorf("got %v, want %v with its cause", err, sealed.ErrLocked)
							}
							return
						}
						acknowledged[w]++
						if w == 0 && acknowledged[0]%3 == 2 {
							go s.Bundle(spaceA).Lock(cause)
						}
					}
				})
			}
			<-lease.Done()
			s.Bundle(spaceA).Lock(cause) // returns when those inside have left
			if got := context.Cause(lease); !errors.Is(got, cause) {
				t.Errorf("the lease ended with %v, want %v", got, cause)
			}
			writers.Wait()
			if err := sp.View(t.Context(), func(sealed.Reader) error { return nil }); !errors.Is(err,
				sealed.ErrLocked) {
				t.Errorf("view of a locked space: %v", err)
			}
			for s.Bundle(spaceA).Load(t.Context(), nil) != nil { // a Lock of the round may still be on its way
			}
			err := sp.View(t.Context(), func(r sealed.Reader) error {
				for w, want := range acknowledged {
					got, err := counters.In().Get(r, fmt.Sprint(w))
					if err != nil && want > 0 || got.N != want {
						t.Errorf("round %d, writer %d: stored %d, acknowledged %d, %v", round, w, got.N, want, err)
					}
				}
				return nil
			})
			if err != nil && !errors.Is(err, sealed.ErrLocked) {
				t.Error(err)
			}
			s.Bundle(spaceA).Lock(cause)
			for s.Bundle(spaceA).Load(t.Context(), nil) != nil {
			}
		}
		verifyClean(t, s)
	})
}

// TestNothingReadableOnDisk searches every file of the data and key directories for what was stored, in several
// encodings.
func TestNothingReadableOnDisk(t *testing.T) {
	cfg := config(t, "pebble")
	s := open(t, cfg)
	sp := create(t, s, spaceA)
	const canary = "canary-Grace-Hopper-7f3a"
	update(t, sp, func(tx sealed.Tx) error {
		for i := range 300 {
			if err := notes.In("group-"+canary).
				Put(tx, canary+fmt.Sprint(i), note{canary, canary + strings.Repeat(" text", i%50)}); err != nil {
				return err
			}
		}
		return nil
	})
	if err := sp.Fold(t.Context()); err != nil {
		t.Fatal(err)
	}
	update(t, sp, func(tx sealed.Tx) error { return notes.In("group-"+canary).Delete(tx, canary+"7") })
	dir := filepath.Dir(cfg.KeyDir)
	search := func() (files, hits int) {
		err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			files++
			for _, form := range []string{canary, fmt.Sprintf("%x", canary),
				strings.Join(strings.Split(canary, ""), "\x00"), "Grace", "group-", "notes"} {
				if strings.Contains(string(b), form) || strings.Contains(path, form) {
					hits++
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return files, hits
	}
	if files, hits := search(); hits > 0 || files < 5 {
		t.Errorf("open: %d hits in %d files", hits, files)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, hits := search(); hits > 0 {
		t.Errorf("closed: %d hits", hits)
	}
	if err := os.WriteFile(filepath.Join(dir, "leak"), []byte("xx"+canary), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, hits := search(); hits == 0 {
		t.Error("the search does not find what is there")
	}
}

// TestBlindedIDsTellNothing: the same names in two spaces, two containers and two incarnations of a space never give
// the same key, and the same plaintext never the same value; sizes fall into classes.
func TestBlindedIDsTellNothing(t *testing.T) {
	s := open(t, config(t, "memory"))
	seen := map[string]string{}
	sizes := map[int]bool{}
	for incarnation := range 2 {
		for _, id := range []sealed.SpaceID{spaceA, spaceB} {
			sp := create(t, s, id)
			for _, parent := range []string{"a", "b"} {
				for i := range 64 {
					put(t, sp, parent, note{fmt.Sprint(i), strings.Repeat("n", i*2)})
				}
			}
			for _, row := range s.Rows(t) {
				if row.Kind != 'R' || row.Space != id {
					continue
				}
				sizes[len(row.Value)] = true
				for _, what := range []string{row.Container + row.ID, row.ID, string(row.Value)} {
					where := fmt.Sprint(incarnation, row)
					if old, ok := seen[what]; ok && old != where {
						t.Fatalf("%s and %s share an id or a value", old, where)
					}
					seen[what] = where
				}
			}
		}
		for _, id := range []sealed.SpaceID{spaceA, spaceB} {
			if err := s.Spaces().Drop(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(sizes) > 3 {
		t.Errorf("records of 0 to 126 characters come in %d sizes: %v", len(sizes), sizes)
	}
	for _, row := range s.Rows(t) {
		if row.Space != sealed.Operator && row.Kind != 'I' {
			t.Errorf("row %s is left of a dropped space", row)
		}
	}
}

// TestLoopsMayWriteElsewhere walks a large container inside a transaction that writes to another one on the way.
func TestLoopsMayWriteElsewhere(t *testing.T) {
	engines(t, func(t *testing.T, cfg sealed.Config) {
		sp := create(t, open(t, cfg), spaceA)
		const n = 1500
		update(t, sp, func(tx sealed.Tx) error {
			for i := range n {
				if err := notes.In("from").Put(tx, fmt.Sprint(i), note{fmt.Sprint(i), "text"}); err != nil {
					return err
				}
			}
			return nil
		})
		update(t, sp, func(tx sealed.Tx) error {
			for v, err := range notes.In("from").All(tx) {
				if err != nil {
					return err
				}
				if err := notes.In("to").Put(tx, v.ID, v); err != nil {
					return err
				}
			}
			return nil
		})
		if got := len(all(t, sp, "to")); got != n {
			t.Errorf("copied %d records, want %d", got, n)
		}
	})
}
