package server_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/server"
)

// TestUnknownProtector checks that the error lists the known protectors of the root key.
func TestUnknownProtector(t *testing.T) {
	const known = "file:PATH, env:NAME, passphrase-env:NAME, passphrase-file:PATH, tpm:DEVICE"
	for _, entry := range []string{"hsm:0x81000001", "file", "env:", "", "FILE:/x"} {
		err := server.Config{RootKeys: []string{entry}}.Validate()
		if err == nil || !strings.Contains(err.Error(), "root-key: the entry is none of "+known) {
			t.Errorf("root key %q: %v", entry, err)
		}
	}
	for _, entry := range []string{"file:/x", "env:X", "passphrase-env:X", "passphrase-file:/x"} {
		if err := (server.Config{RootKeys: []string{entry}}).Validate(); err != nil {
			t.Errorf("root key %q: %v", entry, err)
		}
	}
}

// TestUnknownKeyStore checks that errors list the known stores of customers' keys, on the wire and in custody.
func TestUnknownKeyStore(t *testing.T) {
	const known = "the known ones are https://VAULT, for Azure Key Vault and the vaults of this instance"
	o := newOfficer(t, server.Config{AutoApprove: true})
	account := groupPath + "/vip"
	r := realm{o.Server, t}
	token := r.Token(t, managementPlane)
	r.call(201, "", token, "PUT", account,
		`{"kind":"Face","location":"local","sku":{"name":"E0"},"identity":{"type":"SystemAssigned"}}`)
	for _, address := range []string{"oci-kms://vault.example", "safe.vault.example"} {
		answer := r.call(http.StatusBadRequest, "InvalidKeyVaultProperties", token, "PATCH", account,
			`{"properties":{"encryption":{"keyVaultProperties":{"keyVaultUri":"`+address+`","keyName":"k1"}}}}`)
		message := answer["error"].(map[string]any)["message"].(string)
		if !strings.Contains(message, address) || !strings.Contains(message, known) {
			t.Errorf("key store %s: %s", address, message)
		}
	}
	unknown := visage.KeyRef{Vault: "oci-kms://vault.example", Name: "42"}
	_, err := o.Custody().Enable(t.Context(), o.space, unknown, o.who)
	refusal, ok := errors.AsType[*visage.Refusal](err)
	if !ok || refusal.Code != "InvalidKeyVaultProperties" || !strings.Contains(refusal.Message, known) {
		t.Errorf("enable a key in an unknown store: %v", err)
	}
}
