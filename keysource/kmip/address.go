package kmip

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/visage-face/visage"
)

// Scheme begins the addresses of servers: kmip://HOST[:PORT].
const Scheme = "kmip"

// defaultPort is the port that is registered for KMIP.
const defaultPort = "5696"

// form is the form of the identifier of a key, for messages.
const form = "kmip://{host}/keys/{name} or kmip://{host}/keys/{name}/{unique identifier}"

// The bounds of names and of unique identifiers, in bytes before percent-encoding.
const (
	maxName = 128
	maxID   = 80
)

var hostPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)

// ParseAddress returns the address of a server in its one spelling: host in lower case, no default port, no slash at
// the end.
func ParseAddress(address string) (string, error) {
	key, err := ParseKey(address, "any", "")
	return key.Vault, err
}

// Endpoint returns the host and port of an address of ParseAddress.
func Endpoint(address string) string {
	host := strings.TrimPrefix(address, Scheme+"://")
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	return host + ":" + defaultPort // an IPv6 address is in brackets
}

// ParseKey parses a reference to a key of a server, and returns it in its one spelling. With a name, address is that of
// the server; without, it is the identifier of the key: the address with /keys/NAME or /keys/NAME/VERSION. The name is
// the attribute Name and the version the unique identifier, both in percent-encoding.
func ParseKey(address, name, version string) (visage.KeyRef, error) {
	u, err := url.Parse(address)
	if err != nil || strings.ToLower(u.Scheme) != Scheme || u.Opaque != "" {
		return visage.KeyRef{}, fmt.Errorf("%.200q is not the address of a KMIP server: give %s", address, form)
	}
	if u.User != nil || u.RawQuery != "" || u.ForceQuery || strings.Contains(address, "#") {
		return visage.KeyRef{}, fmt.Errorf("the address of the KMIP server at %.200q has a user, a query or a "+
			"fragment: leave it out", u.Host)
	}
	at, err := parseHost(u)
	if err != nil {
		return visage.KeyRef{}, err
	}
	path := strings.Trim(u.EscapedPath(), "/")
	switch {
	case name != "" && path != "":
		return visage.KeyRef{}, fmt.Errorf("%.200q is behind the address of the KMIP server: leave it out", path)
	case name == "":
		rest, found := strings.CutPrefix(path, "keys/")
		given := version
		name, version, _ = strings.Cut(rest, "/")
		if !found || name == "" || strings.Contains(version, "/") {
			return visage.KeyRef{}, fmt.Errorf("%.300q names no key: give %s", address, form)
		}
		if given != "" && version != "" && given != version {
			return visage.KeyRef{}, fmt.Errorf("the key identifier and keyVersion name different versions")
		}
		if version == "" {
			version = given
		}
	}
	if name, err = spelled(name, maxName); err != nil {
		return visage.KeyRef{}, fmt.Errorf("the name of a KMIP key %w; got %.200q", err, name)
	}
	if version != "" {
		if version, err = spelled(version, maxID); err != nil {
			return visage.KeyRef{}, fmt.Errorf("the unique identifier of a KMIP key %w; got %.200q", err, version)
		}
	}
	return visage.KeyRef{Vault: Scheme + "://" + at, Name: name, Version: version}, nil
}

func parseHost(u *url.URL) (string, error) {
	host, port := strings.ToLower(u.Hostname()), u.Port()
	if ip, err := netip.ParseAddr(host); err == nil {
		host = ip.String()
		if ip.Is6() {
			host = "[" + host + "]"
		}
	} else if !hostPattern.MatchString(host) || strings.Contains(host, "..") {
		return "", fmt.Errorf("%.200q is not the host of a KMIP server: give a name or an IP address", u.Host)
	}
	if port == "" {
		return host, nil
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 {
		return "", fmt.Errorf("%.20q is not a port", port)
	}
	if port = strconv.FormatUint(number, 10); port == defaultPort {
		return host, nil
	}
	return host + ":" + port, nil
}

// spelled returns the one spelling of a name in percent-encoding.
func spelled(s string, most int) (string, error) {
	text, err := url.PathUnescape(s)
	if err != nil || text == "" || text == "." || text == ".." || len(text) > most || !utf8.ValidString(text) ||
		strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return s, fmt.Errorf("has 1 to %d bytes of text, with everything but letters, digits and -._~ in "+
			"percent-encoding", most)
	}
	return escape(text), nil
}

// escape encodes all but letters, digits and -._~.
func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// Name returns the text in a name or a version of ParseKey.
func Name(s string) string {
	text, _ := url.PathUnescape(s) // of ParseKey
	return text
}
