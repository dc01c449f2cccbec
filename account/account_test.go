package account_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/azure"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/sealed"
)

// newStore opens a store under src: in memory when dir is empty.
func newStore(t *testing.T, dir string, src keysource.Source) *sealed.Store {
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

// newCustody holds the keys of a store whose data is all encrypted with the service's key.
func newCustody(t *testing.T, store *sealed.Store) *custody.Custody {
	t.Helper()
	c, err := custody.New(t.Context(), custody.Config{
		Store: store, Audit: audit.Discard{},
		Open: func(_ context.Context, key visage.KeyRef, _ visage.PrincipalID) (keysource.Source, error) {
			return nil, fmt.Errorf("open key %s: there is no vault here", key)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func open(t *testing.T, store *sealed.Store) *account.Accounts {
	t.Helper()
	a, err := account.Open(t.Context(), account.Config{
		Store: store, Custody: newCustody(t, store), ParseKey: azure.ParseKey, AutoApprove: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func create(t *testing.T, a *account.Accounts, name string, tier visage.Tier) account.Account {
	t.Helper()
	made, err := a.Create(t.Context(), visage.Caller{},
		account.Creation{Name: name, Group: "default", Location: "local", Tier: tier})
	if err != nil {
		t.Fatalf("create %s: %v", name, err)
	}
	return made
}

// keysOf returns the keys of an account.
func keysOf(t *testing.T, a *account.Accounts, name string) account.Keys {
	t.Helper()
	k, err := a.Keys(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func wantRefusal(t *testing.T, err error, kind visage.Kind, code string) {
	t.Helper()
	if r, ok := errors.AsType[*visage.Refusal](err); !ok || r.Kind != kind || r.Code != code {
		t.Errorf("got %v, want a refusal %v with code %s", err, kind, code)
	}
}

func TestKeysOpenTheirResource(t *testing.T) {
	a := open(t, newStore(t, "", sourcetest.NewFake("root")))
	one := create(t, a, "One", visage.S0)
	create(t, a, "two", visage.F0)
	keys := keysOf(t, a, "one")
	for _, c := range []struct {
		name, key, host, wantKey string
	}{
		{"key 1, any host", keys.Key1, "localhost:8443", "Key1"},
		{"key 2, any host", keys.Key2, "localhost:8443", "Key2"},
		{"own host", keys.Key1, "one.localhost:8443", "Key1"},
		{"own host in capitals", keys.Key1, "ONE.example.org", "Key1"},
		{"IPv4 address", keys.Key1, "127.0.0.1:8443", "Key1"},
		{"IPv6 address", keys.Key1, "[::1]:8443", "Key1"},
		{"a host that is no resource", keys.Key1, "www.example.org", "Key1"},
		{"a resource's name without a dot", keys.Key1, "two", "Key1"},
		{"no host", keys.Key1, "", "Key1"},
		{"another resource's host", keys.Key1, "two.localhost:8443", ""},
		{"another resource's host, no port", keys.Key1, "Two.localhost", ""},
		{"no key", "", "localhost", ""},
		{"part of a key", keys.Key1[:31], "localhost", ""},
		{"more than a key", keys.Key1 + "0", "localhost", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			res, who, err := a.Resource(t.Context(), c.key, c.host)
			if c.wantKey == "" {
				wantRefusal(t, err, visage.Unauthenticated, "401")
				if res != (visage.Resource{}) || who != (visage.Principal{}) {
					t.Errorf("got %+v, %+v with the refusal", res, who)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := visage.Principal{Method: "key", KeyName: c.wantKey, Resource: one.ID}
			if res != one.Resource || who != want {
				t.Errorf("got %+v, %+v, want %+v, %+v", res, who, one.Resource, want)
			}
		})
	}
}

func TestKeysAreThirtyTwoHexadecimalDigits(t *testing.T) {
	a := open(t, newStore(t, "", sourcetest.NewFake("root")))
	create(t, a, "one", visage.S0)
	k := keysOf(t, a, "one")
	for _, key := range []string{k.Key1, k.Key2} {
		if len(key) != 32 || strings.Trim(key, "0123456789abcdef") != "" {
			t.Errorf("key %q is not 32 hexadecimal digits", key)
		}
	}
	if k.Key1 == k.Key2 {
		t.Error("both keys are the same")
	}
}

func TestRegenerateLeavesTheOtherKey(t *testing.T) {
	a := open(t, newStore(t, "", sourcetest.NewFake("root")))
	create(t, a, "one", visage.S0)
	before := keysOf(t, a, "one")
	after, err := a.Regenerate(t.Context(), visage.Caller{}, "ONE", account.Key2)
	if err != nil {
		t.Fatal(err)
	}
	if after.Key1 != before.Key1 || after.Key2 == before.Key2 || after != keysOf(t, a, "one") {
		t.Errorf("keys went from %v to %v", before, after)
	}
	if _, _, err := a.Resource(t.Context(), before.Key2, ""); err == nil {
		t.Error("the replaced key still opens the resource")
	}
	for _, key := range []string{after.Key1, after.Key2} {
		if _, _, err := a.Resource(t.Context(), key, ""); err != nil {
			t.Errorf("a valid key does not open the resource: %v", err)
		}
	}
}

func TestAccountsOutliveTheProcess(t *testing.T) {
	dir, root := t.TempDir(), sourcetest.NewFake("root")
	store := newStore(t, dir, root)
	a := open(t, store)
	one := create(t, a, "one", visage.S0)
	changed, err := a.Update(t.Context(), visage.Caller{}, "one", func(account.Account) (account.Change, error) {
		return account.Change{Tags: map[string]string{"team": "front desk"}}, nil
	})
	if err != nil || changed.Revision != one.Revision+1 {
		t.Fatalf("update: %+v, %v", changed, err)
	}
	keys := keysOf(t, a, "one")
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	a = open(t, newStore(t, dir, root))
	got, err := a.Get(t.Context(), "one")
	if err != nil || got.ID != one.ID || got.Tags["team"] != "front desk" || !got.Created.Equal(one.Created) {
		t.Errorf("got %+v, %v, want the stored account", got, err)
	}
	if keysOf(t, a, "one") != keys {
		t.Error("the keys changed")
	}
	if _, _, err := a.Resource(t.Context(), keys.Key1, "one.localhost"); err != nil {
		t.Error(err)
	}
}

func TestPurgeDropsTheSpace(t *testing.T) {
	store := newStore(t, "", sourcetest.NewFake("root"))
	a := open(t, store)
	one := create(t, a, "one", visage.S0)
	keys := keysOf(t, a, "one")
	look := func() error {
		return store.Space(sealed.SpaceID(one.ID)).View(t.Context(), func(sealed.Reader) error { return nil })
	}
	if err := look(); err != nil {
		t.Fatalf("the space of a new account: %v", err)
	}
	if err := a.Delete(t.Context(), visage.Caller{}, "One"); err != nil {
		t.Fatal(err)
	}
	if err := look(); !errors.Is(err, sealed.ErrLocked) {
		t.Errorf("the space of a deleted account: %v", err)
	}
	if _, err := a.Recover(t.Context(), visage.Caller{}, "one"); err != nil {
		t.Fatal(err)
	}
	if err := look(); err != nil {
		t.Errorf("the space of a recovered account: %v", err)
	}
	if err := a.Delete(t.Context(), visage.Caller{}, "one"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.Resource(t.Context(), keys.Key1, ""); err == nil {
		t.Error("a key of a deleted account opens it")
	}
	_, err := a.Get(t.Context(), "one")
	wantRefusal(t, err, visage.NotFound, "ResourceNotFound")
	wantRefusal(t, a.Delete(t.Context(), visage.Caller{}, "one"), visage.NotFound, "ResourceNotFound")
	if err := a.Purge(t.Context(), visage.Caller{}, "One"); err != nil {
		t.Fatal(err)
	}
	if err := look(); err == nil {
		t.Error("the space of a purged account opens")
	}
	wantRefusal(t, a.Purge(t.Context(), visage.Caller{}, "one"), visage.NotFound, "ResourceNotFound")
	if again := create(t, a, "one", visage.S0); again.ID == one.ID {
		t.Error("an id was used again")
	}
}

func TestRefusals(t *testing.T) {
	a := open(t, newStore(t, "", sourcetest.NewFake("root")))
	create(t, a, "taken", visage.F0)
	create(t, a, "big", visage.E0)
	for _, c := range []struct {
		name string
		what account.Creation
		kind visage.Kind
		code string
	}{
		{"same name in another case", account.Creation{Name: "TAKEN", Tier: visage.S0}, visage.Conflict,
			"AccountAlreadyExists"},
		{"second free", account.Creation{Name: "free", Location: "Lo cal", Tier: visage.F0}, visage.Conflict,
			"CanNotCreateMultipleFreeAccounts"},
		{"unknown tier", account.Creation{Name: "other", Tier: "S1"}, visage.Invalid, "InvalidSkuId"},
		{"short name", account.Creation{Name: "a", Tier: visage.S0}, visage.Invalid, "InvalidResourceName"},
		{"long name", account.Creation{Name: strings.Repeat("a", 65), Tier: visage.S0}, visage.Invalid,
			"InvalidResourceName"},
		{"hyphen first", account.Creation{Name: "-ab", Tier: visage.S0}, visage.Invalid, "InvalidResourceName"},
		{"blank", account.Creation{Name: "a b", Tier: visage.S0}, visage.Invalid, "InvalidResourceName"},
		{"hyphen last in the subdomain", account.Creation{Name: "ab", Subdomain: "ab-", Tier: visage.S0},
			visage.Invalid,
			"InvalidSubdomain"},
		{"dot in the subdomain", account.Creation{Name: "ab", Subdomain: "a.b", Tier: visage.S0}, visage.Invalid,
			"InvalidSubdomain"},
		{"another's name as subdomain", account.Creation{Name: "ab", Subdomain: "Taken", Tier: visage.S0},
			visage.Conflict,
			"CustomDomainInUse"},
		{"localhost", account.Creation{Name: "Localhost", Tier: visage.S0}, visage.Invalid, "InvalidResourceName"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := a.Create(t.Context(), visage.Caller{}, c.what)
			wantRefusal(t, err, c.kind, c.code)
		})
	}
	_, err := a.Update(t.Context(), visage.Caller{}, "big", func(account.Account) (account.Change, error) {
		to := visage.S0
		return account.Change{Tier: &to}, nil
	})
	wantRefusal(t, err, visage.Invalid, "InvalidSkuId")
	all, err := a.List(t.Context())
	if err != nil || len(all) != 2 {
		t.Errorf("after the refusals there are %d accounts, %v, want 2", len(all), err)
	}
}

func TestLongestAndShortestNames(t *testing.T) {
	for _, name := range []string{"ab", strings.Repeat("a", 64), "a-b", "9a", "127", "a.b_c-"} {
		if err := account.CheckName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// stored is the part of an account's record that shows an interrupted change.
type stored struct {
	ID, Name, Group, Location string
	Tier                      visage.Tier
	Tags                      map[string]string
	Subdomain                 string
	KeysRefused               bool
	Identity                  account.Identity
	Network                   visage.NetworkRules
	Origins                   []string
	Protection                struct {
		Said     bool
		VaultURI string
	}
	Request              string
	Keys                 account.Keys
	State                string
	Created, Changed     int64
	CreatedBy, ChangedBy string
	Revision             int64
	Deleted, PurgeAt     int64
}

func TestInterruptedChangesAreFinished(t *testing.T) {
	table := sealed.NewTable[stored]("account", 1)
	for _, state := range []string{"creating", "deleting"} {
		t.Run(state, func(t *testing.T) {
			store := newStore(t, "", sourcetest.NewFake("root"))
			a := open(t, store)
			one := create(t, a, "one", visage.S0)
			create(t, a, "two", visage.S0)
			keys := keysOf(t, a, "one")
			err := store.Space(sealed.Operator).Update(t.Context(), func(tx sealed.Tx) error {
				rec, err := table.In().Get(tx, "one")
				if err != nil {
					return err
				}
				rec.State = state
				return table.In().Put(tx, "one", rec)
			})
			if err != nil {
				t.Fatal(err)
			}
			a = open(t, store) // as after a crash
			if _, _, err := a.Resource(t.Context(), keys.Key1, ""); err == nil {
				t.Error("a key opens an incomplete account")
			}
			spaces, err := store.Spaces().List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range spaces {
				if id == sealed.SpaceID(one.ID) {
					t.Error("its space still exists")
				}
			}
			all, err := a.List(t.Context())
			if err != nil || len(all) != 1 || all[0].Name != "two" {
				t.Errorf("got %+v, %v, want the other account alone", all, err)
			}
			create(t, a, "one", visage.S0)
		})
	}
}
