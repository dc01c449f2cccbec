package console_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/server/servertest"
)

// visitorWith makes a person with roles on the subscription, and signs in as them.
func visitorWith(t *testing.T, s *servertest.Server, name string, roles ...string) (*servertest.Browser, string) {
	t.Helper()
	subscription := "/subscriptions/" + s.Operator().SubscriptionID
	var made struct {
		ID string `json:"objectId"`
	}
	manage(t, s, http.MethodPost, subscription+"/providers/Visage.Identity/people",
		`{"displayName":"`+name+`"}`, &made)
	for _, role := range roles {
		give(t, s, made.ID, role, subscription)
	}
	return s.Browser(t, made.ID), made.ID
}

// give assigns a role on a scope.
func give(t *testing.T, s *servertest.Server, principal, role, scope string) {
	t.Helper()
	manage(t, s, http.MethodPut, scope+"/providers/Microsoft.Authorization/roleAssignments/"+visage.NewUUID().String(),
		`{"properties":{"roleDefinitionId":"/providers/Microsoft.Authorization/roleDefinitions/`+role+
			`","principalId":"`+principal+`"}}`, nil)
}

// manage sends a request of the operator to the management plane; anything but a success fails the test.
func manage(t *testing.T, s *servertest.Server, method, path, body string, answer any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path+"?api-version=2025-09-01",
		strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+s.Token(t, "https://management.azure.com"))
	res, err := s.Client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	said, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode >= http.StatusMultipleChoices {
		t.Fatalf("%s %s: %d %s (%v)", method, path, res.StatusCode, said, err)
	}
	if answer == nil {
		return
	}
	if err := json.Unmarshal(said, answer); err != nil {
		t.Fatalf("%s %s answered %s: %v", method, path, said, err)
	}
}

// want fails the test unless a page has a status and all texts.
func want(t *testing.T, what string, p servertest.Page, status int, texts ...string) {
	t.Helper()
	body := strings.ReplaceAll(p.Body, "<wbr>", "") // where addresses may be broken
	if p.Status != status {
		t.Fatalf("%s: status %d, want %d: %s", what, p.Status, status, p.Body)
	}
	for _, text := range texts {
		if !strings.Contains(body, text) {
			t.Errorf("%s: the page has no %q: %s", what, text, p.Body)
		}
	}
}

// wantNot fails the test if a page has one of some texts.
func wantNot(t *testing.T, what string, p servertest.Page, texts ...string) {
	t.Helper()
	body := strings.ReplaceAll(p.Body, "<wbr>", "")
	for _, text := range texts {
		if strings.Contains(p.Body, text) || strings.Contains(body, text) {
			t.Errorf("%s: the page has %q: %s", what, text, p.Body)
		}
	}
}

// french sets the language of a browser.
func french(t *testing.T, b *servertest.Browser) {
	t.Helper()
	p := b.Get("/console")
	fields, found := p.Form("/console/language")
	if !found {
		t.Fatal("the page has no switch of languages")
	}
	if p := b.Send("/console/language", fields); p.Status != http.StatusSeeOther {
		t.Fatalf("switch to French: %d", p.Status)
	}
}

// accountScope is the scope of roles on a resource.
func accountScope(s *servertest.Server, name string) string {
	return "/subscriptions/" + s.Operator().SubscriptionID + "/resourceGroups/" + s.Operator().ResourceGroup +
		"/providers/Microsoft.CognitiveServices/accounts/" + name
}

// location is the origin of the console.
func location(t *testing.T, s *servertest.Server) *url.URL {
	t.Helper()
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// vaultScope is the scope of roles on a vault.
func vaultScope(s *servertest.Server, name string) string {
	return "/subscriptions/" + s.Operator().SubscriptionID + "/resourceGroups/" + s.Operator().ResourceGroup +
		"/providers/Microsoft.KeyVault/vaults/" + name
}

// stale signs in as the operator with an issuer that has asked them an hour ago who they are.
func stale(t *testing.T, s *servertest.Server, i *issuer) *servertest.Browser {
	t.Helper()
	op := s.Operator()
	manage(t, s, http.MethodPut, "/subscriptions/"+op.SubscriptionID+"/providers/Visage.Identity/servicePrincipals/"+
		op.ClientID+"/federatedSubjects", `{"value":[{"issuer":"`+i.URL+`","subject":"op"}]}`, nil)
	i.claims = map[string]any{"auth_time": time.Now().Add(-time.Hour).Unix()}
	b := s.Visitor(t)
	if p := finish(t, b, comesBack(t, s, b, i.signs(begins(t, b, "/console/signin", i), "op"))); p.Status != 303 {
		t.Fatalf("sign in: %d %s", p.Status, p.Body)
	}
	return b
}
