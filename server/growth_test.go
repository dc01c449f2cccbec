package server_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/visage-face/visage"
)

// Actions of roles on every provider: read, write, and grant.
var (
	managementActions = []string{
		"Microsoft.Authorization/roleAssignments/write", "Microsoft.Authorization/roleAssignments/delete",
		"Microsoft.Resources/subscriptions/read",
		"Microsoft.CognitiveServices/accounts/read", "Microsoft.CognitiveServices/accounts/write",
		"Microsoft.CognitiveServices/accounts/listKeys/action",
		"Microsoft.KeyVault/vaults/read", "Microsoft.KeyVault/vaults/write",
		"Microsoft.KeyVault/vaults/accessPolicies/write",
		"Visage.Identity/servicePrincipals/write", "Visage.Operations/backup/action",
	}
	dataActions = []string{
		"Microsoft.CognitiveServices/accounts/Face/action", "Microsoft.KeyVault/vaults/keys/read",
		"Microsoft.KeyVault/vaults/keys/unwrap/action",
		"Microsoft.KeyVault/vaults/keys/sign/action", "Microsoft.KeyVault/vaults/keys/purge/action",
	}
)

// powers returns everything that each identity may do, or could gain without the help of another: the effects of roles,
// policies (also those not in force where roles decide), the choice between the two, and credentials.
func (w *populatedServer) powers(t *testing.T) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	d, op := w.Directory(), w.Operator()
	subscription := "/subscriptions/" + op.SubscriptionID
	inGroup := subscription + "/resourceGroups/" + op.ResourceGroup
	scopes := []string{subscription, inGroup}
	for _, a := range []string{"mine", "other"} {
		scopes = append(scopes, inGroup+"/providers/Microsoft.CognitiveServices/accounts/"+a)
	}
	vaults := inGroup + "/providers/Microsoft.KeyVault/vaults/"
	for _, name := range []string{"roles", "policies"} {
		scopes = append(scopes, vaults+name)
		status, body := w.as(t, "operator", http.MethodGet, vaults+name, "")
		if status != http.StatusOK {
			continue // it is deleted
		}
		var v struct {
			Properties struct {
				RBAC     bool `json:"enableRbacAuthorization"`
				Policies []struct {
					ObjectID    string
					Permissions struct{ Keys []string }
				} `json:"accessPolicies"`
			}
		}
		if err := json.Unmarshal(body, &v); err != nil {
			t.Fatal(err)
		}
		all[fmt.Sprintf("%s: roles decide: %t", name, v.Properties.RBAC)] = true
		for _, p := range v.Properties.Policies {
			for _, k := range p.Permissions.Keys {
				all[fmt.Sprintf("%s: policy of %s: %s", name, p.ObjectID, k)] = true
			}
		}
	}
	for _, p := range d.Principals() {
		who := visage.Principal{ObjectID: p.ID}
		for _, at := range scopes {
			for _, action := range managementActions {
				if d.May(who, action, at) {
					all[p.ID+" "+action+" on "+at] = true
				}
			}
			for _, action := range dataActions {
				if d.MayData(who, action, at) {
					all[p.ID+" "+action+" on data of "+at] = true
				}
			}
		}
		for _, s := range p.Secrets {
			all["secret "+s.ID+" of "+p.ID] = true
		}
		for _, s := range p.Subjects {
			all["subject "+s.Name+" is "+p.ID] = true
		}
	}
	return all
}

// as makes a request of the management plane with the token of an identity, which outlives the test.
func (w *populatedServer) as(t *testing.T, who, method, path, body string) (int, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, w.URL+path+"?api-version=2025-09-01",
		strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	token := w.tokens[who]
	if token == "" {
		token = w.token(who, managementAudience)
		w.tokens[who] = token
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	res, err := w.Client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, b
}

// hostile are bodies with which a caller tries to gain rights, each sent to every route.
func (w *populatedServer) hostile(me string) []string {
	tenant := w.Operator().TenantID
	policy := fmt.Sprintf(`{"tenantId":%q,"objectId":%q,"permissions":{"keys":["all","purge"]}}`, tenant, me)
	key := strings.Replace(w.URL, "https://", "https://roles.vault.", 1) + "/keys/k"
	user := "/subscriptions/" + w.Operator().SubscriptionID +
		"/resourceGroups/default/providers/Microsoft.ManagedIdentity/userAssignedIdentities/worker"
	return []string{
		`{}`,
		`{"properties":{"enableRbacAuthorization":false}}`,
		fmt.Sprintf(`{"properties":{"accessPolicies":[%s]}}`, policy),
		fmt.Sprintf(
			`{"location":"local","properties":{"tenantId":%q,"sku":{"family":"A","name":"standard"},"enableRbacAuthorization":false,"accessPolicies":[%s]}}`, tenant, policy,
		),
		fmt.Sprintf(
			`{"location":"local","properties":{"createMode":"recover","tenantId":%q,"sku":{"family":"A","name":"standard"},"enableRbacAuthorization":false,"accessPolicies":[%s]}}`, tenant, policy,
		),
		roleOf("8e3af657-a8ff-443c-a75c-2fe8c4bcb635", me),
		roleOf("00482a5a-887f-4fb3-b363-3b7fe8e74483", me),
		`{"displayName":"x","passwordLifetimeDays":1}`,
		`{"value":[{"issuer":"https://login.example","subject":"me"}]}`,
		fmt.Sprintf(
			`{"kind":"Face","location":"local","sku":{"name":"S0"},"identity":{"type":"SystemAssigned,UserAssigned","userAssignedIdentities":{%q:{}}}}`, user,
		),
		fmt.Sprintf(
			`{"identity":{"type":"SystemAssigned"},"properties":{"encryption":{"keyVaultProperties":{"keyVaultUri":%q},"register":true}}}`, key,
		),
		`{"properties":{"restore":true},"kind":"Face","location":"local","sku":{"name":"S0"}}`,
		`{"properties":{"capacity":null,"service":"Face","contact":"c","reason":"r"}}`,
	}
}

// TestNobodyBecomesMoreThanHeIs sends everything that a Contributor of the subscription, or the Owner of one resource,
// could try to every route of the management plane, and checks that neither has gained rights. Access policies of
// vaults where policies decide may be changed by a Contributor, as in Azure, and do not count.
func TestNobodyBecomesMoreThanHeIs(t *testing.T) {
	w := newPopulatedServer(t)
	routes := w.routes(t)["management"]
	slices.SortStableFunc(routes, func(a, b route) int { return cmp.Compare(lateness(a), lateness(b)) })
	if len(routes) < 50 {
		t.Fatalf("there are %d routes", len(routes))
	}
	for _, name := range []string{"roles", "policies"} { // so that the caller cannot create it
		path := w.fill(
			route{pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.KeyVault/vaults/"},
			nil,
		) + name
		if status, answer := w.as(t, "operator", http.MethodPatch, path,
			`{"properties":{"enablePurgeProtection":true}}`); status != http.StatusOK {
			t.Fatalf("protect %s: %d %s", name, status, answer)
		}
	}
	ownOperator := ""
	for _, a := range w.Directory().Assignments("") {
		if a.Principal == w.ids["operator"] {
			ownOperator = a.ID
		}
	}
	for _, who := range []string{"contributor", "owner elsewhere", "reader", "faces"} {
		before := w.powers(t)
		bodies := w.hostile(w.ids[who])
		for _, again := range []string{"", " again"} {
			for _, r := range routes {
				if r.method == http.MethodGet || r.method == http.MethodHead {
					continue
				}
				for _, assignment := range []string{newID(t), ownOperator} {
					for _, body := range bodies {
						path := w.fill(r, map[string]string{"assignment": assignment, "principal": w.ids[who]})
						status, answer := w.as(t, who, r.method, path, body)
						if status >= 500 {
							t.Errorf("%s %s %s: %d %s", r.method, path, body, status, answer)
						}
						if status >= 300 {
							continue // refused: nothing can have changed, and the check after the loop covers it
						}
						w.hold(t, who, before, r.method+" "+path+" "+body+again)
					}
					if !strings.Contains(r.pattern, "{assignment}") {
						break
					}
				}
			}
			w.hold(t, who, before, "all of it")
		}
		// The vaults for the next body.
		for _, name := range []string{"roles", "policies"} {
			path := w.fill(
				route{
					pattern: "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.KeyVault/vaults/",
				}, nil,
			) + name
			w.as(t, "operator", http.MethodPut, path, `{"location":"local","properties":{"createMode":"recover"}}`)
		}
	}
	// A caller who may assign roles gains rights: if that were not detected, the checks above would prove nothing.
	before := w.powers(t)
	path := w.fill(route{pattern: "/subscriptions/{subscription}/providers/Microsoft.Authorization/roleAssignments/"},
		nil) + newID(t)
	if status, answer := w.as(t, "owner", http.MethodPut, path,
		roleOf("00482a5a-887f-4fb3-b363-3b7fe8e74483", w.ids["owner"])); status != http.StatusCreated {
		t.Fatalf("an owner gives a role: %d %s", status, answer)
	}
	if more := gained(before, w.powers(t)); len(more) == 0 {
		t.Error("the rights that an owner gains are not detected")
	}
}

// lateness sorts destructive routes to the end, so that the objects exist for the others.
func lateness(r route) int {
	switch {
	case r.method == http.MethodDelete:
		return 2
	case strings.HasSuffix(r.pattern, "/purge"):
		return 3
	}
	return 1
}

// fill fills the pattern of a route with existing objects.
func (w *populatedServer) fill(r route, with map[string]string) string {
	op := w.Operator()
	names := map[string]string{
		"subscription": op.SubscriptionID, "group": op.ResourceGroup, "account": "mine", "vault": "roles",
		"location": "local",
		"request":  "r1", "change": "add", "tenant": op.TenantID,
	}
	segments := strings.Split(r.pattern, "/")
	for i, s := range segments {
		name, found := strings.CutPrefix(s, "{")
		if !found {
			continue
		}
		name = strings.TrimSuffix(name, "}")
		segments[i] = cmp.Or(with[name], names[name], nobody)
	}
	return strings.Join(segments, "/")
}

// hold fails the test when an identity has more rights than before.
func (w *populatedServer) hold(t *testing.T, who string, before map[string]bool, after string) {
	t.Helper()
	more := gained(before, w.powers(t))
	if who == "owner elsewhere" { // an owner may assign roles on his own resource
		more = slices.DeleteFunc(more, func(power string) bool { return strings.HasSuffix(power, "/accounts/mine") })
	}
	if len(more) > 0 {
		t.Fatalf("%s gained by %s: %s", who, after, strings.Join(more, "; "))
	}
}

func gained(before, now map[string]bool) (more []string) {
	for power := range now {
		if !before[power] && !strings.HasPrefix(power, "policies: policy of ") {
			more = append(more, power)
		}
	}
	slices.Sort(more)
	return more
}
