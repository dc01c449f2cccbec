package sealed_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/sealed"
)

// closed is a store with a space under a customer's key, which is not there.
func closed(t *testing.T) (*sealed.Store, *sourcetest.Fake) {
	t.Helper()
	s := open(t, config(t, "memory"))
	sp := create(t, s, spaceA)
	put(t, sp, "a", note{"1", "one"}, note{"2", "two"}, note{"3", "three"})
	vault := sourcetest.NewFake("customer")
	b := s.Bundle(spaceA)
	generation, err := b.Wrap(t.Context(), vault)
	if err == nil {
		err = errors.Join(b.Turn(t.Context(), generation, vault), b.Retire(t.Context(), vault))
	}
	if err != nil {
		t.Fatal(err)
	}
	put(t, sp, "a", note{"4", "four"}, note{"5", "five"}, note{"6", "six"}) // the turn has folded the others
	b.Lock(keysource.ErrDenied)
	return s, vault
}

// findings verifies and returns what was told.
func findings(t *testing.T, s *sealed.Store) (sealed.Tally, []sealed.Finding) {
	t.Helper()
	var list []sealed.Finding
	tally, err := s.Maintenance().Verify(t.Context(), func(f sealed.Finding) { list = append(list, f) })
	if err != nil {
		t.Fatalf("verify: %v", err)
	}
	return tally, list
}

func TestLockedIsNotDamaged(t *testing.T) {
	s, vault := closed(t)
	tally, found := findings(t, s)
	if tally.Findings != 0 || tally.Locked != 1 || tally.Sealed != 6 || tally.Spaces != 2 {
		t.Errorf("tally of a store with a locked space: %+v", tally)
	}
	if len(found) != 1 || !found[0].Locked || found[0].Space != spaceA || !errors.Is(found[0].Err, sealed.ErrLocked) {
		t.Errorf("found %v, want that the space is locked", found)
	}
	if err := s.Bundle(spaceA).Load(t.Context(), vault); err != nil {
		t.Fatal(err)
	}
	one, err := s.Space(spaceA).Verify(t.Context(), func(f sealed.Finding) { t.Errorf("open again: %v", f.Err) })
	if err != nil || one.Locked != 0 || one.Records != 6 || one.Sealed != 0 {
		t.Errorf("verify of the space that is open: %+v, %v", one, err)
	}
	if _, err := s.Space(spaceB).Verify(t.Context(), nil); !errors.Is(err, sealed.ErrNoSpace) {
		t.Errorf("verify of a space that is not there: %v", err)
	}
}

// TestDamageShowsOnWhatIsLocked takes and changes rows of a locked space: what shows without the key is told, as
// damage.
func TestDamageShowsOnWhatIsLocked(t *testing.T) {
	for name, harm := range map[string]struct {
		kind  byte
		value func(value []byte) []byte // nil: the row goes
		what  string
	}{
		"bundle changed":       {'B', func(v []byte) []byte { v[len(v)/2] ^= 1; return v }, "bundle"},
		"record malformed":     {'R', func(v []byte) []byte { v[0] ^= 1; return v }, "record"},
		"record cut off":       {'R', func([]byte) []byte { return []byte{1} }, "record"},
		"page malformed":       {'P', func(v []byte) []byte { v[0] ^= 1; return v }, "key page"},
		"nursery malformed":    {'N', func(v []byte) []byte { v[0] ^= 1; return v }, "nursery row"},
		"head malformed":       {'H', func(v []byte) []byte { v[0] ^= 1; return v }, "head"},
		"heads taken away":     {'H', nil, "head"},
		"key pages of nothing": {'H', nil, "no head"},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := closed(t)
			for _, row := range s.Rows(t) {
				if row.Space != spaceA || row.Kind != harm.kind {
					continue
				}
				var value []byte
				if harm.value != nil {
					value = harm.value(row.Value)
				}
				s.Overwrite(t, row.Key, value)
				if harm.value != nil {
					break
				}
			}
			tally, found := findings(t, s)
			if tally.Findings == 0 || tally.Locked != 0 {
				t.Fatalf("tally %+v, found %v", tally, found)
			}
			said := false
			for _, f := range found {
				corrupt, ok := errors.AsType[*sealed.CorruptError](f.Err)
				if !ok || f.Locked || corrupt.Space != spaceA {
					t.Errorf("found %+v, want damage of the space", f)
				}
				said = said || strings.Contains(f.Err.Error(), harm.what)
			}
			if !said {
				t.Errorf("found %v, want something about a %s", found, harm.what)
			}
		})
	}
}

// TestALostRecordShowsOnWhatIsLocked takes away one record, whose secret has a row of its own.
func TestALostRecordShowsOnWhatIsLocked(t *testing.T) {
	s, _ := closed(t)
	var lowest, lost string // ids; the lowest record goes first where a container is dropped, so another one is taken
	rows := s.Rows(t)
	for _, row := range rows {
		if row.Space == spaceA && row.Kind == 'R' && lowest == "" {
			lowest = row.ID
		}
	}
	for _, row := range rows {
		if row.Space == spaceA && row.Kind == 'N' && row.ID != lowest {
			lost = row.ID
		}
	}
	for _, row := range rows {
		if row.Space == spaceA && row.Kind == 'R' && row.ID == lost {
			s.Overwrite(t, row.Key, nil)
		}
	}
	if _, found := findings(t, s); len(found) != 1 || found[0].Locked || !strings.Contains(found[0].Err.Error(), lost) {
		t.Errorf("found %v, want the record %s", found, lost)
	}
}
