package server

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
)

// proxies are the addresses of trusted proxies, whose forwarding headers are believed.
type proxies []netip.Prefix

// parseProxies parses addresses and CIDR blocks.
func parseProxies(texts []string) (proxies, error) {
	var all proxies
	for _, text := range texts {
		block, err := netip.ParsePrefix(text)
		if addr, addrErr := netip.ParseAddr(text); addrErr == nil && addr.Zone() == "" {
			addr = addr.Unmap()
			block, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil {
			return nil, fmt.Errorf("must be addresses or CIDR blocks such as 10.0.0.0/8; got %q", text)
		}
		all = append(all, block.Masked())
	}
	return all, nil
}

func (p proxies) trusts(addr netip.Addr) bool {
	for _, block := range p {
		if block.Contains(addr) {
			return true
		}
	}
	return false
}

// before passes requests on with the client address and the host that trusted proxies report. The headers of all other
// clients are ignored.
func (p proxies) before(next http.Handler, origin visage.Origin) http.Handler {
	if len(p) == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil || !p.trusts(peer.Addr().Unmap()) {
			next.ServeHTTP(w, r)
			return
		}
		named := *r // handlers must not change their request
		client, sure := p.client(peer.Addr().Unmap(), r.Header)
		if !sure {
			api.WriteProblem(w, r, &api.Problem{
				Status: http.StatusBadRequest, Code: "InvalidForwardedHeaders",
				Message: "The headers X-Forwarded-For and Forwarded name different clients: the proxy must write one " +
					"of them and remove the other.",
			})
			return
		}
		named.RemoteAddr = netip.AddrPortFrom(client, 0).String()
		// A proxy that passes the client's Host on sends no other header, so none is believed then.
		if host := last(r.Header.Values("X-Forwarded-Host")); host != "" && !ownHost(origin, r.Host) &&
			ownHost(origin, host) {
			named.Host = host
		}
		next.ServeHTTP(w, &named)
	})
}

// ownHost reports whether host is the instance's, or that of one of its resources or vaults.
func ownHost(origin visage.Origin, host string) bool {
	_, below := origin.BelowHost(host)
	return below || origin.HasHost(host)
}

// client returns the client address of a request from a trusted peer: the rightmost address that is not a trusted
// proxy. Each proxy appends the address of its own client, so the addresses further left may be forged. sure is false
// if the two headers for this contradict each other: a proxy writes one of them, and passes on the other from its
// client.
func (p proxies) client(peer netip.Addr, h http.Header) (client netip.Addr, sure bool) {
	var found []netip.Addr
	if hops := list(h.Values("X-Forwarded-For")); len(hops) > 0 {
		found = append(found, p.nearest(peer, hops))
	}
	if hops := list(h.Values("Forwarded")); len(hops) > 0 {
		for i, hop := range hops {
			hops[i] = forwardedFor(hop)
		}
		found = append(found, p.nearest(peer, hops))
	}
	switch {
	case len(found) == 0:
		return peer, true
	case len(found) == 2 && found[0] != found[1]:
		return netip.Addr{}, false
	}
	return found[0], true
}

// nearest walks from peer to the left. It stops at a hop that is not an address, and returns the proxy that reported
// it.
func (p proxies) nearest(peer netip.Addr, hops []string) netip.Addr {
	at := peer
	for i := len(hops) - 1; i >= 0 && p.trusts(at); i-- {
		addr, ok := hopAddress(hops[i])
		if !ok {
			break
		}
		at = addr
	}
	return at
}

// hopAddress parses an address in a header: bare, in brackets, or with a port.
func hopAddress(text string) (netip.Addr, bool) {
	text = strings.Trim(strings.TrimSpace(text), `"`)
	if with, err := netip.ParseAddrPort(text); err == nil {
		return with.Addr().Unmap(), true
	}
	addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"))
	return addr.Unmap(), err == nil && addr.Zone() == ""
}

// forwardedFor returns the parameter "for" of an element of the header Forwarded (RFC 7239 §4); empty when there is
// none.
func forwardedFor(element string) string {
	for pair := range strings.SplitSeq(element, ";") {
		if name, value, _ := strings.Cut(pair, "="); strings.EqualFold(strings.TrimSpace(name), "for") {
			return value
		}
	}
	return ""
}

// list returns the elements of a list header, which may have several lines.
func list(lines []string) []string {
	var all []string
	for _, line := range lines {
		for element := range strings.SplitSeq(line, ",") {
			if element = strings.TrimSpace(element); element != "" {
				all = append(all, element)
			}
		}
	}
	return all
}

// last returns the last element of a list header, which is the nearest proxy's.
func last(lines []string) string {
	all := list(lines)
	if len(all) == 0 {
		return ""
	}
	return all[len(all)-1]
}
