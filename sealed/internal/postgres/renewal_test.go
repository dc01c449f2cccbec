package postgres_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/visage-face/visage/sealed/internal/postgres"
	pgtest "github.com/visage-face/visage/test/postgres"
)

// TestRenewedCertificate renews the certificate of the server under another authority while an engine is open, and the
// file that sslrootcert names after it.
func TestRenewedCertificate(t *testing.T) {
	server := pgtest.StartWith(t, pgtest.Options{TCP: true,
		HBA: "local all all trust\nhost all all 127.0.0.1/32 trust\n"})
	data := strings.TrimSpace(server.Exec(t, "postgres", "SHOW data_directory"))
	roots := filepath.Join(t.TempDir(), "roots.pem")
	renew := func() (certificate []byte) {
		t.Helper()
		certificate, key := selfSigned(t)
		for name, content := range map[string][]byte{"server.crt": certificate, "server.key": key} {
			writeAs(t, filepath.Join(data, name), data, content)
		}
		server.Exec(t, "postgres", "ALTER SYSTEM SET ssl = on")
		server.Restart(t)
		return certificate
	}
	trust := func(certificate []byte) {
		t.Helper()
		if err := os.WriteFile(roots, certificate, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	trust(renew())
	server.Exec(t, "postgres", "CREATE DATABASE tls")
	e := open(t, postgres.Config{Patience: short, URL: fmt.Sprintf(
		"postgres://postgres@127.0.0.1:%d/tls?sslmode=verify-full&sslrootcert=%s", server.Port, roots)})
	recovers(t, e, "a")
	renewed := renew()
	err := write(t, e, "b", 1)
	for range 10 { // the idle connections end first
		if err != nil && strings.Contains(err.Error(), "sslrootcert") {
			break
		}
		err = write(t, e, "b", 1)
	}
	wantOutage(t, err, "cannot be used at the moment")
	trust(renewed)
	recovers(t, e, "c")
}

func selfSigned(t *testing.T) (certificate, private []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject: pkix.Name{CommonName: "database"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
}

// writeAs writes a file that belongs to the owner of a folder.
func writeAs(t *testing.T, path, folder string, content []byte) {
	t.Helper()
	info, err := os.Stat(folder)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	owner := info.Sys().(*syscall.Stat_t)
	if err := os.Chown(path, int(owner.Uid), int(owner.Gid)); err != nil {
		t.Fatal(err)
	}
}
