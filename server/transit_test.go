package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
	"github.com/visage-face/visage/test/keystores"
)

// transit is a server whose resources may use keys in a HashiCorp Vault, to which they log in as themselves.
type transit struct {
	*officer
	store   *keystores.Vault
	address string // of the transit engine
}

const accountPath = "/resourceGroups/default/providers/Microsoft.CognitiveServices/accounts/"

func newTransit(t *testing.T) *transit {
	t.Helper()
	store := keystores.StartVault(t)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, []byte(store.CA), 0o600); err != nil {
		t.Fatal(err)
	}
	address := "hashivault://" + store.Address + "/transit"
	s := &transit{&officer{Server: servertest.Start(t, server.Config{
		Rate: 1000, AutoApprove: true, KeyStores: []server.KeyStore{{
			Address: address, CAFile: ca, Login: server.KeyStoreLogin{Method: "jwt", Audience: "vault.example"},
		}},
	})}, store, address}
	if status, body := s.armed(t, http.MethodPut, "vip", `{"kind":"Face","location":"local","sku":{"name":"E0"},`+
		`"identity":{"type":"SystemAssigned"}}`); status/100 != 2 {
		t.Fatalf("make a resource: %d %s", status, body)
	}
	var err error
	if s.space, s.who, err = s.Identify(t.Context(), "vip"); err != nil {
		t.Fatal(err)
	}
	keys, err := s.Keys(t.Context(), "vip")
	if err != nil {
		t.Fatal(err)
	}
	s.Key = keys.Key1
	issuer, err := os.ReadFile(s.Operator().CAFile)
	if err != nil {
		t.Fatal(err)
	}
	var about struct {
		Issuer string
		Keys   string `json:"jwks_uri"`
	}
	if err := json.Unmarshal([]byte(s.page(t, "/"+s.Operator().TenantID+"/.well-known/openid-configuration")),
		&about); err != nil {
		t.Fatal(err)
	}
	store.Post("auth/jwt/config", map[string]any{
		"jwks_url": about.Keys, "jwks_ca_pem": string(issuer), "bound_issuer": about.Issuer,
	})
	return s
}

// grant lets an identity, and nobody else, use keys, as docs/operations/key-stores.md has it.
func (s *transit) grant(who visage.PrincipalID, keys ...string) {
	var policies []string
	for _, key := range keys {
		s.store.Permit("visage-"+key, map[string][]string{
			"transit/keys/" + key: {"read"}, "transit/encrypt/" + key: {"update"}, "transit/decrypt/" + key: {"update"},
		})
		policies = append(policies, "visage-"+key)
	}
	s.store.Post("auth/jwt/role/visage-"+string(who), map[string]any{
		"role_type": "jwt", "user_claim": "sub", "bound_subject": string(who), "bound_audiences": "vault.example",
		"token_policies": policies, "token_type": "batch", "token_ttl": "10m",
	})
}

// protect puts a resource under a key by the management plane, and returns its answer's code: empty if it is accepted.
func (s *transit) protect(t *testing.T, account, key, version string) string {
	t.Helper()
	body := fmt.Sprintf(`{"properties":{"encryption":{"keySource":"Microsoft.KeyVault","keyVaultProperties":`+
		`{"keyVaultUri":%q,"keyName":%q,"keyVersion":%q}}}}`, s.address, key, version)
	status, answer := s.armed(t, http.MethodPatch, account, body)
	if status/100 == 2 {
		return ""
	}
	var refused struct {
		Error struct{ Code, Message string }
	}
	if err := json.Unmarshal([]byte(answer), &refused); err != nil || refused.Error.Message == "" {
		t.Fatalf("protect %s: %d %s", account, status, answer)
	}
	return refused.Error.Code + ": " + refused.Error.Message
}

func (s *transit) armed(t *testing.T, method, account, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(method, s.URL+"/subscriptions/"+s.Operator().SubscriptionID+accountPath+account+
		"?api-version=2025-09-01", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.Token(t, "https://management.azure.com"))
	req.Header.Set("Content-Type", "application/json")
	res, err := s.Client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(answer)
}

// TestTransit walks through the article with a key in the transit engine: enable, rotate, revoke, restore, switch and
// disable. The resource proves itself with a token of this instance; no secret is stored on either side.
func TestTransit(t *testing.T) {
	s := newTransit(t)
	s.store.Post("transit/keys/faces", map[string]any{"type": "aes256-gcm96"})
	if says := s.protect(t, "vip", "faces", ""); !strings.HasPrefix(says, "KeyVaultAccessDenied") {
		t.Errorf("before the identity has a role: %q", says)
	}
	s.grant(s.who, "faces")
	if says := s.protect(t, "vip", "faces", ""); says != "" {
		t.Fatalf("enable: %s", says)
	}
	active := func(s custody.Status) bool {
		return s.Condition == custody.Active && s.Operation.Progress != custody.Running
	}
	if now := s.until(t, "the active key", active); now.Version != "1" || now.Key.Vault != s.address {
		t.Errorf("the key is %s, version %s", now.Key, now.Version)
	}
	status, body, _ := s.face(t, http.MethodPut, "/face/v1.2/persongroups/g", `{"name":"g"}`)
	if status != http.StatusOK {
		t.Fatalf("make a group: %d %s", status, body)
	}
	key := visage.KeyRef{Vault: s.address, Name: "faces"}

	s.store.Permit("visage-faces", nil)
	s.Custody().Recheck(key)
	s.until(t, "the lock", func(s custody.Status) bool { return s.Condition == custody.Revoked })
	if status, body, _ := s.groups(t); status != http.StatusForbidden ||
		!strings.Contains(body, "EncryptionKeyRevoked") {
		t.Errorf("while revoked: %d %s", status, body)
	}
	s.grant(s.who, "faces")
	s.Custody().Recheck(key)
	s.until(t, "the restoration", active)

	s.store.RevokeTokens() // no verdict on the key: the next poll logs in again
	s.store.Post("transit/keys/faces/rotate", nil)
	s.Custody().Recheck(key)
	s.until(t, "the move to the new version", func(s custody.Status) bool { return active(s) && s.Version == "2" })
	s.store.Post("transit/keys/faces/config", map[string]any{"min_decryption_version": 2})
	if status, body, _ := s.groups(t); status != http.StatusOK || !strings.Contains(body, `"g"`) {
		t.Errorf("after the rotation: %d %s", status, body)
	}

	s.store.Post("transit/keys/next", map[string]any{"type": "rsa-4096"})
	s.grant(s.who, "faces", "next")
	if says := s.protect(t, "vip", "next", "1"); says != "" {
		t.Fatalf("switch: %s", says)
	}
	s.until(t, "the other key", func(s custody.Status) bool { return active(s) && s.Key.Name == "next" })

	if status, body := s.armed(t, http.MethodPatch, "vip",
		`{"properties":{"encryption":{"keySource":"Microsoft.CognitiveServices"}}}`); status/100 != 2 {
		t.Fatalf("disable: %d %s", status, body)
	}
	s.until(t, "the service's key", func(s custody.Status) bool { return s.Condition == custody.ServiceManaged })
	if status, body, _ := s.groups(t); status != http.StatusOK || !strings.Contains(body, `"g"`) {
		t.Errorf("disabled: %d %s", status, body)
	}
}

// TestTransitOfOthers holds that a key which is granted to one resource cannot be reached through another, and which
// keys are refused.
func TestTransitOfOthers(t *testing.T) {
	s := newTransit(t)
	s.store.Post("transit/keys/faces", nil)
	s.grant(s.who, "faces")
	if status, body := s.armed(t, http.MethodPut, "other", `{"kind":"Face","location":"local","sku":{"name":"E0"},`+
		`"identity":{"type":"SystemAssigned"}}`); status/100 != 2 {
		t.Fatalf("make another resource: %d %s", status, body)
	}
	if says := s.protect(t, "other", "faces", ""); !strings.HasPrefix(says, "KeyVaultAccessDenied") {
		t.Errorf("through another resource: %q", says)
	}
	// Even a role with the name of the other resource is of no use, if it is bound to another subject.
	var other struct{ Identity struct{ PrincipalID string } }
	if _, body := s.armed(t, http.MethodGet, "other", ""); json.Unmarshal([]byte(body), &other) != nil {
		t.Fatal(body)
	}
	s.store.Post("auth/jwt/role/visage-"+other.Identity.PrincipalID, map[string]any{
		"role_type": "jwt", "user_claim": "sub", "bound_subject": string(s.who), "bound_audiences": "vault.example",
		"token_policies": "visage-faces",
	})
	if says := s.protect(t, "other", "faces", ""); !strings.HasPrefix(says, "KeyVaultAccessDenied") {
		t.Errorf("with the role of another subject: %q", says)
	}

	s.store.Post("transit/keys/faces/config", map[string]any{"deletion_allowed": true})
	if says := s.protect(t, "vip", "faces", ""); !strings.HasPrefix(says, "KeyVaultPurgeProtectionRequired") ||
		!strings.Contains(says, "deletion_allowed") {
		t.Errorf("a key that may be deleted: %q", says)
	}
	s.store.Post("transit/keys/sign", map[string]any{"type": "ed25519"})
	s.grant(s.who, "sign")
	if says := s.protect(t, "vip", "sign", ""); !strings.HasPrefix(says, "KeyVaultKeyTypeNotSupported") {
		t.Errorf("a key that signs: %q", says)
	}
	s.grant(s.who, "faces")
	if says := s.protect(t, "vip", "none", ""); !strings.HasPrefix(says, "KeyVaultAccessDenied") {
		t.Errorf("a key that does not exist, which the policy does not name: %q", says)
	}
	elsewhere := *s
	elsewhere.address = "hashivault://" + s.store.Address + "/keys/of/team"
	if says := elsewhere.protect(t, "vip", "faces", ""); !strings.Contains(says, "has not configured") {
		t.Errorf("an engine that is not configured: %q", says)
	}
	s.store.Seal(true)
	if says := s.protect(t, "vip", "faces", ""); !strings.HasPrefix(says, "KeyVaultUnavailable") {
		t.Errorf("a sealed store: %q", says)
	}
}

// TestAudiences holds that no token for a key store is of use elsewhere.
func TestAudiences(t *testing.T) {
	start := func(stores ...server.KeyStore) error {
		srv, err := server.New(server.Config{Dir: filepath.Join(t.TempDir(), "visage"), Listen: "127.0.0.1:0",
			KeyStores: stores, Recogniser: servertest.Faces{}})
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // it is refused before it serves
		defer cancel()
		return srv.Run(ctx)
	}
	store := func(host, audience string) server.KeyStore {
		return server.KeyStore{Address: "hashivault://" + host + "/transit",
			Login: server.KeyStoreLogin{Method: "jwt", Audience: audience}}
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

// TestKeyStoreFile reads the file of key stores, and refuses what is incomplete or contradicts itself.
func TestKeyStoreFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "stores.json")
	read := func(text string) error {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := server.ReadKeyStores(file)
		return err
	}
	if err := read(`[{"address":"hashivault://vault.example/transit","login":{"method":"jwt","mount":"k8s/jwt"}},
		{"address":"hashivault://vault.example/transit?namespace=a/b","login":{"method":"token","secretFile":"t"}},
		{"address":"hashivault://192.0.2.1:8300/keys","login":{"method":"approle","roleId":"r","secretFile":"s"}}]`); err !=
		nil {
		t.Error(err)
	}
	for text, says := range map[string]string{
		`[{"address":"https://vault.example","login":{"method":"jwt"}}]`:                                      "not the address of a transit engine",
		`[{"address":"hashivault://user@vault.example/transit","login":{"method":"jwt"}}]`:                    "has a user",
		`[{"address":"hashivault://vault.example","login":{"method":"jwt"}}]`:                                 "mount",
		`[{"address":"hashivault://vault.example/transit","login":{"method":"ldap"}}]`:                        `got "ldap"`,
		`[{"address":"hashivault://vault.example/transit","login":{"method":"approle","roleId":"r"}}]`:        "secretFile",
		`[{"address":"hashivault://vault.example/transit","login":{"method":"jwt","secretFile":"s"}}]`:        "does not use",
		`[{"address":"hashivault://vault.example/transit","login":{"method":"jwt","role":"../../sys/seal"}}]`: "mount and the role",
		`[{"address":"hashivault://vault.example/transit","login":{"method":"jwt","role":"visage"}}]`:         "the same for all resources",
		`[{"adress":"hashivault://vault.example/transit"}]`:                                                   "unknown field",
		`[] []`: "behind the list",
		``:      "EOF",
	} {
		if err := read(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", text, err, says)
		}
	}
}
