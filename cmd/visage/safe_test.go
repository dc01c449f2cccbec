package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/visage-face/visage/cmd/visage/internal/operator"
)

// safe is the vault that scripts keep a key in, "faces", spoken to as Key Vault clients do.
type safe struct{ *operator.Client }

func openSafe(dir string) (safe, error) {
	c, err := operator.Dial(dir)
	return safe{c}, err
}

// host is where the vault answers. Nobody has to look it up: requests go to the server's own.
func (s safe) host() string {
	return "safe.vault." + strings.TrimPrefix(s.Operator.Endpoint, "https://")
}

// make makes the vault and the key.
func (s safe) make(ctx context.Context) error {
	o := s.Operator
	body := map[string]any{"location": "local", "properties": map[string]any{
		"tenantId": o.TenantID, "sku": map[string]string{"family": "A", "name": "standard"},
		"enablePurgeProtection": true,
		"accessPolicies": []any{map[string]any{
			"tenantId": o.TenantID, "objectId": o.ClientID, "permissions": map[string]any{"keys": []string{"all"}},
		}},
	}}
	if err := s.ARM(ctx, http.MethodPut, "/resourceGroups/default/providers/Microsoft.KeyVault/vaults/safe", body,
		nil); err != nil {
		return err
	}
	return s.call(ctx, http.MethodPost, "/keys/faces/create", `{"kty":"RSA"}`)
}

// allow says whether the key may be used, in its newest version.
func (s safe) allow(ctx context.Context, on bool) error {
	return s.call(ctx, http.MethodPatch, "/keys/faces/", fmt.Sprintf(`{"attributes":{"enabled":%t}}`, on))
}

func (s safe) call(ctx context.Context, method, path, body string) error {
	form := url.Values{
		"grant_type": {"client_credentials"}, "client_id": {s.Operator.ClientID},
		"client_secret": {s.Operator.ClientSecret},
		"scope":         {"https://" + strings.TrimPrefix(s.host(), "safe.") + "/.default"},
	}
	res, err := s.HTTP.PostForm(s.Operator.Endpoint+"/"+s.Operator.TenantID+"/oauth2/v2.0/token", form)
	if err != nil {
		return err
	}
	var said struct {
		Token string `json:"access_token"`
	}
	err = json.NewDecoder(res.Body).Decode(&said)
	res.Body.Close()
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, s.Operator.Endpoint+path+"?api-version=7.5",
		strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Host = s.host()
	req.Header.Set("Authorization", "Bearer "+said.Token)
	req.Header.Set("Content-Type", "application/json")
	if res, err = s.HTTP.Do(req); err != nil {
		return err
	}
	defer res.Body.Close()
	if answer, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %d %s (%v)", method, path, res.StatusCode, answer, err)
	}
	return nil
}
