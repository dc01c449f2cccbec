package graphapi_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/api/graphapi"
	"github.com/visage-face/visage/identity"
)

type directory []identity.Principal

func (d directory) Principals() []identity.Principal { return d }

// graph serves a directory of two identities to a caller who may read it.
func graph(t testing.TB) http.Handler {
	t.Helper()
	plane, err := graphapi.New(graphapi.Config{
		Identities: directory{
			{ID: "1", ClientID: "a", Tenant: "t", Name: "shop", Kind: identity.Application},
			{ID: "2", ClientID: "b", Tenant: "t", Name: "vip", Kind: identity.SystemAssigned,
				Resource: "/subscriptions/s"},
		},
		Tenant: "t", Origin: "https://visage.example",
		Principal: func(context.Context, string) (visage.Principal, error) {
			return visage.Principal{ObjectID: "1"},
				nil
		},
		MayRead: func(visage.Principal) bool { return true },
	})
	if err != nil {
		t.Fatal(err)
	}
	h, err := api.New(api.Config{Planes: []api.Plane{plane}})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func ask(h http.Handler, method, target string) (int, map[string]any) {
	r := httptest.NewRequest(method, target, strings.NewReader("{}"))
	r.Header.Set("Authorization", "Bearer x")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	var answer map[string]any
	if json.Unmarshal(w.Body.Bytes(), &answer) != nil {
		return w.Code, nil
	}
	return w.Code, answer
}

// TestDirectoryIsOnlyRead checks that clients that try to create identities are referred to the place where that is
// possible.
func TestDirectoryIsOnlyRead(t *testing.T) {
	h := graph(t)
	for _, c := range [][2]string{
		{"POST", "/v1.0/applications"}, {"POST", "/v1.0/servicePrincipals"}, {"PATCH", "/v1.0/servicePrincipals/1"},
		{"DELETE", "/v1.0/applications/1"},
	} {
		status, answer := ask(h, c[0], c[1])
		said, _ := answer["error"].(map[string]any)
		if message, _ := said["message"].(string); status != http.StatusMethodNotAllowed ||
			!strings.Contains(message, "visage identity") {
			t.Errorf("%s %s: %d %v", c[0], c[1], status, answer)
		}
	}
}

// FuzzFilter checks that every filter is either read or refused.
func FuzzFilter(f *testing.F) {
	for _, seed := range []string{
		"displayName eq 'shop' and not (id eq '2' or appId in ('a', 'b'))", "servicePrincipalNames/any(c:c eq 'a')",
		"startswith(displayName,'s')",
		"not not not", "((((", "id in (", "x/any(y:z", "'", "id eq", "alternativeNames/any(a:a eq '/subscriptions/s')",
		"accountEnabled eq true",
	} {
		f.Add(seed)
	}
	h := graph(f)
	f.Fuzz(func(t *testing.T, filter string) {
		status, answer := ask(h, http.MethodGet, "/v1.0/servicePrincipals?$filter="+url.QueryEscape(filter))
		if _, list := answer["value"]; status != http.StatusOK && status != http.StatusBadRequest ||
			(status == http.StatusOK) != list {
			t.Errorf("%q: %d %v", filter, status, answer)
		}
	})
}
