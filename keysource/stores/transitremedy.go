package stores

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/visage-face/visage"
)

// transitRemedy returns the commands of docs/operations/key-stores.md for one resource. They are for the address and
// the namespace of the store, which the tool takes from its environment.
func transitRemedy(s Store, key visage.KeyRef, need Need, c Customer) []string {
	_, rest, _ := strings.Cut(s.Address, "://")
	rest, namespace, _ := strings.Cut(rest, "?namespace=")
	_, mount, _ := strings.Cut(rest, "/")
	commands := []string{"export VAULT_ADDR=https://" + s.kind.listener(s)}
	if namespace != "" {
		commands = append(commands, "export VAULT_NAMESPACE="+namespace)
	}
	policy := "visage-" + key.Name
	switch {
	case need == NeedKey:
		return append(commands, fmt.Sprintf("vault write -f %s/keys/%s type=aes256-gcm96", mount, key.Name))
	case need == NeedRights:
		return append(commands, fmt.Sprintf(`printf 'path "%s/keys/%s" { capabilities = ["read"] }\n`+
			`path "%[1]s/encrypt/%[2]s" { capabilities = ["update"] }\n`+
			`path "%[1]s/decrypt/%[2]s" { capabilities = ["update"] }\n' | vault policy write %[3]s -`,
			mount, key.Name, policy))
	case need == NeedProtection:
		return append(commands, fmt.Sprintf("vault write %s/keys/%s/config deletion_allowed=false", mount, key.Name),
			"# a key with exportable or allow_plaintext_backup cannot be mended: make another one")
	case need != NeedLogin || s.Login.Method != "jwt":
		return nil
	}
	at := cmp.Or(s.Login.Mount, "jwt")
	role := s.Login.roleOf(c.Principal)
	return append(commands,
		fmt.Sprintf("vault write auth/%s/config jwks_url=%s bound_issuer=%s jwks_ca_pem=@visage-ca.pem", at, c.KeysURI,
			c.Issuer),
		fmt.Sprintf("vault write auth/%s/role/%s role_type=jwt user_claim=sub bound_subject=%s bound_audiences=%s "+
			"token_policies=%s token_type=batch token_ttl=10m", at, role, c.Principal, s.Login.Audience, policy))
}
