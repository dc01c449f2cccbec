package identity_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/keysource/sourcetest"
)

func TestSecretsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, config(nil))
		p, forever := application(t, d)
		short, value, err := d.AddSecret(t.Context(), p.ID, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		ask := func(secret string) error {
			_, _, err := d.Grant(t.Context(), identity.Grant{
				Tenant: tenant, ClientID: strings.ToUpper(p.ClientID), Secret: secret, Audience: faces,
			})
			return err
		}
		if err := ask(value); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Hour)
		wantRefusal(t, "an ended secret", ask(value), "invalid_client", "7000222")
		if d.HasSecret(p.ID, value) || !d.HasSecret(p.ID, forever) {
			t.Error("an ended secret fits, or one that never ends does not")
		}
		if err := d.RemoveSecret(t.Context(), p.ID, short.ID); err != nil {
			t.Fatal(err)
		}
		wantRefusal(t, "a removed secret", ask(value), "invalid_client", "7000215")
		if err := ask(forever); err != nil {
			t.Error(err)
		}
		if _, _, err := d.AddSecret(t.Context(), p.ID, 3*365*24*time.Hour); err == nil {
			t.Error("a secret of three years was made")
		}
	})
}

func TestRestartKeepsEverything(t *testing.T) {
	dir, src := t.TempDir(), sourcetest.NewFake("root")
	store := newStore(t, dir, src)
	d := open(t, config(store))
	p, secret := application(t, d)
	managed, err := d.EnsureManaged(t.Context(), tenant, scope+"/resourceGroups/g/a", identity.SystemAssigned)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Assign(t.Context(), "", p.ID, identity.Reader, scope); err != nil {
		t.Fatal(err)
	}
	token := grant(t, d, p, secret, management)
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	store = newStore(t, dir, src)
	defer store.Close()
	d = open(t, config(store))
	who, err := d.Verify(t.Context(), token, management)
	if err != nil || who.ObjectID != p.ID {
		t.Errorf("the old token: %+v %v", who, err)
	}
	if again := grant(t, d, p, secret, management); again == token {
		t.Error("two tokens are the same")
	}
	if !d.May(who, "Microsoft.CognitiveServices/accounts/read", scope+"/resourceGroups/g") {
		t.Error("the role is lost")
	}
	if again, found := d.Managed(strings.ToUpper(managed.Resource)); !found || again.ID != managed.ID {
		t.Errorf("the managed identity is %+v", again)
	}
}

func TestManagedIdentityLivesWithItsResource(t *testing.T) {
	d := open(t, config(nil))
	resource := scope + "/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts/Faces"
	p, err := d.EnsureManaged(t.Context(), tenant, resource, identity.SystemAssigned)
	if err != nil || p.Name != "Faces" || p.Kind != identity.SystemAssigned {
		t.Fatalf("%+v, %v", p, err)
	}
	if again, err := d.EnsureManaged(t.Context(), tenant, strings.ToLower(resource),
		identity.SystemAssigned); err != nil || again.ID != p.ID {
		t.Errorf("asked again: %+v, %v", again, err)
	}
	token, _, err := d.Token(t.Context(), p.ID, management)
	if err != nil {
		t.Fatal(err)
	}
	if who, err := d.Verify(t.Context(), token, management); err != nil || who.ObjectID != p.ID {
		t.Errorf("%+v, %v", who, err)
	}
	if _, _, err := d.AddSecret(t.Context(), p.ID, 0); err == nil {
		t.Error("a managed identity has a secret")
	}
	if _, err := d.Assign(t.Context(), "", p.ID, identity.VaultServiceEncryption, scope); err != nil {
		t.Fatal(err)
	}
	if err := d.Delete(t.Context(), p.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Verify(t.Context(), token, management); err == nil {
		t.Error("the token outlives its identity")
	}
	if left := d.Assignments(""); len(left) != 0 {
		t.Errorf("roles outlive their identity: %v", left)
	}
	next, err := d.EnsureManaged(t.Context(), tenant, resource, identity.SystemAssigned)
	if err != nil || next.ID == p.ID {
		t.Errorf("the next identity is %+v, %v", next, err)
	}
}

// TestSecretsAreNotLogged keeps secrets and tokens out of logs and errors.
// TestSecretsAreArguments makes enough secrets that one of 300 would begin with "-", which a command line takes for an
// option, in 99 runs of 100 if chance alone decided.
func TestSecretsAreArguments(t *testing.T) {
	d := open(t, config(nil))
	p, _ := application(t, d)
	for range 300 {
		s, value, err := d.AddSecret(t.Context(), p.ID, 0)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(value, "-") {
			t.Fatalf("the secret %s begins with -", value)
		}
		if err := d.RemoveSecret(t.Context(), p.ID, s.ID); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSecretsAreNotLogged(t *testing.T) {
	var log bytes.Buffer
	cfg := config(nil)
	cfg.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	d := open(t, cfg)
	p, secret := application(t, d)
	token := grant(t, d, p, secret, management)
	g := identity.Grant{Tenant: tenant, ClientID: p.ClientID, Secret: secret, Assertion: token, Audience: faces}
	_, _, err := d.Grant(t.Context(), g)
	cfg.Logger.Info("seen", "grant", g, "pointer", &g, "principal", p, "all", d.Principals(), "err", err)
	text := log.String() + fmt.Sprintf("%v %+v %#v %v", g, g, g, d.Principals()) + fmt.Sprint(err)
	for _, hidden := range []string{secret, token, token[:40]} {
		if strings.Contains(text, hidden) {
			t.Errorf("a secret or token is in %s", text)
		}
	}
}
