package bench_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// BenchmarkRevocationUnderFlood disables a key in the built-in vault of a real server, over HTTPS, and waits for the
// first refused data request: without other load, and beside 2,200 requests on every plane whose bodies never arrive.
func BenchmarkRevocationUnderFlood(b *testing.B) {
	v := newVictim(b, server.Config{})
	var alone, flooded []time.Duration
	for b.Loop() {
		alone = append(alone, v.revocations(10)...)
	}
	v.flood()
	for range max(1, len(alone)/10) {
		flooded = append(flooded, v.revocations(10)...)
	}
	note := fmt.Sprintf("%d revocations; p50 %.1f ms, longest %.1f ms; without the flood p50 %.1f ms, p99 %.1f ms",
		len(flooded),
		milliseconds(median(flooded)), milliseconds(quantile(flooded, 1)), milliseconds(median(alone)),
		milliseconds(quantile(alone, 0.99)))
	atMost(b, "revocation under flood, p99", quantile(flooded, 0.99).Seconds(), 1, "s", note)
}

// victim is a server with a resource under a customer's key.
type victim struct {
	*testing.B
	*servertest.Server
	key             string // of the resource, not of the vault
	atARM, atVault  string // tokens
	vault, identity string // the vault's host, and the key with its version
}

func newVictim(b *testing.B, cfg server.Config) *victim {
	cfg.AutoApprove, cfg.Rate, cfg.Logger = true, 100_000, slog.New(slog.DiscardHandler)
	v := &victim{B: b, Server: servertest.Start(b, cfg)}
	op := v.Operator()
	domain := "vault." + strings.TrimPrefix(v.URL, "https://")
	v.atARM, v.atVault, v.vault = v.Token(b, "https://management.azure.com"), v.Token(b, "https://"+domain),
		"safe."+domain
	group := "/subscriptions/" + op.SubscriptionID + "/resourceGroups/default/providers/"
	account := group + "Microsoft.CognitiveServices/accounts/vip"
	made := v.arm(
		"PUT", account, `{"kind":"Face","location":"local","sku":{"name":"E0"},"identity":{"type":"SystemAssigned"}}`,
	)
	who := made["identity"].(map[string]any)["principalId"].(string)
	policy := func(id, keys string) string {
		return fmt.Sprintf(`{"tenantId":%q,"objectId":%q,"permissions":{"keys":[%s]}}`, op.TenantID, id, keys)
	}
	v.arm("PUT", group+"Microsoft.KeyVault/vaults/safe", fmt.Sprintf(
		`{"location":"local","properties":{"tenantId":%q,"sku":{"family":"A","name":"standard"},"enablePurgeProtection":true,"accessPolicies":[%s,%s]}}`,
		op.TenantID, policy(op.ClientID, `"all"`), policy(who, `"get","wrapKey","unwrapKey"`)))
	key := v.ask(b.Context(), "POST", "/keys/k/create?api-version=7.4", v.vault, v.atVault,
		`{"kty":"RSA","key_size":2048}`)["key"].(map[string]any)
	_, v.identity, _ = strings.Cut(key["kid"].(string), "/keys/")
	v.key = v.arm("POST", account+"/listKeys", "")["key1"].(string)
	v.arm(
		"PATCH", account, fmt.Sprintf(
			`{"properties":{"encryption":{"keySource":"Microsoft.KeyVault","keyVaultProperties":{"keyVaultUri":"https://%s/","keyName":"k","keyVersion":%q}}}}`,
			v.vault, strings.TrimPrefix(v.identity, "k/")))
	for v.arm("GET", account, "")["properties"].(map[string]any)["provisioningState"] == "Accepted" {
	}
	return v
}

func (v *victim) arm(method, path, body string) map[string]any {
	return v.ask(v.Context(), method, path+"?api-version=2025-09-01", "", v.atARM, body)
}

// ask makes a request that must be answered with 2xx.
func (v *victim) ask(ctx context.Context, method, path, host, bearer, body string) map[string]any {
	status, answer, err := v.try(ctx, method, path, host, http.Header{"Authorization": {"Bearer " + bearer}}, body)
	if err != nil || status/100 != 2 {
		v.Fatalf("%s %s: %d %s, %v", method, path, status, answer, err)
	}
	var said map[string]any
	if err := json.Unmarshal(answer, &said); err != nil {
		v.Fatal(err)
	}
	return said
}

func (v *victim) try(
	ctx context.Context, method, path, host string, header http.Header, body string,
) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, v.URL+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return 0, nil, err
	}
	req.Host, req.Header = host, header
	req.Header.Set("Content-Type", "application/json")
	res, err := v.Client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	return res.StatusCode, answer, err
}

// flood stalls requests on every plane, with and without credentials.
func (v *victim) flood() {
	f := v.NewFlood(v.B, 24)
	op := v.Operator()
	form, image, typed := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}},
		http.Header{"Content-Type": {"application/octet-stream"}}, http.Header{"Content-Type": {"application/json"}}
	keyed := image.Clone()
	keyed.Set("Ocp-Apim-Subscription-Key", v.key)
	f.Add(2100, "POST", v.URL+"/"+op.TenantID+"/oauth2/v2.0/token", "", form)
	f.Add(30, "POST", v.URL+"/keys/restore?api-version=7.4", v.vault, typed)
	f.Add(30, "POST", v.URL+"/face/v1.0/detect", "", image)
	f.Add(30, "POST", v.URL+"/face/v1.0/detect", "", keyed)
	f.Add(30, "PUT", v.URL+"/subscriptions/"+op.SubscriptionID+
		"/resourceGroups/default/providers/Microsoft.KeyVault/vaults/other?api-version=2024-11-01", "", typed)
	f.Wait()
}

// revocations disables the key n times, and returns for how long data was served after each request to disable it.
func (v *victim) revocations(n int) []time.Duration {
	ctx, cancel := context.WithTimeout(v.Context(), time.Duration(n)*time.Minute)
	defer cancel()
	until := func(want int) {
		header := func() http.Header { return http.Header{"Ocp-Apim-Subscription-Key": {v.key}} }
		for {
			status, answer, err := v.try(ctx, "GET", "/face/v1.2/persongroups", "", header(), "")
			if err != nil {
				v.Fatalf("wait for %d: %v", want, err)
			}
			if status == want {
				return
			}
			if status != http.StatusOK && status != http.StatusForbidden {
				v.Fatalf("wait for %d: %d %s", want, status, answer)
			}
		}
	}
	var took []time.Duration
	for range n {
		start := time.Now()
		v.ask(ctx, "PATCH", "/keys/"+v.identity+"?api-version=7.4", v.vault, v.atVault,
			`{"attributes":{"enabled":false}}`)
		until(http.StatusForbidden)
		took = append(took, time.Since(start))
		v.ask(ctx, "PATCH", "/keys/"+v.identity+"?api-version=7.4", v.vault, v.atVault,
			`{"attributes":{"enabled":true}}`)
		until(http.StatusOK)
	}
	return took
}
