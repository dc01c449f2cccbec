package stores

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource/kmip"
	"github.com/visage-face/visage/keysource/pkcs11"
)

// Revocation is how the holder of a key takes the access of a resource to it away, and how they give it back: commands,
// one a line, or what is to be done where a kind of stores has no command line of its own.
type Revocation struct{ Take, Give []string }

// Revocation returns how the access of one resource to a key is taken away and given back, for the ways that take
// effect soonest; the zero value: the store is not configured, or the identity of the resource is off.
func (s *Set) Revocation(key visage.KeyRef, c Customer) Revocation {
	store := s.store(key)
	if store == nil {
		return Revocation{}
	}
	return store.kind.revoke(*store, key, c)
}

// transitRevocation takes the policy of the key away, which every token that names it feels at once. The role keeps its
// name.
func transitRevocation(s Store, key visage.KeyRef, c Customer) Revocation {
	write := func(command string) bool { return strings.Contains(command, "| vault policy write ") }
	give := transitRemedy(s, key, NeedRights, c)
	give = give[:slices.IndexFunc(give, write)+1]
	take := slices.Clone(give)
	_, policy, _ := strings.Cut(take[len(take)-1], "| vault policy write ")
	take[len(take)-1] = "vault policy delete " + strings.TrimSuffix(policy, " -")
	return Revocation{take, give}
}

// awsRevocation disables the key.
func awsRevocation(s Store, key visage.KeyRef, c Customer) Revocation {
	give := awsRemedy(s, key, NeedEnabled, c)
	if give == nil {
		return Revocation{}
	}
	return Revocation{[]string{strings.Replace(give[0], "enable-key", "disable-key", 1)}, give}
}

// googleRevocation takes the right to decrypt away: a disabled version may work for hours. A key of which a version is
// named may be an RSA key, for which a role of its own may have been given.
func googleRevocation(s Store, key visage.KeyRef, c Customer) Revocation {
	give := googleRemedy(s, key, NeedRights, c)
	if give == nil {
		give = []string{"give the service account of the login the role that decrypts with " + key.Name + " back"}
		return Revocation{[]string{"take the roles of the service account of the login on " + key.Name + " away"}, give}
	}
	take := []string{strings.Replace(give[0], "add-iam-policy-binding", "remove-iam-policy-binding", 1)}
	if key.Version != "" {
		take = append(take, "# and the role of RSA keys, if the key has it:",
			strings.Replace(take[0], "cryptoKeyEncrypterDecrypter", "cryptoKeyDecrypter", 1))
	}
	return Revocation{take, give[:1]}
}

// vaultRevocation disables the key.
func vaultRevocation(_ Store, key visage.KeyRef, _ Customer) Revocation { return AzureRevocation(key) }

// AzureRevocation is the Revocation of a key in a vault in Azure.
func AzureRevocation(key visage.KeyRef) Revocation {
	give := AzureRemedy(key, NeedEnabled, "")
	return Revocation{[]string{strings.Replace(give[0], "--enabled true", "--enabled false", 1)}, give}
}

// tokenRevocation changes the label of the key, for GnuTLS, to one that no other key gets: what gives it back must find
// this key alone. MODULE is the library of the token on the customer's machine.
func tokenRevocation(s Store, key visage.KeyRef, c Customer) Revocation {
	object, err := s.Login.object(pkcs11.Label(key.Name), c.Principal)
	if err != nil {
		return Revocation{} // the identity is off
	}
	gone := "revoked-" + object
	relabel := func(from, to string) []string {
		command := func(class string) string {
			return fmt.Sprintf("p11tool --provider MODULE --login --set-label %s %s", quote(to),
				quote(fmt.Sprintf("pkcs11:token=%s;object=%s;type=%s",
					escape(cmp.Or(pkcs11.TokenLabel(s.Address), "LABEL")), escape(from), class)))
		}
		return []string{command("secret-key"), "# or, if it is an RSA key:", command("private")}
	}
	return Revocation{relabel(object, gone), relabel(gone, object)}
}

// escape writes a text as a value of a PKCS#11 URI (RFC 7512, section 2.3).
func escape(text string) string {
	var out strings.Builder
	for i := range len(text) {
		if c := text[i]; c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
			strings.IndexByte("-._~", c) >= 0 {
			out.WriteByte(c)
		} else {
			fmt.Fprintf(&out, "%%%02X", c)
		}
	}
	return out.String()
}

// kmipRevocation takes the right to decrypt away: the standard has no way back from deactivation.
func kmipRevocation(s Store, key visage.KeyRef, c Customer) Revocation {
	object, err := s.Login.object(kmip.Name(key.Name), c.Principal)
	if err != nil {
		return Revocation{} // the identity is off
	}
	return Revocation{
		[]string{fmt.Sprintf("take the right to Get Attributes, Encrypt and Decrypt with the key whose Name is %s "+
			"from the certificate of the service", object)},
		[]string{fmt.Sprintf("give the certificate of the service the right back to Get Attributes, Encrypt and "+
			"Decrypt with the key whose Name is %s", object)},
	}
}
