package azure_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/azure"
)

// TestApplication gets tokens, and checks that a deleted application is distinguished from an outage of the token
// service.
func TestApplication(t *testing.T) {
	var status int
	var body, asked string
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		asked = r.URL.Path + " " + r.PostForm.Encode()
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
		if _, err := w.Write([]byte(body)); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	client := server.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("s3cret\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	app := azure.Application{Authority: server.URL + "/", Tenant: "contoso.example", ClientID: "app", SecretFile: file,
		Client: client}

	status, body = http.StatusOK, `{"token_type":"Bearer","expires_in":3599,"access_token":"abc"}`
	token, expires, err := app.Token(t.Context(), "https://vault.azure.net/.default")
	if left := time.Until(expires); err != nil || token != "abc" || left < 3500*time.Second || left > 3600*time.Second {
		t.Errorf("%q until %v, %v", token, expires, err)
	}
	want := "/contoso.example/oauth2/v2.0/token client_id=app&client_secret=s3cret&grant_type=client_credentials" +
		"&scope=https%3A%2F%2Fvault.azure.net%2F.default"
	if asked != want {
		t.Errorf("asked %s", asked)
	}
	for _, c := range []struct {
		status int
		body   string
		denied bool
	}{
		{401, `{"error":"invalid_client","error_codes":[7000215]}`, true},
		{401, `{"error":"invalid_client","error_codes":[7000222]}`, true},
		{400, `{"error":"unauthorized_client","error_codes":[700016]}`, true},
		{400, `{"error":"invalid_request","error_codes":[90002]}`, true},
		{400, `{"error":"invalid_scope","error_codes":[70011]}`, false},
		{429, `{"error":"invalid_client","error_codes":[7000215]}`, false},
		{503, `{"error":"temporarily_unavailable","error_codes":[90033]}`, false},
		{200, `{"access_token":""}`, false},
		{200, `{"access_token":"abc"}`, false},
		{302, ``, false},
		{502, `<html>bad gateway</html>`, false},
		{200, ``, false},
	} {
		status, body = c.status, c.body
		token, _, err := app.Token(t.Context(), "https://vault.azure.net/.default")
		if err == nil || token != "" || errors.Is(err, keysource.ErrDenied) != c.denied {
			t.Errorf("%d %s: %q, %v", c.status, c.body, token, err)
		}
	}
	app.SecretFile += ".gone"
	if _, _, err := app.Token(t.Context(), "x"); err == nil || errors.Is(err, keysource.ErrDenied) {
		t.Errorf("a secret that cannot be read: %v", err)
	}
}

// TestFederated gets tokens for assertions, uses none for longer than a poll, and distinguishes a federated credential
// that is gone from a clock or an issuer that is in trouble.
func TestFederated(t *testing.T) {
	var status int
	var body, asked string
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		asked = r.URL.Path + " " + r.PostForm.Encode()
		w.WriteHeader(status)
		if _, err := w.Write([]byte(body)); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	var gone error
	app := azure.Federated{Authority: server.URL, Tenant: "contoso.example", ClientID: "app", Client: server.Client(),
		Assertion: func(context.Context) (string, time.Time, error) { return "a.b.c", time.Time{}, gone }}

	status, body = http.StatusOK, `{"token_type":"Bearer","expires_in":3599,"access_token":"abc"}`
	token, expires, err := app.Token(t.Context(), "https://vault.azure.net/.default")
	if left := time.Until(expires); err != nil || token != "abc" || left <= 0 || left > 20*time.Second {
		t.Errorf("%q until %v, %v", token, expires, err)
	}
	want := "/contoso.example/oauth2/v2.0/token client_assertion=a.b.c&client_assertion_type=urn%3Aietf%3Aparams%3A" +
		"oauth%3Aclient-assertion-type%3Ajwt-bearer&client_id=app&grant_type=client_credentials" +
		"&scope=https%3A%2F%2Fvault.azure.net%2F.default"
	if asked != want {
		t.Errorf("asked %s", asked)
	}
	for number, denied := range map[int]bool{
		70021: true, 700211: true, 700212: true, 700213: true, // no federated credential for it
		700016: true, 7000112: true, 90002: true, // no such application or tenant
		700024: false, 700027: false, 50027: false, 90033: false, // its time, its signature, the service
	} {
		status, body = http.StatusUnauthorized, fmt.Sprintf(`{"error":"invalid_client","error_codes":[%d]}`, number)
		token, _, err := app.Token(t.Context(), "https://vault.azure.net/.default")
		if err == nil || token != "" || errors.Is(err, keysource.ErrDenied) != denied {
			t.Errorf("%d: %q, %v", number, token, err)
		}
	}
	gone = fmt.Errorf("the identity is gone: %w", keysource.ErrDenied)
	asked = ""
	if _, _, err := app.Token(t.Context(), "x"); !errors.Is(err, keysource.ErrDenied) || asked != "" {
		t.Errorf("without an identity: %v, and asked %q", err, asked)
	}
}
