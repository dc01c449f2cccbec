// Package sourcetest is the conformance suite of key sources.
package sourcetest

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/visage-face/visage/keysource"
)

// Provider gives the suite the sources of one provider.
type Provider struct {
	// Open returns a source over the key under test; each call a new handle on the same key, as after a restart.
	// Required.
	Open func(t testing.TB) keysource.Source
	// Other returns a source of the same kind over another key. Required.
	Other func(t testing.TB) keysource.Source
	// Faults are the real failures of this provider. At least one.
	Faults []Fault
	// Stride is the distance between two bytes that are altered, for providers whose calls are slow. Default: 1.
	Stride int
}

// Fault is one way in which a source fails.
type Fault struct {
	Name string
	// Source returns a source that fails in this way.
	Source func(t testing.TB) keysource.Source
	// Class is the class the error must have.
	Class error
	// Says must be part of the error's text: the instruction for the operator.
	Says string
}

var classes = []error{keysource.ErrDenied, keysource.ErrWrong, keysource.ErrUnknown, keysource.ErrExpired}

// Run checks a provider.
func Run(t *testing.T, p Provider) {
	if p.Stride == 0 {
		p.Stride = 1
	}
	if len(p.Faults) == 0 {
		t.Fatal("a provider without faults: list how it really fails")
	}
	inner := []byte("0123456789abcdef0123456789abcdef and the rest of 61 bytes ..")

	t.Run("round trip", func(t *testing.T) {
		blob, ref := wrap(t, p.Open(t), inner)
		if ref.URI == "" {
			t.Error("the reference has no URI")
		}
		if bytes.Contains(blob, inner[:16]) {
			t.Error("the wrapped form shows the secret")
		}
		got, err := p.Open(t).Unwrap(t.Context(), ref, blob)
		if err != nil {
			t.Fatalf("unwrap with a new handle: %v", err)
		}
		if !bytes.Equal(got, inner) {
			t.Error("unwrapped something else")
		}
		clear(got) // the caller owns it: wiping it must not affect the source
		if again, err := p.Open(t).Unwrap(t.Context(), ref, blob); err != nil || !bytes.Equal(again, inner) {
			t.Errorf("second unwrap: %v", err)
		}
	})

	t.Run("wrapping twice differs", func(t *testing.T) {
		src := p.Open(t)
		first, _ := wrap(t, src, inner)
		second, _ := wrap(t, src, inner)
		if bytes.Equal(first, second) {
			t.Error("two wrapped forms of one secret are equal")
		}
	})

	t.Run("the arguments stay as they were", func(t *testing.T) {
		src := p.Open(t)
		in := bytes.Clone(inner)
		blob, ref := wrap(t, src, in)
		kept := bytes.Clone(blob)
		if _, err := src.Unwrap(t.Context(), ref, blob); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(in, inner) || !bytes.Equal(blob, kept) {
			t.Error("an argument was changed")
		}
	})

	t.Run("wrong key", func(t *testing.T) {
		blob, ref := wrap(t, p.Open(t), inner)
		got, err := p.Other(t).Unwrap(t.Context(), ref, blob)
		wantClass(t, err, keysource.ErrWrong)
		if got != nil {
			t.Error("data was returned with the error")
		}
	})

	t.Run("tampering", func(t *testing.T) {
		src := p.Open(t)
		blob, ref := wrap(t, src, inner)
		for i := 0; i < len(blob); i += p.Stride {
			altered := bytes.Clone(blob)
			altered[i] ^= 1 << (i % 8)
			got, err := src.Unwrap(t.Context(), ref, altered)
			if got != nil || !(errors.Is(err, keysource.ErrWrong) || errors.Is(err, keysource.ErrUnknown)) {
				t.Errorf("byte %d altered: got %d bytes and error %v, want ErrWrong or ErrUnknown", i, len(got), err)
			}
			wantOneClass(t, err)
		}
		for _, n := range []int{0, 1, len(blob) / 2, len(blob) - 1} {
			if got, err := src.Unwrap(t.Context(), ref, blob[:n]); err == nil || got != nil {
				t.Errorf("first %d bytes alone: got %d bytes and error %v", n, len(got), err)
			}
		}
		if got, err := src.Unwrap(t.Context(), ref, append(bytes.Clone(blob), 0)); err == nil || got != nil {
			t.Errorf("a byte appended: got %d bytes and error %v", len(got), err)
		}
	})

	t.Run("describe", func(t *testing.T) {
		src := p.Open(t)
		_, ref := wrap(t, src, inner)
		for _, ask := range []keysource.Ref{{}, ref} {
			d, err := src.Describe(t.Context(), ask)
			if err != nil {
				t.Fatalf("describe %+v: %v", ask, err)
			}
			if d.Ref != ref || d.Algorithm == "" || !d.Enabled {
				t.Errorf("describe %+v: got %+v, want ref %+v, an algorithm, and enabled", ask, d, ref)
			}
		}
	})

	t.Run("ended context", func(t *testing.T) {
		src := p.Open(t)
		blob, ref := wrap(t, src, inner)
		cause := errors.New("the caller has left")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		if _, _, err := src.Wrap(ctx, inner); !errors.Is(err, cause) {
			t.Errorf("wrap: got %v, want the context's cause", err)
		}
		if _, err := src.Unwrap(ctx, ref, blob); !errors.Is(err, cause) {
			t.Errorf("unwrap: got %v, want the context's cause", err)
		}
		if _, err := src.Describe(ctx, ref); !errors.Is(err, cause) {
			t.Errorf("describe: got %v, want the context's cause", err)
		}
	})

	t.Run("many at once", func(t *testing.T) {
		src := p.Open(t)
		blob, ref := wrap(t, src, inner)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if got, err := src.Unwrap(t.Context(), ref, blob); err != nil || !bytes.Equal(got, inner) {
					t.Errorf("unwrap beside others: %v", err)
				}
			})
		}
		wg.Wait()
	})

	for _, f := range p.Faults {
		t.Run("fault "+f.Name, func(t *testing.T) {
			blob, ref := wrap(t, p.Open(t), inner) // before the fault: the fault of an environment variable changes it
			src := f.Source(t)
			_, _, wrapErr := src.Wrap(t.Context(), inner)
			_, unwrapErr := src.Unwrap(t.Context(), ref, blob)
			for _, err := range []error{wrapErr, unwrapErr} {
				wantClass(t, err, f.Class)
				if err != nil && !strings.Contains(err.Error(), f.Says) {
					t.Errorf("error %q does not say %q", err, f.Says)
				}
			}
		})
	}
}

func wrap(t testing.TB, src keysource.Source, inner []byte) ([]byte, keysource.Ref) {
	t.Helper()
	blob, ref, err := src.Wrap(t.Context(), inner)
	if err != nil {
		t.Fatalf("wrap: %v", err)
	}
	return blob, ref
}

func wantClass(t testing.TB, err, class error) {
	t.Helper()
	if !errors.Is(err, class) {
		t.Errorf("got error %v, want class %v", err, class)
	}
	wantOneClass(t, err)
}

// wantOneClass fails when an error does not have exactly one class: programs decide by it.
func wantOneClass(t testing.TB, err error) {
	t.Helper()
	n := 0
	for _, c := range classes {
		if errors.Is(err, c) {
			n++
		}
	}
	if n != 1 {
		t.Errorf("error %v has %d classes, want one", err, n)
	}
}
