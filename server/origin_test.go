package server_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// get makes a request, with a token if there is one, and returns the status, the headers and the body.
func get(t *testing.T, s *servertest.Server, method, address, token, body string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := s.Client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, res.Header, string(raw)
}

// TestPublicURL requests everything that contains an address from a server without TLS behind a public name at the
// default port: each address begins with the public URL, without a port, whatever host the request named.
func TestPublicURL(t *testing.T) {
	o := newOfficer(t, server.Config{PublicURL: "HTTPS://Faces.Example.ORG.:443/", PlainHTTP: true, Rate: 1000})
	if o.URL != "https://faces.example.org" {
		t.Fatalf("the endpoint is %s", o.URL)
	}
	op := o.Operator()
	key := o.key(t, "k1")
	if key.Vault != "https://safe.vault.faces.example.org" {
		t.Errorf("the key is in %s", key.Vault)
	}
	o.enable(t, key)
	o.until(t, "the active key", func(s custody.Status) bool { return s.Condition == custody.Active })

	_, header, _ := get(t, o.Server, http.MethodGet, "https://safe.vault.faces.example.org/keys?api-version=7.5", "",
		"")
	want := `Bearer authorization="https://faces.example.org/` + op.TenantID +
		`", resource="https://vault.faces.example.org"`
	if got := header.Get("WWW-Authenticate"); got != want {
		t.Errorf("the challenge is %s, want %s", got, want)
	}
	for _, path := range []string{"/common/discovery/instance",
		"/" + op.TenantID + "/v2.0/.well-known/openid-configuration"} {
		_, _, body := get(t, o.Server, http.MethodGet, o.URL+path, "", "")
		var said map[string]any
		if err := json.Unmarshal([]byte(body), &said); err != nil {
			t.Fatalf("%s: %s", path, body)
		}
		for name, value := range said {
			if text, ok := value.(string); ok && strings.Contains(text, "://") && !strings.HasPrefix(text, o.URL+"/") {
				t.Errorf("%s: %s is %s", path, name, text)
			}
		}
	}
	token := o.Token(t, "https://management.azure.com/")
	accounts := o.URL + "/subscriptions/" + op.SubscriptionID +
		"/resourceGroups/default/providers/Microsoft.CognitiveServices/accounts"
	_, _, body := get(t, o.Server, http.MethodGet, accounts+"?api-version=2025-09-01", token, "")
	if want := `"endpoint":"https://default.faces.example.org/"`; !strings.Contains(body, want) {
		t.Errorf("the list of accounts lacks %s: %s", want, body)
	}
	path := o.URL + "/subscriptions/" + op.SubscriptionID +
		"/resourceGroups/default/providers/Microsoft.KeyVault/vaults/safe?api-version=2024-11-01"
	_, _, body = get(t, o.Server, http.MethodGet, path, token, "")
	if want := `"vaultUri":"https://safe.vault.faces.example.org/"`; !strings.Contains(body, want) {
		t.Errorf("the vault lacks %s: %s", want, body)
	}
}

// TestPublicURLMistakes checks that inconsistent settings are reported together with other mistakes.
func TestPublicURLMistakes(t *testing.T) {
	for _, c := range []struct {
		cfg  server.Config
		want string
	}{
		{server.Config{PublicURL: "faces.example.org"}, "public-url: must be a scheme"},
		{server.Config{PublicURL: "https://faces.example.org/x"}, "has a path"},
		{server.Config{PublicURL: "https://192.0.2.1"}, "got the address \"192.0.2.1\""},
		{server.Config{PublicURL: "http://faces.example.org"}, "must begin with https://"},
		{server.Config{PublicURL: "https://faces.example.org", Domain: "other.example"}, "remove domain"},
		{server.Config{PublicURL: "https://faces.example.org", PublicPort: 8443}, "remove public-port"},
		{server.Config{TrustedProxies: []string{"10.0.0.0/8", "proxy"}}, `trusted-proxy: must be addresses or CIDR blocks such as 10.0.0.0/8; got "proxy"`},
		{server.Config{TrustedProxies: []string{"10.0.0.0/33"}}, `got "10.0.0.0/33"`},
	} {
		c.cfg.Parallel = -1
		_, err := server.New(c.cfg)
		if err == nil || !strings.Contains(err.Error(), c.want) ||
			!strings.Contains(err.Error(), "parallel: must be between") {
			t.Errorf("%+v: %v, want %q beside the other mistake", c.cfg.PublicURL, err, c.want)
		}
	}
	for _, cfg := range []server.Config{
		{PublicURL: "https://faces.example.org:8443", Domain: "faces.example.org", PublicPort: 8443},
		{PublicURL: "http://faces.example.org", PlainHTTP: true},
		{TrustedProxies: []string{"10.0.0.0/8", "::1", "192.0.2.7"}},
	} {
		if _, err := server.New(cfg); err != nil {
			t.Errorf("%+v: %v", cfg.PublicURL, err)
		}
	}
}

// TestAudienceSpellings accepts every equal spelling of a token's audience, and checks that the token works.
func TestAudienceSpellings(t *testing.T) {
	o := newOfficer(t, server.Config{PublicURL: "https://faces.example.org"})
	op := o.Operator()
	vault := "https://safe.vault.faces.example.org/keys?api-version=7.5"
	management := o.URL + "/subscriptions/" + op.SubscriptionID + "?api-version=2022-12-01"
	for audience, address := range map[string]string{
		"https://vault.faces.example.org": vault, "https://vault.faces.example.org/": vault,
		"https://vault.faces.example.org:443": vault, "HTTPS://Vault.Faces.Example.ORG:443/": vault,
		"https://vault.faces.example.org.": vault,
		"https://management.azure.com/":    management, "https://management.azure.com:443": management,
		"https://MANAGEMENT.azure.com":         management,
		"https://management.core.windows.net/": management, "https://faces.example.org": management,
		"https://faces.example.org:443/": management,
	} {
		for _, version := range []string{"/oauth2/token", "/oauth2/v2.0/token"} {
			form := url.Values{"grant_type": {"client_credentials"}, "client_id": {op.ClientID},
				"client_secret": {op.ClientSecret},
				"resource":      {audience}, "scope": {audience + "/.default"}}
			res, err := o.Client.PostForm(o.URL+"/"+strings.ToUpper(op.TenantID)+version, form)
			if err != nil {
				t.Fatal(err)
			}
			var said struct {
				Token       string `json:"access_token"`
				Description string `json:"error_description"`
			}
			err = json.NewDecoder(res.Body).Decode(&said)
			res.Body.Close()
			if err != nil || said.Token == "" {
				t.Errorf("%s at %s: %d %s (%v)", audience, version, res.StatusCode, said.Description, err)
				continue
			}
			if status, _, body := get(t, o.Server, http.MethodGet, address, said.Token, ""); status != http.StatusOK {
				t.Errorf("a token for %s is refused at %s: %d %s", audience, address, status, body)
			}
		}
	}
}

// TestHostSpellings reaches vaults and resources at every equal spelling of their hosts.
func TestHostSpellings(t *testing.T) {
	o := newOfficer(t, server.Config{PublicURL: "https://faces.example.org", PlainHTTP: true, Rate: 1000})
	token := o.Token(t, "https://vault.faces.example.org")
	data := o.Token(t, "https://cognitiveservices.azure.com")
	for host, path := range map[string]string{
		"safe.vault.faces.example.org":      "/keys?api-version=7.5",
		"SAFE.Vault.faces.example.org:443":  "/keys?api-version=7.5",
		"safe.vault.faces.example.org.":     "/keys?api-version=7.5",
		"safe.vault.faces.example.org:8443": "/keys?api-version=7.5",
		"default.faces.example.org":         "/face/v1.2/persongroups",
		"DEFAULT.faces.example.org.:443":    "/face/v1.2/persongroups",
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, o.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		req.Header.Set("Authorization", "Bearer "+token)
		if strings.HasPrefix(path, "/face") {
			req.Header.Set("Authorization", "Bearer "+data)
		}
		res, err := o.Client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != http.StatusOK {
			t.Errorf("at %s: %d %s (%v)", host, res.StatusCode, body, err)
		}
	}
}

// TestPublicURLChanges moves an instance to another public address while a resource is under a key of its own vault:
// its data opens, a revocation is noticed at once, and both addresses name the resource's key.
func TestPublicURLChanges(t *testing.T) {
	o := newOfficer(t, server.Config{Rate: 1000})
	if status, body, _ := o.face(t, http.MethodPut, "/face/v1.2/persongroups/g",
		`{"name":"g"}`); status != http.StatusOK {
		t.Fatalf("make a group: %d %s", status, body)
	}
	first := o.key(t, "k1")
	unversioned := first
	unversioned.Version = ""
	o.enable(t, unversioned)
	for _, cfg := range []server.Config{
		{PublicURL: "https://faces.example.org", PlainHTTP: true}, {PublicURL: "https://other.example:8443"}, {},
	} {
		if err := o.Stop(); err != nil {
			t.Fatal(err)
		}
		cfg.Dir, cfg.Rate = o.Dir(), 1000
		o.Server = servertest.Start(t, cfg)
		o.keys = vaultClient(t, o.Server, "safe")
		o.until(t, "the active key at "+o.URL,
			func(s custody.Status) bool { return s.Condition == custody.Active })
		if status, body, _ := o.groups(t); status != http.StatusOK || !strings.Contains(body, `"g"`) {
			t.Errorf("at %s: %d %s", o.URL, status, body)
		}
		state := o.until(t, "anything", func(custody.Status) bool { return true })
		if want := strings.Replace(o.URL, "https://", "https://safe.vault.", 1); state.Key.Vault != want {
			t.Errorf("the key is in %s, want %s", state.Key.Vault, want)
		}
		o.enable(t, unversioned) // as it was given first
		o.enable(t, state.Key)   // as it is named now
		newest, err := o.keys.GetKey(t.Context(), "k1", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		key := first
		key.Version = newest.Key.KID.Version()
		o.allow(t, key, false)
		o.until(t, "the lock at "+o.URL, func(s custody.Status) bool { return s.Condition == custody.Revoked })
		o.allow(t, key, true)
		o.until(t, "the restored key at "+o.URL, func(s custody.Status) bool { return s.Condition == custody.Active })
		rotated := o.key(t, "k1")
		o.until(t, "the new version at "+o.URL, func(s custody.Status) bool {
			if s.Version == rotated.Version {
				return s.Operation.Progress != custody.Running
			}
			// It may follow by itself at the same time.
			_, err := o.Custody().Enable(t.Context(), o.space, unversioned, o.who)
			if refusal, ok := errors.AsType[*visage.Refusal](err); err != nil &&
				!(ok && refusal.Code == "RequestConflict") {
				t.Fatal(err)
			}
			return false
		})
	}
}
