package armapi_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// deleted is the path of deleted accounts in a location, followed by more and a version.
func (m manager) deleted(more string) string {
	return "/subscriptions/" + m.Operator().SubscriptionID + "/providers/Microsoft.CognitiveServices" + more +
		"?api-version=2025-09-01"
}

func TestDeletedAccountsOnTheWire(t *testing.T) {
	m := start(t)
	face := `{"kind":"Face","location":"West US 2","sku":{"name":"S0"},"tags":{"a":"b"}}`
	made := m.want(201, "", http.MethodPut, m.accounts("/Face1"), face)
	keys := m.want(200, "", http.MethodPost, m.accounts("/face1/listKeys"), "")
	m.want(200, "", http.MethodDelete, m.accounts("/face1"), "")
	m.want(404, "ResourceNotFound", http.MethodGet, m.accounts("/face1"), "")
	m.want(404, "ResourceNotFound", http.MethodPost, m.accounts("/face1/listKeys"), "")

	one := "/locations/westus2/resourceGroups/default/deletedAccounts/face1"
	gone := m.want(200, "", http.MethodGet, m.deleted(one), "")
	if id, _ := at(gone, "id").(string); !strings.HasSuffix(id,
		"/locations/westus2/resourceGroups/default/deletedAccounts/Face1") ||
		at(gone, "properties.deletionDate") == nil || at(gone, "properties.scheduledPurgeDate") == nil {
		t.Errorf("deleted: %v", gone)
	}
	if all := m.want(200, "", http.MethodGet, m.deleted("/deletedAccounts"), ""); len(at(all, "value").([]any)) != 1 {
		t.Errorf("list: %v", all)
	}
	m.want(404, "ResourceNotFound", http.MethodGet, m.deleted(strings.Replace(one, "westus2", "eastus", 1)), "")
	m.want(409, "FlagMustBeSetForRestore", http.MethodPut, m.accounts("/face1"), face)
	m.want(409, "InvalidResourceLocation", http.MethodPut, m.accounts("/face1"),
		`{"location":"eastus","properties":{"restore":true}}`)
	back := m.want(201, "", http.MethodPut, m.accounts("/face1"),
		`{"location":"westus2","properties":{"restore":true}}`)
	if at(back, "properties.internalId") != at(made, "properties.internalId") || at(back, "tags.a") != "b" ||
		at(back, "properties.deletionDate") != nil {
		t.Errorf("recovered: %v", back)
	}
	if again := m.want(200, "", http.MethodPost, m.accounts("/face1/listKeys"), ""); at(again, "key1") != at(keys,
		"key1") {
		t.Error("its keys have changed")
	}

	m.want(204, "", http.MethodDelete, m.deleted(one), "") // an account that is not deleted cannot be purged
	m.want(200, "", http.MethodDelete, m.accounts("/face1"), "")
	m.want(204, "", http.MethodDelete, m.deleted(strings.Replace(one, "westus2", "eastus", 1)), "")
	m.want(200, "", http.MethodDelete, m.deleted(one), "")
	m.want(404, "ResourceNotFound", http.MethodGet, m.deleted(one), "")
	fresh := m.want(201, "", http.MethodPut, m.accounts("/face1"), face)
	if at(fresh, "properties.internalId") == at(made, "properties.internalId") {
		t.Error("an id was used again")
	}
}

// conditional makes a request with a condition on the account's state.
func (m manager) conditional(header, value string, want int, method, path, body string) {
	m.t.Helper()
	req, err := http.NewRequestWithContext(m.t.Context(), method, m.URL+path, strings.NewReader(body))
	if err != nil {
		m.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+m.Token(m.t, "https://management.azure.com"))
	req.Header.Set(header, value)
	res, err := m.Client.Do(req)
	if err != nil {
		m.t.Fatal(err)
	}
	defer res.Body.Close()
	if b := m.readAll(res, method, path); res.StatusCode != want {
		m.t.Errorf("%s %s, %s %s: %d %s, want %d", method, path, header, value, res.StatusCode, b, want)
	}
}

// TestConditions checks that a caller with an outdated state changes nothing.
func TestConditions(t *testing.T) {
	m := start(t)
	path := m.accounts("/face1")
	face := `{"kind":"Face","location":"local","sku":{"name":"S0"}}`
	m.conditional("If-Match", "*", 412, http.MethodPut, path, face)
	old := at(m.want(201, "", http.MethodPut, path, face), "etag").(string)
	m.conditional("If-None-Match", "*", 412, http.MethodPut, path, face)
	m.conditional("If-Match", old, 200, http.MethodPatch, path, `{"tags":{"a":"b"}}`)
	m.conditional("If-Match", old, 412, http.MethodPatch, path, `{"tags":{"a":"c"}}`)
	m.conditional("If-Match", old, 412, http.MethodPut, path, face)
	m.conditional("If-Match", old, 412, http.MethodDelete, path, "")
	now := m.want(200, "", http.MethodGet, path, "")
	if at(now, "tags.a") != "b" {
		t.Errorf("tags are %v", at(now, "tags"))
	}
	m.conditional("If-Match", at(now, "etag").(string), 200, http.MethodDelete, path, "")
}

// TestAccessRequestsOnTheWire covers a request from its creation to the resource, and the queue.
func TestAccessRequestsOnTheWire(t *testing.T) {
	m := start(t)
	request := func(name string) string { return m.deleted("/accessRequests/" + name) }
	ask := `{"properties":{"service":"Face","region":"West US 2","contact":"ann@example.org","reason":"pilot"}}`
	made := m.want(201, "", http.MethodPut, request("first"), ask)
	if at(made, "properties.state") != "Submitted" || at(made, "properties.region") != "West US 2" ||
		at(made, "type") != "Microsoft.CognitiveServices/accessRequests" {
		t.Errorf("made: %v", made)
	}
	e0 := `{"kind":"Face","location":"westus2","sku":{"name":"E0"}}`
	refused := m.want(403, "CustomerManagedKeyNotApproved", http.MethodPut, m.accounts("/vip"), e0)
	if said := at(refused, "error.message").(string); !strings.Contains(said, "accessRequests") ||
		!strings.Contains(said, "visage cmk request") {
		t.Errorf("the refusal does not say how to apply: %s", said)
	}
	capacity := m.deleted("/accessCapacity/E0")
	if c := m.want(200, "", http.MethodPut, capacity, `{"properties":{"capacity":1}}`); at(c,
		"properties.capacity") != 1.0 {
		t.Errorf("capacity: %v", c)
	}
	m.want(200, "", http.MethodPost, m.deleted("/accessRequests/first/approve"), "")
	m.want(201, "", http.MethodPut, request("second"), ask)
	if q := m.want(200, "", http.MethodPost, m.deleted("/accessRequests/second/approve"), ""); at(q,
		"properties.state") != "Queued" ||
		at(q, "properties.queuePosition") != 1.0 {
		t.Errorf("beyond the capacity: %v", q)
	}
	m.want(201, "", http.MethodPut, m.accounts("/vip"), e0)
	if r := m.want(200, "", http.MethodGet, request("first"), ""); at(r, "properties.account") != "vip" {
		t.Errorf("the request that has a resource: %v", r)
	}
	m.want(200, "", http.MethodDelete, m.accounts("/vip"), "")
	m.want(200, "", http.MethodDelete, m.deleted("/locations/westus2/resourceGroups/default/deletedAccounts/vip"), "")
	if q := m.want(200, "", http.MethodGet, request("second"), ""); at(q, "properties.state") != "Approved" {
		t.Errorf("after space became available: %v", q)
	}
	if c := m.want(200, "", http.MethodGet, capacity, ""); at(c, "properties.taken") != 1.0 ||
		at(c, "properties.queued") != 0.0 {
		t.Errorf("capacity: %v", c)
	}
	m.want(200, "", http.MethodPost, m.deleted("/accessRequests/second/reject"), `{"reason":"no"}`)
	m.want(409, "AccessRequestStateInvalid", http.MethodPost, m.deleted("/accessRequests/second/withdraw"), "")
	m.want(404, "AccessRequestNotFound", http.MethodGet, request("third"), "")
	m.want(400, "InvalidRequestContent", http.MethodPut, capacity, `{"properties":{"capacity":-1}}`)
	m.want(400, "InvalidRequestContent", http.MethodPut, request("third"), `{"properties":{"service":"Face"}}`)
	if all := m.want(200, "", http.MethodGet, m.deleted("/accessRequests"), ""); len(at(all, "value").([]any)) != 2 {
		t.Errorf("list: %v", all)
	}
}

// vip creates an E0 resource under a key of the vault "safe", and returns the path of the resource and the key's
// version.
func (m manager) vip() (path, version string) {
	m.t.Helper()
	path = m.accounts("/vip")
	m.want(201, "", http.MethodPut, path, `{"kind":"Face","location":"local","sku":{"name":"E0"}}`)
	m.vault("safe", "local", `,"enablePurgeProtection":true`, "", "")
	version = m.makeKey("safe", "k", `{"kty":"RSA"}`)
	m.finish(path, m.encryptWith("safe", "k", version, `,"register":true`))
	return path, version
}

// TestLockedResourcesCanBeManaged checks that a resource whose key refuses can be changed, deleted, recovered and
// purged, and that recovered data opens when the key unwraps again.
func TestLockedResourcesCanBeManaged(t *testing.T) {
	m := startApproved(t)
	path, version := m.vip()
	enable := func(on string) {
		m.inVault("safe", http.MethodPatch, "/keys/k/"+version, `{"attributes":{"enabled":`+on+`}}`)
	}
	enable("false")
	m.wantFaces("vip", 403, "EncryptionKeyRevoked")
	m.want(200, "", http.MethodPost, m.accounts("/vip/regenerateKey"), `{"keyName":"Key1"}`)
	m.want(200, "", http.MethodDelete, path, "")
	recover := `{"location":"local","properties":{"restore":true}}`
	m.want(201, "", http.MethodPut, path, recover)
	m.wantFaces("vip", 403, "EncryptionKeyRevoked")
	m.want(200, "", http.MethodDelete, path, "")
	enable("true")
	m.want(201, "", http.MethodPut, path, recover)
	m.wantFaces("vip", 200, nil)

	enable("false")
	m.wantFaces("vip", 403, "EncryptionKeyRevoked")
	who := at(m.want(200, "", http.MethodGet, path, ""), "identity.principalId")
	m.want(200, "", http.MethodDelete, path, "")
	m.want(200, "", http.MethodDelete, m.deleted("/locations/local/resourceGroups/default/deletedAccounts/vip"), "")
	safe := m.want(200, "", http.MethodGet, m.vaults("/safe"), "")
	for _, policy := range at(safe, "properties.accessPolicies").([]any) {
		if at(policy.(map[string]any), "objectId") == who {
			t.Error("the vault still has a policy for the identity of a purged resource")
		}
	}
	enable("true")
	again := m.want(201, "", http.MethodPut, path,
		`{"kind":"Face","location":"local","sku":{"name":"E0"},"identity":{"type":"SystemAssigned"}}`)
	if at(again, "properties.encryption") != nil || at(again, "identity.principalId") == who {
		t.Errorf("a new resource of the same name: %v", again)
	}
}

// TestOneChangeAtATime checks that each of several concurrent changes is either complete or refused because of another.
func TestOneChangeAtATime(t *testing.T) {
	m := startApproved(t)
	path, version := m.vip()
	other := m.makeKey("safe", "other", `{"kty":"RSA"}`)
	bodies := []string{
		m.encryptWith("safe", "k", version, ""), m.encryptWith("safe", "other", other, ""),
		`{"properties":{"encryption":{"keySource":"Microsoft.CognitiveServices"}}}`,
		m.encryptWith("safe", "other", "", ""),
	}
	done := make(chan int, 3*len(bodies))
	var all sync.WaitGroup
	for range 3 {
		for _, body := range bodies {
			all.Go(func() {
				status, _, answer := m.do(http.MethodPatch, path, body)
				if status != 200 && status != 202 && (status != 409 || at(answer, "error.code") != "RequestConflict") {
					t.Errorf("%d %v", status, answer)
				}
				done <- status
			})
		}
	}
	all.Wait()
	close(done)
	succeeded := false
	for status := range done {
		succeeded = succeeded || status != 409
	}
	if !succeeded {
		t.Error("every change was refused")
	}
	m.wantFaces("vip", 200, nil)
	state := func() any { return at(m.want(200, "", http.MethodGet, path, ""), "properties.provisioningState") }
	for until := time.Now().Add(time.Minute); state() != "Succeeded"; {
		if time.Now().After(until) {
			t.Fatal("the last change did not end in time")
		}
	}
	m.finish(path, bodies[1])
	m.wantFaces("vip", 200, nil)
}

// TestVaultComesBeforeItsResource checks that a resource whose vault is deleted is locked, even after its own recovery,
// and opens once the vault and the key are recovered.
func TestVaultComesBeforeItsResource(t *testing.T) {
	m := startApproved(t)
	path, _ := m.vip()
	m.want(200, "", http.MethodDelete, m.vaults("/safe"), "")
	m.wantFaces("vip", 403, "EncryptionKeyRevoked")
	m.want(200, "", http.MethodDelete, path, "")
	back := m.want(201, "", http.MethodPut, path, `{"location":"local","properties":{"restore":true}}`)
	if at(back, "properties.encryption.status.state") != "revoked" ||
		at(back, "properties.encryption.status.reason") == nil {
		t.Errorf("recovered before its vault: %v", at(back, "properties.encryption"))
	}
	m.wantFaces("vip", 403, "EncryptionKeyRevoked")
	m.want(200, "", http.MethodPut, m.vaults("/safe"), `{"location":"local","properties":{"createMode":"recover"}}`)
	m.wantFaces("vip", 200, nil)
}
