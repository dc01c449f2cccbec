package server_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// writeCertificate writes a certificate of localhost and its key, in two steps as certbot does.
func writeCertificate(t *testing.T, cert, key string, serial int64) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "localhost"},
		DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Duration(serial) * 24 * time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, about, about, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(
		os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600),
	); err != nil {
		t.Fatal(err)
	}
}

// TestRenewedCertificateIsServed replaces the files of the certificate while the server runs; what is no pair leaves
// the one before.
func TestRenewedCertificateIsServed(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writeCertificate(t, cert, key, 90)
	var log servertest.Tail
	s := servertest.Start(t, server.Config{CertFile: cert, KeyFile: key, Domain: "localhost",
		Logger: slog.New(slog.NewTextHandler(&log, nil))})
	address := strings.TrimPrefix(s.Operator().Listen, "https://")
	serial := func() int64 {
		t.Helper()
		// Whom the certificate is from does not matter here: which one it is, does.
		dialer := &tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
		conn, err := dialer.DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	if got := serial(); got != 90 {
		t.Fatalf("the certificate %d is served at the start", got)
	}
	if err := os.WriteFile(cert, []byte("half of it"), 0o600); err != nil {
		t.Fatal(err)
	}
	// The files are looked at only now and then: the log says when half of one was read.
	soon(t, "reading half a certificate", func() bool {
		if got := serial(); got != 90 {
			t.Fatalf("the certificate %d is served while the files are replaced", got)
		}
		return strings.Contains(log.String(), "the certificate was not read again")
	})
	if got := serial(); got != 90 {
		t.Errorf("the certificate %d is served after half of one was read", got)
	}
	writeCertificate(t, cert, key, 180)
	soon(t, "the renewed certificate", func() bool { return serial() == 180 })
}
