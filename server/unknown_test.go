package server_test

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azcertificates"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"

	"github.com/visage-face/visage/server"
)

// TestUnknownPaths requests unknown paths, at every sort of host and with every sort of method, and gets an error that
// the clients of that host can read.
func TestUnknownPaths(t *testing.T) {
	o := newOfficer(t, server.Config{PublicURL: "https://faces.example.org", PlainHTTP: true, Rate: 1000})
	vaultToken := o.Token(t, "https://vault.faces.example.org")
	const vault, face, apex = "https://safe.vault.faces.example.org", "https://default.faces.example.org",
		"https://faces.example.org"
	tenant := "/" + o.Operator().TenantID
	for _, c := range []struct {
		method, address, token string
		status                 int
		code                   string
	}{
		{"GET", vault + "/secrets/x", "", 401, "Unauthorized"},
		{"GET", vault + "/secrets/x", "no.such.token", 401, "Unauthorized"},
		{"GET", vault + "/secrets/x", vaultToken, 404, "NotFound"},
		{"PUT", vault + "/secrets/x?api-version=7.5", vaultToken, 404, "NotFound"},
		{"GET", vault + "/certificates", vaultToken, 404, "NotFound"},
		{"POST", vault + "/certificates/x/create", vaultToken, 404, "NotFound"},
		{"GET", vault + "/", "", 401, "Unauthorized"},
		{"GET", vault + "/", vaultToken, 404, "NotFound"},
		{"DELETE", vault + "/keys", "", 401, "Unauthorized"},
		{"DELETE", vault + "/keys", vaultToken, 405, "MethodNotAllowed"},
		{"OPTIONS", vault + "/keys/k", vaultToken, 405, "MethodNotAllowed"},
		{"BREW", vault + "/keys/k", vaultToken, 405, "MethodNotAllowed"},
		{"GET", vault + "/subscriptions/x", vaultToken, 404, "NotFound"},
		{"GET", vault + "/face/v1.2/persongroups", vaultToken, 404, "NotFound"},
		{"GET", vault + "/secrets/discovery/keys", vaultToken, 404, "NotFound"},
		{"POST", vault + tenant + "/oauth2/v2.0/token", "", 401, "Unauthorized"},
		{"POST", vault + "/healthz", "", 401, "Unauthorized"},
		{"GET", vault + "//", vaultToken, 404, "NotFound"},
		{"GET", vault + "/keys/a/b/c/d/e", vaultToken, 404, "NotFound"},
		{"GET", vault + "/keys?api-version=%zz", vaultToken, 400, "BadParameter"},
		{"GET", vault + "/keys?a;b", vaultToken, 400, "BadParameter"},
		{"GET", vault + "/" + strings.Repeat("x/", 500), vaultToken, 404, "NotFound"},
		{"GET", "https://other.vault.faces.example.org/secrets/x", "", 404, "VaultNotFound"},
		{"GET", face + "/", "", 404, "404"},
		{"GET", face + "/vision/v3.2/analyze", "", 404, "404"},
		{"DELETE", face + "/face/v1.2/detect", "", 405, "405"},
		{"GET", apex + "/face/v1.1/detect", "", 404, "404"},
		{"GET", apex + "/subscriptions/x/nothing", "", 404, "InvalidResourceType"},
		{"GET", apex + "/providers/Nothing/at/all", "", 404, "InvalidResourceType"},
		{"GET", apex + "/secrets/x", "", 404, "NotFound"},
		{"GET", apex + tenant, "", 404, "invalid_request"},
		{"PUT", apex + tenant + "/oauth2/v2.0/token", "", 405, "invalid_request"},
		{"GET", apex + tenant + "/oauth2/v2.0/authorize", "", 404, "invalid_request"},
		{"GET", apex + "/common/nothing", "", 404, "invalid_request"},
		{"GET", apex + "/", "", 404, "NotFound"},
		{"GET", apex + "/favicon.ico", "", 404, "NotFound"},
		{"POST", apex + "/healthz", "", 405, "MethodNotAllowed"},
		{"DELETE", apex + "/metrics", "", 405, "MethodNotAllowed"},
		{"GET", vault + "/metrics", "", 401, "Unauthorized"},
		{"GET", "https://127.0.0.1/nothing", "", 404, "NotFound"},
		{"GET", "https://nobody.faces.example.org/nothing", "", 404, "NotFound"},
	} {
		status, header, body := get(t, o.Server, c.method, c.address, c.token, "")
		code := codeIn(body)
		if status != c.status || code != c.code {
			t.Errorf("%s %.80s: %d %s, want %d %s", c.method, c.address, status, body, c.status, c.code)
		}
		if (status == http.StatusUnauthorized) != (header.Get("WWW-Authenticate") != "") {
			t.Errorf("%s %.80s: %d with the challenge %q", c.method, c.address, status, header.Get("WWW-Authenticate"))
		}
		if got := header.Get("Content-Type"); got != "application/json; charset=utf-8" {
			t.Errorf("%s %.80s: content type %q", c.method, c.address, got)
		}
	}
}

// codeIn returns the code of an error answer in any dialect, if it has a message.
func codeIn(body string) string {
	var object struct {
		Error struct{ Code, Message string }
	}
	if json.Unmarshal([]byte(body), &object) == nil && object.Error.Message != "" {
		return object.Error.Code
	}
	var text struct {
		Error       string
		Description string `json:"error_description"`
	}
	if json.Unmarshal([]byte(body), &text) == nil && text.Description != "" {
		return text.Error
	}
	return ""
}

// TestNoAnswerIsEmpty writes requests to the socket that no client library would send.
func TestNoAnswerIsEmpty(t *testing.T) {
	o := newOfficer(t, server.Config{PublicURL: "https://faces.example.org"})
	trust := o.Client.Transport.(*http.Transport).TLSClientConfig.RootCAs
	for _, host := range []string{"faces.example.org", "safe.vault.faces.example.org", "default.faces.example.org"} {
		for _, request := range []string{
			"OPTIONS * HTTP/1.1\r\nHost: HOST\r\n", "GET * HTTP/1.1\r\nHost: HOST\r\n",
			"CONNECT HOST:443 HTTP/1.1\r\nHost: HOST:443\r\n",
			"GET /face/%zz HTTP/1.1\r\nHost: HOST\r\n", "GET /keys/%2e%2e%2f HTTP/1.1\r\nHost: HOST\r\n",
			"GET http://HOST/x HTTP/1.1\r\nHost: HOST\r\n",
			"GET / HTTP/1.1\r\n", "GET /x HTTP/1.0\r\n", "GET /x HTTP/3.9\r\nHost: HOST\r\n", "nonsense\r\n",
			"GET /x\r\n", "GET /x HTTP/1.1\r\nHost: a b\r\n",
			"GET /" + strings.Repeat("x", 64<<10) + " HTTP/1.1\r\nHost: HOST\r\n",
			"GET /x HTTP/1.1\r\nHost: HOST\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n",
			"POST /x HTTP/1.1\r\nHost: HOST\r\nContent-Length: -1\r\n",
			"POST /x HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: gzip\r\n",
		} {
			conn, err := tls.Dial("tcp", o.Addr().String(),
				&tls.Config{RootCAs: trust, ServerName: host, MinVersion: tls.VersionTLS12})
			if err != nil {
				t.Fatal(err)
			}
			request = strings.ReplaceAll(request, "HOST", host)
			// An answer before the end of the request may interrupt the writing.
			if _, err := io.WriteString(conn, request+"Connection: close\r\n\r\n"); err != nil {
				t.Logf("%.60q: %v", request, err)
			}
			method, _, _ := strings.Cut(request, " ")
			res, err := http.ReadResponse(bufio.NewReader(conn),
				&http.Request{Method: strings.Replace(method, "CONNECT", "GET", 1)})
			if err != nil {
				t.Errorf("%.60q: %v", request, err)
				conn.Close()
				continue
			}
			body, err := io.ReadAll(res.Body)
			if err != nil || res.StatusCode < 400 || len(body) == 0 {
				t.Errorf("%.60q: %d %q (%v)", request, res.StatusCode, body, err)
			}
			res.Body.Close()
			conn.Close()
		}
	}
}

// TestOtherVaultClients requests secrets and certificates, which the built-in vault does not support, with the official
// clients: both get an error of the vault that they can show.
func TestOtherVaultClients(t *testing.T) {
	o := newOfficer(t, server.Config{PublicURL: "https://faces.example.org"})
	const vault = "https://safe.vault.faces.example.org"
	options := azcore.ClientOptions{Transport: o.Client}
	options.Retry.MaxRetries = -1
	secrets, err := azsecrets.NewClient(vault, credential(t, o.Server),
		&azsecrets.ClientOptions{ClientOptions: options})
	if err != nil {
		t.Fatal(err)
	}
	certificates, err := azcertificates.NewClient(vault, credential(t, o.Server),
		&azcertificates.ClientOptions{ClientOptions: options})
	if err != nil {
		t.Fatal(err)
	}
	value := "x"
	for name, do := range map[string]func() error{
		"get a secret": func() error { _, err := secrets.GetSecret(t.Context(), "x", "", nil); return err },
		"set a secret": func() error {
			_, err := secrets.SetSecret(t.Context(), "x", azsecrets.SetSecretParameters{Value: &value}, nil)
			return err
		},
		"list secrets": func() error {
			_, err := secrets.NewListSecretPropertiesPager(nil).
				NextPage(t.Context())
			return err
		},
		"get a certificate": func() error {
			_, err := certificates.GetCertificate(t.Context(), "x", "", nil)
			return err
		},
		"list certificates": func() error {
			_, err := certificates.NewListCertificatePropertiesPager(nil).NextPage(t.Context())
			return err
		},
	} {
		err := do()
		answer, ok := errors.AsType[*azcore.ResponseError](err)
		if !ok || answer.StatusCode != http.StatusNotFound || answer.ErrorCode != "NotFound" ||
			!strings.Contains(err.Error(), "holds keys") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
