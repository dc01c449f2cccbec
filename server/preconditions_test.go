package server_test

import (
	"cmp"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/keyvault"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// scenario is an account, a vault and a key that differ from what a customer-managed key requires.
type scenario struct {
	tier                   visage.Tier
	unapproved, noIdentity bool
	address                string // in place of that of the key
	noVault, unprotected   bool
	region, tenant         string
	firewall               bool
	missing                []keyvault.Permission
	roles                  bool // roles decide in the vault, and the identity has none
	noKey, disabled        bool
	jwk                    keyvault.JWK
	notBefore, expires     time.Time
	operations             []keyvault.Operation
	present                bool // the account is under another key, which is disabled
}

// violations break one precondition each. The first word of a name is the precondition that CheckProtection must name.
func violations(other keyvault.JWK) map[string]func(*scenario) {
	lack := func(p keyvault.Permission) func(*scenario) {
		return func(s *scenario) { s.missing = append(s.missing, p) }
	}
	now := time.Now()
	return map[string]func(*scenario){
		"tier-allows":         func(s *scenario) { s.tier = visage.S0 },
		"access-approved":     func(s *scenario) { s.unapproved = true },
		"identity-on":         func(s *scenario) { s.noIdentity = true },
		"key-named":           func(s *scenario) { s.address = "https://v.vault.azure.net/secrets/k" },
		"vault-known":         func(s *scenario) { s.noVault = true },
		"vault-known foreign": func(s *scenario) { s.address = "https://v.vault.azure.net/keys/k" },
		"purge-protection":    func(s *scenario) { s.unprotected = true },
		"same-region":         func(s *scenario) { s.region = "mars" },
		"same-tenant":         func(s *scenario) { s.tenant = "11111111-2222-4333-8444-555555555555" },
		"firewall-admits":     func(s *scenario) { s.firewall = true },
		"may-get":             lack(keyvault.MayGet),
		"may-wrap":            lack(keyvault.MayWrap),
		"may-unwrap":          lack(keyvault.MayUnwrap),
		"may-get by-role":     func(s *scenario) { s.roles = true },
		"key-exists":          func(s *scenario) { s.noKey = true },
		"key-type":            func(s *scenario) { s.jwk = other },
		"key-enabled":         func(s *scenario) { s.disabled = true },
		"key-valid expired":   func(s *scenario) { s.expires, s.notBefore = now.Add(-time.Hour), time.Time{} },
		"key-valid early":     func(s *scenario) { s.expires, s.notBefore = time.Time{}, now.Add(time.Hour) },
		"key-operations": func(s *scenario) {
			s.operations = []keyvault.Operation{keyvault.Encrypt, keyvault.Unwrap}
		},
		"present-key-answers": func(s *scenario) { s.present = true },
	}
}

// inspector sets scenarios up on one server.
type inspector struct {
	realm
	good keyvault.JWK
	n    int
}

func jwkOf(t *testing.T, bits int) keyvault.JWK {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return keyvault.JWK{
		Type: "RSA", N: k.N.Bytes(), E: big.NewInt(int64(k.E)).Bytes(), D: k.D.Bytes(), P: k.Primes[0].Bytes(),
		Q: k.Primes[1].Bytes(),
	}
}

// operator is the caller with every right.
func (w *inspector) operator() visage.Caller {
	op := w.Operator()
	return visage.Caller{Principal: visage.Principal{
		Method: "operator", ObjectID: op.ClientID, AppID: op.ClientID, Tenant: op.TenantID,
	}}
}

func (w *inspector) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// set makes the account, the vault and the key of a scenario, and returns the account's name and the requested key.
func (w *inspector) set(s scenario) (name string, p account.Protection) {
	w.t.Helper()
	w.n++
	name = fmt.Sprintf("acc%d", w.n)
	ctx, accounts, region := w.t.Context(), w.Accounts(), name // its own region, since approvals are for regions
	if s.tier == "" {
		s.tier = visage.E0
		_, err := accounts.Access().Submit(ctx, w.operator(), name,
			account.Asked{Service: "Face", Region: region, Contact: "c", Reason: "r"})
		w.must(err)
		_, err = accounts.Access().Approve(ctx, w.operator(), name)
		w.must(err)
	}
	made, err := accounts.Create(ctx, w.operator(), account.Creation{
		Name: name, Group: "default", Location: region, Tier: s.tier,
		Identity: account.IdentitySpec{System: !s.noIdentity || s.present},
	})
	w.must(err)
	if s.present && s.tier == visage.E0 {
		w.protect(made, s)
	}
	if s.unapproved && s.tier == visage.E0 {
		_, err := accounts.Access().Withdraw(ctx, w.operator(), name)
		w.must(err)
	}
	p = account.Protection{Customer: true, VaultURI: w.vaultAddress(name), KeyName: "k"}
	if s.address != "" {
		p.VaultURI, p.KeyName = s.address, ""
	}
	if s.noVault {
		return name, p
	}
	if s.region == "" {
		s.region = region
	}
	w.makeVault(name, s, made.Identity.System.PrincipalID)
	if s.noKey {
		return name, p
	}
	if s.jwk.Type == "" {
		s.jwk = w.good
	}
	w.importKey(name, keyvault.ImportedKey{JWK: s.jwk, Operations: s.operations, Attributes: keyvault.Attributes{
		Enabled: !s.disabled, NotBefore: s.notBefore, Expires: s.expires,
	}}, s.tenant)
	return name, p
}

func (w *inspector) vaultAddress(name string) string {
	return "https://" + name + ".vault." + strings.TrimPrefix(w.URL, "https://")
}

// makeVault makes a vault that gives an identity what it needs, except for what is missing, and the operator
// everything.
func (w *inspector) makeVault(name string, s scenario, who string) {
	w.t.Helper()
	v := keyvault.Vault{
		Name: name, Group: "default", Location: s.region, Tenant: cmp.Or(s.tenant, w.Operator().TenantID),
		PurgeProtection: !s.unprotected, RBAC: s.roles,
		Network:  visage.NetworkRules{Set: s.firewall, Deny: s.firewall, NoBypass: s.firewall},
		Policies: []keyvault.AccessPolicy{{ObjectID: w.Operator().ClientID, Keys: []keyvault.Permission{keyvault.All}}},
	}
	if who != "" {
		allowed := slices.DeleteFunc([]keyvault.Permission{keyvault.MayGet, keyvault.MayWrap, keyvault.MayUnwrap},
			func(p keyvault.Permission) bool { return slices.Contains(s.missing, p) })
		v.Policies = append(v.Policies, keyvault.AccessPolicy{ObjectID: who, Keys: allowed})
	}
	_, err := w.Vaults().CreateVault(w.t.Context(), w.operator(), v)
	w.must(err)
}

func (w *inspector) importKey(vault string, k keyvault.ImportedKey, tenant string) {
	w.t.Helper()
	by := w.operator()
	by.Manager, by.Tenant = true, cmp.Or(tenant, by.Tenant)
	_, err := w.Vaults().ImportKey(w.t.Context(), by, keyvault.Ref{Vault: vault, Name: "k"}, k)
	w.must(err)
}

// protect puts an account under a key of another vault and disables that key. Then it takes the account's identity, if
// the scenario has none.
func (w *inspector) protect(a account.Account, s scenario) {
	w.t.Helper()
	vault := "old-" + a.Name
	w.makeVault(vault, scenario{region: a.Location}, a.Identity.System.PrincipalID)
	w.importKey(vault, keyvault.ImportedKey{JWK: w.good, Attributes: keyvault.Attributes{Enabled: true}}, "")
	w.must(w.update(a.Name, w.operator(), account.Protection{
		Customer: true, VaultURI: w.vaultAddress(vault), KeyName: "k",
	}))
	w.until(a, func(s custody.Status) bool { return s.Condition == custody.Active })
	by, off := w.operator(), false
	by.Manager = true
	_, err := w.Vaults().UpdateKey(w.t.Context(), by, keyvault.Ref{Vault: vault, Name: "k"},
		keyvault.KeyChange{Enabled: &off})
	w.must(err)
	w.until(a, func(s custody.Status) bool { return s.Condition == custody.Revoked })
	if s.noIdentity {
		_, err := w.Accounts().Update(w.t.Context(), w.operator(), a.Name,
			func(account.Account) (account.Change, error) {
				return account.Change{Identity: &account.IdentitySpec{}}, nil
			})
		w.must(err)
	}
}

func spaceOf(a account.Account) sealed.SpaceID { return sealed.SpaceID(a.ID) }

func (w *inspector) until(a account.Account, is func(custody.Status) bool) {
	w.t.Helper()
	o := officer{Server: w.Server, space: spaceOf(a)}
	o.until(w.t, "the change of the key's state", is)
}

func (w *inspector) update(name string, by visage.Caller, p account.Protection) error {
	_, err := w.Accounts().Update(w.t.Context(), by, name, func(account.Account) (account.Change, error) {
		return account.Change{Protection: &p}, nil
	})
	return err
}

// inspect checks a protection and then requests it, and compares both.
func (w *inspector) inspect(by visage.Caller, s scenario, register bool, want ...string) {
	w.t.Helper()
	name, p := w.set(s)
	p.Register = register
	before, err := w.Accounts().Get(w.t.Context(), name)
	w.must(err)
	found, err := w.Accounts().CheckProtection(w.t.Context(), by, name, p)
	w.must(err)
	after, err := w.Accounts().Get(w.t.Context(), name)
	w.must(err)
	if !reflect.DeepEqual(before, after) {
		w.t.Errorf("the check has changed the account: %+v, %+v", before, after)
	}
	err = w.update(name, by, p)
	refusal, _ := errors.AsType[*visage.Refusal](err)
	first, unmet := found.FirstUnmet()
	switch {
	case err != nil && refusal == nil:
		w.t.Errorf("enable: %v", err)
	case unmet != (err != nil) && (unmet || found.Ready()):
		w.t.Errorf("the check found %+v, enabling says %v", found.Findings, err)
	case unmet && (first.Refusal.Code != refusal.Code || first.Refusal.Message != refusal.Message && !s.noIdentity):
		w.t.Errorf("the check found %s: %v; enabling says %v", first.Precondition, first.Refusal, err)
	}
	for _, name := range want {
		name, _, _ := strings.Cut(name, " ")
		of := account.Precondition(name)
		i := slices.IndexFunc(found.Findings, func(f account.Finding) bool { return f.Precondition == of })
		if state := found.Findings[i].State; state != account.Unmet {
			w.t.Errorf("the check found that %s is %s: %+v", of, state, found.Findings)
		}
	}
}

// TestCheckAgreesWithEnabling breaks each precondition alone and all pairs of them, and checks that the first one that
// CheckProtection finds unmet is the one for which enabling is refused, in the same words, and that enabling succeeds
// when all are met.
func TestCheckAgreesWithEnabling(t *testing.T) {
	w := &inspector{realm{servertest.Start(t, server.Config{}), t}, jwkOf(t, 2048), 0}
	w.inspect(w.operator(), scenario{}, false)
	all := violations(jwkOf(t, 3072))
	names := slices.Sorted(maps.Keys(all))
	for i, one := range names {
		t.Run(one, func(t *testing.T) {
			w := &inspector{realm{w.Server, t}, w.good, 100 * (i + 1)}
			var s scenario
			all[one](&s)
			w.inspect(w.operator(), s, false, one)
			s = scenario{}
			all[one](&s)
			w.inspect(w.operator(), s, true)
			if testing.Short() {
				return
			}
			for j, other := range names[i+1:] {
				if (i+j)%4 != 0 && os.Getenv("VISAGE_ALL_PAIRS") == "" {
					continue // a quarter of the pairs: all take a minute and a half
				}
				var s scenario
				all[one](&s)
				all[other](&s)
				w.inspect(w.operator(), s, false)
			}
		})
	}
}

// mend carries out a remedy as a caller.
func (w *inspector) mend(by visage.Caller, r account.Remedy) error {
	ctx, accounts, vaults := w.t.Context(), w.Accounts(), w.Vaults()
	vault := func(change func(*keyvault.Vault)) error {
		_, err := vaults.UpdateVault(ctx, by, r.Vault, func(v keyvault.Vault) (keyvault.Vault, error) {
			change(&v)
			return v, nil
		})
		return err
	}
	key := func(c keyvault.KeyChange) error {
		_, err := vaults.UpdateKey(ctx, by, keyvault.Ref{Vault: r.Vault, Name: r.Key, Version: r.Version}, c)
		return err
	}
	on := true
	switch r.Kind {
	case account.RequestAccess:
		if _, err := accounts.Access().Submit(ctx, by, "again-"+r.Resource, account.Asked{
			Service: "Face", Region: r.Region, Contact: "c", Reason: "r"}); err != nil {
			return err
		}
		_, err := accounts.Access().Approve(ctx, by, "again-"+r.Resource)
		return err
	case account.SwitchIdentityOn:
		_, err := accounts.Update(ctx, by, r.Resource, func(account.Account) (account.Change, error) {
			return account.Change{Identity: &account.IdentitySpec{System: true}}, nil
		})
		return err
	case account.SwitchPurgeProtectionOn:
		return vault(func(v *keyvault.Vault) { v.PurgeProtection = true })
	case account.AllowTrustedServices:
		return vault(func(v *keyvault.Vault) { v.Network.NoBypass = false })
	case account.GrantAccess:
		if r.Role != "" {
			_, err := w.Directory().Assign(ctx, "", string(r.Principal), r.Role,
				"/subscriptions/"+w.Operator().SubscriptionID+vaultsPath+"/"+r.Vault)
			return err
		}
		return vault(func(v *keyvault.Vault) {
			given := keyvault.AccessPolicy{ObjectID: string(r.Principal)}
			for _, p := range r.Permissions {
				given.Keys = append(given.Keys, keyvault.Permission(p))
			}
			v.Policies = append(slices.DeleteFunc(v.Policies, func(p keyvault.AccessPolicy) bool {
				return p.ObjectID == given.ObjectID
			}), given)
		})
	case account.CreateKey:
		_, err := vaults.CreateKey(ctx, by, keyvault.Ref{Vault: r.Vault, Name: r.Key},
			keyvault.NewKey{Type: "RSA", Bits: 2048, Attributes: keyvault.Attributes{Enabled: true}})
		return err
	case account.RecoverKey:
		_, err := vaults.RecoverKey(ctx, by, keyvault.Ref{Vault: r.Vault, Name: r.Key})
		return err
	case account.RecoverVault:
		_, err := vaults.RecoverVault(ctx, by, r.Vault)
		return err
	case account.EnableKey:
		return key(keyvault.KeyChange{Enabled: &on})
	case account.ChangeKeyDates:
		return key(keyvault.KeyChange{NotBefore: &time.Time{}, Expires: &time.Time{}})
	case account.AllowKeyOperations:
		var all []keyvault.Operation
		for _, op := range r.Operations {
			all = append(all, keyvault.Operation(op))
		}
		return key(keyvault.KeyChange{Operations: all})
	case account.UnlockResource:
		return accounts.Unlock(ctx, by, r.Resource)
	}
	return fmt.Errorf("no such operation: %s", r.Kind)
}

// TestRemediesMend checks that every remedy that is offered to a caller works with the caller's own rights and mends
// its precondition, and that a caller without roles is offered none.
func TestRemediesMend(t *testing.T) {
	w := &inspector{realm{servertest.Start(t, server.Config{}), t}, jwkOf(t, 2048), 0}
	stranger := w.operator()
	stranger.Method, stranger.ObjectID, stranger.AppID = "token", visage.NewUUID().String(), visage.NewUUID().String()
	all := violations(jwkOf(t, 3072))
	all["key-exists deleted"] = all["key-type"] // it is deleted below
	all["vault-known deleted"] = func(*scenario) {}
	delete(all, "present-key-answers") // only the other key's owner can mend it
	for name, kind := range map[string]account.RemedyKind{
		"access-approved": account.RequestAccess, "identity-on": account.SwitchIdentityOn,
		"purge-protection": account.SwitchPurgeProtectionOn, "firewall-admits": account.AllowTrustedServices,
		"may-get": account.GrantAccess, "may-wrap": account.GrantAccess, "may-unwrap": account.GrantAccess,
		"may-get by-role": account.GrantAccess, "key-exists": account.CreateKey, "key-enabled": account.EnableKey,
		"key-exists deleted": account.RecoverKey, "vault-known deleted": account.RecoverVault,
		"key-valid expired": account.ChangeKeyDates, "key-valid early": account.ChangeKeyDates,
		"key-operations": account.AllowKeyOperations,
		"tier-allows":    "", "key-named": "", "vault-known foreign": "", "same-region": "", "key-type": "",
	} {
		t.Run(name, func(t *testing.T) {
			w.t, w.realm.t = t, t
			var s scenario
			all[name](&s)
			if strings.HasSuffix(name, "deleted") {
				s = scenario{}
			}
			resource, p := w.set(s)
			admin := w.operator()
			admin.Manager = true
			if name == "key-exists deleted" {
				_, err := w.Vaults().DeleteKey(t.Context(), admin, keyvault.Ref{Vault: resource, Name: "k"})
				w.must(err)
			}
			if name == "vault-known deleted" {
				_, err := w.Vaults().DeleteVault(t.Context(), admin, resource)
				w.must(err)
			}
			found, err := w.Accounts().CheckProtection(t.Context(), stranger, resource, p)
			w.must(err)
			for _, f := range found.Findings {
				if f.Remedies != nil {
					t.Errorf("a stranger is offered %+v", f)
				}
			}
			by := w.operator()
			found, err = w.Accounts().CheckProtection(t.Context(), by, resource, p)
			w.must(err)
			first, unmet := found.FirstUnmet()
			if kind == "" && unmet && first.Remedies == nil {
				return
			}
			for !found.Ready() {
				first, unmet := found.FirstUnmet()
				if !unmet || len(first.Remedies) != 1 || first.Remedies[0].Kind != kind && name != "identity-on" {
					t.Fatalf("the check found %+v, want the remedy %s", found.Findings, kind)
				}
				w.must(w.mend(by, first.Remedies[0]))
				before := first.Precondition
				found, err = w.Accounts().CheckProtection(t.Context(), by, resource, p)
				w.must(err)
				if first, unmet := found.FirstUnmet(); unmet && first.Precondition == before {
					t.Fatalf("%s is not mended: %+v", before, first)
				}
			}
			w.must(w.update(resource, by, p))
		})
	}
}

// TestCheckWithRegistering checks what a check says that includes what Update does on the way: with the rights for it,
// that it will be met; without, that it is unmet.
func TestCheckWithRegistering(t *testing.T) {
	w := &inspector{realm{servertest.Start(t, server.Config{}), t}, jwkOf(t, 2048), 0}
	state := func(found account.Preflight, of account.Precondition) account.State {
		i := slices.IndexFunc(found.Findings, func(f account.Finding) bool { return f.Precondition == of })
		return found.Findings[i].State
	}
	for _, roles := range []bool{false, true} {
		name, p := w.set(scenario{noIdentity: true, roles: roles})
		p.Register = true
		manager, err := w.Directory().CreateApplication(t.Context(),
			identity.Creation{Tenant: w.Operator().TenantID, Name: "manager-" + name})
		w.must(err)
		_, err = w.Directory().Assign(t.Context(), "", manager.ID, identity.CognitiveContributor,
			"/subscriptions/"+w.Operator().SubscriptionID)
		w.must(err)
		by := visage.Caller{Principal: visage.Principal{Method: "token", ObjectID: manager.ID, AppID: manager.ClientID,
			Tenant: w.Operator().TenantID}}
		found, err := w.Accounts().CheckProtection(t.Context(), by, name, p)
		w.must(err)
		first, unmet := found.FirstUnmet()
		if !unmet || first.Precondition != custody.MayGet || first.Remedies != nil ||
			state(found, account.IdentityOn) != account.WillBeMet || state(found, custody.KeyType) != account.NotKnown {
			t.Errorf("without rights in the vault: %+v", found.Findings)
		}
		if err := w.update(name, by, p); err == nil {
			t.Error("a caller without rights in the vault has enabled the key")
		}
		found, err = w.Accounts().CheckProtection(t.Context(), w.operator(), name, p)
		w.must(err)
		if _, unmet := found.FirstUnmet(); unmet || state(found, custody.MayWrap) != account.WillBeMet ||
			state(found, custody.KeyType) != account.Met || state(found, custody.RoundTrip) != account.NotKnown {
			t.Errorf("with all rights: %+v", found.Findings)
		}
		w.must(w.update(name, w.operator(), p))
		a, err := w.Accounts().Get(t.Context(), name)
		w.must(err)
		w.until(a, func(s custody.Status) bool { return s.Condition == custody.Active })
		found, err = w.Accounts().CheckProtection(t.Context(), w.operator(), name, p)
		w.must(err)
		if found.InUse || !found.Ready() { // without a version, a newer one may be there
			t.Errorf("in use: %+v", found)
		}
	}
}
