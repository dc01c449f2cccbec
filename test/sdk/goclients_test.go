package sdk_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/cognitiveservices/armcognitiveservices"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/keyvault/armkeyvault"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
)

// goClients encrypts a resource with a customer's key through the official Go clients, and revokes the key: at the
// addresses that the service returns, which all begin with the place's.
func goClients(t *testing.T, at place) {
	t.Helper()
	transport := at.transport(t)
	options := azcore.ClientOptions{Transport: transport}
	options.Cloud = cloud.Configuration{ActiveDirectoryAuthorityHost: at.url,
		Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
			cloud.ResourceManager: {Endpoint: at.url, Audience: at.url},
		}}
	credential, err := azidentity.NewClientSecretCredential(at.operator.TenantID, at.operator.ClientID,
		at.operator.ClientSecret,
		&azidentity.ClientSecretCredentialOptions{ClientOptions: options, DisableInstanceDiscovery: true})
	if err != nil {
		t.Fatal(err)
	}
	managing := &arm.ClientOptions{ClientOptions: options, DisableRPRegistration: true}
	faces, err := armcognitiveservices.NewClientFactory(at.operator.SubscriptionID, credential, managing)
	if err != nil {
		t.Fatal(err)
	}
	vaults, err := armkeyvault.NewVaultsClient(at.operator.SubscriptionID, credential, managing)
	if err != nil {
		t.Fatal(err)
	}
	accounts := faces.NewAccountsClient()
	ctx := t.Context()
	making, err := accounts.BeginCreate(ctx, "default", "go-clients", armcognitiveservices.Account{
		Kind: to.Ptr("Face"), Location: to.Ptr("West US 2"), SKU: &armcognitiveservices.SKU{Name: to.Ptr("E0")},
		Identity: &armcognitiveservices.Identity{
			Type: to.Ptr(armcognitiveservices.ResourceIdentityTypeSystemAssigned),
		},
		Properties: &armcognitiveservices.AccountProperties{CustomSubDomainName: to.Ptr("go-clients")},
	}, nil)
	made := ended(t, making, err)
	if got, want := *made.Properties.Endpoint, below(at.url, "go-clients")+"/"; got != want {
		t.Errorf("the resource is at %s, want %s", got, want)
	}
	policy := func(principal string, permissions ...armkeyvault.KeyPermissions) *armkeyvault.AccessPolicyEntry {
		entry := &armkeyvault.AccessPolicyEntry{TenantID: &at.operator.TenantID, ObjectID: &principal,
			Permissions: &armkeyvault.Permissions{}}
		for _, p := range permissions {
			entry.Permissions.Keys = append(entry.Permissions.Keys, &p)
		}
		return entry
	}
	building, err := vaults.BeginCreateOrUpdate(ctx, "default", "go-safe", armkeyvault.VaultCreateOrUpdateParameters{
		Location: to.Ptr("West US 2"), Properties: &armkeyvault.VaultProperties{
			TenantID: &at.operator.TenantID, EnablePurgeProtection: to.Ptr(true),
			EnableRbacAuthorization: to.Ptr(false),
			SKU: &armkeyvault.SKU{Family: to.Ptr(armkeyvault.SKUFamilyA),
				Name: to.Ptr(armkeyvault.SKUNameStandard)},
			AccessPolicies: []*armkeyvault.AccessPolicyEntry{
				policy(at.operator.ClientID, armkeyvault.KeyPermissionsAll),
				policy(*made.Identity.PrincipalID, armkeyvault.KeyPermissionsGet, armkeyvault.KeyPermissionsWrapKey,
					armkeyvault.KeyPermissionsUnwrapKey),
			},
		},
	}, nil)
	vault := ended(t, building, err)
	if got, want := *vault.Properties.VaultURI, below(at.url, "go-safe.vault")+"/"; got != want {
		t.Errorf("the vault is at %s, want %s", got, want)
	}
	keys, err := azkeys.NewClient(*vault.Properties.VaultURI, credential,
		&azkeys.ClientOptions{ClientOptions: azcore.ClientOptions{Transport: transport}})
	if err != nil {
		t.Fatal(err)
	}
	key, err := keys.CreateKey(ctx, "k1", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSA)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if kid := string(*key.Key.KID); !strings.HasPrefix(kid, *vault.Properties.VaultURI+"keys/k1/") {
		t.Errorf("the key is %s", kid)
	}
	listed := 0
	for pages := keys.NewListKeyPropertiesPager(nil); pages.More(); listed++ {
		if _, err := pages.NextPage(ctx); err != nil {
			t.Fatal(err)
		}
	}
	changing, err := accounts.BeginUpdate(ctx, "default", "go-clients", armcognitiveservices.Account{
		Properties: &armcognitiveservices.AccountProperties{Encryption: &armcognitiveservices.Encryption{
			KeySource: to.Ptr(armcognitiveservices.KeySourceMicrosoftKeyVault),
			KeyVaultProperties: &armcognitiveservices.KeyVaultProperties{
				KeyName: to.Ptr("k1"), KeyVersion: to.Ptr(key.Key.KID.Version()),
				KeyVaultURI: vault.Properties.VaultURI,
			},
		}},
	}, nil)
	ended(t, changing, err)
	secret, err := accounts.ListKeys(ctx, "default", "go-clients", nil)
	if err != nil {
		t.Fatal(err)
	}
	waitFor := func(status int) {
		t.Helper()
		for ctx.Err() == nil {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet,
				*made.Properties.Endpoint+"face/v1.2/persongroups", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Ocp-Apim-Subscription-Key", *secret.Key1)
			res, err := transport.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_, err = io.Copy(io.Discard, res.Body)
			res.Body.Close()
			if err == nil && res.StatusCode == status {
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond):
			}
		}
		t.Fatalf("no status %d in time", status)
	}
	waitFor(http.StatusOK)
	for _, enabled := range []bool{false, true} {
		_, err := keys.UpdateKey(ctx, "k1", key.Key.KID.Version(),
			azkeys.UpdateKeyParameters{KeyAttributes: &azkeys.KeyAttributes{Enabled: &enabled}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		waitFor(map[bool]int{false: http.StatusForbidden, true: http.StatusOK}[enabled])
	}
}

// ended waits for the end of an operation.
func ended[T any](t *testing.T, p *runtime.Poller[T], err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	answer, err := p.PollUntilDone(t.Context(), &runtime.PollUntilDoneOptions{Frequency: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// below is the origin of a host below another's.
func below(origin, label string) string { return strings.Replace(origin, "://", "://"+label+".", 1) }

// transport is a client that trusts the place's authority, and resolves every name of the service to this machine.
func (p place) transport(t *testing.T) *http.Client {
	t.Helper()
	pem, err := os.ReadFile(p.caFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		t.Fatalf("%s holds no certificate", p.caFile)
	}
	u, err := url.Parse(p.url)
	if err != nil {
		t.Fatal(err)
	}
	port := u.Port()
	if port == "" {
		port = "443"
	}
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}
