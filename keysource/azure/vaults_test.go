package azure_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/azure"
)

// TestVaultsShareConnections checks that sources of the same Vaults share a connection, that those of New do not, and
// that tokens are never shared.
func TestVaultsShareConnections(t *testing.T) {
	v := newVault(t)
	var dialled atomic.Int32
	cfg := v.config()
	dial := cfg.Dial
	cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		dialled.Add(1)
		return dial(ctx, network, address)
	}
	ask := func(s *azure.Source, err error) error {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Describe(t.Context(), keysource.Ref{})
		return err
	}
	vaults := azure.NewVaults(cfg)
	for _, name := range []string{"one", "two", "one"} {
		if err := ask(vaults.Open(v.key(name, versionOne), credential{})); err != nil {
			t.Error(err)
		}
	}
	if n := dialled.Load(); n != 1 {
		t.Errorf("three sources of the same Vaults dialled %d times, want 1", n)
	}
	if ask(vaults.Open(v.key("one", versionOne), credential{token: "bad"})) == nil {
		t.Error("a source with a bad token used another source's token")
	}
	before := dialled.Load()
	for range 2 {
		if err := ask(azure.NewVaults(cfg).Open(v.key("one", versionOne), credential{})); err != nil {
			t.Error(err)
		}
	}
	if n := dialled.Load() - before; n != 2 {
		t.Errorf("two separate sources dialled %d times, want 2", n)
	}
}
