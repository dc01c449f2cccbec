package identity_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/visage-face/visage/identity"
)

// site serves the documents of an issuer as files below a path, as a web server elsewhere does.
type site struct {
	*httptest.Server
	dir, issuer string
}

func newSite(t *testing.T) *site {
	t.Helper()
	p := &site{dir: t.TempDir()}
	p.Server = httptest.NewTLSServer(http.StripPrefix("/visage", http.FileServer(http.Dir(p.dir))))
	t.Cleanup(p.Close)
	p.issuer = p.URL + "/visage"
	return p
}

func (p *site) put(t *testing.T, keys []identity.PublicKey) {
	t.Helper()
	documents, err := identity.Publication(p.issuer, keys)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range documents {
		path := filepath.Join(p.dir, filepath.FromSlash(d.Path))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, d.Content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// verify verifies an assertion as a service that has just read the documents.
func (p *site) verify(t *testing.T, token, audience string) (subject string, err error) {
	t.Helper()
	ctx := oidc.ClientContext(t.Context(), p.Client())
	provider, err := oidc.NewProvider(ctx, p.issuer)
	if err != nil {
		t.Fatal(err)
	}
	proved, err := provider.Verifier(&oidc.Config{ClientID: audience}).Verify(ctx, token)
	if err != nil {
		return "", err
	}
	return proved.Subject, nil
}

// TestPublication holds that an assertion of another issuer is verified by its published documents alone, also after
// the signing key was rotated, and that tokens of this instance keep their issuer.
func TestPublication(t *testing.T) {
	p := newSite(t)
	cfg := config(nil)
	cfg.AssertionIssuer = p.issuer
	d := open(t, cfg)
	who, err := d.EnsureManaged(t.Context(), tenant, "/subscriptions/s/resourceGroups/g/a", identity.SystemAssigned)
	if err != nil {
		t.Fatal(err)
	}
	assert := func() string {
		token, _, err := d.Assertion(t.Context(), who.ID, "vault.example")
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	p.put(t, d.PublicKeys())
	first := assert()
	if subject, err := p.verify(t, first, "vault.example"); err != nil || subject != who.ID {
		t.Errorf("an assertion: subject %q, %v", subject, err)
	}
	if _, err := p.verify(t, first, "other.example"); err == nil || !strings.Contains(err.Error(), "audience") {
		t.Errorf("for another audience: %v", err)
	}
	old := d.PublicKeys()
	if err := d.RotateSigningKey(context.Background()); err != nil {
		t.Fatal(err)
	}
	second := assert()
	if _, err := p.verify(t, second, "vault.example"); err == nil {
		t.Error("the new key is believed before it is published")
	}
	p.put(t, d.PublicKeys())
	for _, token := range []string{first, second} {
		if subject, err := p.verify(t, token, "vault.example"); err != nil || subject != who.ID {
			t.Errorf("after the rotation: subject %q, %v", subject, err)
		}
	}
	ours, _, err := d.Token(t.Context(), who.ID, management)
	if err != nil {
		t.Fatal(err)
	}
	if c := claimsOf(t, ours); c["iss"] != issuerOf(tenant) {
		t.Errorf("a token for this instance is issued by %v", c["iss"])
	}
	if _, err := d.Verify(t.Context(), ours, management); err != nil {
		t.Errorf("a token for this instance: %v", err)
	}
	for set, want := range map[string][]string{"old": difference(ids(d.PublicKeys()), ids(old)), "now": nil} {
		keys := d.PublicKeys()
		if set == "old" {
			keys = old
		}
		documents, err := identity.Publication(p.issuer, keys)
		if err != nil {
			t.Fatal(err)
		}
		missing, err := identity.Unpublished(documents[0].Content, d.PublicKeys())
		if err != nil || !slices.Equal(missing, want) || set == "old" && len(missing) == 0 {
			t.Errorf("%s: missing are %v, want %v (%v)", set, missing, want, err)
		}
	}
}

func difference(all, without []string) []string {
	return slices.DeleteFunc(all, func(id string) bool { return slices.Contains(without, id) })
}

// TestUnpublished holds that a published key counts only with the numbers of ours.
func TestUnpublished(t *testing.T) {
	keys := open(t, config(nil)).PublicKeys()
	forged := open(t, config(nil)).PublicKeys()
	forged[0].ID = keys[0].ID
	documents, err := identity.Publication("https://issuer.example", forged)
	if err != nil {
		t.Fatal(err)
	}
	missing, err := identity.Unpublished(documents[0].Content, keys)
	if err != nil || !slices.Equal(missing, ids(keys)) {
		t.Errorf("a key with our id: missing are %v (%v)", missing, err)
	}
	if _, err = identity.Unpublished([]byte("<html>"), keys); err == nil {
		t.Error("a page is taken for keys")
	}
}

func TestCheckPublicIssuer(t *testing.T) {
	for _, good := range []string{"https://issuer.example", "https://issuer.example:8443/visage/v2.0"} {
		if err := identity.CheckPublicIssuer(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "issuer.example", "http://issuer.example", "https://", "https://:443", "https://issuer.example/",
		"https://issuer.example?x=1", "https://issuer.example?", "https://issuer.example#", "https://a@issuer.example",
		"HTTPS://issuer.example", "https://issuer.example/a b",
	} {
		if identity.CheckPublicIssuer(bad) == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}
