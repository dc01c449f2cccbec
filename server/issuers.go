package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/visage-face/visage/console"
	"github.com/visage-face/visage/identity"
)

// maxIssuerAnswer limits the answer of an issuer, in bytes: key sets have a few kilobytes.
const maxIssuerAnswer = 256 << 10

// trusted returns the configured issuers.
func (c Config) trusted() ([]identity.Issuer, error) {
	if len(c.TrustedIssuers) == 0 {
		return nil, nil
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("trust-issuer: read the system's authorities: %w", err)
	}
	if c.IssuerCAFile != "" {
		pem, err := os.ReadFile(c.IssuerCAFile)
		if err != nil {
			return nil, fmt.Errorf("issuer-ca-file: %w", err)
		}
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("issuer-ca-file: %s holds no certificate", c.IssuerCAFile)
		}
	}
	client := &http.Client{
		Timeout: 10 * time.Second,
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment,
			TLSClientConfig:     &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout: 5 * time.Second},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("the issuer redirects, which is not allowed")
		},
	}
	var issuers []identity.Issuer
	for _, text := range c.TrustedIssuers {
		issuer, audience, err := parseIssuer(text)
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

// shownIssuers returns the configured issuers, as the console shows them. The settings were checked before.
func (c Config) shownIssuers() []console.Issuer {
	var all []console.Issuer
	for _, text := range c.TrustedIssuers {
		if issuer, audience, err := parseIssuer(text); err == nil {
			all = append(all, console.Issuer{URL: issuer, Audience: audience})
		}
	}
	return all
}

// parseIssuer parses URL=AUDIENCE. The URL may contain "=", the audience not.
func parseIssuer(text string) (issuer, audience string, err error) {
	at := strings.LastIndex(text, "=")
	if at < 0 || at == len(text)-1 {
		return "", "", fmt.Errorf("trust-issuer: must be URL=AUDIENCE; got %q", text)
	}
	issuer, audience = text[:at], text[at+1:]
	if u, err := url.Parse(issuer); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil ||
		u.RawQuery != "" || u.Fragment != "" {
		return "", "", fmt.Errorf("trust-issuer: must begin with the https address of an issuer; got %q", issuer)
	}
	return issuer, audience, nil
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
