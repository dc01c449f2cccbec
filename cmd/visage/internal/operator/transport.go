package operator

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/server"
)

// HTTPClient returns an HTTP client that trusts only the server's own authority or, if it has none, the system's. It
// connects to the listener on this machine even if other clients use a proxy, so that it needs no DNS lookup and no
// proxy sees the secret.
func HTTPClient(operator server.Operator) (*http.Client, error) {
	caFile := operator.CAFile
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	var listen visage.Origin
	if operator.Listen != "" { // earlier versions did not write it
		var err error
		if listen, err = visage.ParseOrigin(operator.Listen); err != nil {
			return nil, fmt.Errorf("read the address of the server's listener: %w", err)
		}
		transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort(listen.Hostname(), listen.Port()))
		}
	}
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, fmt.Errorf("read the certificate of the server's authority: %w", err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s contains no certificate", caFile)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	if listen.Scheme() == "http" {
		return &http.Client{Transport: plain{transport}, Timeout: time.Minute}, nil
	}
	return &http.Client{Transport: transport, Timeout: time.Minute}, nil
}

// plain sends requests without TLS to a listener behind a TLS proxy. They do not leave this machine.
type plain struct{ *http.Transport }

// RoundTrip implements http.RoundTripper.
func (p plain) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	if req.Host == "" {
		req.Host = req.URL.Host
	}
	req.URL.Scheme = "http"
	return p.Transport.RoundTrip(req)
}
