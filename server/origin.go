package server

import (
	"net"
	"strconv"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource/azure"
)

// takePublicURL sets Domain and PublicPort from PublicURL, and refuses values that contradict it.
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
		bad("public-url", "must be a scheme, a host and optionally a port, such as https://faces.example.org: %v", err)
		return
	case o.IsAddress():
		bad("public-url", "must have a host name, because resources and vaults are subdomains; got the address %q",
			o.Host())
	case o.Scheme() == "http" && !c.PlainHTTP:
		bad("public-url", "must begin with https://, unless plain-http is set")
	case c.Domain != "" && c.Domain != o.Hostname():
		bad("public-url", "has the host %s, but domain is %s: remove domain", o.Hostname(), c.Domain)
	case c.PublicPort != 0 && c.PublicPort != port:
		bad("public-url", "has port %d, but public-port is %d: remove public-port", port, c.PublicPort)
	}
	c.Domain, c.PublicPort = o.Hostname(), port
}

// originAt is the origin at which clients reach a listener at addr: PublicURL, else the domain with PublicPort or the
// listener's port.
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

// nearby is the origin at which this machine reaches a listener at addr, without any proxy.
func (c Config) nearby(addr net.Addr) string {
	scheme := "https"
	if c.PlainHTTP {
		scheme = "http"
	}
	host, port, _ := net.SplitHostPort(addr.String()) // a listener's own address has both parts
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	host, _, _ = strings.Cut(host, "%") // of a link-local address
	return scheme + "://" + net.JoinHostPort(host, port)
}

// vaultsOrigin is the parent of the origins of this instance's vaults, and the audience of tokens for them.
func (s *Server) vaultsOrigin() visage.Origin { return s.origin.Sub(vaultLabel) }

// vaultAddress is the address of one vault, with a final slash.
func (s *Server) vaultAddress(vault string) string { return s.vaultsOrigin().Sub(vault).String() + "/" }

// isVaultHost reports whether a Host header is a subdomain of vaultsOrigin, whether or not the vault exists.
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

// ownVault returns the name of this instance's vault that key is in, if it has its present address.
func (s *Server) ownVault(key visage.KeyRef) (name string, ours bool) {
	o, err := visage.ParseOrigin(key.Vault)
	if err != nil {
		return "", false
	}
	name, ours = s.vaultsOrigin().Below(o)
	return name, ours && !strings.Contains(name, ".")
}

// today returns key with its present address. Resources store the address that their key's vault had when the key was
// enabled, and that changes with the public address of the instance.
func (s *Server) today(key visage.KeyRef) visage.KeyRef {
	if name, earlier := s.earlierVault(key); earlier {
		key.Vault = strings.TrimSuffix(s.vaultAddress(name), "/")
	}
	return key
}

// isEarlier reports whether key has a former, or possibly former, address of a vault of this instance.
func (s *Server) isEarlier(key visage.KeyRef) bool {
	_, earlier := s.earlierVault(key)
	return earlier
}

// earlierVault returns the name of this instance's vault at a former address. No record of former addresses is needed:
// over https, an instance uses no other vaults than Azure's and its own.
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

// resourceEndpoint is the address of the resource at the subdomain label, with a final slash as in the contract.
// Resources without a subdomain have the address that all share.
func (s *Server) resourceEndpoint(label string) string {
	if label == "" {
		return s.Endpoint() + "/"
	}
	return s.origin.Sub(label).String() + "/"
}
