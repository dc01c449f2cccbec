// Package peer proves replicas of one instance to each other: an authority of the instance issues each a certificate
// with its name, and both sides of every connection between them check the other's.
//
// The authority is not the one of the listener: nobody outside of the instance trusts it, and no certificate of the
// listener opens a connection here. Anyone who has its key can be any replica: it is kept in the sealed store alone
// (Authority.Export), so that a process which can open the instance, and no other, is a replica of it.
package peer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// Instance identifies the instance that replicas belong to.
type Instance [16]byte

const (
	// authorityLife is longer than a store is likely to live without a restart of all replicas.
	authorityLife = 10 * 365 * 24 * time.Hour
	// Life is how long a certificate of a replica is valid. It is in memory only, and renewed at half of its life: one
	// that a copy of a process's memory shows is of no use the day after.
	Life = 24 * time.Hour
	skew = time.Hour // clocks differ
)

// Authority issues certificates to the replicas of an instance. It is safe for concurrent use.
type Authority struct {
	instance    Instance
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pool        *x509.CertPool
}

// NewAuthority makes the authority of an instance.
func NewAuthority(instance Instance) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key of the replicas' authority: %w", err)
	}
	return certify(instance, key)
}

// certify makes an authority with a key.
func certify(instance Instance, key *ecdsa.PrivateKey) (*Authority, error) {
	now := time.Now()
	template := &x509.Certificate{ // CreateCertificate makes the serial number
		Subject:               pkix.Name{Organization: []string{"Visage"}, CommonName: "Visage replicas"},
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(authorityLife),
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
		// RFC 5280 §4.2.1.10: it can name replicas of this instance and nothing else.
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         []string{domain(instance)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("make certificate of the replicas' authority: %w", err)
	}
	return newAuthority(instance, der, key)
}

func newAuthority(instance Instance, der []byte, key *ecdsa.PrivateKey) (*Authority, error) {
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read certificate of the replicas' authority: %w", err)
	}
	a := &Authority{instance: instance, certificate: certificate, key: key, pool: x509.NewCertPool()}
	a.pool.AddCert(certificate)
	return a, nil
}

// Export returns the certificate (DER) and the key (PKCS #8) of an authority, for OpenAuthority. The key is secret.
func (a *Authority) Export() (certificate, key []byte, err error) {
	key, err = x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		return nil, nil, fmt.Errorf("encode key of the replicas' authority: %w", err)
	}
	return a.certificate.Raw, key, nil
}

// OpenAuthority returns the authority that Export has written.
func OpenAuthority(certificate, key []byte) (*Authority, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("read key of the replicas' authority: %w", err)
	}
	ec, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("the key of the replicas' authority is a %T", parsed)
	}
	a, err := newAuthority(Instance{}, certificate, ec)
	if err != nil {
		return nil, err
	}
	domains := a.certificate.PermittedDNSDomains
	if len(domains) == 1 {
		name, _ := strings.CutSuffix(domains[0], "."+topDomain)
		var id []byte
		if id, err = hex.DecodeString(name); err == nil {
			ok = copy(a.instance[:], id) == len(a.instance) && domain(a.instance) == domains[0]
		}
	}
	if len(domains) != 1 || err != nil || !ok || !ec.PublicKey.Equal(a.certificate.PublicKey) {
		return nil, errors.New("the replicas' authority: its certificate is none of an instance, or has another key")
	}
	return a, nil
}

// Aged reports whether the authority's certificate ends within a year, so that it is to be renewed.
func (a *Authority) Aged() bool { return time.Until(a.certificate.NotAfter) < authorityLife/10 }

// Renew returns the authority with a new certificate for the same key: replicas that know the earlier certificate and
// those that know the new one accept each other, until the earlier one ends.
func (a *Authority) Renew() (*Authority, error) { return certify(a.instance, a.key) }

// Instance returns the instance whose replicas the authority names.
func (a *Authority) Instance() Instance { return a.instance }

// topDomain is under a name that is never in the DNS (RFC 9476: .alt), so that no name of a replica is that of a host.
const topDomain = "replica.visage.alt"

func domain(instance Instance) string { return hex.EncodeToString(instance[:]) + "." + topDomain }

// Host returns the host name of a replica, as its certificate has it. It is not resolved: whoever dials knows where the
// replica listens.
func (i Instance) Host(node string) string { return node + "." + domain(i) }

// ErrName says that a name is none of a replica.
var ErrName = errors.New("a replica's name has 1 to 63 of the characters a-z, 0-9 and -, and neither begins nor ends " +
	"with -")

// CheckName reports whether a name can be a replica's: a label of a host name.
func CheckName(node string) error {
	ok := len(node) >= 1 && len(node) <= 63 && node[0] != '-' && node[len(node)-1] != '-'
	for _, c := range []byte(node) {
		ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-')
	}
	if !ok {
		return fmt.Errorf("%w: %q", ErrName, node)
	}
	return nil
}

// issue makes a certificate for a replica, valid from now on.
func (a *Authority) issue(node string, life time.Duration) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key of replica %s: %w", node, err)
	}
	now := time.Now()
	template := &x509.Certificate{ // CreateCertificate makes the serial number
		Subject:     pkix.Name{Organization: []string{"Visage"}, CommonName: node},
		NotBefore:   now.Add(-skew),
		NotAfter:    now.Add(life),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:    []string{a.instance.Host(node)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &key.PublicKey, a.key)
	if err != nil {
		return nil, fmt.Errorf("make certificate of replica %s: %w", node, err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make certificate of replica %s: %w", node, err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

// Identity is a replica that can prove itself. It is safe for concurrent use.
type Identity struct {
	authority *Authority
	node      string
	life      time.Duration

	mu   sync.Mutex // guards leaf
	leaf *tls.Certificate
}

// Identity returns the identity of a replica whose certificates live that long; 0 means Life.
func (a *Authority) Identity(node string, life time.Duration) (*Identity, error) {
	if err := CheckName(node); err != nil {
		return nil, err
	}
	if life == 0 {
		life = Life
	}
	return &Identity{authority: a, node: node, life: life}, nil
}

// Node returns the name of the replica.
func (i *Identity) Node() string { return i.node }

// Instance returns the instance of the replica.
func (i *Identity) Instance() Instance { return i.authority.instance }

// Reuse returns how long a connection may take further requests, so that none outlives the certificates that it was
// made with: they had half of their lives left.
func (i *Identity) Reuse() time.Duration { return i.life / 4 }

// certificate returns a certificate with at least half of its life left.
func (i *Identity) certificate() (*tls.Certificate, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.leaf != nil && time.Until(i.leaf.Leaf.NotAfter) > i.life/2 {
		return i.leaf, nil
	}
	leaf, err := i.authority.issue(i.node, i.life)
	if err != nil {
		return nil, err
	}
	i.leaf = leaf
	return leaf, nil
}

// ServerTLS returns the configuration of a listener for replicas: it asks for their certificates, and takes no others.
// Peer tells which replica a connection is from.
func (i *Identity) ServerTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{"h2"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return i.certificate()
		},
		ClientAuth: tls.RequireAndVerifyClientCert,
		ClientCAs:  i.authority.pool,
		// A resumed session would show the certificate of the first handshake, which may have expired.
		SessionTicketsDisabled: true,
	}
}

// ClientTLS returns the configuration for connections to replicas. The server name, which whoever dials sets to what
// Host returns, says to which.
func (i *Identity) ClientTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{"h2"},
		RootCAs:    i.authority.pool,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return i.certificate()
		},
	}
}

// ErrPeer says that a connection is not, or not any more, from a replica of this instance.
var ErrPeer = errors.New("not a replica of this instance")

// Peer returns the replica at the other end of a connection. It is called for every request: a connection can outlive
// the certificate that it was made with. The error wraps ErrPeer.
func (i *Identity) Peer(s *tls.ConnectionState) (node string, err error) {
	if s == nil || len(s.VerifiedChains) == 0 {
		return "", fmt.Errorf("%w: no verified certificate", ErrPeer)
	}
	leaf := s.PeerCertificates[0]
	if time.Now().After(leaf.NotAfter) {
		return "", fmt.Errorf("%w: its certificate expired at %s", ErrPeer, leaf.NotAfter.Format(time.RFC3339))
	}
	if len(leaf.DNSNames) != 1 {
		return "", fmt.Errorf("%w: its certificate has %d names", ErrPeer, len(leaf.DNSNames))
	}
	if node, err = i.authority.instance.Node(leaf.DNSNames[0]); err != nil {
		return "", fmt.Errorf("%w: %w", ErrPeer, err)
	}
	return node, nil
}

// Node returns the replica whose host name Host returned; the error wraps ErrName.
func (i Instance) Node(host string) (string, error) {
	node, found := strings.CutSuffix(host, "."+domain(i))
	if !found {
		return "", fmt.Errorf("%w: %q is not of this instance", ErrName, host)
	}
	return node, CheckName(node)
}
