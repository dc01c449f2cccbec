package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/visage-face/visage/sealed"
)

// The lifetimes of certificates. The authority's is longer than clients need; leaves are renewed long before they
// expire, and at every start.
const (
	authorityLife = 10 * 365 * 24 * time.Hour
	leafLife      = 90 * 24 * time.Hour
	leafRenewal   = 30 * 24 * time.Hour // a leaf with less than this left is replaced
	// one for each host of a resource; beyond this number they are issued again when needed
	maxLeaves = 1024
)

// authorityRecord is the sealed record of the local certificate authority in the operator's space.
type authorityRecord struct {
	Certificate []byte // DER
	Key         []byte // PKCS #8
}

var authorities = sealed.NewTable[authorityRecord]("server/authority", 1)

// authority issues the certificates of the listener. Leaf keys are in memory only. It is safe for concurrent use.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	domain      string
	names       []string                // the names and addresses of the main leaf
	known       func(label string) bool // whether label.domain is the host of a resource or vault; label may have dots

	mu     sync.Mutex // guards the leaves
	leaves map[string]*tls.Certificate
}

// openAuthority reads the authority from the operator's space, or makes it there. Its certificate is limited to names
// and their subdomains: if it has other limits, because the settings changed or an older build set none, it is issued
// again with the same key and subject, so that clients which trust the earlier one continue to work.
func openAuthority(
	ctx context.Context, store *sealed.Store, names []string,
) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	var cert *x509.Certificate
	var key *ecdsa.PrivateKey
	err := store.Space(sealed.Operator).Update(ctx, func(tx sealed.Tx) error {
		rec, err := authorities.In().Get(tx, "ca")
		made := errors.Is(err, sealed.ErrNotFound)
		if made {
			rec, err = newAuthority(names)
		}
		if err != nil {
			return err
		}
		if cert, key, err = rec.parse(); err != nil {
			return err
		}
		if !made && boundTo(cert, names) {
			return nil
		}
		if !made {
			if rec.Certificate, err = certify(key, cert, names); err != nil {
				return err
			}
			if cert, key, err = rec.parse(); err != nil {
				return err
			}
		}
		return authorities.In().Put(tx, "ca", rec)
	})
	if err != nil {
		return nil, nil, fmt.Errorf("open certificate authority: %w", err)
	}
	return cert, key, nil
}

func (r authorityRecord) parse() (*x509.Certificate, *ecdsa.PrivateKey, error) {
	cert, err := x509.ParseCertificate(r.Certificate)
	if err != nil {
		return nil, nil, fmt.Errorf("read certificate of the authority: %w", err)
	}
	key, err := x509.ParsePKCS8PrivateKey(r.Key)
	if err != nil {
		return nil, nil, fmt.Errorf("read key of the authority: %w", err)
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, nil, fmt.Errorf("key of the authority is a %T", key)
	}
	return cert, ec, nil
}

// newAuthority makes an authority for names.
func newAuthority(names []string) (authorityRecord, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return authorityRecord{}, fmt.Errorf("make key of the authority: %w", err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return authorityRecord{}, fmt.Errorf("encode key of the authority: %w", err)
	}
	der, err := certify(key, nil, names)
	return authorityRecord{Certificate: der, Key: pkcs8}, err
}

// certify makes the authority's certificate for names. It keeps the subject and the key identifier of an earlier
// certificate, by which clients find the signing key.
func certify(key *ecdsa.PrivateKey, before *x509.Certificate, names []string) ([]byte, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	domains, addresses := bounds(names)
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject: pkix.Name{Organization: []string{"Visage"}, CommonName: fmt.Sprintf("Visage local CA %x",
			serial.Bytes()[:4])},
		NotBefore:             now.Add(-time.Hour), // clients' clocks differ
		NotAfter:              now.Add(authorityLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
		// RFC 5280 §4.2.1.10: clients that trust this key accept it for no other host.
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         domains,
		PermittedIPRanges:           addresses,
	}
	if before != nil {
		template.RawSubject, template.SubjectKeyId = before.RawSubject, before.SubjectKeyId
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("make certificate of the authority: %w", err)
	}
	return der, nil
}

// bounds returns the name constraints of an authority for names, some of which may be addresses or begin with "*.": the
// domains with their subdomains, and the addresses. Neither list is ever empty, since an empty one would mean no
// constraint.
func bounds(names []string) (domains []string, addresses []*net.IPNet) {
	for _, n := range append([]string{"localhost", "127.0.0.1", "::1"}, names...) {
		ip := net.ParseIP(n)
		if v4 := ip.To4(); v4 != nil {
			ip = v4
		}
		if ip != nil {
			addresses = append(addresses, &net.IPNet{IP: ip, Mask: net.CIDRMask(len(ip)*8, len(ip)*8)})
			continue
		}
		domains = append(domains, strings.TrimPrefix(n, "*."))
	}
	slices.Sort(domains)
	slices.SortFunc(addresses, func(a, b *net.IPNet) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(domains),
		slices.CompactFunc(addresses, func(a, b *net.IPNet) bool { return a.String() == b.String() })
}

// boundTo reports whether an authority's certificate is limited to exactly these names.
func boundTo(cert *x509.Certificate, names []string) bool {
	domains, addresses := bounds(names)
	same := func(a, b *net.IPNet) bool { return a.String() == b.String() }
	return cert.PermittedDNSDomainsCritical && slices.Equal(cert.PermittedDNSDomains, domains) &&
		slices.EqualFunc(cert.PermittedIPRanges, addresses, same)
}

// pem returns the authority's certificate for clients.
func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw})
}

// forHello returns or issues the certificate for the host that a client names: a resource's host has a certificate of
// its own, because clients do not accept a wildcard directly below a top-level name such as localhost.
func (a *authority) forHello(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	label, found := strings.CutSuffix(name, "."+a.domain)
	if !found || !a.known(label) {
		name = ""
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if leaf := a.leaves[name]; leaf != nil && time.Until(leaf.Leaf.NotAfter) > leafRenewal {
		return leaf, nil
	}
	names := a.names
	if name != "" {
		names = []string{name}
	}
	leaf, err := a.issue(names)
	if err != nil {
		return nil, err
	}
	if a.leaves == nil || len(a.leaves) >= maxLeaves {
		a.leaves = map[string]*tls.Certificate{}
	}
	a.leaves[name] = leaf
	return leaf, nil
}

// issue makes a certificate for names, which may be IP addresses.
func (a *authority) issue(names []string) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key for %s: %w", names[0], err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{Organization: []string{"Visage"}, CommonName: "Visage server"},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(leafLife),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, n)
		}
	}
	// The common name must not be an address: if there are no DNS names, OpenSSL checks it against the permitted
	// domains.
	if len(template.DNSNames) > 0 {
		template.Subject.CommonName = template.DNSNames[0]
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &key.PublicKey, a.key)
	if err != nil {
		return nil, fmt.Errorf("make certificate for %s: %w", names[0], err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make certificate for %s: %w", names[0], err)
	}
	return &tls.Certificate{Certificate: [][]byte{der, a.certificate.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

// newSerial returns a random serial number of 127 bits, within the 20 octets of RFC 5280 §4.1.2.2.
func newSerial() (*big.Int, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("make serial number: %w", err)
	}
	return n.SetBit(n, 126, 1), nil // never short
}
