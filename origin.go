package visage

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// Origin is a scheme, a host and a port (RFC 6454 §4) in normal form: scheme and host are in lower case, names are in
// ASCII and have no final dot, and the scheme's default port is left out. So == compares origins. The zero value is no
// origin.
type Origin struct {
	scheme string // "http" or "https"
	host   string // an IPv6 address has no brackets here
	port   string // empty: the scheme's default
}

// defaultPorts are the ports of addresses that name none, by scheme.
var defaultPorts = map[string]string{"http": "80", "https": "443"}

var (
	hostNamePattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$`)
	numericLabel    = regexp.MustCompile(`(^|\.)(0x[0-9a-f]*|[0-9]+)$`)
)

// maxHostName is the longest name of a host (RFC 1035 §2.3.4, as text).
const maxHostName = 253

// ParseOrigin reads an origin in any spelling: "HTTPS://Faces.Example.:443/" is "https://faces.example". A final slash
// is ignored. A user, a path, a query or a fragment is an error, and so is every scheme but http and https.
func ParseOrigin(text string) (Origin, error) {
	u, err := url.Parse(text)
	if err != nil {
		return Origin{}, fmt.Errorf("%.200q is not a URL", text)
	}
	if u.Path != "" && u.Path != "/" || u.RawPath != "" {
		return Origin{}, fmt.Errorf("%.200q has a path", text)
	}
	return originOf(u)
}

// originOf returns the origin of a URL, whatever its path.
func originOf(u *url.URL) (Origin, error) {
	scheme := strings.ToLower(u.Scheme)
	if defaultPorts[scheme] == "" {
		return Origin{}, fmt.Errorf("the scheme of an address is http or https, not %.20q", u.Scheme)
	}
	if u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.Opaque != "" {
		return Origin{}, fmt.Errorf("the address at %.200q has more than a scheme, a host and a port", u.Host)
	}
	host, err := foldHost(u.Hostname())
	if err != nil {
		return Origin{}, err
	}
	o := Origin{scheme: scheme, host: host}
	if port := u.Port(); port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return Origin{}, fmt.Errorf("%.20q is not a port: it is a number from 1 to 65535", port)
		}
		if port = strconv.FormatUint(n, 10); port != defaultPorts[scheme] {
			o.port = port
		}
	}
	return o, nil
}

// foldHost normalises a host name or an IP address; an IPv6 address is returned without brackets.
func foldHost(host string) (string, error) {
	if ip, err := netip.ParseAddr(host); err == nil && ip.Zone() == "" {
		return ip.Unmap().String(), nil
	}
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	if strings.ContainsFunc(name, func(r rune) bool { return r >= 0x80 }) {
		ascii, err := idna.Lookup.ToASCII(name)
		if err != nil {
			return "", fmt.Errorf("%.200q is not the name of a host", host)
		}
		name = ascii
	}
	if len(name) > maxHostName || !hostNamePattern.MatchString(name) || numericLabel.MatchString(name) {
		return "", fmt.Errorf("%.200q is not the name of a host", host)
	}
	return name, nil
}

// String returns the origin as it is written, without a slash at the end.
func (o Origin) String() string { return o.scheme + "://" + o.Host() }

// IsZero reports whether o is no origin.
func (o Origin) IsZero() bool { return o == Origin{} }

// Scheme returns "http" or "https".
func (o Origin) Scheme() string { return o.scheme }

// Host returns the host and, where it is not the scheme's own, the port, as the Host header has them.
func (o Origin) Host() string {
	host := o.host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if o.port != "" {
		host += ":" + o.port
	}
	return host
}

// Hostname returns the host without a port, and an IPv6 address without brackets.
func (o Origin) Hostname() string { return o.host }

// Port returns the port, also where it is the scheme's own.
func (o Origin) Port() string {
	if o.port == "" {
		return defaultPorts[o.scheme]
	}
	return o.port
}

// IsAddress reports whether the host is an IP address, below which there are no names.
func (o Origin) IsAddress() bool {
	_, err := netip.ParseAddr(o.host)
	return err == nil
}

// Sub returns the origin of a host below o's: label, which may hold dots, stands before the name.
func (o Origin) Sub(label string) Origin {
	o.host = strings.ToLower(label) + "." + o.host
	return o
}

// Below returns the part of other's host name before o's, without the dot between. below is false unless other is a
// subdomain of o at the same scheme and port.
func (o Origin) Below(other Origin) (label string, below bool) {
	if o.scheme != other.scheme || o.port != other.port {
		return "", false
	}
	return o.below(other.host)
}

// BelowHost is Below for a Host header in any spelling. The port is not compared: proxies may name their own, or none.
func (o Origin) BelowHost(header string) (label string, below bool) {
	host, err := hostOf(header)
	if err != nil {
		return "", false
	}
	return o.below(host)
}

func (o Origin) below(host string) (label string, below bool) {
	label, below = strings.CutSuffix(host, "."+o.host)
	return label, below && !o.IsAddress()
}

// HasHost reports whether a Host header in any spelling names o's host. The port is not compared.
func (o Origin) HasHost(header string) bool {
	host, err := hostOf(header)
	return err == nil && host == o.host
}

// hostOf returns the normal form of the host in a Host header.
func hostOf(header string) (string, error) {
	u := url.URL{Host: header}
	if strings.ContainsAny(header, "/@?#") {
		return "", errors.New("not the host of an address")
	}
	return foldHost(u.Hostname())
}
