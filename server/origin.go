package server

import (
	"net"
	"strconv"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource/azure"
)

// takePublicURL reads PublicURL into Domain and PublicPort, so that one of the two ways to say where clients come
// counts.
func (c *Config) takePublicURL(bad func(setting, format string, args ...any)) {
	if c.PublicURL == "" {
		return
	}
	o, err := visage.ParseOrigin(c.PublicURL)
	port := 0
	if err == nil {
		port, err = strconv.Atoi(o.Port())
	}
	switch {
	case err != nil:
		bad("public-url", "it is a scheme, a host and maybe a port, such as https://faces.example.org: %v", err)
		return
	case o.IsAddress():
		bad("public-url", "%q is an address: resources and vaults have names of their own below a host name", o.Host())
	case o.Scheme() == "http" && !c.PlainHTTP:
		bad("public-url", "the server speaks TLS: begin with https://, or set plain-http too")
	case c.Domain != "" && c.Domain != o.Hostname():
		bad("public-url", "it says %s, and domain says %s: leave domain out", o.Hostname(), c.Domain)
	case c.PublicPort != 0 && c.PublicPort != port:
		bad("public-url", "it says port %d, and public-port says %d: leave public-port out", port, c.PublicPort)
	}
	c.Domain, c.PublicPort = o.Hostname(), port
}

// originAt is where clients reach a listener at addr: at PublicURL, else at the domain, at the port that was given or
// taken.
func (c Config) originAt(addr net.Addr) (visage.Origin, error) {
	if c.PublicURL != "" {
		return visage.ParseOrigin(c.PublicURL)
	}
	scheme := "https"
	if c.PlainHTTP {
		scheme = "http"
	}
	_, port, _ := net.SplitHostPort(addr.String()) // a listener's own address has both parts
	if c.PublicPort != 0 {
		port = strconv.Itoa(c.PublicPort)
	}
	return visage.ParseOrigin(scheme + "://" + net.JoinHostPort(c.Domain, port))
}

// nearby is the origin at which this machine reaches a listener at addr, whatever stands before it for others.
func (c Config) nearby(addr net.Addr) string {
	scheme := "https"
	if c.PlainHTTP {
		scheme = "http"
	}
	host, port, _ := net.SplitHostPort(addr.String()) // a listener's own address has both parts
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	host, _, _ = strings.Cut(host, "%") // of a link-local address; nobody is reached by it
	return scheme + "://" + net.JoinHostPort(host, port)
}

// vaultsOrigin is what the origins of this instance's vaults are below, and what tokens for them are made for.
func (s *Server) vaultsOrigin() visage.Origin { return s.origin.Sub(vaultLabel) }

// vaultAddress is the address of one vault, with a slash at the end.
func (s *Server) vaultAddress(vault string) string { return s.vaultsOrigin().Sub(vault).String() + "/" }

// isVaultHost reports whether a Host header is below that of the vaults, whether or not there is such a vault.
func (s *Server) isVaultHost(host string) bool {
	_, below := s.vaultsOrigin().BelowHost(host)
	return below
}

// isFaceHost reports whether a Host header is that of a Face resource.
func (s *Server) isFaceHost(l *layers, host string) bool {
	label, below := s.origin.BelowHost(host)
	if !below {
		return false
	}
	_, found := l.accounts.LookupHost(label)
	return found
}

// ownVault returns the name of the vault of this instance that key lies in, as it is addressed today.
func (s *Server) ownVault(key visage.KeyRef) (name string, ours bool) {
	o, err := visage.ParseOrigin(key.Vault)
	if err != nil {
		return "", false
	}
	name, ours = s.vaultsOrigin().Below(o)
	return name, ours && !strings.Contains(name, ".")
}

// today returns key as it is addressed now. Resources keep the address that the vault of their key had when they were
// put under it, and that changes with the public address of the instance.
func (s *Server) today(key visage.KeyRef) visage.KeyRef {
	if name, earlier := s.earlierVault(key); earlier {
		key.Vault = strings.TrimSuffix(s.vaultAddress(name), "/")
	}
	return key
}

// isEarlier reports whether key is addressed as a vault of this instance was, or may have been, before.
func (s *Server) isEarlier(key visage.KeyRef) bool {
	_, earlier := s.earlierVault(key)
	return earlier
}

// earlierVault returns the name of the vault of this instance at an address that is not today's. Nothing has to be kept
// to know it: an instance has never spoken to any vaults but Azure's and its own.
func (s *Server) earlierVault(key visage.KeyRef) (name string, earlier bool) {
	o, err := visage.ParseOrigin(key.Vault)
	if err != nil || s.origin.IsZero() || azure.InAzure(key) {
		return "", false
	}
	if _, ours := s.ownVault(key); ours {
		return "", false
	}
	name, domain, _ := strings.Cut(o.Hostname(), ".")
	return name, strings.HasPrefix(domain, vaultLabel+".")
}

// resourceEndpoint is the address of the resource whose host begins with label, with the slash at the end that the
// contract has. Resources without a host of their own are reached at that of all.
func (s *Server) resourceEndpoint(label string) string {
	if label == "" {
		return s.Endpoint() + "/"
	}
	return s.origin.Sub(label).String() + "/"
}
