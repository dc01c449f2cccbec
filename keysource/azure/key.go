package azure

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"unicode"

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
		return visage.KeyRef{}, fmt.Errorf("vault address %.200q has a path; give https://{vault} and the name of the "+
			"key apart, or the whole identifier of the key and no name", vault)
	}
	return keyIn(u, name, version)
}

func parseKeyID(id string) (visage.KeyRef, error) {
	u, err := url.Parse(id)
	switch {
	case id == "":
		return visage.KeyRef{}, fmt.Errorf("there is no key identifier; give %s", form)
	case strings.ContainsFunc(id, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }):
		return visage.KeyRef{}, fmt.Errorf("key identifier %.300q has a space or a line break; leave it out", id)
	case err != nil:
		return visage.KeyRef{}, fmt.Errorf("key identifier %.300q is not a URL; give %s", id, form)
	}
	parts := strings.Split(strings.TrimSuffix(u.Path, "/"), "/")
	if len(parts) > 1 && parts[0] == "" && parts[1] != "keys" {
		if err := refuseCollection(id, parts[1]); err != nil {
			return visage.KeyRef{}, err
		}
	}
	switch {
	case u.Path == "" && u.Host != "", u.Path == "/":
		return visage.KeyRef{}, fmt.Errorf("%.300q is the address of a vault without a key; give the name of the key "+
			"too, as in %s", id, form)
	case len(parts) > 4 && parts[0] == "" && parts[1] == "keys":
		return visage.KeyRef{}, fmt.Errorf("key identifier %.300q goes on behind the version; give %s", id, form)
	case len(parts) < 3 || len(parts) > 4 || parts[0] != "" || parts[1] != "keys" || len(parts) == 4 && parts[3] == "":
		return visage.KeyRef{}, fmt.Errorf("key identifier %.300q does not have the form %s", id, form)
	}
	return keyIn(u, parts[2], strings.Join(parts[3:], ""))
}

// form is the form of a key identifier in error messages.
const form = "https://{vault}/keys/{name} or https://{vault}/keys/{name}/{version}"

// refuseCollection refuses the identifier of something in a vault that is not a key, or whose path is misspelled; nil:
// the collection is unknown.
func refuseCollection(id, collection string) error {
	switch strings.ToLower(collection) {
	case "keys":
		return fmt.Errorf("key identifier %.300q has /%s/; write /keys/ in lower case", id, collection)
	case "deletedkeys":
		return fmt.Errorf("%.300q is the identifier of a deleted key; recover the key, and give %s", id, form)
	case "secrets":
		return fmt.Errorf("%.300q is the identifier of a secret, which wraps nothing; give that of a key, %s", id, form)
	case "certificates":
		return fmt.Errorf("%.300q is the identifier of a certificate; give that of a key, %s", id, form)
	}
	return nil
}

// keyIn returns the key in the vault at the origin of u; the caller has parsed the path.
func keyIn(u *url.URL, name, version string) (visage.KeyRef, error) {
	if strings.ToLower(u.Scheme) != "https" {
		return visage.KeyRef{}, fmt.Errorf("the address of a vault begins with https://, not with %.20q", u.Scheme)
	}
	switch {
	case u.User != nil:
		return visage.KeyRef{}, fmt.Errorf("the address of a key in vault %.200q has a user; leave it out", u.Host)
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return visage.KeyRef{}, fmt.Errorf("the address of a key in vault %.200q has a query or a fragment; leave out "+
			"everything from ? or # on", u.Host)
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
