package sealed_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/visage-face/visage/sealed"
)

// stand is a small store with every kind of row, in memory so that each of its bytes can be tried.
type stand struct {
	cfg   sealed.Config
	store *sealed.Store
	space *sealed.Space
	other *sealed.Space
}

var spaceB = sealed.SpaceID{4, 5, 6}

func newStand(t *testing.T) *stand {
	t.Helper()
	cfg := sealed.Config{Engine: "memory:",
		Protectors: []sealed.Protector{{Name: "test", Kind: "fake", Source: protector(t)}}}
	st := &stand{cfg: cfg, store: open(t, cfg)}
	st.space, st.other = create(t, st.store, spaceA), create(t, st.store, spaceB)
	for _, sp := range []*sealed.Space{st.space, st.other} {
		for _, parent := range []string{"a", "b"} {
			put(t, sp, parent, note{"1", "one"}, note{"2", "two"}, note{"3", "three"})
		}
		if err := sp.Fold(t.Context()); err != nil {
			t.Fatal(err)
		}
		put(t, sp, "a", note{"2", "two, again"}, note{"4", "four"}) // one nursery row over a page's entry, one alone
	}
	return st
}

// verify gives the spaces new keys from what is stored now, and verifies everything.
func (st *stand) verify(t *testing.T) []sealed.Finding {
	t.Helper()
	for _, id := range []sealed.SpaceID{sealed.Operator, spaceA, spaceB} {
		st.store.Bundle(id).Lock(errors.New("read again"))
		st.store.Bundle(id).Load(context.Background(), nil) // what does not load is for Verify to tell
	}
	var findings []sealed.Finding
	if _, err := st.store.Maintenance().Verify(context.Background(),
		func(f sealed.Finding) { findings = append(findings, f) }); err != nil {
		t.Fatalf("verify: %v", err)
	}
	return findings
}

// names reports whether a finding names the place of a row.
func names(findings []sealed.Finding, row sealed.Row) bool {
	return slices.ContainsFunc(findings, func(f sealed.Finding) bool {
		corrupt, ok := errors.AsType[*sealed.CorruptError](f.Err)
		if !ok {
			// its keys do not load; the error of Load has named why
			return errors.Is(f.Err, sealed.ErrLocked) && f.Space == row.Space
		}
		if corrupt.Space != row.Space {
			return false
		}
		switch row.Kind {
		case 'R', 'N':
			return corrupt.Container == row.Container && corrupt.Record == row.ID
		case 'P':
			return corrupt.Container == row.Container || row.Root()
		}
		return true
	})
}

// TestAnyChangedByteIsFound changes every byte of every stored value, one at a time, in a store with all kinds of rows:
// each change is an error that names its place, and nothing but an error.
func TestAnyChangedByteIsFound(t *testing.T) {
	st := newStand(t)
	if found := st.verify(t); len(found) > 0 {
		t.Fatalf("clean store: %v", found)
	}
	tried, kinds := 0, map[byte]int{}
	for _, row := range st.store.Rows(t) {
		if row.Space == spaceB || row.Space == sealed.Operator && row.Kind != 'B' {
			continue // the same kinds again
		}
		kinds[row.Kind]++
		for i := range row.Value {
			changed := bytes.Clone(row.Value)
			changed[i] ^= 1 << (tried % 8)
			st.store.Overwrite(t, row.Key, changed)
			if row.Space == sealed.Operator {
				if err := st.reopenOperator(); err == nil {
					t.Fatalf("row %s: byte %d changed and the space opens", row, i)
				}
			} else if found := st.verify(t); !names(found, row) {
				t.Fatalf("row %s: byte %d of %d changed, found %v", row, i, len(row.Value), found)
			}
			tried++
		}
		st.store.Overwrite(t, row.Key, row.Value)
	}
	if found := st.verify(t); len(found) > 0 {
		t.Errorf("after all was put back: %v", found)
	}
	t.Logf("%d bytes changed, of rows %v", tried, kinds)
	for _, kind := range []byte("BHINPR") {
		if kinds[kind] == 0 {
			t.Errorf("no row of kind %q was tried", kind)
		}
	}
}

func (st *stand) reopenOperator() error {
	b := st.store.Bundle(sealed.Operator)
	b.Lock(errors.New("read again"))
	return b.Load(context.Background(), nil)
}

// TestMovedRowsAreFound puts each value under each other key of its kind: other record, other container, other space.
func TestMovedRowsAreFound(t *testing.T) {
	st := newStand(t)
	rows := st.store.Rows(t)
	tried := 0
	for _, from := range rows {
		for _, to := range rows {
			if from.Kind != to.Kind || bytes.Equal(from.Key, to.Key) || to.Space == sealed.Operator || to.Kind == 'I' {
				continue
			}
			st.store.Overwrite(t, to.Key, from.Value)
			if found := st.verify(t); !names(found, to) {
				t.Fatalf("%s put in place of %s: found %v", from, to, found)
			}
			st.store.Overwrite(t, to.Key, to.Value)
			tried++
		}
	}
	t.Logf("%d moves", tried)
}

// TestMissingRowsAreFound takes each row away.
func TestMissingRowsAreFound(t *testing.T) {
	st := newStand(t)
	for _, row := range st.store.Rows(t) {
		if row.Space == sealed.Operator {
			continue
		}
		st.store.Overwrite(t, row.Key, nil)
		found := st.verify(t)
		// A nursery row over a page's entry leaves the page's older version, which the record row then does not match.
		if len(found) == 0 {
			t.Errorf("row %s taken away: nothing found", row)
		}
		st.store.Overwrite(t, row.Key, row.Value)
	}
}

// TestStrangeRowsAreFound adds rows that cannot be: duplicates elsewhere, unknown kinds, keys cut short.
func TestStrangeRowsAreFound(t *testing.T) {
	st := newStand(t)
	for _, row := range st.store.Rows(t) {
		if row.Space != spaceA {
			continue
		}
		for _, change := range []func([]byte) []byte{
			func(k []byte) []byte { k[len(k)-1] ^= 1; return k },
			func(k []byte) []byte { k[16] = 'H'; return k },
			func(k []byte) []byte { k[16] = 'Z'; return k },
			func(k []byte) []byte { return append(k, 0) },
			func(k []byte) []byte { return k[:len(k)-1] },
			func(k []byte) []byte { k[0] ^= 0x80; return k }, // a space that does not exist
			func(k []byte) []byte { return k[:5] },
		} {
			key := change(bytes.Clone(row.Key))
			if slices.ContainsFunc(st.store.Rows(t), func(r sealed.Row) bool { return bytes.Equal(r.Key, key) }) {
				continue
			}
			st.store.Overwrite(t, key, row.Value)
			if found := st.verify(t); len(found) == 0 && len(key) > 16 {
				t.Errorf("row %s added under %x: nothing found", row, key)
			}
			st.store.Overwrite(t, key, nil)
		}
	}
	if found := st.verify(t); len(found) > 0 {
		t.Errorf("after all was taken away: %v", found)
	}
}

// TestReplayedRowsAreFound puts the older version of a row back, alone and with its secret.
func TestReplayedRowsAreFound(t *testing.T) {
	st := newStand(t)
	before := st.store.Rows(t)
	put(t, st.space, "a", note{"1", "newer"}, note{"2", "newer"}, note{"3", "newer"}, note{"4", "newer"})
	check := func(when string, kinds string) {
		t.Helper()
		now := map[string][]byte{}
		for _, row := range st.store.Rows(t) {
			now[string(row.Key)] = row.Value
		}
		tried := 0
		for _, row := range before {
			current, there := now[string(row.Key)]
			if row.Space != spaceA || !strings.ContainsRune(kinds, rune(row.Kind)) || bytes.Equal(current, row.Value) {
				continue
			}
			st.store.Overwrite(t, row.Key, row.Value)
			if found := st.verify(t); len(found) == 0 {
				t.Errorf("%s: old row %s put back: nothing found", when, row)
			}
			if !there {
				current = nil
			}
			st.store.Overwrite(t, row.Key, current)
			tried++
		}
		if tried == 0 {
			t.Errorf("%s: nothing was tried", when)
		}
	}
	check("before folding", "RN")
	if err := st.space.Fold(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("after folding", "RNP")
}

// TestChangedEpochKeyIsFound changes every byte of an epoch key's file.
func TestChangedEpochKeyIsFound(t *testing.T) {
	cfg := config(t, "pebble")
	s := open(t, cfg)
	create(t, s, spaceA)
	create(t, s, spaceB)
	files, err := filepath.Glob(filepath.Join(cfg.KeyDir, "epochs", "*", "*", "1"))
	if err != nil || len(files) != 3 {
		t.Fatalf("epoch keys: %v, %v", files, err)
	}
	var all [][]byte
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	load := func(id sealed.SpaceID) error {
		s.Bundle(id).Lock(errors.New("read again"))
		return s.Bundle(id).Load(t.Context(), nil)
	}
	target := slices.IndexFunc(files,
		func(name string) bool { return strings.Contains(name, fmt.Sprintf("%x", spaceA[:])) })
	if target < 0 {
		t.Fatalf("no file of the space among %v", files)
	}
	write := func(b []byte) {
		if err := os.WriteFile(files[target], b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i := range all[target] {
		changed := bytes.Clone(all[target])
		changed[i] ^= 0x10
		write(changed)
		if _, ok := errors.AsType[*sealed.CorruptError](load(spaceA)); !ok {
			t.Fatalf("byte %d changed and the space opens", i)
		}
	}
	write(all[(target+1)%3])
	if err := load(spaceA); err == nil {
		t.Error("another space's epoch key opens this one")
	}
	write(all[target])
	if err := load(spaceA); err != nil {
		t.Errorf("after it was put back: %v", err)
	}
}

// TestDamagedRecordCanBeDeleted: deleting needs no decryption of what goes.
func TestDamagedRecordCanBeDeleted(t *testing.T) {
	st := newStand(t)
	for _, row := range st.store.Rows(t) {
		if row.Space == spaceA && (row.Kind == 'R' || row.Kind == 'N') {
			st.store.Overwrite(t, row.Key,
				append(bytes.Clone(row.Value[:len(row.Value)-1]), row.Value[len(row.Value)-1]^1))
		}
	}
	update(t, st.space, func(tx sealed.Tx) error {
		for _, id := range []string{"1", "2", "3", "4"} {
			if _, err := notes.In("a").Get(tx, id); err == nil {
				t.Errorf("damaged record %s opens", id)
			}
			if err := notes.In("a").Delete(tx, id); err != nil {
				t.Errorf("delete damaged record %s: %v", id, err)
			}
		}
		return nil
	})
	if err := notes.In("b").Drop(t.Context(), st.space); err != nil {
		t.Fatal(err)
	}
	if found := st.verify(t); len(found) > 0 {
		t.Errorf("after deleting all: %v", found)
	}
}
