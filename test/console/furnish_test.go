package console_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

const accountsPath = "/resourceGroups/default/providers/Microsoft.CognitiveServices/accounts/"

// house is a server with something on every page, and what paths of pages.mjs need to know of it.
type house struct {
	*servertest.Server
	t     *testing.T
	facts map[string]string
}

// furnished makes a resource "reception" under a key of the vault "safe", with people, and a few of everything else. It
// asks the planes that applications use.
func furnished(t *testing.T) house {
	t.Helper()
	h := house{servertest.Start(t, server.Config{AutoApprove: true, Rate: 1 << 20,
		ConsoleIssuers: []string{"https://login.contoso.example=visage"}}), t, map[string]string{
		"account": "reception", "vault": "safe", "key": "faces", "group": "staff", "list": "visitors",
		"request": "contoso", "gone": "attic", "lost": "lost", "old": "old", "dir": t.TempDir(),
	}}
	h.resources()
	h.keys()
	h.stores()
	h.troubles()
	h.people()
	h.visitors()
	h.tasks()
	return h
}

// resources makes resources, and requests for access.
func (h house) resources() {
	h.t.Helper()
	inGroup := "/resourceGroups/default/providers/Microsoft.CognitiveServices/accounts/"
	h.manage(http.MethodPut, "/providers/Microsoft.CognitiveServices/accessRequests/contoso", `{"properties":
		{"service":"Face","contact":"ada@contoso.example","reason":"Open the doors of two offices."}}`)
	for _, name := range []string{"reception", "warehouse", "attic", "archive", "branch", "canteen", "depot"} {
		tier := "E0"
		if name == "warehouse" || name == "attic" {
			tier = "S0"
		}
		h.manage(http.MethodPut, inGroup+name, fmt.Sprintf(`{"kind":"Face","sku":{"name":%q},"location":"local",
			"identity":{"type":"SystemAssigned"},"tags":{"team":"front office","cost centre":"4711"},
			"properties":{"customSubDomainName":%q}}`, tier, name))
	}
	h.manage(http.MethodDelete, inGroup+"attic", "")
}

// stores adds a key store, beside the one of the settings.
func (h house) stores() {
	h.t.Helper()
	var made struct{ ID string }
	h.manageInto(http.MethodPost, "/providers/Visage.Operations/keyStores", `{"address":
		"hashivault://vault.contoso.example/transit","login":{"method":"jwt","audience":"vault.contoso.example"}}`, &made)
	h.facts["store"] = made.ID
}

// keys makes key vaults, and puts the resource under a customer-managed key.
func (h house) keys() {
	h.t.Helper()
	o := h.Operator()
	inGroup := "/resourceGroups/default/providers/Microsoft.KeyVault/vaults/"
	for _, name := range []string{"safe", "spare", "lost"} {
		h.manage(http.MethodPut, inGroup+name, fmt.Sprintf(`{"location":"local","properties":{"tenantId":%q,
			"sku":{"family":"A","name":"standard"},"enablePurgeProtection":true,"enableRbacAuthorization":false,
			"accessPolicies":[{"tenantId":%[1]q,"objectId":%[2]q,"permissions":{"keys":["all","purge","rotate",
			"getrotationpolicy","setrotationpolicy"]}}]}}`,
			o.TenantID, o.ClientID))
	}
	h.manage(http.MethodDelete, inGroup+"lost", "")
	h.facts["holder"] = o.ClientID
	host := strings.TrimPrefix(h.URL, "https://")
	vaults := h.Token(h.t, strings.Replace(h.URL, "https://", "https://vault.", 1))
	var made struct {
		Key struct {
			ID string `json:"kid"`
		} `json:"key"`
	}
	for range 2 {
		h.call(http.MethodPost, "safe.vault."+host, "/keys/faces/create?api-version=7.5", "Bearer "+vaults,
			"application/json", strings.NewReader(`{"kty":"RSA","key_size":2048}`), &made)
	}
	h.call(http.MethodPost, "safe.vault."+host, "/keys/exchange/create?api-version=7.5", "Bearer "+vaults,
		"application/json", strings.NewReader(`{"kty":"RSA","key_size":2048,"key_ops":["import"]}`), nil)
	h.call(http.MethodPost, "safe.vault."+host, "/keys/old/create?api-version=7.5", "Bearer "+vaults,
		"application/json", strings.NewReader(`{"kty":"EC","crv":"P-256"}`), nil)
	h.call(http.MethodDelete, "safe.vault."+host, "/keys/old?api-version=7.5", "Bearer "+vaults, "", nil, nil)
	h.facts["version"] = made.Key.ID[strings.LastIndex(made.Key.ID, "/")+1:]
	h.enable("reception", made.Key.ID)
}

// enable puts a resource under a key, and waits until it is.
func (h house) enable(name, key string) {
	h.t.Helper()
	h.manage(http.MethodPatch, accountsPath+name, fmt.Sprintf(`{"properties":{"encryption":{"keySource":
		"Microsoft.KeyVault","register":true,"keyVaultProperties":{"keyVaultUri":%q}}}}`, key))
	h.await(name, "the key was not enabled in time", func(r resource) bool { return r.Properties.State == "Succeeded" })
}

// resource is what the management plane says of a resource and its key.
type resource struct {
	Properties struct {
		State      string `json:"provisioningState"`
		Encryption struct {
			Status struct {
				State string `json:"state"`
			} `json:"status"`
		} `json:"encryption"`
	} `json:"properties"`
}

// await asks for a resource until it is as wanted.
func (h house) await(name, otherwise string, wanted func(resource) bool) {
	h.t.Helper()
	for {
		var r resource
		if h.manageInto(http.MethodGet, accountsPath+name, "", &r); wanted(r) {
			return
		}
		select {
		case <-h.t.Context().Done():
			h.t.Fatal(otherwise)
		case <-time.After(10 * time.Millisecond): // the clients ask again too
		}
	}
}

// troubles puts resources under keys that then refuse, are locked, or expire.
func (h house) troubles() {
	h.t.Helper()
	for name, trouble := range map[string]struct{ change, state string }{
		"archive": {`{"enabled":false}`, "revoked"}, "branch": {"{}", "locked"},
		"canteen": {fmt.Sprintf(`{"exp":%d}`, time.Now().Add(-time.Hour).Unix()), "degraded"},
	} {
		h.enable(name, h.newKey("spare", name, `{"kty":"RSA","key_size":2048}`))
		h.manage(http.MethodPost, accountsPath+name+"/encryption:lock", "")
		if trouble.state == "locked" {
			continue
		}
		h.CallVault(h.t, http.MethodPatch, "spare", name, json.RawMessage(`{"attributes":`+trouble.change+`}`))
		h.manage(http.MethodPost, accountsPath+name+"/encryption:unlock", "") // asks the key at once
		h.await(name, "the key of "+name+" was not "+trouble.state+" in time", func(r resource) bool {
			return r.Properties.Encryption.Status.State == trouble.state
		})
	}
}

// people fills a group and a list of the resource, with photos of people who do not exist.
func (h house) people() {
	h.t.Helper()
	group := "/face/v1.2/persongroups/staff"
	h.face(http.MethodPut, group, []byte(`{"name":"Staff of the reception","userData":"building 7"}`), nil)
	for i, name := range []string{"Ada Lovelace", "Grace Hopper", "Mary Somerville", "Émilie du Châtelet"} {
		var person struct {
			ID string `json:"personId"`
		}
		h.face(http.MethodPost, group+"/persons", fmt.Appendf(nil, `{"name":%q}`, name), &person)
		for take := range 2 {
			var added struct {
				ID string `json:"persistedFaceId"`
			}
			h.face(http.MethodPost, group+"/persons/"+person.ID+"/persistedFaces",
				servertest.Photo(10*i+take, name), &added)
			h.facts["face"] = added.ID
		}
		h.facts["person"] = person.ID
	}
	h.face(http.MethodPost, group+"/train", nil, nil)
	list := "/face/v1.2/facelists/visitors"
	h.face(http.MethodPut, list, []byte(`{"name":"Visitors"}`), nil)
	var listed, unwanted struct {
		ID string `json:"persistedFaceId"`
	}
	h.face(http.MethodPost, list+"/persistedFaces", servertest.Photo(99, "somebody"), &listed)
	h.face(http.MethodPost, list+"/persistedFaces", servertest.Photo(98, "somebody else"), &unwanted)
	h.face(http.MethodDelete, list+"/persistedFaces/"+unwanted.ID, nil, nil)
	h.facts["listed"] = listed.ID
	var events struct {
		Value []struct {
			Sequence int `json:"sequence"`
		} `json:"value"`
	}
	h.manageInto(http.MethodGet, "/resourceGroups/default/providers/Microsoft.CognitiveServices/accounts/reception/"+
		"auditEvents", "", &events)
	h.facts["receipt"] = fmt.Sprint(events.Value[0].Sequence) // the newest: the face that was just erased
}

// visitors makes a person who signs in to the console, and an application, each with a role.
func (h house) visitors() {
	h.t.Helper()
	for fact, made := range map[string][3]string{ // path, body, role
		"human":       {"people", `{"displayName":"Amélie Dupont","mail":"amelie@contoso.example"}`, identity.Reader},
		"application": {"servicePrincipals", `{"displayName":"badge printer"}`, identity.CognitiveUser},
	} {
		var one struct {
			ID string `json:"objectId"`
		}
		h.manageInto(http.MethodPost, "/providers/Visage.Identity/"+made[0], made[1], &one)
		h.facts[fact] = one.ID
		h.manage(http.MethodPut, "/resourceGroups/default/providers/Microsoft.CognitiveServices/accounts/reception"+
			"/providers/Microsoft.Authorization/roleAssignments/"+visage.NewUUID().String(), fmt.Sprintf(
			`{"properties":{"roleDefinitionId":"/providers/Microsoft.Authorization/roleDefinitions/%s",
			"principalId":%q}}`, made[2], one.ID))
	}
}

// tasks starts long work, and writes photos that pages are tried with.
func (h house) tasks() {
	h.t.Helper()
	b := h.Browser(h.t, "")
	job := func(p servertest.Page) string {
		id, found := strings.CutPrefix(p.Header.Get("Location"), "/console/jobs/")
		if !found {
			h.t.Fatalf("no task was started: %d %s", p.Status, p.Body)
		}
		return id
	}
	h.facts["job"] = job(b.Submit("/console/audit", "/console/audit/verify", nil))
	photos := "/console/resources/reception/people/persongroups/staff/photos"
	h.facts["photos"] = job(b.Upload(photos, photos, nil,
		servertest.File{Field: "photos", Name: "Emmy Noether.png", Data: servertest.Photo(50, "Emmy Noether")},
		servertest.File{Field: "photos", Name: "meadow.png", Data: servertest.Photo(51)}))
	for name, people := range map[string][]string{"ada": {"Ada Lovelace"}, "both": {"Ada Lovelace", "Grace Hopper"}} {
		file := filepath.Join(h.facts["dir"], name+".png")
		if err := os.WriteFile(file, servertest.Photo(7, people...), 0o600); err != nil {
			h.t.Fatal(err)
		}
	}
}

// manage asks the management plane as the operator.
func (h house) manage(method, path, body string) {
	h.t.Helper()
	h.manageInto(method, path, body, nil)
}

func (h house) manageInto(method, path, body string, into any) {
	h.t.Helper()
	version := "2025-09-01"
	if strings.Contains(path, "Microsoft.KeyVault") {
		version = "2024-11-01"
	}
	h.call(method, "", "/subscriptions/"+h.Operator().SubscriptionID+path+"?api-version="+version,
		"Bearer "+h.Token(h.t, "https://management.azure.com"), "application/json", strings.NewReader(body), into)
}

// face asks the Face plane of the resource. A body that is not JSON is a photo.
func (h house) face(method, path string, body []byte, into any) {
	h.t.Helper()
	contentType := "application/octet-stream"
	if len(body) == 0 || body[0] == '{' {
		contentType = "application/json"
	}
	host := "reception." + strings.TrimPrefix(h.URL, "https://")
	h.call(method, host, path, "Bearer "+h.Token(h.t, "https://cognitiveservices.azure.com"), contentType,
		bytes.NewReader(body), into)
}

// call makes a request, which must succeed.
func (h house) call(method, host, path, authorisation, contentType string, body io.Reader, into any) {
	h.t.Helper()
	req, err := http.NewRequestWithContext(h.t.Context(), method, h.URL+path, body)
	if err != nil {
		h.t.Fatal(err)
	}
	req.Host = host
	req.Header.Set("Authorization", authorisation)
	req.Header.Set("Content-Type", contentType)
	res, err := h.Client.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer res.Body.Close()
	said, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode >= 300 {
		h.t.Fatalf("%s %s: %d %s (%v)", method, path, res.StatusCode, said, err)
	}
	if into == nil {
		return
	}
	if err := json.Unmarshal(said, into); err != nil {
		h.t.Fatalf("%s %s: %v", method, path, err)
	}
}
