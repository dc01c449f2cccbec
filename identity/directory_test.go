package identity_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/sealed"
)

const (
	tenant     = "11111111-1111-4111-8111-111111111111"
	stranger   = "22222222-2222-4222-8222-222222222222"
	management = "https://management.azure.com"
	faces      = "https://cognitiveservices.azure.com"
	scope      = "/subscriptions/33333333-3333-4333-8333-333333333333"
)

func issuerOf(tenant string) string { return "https://login.example.org/" + tenant + "/v2.0" }

func config(store *sealed.Store) identity.Config {
	return identity.Config{
		Store: store, Tenant: tenant, Issuer: issuerOf,
		Audience: func(a string) bool { return a == management || a == faces },
		Place:    func(context.Context, string) (identity.Place, error) { return identity.Place{}, nil },
	}
}

// newStore opens a store under src: in memory when dir is empty.
func newStore(t testing.TB, dir string, src keysource.Source) *sealed.Store {
	t.Helper()
	cfg := sealed.Config{Engine: "memory:", Protectors: []sealed.Protector{{Name: "test", Kind: "fake", Source: src}}}
	if dir != "" {
		cfg.Engine, cfg.KeyDir = "pebble:"+filepath.Join(dir, "data"), filepath.Join(dir, "keys")
	}
	s, err := sealed.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func open(t testing.TB, cfg identity.Config) *identity.Directory {
	t.Helper()
	if cfg.Store == nil {
		store := newStore(t, "", sourcetest.NewFake("root"))
		t.Cleanup(func() {
			if err := store.Close(); err != nil {
				t.Error(err)
			}
		})
		cfg.Store = store
	}
	d, err := identity.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// application makes an application with a secret.
func application(t *testing.T, d *identity.Directory) (identity.Principal, string) {
	t.Helper()
	p, err := d.CreateApplication(t.Context(), identity.Creation{Tenant: tenant, Name: "program"})
	if err != nil {
		t.Fatal(err)
	}
	_, secret, err := d.AddSecret(t.Context(), p.ID, 0)
	if err != nil {
		t.Fatal(err)
	}
	return p, secret
}

func grant(t *testing.T, d *identity.Directory, p identity.Principal, secret, audience string) string {
	t.Helper()
	token, _, err := d.Grant(t.Context(), identity.Grant{
		Tenant: p.Tenant, ClientID: p.ClientID, Secret: secret, Audience: audience,
	})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// claimsOf decodes what a token says, without proving it.
func claimsOf(t *testing.T, token string) map[string]any {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(b, &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

// wantRefusal wants a refusal with a code, and a number when there is one.
func wantRefusal(t testing.TB, what string, err error, code, number string) {
	t.Helper()
	r, ok := errors.AsType[*visage.Refusal](err)
	if !ok || r.Code != code || r.InnerCode != number {
		t.Errorf("%s: %v, want a refusal %s %s", what, err, code, number)
	}
}
