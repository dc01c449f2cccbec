package keyvault_test

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/audit/audittest"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/keyvault"
	"github.com/visage-face/visage/sealed"
)

// TestMain reads randomness once outside of every bubble: where FIPS mode asks for it, the first reading times the
// processor, and a bubble's clock stands still.
func TestMain(m *testing.M) {
	rand.Read(make([]byte, 1))
	os.Exit(m.Run())
}

const (
	tenant = "11111111-1111-4111-8111-111111111111"
	alice  = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
	bob    = "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"
)

func caller(objectID string) visage.Caller {
	return visage.Caller{
		Principal: visage.Principal{Method: "token", ObjectID: objectID, AppID: "app", Tenant: tenant}, RequestID: "r1",
	}
}

// everything is all permissions.
var everything = []keyvault.Permission{
	keyvault.All, keyvault.MayPurge, keyvault.MayRotate, keyvault.MayGetRotationPolicy, keyvault.MaySetRotationPolicy,
}

// auditedService is a service with the roles on its vaults and the events of its audit.
type auditedService struct {
	t *testing.T
	*keyvault.Service
	roles roles

	audit audittest.Recorder

	mu      sync.Mutex
	changes []string // guarded by mu
}

// roles holds the assigned roles, by object id and permission.
type roles map[string]bool

func (r roles) Allowed(_ context.Context, who visage.Caller, v keyvault.Vault, p keyvault.Permission) (bool, error) {
	return r[who.ObjectID+" "+v.Name+" "+string(p)], nil
}

// MayGiveAccess reports whether the caller has the role "give access" on the vault.
func (r roles) MayGiveAccess(_ context.Context, who visage.Caller, v keyvault.Vault) (bool, error) {
	return r[who.ObjectID+" "+v.Name+" give access"], nil
}

// taken returns the records since the last call: the operations with their outcomes, and the changed keys.
func (r *auditedService) taken() (events, changes []string) {
	for _, e := range r.audit.Events() {
		if e.Kind == audit.VaultOperation {
			events = append(events, e.Details[audit.DetailOperation]+" "+cmp.Or(e.Code, string(e.Outcome)))
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	changes, r.changes = r.changes, nil
	return events, changes
}

// openStore opens a store: in memory when dir is empty.
func openStore(t *testing.T, dir string, src keysource.Source) *sealed.Store {
	t.Helper()
	cfg := sealed.Config{Engine: "memory:", Protectors: []sealed.Protector{{Name: "test", Kind: "fake", Source: src}}}
	if dir != "" {
		cfg.Engine, cfg.KeyDir = "pebble:"+filepath.Join(dir, "data"), filepath.Join(dir, "keys")
	}
	s, err := sealed.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func newAuditedServiceOn(t *testing.T, store *sealed.Store) *auditedService {
	t.Helper()
	r := &auditedService{t: t, roles: roles{}}
	service, err := keyvault.New(keyvault.Config{
		Store: store, Audit: &r.audit, Roles: r.roles,
		Address: func(vault string) string { return "https://" + strings.ToLower(vault) + ".vault.example/" },
		OnChange: func(keyID string) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.changes = append(r.changes, keyID)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Service = service
	return r
}

// newAuditedService has a vault "safe" in which alice has all permissions.
func newAuditedService(t *testing.T, set ...func(*keyvault.Vault)) *auditedService {
	t.Helper()
	r := newAuditedServiceOn(t, openStore(t, "", sourcetest.NewFake("root")))
	r.vault("safe", set...)
	return r
}

func (r *auditedService) vault(name string, set ...func(*keyvault.Vault)) keyvault.Vault {
	r.t.Helper()
	v := keyvault.Vault{
		Name: name, Group: "default", Location: "local", Tenant: tenant,
		Policies: []keyvault.AccessPolicy{{ObjectID: alice, Keys: everything}},
	}
	for _, s := range set {
		s(&v)
	}
	made, err := r.CreateVault(r.t.Context(), caller("operator"), v)
	if err != nil {
		r.t.Fatal(err)
	}
	return made
}

func key(name string) keyvault.Ref { return keyvault.Ref{Vault: "safe", Name: name} }

// create creates a key of a type in the vault safe.
func (r *auditedService) create(name, kind string, set ...func(*keyvault.NewKey)) keyvault.Key {
	r.t.Helper()
	want := keyvault.NewKey{Type: kind, Attributes: keyvault.Attributes{Enabled: true}}
	for _, s := range set {
		s(&want)
	}
	k, err := r.CreateKey(r.t.Context(), caller(alice), key(name), want)
	if err != nil {
		r.t.Fatal(err)
	}
	return k
}

func wantRefusal(t *testing.T, err error, kind visage.Kind, code, inner string) {
	t.Helper()
	if r, ok := errors.AsType[*visage.Refusal](err); !ok || r.Kind != kind || r.Code != code || r.InnerCode != inner {
		t.Errorf("got %v, want a refusal %v with code %s and inner code %q", err, kind, code, inner)
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
