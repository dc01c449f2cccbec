package server_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource/stores"
	"github.com/visage-face/visage/server/registry"
	"github.com/visage-face/visage/test/keystores"
)

// awsStore is AWS KMS in one account, where identities assume roles with their tokens.
type awsStore struct {
	*keystores.KMS
	issuer *issuer             // that the account trusts
	roles  map[string][]string // who may use a key
}

func newAWSStore(t *testing.T) awsStore {
	t.Helper()
	return awsStore{keystores.StartKMS(t), new(issuer), map[string][]string{}}
}

func (a awsStore) describe(t *testing.T) stores.Store {
	t.Helper()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, []byte(a.CA), 0o600); err != nil {
		t.Fatal(err)
	}
	return stores.Store{Address: keystores.KMSStore, Endpoint: "https://" + a.Address,
		LoginEndpoint: "https://" + a.Address, CAFile: ca, Login: stores.Login{Method: "web-identity"}}
}

func (a awsStore) trust(_ *testing.T, of issuer) { *a.issuer = of }

func (a awsStore) makeKey(*testing.T, string) string { return a.CreateKey(map[string]any{}) }

func (a awsStore) grant(_ *testing.T, who visage.PrincipalID, keys ...string) {
	role := "visage-" + string(who)
	a.Role(role, &keystores.Trust{Issuer: a.issuer.URL, JWKS: a.issuer.Keys, CA: a.issuer.CA, Subject: string(who),
		Audience: keystores.KMSStore})
	a.PermitRole(role, keystores.KMSUse, keys...)
	for _, key := range keys {
		a.roles[key] = append(a.roles[key], role)
	}
}

func (a awsStore) revoke(_ *testing.T, key string) {
	for _, role := range a.roles[key] {
		a.PermitRole(role, keystores.KMSUse)
	}
}

func (a awsStore) rotate(*testing.T, string) string { return "" }

func TestAWS(t *testing.T) { walkArticle(t, newAWSStore(t)) }

func TestAWSOfOthers(t *testing.T) { walkOthers(t, newAWSStore(t)) }

func TestAWSTheft(t *testing.T) { walkTheft(t, newAWSStore(t)) }

// TestAWSRefusals holds which keys and roles are refused, each in its own words.
func TestAWSRefusals(t *testing.T) {
	store := newAWSStore(t)
	s := newStoreWalk(t, store)
	faces := store.makeKey(t, "")
	store.grant(t, s.who, faces)
	sign := store.CreateKey(map[string]any{"KeySpec": "RSA_2048", "KeyUsage": "SIGN_VERIFY"})
	curve := store.CreateKey(map[string]any{"KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY"})
	deleted := store.makeKey(t, "")
	store.Do("ScheduleKeyDeletion", map[string]any{"KeyId": deleted})
	disabled := store.makeKey(t, "")
	store.Do("DisableKey", map[string]any{"KeyId": disabled})
	store.grant(t, s.who, faces, sign, curve, deleted, disabled)
	for name, c := range map[string]struct{ key, version, code, says string }{
		"alias":     {`arn:aws:kms:eu-central-1:111122223333:alias%2Ff`, "", "InvalidKeyVaultProperties", "not the ARN of a key"},
		"region":    {"arn:aws:kms:eu-west-1:111122223333:key%2F" + faces, "", "InvalidKeyVaultProperties", `region "eu-west-1"`},
		"account":   {"arn:aws:kms:eu-central-1:444455556666:key%2F" + faces, "", "InvalidKeyVaultProperties", `account "444455556666"`},
		"version":   {faces, "1", "InvalidKeyVaultProperties", "no versions"},
		"signs":     {sign, "", "KeyVaultAccessDenied", "ENCRYPT_DECRYPT"},
		"curve":     {curve, "", "KeyVaultKeyTypeNotSupported", "ECC_NIST_P256"},
		"deleted":   {deleted, "", "KeyVaultKeyNotFound", "deleted"},
		"disabled":  {disabled, "", "KeyVaultKeyDisabled", "disabled"},
		"of nobody": {store.makeKey(t, ""), "", "KeyVaultAccessDenied", "key-stores.md"},
	} {
		if says := s.protect(t, "vip", c.key, c.version); !strings.HasPrefix(says, c.code) ||
			!strings.Contains(says, c.says) {
			t.Errorf("%s: %q, want %s and %q", name, says, c.code, c.says)
		}
	}
	by := visage.Caller{Principal: visage.Principal{Method: "operator", ObjectID: s.Operator().ClientID}}
	trial, err := s.KeyStores().Try(t.Context(), by, registry.IDOf(keystores.KMSStore),
		registry.Trial{Resource: "vip", Key: faces})
	if err != nil || !trial.Passed() || len(trial.Findings) != 4 {
		t.Errorf("trial: %+v, %v", trial, err)
	}
	store.Down(true)
	if says := s.protect(t, "vip", faces, ""); !strings.HasPrefix(says, "KeyVaultUnavailable") {
		t.Errorf("while AWS is in trouble: %q", says)
	}
	store.Down(false)
	store.Role("visage-"+string(s.who), &keystores.Trust{Issuer: store.issuer.URL, JWKS: store.issuer.Keys,
		CA: store.issuer.CA, Subject: "another", Audience: keystores.KMSStore})
	if says := s.protect(t, "vip", faces, ""); !strings.HasPrefix(says, "KeyVaultAccessDenied") {
		t.Errorf("with the role of another subject: %q", says)
	}
}
