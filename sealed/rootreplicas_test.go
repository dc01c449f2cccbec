package sealed_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/sealed"
)

// hooked is a source that does something once, after a call: what another process does while this one waits for the
// answer of a protector.
type hooked struct {
	*sourcetest.Fake
	wrapped, unwrapped func()
}

func (h *hooked) Wrap(ctx context.Context, inner []byte) ([]byte, keysource.Ref, error) {
	blob, ref, err := h.Fake.Wrap(ctx, inner)
	run(&h.wrapped)
	return blob, ref, err
}

func (h *hooked) Unwrap(ctx context.Context, ref keysource.Ref, blob []byte) ([]byte, error) {
	inner, err := h.Fake.Unwrap(ctx, ref, blob)
	run(&h.unwrapped)
	return inner, err
}

func run(once *func()) {
	if do := *once; do != nil {
		*once = nil
		do()
	}
}

// rootReplicas are two stores of one instance whose root key p and q protect, and the sources of the first store.
func rootReplicas(t *testing.T) (cfg sealed.Config, a, b *sealed.Store, p, q *hooked) {
	t.Helper()
	cfg = shared(t)
	cfg.AnchorDir = t.TempDir()
	p, q = &hooked{Fake: sourcetest.NewFake("p")}, &hooked{Fake: sourcetest.NewFake("q")}
	mine, others := cfg, cfg
	mine.Protectors = []sealed.Protector{ofKind("p", p), ofKind("q", q)}
	others.Protectors = []sealed.Protector{ofKind("p", p.Fake), ofKind("q", q.Fake)}
	return others, open(t, mine), open(t, others), p, q
}

// ofKind is a protector of a kind of its own.
func ofKind(name string, src keysource.Source) sealed.Protector {
	return sealed.Protector{Name: name, Kind: name, Entry: name + ":1", Source: src}
}

// protectors returns the version of the root key and the names of its protectors.
func protectors(t *testing.T, s *sealed.Store) (version uint32, names []string) {
	t.Helper()
	state, err := s.RootKey().State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range state.Protectors {
		names = append(names, p.Name)
	}
	return state.Version, names
}

// opensWith fails unless the instance opens with some protectors alone.
func opensWith(t *testing.T, cfg sealed.Config, with ...sealed.Protector) {
	t.Helper()
	cfg.Protectors = with
	open(t, cfg)
}

// TestReplicasRemoveBothProtectors: of two processes that each remove the protector which answers the other one, one is
// refused.
func TestReplicasRemoveBothProtectors(t *testing.T) {
	cfg, a, b, p, q := rootReplicas(t)
	q.unwrapped = func() {
		if err := b.RootKey().Remove(t.Context(), "q"); err != nil {
			t.Errorf("the other process removes q: %v", err)
		}
	}
	if err := a.RootKey().Remove(t.Context(), "p"); !errors.Is(err, sealed.ErrLastProtector) {
		t.Errorf("the last protector is removed: %v", err)
	}
	if _, names := protectors(t, a); !slices.Equal(names, []string{"p"}) {
		t.Errorf("the protectors are %v, want p alone", names)
	}
	opensWith(t, cfg, ofKind("p", p.Fake))
}

// TestReplicasRotateAndChange: a rotation neither drops a protector that another process adds meanwhile, nor brings one
// back that it removes.
func TestReplicasRotateAndChange(t *testing.T) {
	t.Run("removed", func(t *testing.T) {
		cfg, a, b, p, q := rootReplicas(t)
		q.wrapped = func() {
			if err := b.RootKey().Remove(t.Context(), "q"); err != nil {
				t.Errorf("the other process removes q: %v", err)
			}
		}
		if err := a.RootKey().Rotate(t.Context()); err != nil {
			t.Error(err)
		}
		if version, names := protectors(t, a); version != 2 || !slices.Equal(names, []string{"p"}) {
			t.Errorf("version %d with %v, want version 2 with p alone", version, names)
		}
		opensWith(t, cfg, ofKind("p", p.Fake))
	})
	t.Run("added", func(t *testing.T) {
		cfg, a, b, p, _ := rootReplicas(t)
		r := ofKind("r", sourcetest.NewFake("r"))
		p.wrapped = func() {
			if _, err := b.RootKey().Add(t.Context(), r); err != nil {
				t.Errorf("the other process adds r: %v", err)
			}
		}
		if err := a.RootKey().Rotate(t.Context()); !errors.Is(err, sealed.ErrDetached) {
			t.Errorf("rotated without a protector that another process has added: %v", err)
		}
		if version, names := protectors(t, a); version != 1 || !slices.Equal(names, []string{"p", "q", "r"}) {
			t.Errorf("version %d with %v, want version 1 with p, q and r", version, names)
		}
		opensWith(t, cfg, r)
	})
	t.Run("replaced under its name", func(t *testing.T) {
		cfg, a, b, p, _ := rootReplicas(t)
		other := sealed.Protector{Name: "q", Kind: "q", Entry: "q:2", Source: sourcetest.NewFake("another q")}
		if err := b.RootKey().Remove(t.Context(), "q"); err != nil {
			t.Fatal(err)
		}
		// All fakes have one version, so the removed one is told apart by its entry alone.
		if name, err := b.RootKey().Add(t.Context(), other); err != nil || name != "q" {
			t.Fatalf("the other q is added as %q: %v", name, err)
		}
		if err := a.RootKey().Rotate(t.Context()); !errors.Is(err, keysource.ErrWrong) {
			t.Errorf("rotated with the source of the removed protector: %v", err)
		}
		opensWith(t, cfg, other)
		opensWith(t, cfg, ofKind("p", p.Fake))
	})
}

// TestReplicasAddAndRotate: a protector that is added while another process rotates the root key opens the new one.
func TestReplicasAddAndRotate(t *testing.T) {
	cfg, a, b, _, _ := rootReplicas(t)
	r := &hooked{Fake: sourcetest.NewFake("r")}
	r.wrapped = func() {
		if err := b.RootKey().Rotate(t.Context()); err != nil {
			t.Errorf("the other process rotates: %v", err)
		}
	}
	if _, err := a.RootKey().Add(t.Context(), ofKind("r", r)); err != nil {
		t.Fatal(err)
	}
	if version, names := protectors(t, a); version != 2 || !slices.Equal(names, []string{"p", "q", "r"}) {
		t.Errorf("version %d with %v, want version 2 with p, q and r", version, names)
	}
	opensWith(t, cfg, ofKind("r", r.Fake))
}

// cut is a source that one process does not reach while err is set.
type cut struct {
	*sourcetest.Fake
	err error
}

func (c *cut) Unwrap(ctx context.Context, ref keysource.Ref, blob []byte) ([]byte, error) {
	if c.err != nil {
		return nil, c.err
	}
	return c.Fake.Unwrap(ctx, ref, blob)
}

// TestReplicaThatReachesNoProtector: while no protector answers a process after another one has rotated the root key,
// what is sealed under the new key is out of reach for it, and nothing is damaged. When one refuses, or opens another
// key, that cannot be told from damage.
func TestReplicaThatReachesNoProtector(t *testing.T) {
	for _, c := range []struct {
		says   error
		outage bool
	}{{keysource.ErrUnknown, true}, {context.DeadlineExceeded, true}, {keysource.ErrWrong, false}} {
		t.Run(c.says.Error(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := shared(t)
				cfg.AnchorDir = t.TempDir()
				p := sourcetest.NewFake("p")
				others := &cut{Fake: p}
				mine, theirs := cfg, cfg
				mine.Protectors = []sealed.Protector{ofKind("p", p)}
				theirs.Protectors = []sealed.Protector{ofKind("p", others)}
				var damaged atomic.Int32
				theirs.Report = func(e sealed.Event) {
					if e.Kind == sealed.Corrupt {
						damaged.Add(1)
					}
				}
				a, b := open(t, mine), open(t, theirs)
				read := func(s *sealed.Store) error {
					return s.Space(spaceA).View(t.Context(), func(sealed.Reader) error { return nil })
				}
				others.err = c.says
				if err := a.RootKey().Rotate(t.Context()); err != nil {
					t.Fatal(err)
				}
				create(t, a, spaceA)
				claim(t, a, "job")
				for _, ask := range []func() error{
					func() error { _, err := b.RootKey().State(t.Context()); return err },
					func() error { return read(b) },
					func() error { _, err := b.Claim(t.Context(), "job", time.Minute); return err },
				} {
					err := ask()
					_, out := errors.AsType[visage.Outage](err)
					if _, corrupt := errors.AsType[*sealed.CorruptError](err); out != c.outage || corrupt == c.outage {
						t.Errorf("it says %v", err)
					}
				}
				if out := damaged.Load() == 0; out != c.outage {
					t.Errorf("%d reports of damage", damaged.Load())
				}
				others.err = nil
				time.Sleep(2 * time.Second)
				if err := read(b); err != nil {
					t.Error(err)
				}
				if version, _ := protectors(t, b); version != 2 {
					t.Errorf("version %d, want 2", version)
				}
			})
		})
	}
}
