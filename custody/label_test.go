package custody_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/keysource"
)

// demanding is a key whose policy demands the whole label of what it wraps.
type demanding struct{ keysource.Source }

func (s demanding) admit(ctx context.Context) error {
	if l := keysource.LabelOf(ctx); l.Instance == [16]byte{} || l.Resource != spaceA || l.Generation == 0 {
		return refuse(keysource.ErrDenied, keysource.Permission, "the label is not whole")
	}
	return nil
}

// Wrap implements keysource.Source.
func (s demanding) Wrap(ctx context.Context, inner []byte) ([]byte, keysource.Ref, error) {
	if err := s.admit(ctx); err != nil {
		return nil, keysource.Ref{}, err
	}
	return s.Source.Wrap(ctx, inner)
}

// Unwrap implements keysource.Source.
func (s demanding) Unwrap(ctx context.Context, ref keysource.Ref, blob []byte) ([]byte, error) {
	if err := s.admit(ctx); err != nil {
		return nil, err
	}
	return s.Source.Unwrap(ctx, ref, blob)
}

// TestAPolicyThatDemandsTheLabel: a customer whose key works only with the whole label of the data key can check,
// enable, add, remove and switch keys, and no step past the point of no return is refused.
func TestAPolicyThatDemandsTheLabel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStoreAndVaults(t, memory())
		c, err := custody.New(t.Context(), custody.Config{
			Store: r.store, Audit: r.journal,
			Open: func(ctx context.Context, key visage.KeyRef, as visage.PrincipalID) (keysource.Source, error) {
				src, err := r.vaults.open(ctx, key, as)
				return demanding{src}, err
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		r.custody = c
		r.run()
		one, two, three := r.first().add("k1"), r.second().add("k2"), r.second().add("k3")
		e, err := c.Examine(t.Context(), spaceA, one, principal)
		if err != nil || !e.Of(custody.RoundTrip).Met {
			t.Errorf("check: %+v, %v", e, err)
		}
		begun := time.Now()
		r.enabled(spaceA, one)
		r.added(two)
		r.removed(two)
		r.enabled(spaceA, three)
		if took := time.Since(begun); took > time.Second {
			t.Errorf("the changes waited for a key: %v", took)
		}
		if s := r.state(spaceA); s.Condition != custody.Active || s.Key != three {
			t.Errorf("%+v", s)
		}
	})
}
