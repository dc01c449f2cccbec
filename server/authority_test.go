package server_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// within and without are hosts that an authority for authorityNames may and may not certify.
var (
	authorityNames = []string{"faces.example.org", "*.wild.example.net", "192.0.2.7", "2001:db8::1"}
	within         = []string{
		"localhost", "r.localhost", "v.vault.localhost", "127.0.0.1", "::1", "faces.example.org",
		"v.vault.faces.example.org", "a.wild.example.net",
		"192.0.2.7", "2001:db8::1",
	}
	without = []string{"example.org", "login.example.org", "notfaces.example.org", "example.com", "192.0.2.8",
		"8.8.8.8", "2001:db8::2", "com"}
)

// TestAuthorityIsBound checks that an authority signs for its own names, and that clients reject its certificates for
// other names.
func TestAuthorityIsBound(t *testing.T) {
	ca, err := server.NewAuthority(authorityNames...)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.Certificate())
	for _, host := range slices.Concat(within, without) {
		leaf, err := ca.Issue(host)
		if err != nil {
			t.Fatal(err)
		}
		_, err = leaf.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: host})
		if want := slices.Contains(within, host); want != (err == nil) {
			t.Errorf("%s: %v, want good: %t", host, err, want)
		}
		if got, can := byOpenSSL(t, ca, leaf, host); can && got != slices.Contains(within, host) {
			t.Errorf("%s: openssl accepts it: %t", host, got)
		}
	}
}

// byOpenSSL reports whether openssl, if installed, accepts a certificate for a host.
func byOpenSSL(t *testing.T, ca *server.Authority, leaf *tls.Certificate, host string) (good, can bool) {
	t.Helper()
	program, err := exec.LookPath("openssl")
	if err != nil {
		return false, false
	}
	dir := t.TempDir()
	roots, own := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "leaf.pem")
	for path, content := range map[string][]byte{
		roots: ca.Certificate(), own: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Certificate[0]}),
	} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	kind := "-verify_hostname"
	if net.ParseIP(host) != nil {
		kind = "-verify_ip"
	}
	out, err := exec.CommandContext(t.Context(), program, "verify", "-CAfile", roots, "-purpose", "sslserver", kind,
		host, own).CombinedOutput()
	if err != nil && !strings.Contains(string(out), "permitted subtree violation") {
		t.Errorf("openssl verify %s: %s", host, out)
	}
	return err == nil, true
}

// TestEarlierAuthority checks that a store whose authority has no constraints, or those of other names, gets a
// certificate that has them, and that clients with the earlier one continue to work.
func TestEarlierAuthority(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "visage")
	start := func(names ...string) (*servertest.Server, []byte) {
		s := servertest.Start(t, server.Config{Dir: dir, Names: names})
		b, err := os.ReadFile(s.Operator().CAFile)
		if err != nil {
			t.Fatal(err)
		}
		return s, b
	}
	s, first := start()
	stop(t, s)
	s, same := start()
	stop(t, s)
	if !bytes.Equal(first, same) {
		t.Error("the certificate of the authority has changed after a start with the same names")
	}
	fresh, err := server.NewAuthority("localhost")
	if err != nil {
		t.Fatal(err)
	}
	old, err := fresh.Unbound()
	if err != nil {
		t.Fatal(err)
	}
	store, err := server.OpenStore(t.Context(), server.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	err = old.Keep(t.Context(), store)
	if closeErr := store.Close(); err != nil || closeErr != nil {
		t.Fatal(err, closeErr)
	}
	s, bound := start()
	earlier, now := parsed(t, old.Certificate()), parsed(t, bound)
	if len(earlier.PermittedDNSDomains) != 0 {
		t.Fatal("the earlier certificate has constraints: the test proves nothing")
	}
	if !now.PermittedDNSDomainsCritical || len(now.PermittedDNSDomains) == 0 || len(now.PermittedIPRanges) == 0 {
		t.Errorf("constraints of the new certificate: %v %v", now.PermittedDNSDomains, now.PermittedIPRanges)
	}
	if !bytes.Equal(now.RawSubject, earlier.RawSubject) || !bytes.Equal(now.SubjectKeyId, earlier.SubjectKeyId) ||
		!bytes.Equal(now.RawSubjectPublicKeyInfo, earlier.RawSubjectPublicKeyInfo) {
		t.Error("the new certificate has another subject or key")
	}
	for name, trusted := range map[string][]byte{"the earlier": old.Certificate(), "the new": bound} {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(trusted)
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots},
			DisableKeepAlives: true}}
		res, err := client.Get(s.URL + "/healthz")
		if err != nil {
			t.Errorf("with %s certificate: %v", name, err)
			continue
		}
		res.Body.Close()
	}
	stop(t, s)
	s, widened := start("faces.example.org")
	if domains := parsed(t, widened).PermittedDNSDomains; !slices.Contains(domains, "faces.example.org") {
		t.Errorf("after a name was added: %v", domains)
	}
	stop(t, s)
}

func stop(t *testing.T, s *servertest.Server) {
	t.Helper()
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
}

func parsed(t *testing.T, text []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatal("no PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}
