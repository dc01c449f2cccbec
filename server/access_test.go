package server_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

const (
	managementPlane = "https://management.azure.com"
	facePlane       = "https://cognitiveservices.azure.com"
)

// realm is a server whose directory the test fills.
type realm struct {
	*servertest.Server
	t *testing.T
}

// somebody creates an application with roles on the subscription, and returns the function that gets its tokens.
func (r realm) somebody(name, tenant string, roles ...string) func(audience string) string {
	r.t.Helper()
	if tenant == "" {
		tenant = r.Operator().TenantID
	}
	p, err := r.Directory().CreateApplication(r.t.Context(), identity.Creation{Tenant: tenant, Name: name})
	if err != nil {
		r.t.Fatal(err)
	}
	for _, role := range roles {
		if _, err := r.Directory().Assign(r.t.Context(), "", p.ID, role,
			"/subscriptions/"+r.Operator().SubscriptionID); err != nil {
			r.t.Fatal(err)
		}
	}
	_, secret, err := r.Directory().AddSecret(r.t.Context(), p.ID, time.Hour)
	if err != nil {
		r.t.Fatal(err)
	}
	return func(audience string) string {
		r.t.Helper()
		res, err := r.Client.PostForm(r.URL+"/"+tenant+"/oauth2/v2.0/token", url.Values{
			"grant_type": {"client_credentials"}, "scope": {audience + "/.default"}, "client_id": {p.ClientID},
			"client_secret": {secret},
		})
		if err != nil {
			r.t.Fatal(err)
		}
		defer res.Body.Close()
		var said struct {
			Token string `json:"access_token"`
		}
		if err := json.NewDecoder(res.Body).Decode(&said); err != nil || said.Token == "" {
			r.t.Fatalf("token of %s: %d %v", name, res.StatusCode, err)
		}
		return said.Token
	}
}

// call makes a request with a bearer token and compares the answer's status and code.
func (r realm) call(want int, code, token, method, path, body string) map[string]any {
	r.t.Helper()
	host := ""
	if strings.HasPrefix(path, "/face/") {
		host = "default." + strings.TrimPrefix(r.URL, "https://")
	} else {
		path = "/subscriptions/" + r.Operator().SubscriptionID + path + "?api-version=2025-09-01"
	}
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.URL+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Host = host
	req.Header.Set("Content-Type", "application/json")
	if strings.HasPrefix(token, "key ") {
		req.Header.Set("Ocp-Apim-Subscription-Key", token[4:])
	} else {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := r.Client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	var answer struct {
		Error struct{ Code, Message string }
	}
	var all map[string]any
	if len(b) > 0 && b[0] == '{' {
		if err := json.Unmarshal(b, &answer); err != nil {
			r.t.Fatal(err)
		}
		if err := json.Unmarshal(b, &all); err != nil {
			r.t.Fatal(err)
		}
	}
	if res.StatusCode != want || answer.Error.Code != code {
		r.t.Errorf("%s %s: %d %s, want %d %s", method, path, res.StatusCode, b, want, code)
	}
	return all
}

const groupPath = "/resourceGroups/default/providers/Microsoft.CognitiveServices/accounts"

// TestRolesDecideOnTheManagementPlane checks what each role allows, and that only the operator decides on access
// requests.
func TestRolesDecideOnTheManagementPlane(t *testing.T) {
	r := realm{servertest.Start(t, server.Config{}), t}
	one, requests := groupPath+"/default", "/providers/Microsoft.CognitiveServices/accessRequests/r"
	ask := `{"properties":{"service":"Face","contact":"c","reason":"r"}}`
	r.call(201, "", r.Token(t, managementPlane), "PUT", requests, ask)
	foreign, err := r.Directory().CreateTenant(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const no = "AuthorizationFailed"
	for _, c := range []struct {
		name, tenant                        string
		roles                               []string
		read, change, list, approve, submit int
	}{
		{"owner", "", []string{identity.Owner}, 200, 200, 200, 403, 409},
		{"contributor", "", []string{identity.Contributor}, 200, 200, 200, 403, 409},
		{"cognitive contributor", "", []string{identity.CognitiveContributor}, 200, 200, 200, 403, 409},
		{"cognitive user", "", []string{identity.CognitiveUser}, 200, 403, 200, 403, 403},
		{"reader", "", []string{identity.Reader}, 200, 403, 403, 403, 403},
		{"crypto officer", "", []string{identity.VaultCryptoOfficer}, 403, 403, 403, 403, 403},
		{"nobody", "", nil, 403, 403, 403, 403, 403},
		{"owner from another tenant", foreign, []string{identity.Owner}, 401, 401, 401, 401, 401},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := realm{r.Server, t}
			token := r.somebody(c.name, c.tenant, c.roles...)(managementPlane)
			code := func(status int) string {
				return map[int]string{403: no, 401: "InvalidAuthenticationTokenTenant",
					409: "AccessRequestAlreadyExists"}[status]
			}
			r.call(c.read, code(c.read), token, "GET", one, "")
			r.call(c.change, code(c.change), token, "PATCH", one, `{"tags":{"a":"b"}}`)
			r.call(c.list, code(c.list), token, "POST", one+"/listKeys", "")
			r.call(c.approve, code(c.approve), token, "POST", requests+"/approve", "")
			r.call(c.approve, code(c.approve), token, "POST", requests+"/reject", "{}")
			r.call(c.approve, code(c.approve), token, "PUT", "/providers/Microsoft.CognitiveServices/accessCapacity/E0",
				"{}")
			r.call(c.submit, code(c.submit), token, "PUT", requests, ask)
		})
	}
	token := r.Token(t, managementPlane)
	head, _, _ := strings.Cut(token, ".")
	for name, forged := range map[string]string{
		"no token":            "",
		"not a token":         "x.y.z",
		"without signature":   token[:strings.LastIndexByte(token, '.')+1],
		"another signature":   token[:len(token)-8] + "AAAAAAAA",
		"algorithm none":      "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0" + token[len(head):],
		"another audience":    r.Token(t, facePlane),
		"a vault's audience":  r.Token(t, "https://vault."+strings.TrimPrefix(r.URL, "https://")),
		"a key of a resource": r.Key,
	} {
		t.Run(name, func(t *testing.T) {
			r := realm{r.Server, t}
			code := "InvalidAuthenticationToken"
			switch {
			case forged == "":
				code = "AuthenticationFailed"
			case strings.Contains(name, "audience"):
				code = "InvalidAuthenticationTokenAudience"
			}
			r.call(401, code, forged, "GET", one, "")
		})
	}
}

// TestLocalAuthCanBeDisabled checks that the keys of a resource stop working while tokens continue to work.
func TestLocalAuthCanBeDisabled(t *testing.T) {
	r := realm{servertest.Start(t, server.Config{}), t}
	const groups = "/face/v1.2/persongroups"
	user := r.somebody("user", "", identity.CognitiveUser)(facePlane)
	r.call(200, "", "key "+r.Key, "GET", groups, "")
	r.call(200, "", r.Token(t, managementPlane), "PATCH", groupPath+"/default",
		`{"properties":{"disableLocalAuth":true}}`)
	r.call(403, "AuthenticationTypeDisabled", "key "+r.Key, "GET", groups, "")
	r.call(200, "", user, "GET", groups, "")
	r.call(401, "PermissionDenied", r.somebody("reader", "", identity.Reader)(facePlane), "GET", groups, "")
	r.call(200, "", r.Token(t, managementPlane), "PATCH", groupPath+"/default",
		`{"properties":{"disableLocalAuth":false}}`)
	r.call(200, "", "key "+r.Key, "GET", groups, "")
}

// TestRegisterGrantsNoMoreThanTheCallerMay checks that a caller without the right to change the policies of a vault
// gets no access by registering a key.
func TestRegisterGrantsNoMoreThanTheCallerMay(t *testing.T) {
	o := newOfficer(t, server.Config{AutoApprove: true})
	key := o.key(t, "k")
	r := realm{o.Server, t}
	token := r.somebody("manager", "", identity.CognitiveContributor)(managementPlane)
	r.call(201, "", token, "PUT", groupPath+"/vip", `{"kind":"Face","location":"local","sku":{"name":"E0"}}`)
	body := fmt.Sprintf(`{"properties":{"encryption":{"keyVaultProperties":{"keyVaultUri":%q},"register":true}}}`, key)
	r.call(400, "KeyVaultAccessDenied", token, "PATCH", groupPath+"/vip", body)
}

// TestRolesOnOneResource checks that a role on one resource allows everything needed to change it, and nothing
// elsewhere, and that it ends with the resource.
func TestRolesOnOneResource(t *testing.T) {
	o := newOfficer(t, server.Config{AutoApprove: true})
	key := o.key(t, "k")
	r := realm{o.Server, t}
	operator := r.Token(t, managementPlane)
	made := r.call(201, "", operator, "PUT", groupPath+"/vip",
		`{"kind":"Face","location":"local","sku":{"name":"E0"},"identity":{"type":"SystemAssigned"}}`)
	o.vault(t, "safe", "local", true, visage.PrincipalID(made["identity"].(map[string]any)["principalId"].(string)))
	p, err := r.Directory().CreateApplication(t.Context(),
		identity.Creation{Tenant: r.Operator().TenantID, Name: "keeper"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Directory().Assign(t.Context(), "", p.ID, identity.Contributor, made["id"].(string)); err != nil {
		t.Fatal(err)
	}
	token, _, err := r.Directory().Token(t.Context(), p.ID, managementPlane)
	if err != nil {
		t.Fatal(err)
	}
	body := fmt.Sprintf(`{"properties":{"encryption":{"keyVaultProperties":{"keyVaultUri":%q}}}}`, key)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPatch,
		r.URL+made["id"].(string)+"?api-version=2025-09-01",
		strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := r.Client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := res.Body.Close(); err != nil {
		t.Fatal(err)
	}
	operation := res.Header.Get("Azure-AsyncOperation")
	// a change this small may be complete before its answer is written
	if operation == "" && res.StatusCode != http.StatusOK {
		t.Fatalf("enable: %d", res.StatusCode)
	}
	if operation != "" {
		path, _, _ := strings.Cut(operation[strings.Index(operation, "/providers/"):], "?")
		r.call(200, "", token, "GET", path, "")
		r.call(403, "AuthorizationFailed", r.somebody("nobody", "")(managementPlane), "GET", path, "")
	}
	r.call(403, "AuthorizationFailed", token, "GET", groupPath+"/default", "")
	r.call(200, "", token, "DELETE", groupPath+"/vip", "")
	r.call(200, "", operator, "DELETE",
		"/providers/Microsoft.CognitiveServices/locations/local/resourceGroups/default/deletedAccounts/vip", "")
	r.call(201, "", operator, "PUT", groupPath+"/vip", `{"kind":"Face","location":"local","sku":{"name":"S0"}}`)
	r.call(403, "AuthorizationFailed", token, "GET", groupPath+"/vip", "")
}

// TestUserAssignedIdentities checks that a resource may have user-assigned identities, but uses keys only with its
// system-assigned one.
func TestUserAssignedIdentities(t *testing.T) {
	r := realm{servertest.Start(t, server.Config{AutoApprove: true}), t}
	token := r.Token(t, managementPlane)
	path := "/subscriptions/" + r.Operator().SubscriptionID +
		"/resourceGroups/default/providers/Microsoft.ManagedIdentity/userAssignedIdentities/worker"
	p, err := r.Directory().EnsureManaged(t.Context(), r.Operator().TenantID, path, identity.UserAssigned)
	if err != nil {
		t.Fatal(err)
	}
	r.call(201, "", token, "PUT", groupPath+"/vip", `{"kind":"Face","location":"local","sku":{"name":"E0"}}`)
	r.call(400, "FailedIdentityOperation", token, "PATCH", groupPath+"/vip",
		`{"identity":{"type":"UserAssigned","userAssignedIdentities":{"/subscriptions/s/none":{}}}}`)
	r.call(400, "InvalidRequestContent", token, "PATCH", groupPath+"/vip", `{"identity":{"type":"UserAssigned"}}`)
	r.call(400, "InvalidRequestContent", token, "PATCH", groupPath+"/vip", `{"identity":{"type":"Mine"}}`)
	got := r.call(200, "", token, "PATCH", groupPath+"/vip",
		`{"identity":{"type":"UserAssigned","userAssignedIdentities":{"`+path+`":{}}}}`)
	user, _ := got["identity"].(map[string]any)["userAssignedIdentities"].(map[string]any)[path].(map[string]any)
	if user["principalId"] != p.ID || user["clientId"] != p.ClientID {
		t.Errorf("got %v, want the identity %+v", got["identity"], p)
	}
	r.call(400, "UserAssignedIdentityNotSupported", token, "PATCH", groupPath+"/vip",
		`{"properties":{"encryption":{"keyVaultProperties":{"keyVaultUri":"https://v.example/keys/k"}}}}`)
	got = r.call(200, "", token, "PATCH", groupPath+"/vip", `{"identity":{"type":"SystemAssigned,UserAssigned"}}`)
	if kind := got["identity"].(map[string]any)["type"]; kind != "SystemAssigned, UserAssigned" {
		t.Errorf("type is %v", kind)
	}
	got = r.call(200, "", token, "PATCH", groupPath+"/vip", `{"identity":{"type":"None"}}`)
	if got["identity"] != nil {
		t.Errorf("got %v, want no identity", got["identity"])
	}
}
