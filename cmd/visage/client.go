package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/server"
)

// client speaks to a running server over HTTPS, as its operator.
type client struct {
	operator server.Operator
	origin   visage.Origin // operator.Endpoint
	http     *http.Client
	bearer   string // a token that was got before; empty: none yet
	notes    io.Writer
}

// defineDir adds the flag that says which server is meant, and returns how to get at its directory.
func defineDir(fs *flag.FlagSet) func() (string, error) {
	given := defineSettings(fs, "dir")
	return func() (string, error) {
		set, err := given.load()
		if err != nil {
			return "", err
		}
		if set.server.Dir != "" {
			return set.server.Dir, nil
		}
		return server.DefaultDir()
	}
}

// dial reads operator.json in dir. It does not speak to the server yet.
func dial(dir string) (*client, error) {
	path := filepath.Join(dir, server.OperatorFile)
	operator, err := server.ReadOperator(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, hinted(
			err, "start the server with \"visage serve --dir %s\", or name the directory of a running one with --dir",
			dir,
		)
	}
	if err != nil {
		return nil, err
	}
	origin, err := visage.ParseOrigin(operator.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("%s names no server: %w", path, err)
	}
	h, err := trusting(operator)
	if err != nil {
		return nil, err
	}
	return &client{operator: operator, origin: origin, http: h}, nil
}

// trusting returns an HTTP client that trusts the server's own authority alone or, where it has none, what the system
// trusts. It connects to the listener on this machine, whatever stands before that for others: nobody has to look the
// server's names up, and no proxy sees the secret.
func trusting(operator server.Operator) (*http.Client, error) {
	caFile := operator.CAFile
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	var listen visage.Origin
	if operator.Listen != "" { // servers before this version did not say
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
			return nil, fmt.Errorf("read the server's authority: %w", err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", caFile)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	if listen.Scheme() == "http" {
		return &http.Client{Transport: plain{transport}, Timeout: time.Minute}, nil
	}
	return &http.Client{Transport: transport, Timeout: time.Minute}, nil
}

// plain sends requests without TLS, which does not leave this machine: to a listener that a proxy with TLS stands
// before.
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

// maxAnswer bounds what the client reads of an answer.
const maxAnswer = 16 << 20

// manage makes one request of the management plane. path is relative to the accounts of the operator's resource group;
// body and answer may be nil.
func (c *client) manage(ctx context.Context, method, path string, body, answer any) error {
	return c.arm(ctx, method, fmt.Sprintf("/resourceGroups/%s/providers/Microsoft.CognitiveServices/accounts%s",
		c.operator.ResourceGroup, path), body, answer)
}

// provider is manage for paths of the provider in the operator's subscription.
func (c *client) provider(ctx context.Context, method, path string, body, answer any) error {
	return c.arm(ctx, method, "/providers/Microsoft.CognitiveServices"+path, body, answer)
}

// arm makes one request of the management plane. path is relative to the operator's subscription.
func (c *client) arm(ctx context.Context, method, path string, body, answer any) error {
	const apiVersion = "2025-09-01" // the newest the contract knows
	separator := "?"
	if strings.Contains(path, "?") {
		separator = "&"
	}
	address := fmt.Sprintf("%s/subscriptions/%s%s%sapi-version=%s", c.operator.Endpoint, c.operator.SubscriptionID,
		path, separator, apiVersion)
	var content io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
		content = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, address, content)
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	token, err := c.token(ctx)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	res, b, err := c.do(req)
	if err != nil {
		return err
	}
	if res.StatusCode >= 300 {
		return problem(res, b)
	}
	if answer == nil || len(b) == 0 {
		return nil
	}
	if err := json.Unmarshal(b, answer); err != nil {
		return fmt.Errorf("read answer of %s %s: %w", method, path, err)
	}
	return nil
}

// do makes a request and reads the answer.
func (c *client) do(req *http.Request) (*http.Response, []byte, error) {
	res, err := c.http.Do(req)
	if err != nil {
		return nil, nil, &failure{
			err:  fmt.Errorf("reach the server at %s: %w", c.operator.Endpoint, errors.Unwrap(err)),
			code: exitUnreachable, hint: "is it running? \"visage serve\" starts it",
		}
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return nil, nil, fmt.Errorf("read answer: %w", err)
	}
	return res, b, nil
}

// token returns a token of the operator for the management plane. A command is over long before it ends.
func (c *client) token(ctx context.Context) (string, error) {
	if c.bearer == "" {
		token, err := c.tokenFor(ctx, "https://management.azure.com/.default")
		if err != nil {
			return "", err
		}
		c.bearer = token
	}
	return c.bearer, nil
}

// tokenFor gets a new token of the operator.
func (c *client) tokenFor(ctx context.Context, scope string) (string, error) {
	form := url.Values{
		"grant_type": {"client_credentials"}, "scope": {scope},
		"client_id": {c.operator.ClientID}, "client_secret": {c.operator.ClientSecret},
	}
	address := c.operator.Endpoint + "/" + c.operator.TenantID + "/oauth2/v2.0/token"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		return "", fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, b, err := c.do(req)
	if err != nil {
		return "", err
	}
	var said struct {
		Token       string `json:"access_token"`
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if err := json.Unmarshal(b, &said); err != nil || said.Token == "" {
		return "", &refused{res.StatusCode, said.Error, said.Description}
	}
	return said.Token, nil
}

// refused is what the server said instead of doing it.
type refused struct {
	status  int
	code    string
	message string
}

// Error returns the server's sentence and its code.
func (r *refused) Error() string { return fmt.Sprintf("%s (%d %s)", r.message, r.status, r.code) }

// problem reads an error answer of the server.
func problem(res *http.Response, body []byte) error {
	var said struct {
		Error struct{ Code, Message string }
	}
	if err := json.Unmarshal(body, &said); err != nil || said.Error.Code == "" {
		return &refused{res.StatusCode, http.StatusText(res.StatusCode), "the server refused without saying why"}
	}
	return &refused{res.StatusCode, said.Error.Code, said.Error.Message}
}
