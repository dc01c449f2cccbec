package azure_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/azure"
)

// Sources of the same vaults use one connection, those of New one each; a token is never shared.
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
		t.Errorf("three sources that share have dialled %d times, want 1", n)
	}
	if ask(vaults.Open(v.key("one", versionOne), credential{token: "bad"})) == nil {
		t.Error("a source with a bad token was answered by another's")
	}
	before := dialled.Load()
	for range 2 {
		if err := ask(azure.NewVaults(cfg).Open(v.key("one", versionOne), credential{})); err != nil {
			t.Error(err)
		}
	}
	if n := dialled.Load() - before; n != 2 {
		t.Errorf("two sources of their own have dialled %d times, want 2", n)
	}
}
