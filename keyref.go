package visage

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// KeyRef names a customer's key: the store it is in, its name there, and maybe one of its versions. Every store has its
// own syntax of names and versions; Check holds the rules that are common to all.
type KeyRef struct {
	// Vault is the address of the store, in the one spelling that the store has for it. Its scheme says which kind of
	// store it is: "https://v1.vault.azure.net", with no slash at the end.
	Vault   string
	Name    string
	Version string // empty: the newest, and every newer one from then on
}

// PrincipalID identifies the principal that uses a key: the object id of a managed identity in its tenant. Empty: none.
type PrincipalID string

// Bounds of a reference, in bytes. The longest names are the attributes of PKCS#11 in percent-encoding.
const (
	maxVaultAddress = 1024
	maxKeyName      = 512
	maxKeyVersion   = 256
)

var (
	schemePattern = regexp.MustCompile(`^[a-z][a-z0-9+.-]*:`) // RFC 3986 §3.1, in lower case
	addressText   = regexp.MustCompile(`^[!-~]+$`)
	// characters that may stand in one segment of a URI (RFC 3986 §3.3); stores encode others in percent
	segmentText = regexp.MustCompile(`^[A-Za-z0-9._~!$&'()*+,;=:@%-]+$`)
)

// Scheme returns the kind of the key's store: "https" for vaults that speak Azure Key Vault's protocol.
func (k KeyRef) Scheme() string {
	scheme, _, _ := strings.Cut(k.Vault, ":")
	return scheme
}

// Check refuses references that are invalid for every store: a name that is not one segment of a URI, and an address
// with a user or a password, because references are stored, logged and shown.
func (k KeyRef) Check() error {
	u, err := url.Parse(k.Vault)
	switch {
	case err != nil, len(k.Vault) > maxVaultAddress, !schemePattern.MatchString(k.Vault),
		!addressText.MatchString(k.Vault):
		return fmt.Errorf("the address of a key store begins with a scheme, such as https:, and has at most %d "+
			"visible ASCII characters; got %.200q", maxVaultAddress, k.Vault)
	case u.User != nil:
		return fmt.Errorf("the address of the key store at %.200q names a user: leave it out", u.Host)
	case strings.Contains(k.Vault, "#"):
		return fmt.Errorf("the address of the key store at %.200q has a fragment: leave it out", u.Host)
	case len(k.Name) > maxKeyName || !segmentText.MatchString(k.Name) || k.Name == "." || k.Name == "..":
		return fmt.Errorf("a key name has 1 to %d characters of one segment of a URI; got %.200q", maxKeyName, k.Name)
	case k.Version != "" && (len(k.Version) > maxKeyVersion || !segmentText.MatchString(k.Version)):
		return fmt.Errorf("a key version has at most %d characters of one segment of a URI; got %.200q",
			maxKeyVersion, k.Version)
	}
	return nil
}

// String returns the reference as it is logged and shown: VAULT/keys/NAME and, if there is one, /VERSION.
func (k KeyRef) String() string {
	if k.Version == "" {
		return k.Unversioned()
	}
	return k.below(k.Name + "/" + k.Version)
}

// Unversioned returns the reference without its version. It is the URI under which the key is stored in key bundles:
// every source of a customer's key uses it as keysource.Ref.URI.
func (k KeyRef) Unversioned() string { return k.below(k.Name) }

// below writes a name below the address of the store, before the query that an address may have.
func (k KeyRef) below(name string) string {
	address, query, found := strings.Cut(k.Vault, "?")
	if found {
		query = "?" + query
	}
	return address + "/keys/" + name + query
}

// SameKey reports whether two references name the same key of the same store, in whatever version. Vaults that are
// reached over https do not distinguish upper from lower case; all other stores do.
func (k KeyRef) SameKey(other KeyRef) bool {
	if k.Scheme() == "https" {
		return strings.EqualFold(k.Vault, other.Vault) && strings.EqualFold(k.Name, other.Name)
	}
	return k.Vault == other.Vault && k.Name == other.Name
}
