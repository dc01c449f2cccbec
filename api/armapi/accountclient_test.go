package armapi_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/cognitiveservices/armcognitiveservices"
)

// clients are the unmodified official management clients with the operator's identity.
func (m manager) clients() *armcognitiveservices.ClientFactory {
	m.t.Helper()
	options := &arm.ClientOptions{DisableRPRegistration: true}
	options.Transport, options.Retry.MaxRetries = m.Client, -1
	options.Cloud = cloud.Configuration{Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
		cloud.ResourceManager: {Endpoint: m.URL, Audience: m.URL},
	}}
	f, err := armcognitiveservices.NewClientFactory(m.Operator().SubscriptionID, m.credential(), options)
	if err != nil {
		m.t.Fatal(err)
	}
	return f
}

// done waits for the end of an operation.
func done[T any](t *testing.T, p *runtime.Poller[T], err error) T {
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

// wantCode compares the refusal that an official client reports.
func wantCode(t *testing.T, err error, status int, code string) {
	t.Helper()
	if answer, ok := errors.AsType[*azcore.ResponseError](err); !ok || answer.StatusCode != status ||
		answer.ErrorCode != code {
		t.Errorf("got %v, want %d %s", err, status, code)
	}
}

// TestOfficialClientManagesAccounts manages a resource under a customer's key, from creation to purge, with the
// official client.
func TestOfficialClientManagesAccounts(t *testing.T) {
	m := startApproved(t)
	f := m.clients()
	accounts, deleted := f.NewAccountsClient(), f.NewDeletedAccountsClient()
	ctx := t.Context()
	e0 := armcognitiveservices.Account{
		Kind: to.Ptr("Face"), Location: to.Ptr("West US 2"), SKU: &armcognitiveservices.SKU{Name: to.Ptr("E0")},
		Properties: &armcognitiveservices.AccountProperties{CustomSubDomainName: to.Ptr("vip-faces")},
	}
	making, err := accounts.BeginCreate(ctx, "default", "vip", e0, nil)
	made := done(t, making, err)
	if *made.Name != "vip" || *made.Properties.CustomSubDomainName != "vip-faces" ||
		made.Properties.Encryption != nil ||
		*made.Properties.ProvisioningState != armcognitiveservices.ProvisioningStateSucceeded ||
		made.SystemData.CreatedAt == nil {
		t.Errorf("made %+v", made.Account)
	}
	updating, err := accounts.BeginUpdate(ctx, "default", "vip", armcognitiveservices.Account{
		Identity: &armcognitiveservices.Identity{Type: to.Ptr(armcognitiveservices.ResourceIdentityTypeSystemAssigned)},
	}, nil)
	assigned := done(t, updating, err)
	m.vault("safe", "westus2", `,"enablePurgeProtection":true`, *assigned.Identity.PrincipalID,
		`"get","wrapKey","unwrapKey"`)
	under := func(version string) armcognitiveservices.Account {
		return armcognitiveservices.Account{Properties: &armcognitiveservices.AccountProperties{
			Encryption: &armcognitiveservices.Encryption{
				KeySource: to.Ptr(armcognitiveservices.KeySourceMicrosoftKeyVault),
				KeyVaultProperties: &armcognitiveservices.KeyVaultProperties{
					KeyName: to.Ptr("k"), KeyVersion: &version, KeyVaultURI: to.Ptr(m.vaultURI("safe")),
				},
			},
		}}
	}
	for range 2 { // enabled, and then rotated
		version := m.makeKey("safe", "k", `{"kty":"RSA"}`)
		updating, err = accounts.BeginUpdate(ctx, "default", "vip", under(version), nil)
		changed := done(t, updating, err)
		if e := changed.Properties.Encryption; *e.KeyVaultProperties.KeyVersion != version ||
			*changed.Properties.ProvisioningState != armcognitiveservices.ProvisioningStateSucceeded {
			t.Errorf("encrypted: %+v", changed.Properties)
		}
	}
	_, err = accounts.BeginUpdate(ctx, "default", "vip", under("0123456789abcdef0123456789abcdef"), nil)
	wantCode(t, err, http.StatusBadRequest, "KeyVaultKeyNotFound")

	keys, err := accounts.ListKeys(ctx, "default", "vip", nil)
	if err != nil || *keys.Key1 == "" {
		t.Errorf("keys: %+v, %v", keys, err)
	}
	turned, err := accounts.RegenerateKey(ctx, "default", "vip",
		armcognitiveservices.RegenerateKeyParameters{KeyName: to.Ptr(armcognitiveservices.KeyNameKey2)}, nil)
	if err != nil || *turned.Key1 != *keys.Key1 || *turned.Key2 == *keys.Key2 {
		t.Errorf("regenerated: %+v, %v", turned, err)
	}
	if skus, err := accounts.ListSKUs(ctx, "default", "vip", nil); err != nil || len(skus.Value) != 1 {
		t.Errorf("tiers: %+v, %v", skus, err)
	}
	if _, err := accounts.ListUsages(ctx, "default", "vip", nil); err != nil {
		t.Error(err)
	}
	n := 0
	for pager := accounts.NewListByResourceGroupPager("default", nil); pager.More(); {
		page, err := pager.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		n += len(page.Value)
	}
	if n != 2 {
		t.Errorf("listed %d accounts", n)
	}

	updating, err = accounts.BeginUpdate(ctx, "default", "vip", armcognitiveservices.Account{
		Properties: &armcognitiveservices.AccountProperties{Encryption: &armcognitiveservices.Encryption{
			KeySource: to.Ptr(armcognitiveservices.KeySourceMicrosoftCognitiveServices),
		}},
	}, nil)
	if back := done(t, updating, err); back.Properties.Encryption.KeyVaultProperties != nil {
		t.Errorf("back: %+v", back.Properties.Encryption)
	}

	deleting, err := accounts.BeginDelete(ctx, "default", "vip", nil)
	done(t, deleting, err)
	gone, err := deleted.Get(ctx, "westus2", "default", "vip", nil)
	if err != nil || gone.Properties.ScheduledPurgeDate == nil {
		t.Errorf("deleted: %+v, %v", gone.Account, err)
	}
	_, err = accounts.BeginCreate(ctx, "default", "vip", e0, nil)
	wantCode(t, err, http.StatusConflict, "FlagMustBeSetForRestore")
	e0.Properties.Restore = to.Ptr(true)
	making, err = accounts.BeginCreate(ctx, "default", "vip", e0, nil)
	if back := done(t, making, err); *back.Properties.InternalID != *made.Properties.InternalID {
		t.Error("another resource was recovered")
	}
	deleting, err = accounts.BeginDelete(ctx, "default", "vip", nil)
	done(t, deleting, err)
	purging, err := deleted.BeginPurge(ctx, "westus2", "default", "vip", nil)
	done(t, purging, err)
	_, err = deleted.Get(ctx, "westus2", "default", "vip", nil)
	wantCode(t, err, http.StatusNotFound, "ResourceNotFound")
	free, err := f.NewManagementClient().
		CheckDomainAvailability(ctx, armcognitiveservices.CheckDomainAvailabilityParameter{
			SubdomainName: to.Ptr("vip-faces"), Type: to.Ptr("Microsoft.CognitiveServices/accounts"),
		}, nil)
	if err != nil || !*free.IsSubdomainAvailable {
		t.Errorf("the subdomain of a purged resource: %+v, %v", free, err)
	}
}
