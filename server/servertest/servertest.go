// Package servertest runs a true server for tests: TLS on a free port, a directory of its own, and on demand faces that
// need no networks.
package servertest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/visage-face/visage/server"
)

// Server is a server that runs until Stop or the end of the test.
type Server struct {
	*server.Server
	// URL is the base of all planes, without a slash at the end.
	URL string
	// Key opens the default resource.
	Key string
	// Client trusts the server's own authority and nothing else. Under a public URL it reaches the listener all the
	// same.
	Client *http.Client

	cancel  context.CancelFunc
	stopped func() error // waits; may be called again

	mu      sync.Mutex
	clients []*http.Client // whose idle connections Stop closes
}

// Start runs a server. What cfg leaves out: Dir is a new temporary directory, Listen a free port of 127.0.0.1,
// Recogniser is Faces unless a Pack or Recognisers are named, NewRSA gives keys that no other test uses at present, the
// rates of identities are more than a test reaches, Logger writes to the test's log. A server that does not start fails
// the test.
func Start(t testing.TB, cfg server.Config) *Server {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = filepath.Join(t.TempDir(), "visage")
	}
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	if cfg.Recogniser == nil && cfg.Recognisers == nil && cfg.Pack == "" {
		cfg.Recogniser = Faces{}
	}
	if cfg.NewRSA == nil {
		cfg.NewRSA = lender.lend(t)
	}
	for _, rate := range []*int{&cfg.VaultRate, &cfg.ManagementRate, &cfg.TokenRate} {
		if *rate == 0 {
			*rate = 1 << 20
		}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(testLog{t}, nil))
	}
	srv, err := server.New(cfg)
	if err != nil {
		t.Fatalf("make server: %v", err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context())) // the test's own ends before its cleanups
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx) }()
	s := &Server{Server: srv, cancel: cancel, stopped: sync.OnceValue(func() error { return <-ended })}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Errorf("server: %v", err)
		}
	})
	select {
	case err := <-ended:
		ended <- nil
		t.Fatalf("start server: %v", err)
	case <-srv.Ready():
	}
	s.URL = srv.Endpoint()
	keys, err := srv.Keys(t.Context(), "default")
	if err != nil {
		t.Fatalf("keys of the default resource: %v", err)
	}
	s.Key = keys.Key1
	if s.Client, err = client(srv.Operator(), cfg.PublicURL != ""); err != nil {
		t.Fatal(err)
	}
	s.LeaveWith(s.Client)
	return s
}

// LeaveWith has Stop close the idle connections of a client, too. A server waits a second for a client that keeps an
// idle connection of HTTP/2 open when it stops.
func (s *Server) LeaveWith(c *http.Client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients = append(s.clients, c)
}

// Token returns a token of the operator for an audience.
func (s *Server) Token(t testing.TB, audience string) string {
	t.Helper()
	o := s.Operator()
	res, err := s.Client.PostForm(s.URL+"/"+o.TenantID+"/oauth2/v2.0/token", url.Values{
		"grant_type": {"client_credentials"}, "scope": {audience + "/.default"},
		"client_id": {o.ClientID}, "client_secret": {o.ClientSecret},
	})
	if err != nil {
		t.Fatalf("get a token: %v", err)
	}
	defer res.Body.Close()
	var said struct {
		Token       string `json:"access_token"`
		Description string `json:"error_description"`
	}
	if err := json.NewDecoder(res.Body).Decode(&said); err != nil || said.Token == "" {
		t.Fatalf("get a token: %d %s (%v)", res.StatusCode, said.Description, err)
	}
	return said.Token
}

// Stop stops the server as a signal would, waits until it has, and returns what Run returned.
func (s *Server) Stop() error {
	s.cancel()
	s.mu.Lock()
	for _, c := range s.clients {
		c.CloseIdleConnections()
	}
	s.mu.Unlock()
	return s.stopped()
}

// client returns the client of a server. nearby: names are looked up by nobody, and it goes to the listener.
func client(o server.Operator, nearby bool) (*http.Client, error) {
	transport := &http.Transport{ForceAttemptHTTP2: true}
	listen, err := url.Parse(o.Listen)
	if err != nil {
		return nil, err
	}
	if nearby {
		transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, listen.Host)
		}
	}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, err
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, errors.New("the server's CA file holds no certificate")
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	if nearby && listen.Scheme == "http" {
		return &http.Client{Transport: plain{transport}}, nil
	}
	return &http.Client{Transport: transport}, nil
}

// plain does without TLS, as a proxy that speaks it in front of the server does.
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

// testLog writes log lines to a test's log.
type testLog struct{ t testing.TB }

// Write implements io.Writer.
func (l testLog) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimSuffix(string(b), "\n"))
	return len(b), nil
}
