package sealed_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage/sealed"
)

// rowsOf returns the stored rows that a condition holds for, by key.
func rowsOf(t *testing.T, s *sealed.Store, match func(sealed.Row) bool) map[string]sealed.Row {
	t.Helper()
	found := map[string]sealed.Row{}
	for _, row := range s.Rows(t) {
		if match(row) {
			found[string(row.Key)] = row
		}
	}
	return found
}

// putBack makes the rows that a condition holds for as they were before.
func putBack(t *testing.T, s *sealed.Store, before map[string]sealed.Row, match func(sealed.Row) bool) {
	t.Helper()
	for key, row := range rowsOf(t, s, match) {
		if _, there := before[key]; !there {
			s.Overwrite(t, row.Key, nil)
		}
	}
	for _, row := range before {
		s.Overwrite(t, row.Key, row.Value)
	}
}

// TestRowsPutBackTogetherAreFound puts sets of rows back that agree with one another: a record with its secret, the
// nursery of a container, a container without its head, and the container whole, as they were before each of several
// changes.
func TestRowsPutBackTogetherAreFound(t *testing.T) {
	changes := map[string]func(*testing.T, *stand){
		"changed":     func(t *testing.T, st *stand) { put(t, st.space, "a", note{"2", "newer"}, note{"4", "newer"}) },
		"added":       func(t *testing.T, st *stand) { put(t, st.space, "a", note{"5", "new"}) },
		"deleted":     func(t *testing.T, st *stand) { erase(t, st.space, "a", "4") },
		"folded away": func(t *testing.T, st *stand) { erase(t, st.space, "a", "1") },
		"deleted and made again": func(t *testing.T, st *stand) {
			erase(t, st.space, "a", "4")
			put(t, st.space, "a", note{"4", "another"})
		},
	}
	for change, do := range changes {
		for set, kinds := range map[string]string{"records and nursery": "RN", "all but heads": "RNP123",
			"pages": "P123", "heads": "H", "all but records": "HNP123"} {
			t.Run(change+", "+set, func(t *testing.T) {
				st := newStand(t)
				container := ""
				for _, row := range st.store.Rows(t) { // "a" is the one with nursery rows
					if row.Space == spaceA && row.Kind == 'N' {
						container = row.Container
					}
				}
				match := func(r sealed.Row) bool {
					return r.Space == spaceA && r.Container == container && strings.ContainsRune(kinds, rune(r.Kind))
				}
				before := rowsOf(t, st.store, match)
				do(t, st)
				now := rowsOf(t, st.store, match)
				same := len(before) == len(now)
				for key, row := range before {
					same = same && bytes.Equal(row.Value, now[key].Value)
				}
				if same {
					t.Skip("the change does not touch these rows")
				}
				putBack(t, st.store, before, match)
				if found := st.verify(t); len(found) == 0 {
					t.Error("nothing found")
				}
				putBack(t, st.store, now, match)
				if found := st.verify(t); len(found) > 0 {
					t.Errorf("after all was put back: %v", found)
				}
			})
		}
	}
}

// TestRecordTakenAwayWithItsSecretIsFound: the head knows how many there are, and which.
func TestRecordTakenAwayWithItsSecretIsFound(t *testing.T) {
	st := newStand(t)
	for _, row := range st.store.Rows(t) {
		if row.Space == spaceA && row.Kind == 'N' {
			mine := func(r sealed.Row) bool { return r.Container == row.Container && r.ID == row.ID }
			before := rowsOf(t, st.store, mine)
			putBack(t, st.store, nil, mine)
			if found := st.verify(t); len(found) == 0 {
				t.Errorf("%s taken away with its record: nothing found", row)
			}
			putBack(t, st.store, before, mine)
		}
	}
}

// anchored is a store with anchors that is closed and opened again.
type anchored struct {
	cfg  sealed.Config
	said map[sealed.EventKind]int
}

func newAnchored(t *testing.T) *anchored {
	a := &anchored{cfg: config(t, "pebble"), said: map[sealed.EventKind]int{}}
	a.cfg.AnchorDir = filepath.Join(t.TempDir(), "anchors")
	a.cfg.Report = func(e sealed.Event) { a.said[e.Kind]++ }
	return a
}

func (a *anchored) data() string { return strings.TrimPrefix(a.cfg.Engine, "pebble:") }

// TestDataOlderThanItsAnchorIsRefused puts the whole data directory, or a container of one space, back as it was at an
// earlier stop.
func TestDataOlderThanItsAnchorIsRefused(t *testing.T) {
	a := newAnchored(t)
	s := open(t, a.cfg)
	put(t, create(t, s, spaceA), "a", note{"1", "one"})
	create(t, s, spaceB)
	if a.said[sealed.AnchorMissing] != 1 {
		t.Errorf("the first start said %v", a.said)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	old := filepath.Join(t.TempDir(), "old")
	if err := os.CopyFS(old, os.DirFS(a.data())); err != nil {
		t.Fatal(err)
	}
	s = open(t, a.cfg)
	put(t, s.Space(spaceA), "a", note{"2", "two"})
	before := rowsOf(t, s, func(r sealed.Row) bool { return r.Space == spaceA && !r.Root() && r.Kind != 'B' })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	newest := a.data()
	s = open(t, a.cfg)
	put(t, s.Space(spaceA), "a", note{"3", "three"})
	if err := s.Anchor(t.Context()); err != nil {
		t.Fatal(err)
	}
	containers := func(r sealed.Row) bool { return r.Space == spaceA && !r.Root() && r.Kind != 'B' }
	current := rowsOf(t, s, containers)
	putBack(t, s, before, containers)
	s.Bundle(spaceA).Lock(errors.New("read again"))
	if err := s.Bundle(spaceA).Load(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	err := s.Space(spaceA).View(t.Context(), func(r sealed.Reader) error {
		_, err := notes.In("a").Get(r, "1")
		return err
	})
	if corrupt, ok := errors.AsType[*sealed.CorruptError](err); !ok || corrupt.What != "head" {
		t.Errorf("a container put back: %v, want its head to be refused", err)
	}
	putBack(t, s, current, containers)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	a.cfg.Engine = "pebble:" + old
	s = open(t, a.cfg) // the operator's own space has not changed
	err = s.Space(spaceA).View(t.Context(), func(sealed.Reader) error { return nil })
	if rollback, ok := errors.AsType[*sealed.RollbackError](err); !ok || !errors.Is(err, sealed.ErrRollback) ||
		rollback.Space != spaceA || rollback.Stored >= rollback.Anchored {
		t.Fatalf("an old copy: %v", err)
	}
	if err := s.Space(spaceB).View(t.Context(), func(sealed.Reader) error { return nil }); err != nil {
		t.Errorf("a space that did not change: %v", err)
	}
	findings := 0
	if _, err := s.Maintenance().Verify(t.Context(), func(f sealed.Finding) { findings++ }); err != nil ||
		findings == 0 {
		t.Errorf("verify: %d findings, %v", findings, err)
	}
	s.Spaces().AcceptRollback(spaceA)
	if got := fmt.Sprint(all(t, s.Space(spaceA), "a")); got != "map[1:one]" {
		t.Errorf("after it was accepted: %s", got)
	}
	put(t, s.Space(spaceA), "a", note{"4", "four"})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, a.cfg) // and from now on this is the newest
	if got := fmt.Sprint(all(t, s.Space(spaceA), "a")); got != "map[1:one 4:four]" {
		t.Errorf("got %s", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	// The other line has gone on for longer, but it is another: its states of the same number are not the anchored
	// ones.
	a.cfg.Engine = "pebble:" + newest
	a.cfg.AcceptRollback = true
	if got := len(all(t, open(t, a.cfg).Space(spaceA), "a")); got == 0 {
		t.Error("nothing there, though every rollback is accepted")
	}
}

// TestAnchorsAreProtected changes every byte of the file of anchors.
func TestAnchorsAreProtected(t *testing.T) {
	a := newAnchored(t)
	s := open(t, a.cfg)
	put(t, create(t, s, spaceA), "a", note{"1", "one"})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(a.cfg.AnchorDir, "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("anchors: %v, %v", files, err)
	}
	value, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(value); i += 7 {
		changed := bytes.Clone(value)
		changed[i] ^= 4
		if err := os.WriteFile(files[0], changed, 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := sealed.Open(t.Context(), a.cfg); !isCorruption(err) {
			t.Errorf("byte %d changed: %v", i, err)
			if err == nil {
				s.Close()
			}
		}
	}
	a.cfg.AcceptRollback = true
	open(t, a.cfg)
	if a.said[sealed.RollbackAccepted] == 0 {
		t.Error("accepting damaged anchors is not reported")
	}
}

// TestAnchorsAreKeptUpToDate: once a minute, and after a thousand commits.
func TestAnchorsAreKeptUpToDate(t *testing.T) {
	for _, commits := range []int{1, 1_100} {
		t.Run(fmt.Sprint(commits, " commits"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := config(t, "memory")
				cfg.AnchorDir = filepath.Join(t.TempDir(), "anchors")
				s := open(t, cfg)
				sp := create(t, s, spaceA)
				done := make(chan error)
				ctx, stop := context.WithCancel(t.Context())
				go func() { done <- s.Run(ctx) }()
				for range commits {
					put(t, sp, "a", note{"1", "one"})
				}
				start := time.Now()
				synctest.Wait()
				if commits < 1000 {
					time.Sleep(61 * time.Second)
					synctest.Wait()
				}
				files, err := filepath.Glob(filepath.Join(cfg.AnchorDir, "*"))
				if err != nil || len(files) != 1 {
					t.Errorf("%v after %d commits: anchors %v, %v", time.Since(start), commits, files, err)
				}
				stop()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}
