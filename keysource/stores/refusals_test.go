package stores_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/stores"
	"github.com/visage-face/visage/test/keystores"
)

// TestDestroyedSecretIDIsARefusal: when a customer destroys the secret id that ten resources log in with, each of them
// is refused for certain, the first time and when it confirms that. The server does not lock the AppRole out, so that a
// new secret id counts at once.
func TestDestroyedSecretIDIsARefusal(t *testing.T) {
	v := keystores.StartVault(t)
	v.Post("transit/keys/faces", map[string]any{"type": "aes256-gcm96"})
	v.Permit("visage", map[string][]string{"transit/keys/*": {"read"}, "transit/decrypt/*": {"update"}})
	v.Post("auth/approle/role/visage", map[string]any{"token_policies": "visage"})
	role, _ := v.Do(http.MethodGet, "auth/approle/role/visage/role-id", nil)["role_id"].(string)
	dir := t.TempDir()
	ca, secret := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "secret")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(ca, v.CA)
	newSecret := func() string {
		id, _ := v.Post("auth/approle/role/visage/secret-id", nil)["secret_id"].(string)
		write(secret, id)
		return id
	}
	id := newSecret()
	address := "hashivault://" + v.Address + "/transit"
	set, err := stores.NewSet([]stores.Store{{Address: address, CAFile: ca, Resources: []string{stores.Everybody},
		Login: stores.Login{Method: "approle", RoleID: role, SecretFile: secret}}}, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	asker := func(visage.KeyRef, visage.PrincipalID) stores.Asker { return stores.Asker{Path: "/subscriptions/1"} }
	assert := func(context.Context, visage.PrincipalID, string) (token string, _ time.Time, err error) { return }
	describe := func() error { // over new connections, as what confirms a refusal
		src, err := set.Connect(assert, asker).Open(visage.KeyRef{Vault: address, Name: "faces"}, "p")
		if err != nil {
			return err
		}
		_, err = src.Describe(t.Context(), keysource.Ref{})
		return err
	}
	if err := describe(); err != nil {
		t.Fatal(err)
	}
	v.Post("auth/approle/role/visage/secret-id/destroy", map[string]any{"secret_id": id})
	for resource := range 10 {
		for _, what := range []string{"poll", "confirmation"} {
			err := describe()
			if !errors.Is(err, keysource.ErrDenied) || !strings.Contains(err.Error(), "login is refused") {
				t.Errorf("%s of resource %d: %v", what, resource, err)
			}
		}
	}
	newSecret()
	if err := describe(); err != nil {
		t.Errorf("with a new secret id: %v", err)
	}
}

// TestTrialAsksAgain: a secret id that was refused, and that the customer has made valid again, is sent by the trial of
// an operator, and counts for all from then on. A second trial that is refused within a minute sends nothing.
func TestTrialAsksAgain(t *testing.T) {
	v := keystores.StartVault(t)
	v.Post("transit/keys/faces", map[string]any{"type": "aes256-gcm96"})
	v.Permit("visage", map[string][]string{"transit/keys/*": {"read"}})
	v.Post("auth/approle/role/visage", map[string]any{"token_policies": "visage"})
	role, _ := v.Do(http.MethodGet, "auth/approle/role/visage/role-id", nil)["role_id"].(string)
	dir := t.TempDir()
	ca, secret := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "secret")
	err := errors.Join(os.WriteFile(ca, []byte(v.CA), 0o600), os.WriteFile(secret, []byte("our-own"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	key := visage.KeyRef{Vault: "hashivault://" + v.Address + "/transit", Name: "faces"}
	set, err := stores.NewSet([]stores.Store{{Address: key.Vault, CAFile: ca, Resources: []string{stores.Everybody},
		Login: stores.Login{Method: "approle", RoleID: role, SecretFile: secret}}}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	asker := func(visage.KeyRef, visage.PrincipalID) stores.Asker { return stores.Asker{Path: "/subscriptions/1"} }
	assert := func(context.Context, visage.PrincipalID, string) (token string, _ time.Time, err error) { return }
	poll := func() error {
		src, err := set.Connect(assert, asker).Open(key, "p")
		if err != nil {
			return err
		}
		_, err = src.Describe(t.Context(), keysource.Ref{})
		return err
	}
	try := func() error {
		t.Helper()
		trial, err := set.Connect(assert, asker).Try(t.Context(), key, "p")
		if err != nil {
			t.Fatal(err)
		}
		return trial.Err
	}
	const fromMemory = "the same secret is not sent again before 2"
	for range 2 {
		if err := poll(); !errors.Is(err, keysource.ErrDenied) || strings.Contains(err.Error(), fromMemory) {
			t.Errorf("poll: %v", err)
		}
	}
	permit := func() { v.Post("auth/approle/role/visage/custom-secret-id", map[string]any{"secret_id": "our-own"}) }
	permit()
	if err := poll(); !errors.Is(err, keysource.ErrDenied) || !strings.Contains(err.Error(), fromMemory) {
		t.Errorf("poll from memory: %v", err)
	}
	if err := try(); err != nil {
		t.Errorf("trial: %v", err)
	}
	if err := poll(); err != nil {
		t.Errorf("poll after the trial: %v", err)
	}
	v.Post("auth/approle/role/visage/secret-id/destroy", map[string]any{"secret_id": "our-own"})
	for range 3 {
		if err := poll(); !errors.Is(err, keysource.ErrDenied) {
			t.Errorf("poll after the secret id was destroyed: %v", err)
		}
	}
	permit()
	if err := try(); !errors.Is(err, keysource.ErrDenied) || !strings.Contains(err.Error(), fromMemory) {
		t.Errorf("second trial within a minute: %v", err)
	}
}
