package identity_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/keysource/sourcetest"
)

func ids(keys []identity.PublicKey) []string {
	var all []string
	for _, k := range keys {
		all = append(all, k.ID)
	}
	return all
}

// TestSigningKeysRotate lives through two months: tokens are believed for their whole life, keys are published a day
// before they sign, and none stays for ever.
func TestSigningKeysRotate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, config(nil))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- d.Run(ctx) }()
		p, secret := application(t, d)
		published := map[string]time.Time{}
		signed := map[string]bool{}
		var tokens []string
		begin := time.Now()
		for hour := range 60 * 24 {
			synctest.Wait()
			for _, id := range ids(d.PublicKeys()) {
				if _, seen := published[id]; !seen {
					published[id] = time.Now()
				}
			}
			if n := len(d.PublicKeys()); n < 1 || n > 2 {
				t.Fatalf("hour %d: %d keys are published", hour, n)
			}
			id, _ := d.Key()
			if !signed[id] && hour > 0 && time.Since(published[id]) < 24*time.Hour-time.Hour {
				t.Errorf("hour %d: key signs %v after it was published", hour, time.Since(published[id]))
			}
			signed[id] = true
			if hour%24 == 0 {
				tokens = append(tokens, grant(t, d, p, secret, management))
			}
			last := tokens[len(tokens)-1]
			time.Sleep(59 * time.Minute)
			_, err := d.Verify(t.Context(), last, management)
			if fresh := hour%24 == 0; fresh != (err == nil) {
				t.Fatalf("hour %d: a token of %d hours: %v", hour, hour%24, err)
			}
			time.Sleep(time.Minute)
		}
		if len(signed) != 3 && len(signed) != 2 {
			t.Errorf("%d keys signed within %v", len(signed), time.Since(begin))
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestRotationOnDemandKeepsTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, config(nil))
		p, secret := application(t, d)
		before := grant(t, d, p, secret, management)
		old, _ := d.Key()
		time.Sleep(time.Minute)
		if err := d.RotateSigningKey(t.Context()); err != nil {
			t.Fatal(err)
		}
		if id, _ := d.Key(); id == old || !slices.Contains(ids(d.PublicKeys()), old) {
			t.Errorf("the old key signs on, or is not published: %v", ids(d.PublicKeys()))
		}
		for _, token := range []string{before, grant(t, d, p, secret, management)} {
			if _, err := d.Verify(t.Context(), token, management); err != nil {
				t.Error(err)
			}
		}
		time.Sleep(66 * time.Minute) // a token's life and the leeway
		if slices.Contains(ids(d.PublicKeys()), old) {
			t.Error("the old key is published though nothing that it signed lives")
		}
		// Nobody runs the directory here, and still there is a key after all have ended.
		time.Sleep(100 * 24 * time.Hour)
		if _, err := d.Verify(t.Context(), grant(t, d, p, secret, management), management); err != nil {
			t.Error(err)
		}
	})
}

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

// TestSecretsAreNotLogged keeps secrets and tokens out of what logs and errors show of them.
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
	text := log.String() + fmt.Sprintf("%v %+v %#v %s", g, g, g, d.Principals()) + fmt.Sprint(err)
	for _, hidden := range []string{secret, token, token[:40]} {
		if strings.Contains(text, hidden) {
			t.Errorf("a secret or token is in %s", text)
		}
	}
}

func TestRoles(t *testing.T) {
	d := open(t, config(nil))
	p, _ := application(t, d)
	who := visage.Principal{ObjectID: p.ID}
	const account = scope + "/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts/a"
	const vault = scope + "/resourceGroups/g/providers/Microsoft.KeyVault/vaults/v"
	type ask struct {
		action, at string
		data       bool
	}
	asks := map[string]ask{
		"read account": {"Microsoft.CognitiveServices/accounts/read", account, false},
		"make account": {"Microsoft.CognitiveServices/accounts/write", account, false},
		"list keys":    {"Microsoft.CognitiveServices/accounts/listKeys/action", account, false},
		"new key":      {"Microsoft.CognitiveServices/accounts/regenerateKey/action", account, false},
		"give roles":   {"Microsoft.Authorization/roleAssignments/write", account, false},
		"make vault":   {"Microsoft.KeyVault/vaults/write", vault, false},
		"use faces":    {"Microsoft.CognitiveServices/accounts/Face/detect/action", account, true},
		"read key":     {"Microsoft.KeyVault/vaults/keys/read", vault, true},
		"make key":     {"Microsoft.KeyVault/vaults/keys/create/action", vault, true},
		"wrap":         {"Microsoft.KeyVault/vaults/keys/wrap/action", vault, true},
		"sign":         {"Microsoft.KeyVault/vaults/keys/sign/action", vault, true},
		"get policies": {"Microsoft.KeyVault/vaults/certificates/read", vault, true},
	}
	other, _ := application(t, d)
	// the last owner could not be removed
	if _, err := d.Assign(t.Context(), "", other.ID, identity.Owner, scope); err != nil {
		t.Fatal(err)
	}
	for role, want := range map[string][]string{
		identity.Owner: {"read account", "make account", "list keys", "new key", "give roles",
			"make vault"},
		identity.Contributor:            {"read account", "make account", "list keys", "new key", "make vault"},
		identity.Reader:                 {"read account"},
		identity.CognitiveContributor:   {"read account", "make account", "list keys", "new key"},
		identity.CognitiveUser:          {"read account", "list keys", "use faces"},
		identity.VaultAdministrator:     {"read key", "make key", "wrap", "sign", "get policies"},
		identity.VaultCryptoOfficer:     {"read key", "make key", "wrap", "sign"},
		identity.VaultCryptoUser:        {"read key", "wrap", "sign"},
		identity.VaultServiceEncryption: {"read key", "wrap"},
		identity.VaultReader:            {"read key", "get policies"},
	} {
		a, err := d.Assign(t.Context(), "", p.ID, role, strings.ToUpper(scope[:14])+scope[14:]+"/")
		if strings.HasPrefix(scope, "/subscriptions/") && err != nil {
			t.Fatal(err)
		}
		for name, q := range asks {
			may := d.May
			if q.data {
				may = d.MayData
			}
			if got := may(who, strings.ToUpper(q.action), q.at); got != slices.Contains(want, name) {
				t.Errorf("%s may %s: %v", role, name, got)
			}
			if may(visage.Principal{ObjectID: stranger}, q.action, q.at) || may(visage.Principal{}, q.action, q.at) {
				t.Errorf("somebody without a role may %s", name)
			}
		}
		if err := d.Unassign(t.Context(), a.ID); err != nil {
			t.Fatal(err)
		}
		if d.May(who, "Microsoft.CognitiveServices/accounts/read", account) {
			t.Errorf("%s works after it was taken back", role)
		}
	}
}

func TestScopesReachDownAndNotAside(t *testing.T) {
	d := open(t, config(nil))
	p, _ := application(t, d)
	group := scope + "/resourceGroups/One"
	if _, err := d.Assign(t.Context(), "", p.ID, identity.Reader, group); err != nil {
		t.Fatal(err)
	}
	for at, want := range map[string]bool{
		group: true, strings.ToLower(group) + "/": true, group + "/providers/x/y/z": true,
		scope: false, group + "Two": false, scope + "/resourceGroups/two": false, "": false, "/": false,
	} {
		if got := d.May(visage.Principal{ObjectID: p.ID}, "x/read", at); got != want {
			t.Errorf("reader of %s reads %q: %v", group, at, got)
		}
	}
	if n := len(d.Assignments(group + "/a")); n != 1 {
		t.Errorf("%d assignments work below the group", n)
	}
	if n := len(d.Assignments(scope + "/resourceGroups/two")); n != 0 {
		t.Errorf("%d assignments work beside the group", n)
	}
	_, err := d.Assign(t.Context(), "", p.ID, identity.Reader, group)
	wantRefusal(t, "the same again", err, "RoleAssignmentExists", "")
	_, err = d.Assign(t.Context(), "", p.ID, stranger, group)
	wantRefusal(t, "an unknown role", err, "RoleDefinitionDoesNotExist", "")
	_, err = d.Assign(t.Context(), "", stranger, identity.Reader, group)
	wantRefusal(t, "an unknown identity", err, "PrincipalNotFound", "")
	_, err = d.Assign(t.Context(), "", p.ID, identity.Reader, "/")
	wantRefusal(t, "everything", err, "InvalidScope", "")
}
