package faceapi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/visage-face/visage"
)

// Limits of a download of an image.
const (
	fetchTime     = 20 * time.Second // from the first name lookup to the last byte
	connectTime   = 5 * time.Second  // for each address
	maxRedirects  = 5
	maxURL        = 4 * kib
	maxAddresses  = 8 // of a host
	maxHeaderSize = 64 * kib
)

// network is the network as a fetcher sees it.
type network struct {
	lookup  func(ctx context.Context, network, host string) ([]netip.Addr, error) // the addresses of a host
	connect func(ctx context.Context, network, address string) (net.Conn, error)
}

// theInternet is the network of this machine.
func theInternet() network {
	return network{net.DefaultResolver.LookupNetIP, (&net.Dialer{Timeout: connectTime}).DialContext}
}

// fetcher downloads images from addresses that callers of the API choose. Callers must not reach through it what only
// this machine can reach. It therefore connects to public addresses only, and to the very address that it checked: a
// name that resolves differently a moment later (DNS rebinding) has no effect. It uses no proxy, keeps no connection
// open, and sends no credentials. It is safe for concurrent use.
type fetcher struct {
	client *http.Client
}

func newFetcher(n network, allowPrivate bool) *fetcher {
	d := &dialer{network: n, allowPrivate: allowPrivate}
	return &fetcher{client: &http.Client{
		Timeout: fetchTime,
		Transport: &http.Transport{
			Proxy:                  nil, // a proxy would resolve the name itself, without our check
			DialContext:            d.dial,
			TLSHandshakeTimeout:    connectTime,
			ResponseHeaderTimeout:  fetchTime,
			MaxResponseHeaderBytes: maxHeaderSize,
			DisableKeepAlives:      true,
			DisableCompression:     true, // images are compressed already, and the limit counts the bytes that arrive
		},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return invalidURL("The address leads through more than %d redirects.", maxRedirects)
			}
			req.Header.Del("Referer") // the earlier address may hold a secret in its query
			return checkURL(req.URL)
		},
	}}
}

// fetch returns the bytes at address. A mistake of the caller or of another server is a refusal: InvalidURL, or
// InvalidImageSize.
func (f *fetcher) fetch(ctx context.Context, address string) ([]byte, error) {
	if len(address) > maxURL {
		return nil, invalidURL("The address is longer than %d characters.", maxURL)
	}
	u, err := url.Parse(address)
	if err != nil {
		return nil, invalidURL("The address cannot be read as a URL.")
	}
	if err := checkURL(u); err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, invalidURL("The address cannot be read as a URL.")
	}
	req.Header.Set("User-Agent", "visage")
	res, err := f.client.Do(req)
	if err != nil {
		return nil, downloadError(ctx, err)
	}
	defer res.Body.Close()
	switch res.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired:
		return nil, undownloaded(
			"its server answered with status %d: it must give the image to anyone, without a sign-in",
			res.StatusCode)
	case http.StatusNotFound, http.StatusGone:
		return nil, undownloaded("its server answered with status %d: there is nothing at the address", res.StatusCode)
	default:
		return nil, undownloaded("its server answered with status %d", res.StatusCode)
	}
	if res.ContentLength > maxImage {
		return nil, imageTooLarge()
	}
	data, err := io.ReadAll(io.LimitReader(res.Body, maxImage+1))
	if err != nil {
		return nil, downloadError(ctx, err)
	}
	switch {
	case len(data) > maxImage:
		return nil, imageTooLarge()
	case len(data) == 0:
		return nil, undownloaded("its server answered with an empty body")
	}
	return data, nil
}

// checkURL refuses addresses that are not plain http or https.
func checkURL(u *url.URL) error {
	switch {
	case u.Scheme == "data":
		return invalidURL("A data URI is not an address: decode it, and send the bytes of the image as %s.", bytesType)
	case u.Scheme != "http" && u.Scheme != "https":
		return invalidURL("The address must begin with http:// or https://.")
	case u.Hostname() == "":
		return invalidURL("The address has no host.")
	case u.User != nil:
		return invalidURL("The address must not hold a user name or password.")
	}
	return nil
}

func invalidURL(format string, args ...any) error {
	return visage.Refuse(visage.Invalid, "InvalidURL", format, args...)
}

// undownloaded is the refusal of an address whose image cannot be downloaded. The reason has no full stop.
func undownloaded(format string, args ...any) error {
	return invalidURL("The image could not be downloaded: %s.", fmt.Sprintf(format, args...))
}

// downloadError returns why a download failed. It repeats no names or addresses, and does not reveal whether an
// internal name resolves, because an attacker would probe for that. The behaviour of a public server is no secret.
func downloadError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("download image: %w", context.Cause(ctx))
	}
	if refusal, ok := errors.AsType[*visage.Refusal](err); ok {
		return refusal
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return undownloaded("its server did not answer in time")
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return undownloaded(
			"the certificate of its server is not valid: it is of another name, has expired, or comes from an " +
				"authority that is not trusted here")
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok || errors.Is(err, http.ErrSchemeMismatch) {
		return undownloaded("its server does not speak TLS at that port; the address may have to begin with http://")
	}
	if _, ok := errors.AsType[tls.AlertError](err); ok {
		return undownloaded("the TLS handshake with its server failed")
	}
	if _, ok := errors.AsType[*net.OpError](err); ok || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return undownloaded("the connection to its server broke off")
	}
	return undownloaded("its server does not answer as a web server does")
}

// dialer connects only to addresses that it has checked.
type dialer struct {
	network
	allowPrivate bool
}

func (d *dialer) dial(ctx context.Context, network, hostPort string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		return nil, fmt.Errorf("split host and port: %w", err)
	}
	// A name that does not exist and one that is not public get the same refusal.
	unreachable := undownloaded(
		"the host name of the address does not resolve to a public address; check how it is spelt",
	)
	if _, err := netip.ParseAddr(host); err == nil {
		unreachable = undownloaded("the address is in a private or reserved network; only public addresses are called")
	}
	addresses, err := d.lookup(ctx, "ip", host)
	if err != nil {
		if dns, ok := errors.AsType[*net.DNSError](err); ok && !dns.IsNotFound && (dns.IsTimeout || dns.IsTemporary) {
			return nil,
				undownloaded("the host name of the address could not be resolved, because no name server answered; " +
					"try again later")
		}
		return nil, unreachable
	}
	tries := 0
	for _, ip := range addresses {
		if !d.allowPrivate && !public(ip) {
			continue
		}
		if tries++; tries > maxAddresses {
			break
		}
		conn, err := d.connect(ctx, network, net.JoinHostPort(ip.Unmap().String(), port))
		if err == nil {
			return conn, nil
		}
		if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() || ctx.Err() != nil {
			unreachable = fmt.Errorf("connect: %w", err)
			continue
		}
		unreachable = undownloaded("no connection to its server could be made at that port")
	}
	return nil, unreachable
}

// special4 are the IPv4 ranges without public hosts, in addition to those that netip knows: the IANA special-purpose
// registry (RFC 6890 and later).
var special4 = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),        // this network; Linux connects to itself
	netip.MustParsePrefix("100.64.0.0/10"),    // carrier-grade NAT, RFC 6598
	netip.MustParsePrefix("168.63.129.16/32"), // the platform address of Azure machines
	netip.MustParsePrefix("192.0.0.0/24"),     // protocol assignments
	netip.MustParsePrefix("192.0.2.0/24"),     // documentation
	netip.MustParsePrefix("192.88.99.0/24"),   // 6to4 relays
	netip.MustParsePrefix("198.18.0.0/15"),    // benchmarks
	netip.MustParsePrefix("198.51.100.0/24"),  // documentation
	netip.MustParsePrefix("203.0.113.0/24"),   // documentation
	netip.MustParsePrefix("240.0.0.0/4"),      // reserved, and broadcast
}

var (
	nat64   = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052: an IPv4 address in the last four bytes
	global6 = netip.MustParsePrefix("2000::/3")     // all assigned global unicast addresses
	// special6 are the ranges inside of global6 that have no public hosts, or that lead through a tunnel to an
	// unchecked IPv4 address.
	special6 = []netip.Prefix{
		netip.MustParsePrefix("2001::/23"),     // protocol assignments, Teredo among them
		netip.MustParsePrefix("2001:db8::/32"), // documentation
		netip.MustParsePrefix("2002::/16"),     // 6to4
		netip.MustParsePrefix("3fff::/20"),     // documentation
	}
)

// public reports whether an address belongs to a host of the public internet.
func public(ip netip.Addr) bool {
	if !ip.IsValid() || ip.Zone() != "" {
		return false
	}
	ip = ip.Unmap()
	if ip.IsUnspecified() || ip.IsLoopback() || ip.IsPrivate() || ip.IsMulticast() || ip.IsLinkLocalUnicast() {
		return false
	}
	if ip.Is4() {
		return !within(ip, special4)
	}
	if nat64.Contains(ip) {
		b := ip.As16()
		return public(netip.AddrFrom4([4]byte(b[12:])))
	}
	return global6.Contains(ip) && !within(ip, special6)
}

func within(ip netip.Addr, ranges []netip.Prefix) bool {
	for _, r := range ranges {
		if r.Contains(ip) {
			return true
		}
	}
	return false
}
