package vaultapi_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/api/vaultapi"
	"github.com/visage-face/visage/audit/audittest"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/keyvault"
	"github.com/visage-face/visage/sealed"
)

const (
	tenant = "11111111-1111-4111-8111-111111111111"
	alice  = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
	bob    = "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"
	domain = "vault.example.org"
)

// issuer is a fake token service: its tokens consist of an object id and an audience.
type issuer struct{}

func (issuer) Token(_ context.Context, bearer, audience string) (visage.Principal, error) {
	who, rest, _ := strings.Cut(bearer, "|")
	aud, tid, _ := strings.Cut(rest, "|")
	if who == "" || aud != audience {
		return visage.Principal{}, visage.Refuse(visage.Unauthenticated, "InvalidAuthenticationTokenAudience",
			"The bearer token is for another audience.")
	}
	return visage.Principal{Method: "token", ObjectID: who, AppID: "app", Tenant: tid}, nil
}

// servedVaults is a vault service behind TLS.
type servedVaults struct {
	testing.TB
	service *keyvault.Service
	audit   audittest.Recorder
	handler http.Handler
	http    *http.Client
	base    string // of vault safe, with a slash at the end
	aud     string

	mu     sync.Mutex
	asked  []policy.TokenRequestOptions // in the token requests of the credential
	checks specs
}

func newServedVaults(t testing.TB, policies ...keyvault.AccessPolicy) *servedVaults {
	t.Helper()
	store, err := sealed.Open(t.Context(), sealed.Config{
		Engine:     "memory:",
		Protectors: []sealed.Protector{{Name: "test", Kind: "fake", Source: sourcetest.NewFake("root")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	server := httptest.NewUnstartedServer(nil)
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	r := &servedVaults{TB: t, aud: "https://" + domain + ":" + port, checks: loadSpecs(t)}
	address := func(vault string) string {
		return "https://" + strings.ToLower(vault) + "." + domain + ":" + port + "/"
	}
	r.base = address("safe")
	r.service, err = keyvault.New(keyvault.Config{Store: store, Address: address, Audit: &r.audit})
	if err != nil {
		t.Fatal(err)
	}
	plane, err := vaultapi.New(vaultapi.Config{
		Vaults: r.service, Address: address, Tokens: issuer{}, Audience: r.aud,
		Authority: func(tenant string) string { return "https://login.example.org/" + tenant },
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.handler, err = api.New(api.Config{Planes: []api.Plane{plane}}); err != nil {
		t.Fatal(err)
	}
	server.Config.Handler = r.handler
	server.StartTLS()
	t.Cleanup(server.Close)
	transport := server.Client().Transport.(*http.Transport).Clone()
	transport.TLSClientConfig.ServerName = "example.com" // what httptest's certificate is for
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, server.Listener.Addr().String())
	}
	r.http = &http.Client{Transport: transport}
	if policies == nil {
		policies = []keyvault.AccessPolicy{{ObjectID: alice,
			Keys: []keyvault.Permission{keyvault.All, keyvault.MayPurge,
				keyvault.MayRotate, keyvault.MayGetRotationPolicy, keyvault.MaySetRotationPolicy, keyvault.MayRelease}}}
	}
	r.vault("safe", func(v *keyvault.Vault) { v.Policies = policies })
	return r
}

// vault makes a vault.
func (r *servedVaults) vault(name string, set func(*keyvault.Vault)) {
	r.Helper()
	v := keyvault.Vault{Name: name, Group: "default", Location: "local", Tenant: tenant}
	set(&v)
	if _, err := r.service.CreateVault(r.Context(), visage.Caller{}, v); err != nil {
		r.Fatal(err)
	}
}

// credential is a fake identity library with the issuer's tokens.
type credential struct {
	r   *servedVaults
	who string
}

func (c credential) GetToken(_ context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	c.r.mu.Lock()
	c.r.asked = append(c.r.asked, o)
	c.r.mu.Unlock()
	return azcore.AccessToken{Token: c.who + "|" + strings.TrimSuffix(o.Scopes[0], "/.default") + "|" + o.TenantID}, nil
}

// Do implements policy.Transporter, and compares requests and answers with the official specification.
func (r *servedVaults) Do(req *http.Request) (*http.Response, error) {
	res, err := r.http.Do(req)
	if err == nil {
		r.checks.check(r, req, res)
	}
	return res, err
}

// client returns the official client of the vault at base as who.
func (r *servedVaults) client(base, who string) *azkeys.Client {
	r.Helper()
	options := &azkeys.ClientOptions{}
	options.Transport = r
	options.Retry.MaxRetries = -1
	c, err := azkeys.NewClient(base, credential{r, who}, options)
	if err != nil {
		r.Fatal(err)
	}
	return c
}
