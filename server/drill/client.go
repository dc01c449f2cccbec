package drill

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api/armapi/armwire"
)

// The limits of a request to the copy.
const (
	maxAnswer  = 64 << 20 // bytes: the list of all resources
	callLimit  = time.Minute
	apiVersion = "2025-09-01"
)

// client sends requests to the copy as its operator, as any client would.
type client struct {
	access Access
	origin visage.Origin
	http   *http.Client
	token  string // for the management plane; its lifetime exceeds that of a rehearsal's use of it
}

func newClient(a Access) (*client, error) {
	origin, err := visage.ParseOrigin(a.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("read the address of the copy: %w", err)
	}
	listen, err := url.Parse(a.Listen)
	if err != nil {
		return nil, fmt.Errorf("read the address of the copy: %w", err)
	}
	pem, err := os.ReadFile(a.CAFile)
	if err != nil {
		return nil, fmt.Errorf("read the certificate of the copy's authority: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("the file of the copy's authority has no certificate")
	}
	return &client{access: a, origin: origin, http: &http.Client{Timeout: callLimit, Transport: &http.Transport{
		// the copy is on this machine, whatever its name is
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, listen.Host)
		},
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, IdleConnTimeout: callLimit,
	}}}, nil
}

// close closes the connections to the copy, which otherwise waits for them when it ends.
func (c *client) close() { c.http.CloseIdleConnections() }

func (c *client) send(req *http.Request) (status int, body []byte, err error) {
	res, err := c.http.Do(req)
	if err != nil {
		return 0, nil, fmt.Errorf("reach the copy: %w", err)
	}
	defer res.Body.Close() // its content is read below
	body, err = io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return 0, nil, fmt.Errorf("read the copy's answer: %w", err)
	}
	return res.StatusCode, body, nil
}

// manage makes one request of the management plane. path is relative to the resource group. body and answer may be nil.
func (c *client) manage(ctx context.Context, method, path string, body, answer any) error {
	if err := c.signIn(ctx); err != nil {
		return err
	}
	var content io.Reader = http.NoBody
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("encode a request: %w", err)
		}
		content = bytes.NewReader(b)
	}
	address := fmt.Sprintf("%s/subscriptions/%s/resourceGroups/%s%s?api-version=%s", c.access.Endpoint,
		c.access.SubscriptionID, c.access.Group, path, apiVersion)
	req, err := http.NewRequestWithContext(ctx, method, address, content)
	if err != nil {
		return fmt.Errorf("make a request: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("Content-Type", "application/json")
	status, b, err := c.send(req)
	if err != nil {
		return err
	}
	if status >= http.StatusMultipleChoices {
		var refused struct {
			Error armwire.ErrorDetail `json:"error"`
		}
		if json.Unmarshal(b, &refused) != nil || refused.Error.Code == "" {
			return fmt.Errorf("the copy answers %s %s with status %d", method, path, status)
		}
		return fmt.Errorf("%s (%d %s)", refused.Error.Message, status, refused.Error.Code)
	}
	if answer == nil || len(b) == 0 {
		return nil
	}
	if err := json.Unmarshal(b, answer); err != nil {
		return fmt.Errorf("read the copy's answer to %s %s: %w", method, path, err)
	}
	return nil
}

// signIn gets a token of the operator, once.
func (c *client) signIn(ctx context.Context) error {
	if c.token != "" {
		return nil
	}
	form := url.Values{
		"grant_type": {"client_credentials"}, "scope": {"https://management.azure.com/.default"},
		"client_id": {c.access.ClientID}, "client_secret": {c.access.ClientSecret},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost,
		c.access.Endpoint+"/"+c.access.TenantID+"/oauth2/v2.0/token", strings.NewReader(form.Encode()))
	if err != nil {
		return fmt.Errorf("make a request: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	status, b, err := c.send(req)
	if err != nil {
		return err
	}
	var said struct {
		Token string `json:"access_token"`
	}
	if err := json.Unmarshal(b, &said); err != nil || said.Token == "" {
		return fmt.Errorf("the copy gives no token: status %d", status)
	}
	c.token = said.Token
	return nil
}

func accountPath(name string) string {
	const all = "/providers/Microsoft.CognitiveServices/accounts"
	if name == "" {
		return all
	}
	return all + "/" + url.PathEscape(name)
}

func vaultPath(name string) string {
	return "/providers/Microsoft.KeyVault/vaults/" + url.PathEscape(name)
}

// account reads a resource.
func (c *client) account(ctx context.Context, name string) (a armwire.Account, err error) {
	err = c.manage(ctx, http.MethodGet, accountPath(name), nil, &a)
	return a, err
}

// data returns the client of a resource's data.
func (c *client) data(ctx context.Context, name string) (dataClient, error) {
	var keys armwire.AccountKeys
	err := c.manage(ctx, http.MethodPost, accountPath(name)+"/listKeys", nil, &keys)
	return dataClient{c, keys.Key1}, err
}
