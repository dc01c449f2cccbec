package console_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// realm is a server that the test changes as the operator, through the planes.
type realm struct {
	*servertest.Server
	t *testing.T
}

func newRealm(t *testing.T, cfg server.Config) *realm { return &realm{servertest.Start(t, cfg), t} }

// manage sends a request to the management plane; path is below the subscription.
func (r *realm) manage(method, path string, body any) map[string]any {
	r.t.Helper()
	return r.Manage(r.t, method, path, body)
}

// group is the path of the resource group, below the subscription.
const group = "/resourceGroups/default"

// resource creates a resource of tier E0 in westeurope, whose access request is approved.
func (r *realm) resource(name string) {
	r.t.Helper()
	r.approve(name)
	r.manage(http.MethodPut, group+"/providers/Microsoft.CognitiveServices/accounts/"+name,
		map[string]any{"location": "westeurope", "kind": "Face", "sku": map[string]any{"name": "E0"}})
}

// approve submits and approves an access request.
func (r *realm) approve(name string) {
	r.t.Helper()
	const requests = "/providers/Microsoft.CognitiveServices/accessRequests/"
	r.manage(http.MethodPut, requests+name, map[string]any{"properties": map[string]any{
		"service": "Face", "region": "westeurope", "contact": "a@example.org", "reason": "test"}})
	r.manage(http.MethodPost, requests+name+"/approve", map[string]any{})
}

// vault creates a vault; given properties replace those of one that may protect a resource.
func (r *realm) vault(name string, given map[string]any) {
	r.t.Helper()
	op := r.Operator()
	properties := map[string]any{
		"tenantId": op.TenantID, "sku": map[string]any{"family": "A", "name": "standard"},
		"enablePurgeProtection": true, "enableRbacAuthorization": false, "accessPolicies": []any{map[string]any{
			"tenantId": op.TenantID, "objectId": op.ClientID, "permissions": map[string]any{"keys": []string{"all"}}}},
	}
	location := "westeurope"
	for k, v := range given {
		if k == "location" {
			location = v.(string)
			continue
		}
		properties[k] = v
	}
	r.manage(http.MethodPut, group+"/providers/Microsoft.KeyVault/vaults/"+name,
		map[string]any{"location": location, "properties": properties})
}

// newKey creates a key and returns its identifier with the version.
func (r *realm) newKey(vault, name string) string {
	r.t.Helper()
	made := r.CallVault(r.t, http.MethodPost, vault, name+"/create", map[string]any{"kty": "RSA", "key_size": 2048})
	return made["key"].(map[string]any)["kid"].(string)
}

// somebody creates an identity with a role on the subscription, and returns its browser.
func (r *realm) somebody(role string) *servertest.Browser {
	r.t.Helper()
	made := r.manage(http.MethodPost, "/providers/Visage.Identity/servicePrincipals",
		map[string]any{"displayName": "p"})
	id := made["objectId"].(string)
	sub := "/subscriptions/" + r.Operator().SubscriptionID
	r.manage(http.MethodPut, "/providers/Microsoft.Authorization/roleAssignments/"+visage.NewUUID().String(),
		map[string]any{"properties": map[string]any{"principalId": id,
			"roleDefinitionId": sub + "/providers/Microsoft.Authorization/roleDefinitions/" + role}})
	return r.Browser(r.t, id)
}

// await gets a page until it says something, at most as often as a change of keys needs. Each request lets the server
// go on.
func await(t *testing.T, b *servertest.Browser, path, text string) servertest.Page {
	t.Helper()
	var p servertest.Page
	for range 2000 {
		if p = b.Get(path); strings.Contains(p.Body, text) {
			return p
		}
	}
	t.Fatalf("page %s never says %q: %s", path, text, p.Body)
	return p
}

// hold fails the test unless a page has a status and texts.
func hold(t *testing.T, p servertest.Page, status int, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if p.Status != status || !strings.Contains(p.Body, text) {
			t.Fatalf("status %d, wanted %d with %q:\n%s", p.Status, status, text, p.Body)
		}
	}
}

// TestTurnOnCustomerManagedKey walks from the sign-in to a customer's key with a new vault and key (requirements 25 and
// 28), and counts the clicks: console.md allows twelve.
func TestTurnOnCustomerManagedKey(t *testing.T) {
	r := newRealm(t, server.Config{})
	r.resource("face1")
	const at = "/console/resources/face1/encryption"
	b := r.Browser(t, "") // 1: the button of the one-time address
	clicks := 1
	click := func(p servertest.Page) servertest.Page { clicks++; return p }
	hold(t, click(b.Get("/console/resources/face1")), 200, at)
	hold(t, click(b.Get(at)), 200, `action="`+at+`/choose"`, "Service-managed keys")
	clicks += 2 // customer-managed keys; a new vault and key
	p := click(b.Get(at + "/choose?type=customer&how=new&uri="))
	if to := p.Header.Get("Location"); p.Status != http.StatusSeeOther || to != at+"/new" {
		t.Fatalf("choose: %d, to %s: %s", p.Status, to, p.Body)
	}
	p = click(b.Submit(at+"/new", at+"/new", nil))
	if p.Status != http.StatusSeeOther {
		t.Fatalf("create: %d %s", p.Status, p.Body)
	}
	check := p.Header.Get("Location")
	hold(t, b.Get(check), 200, "The vault face1-kv and the key visage-key are created.", "RSA with 2048 bits",
		"done when you save", ">Save<")
	p = click(b.Submit(check, at, nil))
	if p.Status != http.StatusSeeOther || p.Header.Get("Location") != at {
		t.Fatalf("save: %d %s", p.Status, p.Body)
	}
	p = await(t, b, at, "Customer-managed key: active")
	hold(t, p, 200, "face1-kv", "visage-key", "New versions are followed automatically.",
		"Customer-managed key enabled")
	if clicks > 12 {
		t.Errorf("%d clicks", clicks)
	}
	t.Logf("%d clicks", clicks)
	// Saved, the identity is there, with exactly the access that it needs.
	hold(t, b.Get("/console/resources/face1/identity"), 200, "face1-kv", "get, wrapKey, unwrapKey")
}
