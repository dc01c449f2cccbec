package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/visage-face/visage/console"
	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/internal/owned"
)

// maxIssuerAnswer limits the answer of an issuer, in bytes: key sets have a few kilobytes.
const maxIssuerAnswer = 256 << 10

// trusted returns the configured issuers.
func (c Config) trusted(served *servedCertificates) ([]identity.Issuer, error) {
	if len(c.TrustedIssuers) == 0 {
		return nil, nil
	}
	client, err := c.issuerClient(served)
	if err != nil {
		return nil, err
	}
	var issuers []identity.Issuer
	for _, text := range c.TrustedIssuers {
		issuer, audience, err := parseIssuer("trust-issuer", "AUDIENCE", text)
		if err != nil {
			return nil, err
		}
		issuers = append(
			issuers, identity.Issuer{URL: issuer, Audience: audience, Keys: func(ctx context.Context) ([]byte, error) {
				return publishedKeys(ctx, client, issuer)
			}})
	}
	return issuers, nil
}

// issuerAuthorities returns the certificates in issuer-ca-file; none without the file.
func (c Config) issuerAuthorities() (all []*x509.Certificate, err error) {
	if c.IssuerCAFile == "" {
		return nil, nil
	}
	rest, err := os.ReadFile(c.IssuerCAFile)
	if err != nil {
		return nil, fmt.Errorf("issuer-ca-file: %w", err)
	}
	for len(rest) > 0 {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("issuer-ca-file: %s: certificate %d: %w", c.IssuerCAFile, len(all)+1, err)
		}
		all = append(all, cert)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("issuer-ca-file: %s holds no certificate", c.IssuerCAFile)
	}
	return all, nil
}

// servedCertificates remembers until when the certificates hold that external issuers have shown since the start.
type servedCertificates struct {
	mu   sync.Mutex
	ends map[string]time.Time // by host
}

// mostServed limits the hosts that are remembered. Each issuer may name another for its keys.
const mostServed = 100

// seen notes the certificate of a connection. It refuses none.
func (s *servedCertificates) seen(c tls.ConnectionState) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ends == nil {
		s.ends = map[string]time.Time{}
	}
	cert := c.PeerCertificates[0]
	host := cmp.Or(c.ServerName, certificateOf("issuer", cert).Name) // the first is empty for an address
	if _, known := s.ends[host]; known || len(s.ends) < mostServed {
		s.ends[host] = cert.NotAfter
	}
	return nil
}

// issuerClient returns the client that asks external issuers. It follows no redirection, and bounds every answer.
func (c Config) issuerClient(served *servedCertificates) (*http.Client, error) {
	roots, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("trust-issuer: read the system's authorities: %w", err)
	}
	authorities, err := c.issuerAuthorities()
	if err != nil {
		return nil, err
	}
	for _, authority := range authorities {
		roots.AddCert(authority)
	}
	return &http.Client{
		Timeout: 10 * time.Second,
		Transport: bounded{&http.Transport{Proxy: http.ProxyFromEnvironment,
			TLSHandshakeTimeout: 5 * time.Second,
			TLSClientConfig: &tls.Config{
				RootCAs: roots, MinVersion: tls.VersionTLS12, VerifyConnection: served.seen,
			}}},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("the issuer redirects, which is not allowed")
		},
	}, nil
}

// bounded cuts answers that are longer than any issuer's: what reads them finds them damaged.
type bounded struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := b.RoundTripper.RoundTrip(req)
	if err == nil {
		res.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(res.Body, maxIssuerAnswer+1), res.Body}
	}
	return res, err
}

// consoleIssuers returns the issuers that the console knows, with what it needs to sign people in.
func (c Config) consoleIssuers(served *servedCertificates) ([]console.Issuer, error) {
	var all []console.Issuer
	for _, text := range c.TrustedIssuers {
		issuer, audience, err := parseIssuer("trust-issuer", "AUDIENCE", text)
		if err != nil {
			return nil, err
		}
		all = append(all, console.Issuer{URL: issuer, Audience: audience})
	}
	if len(c.ConsoleIssuers) == 0 {
		return all, nil
	}
	client, err := c.issuerClient(served)
	if err != nil {
		return nil, err
	}
	secrets := map[string]string{}
	for _, text := range c.ConsoleIssuerSecretFiles {
		issuer, file, err := parseIssuer("console-issuer-secret-file", "FILE", text)
		if err != nil {
			return nil, err
		}
		const longest = 4 << 10 // bytes; secrets have a few dozen
		secret, err := owned.ReadSecret(file, longest)
		if err != nil {
			return nil, fmt.Errorf("console-issuer-secret-file: %w", err)
		}
		secrets[issuer] = strings.TrimSpace(string(secret))
	}
	for _, text := range c.ConsoleIssuers {
		issuer, clientID, err := parseIssuer("console-issuer", "CLIENT_ID", text)
		if err != nil {
			return nil, err
		}
		at := slices.IndexFunc(all, func(i console.Issuer) bool { return i.URL == issuer })
		if at < 0 {
			at, all = len(all), append(all, console.Issuer{URL: issuer})
		}
		all[at].ClientID, all[at].Secret, all[at].Client = clientID, secrets[issuer], client
	}
	return all, nil
}

// checkConsoleIssuers adds the mistakes in the issuers with which people sign in.
func (c Config) checkConsoleIssuers(mistakes *[]error) {
	known := map[string]bool{}
	for _, text := range c.ConsoleIssuers {
		issuer, _, err := parseIssuer("console-issuer", "CLIENT_ID", text)
		if err == nil && known[issuer] {
			err = fmt.Errorf("console-issuer: the issuer %q is given twice", issuer)
		}
		if err != nil {
			*mistakes = append(*mistakes, err)
		}
		known[issuer] = true
	}
	for _, text := range c.ConsoleIssuerSecretFiles {
		issuer, _, err := parseIssuer("console-issuer-secret-file", "FILE", text)
		if err == nil && !known[issuer] {
			err = fmt.Errorf("console-issuer-secret-file: a file and its issuer go together: set console-issuer for %q",
				issuer)
		}
		if err != nil {
			*mistakes = append(*mistakes, err)
		}
	}
}

// signInIssuers are the addresses of the issuers with which people sign in.
func (c Config) signInIssuers() []string {
	var all []string
	for _, text := range c.ConsoleIssuers {
		if issuer, _, err := parseIssuer("console-issuer", "CLIENT_ID", text); err == nil {
			all = append(all, issuer)
		}
	}
	return all
}

// parseIssuer parses the value of a setting, URL=VALUE. The URL may contain "=", the value not.
func parseIssuer(setting, what, text string) (issuer, value string, err error) {
	at := strings.LastIndex(text, "=")
	if at < 0 || at == len(text)-1 {
		return "", "", fmt.Errorf("%s: must be URL=%s; got %q", setting, what, text)
	}
	issuer, value = text[:at], text[at+1:]
	if u, err := url.Parse(issuer); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil ||
		u.RawQuery != "" || u.Fragment != "" {
		return "", "", fmt.Errorf("%s: must begin with the https address of an issuer; got %q", setting, issuer)
	}
	return issuer, value, nil
}

// publishedKeys fetches the address of an issuer's keys, and the keys (OpenID Connect Discovery 1.0 §4).
func publishedKeys(ctx context.Context, client *http.Client, issuer string) ([]byte, error) {
	b, err := fetch(ctx, client, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return nil, err
	}
	var said struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(b, &said); err != nil {
		return nil, fmt.Errorf("read the discovery document of %s: %w", issuer, err)
	}
	if said.Issuer != issuer {
		return nil, fmt.Errorf("the discovery document of %s names the issuer %q", issuer, said.Issuer)
	}
	if u, err := url.Parse(said.Keys); err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("the keys of %s are not at an https address", issuer)
	}
	return fetch(ctx, client, said.Keys)
}

func fetch(ctx context.Context, client *http.Client, address string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return nil, err
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxIssuerAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", address, err)
	case res.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%s answers with status %d", address, res.StatusCode)
	case len(b) > maxIssuerAnswer:
		return nil, fmt.Errorf("%s answers with more than %d bytes", address, maxIssuerAnswer)
	}
	return b, nil
}
