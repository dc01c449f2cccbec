package hashivault

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/visage-face/visage"
)

// Scheme begins the addresses of transit engines: hashivault://HOST[:PORT]/MOUNT[?namespace=NAMESPACE].
const Scheme = "hashivault"

// defaultPort is the port of servers whose address has none, as in their own documentation.
const defaultPort = "8200"

// form is the form of the identifier of a key, for messages.
const form = "hashivault://{host}/{mount}/keys/{name} or hashivault://{host}/{mount}/keys/{name}/{version}"

var (
	hostPattern    = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)
	segmentPattern = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_.-]{0,126}[A-Za-z0-9_])?$`)
	versionPattern = regexp.MustCompile(`^[1-9][0-9]{0,8}$`)
)

// place is where a key is: the parsed form of KeyRef.Vault.
type place struct {
	host      string // with its port, if that is not the default
	mount     string // the path of the transit engine
	namespace string // empty: the root namespace
}

// String returns the address in its one spelling.
func (p place) String() string {
	address := Scheme + "://" + p.host + "/" + p.mount
	if p.namespace != "" {
		address += "?namespace=" + p.namespace
	}
	return address
}

// base is the address of the server for HTTP.
func (p place) base() string {
	if _, _, err := net.SplitHostPort(p.host); err == nil {
		return "https://" + p.host
	}
	return "https://" + p.host + ":" + defaultPort
}

// Endpoint returns the host and port of the server of an engine, by the engine's address in its one spelling.
func Endpoint(address string) string {
	at, err := placeOf(visage.KeyRef{Vault: address, Name: "any"})
	if err != nil {
		return ""
	}
	return strings.TrimPrefix(at.base(), "https://")
}

// ParseKey parses a reference to a key of a transit engine, and returns it in its one spelling: host in lower case, no
// default port, no slash at the end. With a name, address is that of the engine; without, it is the identifier of the
// key: the address with /keys/NAME or /keys/NAME/VERSION before the namespace. A version is a number from 1. A user, a
// fragment, an escape, and a query other than the namespace are errors.
func ParseKey(address, name, version string) (visage.KeyRef, error) {
	u, err := url.Parse(address)
	switch {
	case err != nil || strings.ToLower(u.Scheme) != Scheme || u.Opaque != "":
		return visage.KeyRef{}, fmt.Errorf("%.200q is not the address of a transit engine: give %s", address, form)
	case u.User != nil:
		return visage.KeyRef{}, fmt.Errorf("the address of the transit engine at %.200q has a user; leave it out",
			u.Host)
	case u.Fragment != "" || strings.Contains(address, "#"):
		return visage.KeyRef{}, fmt.Errorf("the address of the transit engine at %.200q has a fragment; leave it out",
			u.Host)
	case u.RawPath != "":
		return visage.KeyRef{}, fmt.Errorf("the address of the transit engine at %.200q has an escaped character; "+
			"write it out", u.Host)
	}
	var at place
	if at.host, err = parseHost(u); err != nil {
		return visage.KeyRef{}, err
	}
	if at.namespace, err = parseNamespace(u); err != nil {
		return visage.KeyRef{}, err
	}
	segments := strings.Split(strings.Trim(u.Path, "/"), "/")
	if name == "" {
		given := version
		if segments, name, version, err = splitKey(segments); err != nil {
			return visage.KeyRef{}, fmt.Errorf("%.300q %w: give %s", address, err, form)
		}
		if given != "" && given != version {
			return visage.KeyRef{}, errors.New("the key identifier and keyVersion name different versions")
		}
	}
	if err := checkPath("the mount of a transit engine", segments); err != nil {
		return visage.KeyRef{}, err
	}
	at.mount = strings.Join(segments, "/")
	switch {
	case !segmentPattern.MatchString(name):
		return visage.KeyRef{}, fmt.Errorf("the name of a transit key has 1 to 128 letters, digits, hyphens, dots and "+
			"underscores, and begins and ends with a letter, digit or underscore; got %.200q", name)
	case name == "keys":
		return visage.KeyRef{}, errors.New("a transit key of the name keys cannot be used: its identifier would be " +
			"ambiguous")
	case version != "" && !versionPattern.MatchString(version):
		return visage.KeyRef{}, fmt.Errorf("the version of a transit key is a number from 1; got %.200q", version)
	}
	return visage.KeyRef{Vault: at.String(), Name: name, Version: version}, nil
}

// splitKey takes the name and the version of a key off the end of a path.
func splitKey(segments []string) (mount []string, name, version string, err error) {
	n := len(segments)
	switch {
	case n >= 3 && segments[n-2] == "keys":
		return segments[:n-2], segments[n-1], "", nil
	case n >= 4 && segments[n-3] == "keys":
		return segments[:n-3], segments[n-2], segments[n-1], nil
	}
	return nil, "", "", errors.New("names no key")
}

func parseHost(u *url.URL) (string, error) {
	host, port := strings.ToLower(u.Hostname()), u.Port()
	if ip, err := netip.ParseAddr(host); err == nil {
		host = ip.String()
	} else if !hostPattern.MatchString(host) || strings.Contains(host, "..") {
		return "", fmt.Errorf("%.200q is not the host of a transit engine: give a name or an IP address", u.Host)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if port != "" && (err != nil || number == 0) {
		return "", fmt.Errorf("%.20q is not a port", port)
	}
	if port != "" {
		port = strconv.FormatUint(number, 10)
	}
	if port == "" || port == defaultPort {
		if strings.Contains(host, ":") {
			return "[" + host + "]", nil
		}
		return host, nil
	}
	return net.JoinHostPort(host, port), nil
}

func parseNamespace(u *url.URL) (string, error) {
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil || u.ForceQuery || len(query) > 1 || len(query) == 1 && len(query["namespace"]) != 1 {
		return "", fmt.Errorf("the address of the transit engine at %.200q has a query that is not ?namespace=NAME",
			u.Host)
	}
	namespace := strings.Trim(query.Get("namespace"), "/")
	if namespace == "" {
		if len(query) > 0 {
			return "", fmt.Errorf("the address of the transit engine at %.200q has an empty namespace; leave it out",
				u.Host)
		}
		return "", nil
	}
	if namespace == "root" {
		return "", fmt.Errorf("the address of the transit engine at %.200q names the root namespace; leave it out",
			u.Host)
	}
	return namespace, checkPath("a namespace", strings.Split(namespace, "/"))
}

// checkPath refuses paths that servers read in more than one way.
func checkPath(what string, segments []string) error {
	if len(segments) > 8 {
		return fmt.Errorf("%s has at most 8 segments; got %d", what, len(segments))
	}
	for _, s := range segments {
		if !segmentPattern.MatchString(s) {
			return fmt.Errorf("a segment of %s has 1 to 128 letters, digits, hyphens, dots and underscores, and "+
				"begins and ends with a letter, digit or underscore; got %.200q", what, s)
		}
	}
	return nil
}

// placeOf parses the address of a reference that ParseKey returned.
func placeOf(key visage.KeyRef) (place, error) {
	parsed, err := ParseKey(key.Vault, key.Name, key.Version)
	if err != nil {
		return place{}, err
	}
	if parsed != key {
		return place{}, fmt.Errorf("%s is not in its one spelling, which is %s", key, parsed)
	}
	rest := strings.TrimPrefix(key.Vault, Scheme+"://")
	rest, namespace, _ := strings.Cut(rest, "?namespace=")
	host, mount, _ := strings.Cut(rest, "/")
	return place{host, mount, namespace}, nil
}
