package sealed_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/visage-face/visage/sealed"
)

func appendAll(t *testing.T, l *sealed.Log, entries ...string) {
	t.Helper()
	err := l.Append(t.Context(), func(uint64) ([][]byte, error) {
		var list [][]byte
		for _, e := range entries {
			list = append(list, []byte(e))
		}
		return list, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func entries(t *testing.T, l *sealed.Log, from uint64) (list []string) {
	t.Helper()
	for e, err := range l.From(t.Context(), from) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, fmt.Sprintf("%d:%s", e.Sequence, e.Data))
	}
	return list
}

func TestLogKeepsOrderApartAndAcrossRestart(t *testing.T) {
	cfg := config(t, "lasting")
	s := open(t, cfg)
	a, b := s.Log("a"), s.Log("b")
	appendAll(t, a, "one", "two")
	appendAll(t, b, "uno")
	appendAll(t, a, "three")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Next(t.Context()); !errors.Is(err, sealed.ErrClosed) {
		t.Errorf("Next on a closed store: %v", err)
	}
	s = open(t, cfg)
	a = s.Log("a")
	if got := fmt.Sprint(entries(t, a, 0), entries(t, s.Log("b"), 1), entries(t, a, 3),
		entries(t, a, 4)); got != "[1:one 2:two 3:three] [1:uno] [3:three] []" {
		t.Errorf("got %s", got)
	}
	if n, err := a.Next(t.Context()); n != 4 || err != nil {
		t.Errorf("Next: %d, %v, want 4", n, err)
	}
	if tally, err := s.Maintenance().Verify(t.Context(), func(f sealed.Finding) { t.Error(f.Err) }); err != nil ||
		tally.Findings != 0 {
		t.Errorf("verify: %+v, %v", tally, err)
	}
}

func TestLogNumbersWithoutGapsUnderConcurrency(t *testing.T) {
	engines(t, func(t *testing.T, cfg sealed.Config) {
		l := open(t, cfg).Log("a")
		var wait sync.WaitGroup
		for range 8 {
			wait.Go(func() {
				for range 20 {
					err := l.Append(t.Context(), func(first uint64) ([][]byte, error) {
						return [][]byte{fmt.Append(nil, first), fmt.Append(nil, first+1)}, nil
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		wait.Wait()
		got := entries(t, l, 1)
		for i, e := range got {
			if want := fmt.Sprintf("%d:%d", i+1, i+1); e != want {
				t.Fatalf("entry %d is %s, want %s", i, e, want)
			}
		}
		if len(got) != 320 {
			t.Fatalf("%d entries, want 320", len(got))
		}
	})
}

func TestLogIsReadableWhileASpaceIsLocked(t *testing.T) {
	s := open(t, config(t, "memory"))
	create(t, s, spaceA)
	s.Bundle(spaceA).Lock(errors.New("revoked"))
	l := s.Log("a")
	appendAll(t, l, "locked")
	if got := fmt.Sprint(entries(t, l, 1)); got != "[1:locked]" {
		t.Errorf("got %s", got)
	}
}
