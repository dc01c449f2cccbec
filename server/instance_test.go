package server_test

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/keysource/file"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// openStopped opens the store of a stopped server.
func openStopped(t *testing.T, dir string) *sealed.Store {
	t.Helper()
	data := filepath.Join(dir, "data")
	source, err := file.New(filepath.Join(dir, "keys", "root.key"), data)
	if err != nil {
		t.Fatal(err)
	}
	store, err := sealed.Open(t.Context(), sealed.Config{
		Engine: "pebble:" + data, KeyDir: filepath.Join(dir, "keys"),
		Protectors: []sealed.Protector{{Name: "file", Kind: "file", Exposed: true, Source: source}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// stored is the stored form of a vault.
type stored struct {
	ID, Name, Group, Location, Tenant string
	Tags                              map[string]string
	Premium                           bool
	RetentionDays                     int
	PurgeProtection, RBAC             bool
	Policies                          []struct {
		ObjectID, AppID string
		Keys, Others    []string
	}
	Network                                      any
	Created, Changed, Revision, Deleted, PurgeAt int64
}

// change changes a vault in the store of a stopped server.
func changeVault(t *testing.T, dir, name string, change func(*stored)) {
	t.Helper()
	store := openStopped(t, dir)
	table := sealed.NewTable[stored]("keyvault/vault", 1)
	err := store.Space(sealed.Operator).Update(t.Context(), func(tx sealed.Tx) error {
		v, err := table.In().Get(tx, name)
		if err != nil {
			return err
		}
		change(&v)
		return table.In().Put(tx, name, v)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}

// officerOf gives a new application a role on a vault and returns the function that gets its tokens.
func (r realm) officerOf(name, role, vault string) (token func(string) string, assignment string) {
	r.t.Helper()
	token = r.somebody(name, "")
	id := ""
	for _, p := range r.Directory().Principals() {
		if p.Name == name {
			id = p.ID
		}
	}
	made := r.call(201, "", r.Token(r.t, managementPlane), "PUT",
		vaultsPath+"/"+vault+"/providers/Microsoft.Authorization/roleAssignments/"+newID(r.t), roleOf(role, id))
	assignment, _ = made["name"].(string)
	return token, assignment
}

func roleOf(role, principal string) string {
	return fmt.Sprintf(`{"properties":{"roleDefinitionId":"/x/roleDefinitions/%s","principalId":%q}}`, role, principal)
}

// newID returns a random UUID.
func newID(t *testing.T) string {
	t.Helper()
	b := make([]byte, 16)
	rand.Read(b)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// TestANewVaultInheritsNothing checks that a vault has neither roles nor policies of an earlier vault of its name,
// whether that was purged by request or by time, and even if its purge was incomplete.
func TestANewVaultInheritsNothing(t *testing.T) {
	const deleted = "/providers/Microsoft.KeyVault/locations/local/deletedVaults/safe"
	for _, end := range []string{"by request", "by time", "by time, without its roles"} {
		t.Run(end, func(t *testing.T) {
			r := realm{servertest.Start(t, server.Config{}), t}
			operator := r.Token(t, managementPlane)
			r.call(201, "", operator, "PUT", vaultsPath+"/safe", r.vaultOf(true, r.policyOf(r.Operator().ClientID)))
			token, _ := r.officerOf("officer", identity.VaultAdministrator, "safe")
			r.call(200, "", token(managementPlane), "GET", vaultsPath+"/safe", "")
			r.call(200, "", operator, "DELETE", vaultsPath+"/safe", "")
			switch end {
			case "by request":
				r.call(200, "", operator, "POST", deleted+"/purge", "")
			default:
				if err := r.Stop(); err != nil {
					t.Fatal(err)
				}
				changeVault(t, r.Dir(), "safe", func(v *stored) { v.PurgeAt = time.Now().Add(-time.Hour).UnixNano() })
				r.Server = servertest.Start(t, server.Config{Dir: r.Dir()})
				for until := time.Now().Add(time.Minute); time.Now().Before(until); {
					if status := arm(t, r.Server, http.MethodGet,
						"/subscriptions/"+r.Operator().SubscriptionID+deleted+"?api-version=2024-11-01",
						""); status == http.StatusNotFound {
						break
					}
				}
			}
			operator = r.Token(t, managementPlane)
			r.call(404, "ResourceNotFound", operator, "PUT",
				vaultsPath+"/safe/providers/Microsoft.Authorization/roleAssignments/"+newID(t),
				roleOf(identity.Reader, r.Operator().ClientID))
			r.call(201, "", operator, "PUT", vaultsPath+"/safe", r.vaultOf(true))
			r.call(403, "AuthorizationFailed", r.tokenOf("officer"), "GET", vaultsPath+"/safe", "")
			for _, a := range r.call(200, "", operator, "GET",
				vaultsPath+"/safe/providers/Microsoft.Authorization/roleAssignments", "")["value"].([]any) {
				if scope := a.(map[string]any)["properties"].(map[string]any)["scope"].(string); strings.Contains(scope,
					"vaults") {
					t.Errorf("the new vault has the role %v", a)
				}
			}
			if v := r.call(200, "", operator, "GET", vaultsPath+"/safe",
				"")["properties"].(map[string]any); len(v["accessPolicies"].([]any)) > 0 {
				t.Errorf("the new vault is %v", v)
			}
		})
	}
}

// tokenOf returns a token of the application called name for the management plane.
func (r realm) tokenOf(name string) string {
	r.t.Helper()
	for _, p := range r.Directory().Principals() {
		if p.Name == name {
			token, _, err := r.Directory().Token(r.t.Context(), p.ID, managementPlane)
			if err != nil {
				r.t.Fatal(err)
			}
			return token
		}
	}
	r.t.Fatalf("no application %s", name)
	return ""
}

// TestANewResourceGetsAnIdentityOfItsOwn checks that, also if the identity of an earlier resource of its name was not
// ended.
func TestANewResourceGetsAnIdentityOfItsOwn(t *testing.T) {
	r := realm{servertest.Start(t, server.Config{}), t}
	operator := r.Token(t, managementPlane)
	path := "/subscriptions/" + r.Operator().SubscriptionID + groupPath + "/vip"
	left, err := r.Directory().EnsureManaged(t.Context(), r.Operator().TenantID, path, identity.SystemAssigned)
	if err != nil {
		t.Fatal(err)
	}
	r.call(201, "", operator, "PUT", vaultsPath+"/safe", r.vaultOf(false, r.policyOf(left.ID)))
	made := r.call(201, "", operator, "PUT", groupPath+"/vip",
		`{"kind":"Face","location":"local","sku":{"name":"S0"},"identity":{"type":"SystemAssigned"}}`)
	if id := made["identity"].(map[string]any)["principalId"]; id == left.ID || id == "" {
		t.Errorf("the new resource is %v", id)
	}
	if v := r.call(200, "", operator, "GET", vaultsPath+"/safe",
		"")["properties"].(map[string]any); len(v["accessPolicies"].([]any)) > 0 {
		t.Errorf("the old identity may still use keys: %v", v)
	}
}

// TestARecoveredVaultKeepsItsRoles checks that, and that no roles are assigned on the vault while it is deleted.
func TestARecoveredVaultKeepsItsRoles(t *testing.T) {
	r := realm{servertest.Start(t, server.Config{}), t}
	operator := r.Token(t, managementPlane)
	r.call(201, "", operator, "PUT", vaultsPath+"/safe", r.vaultOf(true))
	token, _ := r.officerOf("officer", identity.VaultAdministrator, "safe")
	r.call(200, "", operator, "DELETE", vaultsPath+"/safe", "")
	r.call(404, "ResourceNotFound", operator, "PUT",
		vaultsPath+"/safe/providers/Microsoft.Authorization/roleAssignments/"+newID(t),
		roleOf(identity.Reader, r.Operator().ClientID))
	r.call(200, "", operator, "PUT", vaultsPath+"/safe",
		strings.Replace(r.vaultOf(true), `"properties":{`, `"properties":{"createMode":"recover",`, 1))
	r.call(200, "", token(managementPlane), "GET", vaultsPath+"/safe", "")
}

// TestRolesAreGivenOnWhatIsThere checks that roles are assigned only on existing objects.
func TestRolesAreGivenOnWhatIsThere(t *testing.T) {
	r := realm{servertest.Start(t, server.Config{}), t}
	operator := r.Token(t, managementPlane)
	body := roleOf(identity.Reader, r.Operator().ClientID)
	r.call(200, "", operator, "DELETE", groupPath+"/default", "")
	for scope, code := range map[string]string{
		"/resourceGroups/other": "ResourceGroupNotFound",
		groupPath + "/none":     "ResourceNotFound",
		groupPath + "/default":  "ResourceNotFound", // deleted
		vaultsPath + "/none":    "ResourceNotFound",
		strings.Replace(vaultsPath, "default", "other", 1) + "/safe": "ResourceGroupNotFound",
	} {
		r.call(404, code, operator, "PUT", scope+"/providers/Microsoft.Authorization/roleAssignments/"+newID(t), body)
	}
	r.call(400, "InvalidScope", operator, "PUT", vaultsPath+
		"/..%2Fsafe/providers/Microsoft.Authorization/roleAssignments/"+newID(t), body)
	r.call(400, "InvalidRoleAssignmentId", operator, "PUT", "/providers/Microsoft.Authorization/roleAssignments/none",
		body)
	r.call(201, "", operator, "PUT", "/resourceGroups/Default/providers/Microsoft.Authorization/roleAssignments/"+
		newID(t), body)
}

// TestAStoredTenantIsNotBelieved checks that a vault that an earlier version stored with another tenant sends no client
// to that tenant, and protects no resource.
func TestAStoredTenantIsNotBelieved(t *testing.T) {
	r := realm{servertest.Start(t, server.Config{AutoApprove: true}), t}
	r.call(201, "", r.Token(t, managementPlane), "PUT", vaultsPath+"/safe", r.vaultOf(false))
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	changeVault(t, r.Dir(), "safe", func(v *stored) { v.Tenant = `x", authorization="https://elsewhere.example` })
	r.Server = servertest.Start(t, server.Config{Dir: r.Dir(), AutoApprove: true})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.URL+"/keys/k?api-version=7.4", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "safe.vault." + strings.TrimPrefix(r.URL, "https://")
	res, err := r.Client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if got, want := res.Header.Get("WWW-Authenticate"),
		fmt.Sprintf("authorization=%q", r.URL+"/"+r.Operator().TenantID); res.StatusCode != 401 ||
		!strings.Contains(got, want) || strings.Contains(got, "elsewhere") {
		t.Errorf("the challenge is %d %s, want %s", res.StatusCode, got, want)
	}
}
