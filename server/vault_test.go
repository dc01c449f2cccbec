package server_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// credential is the unmodified official identity client as the operator.
func credential(t *testing.T, s *servertest.Server) azcore.TokenCredential {
	t.Helper()
	options := &azidentity.ClientSecretCredentialOptions{DisableInstanceDiscovery: true}
	options.Cloud = cloud.Configuration{ActiveDirectoryAuthorityHost: s.URL}
	options.Transport, options.Retry.MaxRetries = s.Client, -1
	o := s.Operator()
	c, err := azidentity.NewClientSecretCredential(o.TenantID, o.ClientID, o.ClientSecret, options)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// arm makes a request of the management plane as the operator.
func arm(t *testing.T, s *servertest.Server, method, path, body string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.Token(t, "https://management.azure.com/"))
	res, err := s.Client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := res.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return res.StatusCode
}

// vaultClient returns the official client of a vault, without a DNS lookup of its host.
func vaultClient(t *testing.T, s *servertest.Server, vault string) *azkeys.Client {
	t.Helper()
	endpoint, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	client := s.Client
	if transport, ok := client.Transport.(*http.Transport); ok {
		transport = transport.Clone()
		transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, s.Addr().String())
		}
		client = &http.Client{Transport: transport}
		s.LeaveWith(client)
	}
	options := &azkeys.ClientOptions{}
	options.Transport, options.Retry.MaxRetries = client, -1
	c, err := azkeys.NewClient("https://"+vault+".vault."+endpoint.Host, credential(t, s), options)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestBuiltInVault covers the way from a fresh server to a wrapped key with the official client, over TLS with the
// server's own authority, and across a restart.
func TestBuiltInVault(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	o := s.Operator()
	path := "/subscriptions/" + o.SubscriptionID +
		"/resourceGroups/default/providers/Microsoft.KeyVault/vaults/safe?api-version=2024-11-01"
	body := `{"location":"local","properties":{"tenantId":"` + o.TenantID + `","sku":{"family":"A","name":"standard"},
		"accessPolicies":[{"tenantId":"` + o.TenantID + `","objectId":"` + o.ClientID + `","permissions":{"keys":["all"]}}]}}`
	if status := arm(t, s, http.MethodPut, path, body); status != http.StatusCreated {
		t.Fatalf("make a vault: %d", status)
	}
	c := vaultClient(t, s, "safe")
	made, err := c.CreateKey(t.Context(), "k1", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSA)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	version := made.Key.KID.Version()
	params := azkeys.KeyOperationParameters{Algorithm: to.Ptr(azkeys.EncryptionAlgorithmRSAOAEP256), Value: []byte("x")}
	wrapped, err := c.WrapKey(t.Context(), "k1", version, params, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	s = servertest.Start(t, server.Config{Dir: s.Dir()})
	params.Value = wrapped.Result
	back, err := vaultClient(t, s, "safe").UnwrapKey(t.Context(), "k1", version, params, nil)
	if err != nil || string(back.Result) != "x" {
		t.Fatalf("after a restart: %q, %v", back.Result, err)
	}
	if status := arm(t, s, http.MethodDelete, path, ""); status != http.StatusOK {
		t.Fatalf("delete the vault: %d", status)
	}
	_, err = vaultClient(t, s, "safe").GetKey(t.Context(), "k1", "", nil)
	if answer, ok := errors.AsType[*azcore.ResponseError](err); ok && answer.StatusCode != http.StatusNotFound ||
		err == nil {
		t.Errorf("a key of a deleted vault: %v", err)
	}
}
