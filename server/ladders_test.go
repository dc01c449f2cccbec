package server_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

const vaultsPath = "/resourceGroups/default/providers/Microsoft.KeyVault/vaults"

// vaultOf is the body of a vault in which roles decide or do not.
func (r realm) vaultOf(rbac bool, policies ...string) string {
	return fmt.Sprintf(`{"location":"local","properties":{"tenantId":%q,"sku":{"family":"A","name":"standard"},
		"enableRbacAuthorization":%t,"accessPolicies":[%s]}}`, r.Operator().TenantID, rbac, strings.Join(policies, ","))
}

// policyOf is an access policy with all permissions.
func (r realm) policyOf(objectID string) string {
	return fmt.Sprintf(`{"tenantId":%q,"objectId":%q,"permissions":{"keys":["all","purge"]}}`, r.Operator().TenantID,
		objectID)
}

// TestAContributorTakesOverNoVault checks that a caller who may change a vault, but not assign roles, can neither
// switch from roles to policies or back, nor prepare policies for such a switch.
func TestAContributorTakesOverNoVault(t *testing.T) {
	r := realm{servertest.Start(t, server.Config{}), t}
	operator := r.Token(t, managementPlane)
	contributor := r.somebody("contributor", "", identity.Contributor)(managementPlane)
	owner := r.somebody("owner", "", identity.Owner)(managementPlane)
	const me = "44444444-4444-4444-8444-444444444444"
	mine := r.policyOf(me)
	const no = "AuthorizationFailed"
	r.call(201, "", operator, "PUT", vaultsPath+"/roles", r.vaultOf(true))
	r.call(201, "", contributor, "PUT", vaultsPath+"/policies", r.vaultOf(false, mine)) // as in Azure

	off := fmt.Sprintf(`{"properties":{"enableRbacAuthorization":false,"accessPolicies":[%s]}}`, mine)
	list := fmt.Sprintf(`{"properties":{"accessPolicies":[%s]}}`, mine)
	for _, c := range []struct{ method, path, body string }{
		{"PATCH", "/roles", `{"properties":{"enableRbacAuthorization":false}}`},
		{"PATCH", "/roles", off},
		{"PATCH", "/roles", list},
		{"PUT", "/roles", r.vaultOf(false)},
		{"PUT", "/ROLES", r.vaultOf(false, mine)},
		{"PUT", "/roles", r.vaultOf(true, mine)},
		{"PUT", "/roles/accessPolicies/add", list},
		{"PUT", "/roles/accessPolicies/Replace", list},
		{"PATCH", "/policies", `{"properties":{"enableRbacAuthorization":true}}`},
		{"PUT", "/policies", r.vaultOf(true, mine)},
	} {
		r.call(403, no, contributor, c.method, vaultsPath+c.path, c.body)
	}
	// Changes that do not affect access are still allowed.
	r.call(200, "", contributor, "PUT", vaultsPath+"/roles", r.vaultOf(true))
	r.call(200, "", contributor, "PATCH", vaultsPath+"/roles", `{"tags":{"a":"b"}}`)
	r.call(200, "", contributor, "PUT", vaultsPath+"/policies/accessPolicies/remove", list)
	r.call(200, "", contributor, "PUT", vaultsPath+"/policies/accessPolicies/add", list)
	// Deleting and recovering does not help.
	r.call(200, "", contributor, "DELETE", vaultsPath+"/roles", "")
	back := strings.Replace(r.vaultOf(false, mine), `"properties":{`, `"properties":{"createMode":"recover",`, 1)
	r.call(200, "", contributor, "PUT", vaultsPath+"/roles", back)
	now := r.call(200, "", operator, "GET", vaultsPath+"/roles", "")["properties"].(map[string]any)
	if now["enableRbacAuthorization"] != true || len(now["accessPolicies"].([]any)) != 0 {
		t.Errorf("the vault is now %v", now)
	}
	r.call(200, "", owner, "PUT", vaultsPath+"/roles/accessPolicies/add", list)
	r.call(403, no, contributor, "PUT", vaultsPath+"/roles/accessPolicies/remove", list)
	r.call(200, "", owner, "PATCH", vaultsPath+"/roles", `{"properties":{"enableRbacAuthorization":false}}`)
}

// TestAnIdentityIsLentByWhoMay checks that a caller who may change only one account cannot assign another identity to
// it.
func TestAnIdentityIsLentByWhoMay(t *testing.T) {
	r := realm{servertest.Start(t, server.Config{}), t}
	path := "/subscriptions/" + r.Operator().SubscriptionID +
		"/resourceGroups/default/providers/Microsoft.ManagedIdentity/userAssignedIdentities/worker"
	if _, err := r.Directory().EnsureManaged(t.Context(), r.Operator().TenantID, path,
		identity.UserAssigned); err != nil {
		t.Fatal(err)
	}
	contributor := r.somebody("contributor", "", identity.Contributor)(managementPlane)
	r.somebody("keeper", "")
	keeper := r.tokenOf("keeper")
	for _, p := range r.Directory().Principals() {
		if p.Name == "keeper" {
			r.call(201, "", r.Token(t, managementPlane), "PUT",
				groupPath+"/default/providers/Microsoft.Authorization/roleAssignments/"+newID(t),
				roleOf(identity.Contributor, p.ID))
		}
	}
	body := `{"identity":{"type":"UserAssigned","userAssignedIdentities":{"` + path + `":{}}}}`
	r.call(403, "LinkedAuthorizationFailed", keeper, "PATCH", groupPath+"/default", body)
	r.call(200, "", contributor, "PATCH", groupPath+"/default", body)
	// it is assigned already
	r.call(200, "", keeper, "PATCH", groupPath+"/default",
		strings.Replace(body, `{"identity"`, `{"tags":{"a":"b"},"identity"`, 1))
}

// TestAVaultIsOfTheTenant checks the tenant of vaults: challenges contain it, and clients show their credentials there.
func TestAVaultIsOfTheTenant(t *testing.T) {
	r := realm{servertest.Start(t, server.Config{}), t}
	operator := r.Token(t, managementPlane)
	foreign, err := r.Directory().CreateTenant(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, tenant := range []string{
		foreign, "00000000-0000-0000-0000-000000000000", "..", `x", authorization="https://elsewhere.example`, "a/b",
		"elsewhere.example",
	} {
		body := strings.Replace(r.vaultOf(false), fmt.Sprintf("%q", r.Operator().TenantID), fmt.Sprintf("%q", tenant),
			1)
		r.call(400, "BadRequest", operator, "PUT", vaultsPath+"/safe1", body)
	}
	upper := strings.Replace(r.vaultOf(false), r.Operator().TenantID, strings.ToUpper(r.Operator().TenantID), 1)
	r.call(201, "", operator, "PUT", vaultsPath+"/safe1", upper)
	r.call(400, "BadRequest", operator, "PATCH", vaultsPath+"/safe1",
		fmt.Sprintf(`{"properties":{"tenantId":%q}}`, foreign))
}
