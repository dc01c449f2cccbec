package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/test/keystores"
)

// published is a web server with the public keys of an issuer, which can be kept from changing.
type published struct {
	*httptest.Server
	mu   sync.Mutex
	keys []byte
	from func() []byte // what is served now; nil: keys
}

func publish(t *testing.T, from func() []byte) *published {
	t.Helper()
	p := &published{from: from}
	p.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.from != nil {
			p.keys = p.from()
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(p.keys) // the client sees when it is cut off
	}))
	t.Cleanup(p.Close)
	return p
}

// keep goes on to serve what was served last, and thaw ends that.
func (p *published) keep() (thaw func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.from
	p.from = nil
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.from = before
	}
}

func (p *published) ca() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw}))
}

// TestSigningKeyChangesWhileKeysAreInUse holds that data stays open when the key changes that signs the assertions of
// resources: a store that fetches the new keys notices nothing, and one that does not yet know them gives no verdict.
// And an assertion that somebody has seen on its way to a store proves nothing to this service.
func TestSigningKeyChangesWhileKeysAreInUse(t *testing.T) {
	store := newOverheard(t)
	w := newStoreWalk(t, store)
	of := w.issuer(t)
	keys := publish(t, func() []byte {
		return []byte(w.page(t, "/"+w.Operator().TenantID+"/discovery/v2.0/keys"))
	})
	store.trust(t, issuer{of.URL, keys.URL, keys.ca()})
	store.makeKey(t, "faces")
	store.grant(t, w.who, "faces")
	if says := w.protect(t, "vip", "faces", ""); says != "" {
		t.Fatal(says)
	}
	w.until(t, "the active key", active)
	open := func(when string) {
		t.Helper()
		if status, body, _ := w.groups(t); status != http.StatusOK {
			t.Errorf("%s: %d %s", when, status, body)
		}
	}
	key := visage.KeyRef{Vault: w.address, Name: "faces"}
	// rotate changes the signing key, and has the store forget its tokens until the state is reached. A poll that was
	// under way may have got a token just afterwards, with an assertion of the key before, and the next poll uses it.
	rotate := func(what string, is func(custody.Status) bool) {
		t.Helper()
		if err := w.Directory().RotateSigningKey(t.Context()); err != nil {
			t.Fatal(err)
		}
		var revoked time.Time
		w.until(t, what, func(s custody.Status) bool {
			if is(s) {
				return true
			}
			if s.LastSuccess.After(revoked) {
				store.RevokeTokens()
				revoked = time.Now()
				w.Custody().Recheck(key)
			}
			return false
		})
	}

	said, n := store.since(0)
	first := keyOf(t, said[len(said)-1])
	rotate("a poll with the next key", func(s custody.Status) bool {
		said, _ := store.since(n)
		return len(said) > 0 && keyOf(t, said[len(said)-1]) != first
	})
	open("after the change")

	thaw := keys.keep()
	rotate("no verdict", func(s custody.Status) bool { return s.Condition == custody.Degraded })
	open("while the store does not know the key")
	thaw()
	w.Custody().Recheck(key)
	w.until(t, "the store's consent", active)
	open("once the store knows the key")

	said, _ = store.since(0)
	replayed := said[len(said)-1]
	r := realm{w.Server, t}
	r.call(http.StatusUnauthorized, "InvalidAuthenticationTokenAudience", replayed, "GET", "/resourceGroups", "")
	r.call(http.StatusUnauthorized, "InvalidAuthenticationTokenAudience", replayed, "GET", "/face/v1.2/persongroups",
		"")
	w.vault(t, "safe", "local", true, w.who)
	status, body := w.answer(t, "safe.vault."+w.Host(), replayed, http.MethodGet, "/keys?api-version=7.4", nil)
	if status != http.StatusUnauthorized {
		t.Errorf("a vault of this instance: %d %s", status, body)
	}
	var who struct{ Sub, AppID string }
	if err := json.Unmarshal(part(t, replayed, 1), &who); err != nil || who.Sub != string(w.who) {
		t.Fatalf("the assertion is of %+v, %v; want the resource", who, err)
	}
	for client, says := range map[string]string{
		who.AppID: "unauthorized_client", w.Operator().ClientID: "invalid_client",
	} {
		status, body = w.answer(t, "", "", http.MethodPost, "/"+w.Operator().TenantID+"/oauth2/v2.0/token", url.Values{
			"grant_type": {"client_credentials"}, "client_id": {client}, "scope": {managementPlane + "/.default"},
			"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
			"client_assertion":      {replayed},
		})
		if status/100 != 4 || !strings.Contains(body, says) {
			t.Errorf("the token endpoint, for %s: %d %s", client, status, body)
		}
	}
}

// answer makes a request and returns the answer. form: nil if there is no body.
func (w *storeWalk) answer(t *testing.T, host, token, method, path string, form url.Values) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, w.URL+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	res, err := w.Client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(raw)
}

// Host is the host that the server has for its clients.
func (w *storeWalk) Host() string { return strings.TrimPrefix(w.URL, "https://") }

// part returns a part of a JSON Web Token, 0 the header.
func part(t *testing.T, token string, n int) []byte {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[n])
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// keyOf returns the id of the key that signed a token.
func keyOf(t *testing.T, token string) string {
	t.Helper()
	var header struct{ Kid string }
	if err := json.Unmarshal(part(t, token, 0), &header); err != nil || header.Kid == "" {
		t.Fatalf("the header of a token: %+v, %v", header, err)
	}
	return header.Kid
}

// TestAssertionsOfTheirTime has a transit engine judge assertions that were signed on a clock of the past, up to this
// moment: over a month the signing key changed, and the engine has kept the public keys of yesterday.
func TestAssertionsOfTheirTime(t *testing.T) {
	const day, address = 24 * time.Hour, "https://faces.example/tenant"
	var yesterday []byte
	var who visage.PrincipalID
	signed := map[string]string{}
	now := time.Now()
	synctest.Test(t, func(t *testing.T) {
		until := func(before time.Duration) { time.Sleep(time.Until(now.Add(-before))) }
		until(30*day + time.Minute) // the life of a signing key
		store, err := sealed.Open(t.Context(), sealed.Config{Engine: "memory:",
			Protectors: []sealed.Protector{{Name: "test", Kind: "fake", Source: sourcetest.NewFake("test")}}})
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		tenant := visage.NewUUID().String()
		d, err := identity.Open(t.Context(), identity.Config{
			Store: store, Tenant: tenant, Issuer: func(string) string { return address },
			Audience: func(string) bool { return false },
			Place:    func(context.Context, string) (identity.Place, error) { return identity.Place{}, nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- d.Run(ctx) }()
		p, err := d.EnsureManaged(ctx, tenant, "/resources/vip", identity.SystemAssigned)
		if err != nil {
			t.Fatal(err)
		}
		who = visage.PrincipalID(p.ID)
		sign := func(name string) {
			t.Helper()
			token, _, err := d.Assertion(ctx, p.ID, "vault.example")
			if err != nil {
				t.Fatal(err)
			}
			signed[name] = token
		}
		until(23 * time.Hour)
		if yesterday, err = json.Marshal(map[string]any{"keys": d.PublicKeys()}); err != nil {
			t.Fatal(err)
		}
		until(11 * time.Minute) // 8 of its life, and what stores allow for clocks
		sign("late")
		until(4 * time.Minute)
		sign("before the change")
		until(0)
		sign("after the change")
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	if one, other := keyOf(t, signed["before the change"]), keyOf(t, signed["after the change"]); one == other {
		t.Fatal("the signing key has not changed")
	}
	vault := keystores.StartVault(t)
	keys := publish(t, func() []byte { return yesterday })
	store := transit{vault}
	store.trust(t, issuer{address, keys.URL, keys.ca()})
	role := func(name, audience, subject string) {
		vault.Post("auth/jwt/role/"+name, map[string]any{"role_type": "jwt", "user_claim": "sub",
			"bound_subject": subject, "bound_audiences": audience, "token_type": "batch"})
	}
	role("its", "vault.example", string(who))
	role("another-store", "other.example", string(who))
	role("another-resource", "vault.example", visage.NewUUID().String())
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12,
		RootCAs: vault.Roots}}}
	for _, c := range []struct {
		assertion, role, says string // empty: it is accepted
	}{
		{"before the change", "its", ""},
		{"after the change", "its", ""},
		{"late", "its", "expired"},
		{"after the change", "another-store", "audience"},
		{"after the change", "another-resource", "subject"},
	} {
		body, err := json.Marshal(map[string]string{"role": c.role, "jwt": signed[c.assertion]})
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Post("https://"+vault.Address+"/v1/auth/jwt/login", "application/json",
			bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(res.Body)
		res.Body.Close()
		said := fmt.Sprintf("%d %s, %v", res.StatusCode, answer, err)
		if accepted := res.StatusCode == http.StatusOK; accepted != (c.says == "") || !strings.Contains(said, c.says) {
			t.Errorf("the assertion %s for the role %s: %s; want %q", c.assertion, c.role, said, c.says)
		}
	}
}
