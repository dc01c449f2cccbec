package azure

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/visage-face/visage"
)

// The shapes of names and versions (key vault contract §A1).
var (
	keyName    = regexp.MustCompile(`^[0-9a-zA-Z-]{1,127}$`)
	keyVersion = regexp.MustCompile(`^[0-9a-f]{32}$`)
)

// ParseKey parses a reference to a key, in any spelling. With a name, address is that of the vault, with or without a
// final slash. Without a name, address is the identifier of the key, https://{vault}/keys/{name} or
// https://{vault}/keys/{name}/{version}; a user, query, fragment, escape or further segment is an error, and so is
// another version beside it. Open decides whether the vault may be used.
func ParseKey(address, name, version string) (visage.KeyRef, error) {
	if name != "" {
		return newKey(address, name, version)
	}
	key, err := parseKeyID(address)
	if err == nil && version != "" && !strings.EqualFold(version, key.Version) {
		return visage.KeyRef{}, errors.New("the key identifier and keyVersion name different versions")
	}
	return key, err
}

func newKey(vault, name, version string) (visage.KeyRef, error) {
	u, err := url.Parse(vault)
	if err != nil {
		return visage.KeyRef{}, fmt.Errorf("vault address %.200q is not a URL", vault)
	}
	if u.Path != "" && u.Path != "/" {
		return visage.KeyRef{}, fmt.Errorf("vault address %.200q has a path", vault)
	}
	return keyIn(u, name, version)
}

func parseKeyID(id string) (visage.KeyRef, error) {
	u, err := url.Parse(id)
	if err != nil {
		return visage.KeyRef{}, fmt.Errorf("key identifier %.300q is not a URL", id)
	}
	parts := strings.Split(strings.TrimSuffix(u.Path, "/"), "/")
	if len(parts) < 3 || len(parts) > 4 || parts[0] != "" || parts[1] != "keys" || len(parts) == 4 && parts[3] == "" {
		return visage.KeyRef{}, fmt.Errorf("key identifier %.300q is not https://{vault}/keys/{name}/{version}", id)
	}
	return keyIn(u, parts[2], strings.Join(parts[3:], ""))
}

// keyIn returns the key in the vault at the origin of u; the caller has parsed the path.
func keyIn(u *url.URL, name, version string) (visage.KeyRef, error) {
	if strings.ToLower(u.Scheme) != "https" {
		return visage.KeyRef{}, fmt.Errorf("the address of a vault begins with https://, not with %.20q", u.Scheme)
	}
	if u.RawPath != "" {
		return visage.KeyRef{}, fmt.Errorf("the address of a key in vault %.200q has more than a host and a path",
			u.Host)
	}
	origin := *u
	origin.Path = ""
	vault, err := visage.ParseOrigin(origin.String())
	if err != nil {
		return visage.KeyRef{}, fmt.Errorf("%.200q is not the address of a vault: %w", u.Host, err)
	}
	version = strings.ToLower(version)
	switch {
	case !keyName.MatchString(name):
		return visage.KeyRef{}, fmt.Errorf("a key name has 1 to 127 letters, digits and hyphens; got %.200q", name)
	case version != "" && !keyVersion.MatchString(version):
		return visage.KeyRef{}, fmt.Errorf("a key version has 32 hexadecimal digits; got %.200q", version)
	}
	return visage.KeyRef{Vault: vault.String(), Name: name, Version: version}, nil
}
