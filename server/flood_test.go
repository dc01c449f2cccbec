package server_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/server"
)

// revoke disables or deletes a key and returns for how long the data of its resource was served after the request.
func (o *officer) revoke(ctx context.Context, revoke func(context.Context) error) (time.Duration, error) {
	begin := time.Now()
	if err := revoke(ctx); err != nil {
		return 0, err
	}
	for {
		status, err := o.touch(ctx)
		if err != nil {
			return 0, err
		}
		if status == http.StatusForbidden {
			return time.Since(begin), nil
		}
		if status != http.StatusOK && status != http.StatusTooManyRequests {
			return 0, fmt.Errorf("the data answers %d", status)
		}
	}
}

// touch makes the smallest request for data and returns its status.
func (o *officer) touch(ctx context.Context) (int, error) {
	body := bytes.NewReader([]byte(`{"faceId":"` + strings.Repeat("0", 8) +
		`-0000-0000-0000-000000000000","personGroupId":"x","personId":"00000000-0000-0000-0000-000000000000"}`))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, o.URL+"/face/v1.0/verify", body)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Ocp-Apim-Subscription-Key", o.Key)
	req.Header.Set("Content-Type", "application/json")
	res, err := o.Client.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return 0, err
	}
	if res.StatusCode == http.StatusNotFound || res.StatusCode == http.StatusBadRequest {
		return http.StatusOK, nil // the face does not exist, which the server can only know by opening the data
	}
	return res.StatusCode, nil
}

// TestRevocationUnderFlood stalls requests on every plane, with and without credentials, and revokes a key meanwhile.
func TestRevocationUnderFlood(t *testing.T) {
	const rounds = 30
	o := newOfficer(t, server.Config{Rate: 100_000, Logger: slog.New(slog.DiscardHandler)})
	key := o.key(t, "mine")
	o.enable(t, key)
	powerless := realm{o.Server, t}.somebody("powerless", "")

	f := o.NewFlood(t, 24)
	form := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	json := http.Header{"Content-Type": {"application/json"}}
	with := func(h http.Header, name, value string) http.Header {
		h = h.Clone()
		h.Set(name, value)
		return h
	}
	op := o.Operator()
	_, port, _ := strings.Cut(strings.TrimPrefix(o.URL, "https://"), ":")
	safe := "safe.vault.localhost:" + port
	atVault, atManagement := "Bearer "+powerless("https://vault.localhost:"+port), "Bearer "+powerless(managementPlane)
	f.Add(2100, http.MethodPost, o.URL+"/"+op.TenantID+"/oauth2/v2.0/token", "", form)
	f.Add(20, http.MethodPost, o.URL+"/keys/restore?api-version=7.4", safe, with(json, "Authorization", atVault))
	f.Add(20, http.MethodPost, o.URL+"/keys/restore?api-version=7.4", safe, json)
	image := http.Header{"Content-Type": {"application/octet-stream"}}
	f.Add(40, http.MethodPost, o.URL+"/face/v1.0/detect", "", image)
	f.Add(40, http.MethodPost, o.URL+"/face/v1.0/detect", "", with(image, "Ocp-Apim-Subscription-Key", o.Key))
	f.Add(20, http.MethodPut, o.URL+fmt.Sprintf(vaultPath, op.SubscriptionID, "other"), "",
		with(json, "Authorization", atManagement))
	f.Add(20, http.MethodPut, o.URL+fmt.Sprintf(vaultPath, op.SubscriptionID, "other"), "", json)
	f.Wait()

	var took []time.Duration
	for range rounds {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		d, err := o.revoke(ctx, func(ctx context.Context) error { return o.enabled(ctx, key, false) })
		if err != nil {
			t.Fatalf("revocation %d of %d under flood: %v", len(took)+1, rounds, err)
		}
		took = append(took, d)
		if err := o.enabled(ctx, key, true); err != nil {
			t.Fatal(err)
		}
		for {
			status, err := o.touch(ctx)
			if err != nil {
				t.Fatalf("enable the key under flood: %v", err)
			}
			if status == http.StatusOK {
				break
			}
		}
		cancel()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	d, err := o.revoke(ctx, func(ctx context.Context) error {
		_, err := o.keys.DeleteKey(ctx, key.Name, nil)
		return err
	})
	if err != nil {
		t.Fatalf("delete the key under flood: %v", err)
	}
	// A new client gets a token, too.
	if token := o.Token(t, "https://management.azure.com"); token == "" {
		t.Error("no token")
	}
	took = append(took, d)
	slices.Sort(took)
	t.Logf("%d revocations under flood: p50 %v, p99 %v, longest %v", len(took), took[len(took)/2],
		took[(len(took)*99-1)/100], took[len(took)-1])
}

// enabled enables or disables the key.
func (o *officer) enabled(ctx context.Context, key visage.KeyRef, on bool) error {
	_, err := o.keys.UpdateKey(ctx, key.Name, key.Version, azkeys.UpdateKeyParameters{
		KeyAttributes: &azkeys.KeyAttributes{Enabled: to.Ptr(on)},
	}, nil)
	return err
}
