package armapi_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/visage-face/visage/identity"
)

// TestRoleAssignmentsByFilter assigns three roles on three scopes and lists them from each scope, as official clients
// do.
func TestRoleAssignmentsByFilter(t *testing.T) {
	m := start(t)
	m.vault("safe1", "local", "", "", "")
	role := func(id string) string {
		return m.subscription("/providers/Microsoft.Authorization/roleDefinitions/" + id)
	}
	ann := at(
		m.want(201, "", http.MethodPost,
			m.subscription("/providers/Visage.Identity/servicePrincipals?api-version=2025-09-01"),
			`{"displayName":"ann"}`), "objectId",
	).(string)
	bob := at(
		m.want(201, "", http.MethodPost,
			m.subscription("/providers/Visage.Identity/servicePrincipals?api-version=2025-09-01"),
			`{"displayName":"bob"}`), "objectId",
	).(string)
	scopes := map[string]string{
		"subscription": m.subscription(""), "group": m.subscription("/resourceGroups/default"),
		"vault": m.subscription("/resourceGroups/default/providers/Microsoft.KeyVault/vaults/safe1"),
	}
	under := func(scope, more string, query url.Values) string {
		query.Set("api-version", "2022-04-01")
		return scopes[scope] + "/providers/Microsoft.Authorization/" + more + "?" + query.Encode()
	}
	ids := map[string]string{}
	for i, c := range []struct{ name, scope, who, role string }{
		{"ann-subscription", "subscription", ann, identity.Reader}, {"ann-vault", "vault", ann, identity.VaultReader},
		{"bob-group", "group", bob, identity.Reader},
	} {
		id := strings.Replace("00000000-0000-4000-8000-00000000000x", "x", string(rune('1'+i)), 1)
		made := m.want(201, "", http.MethodPut, under(c.scope, "roleAssignments/"+strings.ToUpper(id), url.Values{}),
			`{"properties":{"roleDefinitionId":"`+role(c.role)+`","principalId":"`+strings.ToUpper(c.who)+
				`","principalType":"ServicePrincipal"}}`)
		if at(made, "name") != id || at(made, "properties.principalId") != c.who {
			t.Errorf("%s: %v", c.name, made)
		}
		ids[id] = c.name
		m.want(200, "", http.MethodGet, under(c.scope, "roleAssignments/"+id, url.Values{}), "")
		m.want(204, "", http.MethodHead, under(c.scope, "roleAssignments/"+id, url.Values{}), "")
	}
	for _, c := range []struct{ scope, filter, want string }{
		{"vault", "", "ann-subscription ann-vault bob-group"},
		{"group", "", "ann-subscription ann-vault bob-group"},
		{"group", "atScope()", "ann-subscription bob-group"},
		{"subscription", "atscope()", "ann-subscription"},
		{"vault", "atScope()", "ann-subscription ann-vault bob-group"},
		{"vault", "principalId eq '" + ann + "'", "ann-subscription ann-vault"},
		{"subscription", "principalId eq '" + strings.ToUpper(ann) + "'", "ann-subscription ann-vault"},
		{"subscription", "principalId eq " + ann, "ann-subscription ann-vault"},
		{"subscription", "assignedTo('" + bob + "')", "bob-group"},
		{"subscription", "atScope() and assignedTo('" + ann + "')", "ann-subscription"},
		{"group", "atScope() and principalId eq '" + ann + "'", "ann-subscription"},
		{"group", "roleDefinitionId eq '" + role(identity.VaultReader) + "'", "ann-vault"},
	} {
		answer := m.want(200, "", http.MethodGet, under(c.scope, "roleAssignments", url.Values{"$filter": {c.filter}}),
			"")
		var got []string
		for _, id := range strings.Fields(names(answer, "name")) {
			if name := ids[id]; name != "" { // the operator's own roles are skipped
				got = append(got, name)
			}
		}
		slices.Sort(got)
		if strings.Join(got, " ") != c.want {
			t.Errorf("at the %s, %q: %v, want %s", c.scope, c.filter, got, c.want)
		}
	}
	for _, filter := range []string{"assignedTo()", "atScope('x')", "principalName eq 'ann'", "principalId",
		"assignedTo(principalId)"} {
		m.want(400, "UnsupportedFilter", http.MethodGet,
			under("group", "roleAssignments", url.Values{"$filter": {filter}}), "")
	}
	everywhere := m.want(200, "", http.MethodGet,
		"/providers/Microsoft.Authorization/roleAssignments?api-version=2022-04-01&$filter=assignedTo('"+ann+"')", "")
	if n := len(at(everywhere, "value").([]any)); n != 2 {
		t.Errorf("everywhere: %v", everywhere)
	}
	m.want(400, "FeatureNotSupported", http.MethodPut,
		under("vault", "roleAssignments/00000000-0000-4000-8000-000000000009", url.Values{}),
		`{"properties":{"roleDefinitionId":"`+role(identity.Reader)+`","principalId":"`+ann+
			`","condition":"@Resource[x] StringEquals 'y'","conditionVersion":"2.0"}}`)
	m.want(200, "", http.MethodDelete,
		under("vault", "roleAssignments/00000000-0000-4000-8000-000000000002", url.Values{}), "")
	m.want(204, "", http.MethodDelete,
		under("vault", "roleAssignments/00000000-0000-4000-8000-000000000002", url.Values{}), "")
	m.want(404, "", http.MethodHead,
		under("vault", "roleAssignments/00000000-0000-4000-8000-000000000002", url.Values{}), "")
	if may := m.want(200, "", http.MethodGet, under("vault", "permissions", url.Values{}),
		""); !strings.Contains(strings.Join(actionsOf(may), " "), "*") {
		t.Errorf("the operator has the permissions %v", may)
	}
}

// TestScopesKeepTheirSpelling assigns roles on paths in clients' spellings, and finds each in the same spelling.
func TestScopesKeepTheirSpelling(t *testing.T) {
	m := start(t)
	m.vault("Safe1", "local", "", "", "")
	m.want(201, "", http.MethodPut, m.accounts("/Front"), `{"kind":"Face","location":"local","sku":{"name":"S0"}}`)
	ann := at(
		m.want(201, "", http.MethodPost,
			m.subscription("/providers/Visage.Identity/servicePrincipals?api-version=2025-09-01"),
			`{"displayName":"ann"}`), "objectId",
	).(string)
	s := m.subscription("")
	for i, scope := range []string{
		s, strings.ToUpper(s[:15]) + s[15:], s + "/resourceGroups/default", s + "/resourcegroups/DEFAULT",
		s + "/resourceGroups/default/providers/Microsoft.KeyVault/vaults/Safe1",
		s + "/resourceGroups/default/providers/microsoft.keyvault/vaults/SAFE1",
		s + "/resourceGroups/default/providers/Microsoft.CognitiveServices/accounts/Front",
	} {
		id := strings.Replace("00000000-0000-4000-8000-00000000000x", "x", string(rune('1'+i)), 1)
		roles := []string{identity.Reader, identity.VaultReader}
		path := scope + "/providers/Microsoft.Authorization/roleAssignments/" + id
		made := m.want(201, "", http.MethodPut, path+"?api-version=2022-04-01",
			`{"properties":{"roleDefinitionId":"`+s+"/providers/Microsoft.Authorization/roleDefinitions/"+roles[i%2]+
				`","principalId":"`+ann+`"}}`)
		got := m.want(200, "", http.MethodGet, strings.ToLower(path)+"?api-version=2022-04-01", "")
		for _, a := range []map[string]any{made, got} {
			if at(a, "properties.scope") != scope || at(a, "id") != path {
				t.Errorf("%s: id %v, scope %v", scope, at(a, "id"), at(a, "properties.scope"))
			}
		}
	}
	m.want(409, "RoleAssignmentExists", http.MethodPut, strings.ToUpper(s)+
		"/providers/Microsoft.Authorization/roleAssignments/00000000-0000-4000-8000-00000000000f?api-version=2022-04-01",
		`{"properties":{"roleDefinitionId":"`+identity.Reader+`","principalId":"`+ann+`"}}`)
}

func actionsOf(permissions map[string]any) (all []string) {
	for _, p := range at(permissions, "value").([]any) {
		for _, a := range at(p.(map[string]any), "actions").([]any) {
			all = append(all, a.(string))
		}
	}
	return all
}

// TestRolesThereAre finds roles by the properties that clients use.
func TestRolesThereAre(t *testing.T) {
	m := start(t)
	for _, scope := range []string{"", m.subscription(""), m.subscription("/resourcegroups/default"),
		strings.TrimSuffix(m.accounts("/default"), "?api-version=2025-09-01")} {
		path := scope + "/providers/Microsoft.Authorization/roleDefinitions"
		for filter, want := range map[string]int{
			"": len(identity.Roles()), "atScopeAndBelow()": len(identity.Roles()),
			"type eq 'BuiltInRole'": len(identity.Roles()), "type eq 'CustomRole'": 0,
			"roleName eq 'key vault READER'": 1, "atScopeAndBelow() and roleName eq 'Owner'": 1,
			"roleName eq 'Nobody'": 0,
		} {
			query := url.Values{"api-version": {"2022-04-01"}, "$filter": {filter}}.Encode()
			if n := len(at(m.want(200, "", http.MethodGet, path+"?"+query, ""), "value").([]any)); n != want {
				t.Errorf("%s, %q: %d roles, want %d", scope, filter, n, want)
			}
		}
		one := m.want(200, "", http.MethodGet, path+"/"+strings.ToUpper(identity.Reader)+"?api-version=2022-04-01", "")
		if at(one, "properties.roleName") != "Reader" || at(one, "name") != identity.Reader ||
			at(one, "properties.description") == "" {
			t.Errorf("%s: %v", scope, one)
		}
		m.want(200, "", http.MethodGet, at(one, "id").(string)+"?api-version=2022-04-01", "")
		m.want(404, "RoleDefinitionDoesNotExist", http.MethodGet,
			path+"/11111111-1111-4111-8111-111111111111?api-version=2022-04-01", "")
	}
	m.want(400, "FeatureNotSupported", http.MethodPut,
		m.subscription(
			"/providers/Microsoft.Authorization/roleDefinitions/11111111-1111-4111-8111-111111111111?api-version=2022-04-01",
		), "{}")
}
