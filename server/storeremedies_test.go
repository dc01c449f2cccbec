package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/visage-face/visage/test/keystores"
)

// remediesOf checks a key for the resource "vip", and returns the commands that mend what it lacks.
func (w *storeWalk) remediesOf(t *testing.T, key string) (ready bool, commands []string) {
	t.Helper()
	status, answer := w.armed(t, http.MethodPost, "vip/encryption:check", fmt.Sprintf(
		`{"keySource":"Microsoft.KeyVault","keyVaultProperties":{"keyVaultUri":%q,"keyName":%q,"keyVersion":""}}`,
		w.address, key))
	var found struct {
		Ready  bool
		Checks []struct{ Remedy []string }
		Answer struct {
			Class        string
			Milliseconds float64
			KeyType      string
		}
	}
	if err := json.Unmarshal([]byte(answer), &found); status != http.StatusOK || err != nil {
		t.Fatalf("check the key: %d %s", status, answer)
	}
	for _, check := range found.Checks {
		commands = append(commands, check.Remedy...)
	}
	if told := found.Answer; found.Ready != (told.Class == "ok") || told.Milliseconds <= 0 ||
		found.Ready && told.KeyType == "" {
		t.Errorf("ready %v, and the store has answered %+v", found.Ready, told)
	}
	return found.Ready, commands
}

// TestStoreRemedies: what a store answers when the customer has done nothing leads to the commands that the customer
// needs, filled in for the resource; after them, nothing is missing.
func TestStoreRemedies(t *testing.T) {
	for name, c := range map[string]struct {
		store func(*testing.T) customerStore
		want  string // %s: the identity of the resource
	}{
		"transit": {func(t *testing.T) customerStore { return transit{keystores.StartVault(t)} },
			"vault write auth/jwt/role/visage-%s role_type=jwt "},
		"AWS": {func(t *testing.T) customerStore { return newAWSStore(t) },
			"aws iam create-role --role-name visage-%s --assume-role-policy-document "},
		"Google": {func(t *testing.T) customerStore { return google{keystores.StartCloudKMS(t)} },
			"gcloud kms keys add-iam-policy-binding faces "},
		"token": {func(t *testing.T) customerStore { return &hsm{HSM: keystores.StartSoftHSM(t)} },
			"--label visage-%s-faces --id 01 "},
		"KMIP": {func(t *testing.T) customerStore { return keyManager{keystores.StartKMIP(t)} },
			"Name visage-%s-faces, "},
		"Azure": {func(t *testing.T) customerStore { return newFederated(t) },
			`az ad app federated-credential create --id`},
	} {
		t.Run(name, func(t *testing.T) {
			store := c.store(t)
			w := newStoreWalk(t, store)
			key := store.makeKey(t, "faces")
			want := strings.Replace(c.want, "%s", string(w.who), 1)
			if ready, commands := w.remediesOf(t, key); ready || !slices.ContainsFunc(commands, func(line string) bool {
				return strings.Contains(line, want)
			}) {
				t.Errorf("ready %v with the commands\n%s\nwant %q", ready, strings.Join(commands, "\n"), want)
			}
			store.grant(t, w.who, key)
			if ready, commands := w.remediesOf(t, key); !ready || commands != nil {
				t.Errorf("after it: ready %v, with the commands\n%s", ready, strings.Join(commands, "\n"))
			}
		})
	}
}
