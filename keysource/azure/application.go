package azure

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/visage-face/visage/internal/secretfile"
	"github.com/visage-face/visage/keysource"
)

// Application authenticates to Azure's token service with a secret, for vaults in Azure, which do not know the
// identities of this instance. It is a Credential.
type Application struct {
	Authority  string // address of the token service; default: https://login.microsoftonline.com
	Tenant     string // id or domain of the tenant
	ClientID   string
	SecretFile string // holds the secret in its first line; read for every token, so that it can be replaced
	// Client sends the requests. Default: a LoginClient, through the proxy of the environment.
	Client *http.Client
}

// authority is that of Azure's public cloud.
const authority = "https://login.microsoftonline.com"

// authorities are those of the clouds whose vaults have other suffixes than the public cloud's.
var authorities = map[string]string{
	".vault.azure.cn":          "https://login.chinacloudapi.cn",
	".vault.usgovcloudapi.net": "https://login.microsoftonline.us",
}

// gone are the error numbers of the token service that certainly mean that the application, its tenant or its secret is
// no longer valid: unknown application, disabled service principal, unknown tenant, wrong secret, expired secret; and
// that the application has no federated credential for an assertion: for its issuer, its audience, its subject. That
// the signature or the time of an assertion is refused is no certainty: a clock, or the way to the issuer's keys, may
// be wrong.
var gone = []int{700016, 7000112, 90002, 7000215, 7000222, 70021, 700211, 700212, 700213}

// Token implements Credential.
func (a Application) Token(ctx context.Context, scope string) (token string, expires time.Time, err error) {
	secret, err := secretfile.FirstLine(a.SecretFile)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("read the secret of application %s: %w", a.ClientID, err)
	}
	client := a.Client
	if client == nil {
		client = applicationClient
	}
	return requestToken(ctx, client, cmp.Or(a.Authority, authority), a.Tenant, url.Values{
		"grant_type": {"client_credentials"}, "client_id": {a.ClientID},
		"client_secret": {secret}, "scope": {scope},
	})
}

// FederatedAudience is the audience of assertions that Entra accepts unless a federated credential has another.
const FederatedAudience = "api://AzureADTokenExchange"

// federatedLife is how long a token of Federated is used: shorter than the interval of polls, so that every poll asks
// whether the principal may still log in.
const federatedLife = 20 * time.Second

// Federated authenticates to a token service of Entra's protocol as an application, or as a user-assigned identity,
// that has a federated credential for an assertion (RFC 7523 §2.2): no secret is stored anywhere. It is a Credential.
type Federated struct {
	Authority string // address of the token service; default: that of the cloud of Vault
	Vault     string // address of the vault
	Tenant    string // id or domain of the application's tenant
	ClientID  string
	// Assertion returns an assertion for the audience of the federated credential, usually FederatedAudience. An error
	// that wraps keysource.ErrDenied means that the principal certainly no longer exists.
	Assertion func(ctx context.Context) (assertion string, expires time.Time, err error)
	// Client sends the requests. Default: a LoginClient, through the proxy of the environment.
	Client *http.Client
}

// Token implements Credential.
func (f Federated) Token(ctx context.Context, scope string) (token string, expires time.Time, err error) {
	assertion, _, err := f.Assertion(ctx)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("get an assertion to log in with: %w", err)
	}
	client := f.Client
	if client == nil {
		client = applicationClient
	}
	token, expires, err = requestToken(ctx, client, cmp.Or(f.Authority, authorityOf(f.Vault)), f.Tenant, url.Values{
		"grant_type": {"client_credentials"}, "client_id": {f.ClientID}, "scope": {scope},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
		"client_assertion":      {assertion},
	})
	if soon := time.Now().Add(federatedLife); soon.Before(expires) {
		expires = soon
	}
	return token, expires, err
}

// authorityOf returns the address of the token service of the cloud that a vault is in.
func authorityOf(vault string) string {
	for suffix, of := range authorities {
		if strings.HasSuffix(vault, suffix) {
			return of
		}
	}
	return authority
}

// requestToken asks a token service.
func requestToken(
	ctx context.Context, client *http.Client, authority, tenant string, form url.Values,
) (token string, expires time.Time, err error) {
	address := strings.TrimSuffix(authority, "/") + "/" + url.PathEscape(tenant) + "/oauth2/v2.0/token"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		return "", time.Time{}, fmt.Errorf("request a token: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := client.Do(req)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("request a token: %w", err)
	}
	defer res.Body.Close() // its content has been read
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return "", time.Time{}, fmt.Errorf("request a token: %w", err)
	}
	return readToken(res.StatusCode, body)
}

// applicationClient sends logins through the proxy of the environment, as clients of Azure do.
var applicationClient = func() *http.Client {
	client := LoginClient(nil)
	client.Transport.(*http.Transport).Proxy = http.ProxyFromEnvironment
	return client
}()

// LoginClient returns a client for Application and Federated: over TLS, with certificates that roots has signed (nil:
// the system's authorities). It follows no redirects, so that a secret is sent to one host only. It speaks HTTP/1.1, as
// a transport with its own TLS configuration does: a login without an answer ends its connection, and one of HTTP/2
// would be tried again with every later login.
func LoginClient(roots *x509.CertPool) *http.Client {
	return &http.Client{
		Timeout: deadline,
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: dialTime}).DialContext,
			TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
			TLSHandshakeTimeout: handshakeTime,
			IdleConnTimeout:     idleTime,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func readToken(status int, body []byte) (token string, expires time.Time, err error) {
	var said struct {
		Token   string `json:"access_token"`
		Expires int64  `json:"expires_in"` // seconds
		Code    string `json:"error"`
		Numbers []int  `json:"error_codes"`
	}
	if err := json.Unmarshal(body, &said); err != nil {
		return "", time.Time{}, fmt.Errorf("request a token: status %d without an error document", status)
	}
	switch {
	case status == http.StatusOK && said.Token != "" && said.Expires > 0:
		return said.Token, time.Now().Add(time.Duration(min(said.Expires, 24*3600)) * time.Second), nil
	case (status == http.StatusBadRequest || status == http.StatusUnauthorized) &&
		slices.ContainsFunc(said.Numbers, func(n int) bool { return slices.Contains(gone, n) }):
		return "", time.Time{}, fmt.Errorf("request a token: %.60s %v: %w", said.Code, said.Numbers,
			keysource.ErrDenied)
	}
	return "", time.Time{}, fmt.Errorf("request a token: status %d %.60s %v", status, said.Code, said.Numbers)
}
