package server_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/keysource/file"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// kind is a kind of caller, and a rule for its answers that holds whatever the table says.
type kind struct {
	name             string
	key, token, host string
	rule             func(route) string // the only allowed answer; "" when there is no rule
}

// populatedServer is a server with two Face resources, "mine" and "other", two vaults, and identities of all sorts.
type populatedServer struct {
	*servertest.Server
	own, rotated, foreign string // keys
	ids                   map[string]string
	tokens                map[string]string // for the management plane, by the name of the identity
	tenant                string            // another one
	signer                *signer
}

// The audiences of the planes.
const (
	managementAudience = "https://management.azure.com"
	dataAudience       = "https://cognitiveservices.azure.com"
)

func (w *populatedServer) vaultAudience() string {
	return strings.Replace(w.URL, "https://", "https://vault.", 1)
}

func newPopulatedServer(t *testing.T) *populatedServer {
	t.Helper()
	w := &populatedServer{
		Server: servertest.Start(t, server.Config{Rate: 1 << 20}),
		ids:    map[string]string{}, tokens: map[string]string{},
	}
	listen := strings.Replace(strings.TrimPrefix(w.URL, "https://"), "localhost", "127.0.0.1", 1)
	if err := w.Stop(); err != nil {
		t.Fatal(err)
	}
	w.signer = readSigner(t, w.Dir())
	w.Server = servertest.Start(t, server.Config{Rate: 1 << 20, Dir: w.Dir(), Listen: listen})

	op := w.Operator()
	scope := "/subscriptions/" + op.SubscriptionID
	inGroup := scope + "/resourceGroups/" + op.ResourceGroup + "/providers/"
	account := inGroup + "Microsoft.CognitiveServices/accounts/"
	for _, name := range []string{"mine", "other"} {
		body := fmt.Sprintf(
			`{"kind":"Face","sku":{"name":"S0"},"location":"local","properties":{"customSubDomainName":%q}}`, name,
		)
		if status := arm(t, w.Server, http.MethodPut, account+name+"?api-version=2025-09-01",
			body); status != http.StatusCreated {
			t.Fatalf("make the resource %s: %d", name, status)
		}
	}
	w.rotated = w.keyOf(t, "mine")
	if status := arm(t, w.Server, http.MethodPost, account+"mine/regenerateKey?api-version=2025-09-01",
		`{"keyName":"Key1"}`); status != http.StatusOK {
		t.Fatalf("rotate a key: %d", status)
	}
	w.own, w.foreign = w.keyOf(t, "mine"), w.keyOf(t, "other")

	d := w.Directory()
	var err error
	if w.tenant, err = d.CreateTenant(t.Context()); err != nil {
		t.Fatal(err)
	}
	roles := map[string][][2]string{
		"nobody": nil, "all": nil,
		"reader": {{identity.Reader, scope}}, "contributor": {{identity.Contributor, scope}},
		"owner":            {{identity.Owner, scope}},
		"visage operator":  {{identity.VisageOperator, scope}},
		"data protection":  {{identity.VisageDataProtectionOfficer, scope}},
		"security officer": {{identity.VisageSecurityOfficer, scope}},
		"faces":            {{identity.CognitiveUser, scope}},
		"faces elsewhere":  {{identity.CognitiveUser, account + "other"}},
		"owner elsewhere":  {{identity.Owner, account + "mine"}},
		"vault reader":     {{identity.VaultReader, scope}}, "crypto user": {{identity.VaultCryptoUser, scope}},
		"crypto officer":    {{identity.VaultCryptoOfficer, scope}},
		"encryption":        {{identity.VaultServiceEncryption, scope}},
		"officer elsewhere": {{identity.VaultCryptoOfficer, inGroup + "Microsoft.KeyVault/vaults/policies"}},
	}
	for name := range roles {
		p, err := d.CreateApplication(t.Context(), identity.Creation{Tenant: op.TenantID, Name: name})
		if err != nil {
			t.Fatal(err)
		}
		w.ids[name] = p.ID
	}
	w.ids["operator"] = op.ClientID
	w.vaults(t, inGroup)
	for name, some := range roles { // on existing vaults
		for _, r := range some {
			if _, err := d.Assign(t.Context(), "", w.ids[name], r[0], r[1]); err != nil {
				t.Fatal(err)
			}
		}
	}
	p, err := d.CreateApplication(t.Context(), identity.Creation{Tenant: w.tenant, Name: "stranger"})
	if err != nil {
		t.Fatal(err)
	}
	w.ids["stranger"] = p.ID
	for _, role := range []string{identity.Owner, identity.CognitiveUser, identity.VaultAdministrator} {
		if _, err := d.Assign(t.Context(), "", p.ID, role, scope); err != nil { // even that must not help
			t.Fatal(err)
		}
	}
	return w
}

// vaults creates a vault in which policies decide and one in which roles do.
func (w *populatedServer) vaults(t *testing.T, inGroup string) {
	t.Helper()
	op := w.Operator()
	policy := func(name, permissions string) string {
		return fmt.Sprintf(`{"tenantId":%q,"objectId":%q,"permissions":{"keys":[%s]}}`, op.TenantID, w.ids[name],
			permissions)
	}
	policies := strings.Join([]string{
		policy("operator", `"all","purge","release","rotate","getrotationpolicy","setrotationpolicy"`),
		policy("all", `"all"`), policy("reader", `"get","list"`),
	}, ",")
	for name, rbac := range map[string]bool{"policies": false, "roles": true} {
		body := fmt.Sprintf(`{"location":"local","properties":{"tenantId":%q,"sku":{"family":"A","name":"standard"},
			"enableRbacAuthorization":%t,"accessPolicies":[%s]}}`, op.TenantID, rbac, policies)
		path := inGroup + "Microsoft.KeyVault/vaults/" + name + "?api-version=2024-11-01"
		if status := arm(t, w.Server, http.MethodPut, path, body); status != http.StatusCreated {
			t.Fatalf("make the vault %s: %d", name, status)
		}
	}
}

func (w *populatedServer) keyOf(t *testing.T, resource string) string {
	t.Helper()
	keys, err := w.Keys(t.Context(), resource)
	if err != nil {
		t.Fatal(err)
	}
	return keys.Key1
}

func always(answer string) func(route) string { return func(route) string { return answer } }

func unknown(route) string { return "" }

// callers are the kinds of callers of a plane.
func (w *populatedServer) callers(plane string) []kind {
	switch plane {
	case "face":
		return w.faceCallers()
	case "management":
		kinds := w.managementCallers()
		for i := range kinds { // clients read the metadata of the instance before they have a token
			rule := kinds[i].rule
			kinds[i].rule = func(r route) string {
				if r.pattern == "/metadata/endpoints" {
					return "in"
				}
				if r.method == http.MethodHead { // less than GET, for the same callers
					r.method = http.MethodGet
				}
				return rule(r)
			}
		}
		return kinds
	case "vault":
		return w.vaultCallers()
	case "graph":
		return w.graphCallers()
	}
	return []kind{
		{name: "nobody", rule: always("in")},
		{name: "a bearer token of nobody", token: "nobody", rule: always("in")},
	}
}

func (w *populatedServer) faceCallers() []kind {
	token := func(who string) string { return w.token(who, dataAudience) }
	return append([]kind{
		{name: "no credential", rule: always("401")},
		{name: "a key that nobody holds", key: strings.Repeat("0", 32), rule: always("401")},
		{name: "a key of the resource that was rotated away", key: w.rotated, rule: always("401")},
		{name: "another resource's key, at this resource's host", key: w.foreign, host: "mine", rule: always("401")},
		{name: "a key of the resource", key: w.own, rule: always("in")},
		{name: "a key of the resource, at its host", key: w.own, host: "mine", rule: always("in")},
		{name: "a key of the resource, with a token that proves nobody", key: w.own, token: "x", host: "mine",
			rule: always("401")},
	}, append(w.badTokens(dataAudience, managementAudience, "mine"),
		kind{name: "an identity without a role", token: token("nobody"), host: "mine", rule: always("401")},
		kind{name: "Reader of the subscription", token: token("reader"), host: "mine", rule: always("401")},
		kind{name: "Owner of the subscription, which is no role on data", token: token("owner"), host: "mine",
			rule: always("401")},
		kind{name: "Cognitive Services User of another resource", token: token("faces elsewhere"), host: "mine",
			rule: always("401")},
		kind{name: "Cognitive Services User, not at the resource's host", token: token("faces"), rule: always("401")},
		kind{name: "Cognitive Services User, at the resource's host", token: token("faces"), host: "mine",
			rule: always("in")},
		kind{name: "Visage Data Protection Officer", token: token("data protection"), host: "mine", rule: always("in")},
		kind{name: "Visage Security Officer", token: token("security officer"), host: "mine", rule: always("401")},
		kind{name: "Visage Operator, which is no role on data", token: token("visage operator"), host: "mine",
			rule: always("401")},
	)...)
}

// managed is a rule for the management plane's routes within a subscription; the others are open to every authenticated
// caller.
func managed(rule func(route) string) func(route) string {
	return func(r route) string {
		if !strings.Contains(r.pattern, "{subscription}") {
			return "in"
		}
		return rule(r)
	}
}

func reads(r route) string {
	if r.method == http.MethodGet && !decides(r) {
		return "in"
	}
	return "403"
}

// decides reports the operations that only the operator may perform, whatever the roles.
func decides(r route) bool {
	return strings.HasSuffix(r.pattern, "/approve") || strings.HasSuffix(r.pattern, "/reject") ||
		r.method == http.MethodPut && strings.Contains(r.pattern, "/accessCapacity/") ||
		strings.Contains(r.pattern, "/Visage.Operations/") ||
		r.method != http.MethodGet && strings.Contains(r.pattern, "/Visage.Identity/")
}

// operates is the rule for those who run the instance and have no other role: they decide, give roles, and read.
func operates(r route) string {
	if decides(r) || strings.Contains(r.pattern, "/Microsoft.Authorization/") ||
		strings.Contains(r.pattern, "/accessRequests/") {
		return "in"
	}
	return reads(r)
}

// protects is the rule for data protection officers.
func protects(r route) string {
	if r.method != http.MethodGet {
		for _, may := range []string{"/retention", "/placeHold", "/releaseHold", "/expire"} {
			if strings.HasSuffix(r.pattern, may) {
				return "in"
			}
		}
		return "403"
	}
	return ""
}

// secures is the rule for security officers: no way to an API key, no role for others, nothing that is deleted.
func secures(r route) string {
	switch {
	case strings.Contains(r.pattern, "/Microsoft.Authorization/") && r.method != http.MethodGet, decides(r),
		strings.HasSuffix(r.pattern, "/listKeys"), strings.HasSuffix(r.pattern, "/regenerateKey"),
		r.method == http.MethodDelete && strings.HasSuffix(r.pattern, "/accounts/{account}"):
		return "403"
	case strings.Contains(r.pattern, "/encryption:"),
		strings.HasSuffix(r.pattern, "/accounts/{account}") && r.method == http.MethodPatch,
		strings.Contains(r.pattern, "/Microsoft.KeyVault/vaults") && !strings.Contains(r.pattern, "/tags/"):
		return "in"
	}
	return ""
}

func (w *populatedServer) managementCallers() []kind {
	token := func(who string) string { return w.token(who, managementAudience) }
	return append([]kind{
		{name: "no credential", rule: always("401")},
		{name: "a key of a resource", key: w.own, rule: always("401")},
	}, append(w.badTokens(managementAudience, dataAudience, ""),
		kind{name: "an identity without a role", token: token("nobody"), rule: managed(always("403"))},
		kind{name: "Owner of another resource", token: token("owner elsewhere"), rule: managed(always("403"))},
		kind{name: "Reader", token: token("reader"), rule: managed(reads)},
		kind{name: "Cognitive Services User", token: token("faces"), rule: unknown},
		kind{name: "Contributor", token: token("contributor"), rule: managed(func(r route) string {
			if decides(r) || r.method != http.MethodGet && strings.Contains(r.pattern, "/Microsoft.Authorization/") {
				return "403"
			}
			return "in"
		})},
		kind{name: "Owner", token: token("owner"), rule: managed(func(r route) string {
			if decides(r) {
				return "403"
			}
			return "in"
		})},
		kind{name: "the operator", token: token("operator"), rule: always("in")},
		kind{name: "Visage Operator", token: token("visage operator"), rule: managed(operates)},
		kind{name: "Visage Data Protection Officer", token: token("data protection"), rule: managed(protects)},
		kind{name: "Visage Security Officer", token: token("security officer"), rule: managed(secures)},
	)...)
}

// graphCallers may read the whole directory or only themselves; their lists then contain no other identity.
func (w *populatedServer) graphCallers() []kind {
	const graph = "https://graph.microsoft.com"
	token := func(who string) string { return w.token(who, graph) }
	themselves := func(r route) string {
		switch {
		case r.method == http.MethodPost || strings.HasSuffix(r.pattern, "/{addressed}"):
			return "" // the request is refused before its caller is checked
		case strings.Contains(r.pattern, "{") || strings.HasSuffix(r.pattern, "/users") ||
			strings.HasSuffix(r.pattern, "/groups"):
			return "403"
		}
		return "in"
	}
	return append([]kind{
		{name: "no credential", rule: always("401")},
		{name: "a key of a resource", key: w.own, rule: always("401")},
	}, append(w.badTokens(graph, dataAudience, ""),
		kind{name: "an identity without a role", token: token("nobody"), rule: themselves},
		kind{name: "Owner of another resource", token: token("owner elsewhere"), rule: themselves},
		kind{name: "Cognitive Services User", token: token("faces"), rule: themselves},
		kind{name: "Reader", token: token("reader"), rule: always("in")},
		kind{name: "Owner", token: token("owner"), rule: always("in")},
		kind{name: "the operator", token: token("operator"), rule: always("in")},
	)...)
}

func (w *populatedServer) vaultCallers() []kind {
	token := func(who string) string { return w.token(who, w.vaultAudience()) }
	const byPolicy, byRole = "policies.vault", "roles.vault"
	free := func(rule func(route) string) func(route) string {
		return func(r route) string {
			if r.pattern == "/rng" { // it answers 404 to every authenticated caller
				return "in"
			}
			return rule(r)
		}
	}
	return append([]kind{
		{name: "no credential", host: byPolicy, rule: always("401")},
		{name: "a key of a resource", key: w.own, host: byPolicy, rule: always("401")},
	}, append(w.badTokens(w.vaultAudience(), managementAudience, byPolicy),
		kind{name: "an identity without a policy", token: token("nobody"), host: byPolicy, rule: free(always("403"))},
		kind{name: "a policy with get and list", token: token("reader"), host: byPolicy,
			rule: free(func(r route) string {
				if r.method != http.MethodGet || strings.HasSuffix(r.pattern, "rotationpolicy") {
					return "403"
				}
				return "in"
			})},
		kind{name: "Key Vault Crypto Officer, where policies decide", token: token("crypto officer"), host: byPolicy,
			rule: free(always("403"))},
		kind{name: "a policy with all", token: token("all"), host: byPolicy, rule: func(r route) string {
			if strings.Contains(r.pattern, "/rotat") || strings.HasSuffix(r.pattern, "/release") ||
				r.method == http.MethodDelete && strings.HasPrefix(r.pattern, "/deletedkeys/") {
				return "403"
			}
			return "in"
		}},
		kind{name: "a policy with all, purge, release, rotate and rotation policies", token: token("operator"),
			host: byPolicy, rule: always("in")},
		kind{name: "a policy with get and list, where roles decide", token: token("reader"), host: byRole,
			rule: free(always("403"))},
		kind{name: "Owner of the subscription, which is no role on keys", token: token("owner"), host: byRole,
			rule: free(always("403"))},
		kind{name: "Key Vault Crypto Officer of another vault", token: token("officer elsewhere"), host: byRole,
			rule: free(always("403"))},
		kind{name: "Key Vault Reader", token: token("vault reader"), host: byRole, rule: unknown},
		kind{name: "Key Vault Crypto Service Encryption User", token: token("encryption"), host: byRole, rule: unknown},
		kind{name: "Key Vault Crypto User", token: token("crypto user"), host: byRole, rule: unknown},
		kind{name: "Key Vault Crypto Officer", token: token("crypto officer"), host: byRole, rule: always("in")},
		kind{name: "Visage Security Officer", token: token("security officer"), host: byRole, rule: always("in")},
		kind{name: "Visage Data Protection Officer", token: token("data protection"), host: byRole,
			rule: free(always("403"))},
		kind{name: "Visage Operator, which is no role on keys", token: token("visage operator"), host: byRole,
			rule: free(always("403"))},
	)...)
}

// badTokens are tokens that would be accepted except for one fault.
func (w *populatedServer) badTokens(audience, wrongAudience, host string) []kind {
	now := time.Now()
	claims := func(change func(map[string]any)) string {
		c := map[string]any{
			"aud": audience, "iss": w.URL + "/" + w.Operator().TenantID + "/v2.0", "tid": w.Operator().TenantID,
			"oid": w.ids["operator"], "sub": w.ids["operator"], "appid": w.ids["operator"], "ver": "1.0",
			"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix(),
		}
		change(c)
		return w.signer.sign(c)
	}
	bad := []kind{
		{name: "what is no token", token: "nobody"},
		{
			name:  "an expired token",
			token: claims(func(c map[string]any) { c["exp"] = now.Add(-10 * time.Minute).Unix() }),
		},
		{name: "a token for another audience", token: w.token("operator", wrongAudience)},
		{name: "a token of another tenant", token: w.token("stranger", audience)},
		{name: "a token of an issuer elsewhere",
			token: claims(func(c map[string]any) { c["iss"] = "https://elsewhere.example/v2.0" })},
		{name: "a token without a signature", token: w.signer.unsigned(claims(func(map[string]any) {}))},
		{name: "a token of an identity that was deleted", token: w.deletedToken(audience)},
	}
	for i := range bad {
		bad[i].host, bad[i].rule = host, always("401")
	}
	// The same token without a fault: if it were refused, the others would prove nothing.
	good := kind{name: "a token like those, with nothing wrong", token: claims(func(map[string]any) {}), host: host,
		rule: always("in")}
	return append(bad, good)
}

func (w *populatedServer) token(who, audience string) string {
	token, _, err := w.Directory().Token(context.Background(), w.ids[who], audience)
	if err != nil {
		panic(fmt.Sprintf("make a token of %s for %s: %v", who, audience, err))
	}
	return token
}

// deletedToken returns a valid token of an identity that is deleted afterwards.
func (w *populatedServer) deletedToken(audience string) string {
	d := w.Directory()
	p, err := d.CreateApplication(context.Background(),
		identity.Creation{Tenant: w.Operator().TenantID, Name: "short-lived"})
	if err != nil {
		panic(err)
	}
	for _, role := range []string{identity.Owner, identity.CognitiveUser, identity.VaultAdministrator} {
		if _, err := d.Assign(context.Background(), "", p.ID, role,
			"/subscriptions/"+w.Operator().SubscriptionID); err != nil {
			panic(err)
		}
	}
	token, _, err := d.Token(context.Background(), p.ID, audience)
	if err != nil {
		panic(err)
	}
	if err := d.Delete(context.Background(), p.ID); err != nil {
		panic(err)
	}
	return token
}

// signer signs tokens with the server's own key, as a thief of the whole machine could, so that the test's tokens have
// only one fault.
type signer struct {
	id  string
	key *rsa.PrivateKey
}

// readSigner reads the signing key out of a stopped server's store.
func readSigner(t *testing.T, dir string) *signer {
	t.Helper()
	data := filepath.Join(dir, "data")
	source, err := file.New(filepath.Join(dir, "keys", "root.key"), data)
	if err != nil {
		t.Fatal(err)
	}
	store, err := sealed.Open(t.Context(), sealed.Config{
		Engine: "pebble:" + data, KeyDir: filepath.Join(dir, "keys"),
		Protectors: []sealed.Protector{{Name: "file", Kind: "file", Exposed: true, Source: source}},
	})
	if err != nil {
		t.Fatal(err)
	}
	type record struct {
		ID          string
		Key         []byte
		From, Until int64
	}
	var found *signer
	err = store.Space(sealed.Operator).View(t.Context(), func(r sealed.Reader) error {
		for rec, err := range sealed.NewTable[record]("identity/signing-key", 1).In().All(r) {
			if err != nil {
				return err
			}
			key, err := x509.ParsePKCS8PrivateKey(rec.Key)
			if err != nil {
				return err
			}
			if now := time.Now().UnixNano(); rec.From <= now && now < rec.Until {
				found = &signer{rec.ID, key.(*rsa.PrivateKey)}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if found == nil {
		t.Fatal("the store has no signing key that is valid now")
	}
	return found
}

func (s *signer) sign(claims map[string]any) string {
	part := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	text := part(map[string]string{"alg": "RS256", "typ": "JWT", "kid": s.id}) + "." + part(claims)
	digest := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, s.key, crypto.SHA256, digest[:])
	if err != nil {
		panic(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// unsigned replaces the algorithm of a token by none, so that it claims to need no signature.
func (s *signer) unsigned(token string) string {
	parts := strings.Split(token, ".")
	header := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"JWT","kid":"` + s.id + `"}`))
	return header + "." + parts[1] + "."
}
