package sealed_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/sealed"
)

// TestRootThatCannotBeHad: each way in which the root key of existing data cannot be had keeps its class and its words,
// and changes nothing.
func TestRootThatCannotBeHad(t *testing.T) {
	cfg := config(t, "lasting")
	s := open(t, cfg)
	put(t, create(t, s, spaceA), "a", note{"1", "one"})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	right := cfg.Protectors[0].Source.(*sourcetest.Fake)
	for _, c := range []struct {
		name       string
		protectors []sealed.Protector
		fail       error
		class      error
		says       string
	}{
		{"wrong key", []sealed.Protector{{Name: "test", Kind: "fake", Source: sourcetest.NewFake("test")}}, nil,
			keysource.ErrWrong, "test"},
		{"not answering", cfg.Protectors, keysource.ErrUnknown, keysource.ErrUnknown, "test"},
		{"refusing", cfg.Protectors, keysource.ErrDenied, keysource.ErrDenied, "test"},
		{"another protector", []sealed.Protector{{Name: "env", Kind: "env", Source: sourcetest.NewFake("env")}}, nil,
			nil, "protected by test"},
	} {
		t.Run(c.name, func(t *testing.T) {
			right.Fail(c.fail)
			defer right.Fail(nil)
			changed := cfg
			changed.Protectors = c.protectors
			opened, err := sealed.Open(t.Context(), changed)
			if err == nil {
				opened.Close()
				t.Fatal("the store opens")
			}
			if _, ok := errors.AsType[*sealed.RootError](err); !ok || c.class != nil && !errors.Is(err, c.class) ||
				!strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want a *RootError of class %v that says %q", err, c.class, c.says)
			}
		})
	}
	s = open(t, cfg)
	if got := all(t, s.Space(spaceA), "a"); got["1"] != "one" {
		t.Errorf("after all refusals: %v", got)
	}
}

// TestProtectorsAreAdded: a protector given later opens the store alone from then on.
func TestProtectorsAreAdded(t *testing.T) {
	cfg := config(t, "lasting")
	first, second := cfg.Protectors[0],
		sealed.Protector{Name: "second", Kind: "fake", Exposed: true, Source: sourcetest.NewFake("second")}
	var events []sealed.EventKind
	cfg.Report = func(e sealed.Event) { events = append(events, e.Kind) }
	for _, protectors := range [][]sealed.Protector{{first}, {first, second}, {second}, {second, first}} {
		cfg.Protectors = protectors
		s := open(t, cfg)
		verifyClean(t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[sealed.EventKind]int{}
	for _, e := range events {
		seen[e]++
	}
	if seen[sealed.RootCreated] != 1 || seen[sealed.RootProtected] != 2 || seen[sealed.RootExposed] != 3 ||
		seen[sealed.SpaceWiped] != seen[sealed.SpaceOpened] {
		t.Errorf("events: %v", seen)
	}
}

// TestOpenRefusals: what must not be opened is not, and stays as it is.
func TestOpenRefusals(t *testing.T) {
	dir := t.TempDir()
	good := config(t, "lasting")
	for _, c := range []struct{ name, engine, keys, says string }{
		{"unknown engine", "bolt:" + dir, dir + "/k", "pebble:/directory, memory:"},
		{"no engine", "", dir + "/k", "pebble:/directory, memory:"},
		{"relative data directory", "pebble:data", dir + "/k", "absolute"},
		{"no key directory", "pebble:" + dir + "/d", "", "absolute"},
		{"keys inside data", "pebble:" + dir + "/d", dir + "/d/keys", "one lies inside the other"},
		{"data inside keys", "pebble:" + dir + "/d/data", dir + "/d", "one lies inside the other"},
		{"the same", "pebble:" + dir + "/d", dir + "/d", "one lies inside the other"},
		{"keys inside data by a link", "pebble:" + dir + "/d", dir + "/link/keys", "one lies inside the other"},
		{"no protector", good.Engine, good.KeyDir, "at least one protector"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := os.MkdirAll(dir+"/d", 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(dir+"/d", dir+"/link"); err != nil && !os.IsExist(err) {
				t.Fatal(err)
			}
			cfg := sealed.Config{Engine: c.engine, KeyDir: c.keys, Protectors: good.Protectors}
			if c.name == "no protector" {
				cfg.Protectors = nil
			}
			s, err := sealed.Open(t.Context(), cfg)
			if err == nil {
				s.Close()
				t.Fatal("the store opens")
			}
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %q, want it to say %q", err, c.says)
			}
		})
	}
}

// TestSecondOpenerTouchesNothing: it is refused by the engine's lock, before it has looked at a key.
func TestSecondOpenerTouchesNothing(t *testing.T) {
	cfg := config(t, "pebble")
	open(t, cfg)
	second := cfg
	second.KeyDir = filepath.Join(t.TempDir(), "never made")
	second.Protectors = []sealed.Protector{{Name: "other", Kind: "fake", Source: sourcetest.NewFake("other")}}
	if _, err := sealed.Open(t.Context(), second); !errors.Is(err, sealed.ErrInUse) {
		t.Errorf("got %v, want %v", err, sealed.ErrInUse)
	}
	if _, err := os.Stat(second.KeyDir); !os.IsNotExist(err) {
		t.Errorf("the key directory was touched: %v", err)
	}
}

// TestLostKeyDirectoryIsSaid: data without its epoch keys opens nothing and says what is missing.
func TestLostKeyDirectoryIsSaid(t *testing.T) {
	cfg := config(t, "lasting")
	s := open(t, cfg)
	put(t, create(t, s, spaceA), "a", note{"1", "one"})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(cfg.KeyDir); err != nil {
		t.Fatal(err)
	}
	_, err := sealed.Open(t.Context(), cfg)
	if !errors.Is(err, sealed.ErrOtherPlace) || !strings.Contains(err.Error(), `"visage keyring import" brings them`) {
		t.Errorf("got %v, want it to say that the epoch keys are missing", err)
	}
	cfg.FindKeys = true
	s = open(t, cfg)
	err = s.Space(spaceA).View(t.Context(), func(sealed.Reader) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "restore the epoch keys") {
		t.Errorf("got %v, want it to say that the epoch keys are missing", err)
	}
}

// deaf is a source that says nothing of what one key has wrapped.
type deaf struct {
	*sourcetest.Fake
	to string
}

func (d deaf) Unwrap(ctx context.Context, ref keysource.Ref, blob []byte) ([]byte, error) {
	if ref.URI == d.to {
		return nil, fmt.Errorf("no answer of %s: %w", d.to, keysource.ErrUnknown)
	}
	return nil, fmt.Errorf("%s is switched off: %w", ref.URI, keysource.ErrDenied)
}

// TestSilenceIsNotHidden: a refusal of one protector does not hide that another one of its kind has not answered, which
// a start may wait for, in whatever order they were added.
func TestSilenceIsNotHidden(t *testing.T) {
	cfg := config(t, "pebble")
	one, two := sourcetest.NewFake("one"), sourcetest.NewFake("two")
	cfg.Protectors = []sealed.Protector{{Name: "fake", Kind: "fake", Source: one},
		{Name: "fake 2", Kind: "fake", Source: two}}
	closeStore(t, open(t, cfg))
	for _, silent := range []string{"fake:one", "fake:two"} {
		cfg.Protectors = []sealed.Protector{{Name: "fake", Kind: "fake",
			Source: deaf{one, silent}}}
		_, err := sealed.Open(t.Context(), cfg)
		if !errors.Is(err, keysource.ErrUnknown) || !errors.Is(err, keysource.ErrDenied) ||
			!strings.Contains(err.Error(), "no answer of "+silent) || !strings.Contains(err.Error(), "switched off") {
			t.Errorf("while %s does not answer: %v", silent, err)
		}
	}
}
