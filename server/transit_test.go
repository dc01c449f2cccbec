package server_test

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource/stores"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
	"github.com/visage-face/visage/test/keystores"
)

// transit is the transit engine of a HashiCorp Vault, to which identities log in with their tokens.
type transit struct{ *keystores.Vault }

func (v transit) describe(t *testing.T) stores.Store {
	t.Helper()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, []byte(v.CA), 0o600); err != nil {
		t.Fatal(err)
	}
	return stores.Store{Address: "hashivault://" + v.Address + "/transit", CAFile: ca,
		Login: stores.Login{Method: "jwt", Audience: "vault.example"}}
}

func (v transit) trust(_ *testing.T, of issuer) {
	v.Post("auth/jwt/config", map[string]any{
		"jwks_url": of.Keys, "jwks_ca_pem": of.CA, "bound_issuer": of.URL,
	})
}

func (v transit) makeKey(_ *testing.T, name string) string {
	v.Post("transit/keys/"+name, map[string]any{"type": "aes256-gcm96"})
	return name
}

func (v transit) grant(_ *testing.T, who visage.PrincipalID, keys ...string) {
	var policies []string
	for _, key := range keys {
		v.Permit("visage-"+key, map[string][]string{
			"transit/keys/" + key: {"read"}, "transit/encrypt/" + key: {"update"}, "transit/decrypt/" + key: {"update"},
		})
		policies = append(policies, "visage-"+key)
	}
	v.Post("auth/jwt/role/visage-"+string(who), map[string]any{
		"role_type": "jwt", "user_claim": "sub", "bound_subject": string(who), "bound_audiences": "vault.example",
		"token_policies": policies, "token_type": "batch", "token_ttl": "10m",
	})
}

func (v transit) revoke(_ *testing.T, key string) { v.Permit("visage-"+key, nil) }

func (v transit) rotate(_ *testing.T, key string) string {
	v.RevokeTokens() // no verdict on the key: the next poll logs in again
	v.Post("transit/keys/"+key+"/rotate", nil)
	return "2"
}

func TestTransit(t *testing.T) { walkArticle(t, transit{keystores.StartVault(t)}) }

func TestTransitOfOthers(t *testing.T) { walkOthers(t, transit{keystores.StartVault(t)}) }

func TestTransitTheft(t *testing.T) { walkTheft(t, transit{keystores.StartVault(t)}) }

// TestTransitRefusals holds which keys and roles are refused, each in its own words.
func TestTransitRefusals(t *testing.T) {
	store := transit{keystores.StartVault(t)}
	s := newStoreWalk(t, store)
	store.makeKey(t, "faces")
	store.grant(t, s.who, "faces")
	s.resource(t, "other")
	// Even a role with the name of the other resource is of no use, if it is bound to another subject.
	var other struct{ Identity struct{ PrincipalID string } }
	if _, body := s.armed(t, http.MethodGet, "other", ""); json.Unmarshal([]byte(body), &other) != nil {
		t.Fatal(body)
	}
	store.Post("auth/jwt/role/visage-"+other.Identity.PrincipalID, map[string]any{
		"role_type": "jwt", "user_claim": "sub", "bound_subject": string(s.who), "bound_audiences": "vault.example",
		"token_policies": "visage-faces",
	})
	if says := s.protect(t, "other", "faces", ""); !strings.HasPrefix(says, "KeyVaultAccessDenied") {
		t.Errorf("with the role of another subject: %q", says)
	}

	store.Post("transit/keys/faces/config", map[string]any{"deletion_allowed": true})
	if says := s.protect(t, "vip", "faces", ""); !strings.HasPrefix(says, "KeyVaultPurgeProtectionRequired") ||
		!strings.Contains(says, "deletion_allowed") {
		t.Errorf("a key that may be deleted: %q", says)
	}
	store.Post("transit/keys/sign", map[string]any{"type": "ed25519"})
	store.grant(t, s.who, "sign")
	if says := s.protect(t, "vip", "sign", ""); !strings.HasPrefix(says, "KeyVaultKeyTypeNotSupported") {
		t.Errorf("a key that signs: %q", says)
	}
	store.grant(t, s.who, "faces")
	if says := s.protect(t, "vip", "none", ""); !strings.HasPrefix(says, "KeyVaultAccessDenied") {
		t.Errorf("a key that does not exist, which the policy does not name: %q", says)
	}
	elsewhere := *s
	elsewhere.address = "hashivault://" + store.Address + "/keys/of/team"
	if says := elsewhere.protect(t, "vip", "faces", ""); !strings.Contains(says, "has not configured") {
		t.Errorf("an engine that is not configured: %q", says)
	}
	store.Seal(true)
	if says := s.protect(t, "vip", "faces", ""); !strings.HasPrefix(says, "KeyVaultUnavailable") {
		t.Errorf("a sealed store: %q", says)
	}
}

// TestAudiences holds that no token for a key store is of use elsewhere.
func TestAudiences(t *testing.T) {
	start := func(all ...stores.Store) error {
		srv, err := server.New(server.Config{Dir: filepath.Join(t.TempDir(), "visage"), Listen: "127.0.0.1:0",
			KeyStores: all, Recogniser: servertest.Faces{}})
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // it is refused before it serves
		defer cancel()
		return srv.Run(ctx)
	}
	store := func(host, audience string) stores.Store {
		return stores.Store{Address: "hashivault://" + host + "/transit",
			Login: stores.Login{Method: "jwt", Audience: audience}}
	}
	for _, own := range []string{"https://cognitiveservices.azure.com", "https://Management.azure.com/",
		"https://graph.microsoft.com"} {
		if err := start(store("vault.example", own)); err == nil || !strings.Contains(err.Error(), "of this instance") {
			t.Errorf("audience %s: %v", own, err)
		}
	}
	err := start(store("one.example", "vault"), store("two.example", "Vault/"))
	if err == nil || !strings.Contains(err.Error(), "also that of a store on one.example") {
		t.Errorf("one audience for two hosts: %v", err)
	}
}
