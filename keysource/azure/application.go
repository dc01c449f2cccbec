package azure

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/visage-face/visage/keysource"
)

// Application authenticates to Azure's token service with a secret, for vaults in Azure, which do not know the
// identities of this instance. It is a Credential.
type Application struct {
	Authority  string // address of the token service; default: https://login.microsoftonline.com
	Tenant     string // id or domain of the tenant
	ClientID   string
	SecretFile string // holds the secret in its first line; read for every token, so that it can be replaced
	// Client sends the requests. Default: one of its own.
	Client *http.Client
}

// authority is that of Azure's public cloud.
const authority = "https://login.microsoftonline.com"

// gone are the error numbers of the token service that certainly mean that the application, its tenant or its secret is
// no longer valid: unknown application, disabled service principal, unknown tenant, wrong secret, expired secret.
var gone = []int{700016, 7000112, 90002, 7000215, 7000222}

// Token implements Credential.
func (a Application) Token(ctx context.Context, scope string) (token string, expires time.Time, err error) {
	raw, err := os.ReadFile(a.SecretFile)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("read the secret of application %s: %w", a.ClientID, err)
	}
	defer clear(raw)
	secret, _, _ := strings.Cut(string(raw), "\n")
	form := url.Values{
		"grant_type": {"client_credentials"}, "client_id": {a.ClientID},
		"client_secret": {strings.TrimSuffix(secret, "\r")}, "scope": {scope},
	}
	base := a.Authority
	if base == "" {
		base = authority
	}
	address := strings.TrimSuffix(base, "/") + "/" + url.PathEscape(a.Tenant) + "/oauth2/v2.0/token"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		return "", time.Time{}, fmt.Errorf("request a token: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	client := a.Client
	if client == nil {
		client = applicationClient
	}
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

// applicationClient follows no redirects, so that a secret is sent to one host only.
var applicationClient = &http.Client{
	Timeout:       deadline,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
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
