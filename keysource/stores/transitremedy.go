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
	policy := transitPolicy(namespace, mount, key.Name)
	at, role := cmp.Or(s.Login.Mount, "jwt"), s.Login.roleOf(c.Principal)
	switch {
	case need == NeedKey:
		return append(commands, fmt.Sprintf("vault write -f %s/keys/%s type=aes256-gcm96", mount, key.Name))
	case need == NeedType:
		return []string{"# the type of a key stays as it is: make one of the type aes256-gcm96 under another name"}
	case need == NeedRights:
		commands = append(commands, fmt.Sprintf(`printf 'path "%s/keys/%s" { capabilities = ["read"] }\n`+
			`path "%[1]s/encrypt/%[2]s" { capabilities = ["update"] }\n`+
			`path "%[1]s/decrypt/%[2]s" { capabilities = ["update"] }\n' | vault policy write %[3]s -`,
			mount, key.Name, policy))
		if s.Login.Method != "jwt" {
			return append(commands, "# and add the policy "+policy+" to those of the service's login")
		}
		return append(commands, extendRole(at, role, "token_policies", policy))
	case need == NeedProtection:
		return append(commands, fmt.Sprintf("vault write %s/keys/%s/config deletion_allowed=false", mount, key.Name),
			"# a key with exportable or allow_plaintext_backup cannot be mended: make another one")
	case need != NeedLogin || s.Login.Method != "jwt":
		return nil
	}
	// A write of the configuration replaces it, and ends the logins of another issuer. What looks like a login that is
	// not set up may also be an outage, so nothing is written unless the server says that there is none.
	return append(commands,
		fmt.Sprintf("# if auth/%s/config names another issuer, use a mount of its own: nothing is replaced here", at),
		fmt.Sprintf("vault read auth/%s/config 2>&1 | grep -q 'No value found' && vault write auth/%[1]s/config "+
			"jwks_url=%s bound_issuer=%s jwks_ca_pem=@visage-ca.pem", at, c.KeysURI, c.Issuer),
		fmt.Sprintf("vault write auth/%s/role/%s role_type=jwt user_claim=sub bound_subject=%s token_type=batch "+
			"token_ttl=10m", at, role, c.Principal),
		extendRole(at, role, "bound_audiences", s.Login.Audience), extendRole(at, role, "token_policies", policy))
}

// extendRole returns a command that adds to a list of a role: a write alone would replace it, and take away what the
// resource needs for another key. It changes nothing if the role cannot be read.
func extendRole(at, role, list, value string) string {
	return fmt.Sprintf("have=$(vault read auth/%s/role/%s) && vault write auth/%[1]s/role/%[2]s role_type=jwt "+
		`%[3]s="$({ printf '%%s\n' "$have" | sed -n 's/^%[3]s  *\[\(.*\)\] *$/\1/p' | tr ' ' '\n'; `+
		`echo %[4]s; } | grep . | sort -u | paste -sd, -)"`, at, role, list, quote(value))
}

// transitPolicy names the policy for one key: no other key of the server has it, since its author would replace that.
// The server ignores the case of these names, so that a capital is written as an underscore and the small letter; an
// underscore and a dot get an underscore before them.
func transitPolicy(namespace, mount, key string) string {
	path := key
	for _, before := range []string{mount, namespace} {
		if before != "" {
			path = before + "/" + path
		}
	}
	var out strings.Builder
	out.WriteString("visage-")
	for _, c := range path {
		switch {
		case c == '/':
			out.WriteByte('.')
		case c == '.', c == '_':
			out.WriteString("_" + string(c))
		case c >= 'A' && c <= 'Z':
			out.WriteString("_" + strings.ToLower(string(c)))
		default:
			out.WriteRune(c)
		}
	}
	return out.String()
}
