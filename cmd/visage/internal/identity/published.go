package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// Bounds of what is fetched of an issuer.
const (
	maxDocument  = 256 << 10 // bytes; key sets have a few kilobytes
	fetchTimeout = 10 * time.Second
)

// fetchKeys fetches the published description of an issuer and the keys that it names, as a key store does: over HTTPS
// and without redirects. authorities is a PEM file of certificate authorities beside the system's; empty: none.
func fetchKeys(ctx context.Context, issuer, authorities string) ([]byte, error) {
	roots, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("read the system's authorities: %w", err)
	}
	if authorities != "" {
		b, err := os.ReadFile(authorities)
		if err != nil {
			return nil, fmt.Errorf("read --ca-file: %w", err)
		}
		if !roots.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("%s holds no certificate", authorities)
		}
	}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{
		Transport: transport, Timeout: fetchTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("the server redirects, which key stores may not follow")
		},
	}
	b, err := fetch(ctx, client, issuer+"/.well-known/openid-configuration")
	if err != nil {
		return nil, err
	}
	var about struct {
		Issuer      string `json:"issuer"`
		KeysAddress string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(b, &about); err != nil {
		return nil, fmt.Errorf("the description of %s is not JSON: %w", issuer, err)
	}
	if about.Issuer != issuer {
		return nil, fmt.Errorf("the description published at %s is that of the issuer %q", issuer, about.Issuer)
	}
	if !strings.HasPrefix(about.KeysAddress, "https://") {
		return nil, fmt.Errorf("the keys of %s are not at an https address: %q", issuer, about.KeysAddress)
	}
	return fetch(ctx, client, about.KeysAddress)
}

func fetch(ctx context.Context, client *http.Client, address string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("fetch what is published: %w", err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxDocument+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("fetch %s: %w", address, err)
	case res.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("fetch %s: the server answers with status %d", address, res.StatusCode)
	case len(b) > maxDocument:
		return nil, fmt.Errorf("fetch %s: the answer has more than %d bytes", address, maxDocument)
	}
	return b, nil
}
