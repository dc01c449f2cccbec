package console_test

import (
	"net/http"
	"strings"
	"testing"
)

// TestGivingAccessBackNeedsAFreshProof takes the access of a resource's identity to its key away: a browser that was
// left open does not give it back, by the button or by a form with another spelling of the key or with another key of
// the vault.
func TestGivingAccessBackNeedsAFreshProof(t *testing.T) {
	i := newIssuer(t)
	r := newRealm(t, issuing(t, i))
	r.resource("face1")
	r.vault("safe", nil)
	r.newKey("safe", "k")
	r.newKey("safe", "other")
	b := r.Browser(t, "")
	const at = "/console/resources/face1/encryption"
	r.enable(b, "face1", "safe", "k")
	const vault = group + "/providers/Microsoft.KeyVault/vaults/safe"
	id := r.manage(http.MethodGet, group+"/providers/Microsoft.CognitiveServices/accounts/face1", nil)["identity"]
	policies := func(action string) {
		r.manage(http.MethodPut, vault+"/accessPolicies/"+action, map[string]any{"properties": map[string]any{
			"accessPolicies": []any{map[string]any{"tenantId": r.Operator().TenantID,
				"objectId":    id.(map[string]any)["principalId"],
				"permissions": map[string]any{"keys": []string{"get", "wrapKey", "unwrapKey"}}}}}})
	}
	policies("remove")
	await(t, b, at, "<span>Customer-managed key: access revoked</span>")
	left := stale(t, r.Server, i)
	check := at + "/key?vault=safe&name=k"
	page := left.Get(check)
	hold(t, page, 200, "Give the access back")
	fields, _ := page.Form(at)
	address, name := fields.Get("address"), fields.Get("name")
	for what, spelled := range map[string][2]string{
		"the form": {address, name}, "a trailing slash": {address + "/", name}, "capitals": {address, "K"},
		"a host in capitals": {strings.ToUpper(address), name}, "another key of the vault": {address, "other"},
	} {
		fields.Set("address", spelled[0])
		fields.Set("name", spelled[1])
		status := http.StatusForbidden
		if what == "a trailing slash" {
			status = http.StatusUnprocessableEntity // it is no address of a vault
		}
		if p := left.Send(at, fields); p.Status != status ||
			status == http.StatusForbidden && !strings.Contains(p.Body, "Prove again who you are") {
			t.Errorf("%s: %d %s", what, p.Status, p.Body)
		}
	}
	hold(t, left.Get(at), 200, "access revoked")
	r.enable(b, "face1", "safe", "k")
}
