package visage

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// KeyRef names a key in a vault, as its owner does.
type KeyRef struct {
	Vault   string // the vault's address as Origin.String writes it
	Name    string
	Version string // empty: the newest, and every newer one from then on
}

// PrincipalID identifies who asks a vault: the object id of a managed identity in its tenant. Empty: nobody.
type PrincipalID string

// The shapes of names and versions (key vault contract §A1).
var (
	keyNamePattern    = regexp.MustCompile(`^[0-9a-zA-Z-]{1,127}$`)
	keyVersionPattern = regexp.MustCompile(`^[0-9a-f]{32}$`)
)

// NewKeyRef makes a reference of the three parts in which the management plane has it. vault may end in a slash.
func NewKeyRef(vault, name, version string) (KeyRef, error) {
	u, err := url.Parse(vault)
	if err != nil {
		return KeyRef{}, fmt.Errorf("vault address %.200q is not a URL", vault)
	}
	if u.Path != "" && u.Path != "/" {
		return KeyRef{}, fmt.Errorf("vault address %.200q has a path", vault)
	}
	return newKeyRef(u, name, version)
}

// ParseKeyRef reads a key identifier, https://{vault}/keys/{name} or https://{vault}/keys/{name}/{version}, with or
// without a slash at its end, and nothing that merely looks like one: no user, query, fragment, escape or further
// segment.
func ParseKeyRef(id string) (KeyRef, error) {
	u, err := url.Parse(id)
	if err != nil {
		return KeyRef{}, fmt.Errorf("key identifier %.300q is not a URL", id)
	}
	parts := strings.Split(strings.TrimSuffix(u.Path, "/"), "/")
	if len(parts) < 3 || len(parts) > 4 || parts[0] != "" || parts[1] != "keys" || len(parts) == 4 && parts[3] == "" {
		return KeyRef{}, fmt.Errorf("key identifier %.300q is not https://{vault}/keys/{name}/{version}", id)
	}
	return newKeyRef(u, parts[2], strings.Join(parts[3:], ""))
}

func newKeyRef(u *url.URL, name, version string) (KeyRef, error) {
	if strings.ToLower(u.Scheme) != "https" {
		return KeyRef{}, fmt.Errorf("a vault is spoken to over https, not %.20q", u.Scheme)
	}
	if u.RawPath != "" {
		return KeyRef{}, fmt.Errorf("the address of a key in vault %.200q has more than a host and a path", u.Host)
	}
	vault, err := originOf(u)
	if err != nil {
		return KeyRef{}, fmt.Errorf("%.200q is not the address of a vault: %w", u.Host, err)
	}
	version = strings.ToLower(version)
	switch {
	case !keyNamePattern.MatchString(name):
		return KeyRef{}, fmt.Errorf("key name %.200q is not of 1 to 127 letters, digits and hyphens", name)
	case version != "" && !keyVersionPattern.MatchString(version):
		return KeyRef{}, fmt.Errorf("key version %.200q is not of 32 hexadecimal digits", version)
	}
	return KeyRef{Vault: vault.String(), Name: name, Version: version}, nil
}

// String returns the key identifier, with the version if there is one.
func (k KeyRef) String() string {
	if k.Version == "" {
		return k.Unversioned()
	}
	return k.Unversioned() + "/" + k.Version
}

// Unversioned returns the identifier of the key without a version.
func (k KeyRef) Unversioned() string { return k.Vault + "/keys/" + k.Name }

// SameKey reports whether two references name the same key of the same vault, in whatever version. Vaults do not tell
// upper from lower case.
func (k KeyRef) SameKey(other KeyRef) bool {
	return strings.EqualFold(k.Vault, other.Vault) && strings.EqualFold(k.Name, other.Name)
}
