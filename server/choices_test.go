package server_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/keyvault"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// as creates an application with roles on a scope below the subscription, and returns it as a caller.
func (w *inspector) as(name, below string, roles ...string) visage.Caller {
	w.t.Helper()
	p, err := w.Directory().CreateApplication(w.t.Context(),
		identity.Creation{Tenant: w.Operator().TenantID, Name: name})
	w.must(err)
	for _, role := range roles {
		_, err := w.Directory().Assign(w.t.Context(), "", p.ID, role,
			"/subscriptions/"+w.Operator().SubscriptionID+below)
		w.must(err)
	}
	return visage.Caller{Principal: visage.Principal{Method: "token", ObjectID: p.ID, AppID: p.ClientID,
		Tenant: w.Operator().TenantID}}
}

// codes are the codes of findings, in their order.
func codes(all []account.Finding) (codes []string) {
	for _, f := range all {
		codes = append(codes, f.Refusal.Code)
	}
	return codes
}

// TestVaultChoices checks which vaults are offered for a resource, why others are not, and who sees which.
func TestVaultChoices(t *testing.T) {
	w := &inspector{realm{servertest.Start(t, server.Config{}), t}, jwkOf(t, 2048), 0}
	name, _ := w.set(scenario{noVault: true})
	a, err := w.Accounts().Get(t.Context(), name)
	w.must(err)
	want := map[string][]string{
		"good":        nil,
		"UPPER":       nil,
		"unprotected": {"KeyVaultPurgeProtectionRequired"},
		"far":         {"KeyVaultRegionMismatch"},
		"far-off":     {"KeyVaultPurgeProtectionRequired", "KeyVaultRegionMismatch"},
		"foreign":     {"KeyVaultTenantMismatch"},
	}
	for vault := range want {
		s := scenario{region: a.Location, unprotected: vault == "unprotected" || vault == "far-off"}
		if strings.HasPrefix(vault, "far") {
			s.region = "mars"
		}
		if vault == "foreign" {
			s.tenant = "11111111-2222-4333-8444-555555555555"
		}
		w.makeVault(vault, s, "")
	}
	list := func(by visage.Caller, limit int) (all []account.VaultChoice) {
		for after := ""; ; {
			page, next, err := w.Accounts().VaultChoices(t.Context(), by, name, after, limit)
			w.must(err)
			if all = append(all, page...); next == "" {
				return all
			}
			after = next
		}
	}
	for _, limit := range []int{0, 1, 2, 3, 6} {
		all := list(w.operator(), limit)
		for i, v := range all {
			if i > 0 && strings.ToLower(all[i-1].Name) >= strings.ToLower(v.Name) {
				t.Errorf("%s comes before %s", all[i-1].Name, v.Name)
			}
			if got := codes(v.Unmet); !slices.Equal(got, want[v.Name]) {
				t.Errorf("%s: %q, want %q", v.Name, got, want[v.Name])
			}
			address := "https://" + strings.ToLower(v.Name) + ".vault."
			if v.KeysSeen != (v.Name != "foreign") || !strings.HasPrefix(v.Address, address) {
				t.Errorf("%+v", v)
			}
		}
		if len(all) != len(want) {
			t.Errorf("%d vaults in pages of %d, want %d", len(all), limit, len(want))
		}
	}
	reader := w.as("reader", vaultsPath+"/good", identity.Reader)
	if all := list(reader, 10); len(all) != 1 || all[0].Name != "good" || !all[0].KeysSeen {
		t.Errorf("a reader of one vault sees %+v", all)
	}
	if all := list(w.as("nobody", ""), 10); len(all) != 0 {
		t.Errorf("a stranger sees %+v", all)
	}
	if _, _, err := w.Accounts().VaultChoices(t.Context(), w.operator(), "none", "", 1); err == nil {
		t.Error("choices for a resource that does not exist")
	}
}

// TestKeyChoices checks which keys of a vault are offered, why others are not, and who sees them.
func TestKeyChoices(t *testing.T) {
	w := &inspector{realm{servertest.Start(t, server.Config{}), t}, jwkOf(t, 2048), 0}
	w.makeVault("safe", scenario{region: "local"}, "")
	admin := w.operator()
	admin.Manager = true
	enabled := keyvault.Attributes{Enabled: true}
	past := keyvault.Attributes{Enabled: true, Expires: time.Unix(1_000_000_000, 0)}
	early := keyvault.Attributes{Enabled: true, NotBefore: time.Now().Add(time.Hour)}
	rsa := keyvault.NewKey{Type: "RSA", Attributes: enabled}
	with := func(change func(*keyvault.NewKey)) keyvault.NewKey { k := rsa; change(&k); return k }
	type made struct {
		name string
		key  keyvault.NewKey
		want []string
	}
	all := []made{
		{"big", with(func(k *keyvault.NewKey) { k.Bits = 3072 }), []string{"KeyVaultKeyTypeNotSupported"}},
		{"curve", keyvault.NewKey{Type: "EC", Attributes: enabled},
			[]string{"KeyVaultKeyTypeNotSupported", "KeyVaultKeyTypeNotSupported"}},
		{"early", with(func(k *keyvault.NewKey) { k.Attributes = early }), []string{"KeyVaultKeyNotYetValid"}},
		{"good", rsa, nil},
		{"late", with(func(k *keyvault.NewKey) { k.Attributes = past }), []string{"KeyVaultKeyExpired"}},
		{"off", with(func(k *keyvault.NewKey) { k.Enabled = false }), []string{"KeyVaultKeyDisabled"}},
		{"seals", with(func(k *keyvault.NewKey) { k.Operations = []keyvault.Operation{keyvault.Wrap} }),
			[]string{"KeyVaultAccessDenied"}},
	}
	for _, m := range all {
		_, err := w.Vaults().CreateKey(t.Context(), admin, keyvault.Ref{Vault: "safe", Name: m.name}, m.key)
		w.must(err)
	}
	for _, limit := range []int{0, 1, 3, 7} {
		var found []account.KeyChoice
		for after := ""; ; {
			page, next, err := w.Accounts().KeyChoices(t.Context(), w.operator(), "SAFE", after, limit)
			w.must(err)
			if found = append(found, page...); next == "" {
				break
			}
			after = next
		}
		if len(found) != len(all) {
			t.Fatalf("%d keys in pages of %d, want %d", len(found), limit, len(all))
		}
		for i, k := range found {
			if k.Name != all[i].name || len(k.Version) != 32 || !slices.Equal(codes(k.Unmet), all[i].want) {
				t.Errorf("%s: %q, want %s: %q", k.Name, codes(k.Unmet), all[i].name, all[i].want)
			}
		}
	}
	_, _, err := w.Accounts().KeyChoices(t.Context(), w.as("nobody", ""), "safe", "", 1)
	if refusal, ok := errors.AsType[*visage.Refusal](err); !ok || refusal.InnerCode != "AccessDenied" {
		t.Errorf("a stranger: %v", err)
	}
	page, _, err := w.Accounts().KeyChoices(t.Context(), w.as("manager", "", identity.Reader), "safe", "", 1)
	if err != nil || len(page) != 1 {
		t.Errorf("a reader of the subscription: %v, %v", page, err)
	}
}

// TestReadKey checks how an identifier as people paste it is taken apart.
func TestReadKey(t *testing.T) {
	w := &inspector{realm{servertest.Start(t, server.Config{}), t}, jwkOf(t, 2048), 0}
	safe, version := w.vaultAddress("safe"), strings.Repeat("0a", 16)
	for _, c := range []struct{ id, vault, key, version, refused string }{
		{safe + "/keys/k", "safe", "k", "", ""},
		{safe + "/keys/k/", "safe", "k", "", ""},
		{safe + "/keys/k/" + version, "safe", "k", version, ""},
		{"HTTPS://SAFE" + strings.TrimPrefix(safe, "https://safe") + "/keys/K/" + strings.ToUpper(version), "safe", "K",
			version, ""},
		{safe + "/secrets/k/" + version, "", "", "", "identifier of a secret"},
		{safe + "/keys/k ", "", "", "", "has a space"},
		{"https://safe.vault.azure.net/keys/k", "", "", "", "configure an application in Azure"},
		{"https://safe.example.org/keys/k", "", "", "", "configure an application in Azure"},
		{"https://deep.er" + strings.TrimPrefix(safe, "https://safe") + "/keys/k", "", "", "", "cannot use the vault"},
	} {
		got, err := w.Accounts().ReadKey(account.Protection{Customer: true, VaultURI: c.id})
		if c.refused != "" {
			if refusal, ok := errors.AsType[*visage.Refusal](err); !ok || refusal.Code != "InvalidKeyVaultProperties" ||
				!strings.Contains(refusal.Message, c.refused) {
				t.Errorf("%q: %v, want a refusal with %q", c.id, err, c.refused)
			}
			continue
		}
		if err != nil || got.Vault != c.vault || got.Key.Name != c.key || got.Key.Version != c.version ||
			got.Key.Vault != safe {
			t.Errorf("%q: %+v, %v", c.id, got, err)
		}
	}
}

// TestProtectedBy checks which resources a page names before a key is disabled, and to whom.
func TestProtectedBy(t *testing.T) {
	w := &inspector{realm{servertest.Start(t, server.Config{}), t}, jwkOf(t, 2048), 0}
	var names []string
	var keys []visage.KeyRef
	for range 3 {
		name, p := w.set(scenario{})
		w.must(w.update(name, w.operator(), p))
		a, err := w.Accounts().Get(t.Context(), name)
		w.must(err)
		w.until(a, func(s custody.Status) bool { return s.Condition == custody.Active })
		named, err := w.Accounts().ReadKey(p)
		w.must(err)
		names, keys = append(names, name), append(keys, named.Key)
	}
	// the first two resources are under the same key then
	first, err := w.Accounts().Get(t.Context(), names[0])
	w.must(err)
	_, err = w.Vaults().UpdateVault(t.Context(), w.operator(), names[1],
		func(v keyvault.Vault) (keyvault.Vault, error) {
			v.Policies = append(v.Policies, keyvault.AccessPolicy{ObjectID: first.Identity.System.PrincipalID,
				Keys: []keyvault.Permission{keyvault.MayGet, keyvault.MayWrap, keyvault.MayUnwrap}})
			return v, nil
		})
	w.must(err)
	if _, err := w.Custody().Enable(t.Context(), spaceOf(first), keys[1],
		visage.PrincipalID(first.Identity.System.PrincipalID)); err != nil {
		t.Fatal(err)
	}
	w.until(first, func(s custody.Status) bool {
		return s.Key.SameKey(keys[1]) && s.Operation.Progress == custody.Succeeded
	})
	w.must(w.Accounts().Delete(t.Context(), w.operator(), names[1]))
	status, err := w.Custody().Status(t.Context(), spaceOf(first))
	w.must(err)
	vault, version, other := keys[1], keys[1], keys[1]
	vault.Name, version.Version, other.Version = "", status.Version, strings.Repeat("f", 32)
	identityOf := first.Identity.System.PrincipalID
	reader := w.as("reader", groupPath+"/"+names[0], identity.Reader)
	for _, c := range []struct {
		what   string
		by     visage.Caller
		of     visage.KeyRef
		as     string
		want   []string
		others int
	}{
		{"the key", w.operator(), keys[1], "", names[:2], 0},
		{"its vault", w.operator(), vault, "", names[:2], 0},
		{"its version", w.operator(), version, "", names[:2], 0},
		{"another version", w.operator(), other, "", nil, 0},
		{"another key", w.operator(), keys[2], "", names[2:], 0},
		{"the key it left", w.operator(), keys[0], "", nil, 0},
		{"the key, to a reader of one", reader, keys[1], "", names[:1], 1},
		{"the key, to a stranger", w.as("nobody", ""), keys[1], "", nil, 2},
		{"its vault, for one identity", w.operator(), vault, strings.ToUpper(identityOf), names[:1], 0},
		{"its vault, for one identity, to a stranger", w.as("nobody", ""), vault, identityOf, nil, 1},
		{"its vault, for another, to a stranger", w.as("nobody", ""), vault, visage.NewUUID().String(), nil, 0},
	} {
		got, err := w.Accounts().ProtectedBy(t.Context(), c.by, c.of, visage.PrincipalID(c.as))
		w.must(err)
		var found []string
		for _, r := range got.Resources {
			found = append(found, r.Name)
			if r.Deleted.IsZero() == (r.Name == names[1]) || r.Version == "" || r.Principal == "" || r.Changing {
				t.Errorf("%s: %+v", c.what, r)
			}
		}
		if !slices.Equal(found, c.want) || got.Others != c.others {
			t.Errorf("%s: %q and %d others, want %q and %d", c.what, found, got.Others, c.want, c.others)
		}
	}
}

// TestNewerVersion checks when a resource under a fixed version is offered a newer one.
func TestNewerVersion(t *testing.T) {
	w := &inspector{realm{servertest.Start(t, server.Config{}), t}, jwkOf(t, 2048), 0}
	name, p := w.set(scenario{})
	admin := w.operator()
	admin.Manager = true
	ref := keyvault.Ref{Vault: name, Name: "k"}
	newer := func(want string, known bool) {
		t.Helper()
		got, certain, err := w.Accounts().NewerVersion(t.Context(), name, false)
		if err != nil || got != want || certain != known {
			t.Errorf("%q, %v, %v; want %q, %v", got, certain, err, want, known)
		}
	}
	add := func(change func(*keyvault.NewKey)) string {
		t.Helper()
		made := keyvault.NewKey{Type: "RSA", Attributes: keyvault.Attributes{Enabled: true}}
		change(&made)
		k, err := w.Vaults().CreateKey(t.Context(), admin, ref, made)
		w.must(err)
		return k.Version
	}
	newer("", true) // under the service's key
	one, err := w.Vaults().Key(t.Context(), admin, ref)
	w.must(err)
	p.KeyVersion = one.Version
	w.must(w.update(name, w.operator(), p))
	a, err := w.Accounts().Get(t.Context(), name)
	w.must(err)
	w.until(a, func(s custody.Status) bool { return s.Condition == custody.Active })
	newer("", true)
	two := add(func(*keyvault.NewKey) {})
	newer(two, true)
	add(func(k *keyvault.NewKey) { k.Enabled = false })
	add(func(k *keyvault.NewKey) { k.Bits = 3072 })
	newer(two, true)
	if got, known, err := w.Accounts().NewerVersion(t.Context(), name, true); err != nil || !known || got != two {
		t.Errorf("asked: %q, %v, %v", got, known, err)
	}
	_, err = w.Vaults().UpdateVault(t.Context(), w.operator(), name, func(v keyvault.Vault) (keyvault.Vault, error) {
		for i := range v.Policies {
			if v.Policies[i].ObjectID == a.Identity.System.PrincipalID {
				v.Policies[i].Keys = []keyvault.Permission{keyvault.MayWrap, keyvault.MayUnwrap}
			}
		}
		return v, nil
	})
	w.must(err)
	newer("", false)
	if _, _, err := w.Accounts().NewerVersion(t.Context(), name, true); err == nil {
		t.Error("a vault that does not describe the key has told of a newer version")
	}
	if got, err := w.Custody().Newest(t.Context(), spaceOf(a)); err == nil {
		t.Errorf("custody says %q", got)
	}
}

// BenchmarkChoices measures a page of choices among a thousand vaults, and among a thousand keys, and the question
// which of a thousand resources a key protects.
func BenchmarkChoices(b *testing.B) {
	s := servertest.Start(b, server.Config{})
	op := s.Operator()
	by := visage.Caller{Manager: true, Principal: visage.Principal{
		Method: "operator", ObjectID: op.ClientID, AppID: op.ClientID, Tenant: op.TenantID,
	}}
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	for i := range 1000 {
		_, err := s.Vaults().CreateVault(b.Context(), by, keyvault.Vault{
			Name: fmt.Sprintf("vault%04d", i), Group: "default", Location: "local", Tenant: op.TenantID,
			PurgeProtection: true,
		})
		must(err)
		_, err = s.Vaults().CreateKey(b.Context(), by, keyvault.Ref{Vault: "vault0000", Name: fmt.Sprintf("k%04d", i)},
			keyvault.NewKey{Type: "EC", Attributes: keyvault.Attributes{Enabled: true}})
		must(err)
		_, err = s.Accounts().Create(b.Context(), by, account.Creation{Name: fmt.Sprintf("shop%04d", i),
			Group: "default", Location: "local", Tier: visage.S0})
		must(err)
	}
	b.Run("vaults", func(b *testing.B) {
		for b.Loop() {
			_, _, err := s.Accounts().VaultChoices(b.Context(), by, "default", "vault0499", 50)
			must(err)
		}
	})
	b.Run("keys", func(b *testing.B) {
		for b.Loop() {
			_, _, err := s.Accounts().KeyChoices(b.Context(), by, "vault0000", "k0499", 50)
			must(err)
		}
	})
	b.Run("protected", func(b *testing.B) {
		for b.Loop() {
			_, err := s.Accounts().ProtectedBy(b.Context(), by, visage.KeyRef{Vault: "https://x.example"}, "")
			must(err)
		}
	})
}
