package account_test

import (
	"strings"
	"testing"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/sealed"
)

// TestKeyIsChangedWithoutAnApproval checks that a key in use can be changed or kept after an approval is withdrawn: a
// customer must be able to replace an old version.
func TestKeyIsChangedWithoutAnApproval(t *testing.T) { withCustody(t, keyIsChangedWithoutAnApproval) }

func keyIsChangedWithoutAnApproval(t *testing.T, h accountsWithCustody) {
	if err := h.protect(mine); err != nil {
		t.Fatal(err)
	}
	h.settled()
	if _, err := h.Access().Withdraw(t.Context(), visage.Caller{}, "place"); err != nil {
		t.Fatal(err)
	}
	exact := mine
	exact.KeyVersion = version
	for range 2 {
		if err := h.protect(exact); err != nil {
			t.Errorf("another version: %v", err)
		}
		if _, e := h.settled(); e.Key.Version != version {
			t.Errorf("got %+v", e)
		}
	}
	if err := h.protect(account.Protection{}); err != nil {
		t.Fatal(err)
	}
	h.settled()
	wantRefusal(t, h.protect(mine), visage.Denied, "CustomerManagedKeyNotApproved")
}

// TestProtectionsAreRefusedInOrder compares the order of refusals with the contract, §5.2.
func TestProtectionsAreRefusedInOrder(t *testing.T) { withCustody(t, protectionsAreRefusedInOrder) }

func protectionsAreRefusedInOrder(t *testing.T, h accountsWithCustody) {
	p := mine
	p.Register, p.ClientID = false, "somebody"
	wantRefusal(t, h.protect(p), visage.Invalid, "IdentityRequired")
	p.Register = true
	wantRefusal(t, h.protect(p), visage.Invalid, "UserAssignedIdentityNotSupported")
	p.ClientID = ""
	p.VaultURI, p.KeyName, p.KeyVersion = safeAddress+"/keys/k/"+version, "", strings.Repeat("f", 32)
	wantRefusal(t, h.protect(p), visage.Invalid, "InvalidKeyVaultProperties")
	h.identities.grant = false
	p = mine
	p.VaultURI = "https://remote.example"
	wantRefusal(t, h.protect(p), visage.Invalid, "KeyVaultRegionMismatch")
	if h.identities.made != 0 {
		t.Errorf("%d identities were created before refusals that need none", h.identities.made)
	}
	wantRefusal(t, h.protect(mine), visage.Invalid, "KeyVaultAccessDenied")
}

// TestTwoChangesAtOnce checks that no other change of an account runs while its key changes, and that a condition on
// its state holds until the change is stored.
func TestTwoChangesAtOnce(t *testing.T) { withCustody(t, twoChangesAtOnce) }

func twoChangesAtOnce(t *testing.T, h accountsWithCustody) {
	tag := func(value string) error {
		_, err := h.Update(t.Context(), visage.Caller{}, "vip", func(account.Account) (account.Change, error) {
			return account.Change{Tags: map[string]string{"protected": value}}, nil
		})
		return err
	}
	h.identities.during = func() {
		wantRefusal(t, tag("meanwhile"), visage.Conflict, "RequestConflict")
		wantRefusal(t, h.protect(account.Protection{}), visage.Conflict, "RequestConflict")
		wantRefusal(t, h.Delete(t.Context(), visage.Caller{}, "vip"), visage.Conflict, "RequestConflict")
	}
	if err := h.protect(mine); err != nil {
		t.Fatal(err)
	}
	if a, e := h.settled(); a.Tags["protected"] != "true" || e.Status.Condition != custody.Active {
		t.Errorf("got %+v, %+v", a, e)
	}
	if err := tag("after"); err != nil {
		t.Error(err)
	}
}

// TestWrongIdentityChangesNoKey checks that other mistakes in a request are found before the key changes.
func TestWrongIdentityChangesNoKey(t *testing.T) { withCustody(t, wrongIdentityChangesNoKey) }

func wrongIdentityChangesNoKey(t *testing.T, h accountsWithCustody) {
	if err := h.protect(mine); err != nil {
		t.Fatal(err)
	}
	before, _ := h.settled()
	for _, p := range []account.Protection{{},
		{Customer: true, VaultURI: safeAddress, KeyName: "k", KeyVersion: version}} {
		_, err := h.Update(t.Context(), visage.Caller{}, "vip", func(account.Account) (account.Change, error) {
			identity := account.IdentitySpec{System: true, Users: []string{"/nobody"}}
			return account.Change{Protection: &p, Identity: &identity}, nil
		})
		wantRefusal(t, err, visage.Invalid, "FailedIdentityOperation")
		if a, e := h.settled(); e.Key.Name != "k" || e.Key.Version != "" || a.Revision != before.Revision {
			t.Errorf("after a refusal: %+v, %+v", a, e)
		}
	}
}

// TestDeletedAccountsAskNoKey checks that the data of a deleted account is not open and its customer's key is not
// asked, also after a restart; after recovery it opens when the key unwraps.
func TestDeletedAccountsAskNoKey(t *testing.T) { withCustody(t, deletedAccountsAskNoKey) }

func deletedAccountsAskNoKey(t *testing.T, h accountsWithCustody) {
	if err := h.protect(mine); err != nil {
		t.Fatal(err)
	}
	a, _ := h.settled()
	open := func() error {
		space := h.identities.store.Space(sealed.SpaceID(a.ID))
		return space.View(t.Context(), func(sealed.Reader) error { return nil })
	}
	if err := open(); err != nil {
		t.Fatal(err)
	}
	if err := h.Delete(t.Context(), visage.Caller{}, "vip"); err != nil {
		t.Fatal(err)
	}
	h.identities.vault.asked.Store(0)
	rest := func(what string) {
		t.Helper()
		time.Sleep(time.Hour)
		if err := open(); err == nil {
			t.Errorf("%s: its data is open", what)
		}
		if n := h.identities.vault.asked.Load(); n != 0 {
			t.Errorf("%s: its key was asked %d times", what, n)
		}
	}
	rest("deleted")
	h = h.restarted()
	rest("deleted, after a restart")
	if got := h.custody.Conditions(); got[custody.Locked]+got[custody.Unavailable] != 0 {
		t.Errorf("conditions: %v", got)
	}
	if _, err := h.Recover(t.Context(), visage.Caller{}, "vip"); err != nil {
		t.Fatal(err)
	}
	if err := open(); err != nil {
		t.Errorf("recovered: %v", err)
	}
	if e := h.until(custody.Active); e.Key.Name != "k" {
		t.Errorf("recovered: %+v", e)
	}
	if err := h.Delete(t.Context(), visage.Caller{}, "vip"); err != nil {
		t.Fatal(err)
	}
	h.identities.vault.access.Delete(visage.PrincipalID(a.Identity.System.PrincipalID))
	if _, err := h.Recover(t.Context(), visage.Caller{}, "vip"); err != nil {
		t.Fatal(err)
	}
	if err := open(); err == nil {
		t.Error("its data is open after a recovery without access")
	}
	h.until(custody.Revoked)
}

// TestUnreadableKeysAreOneAccountsMisfortune checks that an account whose keys cannot be read is listed, deleted and
// purged like others.
func TestUnreadableKeysAreOneAccountsMisfortune(t *testing.T) {
	withCustody(t, unreadableKeysAreOneAccountsMisfortune)
}

func unreadableKeysAreOneAccountsMisfortune(t *testing.T, h accountsWithCustody) {
	if err := h.protect(mine); err != nil {
		t.Fatal(err)
	}
	a, _ := h.settled()
	if err := h.identities.store.Spaces().Drop(t.Context(), sealed.SpaceID(a.ID)); err != nil {
		t.Fatal(err)
	}
	h = h.restarted()
	e, err := h.Encryption(t.Context(), a)
	if err != nil || !e.Said || e.VaultURI != safeAddress+"/" || e.Status.Condition != custody.Unavailable ||
		e.Status.Reason == "" {
		t.Errorf("got %+v, %v", e, err)
	}
	for range 2 {
		if err := h.Delete(t.Context(), visage.Caller{}, "vip"); err != nil {
			t.Error(err)
		}
		if _, err := h.Recover(t.Context(), visage.Caller{}, "vip"); err != nil {
			t.Error(err)
		}
	}
	if err := h.Delete(t.Context(), visage.Caller{}, "vip"); err != nil {
		t.Error(err)
	}
	if err := h.Purge(t.Context(), visage.Caller{}, "vip"); err != nil {
		t.Error(err)
	}
}

// TestSameKeyWhileRevoked checks that a client that sends a whole resource back to change its tags does not change the
// key, even while the key is refused, named with a version or without; registering again restores the access.
func TestSameKeyWhileRevoked(t *testing.T) {
	for _, named := range []string{"", version} {
		t.Run("version "+named, func(t *testing.T) {
			withCustody(t, func(t *testing.T, h accountsWithCustody) { sameKeyWhileRevoked(t, h, named) })
		})
	}
}

func sameKeyWhileRevoked(t *testing.T, h accountsWithCustody, named string) {
	key := mine
	key.KeyVersion = named
	if err := h.protect(key); err != nil {
		t.Fatal(err)
	}
	a, _ := h.settled()
	h.identities.vault.access.Delete(visage.PrincipalID(a.Identity.System.PrincipalID))
	h.until(custody.Revoked)
	again := key
	again.Register = false
	if err := h.protect(again); err != nil {
		t.Errorf("the same key again: %v", err)
	}
	other := again
	other.KeyVersion = strings.Repeat("f", 32)
	wantRefusal(t, h.protect(other), visage.Conflict, "EncryptionKeyRevoked")
	wantRefusal(t, h.protect(account.Protection{}), visage.Conflict, "EncryptionKeyRevoked")
	if _, e := h.settled(); e.Status.Condition != custody.Revoked {
		t.Errorf("got %+v", e.Status)
	}
	if err := h.protect(key); err != nil {
		t.Errorf("registered again: %v", err)
	}
	h.until(custody.Active)
}

// TestSubdomainIsKeptFor checks that a subdomain that an account gets together with a key is reserved while the key is
// asked: a change is refused before the key changes, or not at all.
func TestSubdomainIsKeptFor(t *testing.T) { withCustody(t, subdomainIsKeptFor) }

func subdomainIsKeptFor(t *testing.T, h accountsWithCustody) {
	wanted := "wanted"
	create := func(name, subdomain string) error {
		_, err := h.Create(t.Context(), visage.Caller{}, account.Creation{Name: name, Location: "westeurope",
			Tier: visage.S0, Subdomain: subdomain})
		return err
	}
	if err := create("other", ""); err != nil {
		t.Fatal(err)
	}
	h.identities.during = func() {
		wantRefusal(t, create("late", strings.ToUpper(wanted)), visage.Conflict, "CustomDomainInUse")
		wantRefusal(t, create(wanted, ""), visage.Conflict, "CustomDomainInUse")
		_, err := h.Update(t.Context(), visage.Caller{}, "other", func(account.Account) (account.Change, error) {
			taken := wanted
			return account.Change{Subdomain: &taken}, nil
		})
		wantRefusal(t, err, visage.Conflict, "CustomDomainInUse")
	}
	change := func() (account.Account, error) {
		return h.Update(t.Context(), visage.Caller{}, "vip", func(account.Account) (account.Change, error) {
			subdomain, protection := wanted, mine
			return account.Change{Subdomain: &subdomain, Protection: &protection}, nil
		})
	}
	h.identities.grant = false // the key refuses
	if _, err := change(); err == nil {
		t.Fatal("the key was not asked")
	}
	h.identities.during = nil
	if err := create(wanted, ""); err != nil {
		t.Errorf("after the refusal: %v", err)
	}
	_, err := change()
	wantRefusal(t, err, visage.Conflict, "CustomDomainInUse")
	wanted, h.identities.grant = "second", true
	if a, err := change(); err != nil || a.Subdomain != wanted {
		t.Errorf("got %+v, %v", a, err)
	}
}
