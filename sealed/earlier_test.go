package sealed_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/visage-face/visage/sealed"
)

// word is a record in its second encoding: upper case. The first was lower case.
type word string

func (w word) MarshalBinary() ([]byte, error) { return []byte(w), nil }

func (w *word) UnmarshalBinary(b []byte) error {
	*w = word(b)
	return nil
}

// TestRecordsOfAnEarlierEncodingAreRead writes records by a table's first version and reads and writes them by its
// second, padded and not.
func TestRecordsOfAnEarlierEncodingAreRead(t *testing.T) {
	converted := 0
	upper := func(b []byte) ([]byte, error) {
		converted++
		if string(b) == "no word" {
			return nil, errors.New("no word")
		}
		return []byte{b[0] - 'a' + 'A'}, nil
	}
	for name, options := range map[string][]sealed.TableOption{"padded": nil, "fixed": {sealed.FixedSize()}} {
		t.Run(name, func(t *testing.T) {
			first := sealed.NewTable[word]("words", 1, options...)
			second := sealed.NewTable[word]("words", 2, append(slices.Clone(options), sealed.Earlier(1, upper))...)
			third := sealed.NewTable[word]("words", 3, append(slices.Clone(options), sealed.Earlier(2, upper))...)
			sp := create(t, open(t, config(t, "memory")), spaceA)
			update(t, sp, func(tx sealed.Tx) error {
				return errors.Join(first.In("x").Put(tx, "1", "a"), first.In("x").Put(tx, "2", "b"),
					first.In("broken").Put(tx, "1", "no word"))
			})
			update(t, sp, func(tx sealed.Tx) error { return second.In("x").Put(tx, "2", "C") })
			converted = 0
			err := sp.View(t.Context(), func(r sealed.Reader) error {
				if got, err := second.In("x").Get(r, "1"); err != nil || got != "A" {
					t.Errorf("got %q, %v", got, err)
				}
				if got, err := second.In("x").Get(r, "2"); err != nil || got != "C" {
					t.Errorf("got %q, %v", got, err)
				}
				var all []string
				for w, err := range second.In("x").All(r) {
					if err != nil {
						t.Error(err)
					}
					all = append(all, string(w))
				}
				if slices.Sort(all); !slices.Equal(all, []string{"A", "C"}) {
					t.Errorf("all are %q", all)
				}
				seen := make(chan string, 2)
				if err := second.In("x").Each(t.Context(), r, func(b []byte) error {
					seen <- string(b)
					return nil
				}); err != nil {
					t.Error(err)
				}
				if all = []string{<-seen, <-seen}; !slices.Contains(all, "A") || !slices.Contains(all, "C") {
					t.Errorf("each visits %q", all)
				}
				if converted != 3 {
					t.Errorf("%d records were converted, want the one of the first encoding three times", converted)
				}
				isCorrupt := func(what string, err error) {
					if corrupt, ok := errors.AsType[*sealed.CorruptError](err); !ok || corrupt.Record == "" {
						t.Errorf("%s: got %v, want a *CorruptError that names the record", what, err)
					}
				}
				_, err := second.In("broken").Get(r, "1")
				isCorrupt("what does not convert", err)
				isCorrupt("what does not convert, visited",
					second.In("broken").Each(t.Context(), r, func([]byte) error { return nil }))
				_, err = third.In("x").Get(r, "1")
				isCorrupt("what is older than the earlier encoding", err)
				_, err = first.In("x").Get(r, "2")
				isCorrupt("what is newer", err)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestARecordThatEachCannotUseIsCorrupt(t *testing.T) {
	sp := create(t, open(t, config(t, "memory")), spaceA)
	put(t, sp, "x", note{"1", "text"})
	err := sp.View(t.Context(), func(r sealed.Reader) error {
		return notes.In("x").Each(t.Context(), r, func([]byte) error { return sealed.ErrRecord })
	})
	if corrupt, ok := errors.AsType[*sealed.CorruptError](err); !ok || corrupt.Record == "" ||
		!errors.Is(err, sealed.ErrRecord) {
		t.Errorf("got %v, want a *CorruptError that names the record", err)
	}
}
