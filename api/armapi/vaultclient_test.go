package armapi_test

import (
	"errors"
	"net/http"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/keyvault/armkeyvault"
)

// credential is the unmodified official identity client as the operator.
func (m manager) credential() azcore.TokenCredential {
	m.t.Helper()
	options := &azidentity.ClientSecretCredentialOptions{DisableInstanceDiscovery: true}
	options.Cloud = cloud.Configuration{ActiveDirectoryAuthorityHost: m.URL}
	options.Transport, options.Retry.MaxRetries = m.Client, -1
	o := m.Operator()
	c, err := azidentity.NewClientSecretCredential(o.TenantID, o.ClientID, o.ClientSecret, options)
	if err != nil {
		m.t.Fatal(err)
	}
	return c
}

// TestOfficialClientManagesVaults manages a vault, from creation to purge, with the unmodified official client.
func TestOfficialClientManagesVaults(t *testing.T) {
	m := start(t)
	options := &arm.ClientOptions{DisableRPRegistration: true}
	options.Transport, options.Retry.MaxRetries = m.Client, -1
	options.Cloud = cloud.Configuration{Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
		cloud.ResourceManager: {Endpoint: m.URL, Audience: m.URL},
	}}
	o := m.Operator()
	c, err := armkeyvault.NewVaultsClient(o.SubscriptionID, m.credential(), options)
	if err != nil {
		t.Fatal(err)
	}
	making, err := c.BeginCreateOrUpdate(t.Context(), "default", "safe1", armkeyvault.VaultCreateOrUpdateParameters{
		Location: to.Ptr("westus2"),
		Properties: &armkeyvault.VaultProperties{
			TenantID: &o.TenantID, EnablePurgeProtection: nil, EnableSoftDelete: to.Ptr(true),
			SKU: &armkeyvault.SKU{Family: to.Ptr(armkeyvault.SKUFamilyA), Name: to.Ptr(armkeyvault.SKUNamePremium)},
			AccessPolicies: []*armkeyvault.AccessPolicyEntry{{
				TenantID: &o.TenantID, ObjectID: &o.ClientID,
				Permissions: &armkeyvault.Permissions{
					Keys: []*armkeyvault.KeyPermissions{to.Ptr(armkeyvault.KeyPermissionsGet),
						to.Ptr(armkeyvault.KeyPermissionsWrapKey)},
					Secrets: []*armkeyvault.SecretPermissions{to.Ptr(armkeyvault.SecretPermissionsGet)},
				},
			}},
		},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	made, err := making.PollUntilDone(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	given := made.Properties.AccessPolicies
	if *made.Name != "safe1" || *made.Properties.SKU.Name != armkeyvault.SKUNamePremium ||
		made.Properties.VaultURI == nil ||
		len(given) != 1 || len(given[0].Permissions.Keys) != 2 || len(given[0].Permissions.Secrets) != 1 {
		t.Errorf("made %+v", made.Properties)
	}
	for _, list := range []func() (int, error){
		func() (n int, err error) {
			for pager := c.NewListByResourceGroupPager("default", nil); pager.More() && err == nil; {
				var page armkeyvault.VaultsClientListByResourceGroupResponse
				page, err = pager.NextPage(t.Context())
				n += len(page.Value)
			}
			return n, err
		},
		func() (n int, err error) {
			for pager := c.NewListPager(nil); pager.More() && err == nil; { // another path: that of all resources
				var page armkeyvault.VaultsClientListResponse
				page, err = pager.NextPage(t.Context())
				n += len(page.Value)
			}
			return n, err
		},
	} {
		if n, err := list(); err != nil || n != 1 {
			t.Errorf("listed %d vaults, %v", n, err)
		}
	}
	_, err = c.UpdateAccessPolicy(t.Context(), "default", "safe1", armkeyvault.AccessPolicyUpdateKindRemove,
		armkeyvault.VaultAccessPolicyParameters{
			Properties: &armkeyvault.VaultAccessPolicyProperties{AccessPolicies: given},
		}, nil)
	if err != nil {
		t.Error(err)
	}
	if v, err := c.Get(t.Context(), "default", "safe1", nil); err != nil || len(v.Properties.AccessPolicies) != 0 {
		t.Errorf("after the policy was removed: %+v, %v", v.Properties, err)
	}
	if _, err = c.Delete(t.Context(), "default", "safe1", nil); err != nil {
		t.Error(err)
	}
	if gone, err := c.GetDeleted(t.Context(), "safe1", "westus2", nil); err != nil ||
		*gone.Properties.VaultID != *made.ID ||
		gone.Properties.ScheduledPurgeDate.Sub(*gone.Properties.DeletionDate).Hours() != 90*24 {
		t.Errorf("deleted: %+v, %v", gone.Properties, err)
	}
	purging, err := c.BeginPurgeDeleted(t.Context(), "safe1", "westus2", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := purging.PollUntilDone(t.Context(), nil); err != nil {
		t.Error(err)
	}
	_, err = c.Get(t.Context(), "default", "safe1", nil)
	if answer, ok := errors.AsType[*azcore.ResponseError](err); !ok || answer.StatusCode != http.StatusNotFound ||
		answer.ErrorCode != "ResourceNotFound" {
		t.Errorf("a purged vault: %v", err)
	}
}
