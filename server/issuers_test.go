package server_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// TestTrustedIssuer has one instance trust another: an identity of the other gets tokens here, with the official
// client, as the configured application, and no other identity does.
func TestTrustedIssuer(t *testing.T) {
	issuer := servertest.Start(t, server.Config{})
	const audience = "https://management.azure.com"
	url := issuer.URL + "/" + issuer.Operator().TenantID + "/v2.0"
	s := servertest.Start(
		t, server.Config{TrustedIssuers: []string{url + "=" + audience}, IssuerCAFile: issuer.Operator().CAFile},
	)
	o := s.Operator()
	ask := func(method, path, body string) map[string]any {
		req, err := http.NewRequestWithContext(t.Context(), method,
			s.URL+"/subscriptions/"+o.SubscriptionID+path+"?api-version=2025-09-01", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+s.Token(t, audience))
		res, err := s.Client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode >= 300 {
			t.Fatalf("%s %s: %d %s, %v", method, path, res.StatusCode, b, err)
		}
		var answer map[string]any
		if err := json.Unmarshal(b, &answer); err != nil {
			t.Fatal(err)
		}
		return answer
	}
	app := ask(http.MethodPost, "/providers/Visage.Identity/servicePrincipals", `{"displayName":"pipeline"}`)
	assertion := issuer.Token(t, audience)
	credential, err := azidentity.NewClientAssertionCredential(o.TenantID, app["appId"].(string),
		func(context.Context) (string, error) { return assertion, nil },
		&azidentity.ClientAssertionCredentialOptions{
			ClientOptions: policy.ClientOptions{
				Cloud: cloud.Configuration{ActiveDirectoryAuthorityHost: s.URL}, Transport: s.Client,
				Retry: policy.RetryOptions{MaxRetries: -1},
			},
			DisableInstanceDiscovery: true,
		})
	if err != nil {
		t.Fatal(err)
	}
	scopes := policy.TokenRequestOptions{Scopes: []string{audience + "/.default"}}
	if _, err := credential.GetToken(t.Context(), scopes); err == nil {
		t.Error("a subject without trust gets a token")
	}
	path := "/providers/Visage.Identity/servicePrincipals/" + app["objectId"].(string) + "/federatedSubjects"
	said := ask(http.MethodPut, path, `{"value":[{"issuer":"`+url+`","subject":"`+issuer.Operator().ClientID+`"}]}`)
	if list, _ := said["federatedSubjects"].([]any); len(list) != 1 {
		t.Errorf("said: %v", said)
	}
	if got, err := credential.GetToken(t.Context(), scopes); err != nil || got.Token == "" {
		t.Errorf("the trusted subject gets no token: %v", err)
	}
	ask(http.MethodPut, path, `{"value":[]}`)
	if _, err := credential.GetToken(t.Context(),
		policy.TokenRequestOptions{Scopes: scopes.Scopes, Claims: "{}"}); err == nil {
		t.Error("the subject still gets a token after its trust was removed")
	}
}

func TestIssuersThatAreNone(t *testing.T) {
	for _, text := range []string{"https://login.example", "http://login.example=visage", "login.example=visage",
		"https://login.example=", "https://u:p@login.example=visage", "https://login.example?x=visage"} {
		if err := (server.Config{TrustedIssuers: []string{text}}).Validate(); err == nil ||
			!strings.Contains(err.Error(), "trust-issuer") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
