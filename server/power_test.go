package server_test

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// entries reads the audit log of a stopped server, oldest first.
func entries(t *testing.T, dir string) (all []audit.Entry) {
	t.Helper()
	store := openStopped(t, dir)
	history := audit.Read(store)
	for e, err := range history.Entries(t.Context(), audit.Query{Oldest: true}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	if _, err := history.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	return all
}

// said formats an entry for comparison: kind, outcome, actor, and the requested details.
func said(e audit.Entry, details ...audit.Detail) string {
	text := string(e.Kind) + " " + string(e.Outcome)
	if e.Code != "" {
		text += ":" + e.Code
	}
	text += " " + string(e.Actor.Kind)
	for _, d := range details {
		if v, found := e.Details[d]; found {
			text += fmt.Sprintf(" %s=%s", d, v)
		}
	}
	return text
}

// TestTheLogSaysWhatWasGranted checks that every change of rights is logged with its caller, place, and the state
// before and after, that refused changes are never logged as done, and that the operator is logged as such.
func TestTheLogSaysWhatWasGranted(t *testing.T) {
	r := realm{servertest.Start(t, server.Config{}), t}
	operator := r.Token(t, managementPlane)
	subscription := "/subscriptions/" + r.Operator().SubscriptionID
	const roles = "/providers/Microsoft.Authorization/roleAssignments/"
	const apps = "/providers/Visage.Identity/servicePrincipals"
	made := r.call(201, "", operator, "POST", apps, `{"displayName":"app"}`)
	app, _ := made["objectId"].(string)
	owner, given := newID(t), newID(t)
	r.call(201, "", operator, "PUT", roles+owner, roleOf(identity.Owner, app))
	r.call(201, "", operator, "PUT", groupPath+"/default"+roles+given, roleOf(identity.Reader, app))
	r.call(409, "RoleAssignmentExists", operator, "PUT", roles+newID(t), roleOf(identity.Owner, app))
	r.call(404, "ResourceNotFound", operator, "PUT", vaultsPath+"/none"+roles+newID(t), roleOf(identity.Owner, app))
	r.call(200, "", operator, "DELETE", groupPath+"/default"+roles+given, "")
	ofResource := 0
	for _, e := range r.call(200, "", operator, "GET", groupPath+"/default/auditEvents", "")["value"].([]any) {
		if e.(map[string]any)["kind"] == "identity.role" {
			ofResource++
		}
	}
	if ofResource != 2 {
		t.Errorf("the log of the resource has %d changes of roles on it, want 2", ofResource)
	}
	password := r.call(200, "", operator, "POST", apps+"/"+app+"/addPassword", `{}`)
	r.call(204, "", operator, "POST", apps+"/"+app+"/removePassword", fmt.Sprintf(`{"keyId":%q}`, password["keyId"]))
	r.call(404, "PrincipalNotFound", operator, "POST", apps+"/"+app+"/removePassword",
		fmt.Sprintf(`{"keyId":%q}`, password["keyId"]))
	r.call(409, "PrincipalInUse", operator, "DELETE", apps+"/"+r.Operator().ClientID, "")
	r.call(201, "", operator, "PUT", vaultsPath+"/safe", r.vaultOf(false, r.policyOf(app)))
	r.call(200, "", operator, "PUT", vaultsPath+"/safe/accessPolicies/replace",
		fmt.Sprintf(
			`{"properties":{"accessPolicies":[{"tenantId":%q,"objectId":%q,"permissions":{"keys":["get","list"]}}]}}`,
			r.Operator().TenantID, app,
		))
	r.call(200, "", operator, "PATCH", vaultsPath+"/safe", `{"properties":{"enableRbacAuthorization":true}}`)
	contributor := r.somebody("contributor", "", identity.Contributor)(managementPlane)
	r.call(403, "AuthorizationFailed", contributor, "PATCH", vaultsPath+"/safe",
		`{"properties":{"enableRbacAuthorization":false}}`)
	r.call(403, "AuthorizationFailed", contributor, "PUT", roles+newID(t), roleOf(identity.Owner, app))
	for range 5 {
		r.call(403, "AuthorizationFailed", contributor, "POST", apps, `{"displayName":"x"}`)
	}
	r.call(204, "", operator, "DELETE", apps+"/"+app, "")
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}

	var got []string
	seen := map[string]bool{}
	for _, e := range entries(t, r.Dir()) {
		switch e.Kind {
		case audit.IdentityCreate, audit.IdentityDelete, audit.IdentityRole, audit.VaultAccess, audit.AccessRefuse:
		default:
			continue
		}
		if e.Details[audit.DetailSubject] != "" && e.Details[audit.DetailSubject] != app {
			continue
		}
		if e.Kind != audit.AccessRefuse && e.Details[audit.DetailChange] == "" {
			t.Errorf("entry %d is of no change", e.Sequence)
		}
		text := said(e, audit.DetailOperation, audit.DetailBefore, audit.DetailAfter, audit.DetailCount,
			audit.DetailScope)
		if !seen[text] {
			got = append(
				got, strings.ReplaceAll(strings.ReplaceAll(text, subscription, "S"),
					"/resourcegroups/default/providers/", "/…/"),
			)
		}
	}
	for i, text := range got { // times of secrets
		if strings.Contains(text, "=secret") && strings.Contains(text, " before=") {
			got[i], _, _ = strings.Cut(text, " before=")
		}
	}
	all := "all,purge"
	const account, vault = "S/…/microsoft.cognitiveservices/accounts/default",
		"S/resourceGroups/default/providers/Microsoft.KeyVault/vaults/safe"
	want := []string{
		"identity.create done operator operation=principal before=none after=Application",
		"identity.create done operator operation=secret",
		"identity.role done operator operation=assign before=none after=Owner scope=S",
		"identity.role done operator operation=assign before=none after=Reader scope=" + account,
		"identity.role refused:RoleAssignmentExists operator operation=assign before=none after=Owner scope=S",
		"identity.role refused:ResourceNotFound operator operation=assign before=none after=Owner " +
			"scope=S/…/microsoft.keyvault/vaults/none",
		"identity.role done operator operation=unassign before=Reader after=none scope=" + account,
		"identity.create done operator operation=secret",
		"identity.delete done operator operation=secret",
		"identity.delete refused:PrincipalNotFound operator operation=secret",
		"vault.access done operator operation=VaultPut before=none after=" + all + " scope=" + vault,
		"vault.access done operator operation=VaultPatch before=" + all + " after=get,list scope=" + vault,
		"vault.access done operator operation=VaultPatch before=access-policies after=roles scope=" + vault,
		"vault.access refused:AuthorizationFailed identity operation=VaultPatch before=roles after=access-policies " +
			"scope=" + vault,
		"access.refuse refused:AuthorizationFailed identity operation=PATCH " +
			"/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.KeyVault/vaults/{vault} scope=" +
			vault,
		"access.refuse refused:AuthorizationFailed identity operation=PUT " +
			"/subscriptions/{subscription}/providers/Microsoft.Authorization/roleAssignments/{assignment} scope=S" +
			roles,
		"access.refuse refused:AuthorizationFailed identity operation=POST " +
			"/subscriptions/{subscription}/providers/Visage.Identity/servicePrincipals scope=S" + apps,
		"identity.role done operator operation=end before=Owner after=none scope=S",
		"identity.delete done operator operation=principal before=Application after=none",
		"access.refuse refused:AuthorizationFailed identity operation=POST " +
			"/subscriptions/{subscription}/providers/Visage.Identity/servicePrincipals count=4 scope=S" + apps,
	}
	for i, text := range got {
		if at := strings.Index(text, roles); at > 0 && strings.HasPrefix(text, "access") &&
			strings.HasSuffix(want[min(i, len(want)-1)], roles) {
			got[i] = text[:strings.LastIndex(text, roles)+len(roles)] // the id of the request
		}
	}
	if !slices.Equal(got, want) {
		for i := range max(len(got), len(want)) {
			g, w := "-", "-"
			if i < len(got) {
				g = got[i]
			}
			if i < len(want) {
				w = want[i]
			}
			if g != w {
				t.Errorf("entry %d is\n%s\nwant\n%s", i, g, w)
			}
		}
	}
}

// TestTheLogSaysWhatRegisterGave checks that the log has the access that register granted, and the operator's new
// secret of each start.
func TestTheLogSaysWhatRegisterGave(t *testing.T) {
	o := newOfficer(t, server.Config{AutoApprove: true})
	r := realm{o.Server, t}
	operator := r.Token(t, managementPlane)
	key := o.key(t, "k")
	r.call(200, "", operator, "PATCH", vaultsPath+"/safe", `{"properties":{"enableRbacAuthorization":true}}`)
	r.call(201, "", operator, "PUT", vaultsPath+"/safe/providers/Microsoft.Authorization/roleAssignments/"+newID(t),
		roleOf(identity.VaultAdministrator, r.Operator().ClientID))
	r.call(201, "", operator, "PUT", groupPath+"/vip", `{"kind":"Face","location":"local","sku":{"name":"E0"}}`)
	owner := r.somebody("owner", "", identity.Owner)(managementPlane)
	body := fmt.Sprintf(`{"properties":{"encryption":{"keyVaultProperties":{"keyVaultUri":%q},"register":true}}}`, key)
	status := r.status(owner, "PATCH", groupPath+"/vip", body)
	if status != http.StatusOK && status != http.StatusAccepted {
		t.Fatalf("enable: %d", status)
	}
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(r.Dir(), server.OperatorFile)); err != nil {
		t.Fatal(err)
	}
	r.Server = servertest.Start(t, server.Config{Dir: r.Dir(), AutoApprove: true})
	client := r.Operator().ClientID
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	var given, made, ended int
	for _, e := range entries(t, r.Dir()) {
		if e.Kind == audit.IdentityRole && e.Details[audit.DetailRole] == identity.VaultServiceEncryption {
			given++
			if e.Actor.Kind != audit.Identity || e.RequestID == "" ||
				!strings.HasSuffix(e.Details[audit.DetailScope], "/vaults/safe") ||
				e.Details[audit.DetailAfter] != "Key Vault Crypto Service Encryption User" {
				t.Errorf("register is logged as %+v", e.Event)
			}
		}
		if e.Details[audit.DetailSubject] == client && e.Details[audit.DetailOperation] == "secret" &&
			e.Actor.Kind == audit.Service {
			if e.Kind == audit.IdentityCreate {
				made++
			} else {
				ended++
			}
		}
	}
	if given != 1 || made != 2 || ended != 1 {
		t.Errorf("register gave %d roles, starts made %d secrets of the operator and ended %d", given, made, ended)
	}
}

// status makes a request and returns the status of its answer.
func (r realm) status(token, method, path, body string) int {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method,
		r.URL+"/subscriptions/"+r.Operator().SubscriptionID+path+"?api-version=2025-09-01", strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := r.Client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	res.Body.Close()
	return res.StatusCode
}

// TestTheOperatorStays checks that the operator's last way in cannot be removed, by itself or others, while no one else
// could restore it.
func TestTheOperatorStays(t *testing.T) {
	r := realm{servertest.Start(t, server.Config{}), t}
	operator := r.Token(t, managementPlane)
	id := ""
	for _, a := range r.Directory().Assignments("") {
		if a.Principal == r.Operator().ClientID && a.Role == identity.Owner {
			id = a.ID
		}
	}
	p, err := r.Directory().Principal(r.Operator().ClientID)
	if err != nil {
		t.Fatal(err)
	}
	const roles, apps = "/providers/Microsoft.Authorization/roleAssignments/",
		"/providers/Visage.Identity/servicePrincipals/"
	end := func(want int, code string) {
		t.Helper()
		r.call(want, code, operator, "POST", apps+p.ID+"/removePassword", fmt.Sprintf(`{"keyId":%q}`, p.Secrets[0].ID))
	}
	r.call(409, "LastOwner", operator, "DELETE", roles+id, "")
	end(409, "LastOwner")
	owner := r.somebody("owner", "", identity.Owner)(managementPlane)
	r.call(200, "", owner, "DELETE", roles+id, "")
	r.call(403, "AuthorizationFailed", operator, "PATCH", groupPath+"/default", `{"tags":{}}`)
	r.call(201, "", owner, "PUT", roles+newID(t), roleOf(identity.Owner, p.ID))
	end(204, "")
}

// TestTheLogSaysWhoSignedIn checks that each token and each refusal is logged, floods of refusals as counts, and the
// operator's new secret.
func TestTheLogSaysWhoSignedIn(t *testing.T) {
	r := realm{servertest.Start(t, server.Config{}), t}
	ask := func(client, secret string) int {
		res, err := r.Client.PostForm(r.URL+"/"+r.Operator().TenantID+"/oauth2/v2.0/token", url.Values{
			"grant_type": {"client_credentials"}, "scope": {managementPlane + "/.default"}, "client_id": {client},
			"client_secret": {secret},
		})
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	if status := ask(r.Operator().ClientID, r.Operator().ClientSecret); status != http.StatusOK {
		t.Fatalf("a token: %d", status)
	}
	const flood = 300
	for i := range flood {
		ask(r.Operator().ClientID, "wrong")
		ask(fmt.Sprintf("77777777-7777-4777-8777-%012d", i), "wrong")
	}
	ask("my secret in the wrong field", "x")
	r.call(401, "InvalidAuthenticationToken", "x.y.z", "GET", groupPath, "")
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	count, counted := map[string]int{}, map[string]int{}
	for _, e := range entries(t, r.Dir()) {
		if strings.Contains(fmt.Sprint(e.Details), "wrong field") {
			t.Errorf("text of a stranger's request is in entry %d", e.Sequence)
		}
		if e.Kind != audit.IdentityToken && e.Kind != audit.AccessRefuse {
			continue
		}
		text := said(e, audit.DetailReason)
		count[text]++
		n := 1
		if c := e.Details[audit.DetailCount]; c != "" {
			fmt.Sscan(c, &n)
		}
		counted[text] += n
	}
	if n := counted["identity.token done operator"]; n < 1 {
		t.Errorf("the token was logged %d times: %v", n, count)
	}
	if n := count["identity.token refused:invalid_client unidentified reason=AADSTS7000215"]; n != 2 ||
		counted["identity.token refused:invalid_client unidentified reason=AADSTS7000215"] != flood {
		t.Errorf("%d wrong secrets were logged in %d entries: %v", flood, n, counted)
	}
	if n := count["identity.token refused:unauthorized_client unidentified reason=AADSTS700016"]; n < 10 || n > 40 {
		t.Errorf("as many unknown applications were logged in %d entries", n)
	}
	together := counted["identity.token refused unidentified"] +
		counted["access.refuse refused:TooManyRequests unidentified"]
	if n := together + counted["identity.token refused:unauthorized_client unidentified reason=AADSTS700016"]; n <
		flood {
		t.Errorf("%d sign-ins of unknown applications are logged, of %d: %v", n, flood, counted)
	}
	if n := counted["access.refuse refused:InvalidAuthenticationToken unidentified"]; n != 1 {
		t.Errorf("an invalid token was logged %d times: %v", n, counted)
	}
}

// TestTheLogCountsWhatVaultsRefuse checks that an identity without rights cannot fill the log by requests to vaults.
func TestTheLogCountsWhatVaultsRefuse(t *testing.T) {
	o := newOfficer(t, server.Config{})
	nobody := realm{o.Server, t}.somebody("nobody", "")
	_, port, _ := strings.Cut(strings.TrimPrefix(o.URL, "https://"), ":")
	token := nobody("https://vault.localhost:" + port)
	const flood = 200
	ask := func(host, path string, want int) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, o.URL+path+"?api-version=7.4",
			strings.NewReader(`{"kty":"RSA"}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host + ".vault.localhost:" + port
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := o.Client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Fatalf("%s of %s: %d, want %d", path, host, res.StatusCode, want)
		}
	}
	for i := range flood {
		ask("safe", "/keys/same/create", http.StatusForbidden)
		ask("safe", fmt.Sprintf("/keys/k%d/create", i), http.StatusForbidden)
	}
	if err := o.Stop(); err != nil {
		t.Fatal(err)
	}
	told, counted := map[string]int{}, 0
	for _, e := range entries(t, o.Dir()) {
		if e.Kind != audit.VaultOperation || e.Outcome != audit.Refused {
			continue
		}
		key := e.KeyID[strings.LastIndex(e.KeyID, "/")+1:]
		told[key]++
		n := 1
		if c := e.Details[audit.DetailCount]; c != "" {
			fmt.Sscan(c, &n)
		}
		counted += n
	}
	if told["same"] < 1 || told["same"] > 2 {
		t.Errorf("repeated refusals are logged in %d entries: %v", told["same"], told)
	}
	if all := len(told); all > 40 || counted != 2*flood {
		t.Errorf("%d refusals on %d keys are logged as %d: %v", 2*flood, all, counted, told)
	}
}
