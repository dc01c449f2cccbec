package identity_test

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/visage-face/visage/identity"
)

func TestTokenProvesWhoGotIt(t *testing.T) {
	d := open(t, config(nil))
	p, secret := application(t, d)
	for _, audience := range []string{management, management + "/", faces} {
		token := grant(t, d, p, secret, audience)
		who, err := d.Verify(t.Context(), token, "https://elsewhere.example", strings.TrimSuffix(audience, "/"))
		if err != nil || who.ObjectID != p.ID || who.AppID != p.ClientID || who.Tenant != tenant ||
			who.Method != "token" {
			t.Errorf("%s: %+v, %v", audience, who, err)
		}
		if c := claimsOf(t, token); c["aud"] != audience || c["iss"] != issuerOf(tenant) || c["oid"] != p.ID ||
			c["sub"] != p.ID || c["appid"] != p.ClientID || c["ver"] != "1.0" {
			t.Errorf("%s: the token says %v", audience, c)
		}
	}
}

// encode writes a part of a token.
func encode(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// ownKey makes a token that brings the key that it is signed with, under the id of a key that is known.
func ownKey(t *testing.T, claims map[string]any, id string) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public := jose.JSONWebKey{Key: &key.PublicKey, KeyID: id}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: id}},
		(&jose.SignerOptions{}).WithHeader("jwk", public).WithHeader("jku", "https://elsewhere.example/keys"))
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestForgedTokensProveNothing(t *testing.T) {
	d, other := open(t, config(nil)), open(t, config(nil))
	p, secret := application(t, d)
	good := grant(t, d, p, secret, management)
	claims := claimsOf(t, good)
	second, err := d.CreateTenant(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	gone, goneSecret := application(t, d)
	ofGone := grant(t, d, gone, goneSecret, management)
	if err := d.Delete(t.Context(), gone.ID); err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(good, ".")
	id, public := d.Key()
	mac := func(header map[string]string) string {
		signed := encode(t, header) + "." + parts[1]
		m := hmac.New(sha256.New, public)
		m.Write([]byte(signed))
		return signed + "." + base64.RawURLEncoding.EncodeToString(m.Sum(nil))
	}
	header := func(changes map[string]any) string {
		h := identity.With(map[string]any{"typ": "JWT", "alg": "RS256", "kid": id}, changes)
		return encode(t, h) + "." + parts[1] + "." + parts[2]
	}
	signed := func(d *identity.Directory, changes map[string]any) string {
		token, err := d.Sign(identity.With(claims, changes))
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	encoded, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	text := string(encoded)
	raw := func(body string) string {
		token, err := d.SignText([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	now := time.Now()
	const bad, audience, wrongTenant, expired = "InvalidAuthenticationToken", "InvalidAuthenticationTokenAudience",
		"InvalidAuthenticationTokenTenant", "ExpiredAuthenticationToken"
	for name, c := range map[string]struct{ token, code string }{
		"empty":        {"", bad},
		"a word":       {"word", bad},
		"two parts":    {parts[0] + "." + parts[1], bad},
		"four parts":   {good + "." + parts[2], bad},
		"no signature": {parts[0] + "." + parts[1] + ".", bad},
		"padding":      {good + "=", bad},
		"a line break": {good[:20] + "\n" + good[20:], bad},
		"very long":    {strings.Repeat("a", 20<<10), bad},
		"alg none":     {header(map[string]any{"alg": "none"}), bad},
		"alg none, no signature": {encode(t, map[string]string{"alg": "none", "kid": id}) + "." + parts[1] + ".",
			bad},
		"HS256 with the public key": {mac(map[string]string{"alg": "HS256", "kid": id}), bad},
		"HMAC that says RS256":      {mac(map[string]string{"alg": "RS256", "kid": id}), bad},
		"alg in another case":       {header(map[string]any{"alg": "rs256"}), bad},
		"alg is no text":            {header(map[string]any{"alg": 1}), bad},
		"another kid":               {header(map[string]any{"kid": "other"}), bad},
		"no kid":                    {header(map[string]any{"kid": nil}), bad},
		"something critical":        {header(map[string]any{"crit": []string{"x"}}), bad},
		"its header spelled anew":   {header(map[string]any{"x": 1}), bad},
		"claims of somebody else's": {parts[0] + "." + encode(t, identity.With(claims, map[string]any{"x": 1})) + "." +
			parts[2], bad},
		"another instance's":        {signed(other, nil), bad},
		"expired":                   {signed(d, map[string]any{"exp": now.Add(-6 * time.Minute).Unix()}), expired},
		"no end":                    {signed(d, map[string]any{"exp": nil}), bad},
		"an end that is no number":  {signed(d, map[string]any{"exp": "tomorrow"}), bad},
		"an end far out":            {signed(d, map[string]any{"exp": 1e300}), bad},
		"an end that is null":       {signed(d, map[string]any{"exp": json.RawMessage("null")}), bad},
		"not valid yet":             {signed(d, map[string]any{"nbf": now.Add(6 * time.Minute).Unix()}), bad},
		"another audience":          {grant(t, d, p, secret, faces), audience},
		"no audience":               {signed(d, map[string]any{"aud": nil}), bad},
		"audience with more":        {signed(d, map[string]any{"aud": management + ".example"}), audience},
		"audience with two slashes": {signed(d, map[string]any{"aud": management + "//"}), audience},
		"another issuer":            {signed(d, map[string]any{"iss": issuerOf(stranger)}), wrongTenant},
		"another issuer and tenant": {signed(d, map[string]any{"iss": issuerOf(stranger), "tid": stranger}),
			wrongTenant},
		"another tenant of ours":    {signed(d, map[string]any{"iss": issuerOf(second), "tid": second}), bad},
		"tenant and issuer differ":  {signed(d, map[string]any{"tid": second}), wrongTenant},
		"no tenant":                 {signed(d, map[string]any{"tid": nil}), wrongTenant},
		"nobody":                    {signed(d, map[string]any{"oid": nil}), bad},
		"somebody who is not there": {signed(d, map[string]any{"oid": stranger}), bad},
		"somebody who was deleted":  {ofGone, bad},
		"an id in another case":     {signed(d, map[string]any{"oid": nil, "OID": p.ID}), bad},
		"an audience in other case": {signed(d, map[string]any{"aud": nil, "Aud": management}), bad},
		"signed with trailing bits": {good[:len(good)-1] + string(good[len(good)-1]+1), bad},
		"a claim twice":             {raw(`{"oid":"` + stranger + `",` + text[1:]), bad},
		"an unused claim twice":     {raw(`{"x":1,"x":2,` + text[1:]), bad},
		"a body that goes on":       {raw(text + "{}"), bad},
		"a body that is a list":     {raw("[" + text + "]"), bad},
		"a body that is null":       {raw("null"), bad},
		"a header field twice": {base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","alg":"RS256","kid":"`+id+
			`"}`)) + "." + parts[1] + "." + parts[2], bad},
		"a body signed unencoded":      {header(map[string]any{"crit": []string{"b64"}, "b64": false}), bad},
		"an identity that is a number": {signed(d, map[string]any{"oid": 7}), bad},
		"issued in the future":         {signed(d, map[string]any{"iat": now.Add(6 * time.Minute).Unix()}), bad},
		"a key of its own":             {ownKey(t, claims, id), bad},
		"another token's signature": {parts[0] + "." + parts[1] + "." + strings.Split(signed(d, nil), ".")[2][1:],
			bad},
		"the signature of a shorter": {parts[0] + "." + parts[1] + "." + parts[2][:100], bad},
	} {
		_, err := d.Verify(t.Context(), c.token, management)
		wantRefusal(t, name, err, c.code, "")
		if err != nil && len(c.token) > 30 && strings.Contains(err.Error(), c.token[:30]) {
			t.Errorf("%s: the error repeats the token: %v", name, err)
		}
	}
	for name, token := range map[string]string{
		"as it was made": good, "signed again": signed(d, nil),
		"ended within the leeway":  signed(d, map[string]any{"exp": now.Add(-4 * time.Minute).Unix()}),
		"begins within the leeway": signed(d, map[string]any{"nbf": now.Add(4 * time.Minute).Unix()}),
		"several audiences":        signed(d, map[string]any{"aud": []string{faces, management}}),
	} {
		if _, err := d.Verify(t.Context(), token, management); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestGrantRefusals(t *testing.T) {
	d := open(t, config(nil))
	p, secret := application(t, d)
	second, err := d.CreateTenant(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	managed, err := d.EnsureManaged(t.Context(), tenant, scope+"/x", identity.SystemAssigned)
	if err != nil {
		t.Fatal(err)
	}
	good := identity.Grant{Tenant: tenant, ClientID: p.ClientID, Secret: secret, Audience: management}
	for name, c := range map[string]struct {
		change       func(*identity.Grant)
		code, number string
	}{
		"unknown client": {func(g *identity.Grant) { g.ClientID = stranger }, "unauthorized_client", "700016"},
		"no client":      {func(g *identity.Grant) { g.ClientID = "" }, "unauthorized_client", "700016"},
		"another tenant": {func(g *identity.Grant) { g.Tenant = second }, "unauthorized_client", "700016"},
		"a managed identity": {func(g *identity.Grant) { g.ClientID = managed.ClientID }, "unauthorized_client",
			"700016"},
		"wrong secret":    {func(g *identity.Grant) { g.Secret += "x" }, "invalid_client", "7000215"},
		"no secret":       {func(g *identity.Grant) { g.Secret = "" }, "invalid_client", "7000215"},
		"the secret's id": {func(g *identity.Grant) { g.Secret = p.ID }, "invalid_client", "7000215"},
		"both proofs":     {func(g *identity.Grant) { g.Assertion = "a.b.c" }, "invalid_request", "90014"},
		"unknown audience": {func(g *identity.Grant) { g.Audience = "https://x.example" }, "invalid_resource",
			"500011"},
		"no audience": {func(g *identity.Grant) { g.Audience = "" }, "invalid_resource", "500011"},
	} {
		g := good
		c.change(&g)
		_, _, err := d.Grant(t.Context(), g)
		wantRefusal(t, name, err, c.code, c.number)
	}
	if _, _, err := d.Grant(t.Context(), good); err != nil {
		t.Error(err)
	}
}

// TestAssertion holds that a token for another service proves an identity there and nowhere here, and that none is made
// for an audience of this instance, in whatever spelling.
func TestAssertion(t *testing.T) {
	d := open(t, config(nil))
	p, err := d.EnsureManaged(t.Context(), tenant, "/subscriptions/s/resourceGroups/g/a", identity.SystemAssigned)
	if err != nil {
		t.Fatal(err)
	}
	token, expires, err := d.Assertion(t.Context(), p.ID, "vault.example")
	if err != nil {
		t.Fatal(err)
	}
	c := claimsOf(t, token)
	if c["sub"] != p.ID || c["aud"] != "vault.example" || time.Until(expires) > 8*time.Minute {
		t.Errorf("the token says %v, until %v", c, expires)
	}
	for _, audience := range []string{faces, management} {
		if _, err := d.Verify(t.Context(), token, audience); err == nil {
			t.Errorf("the token is accepted for %s", audience)
		}
		for _, spelling := range []string{audience, audience + "/", strings.ToUpper(audience),
			strings.Replace(audience, "https:", "HTTPS:", 1) + ":443"} {
			if _, _, err := d.Assertion(t.Context(), p.ID, spelling); err == nil {
				t.Errorf("a token for %s is made", spelling)
			}
		}
	}
	_, _, err = d.Assertion(t.Context(), "11111111-2222-4333-8444-555555555555", "vault.example")
	wantRefusal(t, "an assertion of nobody", err, "PrincipalNotFound", "")
}

// TestRecentAssertions has the polls of five minutes use one assertion, and none of an identity that was deleted. Other
// questions get one of their own each time.
func TestRecentAssertions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, config(nil))
		at := "/subscriptions/s/resourceGroups/g/a"
		p, err := d.EnsureManaged(t.Context(), tenant, at, identity.SystemAssigned)
		if err != nil {
			t.Fatal(err)
		}
		assertion := func(
			get func(context.Context, string, string) (string, time.Time, error), audience string,
		) string {
			t.Helper()
			token, expires, err := get(t.Context(), p.ID, audience)
			if err != nil || time.Until(expires) < 3*time.Minute-time.Second {
				t.Fatalf("until %v, %v", expires, err)
			}
			return token
		}
		first := assertion(d.RecentAssertion, "vault.example")
		fresh := assertion(d.Assertion, "vault.example")
		if fresh == first || assertion(d.Assertion, "vault.example") == fresh {
			t.Error("Assertion has returned an assertion again")
		}
		time.Sleep(5*time.Minute - time.Second)
		if assertion(d.RecentAssertion, "vault.example") != first {
			t.Error("an assertion was signed again within five minutes")
		}
		if other := assertion(d.RecentAssertion, "other.example"); claimsOf(t, other)["aud"] != "other.example" {
			t.Error("the assertion for one audience was returned for another")
		}
		time.Sleep(time.Second)
		if assertion(d.RecentAssertion, "vault.example") == first {
			t.Error("an assertion was returned again after five minutes")
		}
		if err := d.Delete(t.Context(), p.ID); err != nil {
			t.Fatal(err)
		}
		for _, get := range []func(context.Context, string, string) (string, time.Time, error){
			d.Assertion, d.RecentAssertion,
		} {
			_, _, err := get(t.Context(), p.ID, "vault.example")
			wantRefusal(t, "an assertion of a deleted identity", err, "PrincipalNotFound", "")
		}
	})
}
