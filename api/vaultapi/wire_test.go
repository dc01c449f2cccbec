package vaultapi_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/visage-face/visage/keyvault"
)

// answer is the answer to a raw request.
type answer struct {
	status int
	header http.Header
	body   map[string]any
}

func (a answer) at(path string) any {
	var v any = a.body
	for name := range strings.SplitSeq(path, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[name]
	}
	return v
}

// do makes a raw request to the vault safe, with a token of alice unless another is given.
func (r *servedVaults) do(method, path, body string, token ...string) answer {
	r.Helper()
	if token == nil {
		token = []string{alice + "|" + r.aud + "|" + tenant}
	}
	return r.send(strings.TrimSuffix(r.base, "/")+path, method, body, token[0])
}

func (r *servedVaults) send(address, method, body, token string) answer {
	r.Helper()
	req, err := http.NewRequestWithContext(r.Context(), method, address, strings.NewReader(body))
	if err != nil {
		r.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := r.Do(req)
	if err != nil {
		r.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		r.Fatal(err)
	}
	a := answer{status: res.StatusCode, header: res.Header}
	if len(b) > 0 {
		if err := json.Unmarshal(b, &a.body); err != nil {
			r.Fatalf("%s %s: %d %s is not JSON: %v", method, address, res.StatusCode, b, err)
		}
	}
	return a
}

func TestChallenge(t *testing.T) {
	r := newServedVaults(t)
	want := fmt.Sprintf(`Bearer authorization="https://login.example.org/%s", resource="%s"`, tenant, r.aud)
	for name, c := range map[string]struct{ token, code string }{
		"no token":         {"", "AKV10000"},
		"another audience": {alice + "|https://management.example.org|" + tenant, "AKV10022"},
		"another tenant":   {alice + "|" + r.aud + "|other", "AKV10032"},
		"garbage":          {"x", "AKV10022"},
	} {
		// The body that a create needs is missing: a client without a token sends none (contract §A2).
		a := r.do(http.MethodPost, "/keys/k/create?api-version=7.6", "", c.token)
		message, _ := a.at("error.message").(string)
		if a.status != http.StatusUnauthorized || a.header.Get("WWW-Authenticate") != want ||
			a.at("error.code") != "Unauthorized" || !strings.HasPrefix(message, c.code) {
			t.Errorf("%s: %d %q %v", name, a.status, a.header.Get("WWW-Authenticate"), a.body)
		}
	}
	// Errors in the path or version are reported only to authenticated callers.
	if a := r.do(http.MethodGet, "/keys/k", "", ""); a.status != http.StatusUnauthorized {
		t.Errorf("without a version: %d %v", a.status, a.body)
	}
}

func TestVaultsAreToldByTheirHost(t *testing.T) {
	r := newServedVaults(t)
	r.vault("other", func(v *keyvault.Vault) {
		v.Policies = []keyvault.AccessPolicy{{ObjectID: bob, Keys: []keyvault.Permission{keyvault.MayGet}}}
	})
	createRSA(t, r.client(r.base, alice), "k1")
	other := strings.Replace(r.base, "safe", "other", 1)
	_, err := r.client(other, bob).GetKey(t.Context(), "k1", "", nil)
	wantError(t, err, http.StatusNotFound, "KeyNotFound", "")
	_, err = r.client(other, alice).GetKey(t.Context(), "k1", "", nil)
	wantError(t, err, http.StatusForbidden, "Forbidden", "AccessDenied")
	nobody := strings.Replace(r.base, "safe", "nobody", 1)
	_, err = r.client(nobody, alice).GetKey(t.Context(), "k1", "", nil)
	wantError(t, err, http.StatusNotFound, "VaultNotFound", "")
	for _, before := range []string{"safe.elsewhere.", "safe.x."} { // the first label alone is not enough
		_, err = r.client(strings.Replace(r.base, "safe.", before, 1), alice).GetKey(t.Context(), "k1", "", nil)
		wantError(t, err, http.StatusNotFound, "VaultNotFound", "")
	}
}

// TestPathsAsTheyArrive checks the spellings of the official clients (contract §A1).
func TestPathsAsTheyArrive(t *testing.T) {
	r := newServedVaults(t)
	made := r.do(http.MethodPost, "/keys/k1/create?api%2Dversion=2025-07-01", `{"kty":"EC","attributes":{},"tags":{}}`)
	if made.status != http.StatusOK {
		t.Fatalf("create: %v", made.body)
	}
	kid, _ := made.at("key.kid").(string)
	version := kid[strings.LastIndexByte(kid, '/')+1:]
	digest := `{"alg":"ES256","value":"` + strings.Repeat("A", 43) + `"}`
	for path, body := range map[string]string{
		"GET /keys/k1/": "", "GET /keys/k1": "", "GET /KEYS/K1/" + version: "", "POST /keys/k1//sign": digest,
		"POST /keys/k1/sign": digest, "POST /keys/k1/" + version + "/SIGN": digest, "PATCH /keys/k1/": `{"tags":null}`,
	} {
		method, path, _ := strings.Cut(path, " ")
		if a := r.do(method, path+"?api-version=7.6", body); a.status != http.StatusOK ||
			a.at("key.kid") != kid && a.at("kid") != kid {
			t.Errorf("%s %s: %d %v", method, path, a.status, a.body)
		}
	}
	for _, path := range []string{"/keys/k1/0", "/keys/k1/" + strings.Repeat("0", 32), "/keys/%2e%2e/k1",
		"/keys/k1%2f" + version} {
		if a := r.do(http.MethodGet, path+"?api-version=7.6", ""); a.status != http.StatusNotFound ||
			a.at("error.code") != "KeyNotFound" {
			t.Errorf("%s: %d %v", path, a.status, a.body)
		}
	}
}

// TestAKeyCalledRestore checks the one path that is both an operation and a key.
func TestAKeyCalledRestore(t *testing.T) {
	r := newServedVaults(t)
	c := r.client(r.base, alice)
	createRSA(t, c, "restore")
	must[azkeys.GetKeyResponse](t)(c.GetKey(t.Context(), "restore", "", nil))
	must[azkeys.UpdateKeyResponse](t)(c.UpdateKey(t.Context(), "restore", "", azkeys.UpdateKeyParameters{}, nil))
	blob := must[azkeys.BackupKeyResponse](t)(c.BackupKey(t.Context(), "restore", nil))
	must[azkeys.DeleteKeyResponse](t)(c.DeleteKey(t.Context(), "restore", nil))
	must[azkeys.PurgeDeletedKeyResponse](t)(c.PurgeDeletedKey(t.Context(), "restore", nil))
	must[azkeys.RestoreKeyResponse](t)(c.RestoreKey(t.Context(), azkeys.RestoreKeyParameters{KeyBackup: blob.Value},
		nil))
	must[azkeys.GetKeyResponse](t)(c.GetKey(t.Context(), "restore", "", nil))
}

// TestClientCannotReleaseKeys: no key leaves a vault, with whatever permissions; the official client is told why.
func TestClientCannotReleaseKeys(t *testing.T) {
	r := newServedVaults(t)
	c := r.client(r.base, alice)
	version := createRSA(t, c, "k1").Key.KID.Version()
	asked := azkeys.ReleaseParameters{TargetAttestationToken: to.Ptr("a.b.c")}
	_, err := c.Release(t.Context(), "k1", version, asked, nil)
	wantError(t, err, http.StatusForbidden, "Forbidden", "")
	if err == nil || !strings.Contains(err.Error(), "never leave it") {
		t.Errorf("the release says %v", err)
	}
	_, err = c.GetKeyAttestation(t.Context(), "k1", version, nil)
	wantError(t, err, http.StatusForbidden, "Forbidden", "")
	if err == nil || !strings.Contains(err.Error(), "no attestation") {
		t.Errorf("the attestation says %v", err)
	}
	must[azkeys.UpdateKeyResponse](t)(c.UpdateKey(t.Context(), "k1", version, azkeys.UpdateKeyParameters{
		KeyAttributes: &azkeys.KeyAttributes{Enabled: to.Ptr(false)}}, nil))
	_, err = c.Release(t.Context(), "k1", version, asked, nil)
	wantError(t, err, http.StatusForbidden, "Forbidden", "KeyDisabled")
	r.vault("closed", func(v *keyvault.Vault) {
		v.Policies = []keyvault.AccessPolicy{{ObjectID: alice, Keys: []keyvault.Permission{keyvault.All}}}
	})
	closed := r.client(strings.Replace(r.base, "safe", "closed", 1), alice)
	_, err = closed.Release(t.Context(), "k1", version, asked, nil)
	wantError(t, err, http.StatusForbidden, "Forbidden", "AccessDenied") // "all" does not include it
}

func TestRefusalsOfTheWire(t *testing.T) {
	r := newServedVaults(t)
	createRSA(t, r.client(r.base, alice), "k1")
	const v = "?api-version=7.6"
	for _, c := range []struct {
		name, method, path, body string
		status                   int
		code                     string
	}{
		{"no version", "GET", "/keys/k1", "", 400, "BadParameter"},
		{"odd version", "GET", "/keys/k1?api-version=latest", "", 400, "BadParameter"},
		{"version twice", "GET", "/keys/k1?api-version=7.6&API-version=7.5", "", 400, "BadParameter"},
		{"no JSON", "POST", "/keys/k2/create" + v, `{`, 400, "BadParameter"},
		{"empty body", "POST", "/keys/k2/create" + v, ``, 400, "BadParameter"},
		{"no type", "POST", "/keys/k2/create" + v, `{}`, 400, "BadParameter"},
		{"odd size", "POST", "/keys/k2/create" + v, `{"kty":"RSA","key_size":1024}`, 400, "BadParameter"},
		{"odd exponent", "POST", "/keys/k2/create" + v, `{"kty":"RSA","public_exponent":3}`, 400, "BadParameter"},
		{"symmetric", "POST", "/keys/k2/create" + v, `{"kty":"oct"}`, 400, "BadParameter"},
		{"exportable", "POST", "/keys/k2/create" + v, `{"kty":"EC","attributes":{"exportable":true}}`, 400,
			"BadParameter"},
		{"release policy", "POST", "/keys/k2/create" + v, `{"kty":"EC","release_policy":{}}`, 400, "BadParameter"},
		{"before 1970", "POST", "/keys/k2/create" + v, `{"kty":"EC","attributes":{"nbf":-1}}`, 400, "BadParameter"},
		{"ends before it begins", "POST", "/keys/k2/create" + v, `{"kty":"EC","attributes":{"nbf":2,"exp":1}}`, 400,
			"BadParameter"},
		{"odd name", "POST", "/keys/k_2/create" + v, `{"kty":"EC"}`, 400, "BadParameter"},
		{"long name", "POST", "/keys/" + strings.Repeat("k", 128) + "/create" + v, `{"kty":"EC"}`, 400, "BadParameter"},
		{"too many tags", "POST", "/keys/k2/create" + v, `{"kty":"EC","tags":{` + tags(16) + `}}`, 400, "BadParameter"},
		{"a tag twice", "POST", "/keys/k2/create" + v, `{"kty":"EC","tags":{"a":"1","a":"2"}}`, 400, "BadParameter"},
		{"long tag", "POST", "/keys/k2/create" + v, `{"kty":"EC","tags":{"a":"` + strings.Repeat("é", 257) + `"}}`, 400,
			"BadParameter"},
		{"a field twice", "POST", "/keys/k2/create" + v, `{"kty":"EC","crv":"P-256","CRV":"P-384"}`, 400,
			"BadParameter"},
		{"three primes", "PUT", "/keys/k2" + v,
			`{"key":{"kty":"RSA","n":"AQAB","e":"AQAB","d":"AQ","p":"AQ","q":"AQ","oth":[{"r":"AQ"}]}}`, 400,
			"BadParameter"},
		{"import of a public key", "PUT", "/keys/k2" + v, `{"key":{"kty":"RSA","n":"AQAB","e":"AQAB"}}`, 400,
			"BadParameter"},
		{"transfer blob", "PUT", "/keys/k2" + v, `{"key":{"kty":"RSA-HSM","key_hsm":"AA"},"Hsm":true}`, 400,
			"BadParameter"},
		{"no algorithm", "POST", "/keys/k1/wrapkey" + v, `{"value":"AA"}`, 400, "BadParameter"},
		{"odd algorithm", "POST", "/keys/k1/wrapkey" + v, `{"alg":"A256KW","value":"AA"}`, 400, "BadParameter"},
		{"no value", "POST", "/keys/k1/wrapkey" + v, `{"alg":"RSA-OAEP-256"}`, 400, "BadParameter"},
		{"value that is not base64url", "POST", "/keys/k1/wrapkey" + v, `{"alg":"RSA-OAEP-256","value":"+/"}`, 400,
			"BadParameter"},
		{"maxresults of 0", "GET", "/keys" + v + "&maxresults=0", "", 400, "BadParameter"},
		{"maxresults of 26", "GET", "/keys" + v + "&maxresults=26", "", 400, "BadParameter"},
		{"backup that is invalid", "POST", "/keys/restore" + v, `{"value":"AAAA"}`, 400, "BadParameter"},
		{"odd duration", "PUT", "/keys/k1/rotationpolicy" + v, `{"attributes":{"expiryTime":"two years"}}`, 400,
			"BadParameter"},
		{"action without a trigger", "PUT", "/keys/k1/rotationpolicy" + v,
			`{"lifetimeActions":[{"action":{"type":"Rotate"}}]}`, 400, "BadParameter"},
		{"unknown key", "GET", "/keys/k2" + v, "", 404, "KeyNotFound"},
		{"unknown key to rotate", "POST", "/keys/k2/rotate" + v, "", 404, "KeyNotFound"},
		{"key that is not deleted", "GET", "/deletedkeys/k1" + v, "", 404, "KeyNotFound"},
		{"not deleted, to recover", "POST", "/deletedkeys/k1/recover" + v, "", 404, "KeyNotFound"},
		{"random bytes of a vault", "POST", "/rng" + v, `{"count":1}`, 404, "NotFound"},
		{"release", "POST", "/keys/k1/release" + v, `{"target":"a.b.c"}`, 403, "Forbidden"},
		{"release to nobody", "POST", "/keys/k1/release" + v, `{}`, 400, "BadParameter"},
		{"release of an unknown key", "POST", "/keys/k2/release" + v, `{"target":"a.b.c"}`, 404, "KeyNotFound"},
		{"attestation of an unknown key", "GET", "/keys/k2/1/attestation" + v, "", 404, "KeyNotFound"},
		{"odd method", "PUT", "/keys/k1/create" + v, `{}`, 405, "MethodNotAllowed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := r.do(c.method, c.path, c.body)
			if code, _ := a.at("error.code").(string); a.status != c.status || code != c.code {
				t.Errorf("got %d %v, want %d %s", a.status, a.body, c.status, c.code)
			}
		})
	}
	if a := r.do(http.MethodGet, "/keys"+v, ""); a.status != 200 || len(a.at("value").([]any)) != 1 {
		t.Errorf("after the refusals: %d %v", a.status, a.body)
	}
}

func tags(n int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf(`"t%d":""`, i))
	}
	return strings.Join(all, ",")
}

func TestClientImportsUpdatesAndRotates(t *testing.T) {
	r := newServedVaults(t)
	c := r.client(r.base, alice)
	part := func(s string) []byte {
		t.Helper()
		var b struct{ V []byte }
		// Go's JSON has base64 with padding and the other alphabet.
		s = strings.NewReplacer("-", "+", "_", "/").Replace(s)
		s += strings.Repeat("=", (4-len(s)%4)%4)
		if err := json.Unmarshal([]byte(`{"V":"`+s+`"}`), &b); err != nil {
			t.Fatal(err)
		}
		return b.V
	}
	// The P-256 key of RFC 7517 §A.2.
	jwk := &azkeys.JSONWebKey{
		Kty: to.Ptr(azkeys.KeyTypeEC), Crv: to.Ptr(azkeys.CurveNameP256),
		X: part("MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4"), Y: part("4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"),
		D: part("870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE"),
	}
	made := must[azkeys.ImportKeyResponse](t)(c.ImportKey(t.Context(), "ec", azkeys.ImportKeyParameters{Key: jwk}, nil))
	if made.Key.D != nil || string(made.Key.X) != string(jwk.X) {
		t.Errorf("imported: %+v", made.Key)
	}
	changed := must[azkeys.UpdateKeyResponse](t)(c.UpdateKey(t.Context(), "ec", made.Key.KID.Version(),
		azkeys.UpdateKeyParameters{
			KeyAttributes: &azkeys.KeyAttributes{Enabled: to.Ptr(false)}, Tags: map[string]*string{"a": to.Ptr("b")},
		}, nil))
	if *changed.Attributes.Enabled || *changed.Tags["a"] != "b" {
		t.Errorf("changed: %+v", changed.KeyBundle)
	}
	_, err := c.GetKey(t.Context(), "ec", "", nil)
	wantError(t, err, http.StatusForbidden, "Forbidden", "KeyDisabled")
	policy := azkeys.KeyRotationPolicy{
		Attributes: &azkeys.KeyRotationPolicyAttributes{ExpiryTime: to.Ptr("P1Y")},
		LifetimeActions: []*azkeys.LifetimeAction{
			{Trigger: &azkeys.LifetimeActionTrigger{TimeAfterCreate: to.Ptr("P90D")},
				Action: &azkeys.LifetimeActionType{Type: to.Ptr(azkeys.KeyRotationPolicyActionRotate)}},
			{Trigger: &azkeys.LifetimeActionTrigger{TimeBeforeExpiry: to.Ptr("P30D")},
				Action: &azkeys.LifetimeActionType{Type: to.Ptr(azkeys.KeyRotationPolicyActionNotify)}},
		},
	}
	must[azkeys.UpdateKeyRotationPolicyResponse](t)(c.UpdateKeyRotationPolicy(t.Context(), "ec", policy, nil))
	got := must[azkeys.GetKeyRotationPolicyResponse](t)(c.GetKeyRotationPolicy(t.Context(), "ec", nil))
	if *got.Attributes.ExpiryTime != "P1Y" || len(got.LifetimeActions) != 2 ||
		*got.LifetimeActions[0].Trigger.TimeAfterCreate != "P90D" || *got.ID != r.base+"keys/ec/rotationpolicy" {
		t.Errorf("policy: %+v", got.KeyRotationPolicy)
	}
	next := must[azkeys.RotateKeyResponse](t)(c.RotateKey(t.Context(), "ec", nil))
	if next.Key.KID.Version() == made.Key.KID.Version() || !*next.Attributes.Enabled || next.Attributes.Expires == nil {
		t.Errorf("rotated: %+v", next.KeyBundle)
	}
}

// FuzzBodies checks that the answer to any body is a refusal of the contract or a success, never an internal failure.
func FuzzBodies(f *testing.F) {
	for _, body := range []string{
		`{"kty":"EC","crv":"P-256"}`, `{"key":{"kty":"EC","crv":"P-256","d":"AQ","x":"AA","y":"AA"}}`,
		`{"alg":"RSA-OAEP-256","value":"AA"}`, `{"alg":"ES256","digest":"AA","value":"AA"}`,
		`{"attributes":{"enabled":null,"exp":9e9},"tags":{"a":null},"key_ops":[]}`, `{"value":"VktCAQ"}`,
		`{"attributes":{"expiryTime":"P1Y"},` +
			`"lifetimeActions":[{"trigger":{"timeAfterCreate":"P7D"},"action":{"type":"rotate"}}]}`,
		`{"key":{"kty":"RSA","n":"wA","e":"AQAB","d":"AQ","p":"Aw","q":"BQ"}}`, `[]`, `null`, `{"value":1}`, "{\x00}",
	} {
		f.Add(body)
	}
	r := newServedVaults(f)
	token := "Bearer " + alice + "|" + r.aud + "|" + tenant
	call := func(method, path, body string) *httptest.ResponseRecorder {
		req := httptest.NewRequest(method, strings.TrimSuffix(r.base, "/")+path+"?api-version=7.6",
			strings.NewReader(body))
		req.Header.Set("Authorization", token)
		w := httptest.NewRecorder()
		r.handler.ServeHTTP(w, req)
		return w
	}
	if w := call(http.MethodPost, "/keys/k1/create", `{"kty":"EC"}`); w.Code != http.StatusOK {
		f.Fatalf("create: %d %s", w.Code, w.Body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		for _, target := range []string{
			"POST /keys/k2/create", "PUT /keys/k3", "PATCH /keys/k1", "PUT /keys/k1/rotationpolicy",
			"POST /keys/restore",
			"POST /keys/k1/sign", "POST /keys/k1/verify", "POST /keys/k1/unwrapkey",
		} {
			method, path, _ := strings.Cut(target, " ")
			if strings.Contains(strings.ToLower(body), "rsa") && path == "/keys/k2/create" {
				continue // generating such a key is slow and proves nothing
			}
			w := call(method, path, body)
			if w.Code >= 500 || w.Code == http.StatusUnauthorized || !json.Valid(w.Body.Bytes()) {
				t.Errorf("%s %q: %d %s", target, body, w.Code, w.Body)
			}
		}
	})
}

// FuzzPaths checks that no path and query leads to an internal failure, or finds anything by tricks.
func FuzzPaths(f *testing.F) {
	for _, path := range []string{
		"/keys/k1", "/keys//k1//", "/keys/../keys/k1", "/keys/k1/%2e%2e", "/keys/k1%00",
		"/keys/k1/versions?maxresults=1",
		"/deletedkeys/k1", "/keys?$skiptoken=zz", "/%6beys/k1", "/keys/k1;x", "/keys/restore/versions",
	} {
		f.Add(path)
	}
	r := newServedVaults(f)
	f.Fuzz(func(t *testing.T, path string) {
		u, err := url.ParseRequestURI("/" + strings.TrimLeft(path, "/"))
		if err != nil {
			return // net/http refuses it earlier
		}
		req := httptest.NewRequest(http.MethodGet, r.base, nil)
		u.Scheme, u.Host = req.URL.Scheme, req.URL.Host
		query := u.Query()
		query.Set("api-version", "7.6")
		u.RawQuery = query.Encode()
		req.URL = u
		req.Header.Set("Authorization", "Bearer "+alice+"|"+r.aud+"|"+tenant)
		w := httptest.NewRecorder()
		r.handler.ServeHTTP(w, req)
		if w.Code >= 500 || strings.Contains(w.Body.String(), `"kid"`) { // the vault is empty
			t.Errorf("%q: %d %s", path, w.Code, w.Body)
		}
	})
}
