package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/server"
)

// officer sends requests to the management plane and to a vault, as the security officer's tools do: over HTTPS, with
// tokens.
type officer struct {
	operator server.Operator
	http     *http.Client
	tokens   map[string]string // by audience; they outlive the demonstration

	calls int
}

const (
	management = "https://management.azure.com"
	vaultName  = "demo-safe"
	keyName    = "guests"
	customer   = "guests-vip" // the resource under the customer's key
)

// token gets a token for an audience.
func (o *officer) token(ctx context.Context, audience string) (string, error) {
	if t := o.tokens[audience]; t != "" {
		return t, nil
	}
	form := url.Values{
		"grant_type": {"client_credentials"}, "scope": {audience + "/.default"},
		"client_id": {o.operator.ClientID}, "client_secret": {o.operator.ClientSecret},
	}
	var said struct {
		Token string `json:"access_token"`
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost,
		o.operator.Endpoint+"/"+o.operator.TenantID+"/oauth2/v2.0/token",
		strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if err := o.send(req, &said); err != nil {
		return "", fmt.Errorf("get a token for %s: %w", audience, err)
	}
	o.tokens[audience] = said.Token
	return said.Token, nil
}

// arm makes a request of the management plane. path is below the subscription.
func (o *officer) arm(ctx context.Context, method, path string, body, answer any) error {
	return o.call(ctx, method, o.operator.Endpoint+"/subscriptions/"+o.operator.SubscriptionID+path+
		"?api-version=2025-09-01", "",
		management, body, answer)
}

// account is the path of the resource under the customer's key.
func (o *officer) account() string {
	return "/resourceGroups/" + o.operator.ResourceGroup + "/providers/Microsoft.CognitiveServices/accounts/" + customer
}

// vault makes a request of the vault. It connects to the server without a DNS lookup of the vault's host.
func (o *officer) vault(ctx context.Context, method, path string, body, answer any) error {
	domain := "vault." + strings.TrimPrefix(o.operator.Endpoint, "https://")
	return o.call(ctx, method, o.operator.Endpoint+path+"?api-version=7.5", vaultName+"."+domain, "https://"+domain,
		body, answer)
}

func (o *officer) call(ctx context.Context, method, address, host, audience string, body, answer any) error {
	token, err := o.token(ctx, audience)
	if err != nil {
		return err
	}
	content := []byte{}
	if body != nil {
		if content, err = json.Marshal(body); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(content))
	if err != nil {
		return err
	}
	req.Host = host
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	return o.send(req, answer)
}

func (o *officer) send(req *http.Request, answer any) error {
	o.calls++
	res, err := o.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return err
	}
	if res.StatusCode >= 300 {
		var said armwire.ErrorAnswer
		p := &problem{status: res.StatusCode, message: string(b)}
		if json.Unmarshal(b, &said) == nil && said.Error.Code != "" {
			p.code, p.message = said.Error.Code, said.Error.Message
		}
		return p
	}
	if answer == nil || len(b) == 0 {
		return nil
	}
	return json.Unmarshal(b, answer)
}

// encryptionOf is the state of the key that encrypts a resource's data; empty for the service's key by default.
func encryptionOf(a armwire.Account) armwire.EncryptionStatus {
	if e := a.Properties.Encryption; e != nil && e.Status != nil {
		return *e.Status
	}
	return armwire.EncryptionStatus{}
}

// encrypt changes the key that encrypts the resource's data, and returns how long the change took.
func (o *officer) encrypt(
	ctx context.Context, want map[string]any,
) (took time.Duration, status armwire.EncryptionStatus, err error) {
	begin := time.Now()
	var now armwire.Account
	err = o.arm(ctx, http.MethodPatch, o.account(), map[string]any{"properties": map[string]any{"encryption": want}},
		&now)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for err == nil && now.Properties.ProvisioningState == "Accepted" {
		select {
		case <-ctx.Done():
			return 0, status, context.Cause(ctx)
		case <-tick.C:
		}
		now = armwire.Account{}
		err = o.arm(ctx, http.MethodGet, o.account(), nil, &now)
	}
	status = encryptionOf(now)
	if op := status.Operation; err == nil && op != nil && op.Progress == "failed" {
		err = fmt.Errorf("%s failed: %s", op.Kind, op.Reason)
	}
	return time.Since(begin), status, err
}

// allow enables or disables the newest version of the customer's key.
func (o *officer) allow(ctx context.Context, on bool) error {
	return o.vault(ctx, http.MethodPatch, "/keys/"+keyName+"/",
		map[string]any{"attributes": map[string]bool{"enabled": on}}, nil)
}

// rotate creates a new version of the customer's key and returns its name.
func (o *officer) rotate(ctx context.Context) (version string, err error) {
	var made struct {
		Key struct{ Kid string } `json:"key"`
	}
	if err := o.vault(ctx, http.MethodPost, "/keys/"+keyName+"/rotate", nil, &made); err != nil {
		return "", err
	}
	return made.Key.Kid[strings.LastIndex(made.Key.Kid, "/")+1:], nil
}
