// Command gcpkms serves Google Cloud KMS in memory and on this machine alone, over its published service definition:
// the requests and answers are the messages of Google's own client. It really encrypts, keeps versions, states and IAM
// policies, and gives tokens for assertions whose signatures it verifies. It prints one line of JSON when it answers,
// and ends when its standard input does. With the argument official, it is Google's client instead: see official.go.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"time"
)

// ready is the line that tells where the server is.
type ready struct {
	Address string `json:"address"` // host and port
	CA      string `json:"ca"`      // PEM
	Root    string `json:"root"`    // a token that may do everything
}

func main() {
	start := run
	if len(os.Args) > 1 && os.Args[1] == "official" {
		start = official
	}
	if err := start(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(context.Context) error {
	c := newCloud()
	listener, ca, err := listen()
	if err != nil {
		return err
	}
	server := &http.Server{Handler: c}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	if err := json.NewEncoder(os.Stdout).Encode(ready{listener.Addr().String(), ca, c.root}); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); close(ended) }()
	select {
	case err := <-failed:
		return err
	case <-ended:
		return server.Close()
	}
}

// listen opens a port of the loopback interface, with a certificate that signs itself.
func listen() (net.Listener, string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, "", err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, DNSNames: []string{"localhost", "*.googleapis.com"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, "", fmt.Errorf("make the certificate: %w", err)
	}
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", fmt.Errorf("listen: %w", err)
	}
	config := &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
	}
	return tls.NewListener(plain, config), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), nil
}
