package server_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// directoryReader sends Graph requests with a token.
type directoryReader struct {
	realm
	token string
}

func (d directoryReader) ask(method, path, body string) (int, map[string]any) {
	d.t.Helper()
	req, err := http.NewRequestWithContext(d.t.Context(), method, d.URL+"/v1.0"+path, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+d.token)
	req.Header.Set("Content-Type", "application/json")
	res, err := d.Client.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	var answer map[string]any
	if err := json.Unmarshal(b, &answer); err != nil {
		d.t.Fatalf("%s %s: %d %s: %v", method, path, res.StatusCode, b, err)
	}
	return res.StatusCode, answer
}

// names lists the display names of a collection's answer, sorted; or the code of its error.
func (d directoryReader) names(path string) string {
	d.t.Helper()
	_, answer := d.ask(http.MethodGet, path, "")
	return namesOf(answer)
}

func namesOf(answer map[string]any) string {
	if said, wrong := answer["error"].(map[string]any); wrong {
		return said["code"].(string)
	}
	var names []string
	for _, one := range answer["value"].([]any) {
		names = append(names, one.(map[string]any)["displayName"].(string))
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// TestGraph queries the directory as management clients do.
func TestGraph(t *testing.T) {
	t.Parallel()
	r := realm{servertest.Start(t, server.Config{}), t}
	const graph = "https://graph.microsoft.com"
	reader := directoryReader{r, r.somebody("reader", "", identity.Reader)(graph)}
	nobody := directoryReader{r, r.somebody("nobody", "")(graph)}
	r.somebody("shop's app", "")
	tenant, err := r.Directory().CreateTenant(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r.somebody("stranger", tenant)
	called := func(name string) identity.Principal {
		all := r.Directory().Principals()
		return all[slices.IndexFunc(all, func(p identity.Principal) bool { return p.Name == name })]
	}
	shop, self := called("shop's app"), called("nobody")
	managed, err := r.Directory().
		EnsureManaged(t.Context(), r.Operator().TenantID, "/subscriptions/s/accounts/vip", identity.SystemAssigned)
	if err != nil {
		t.Fatal(err)
	}
	ada, err := r.Directory().CreatePerson(t.Context(), identity.PersonCreation{
		Tenant: r.Operator().TenantID, Name: "Ada", Email: "ada@example.org",
	})
	if err != nil {
		t.Fatal(err)
	}
	filter := func(of, text string) string { return "/" + of + "?$filter=" + url.QueryEscape(text) }
	for _, c := range []struct{ path, want string }{
		{"/servicePrincipals", "nobody operator reader shop's app vip"},
		{"/applications", "nobody operator reader shop's app"},
		{filter("servicePrincipals", "servicePrincipalNames/any(c:c eq '"+shop.ClientID+"')"), "shop's app"},
		{filter("servicePrincipals", "servicePrincipalNames/any(c:c eq '"+strings.ToUpper(shop.ClientID)+"')"),
			"shop's app"},
		{filter("servicePrincipals", "appId eq '"+shop.ClientID+"'"), "shop's app"},
		{filter("servicePrincipals", "id eq '"+managed.ID+"'"), "vip"},
		{filter("servicePrincipals", "displayName eq 'shop''s app'"), "shop's app"},
		{filter("servicePrincipals", "startswith(displayName,'SHOP')"), "shop's app"},
		{
			filter(
				"servicePrincipals",
				"startsWith(displayName, 'o') or (displayName eq 'vip' and servicePrincipalType eq 'ManagedIdentity')",
			), "operator vip",
		},
		{filter("servicePrincipals", "not (displayName in ('vip', 'operator')) and accountEnabled eq true"),
			"nobody reader shop's app"},
		{filter("servicePrincipals", "displayName ne 'vip' and servicePrincipalType ne 'Application'"), ""},
		{filter("applications", "appId eq '"+managed.ClientID+"'"), ""},
		{filter("applications", "identifierUris/any(s:s eq 'http://x')"), ""},
		{filter("users", "userPrincipalName eq 'a@b.example'"), ""},
		{filter("users", "userPrincipalName eq 'ada@example.org'"), "Ada"},
		{filter("users", "id eq '"+ada.ID+"'"), "Ada"},
		{filter("servicePrincipals", "id eq '"+ada.ID+"'"), ""},
		{filter("groups", "displayName eq 'x'"), ""},
		{filter("servicePrincipals", "displayName eq 'stranger'"), ""},
		{filter("servicePrincipals", "displayName eq"), "BadRequest"},
		{filter("servicePrincipals", "displayName gt 'a'"), "BadRequest"},
		{filter("servicePrincipals", "displayName eq 'a' displayName eq 'b'"), "BadRequest"},
		{filter("servicePrincipals", "displayName eq 'a"), "BadRequest"},
		{filter("servicePrincipals", "secretText eq 'a'"), "Request_UnsupportedQuery"},
		{filter("servicePrincipals", strings.Repeat("(", 5000)), "BadRequest"},
		{"/servicePrincipals?$top=0", "BadRequest"},
		{"/servicePrincipals/" + shop.ClientID, "Request_ResourceNotFound"},
		{"/servicePrincipals(id='x')", "BadRequest"},
		{"/me", "BadRequest"},
		{"/devices/x/y", "BadRequest"},
	} {
		if got := reader.names(c.path); got != c.want {
			t.Errorf("%s: %q, want %q", c.path, got, c.want)
		}
	}
	for _, path := range []string{"/servicePrincipals/" + shop.ID, "/servicePrincipals(appId='" + shop.ClientID + "')",
		"/applications/" + shop.ID, "/directoryObjects/" + shop.ID} {
		if status, answer := reader.ask(http.MethodGet, path, ""); status != 200 || answer["appId"] != shop.ClientID ||
			answer["id"] != shop.ID {
			t.Errorf("%s: %d %v", path, status, answer)
		}
	}
	ids := `{"ids":["` + strings.ToUpper(shop.ID) +
		`","11111111-1111-1111-1111-111111111111"],"types":["user","group","servicePrincipal","directoryObjectPartnerReference"]}`
	_, answer := reader.ask(http.MethodPost, "/directoryObjects/getByIds", ids)
	if got := namesOf(answer); got != "shop's app" ||
		answer["value"].([]any)[0].(map[string]any)["@odata.type"] != "#microsoft.graph.servicePrincipal" {
		t.Errorf("by ids: %v", answer)
	}
	if _, answer := reader.ask(http.MethodPost, "/directoryObjects/getByIds",
		strings.Replace(ids, `"servicePrincipal",`, "", 1)); namesOf(answer) != "" {
		t.Errorf("by ids, users and groups alone: %v", answer)
	}
	// Links to further pages begin with the server's own address.
	var pages []string
	for path := "/servicePrincipals?$top=2&$select=displayName"; path != ""; {
		_, answer := reader.ask(http.MethodGet, path, "")
		pages = append(pages, namesOf(answer))
		if first := answer["value"].([]any)[0].(map[string]any); first["appId"] != nil {
			t.Errorf("$select: %v", first)
		}
		next, _ := answer["@odata.nextLink"].(string)
		path = strings.TrimPrefix(next, r.URL+"/v1.0")
	}
	if all := strings.Join(pages, " "); len(pages) != 3 || len(strings.Fields(all)) != 6 {
		t.Errorf("pages: %q", pages)
	}
	// A caller without a role sees only itself.
	for path, want := range map[string]string{
		"/servicePrincipals": "nobody",
		filter("servicePrincipals", "appId eq '"+self.ClientID+"'"):    "nobody",
		filter("servicePrincipals", "appId eq '"+shop.ClientID+"'"):    "Authorization_RequestDenied",
		filter("servicePrincipals", "displayName eq 'is not there'"):   "Authorization_RequestDenied",
		"/servicePrincipals/" + shop.ID:                                "Authorization_RequestDenied",
		"/servicePrincipals/11111111-1111-1111-1111-111111111111":      "Authorization_RequestDenied",
		filter("users", "userPrincipalName eq 'a@b.example'"):          "Authorization_RequestDenied",
		"/servicePrincipals(appId='" + shop.ClientID + "')":            "Authorization_RequestDenied",
		"/directoryObjects/" + shop.ID:                                 "Authorization_RequestDenied",
		filter("applications", "not (appId eq '"+self.ClientID+"')"):   "Authorization_RequestDenied",
		filter("applications", "startswith(displayName,'"+"shop"+"')"): "Authorization_RequestDenied",
	} {
		if got := nobody.names(path); got != want {
			t.Errorf("without a role, %s: %q, want %q", path, got, want)
		}
	}
	if status, answer := nobody.ask(http.MethodPost, "/directoryObjects/getByIds", ids); status != 403 {
		t.Errorf("without a role, by ids: %d %v", status, answer)
	}
	wrong := directoryReader{r, r.Token(t, facePlane)}
	if status, answer := wrong.ask(http.MethodGet, "/servicePrincipals", ""); status != 401 ||
		namesOf(answer) != "InvalidAuthenticationToken" ||
		answer["error"].(map[string]any)["innerError"].(map[string]any)["request-id"] == "" {
		t.Errorf("a token for faces: %d %v", status, answer)
	}
}
