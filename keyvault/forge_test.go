package keyvault_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keyvault"
)

// TestManyKeysAtATime requests more RSA keys at a time than the service generates.
func TestManyKeysAtATime(t *testing.T) {
	r := newAuditedService(t)
	var all sync.WaitGroup
	var made, refused atomic.Int32
	for range 64 {
		all.Go(func() {
			_, err := r.CreateKey(t.Context(), caller(alice), keyvault.Ref{Vault: "safe", Name: "k"}, keyvault.NewKey{
				Type: "RSA", Attributes: keyvault.Attributes{Enabled: true},
			})
			refusal, ok := errors.AsType[*visage.Refusal](err)
			switch {
			case err == nil:
				made.Add(1)
			case ok && refusal.Kind == visage.TooMany && refusal.RetryAfter > 0:
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if made.Load() == 0 || refused.Load() == 0 {
		t.Errorf("%d keys were created and %d refused, want some of both", made.Load(), refused.Load())
	}
	// EC keys do not wait, and there is room for RSA keys again.
	for _, kind := range []string{"EC", "RSA"} {
		if _, err := r.CreateKey(t.Context(), caller(alice), keyvault.Ref{Vault: "safe", Name: "after"},
			keyvault.NewKey{
				Type: kind, Attributes: keyvault.Attributes{Enabled: true},
			}); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}
