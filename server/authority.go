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
	"strings"
	"sync"
	"time"

	"github.com/visage-face/visage/sealed"
)

// The lives of certificates. The authority outlives what clients pin it for; a leaf is made anew long before it ends,
// and at every start.
const (
	authorityLife = 10 * 365 * 24 * time.Hour
	leafLife      = 90 * 24 * time.Hour
	leafRenewal   = 30 * 24 * time.Hour // a leaf with less than this left is replaced
	// one a resource that is asked for by its own host; more than these are made again when needed
	maxLeaves = 1024
)

// authorityRecord is the local certificate authority as it is kept, sealed, in the operator's space.
type authorityRecord struct {
	Certificate []byte // DER
	Key         []byte // PKCS #8
}

var authorities = sealed.NewTable[authorityRecord]("server/authority", 1)

// authority makes the certificates of the listener. Leaf keys live in memory only. It is safe for concurrent use.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	domain      string
	names       []string                // what the main leaf is good for
	known       func(label string) bool // whether something answers at label.domain; label may hold dots

	mu     sync.Mutex // guards the leaves
	leaves map[string]*tls.Certificate
}

// openAuthority reads the authority from the operator's space, making it there when there is none.
func openAuthority(ctx context.Context, store *sealed.Store) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	var rec authorityRecord
	err := store.Space(sealed.Operator).Update(ctx, func(tx sealed.Tx) error {
		var err error
		rec, err = authorities.In().Get(tx, "ca")
		if !errors.Is(err, sealed.ErrNotFound) {
			return err
		}
		if rec, err = newAuthority(); err != nil {
			return err
		}
		return authorities.In().Put(tx, "ca", rec)
	})
	if err != nil {
		return nil, nil, fmt.Errorf("open certificate authority: %w", err)
	}
	cert, err := x509.ParseCertificate(rec.Certificate)
	if err != nil {
		return nil, nil, fmt.Errorf("read certificate of the authority: %w", err)
	}
	key, err := x509.ParsePKCS8PrivateKey(rec.Key)
	if err != nil {
		return nil, nil, fmt.Errorf("read key of the authority: %w", err)
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, nil, fmt.Errorf("key of the authority is a %T", key)
	}
	return cert, ec, nil
}

func newAuthority() (authorityRecord, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return authorityRecord{}, fmt.Errorf("make key of the authority: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return authorityRecord{}, err
	}
	now := time.Now()
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
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return authorityRecord{}, fmt.Errorf("make certificate of the authority: %w", err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return authorityRecord{}, fmt.Errorf("encode key of the authority: %w", err)
	}
	return authorityRecord{Certificate: der, Key: pkcs8}, nil
}

// pem returns the authority's certificate as clients take it.
func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw})
}

// forHello picks, or makes, the certificate for the host a client asks for: a resource's own host gets one of its own,
// because clients do not accept a wildcard right below a top-level name such as localhost.
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
		Subject:      pkix.Name{Organization: []string{"Visage"}, CommonName: names[0]},
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
