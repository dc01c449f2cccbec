package account_test

import (
	"context"
	"crypto/rand"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/sealed"
)

// TestMain draws the first randomness of the process outside of any bubble: some FIPS modules time the processor for
// it.
func TestMain(m *testing.M) {
	rand.Read(make([]byte, 1))
	os.Exit(m.Run())
}

// TestDeletedAccountsComeBack checks that a deleted account loses no data and serves no requests.
func TestDeletedAccountsComeBack(t *testing.T) {
	a := open(t, newStore(t, "", sourcetest.NewFake("root")))
	one := create(t, a, "One", visage.S0)
	keys := keysOf(t, a, "one")
	if err := a.Delete(t.Context(), visage.Caller{}, "one"); err != nil {
		t.Fatal(err)
	}
	gone, err := a.GetDeleted(t.Context(), "ONE")
	if err != nil || gone.ID != one.ID || gone.PurgeAt.Sub(gone.Deleted) != account.Retention {
		t.Fatalf("got %+v, %v", gone, err)
	}
	if _, found := a.LookupHost("one"); found {
		t.Error("the host of a deleted account serves")
	}
	_, err = a.Create(t.Context(), visage.Caller{}, account.Creation{Name: "one", Tier: visage.S0})
	wantRefusal(t, err, visage.Conflict, "FlagMustBeSetForRestore")
	_, err = a.Create(t.Context(), visage.Caller{}, account.Creation{Name: "two", Subdomain: "ONE", Tier: visage.S0})
	wantRefusal(t, err, visage.Conflict, "CustomDomainInUse")
	back, err := a.Recover(t.Context(), visage.Caller{}, "one")
	if err != nil || back.ID != one.ID || !back.Deleted.IsZero() || !back.PurgeAt.IsZero() {
		t.Fatalf("got %+v, %v", back, err)
	}
	if keysOf(t, a, "one") != keys {
		t.Error("its keys have changed")
	}
	if _, _, err := a.Resource(t.Context(), keys.Key1, "one.localhost"); err != nil {
		t.Errorf("its key: %v", err)
	}
	_, err = a.Recover(t.Context(), visage.Caller{}, "one")
	wantRefusal(t, err, visage.NotFound, "ResourceNotFound")
}

func TestDeletedFreeAccountHoldsItsPlace(t *testing.T) {
	a := open(t, newStore(t, "", sourcetest.NewFake("root")))
	create(t, a, "free", visage.F0)
	if err := a.Delete(t.Context(), visage.Caller{}, "free"); err != nil {
		t.Fatal(err)
	}
	_, err := a.Create(t.Context(), visage.Caller{},
		account.Creation{Name: "free2", Location: "local", Tier: visage.F0})
	wantRefusal(t, err, visage.Conflict, "CanNotCreateMultipleFreeAccounts")
	_, err = a.Create(t.Context(), visage.Caller{},
		account.Creation{Name: "free2", Location: "elsewhere", Tier: visage.F0})
	if err != nil {
		t.Errorf("a free account in another location: %v", err)
	}
}

// TestDeletedAccountsArePurgedInTime checks that an account is purged when its retention ends, and not before.
func TestDeletedAccountsArePurgedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, err := sealed.Open(t.Context(), sealed.Config{
			Engine:     "memory:",
			Protectors: []sealed.Protector{{Name: "test", Kind: "fake", Source: sourcetest.NewFake("root")}},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := store.Close(); err != nil {
				t.Error(err)
			}
		}()
		a := open(t, store)
		one := create(t, a, "one", visage.S0)
		create(t, a, "two", visage.S0)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- a.Run(ctx) }()
		if err := a.Delete(t.Context(), visage.Caller{}, "one"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(account.Retention / 2)
		if err := a.Delete(t.Context(), visage.Caller{}, "two"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(account.Retention/2 - time.Second)
		synctest.Wait()
		if all, err := a.Deleted(t.Context()); err != nil || len(all) != 2 {
			t.Errorf("a second before: %v, %v", all, err)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if all, err := a.Deleted(t.Context()); err != nil || len(all) != 1 || all[0].Name != "two" {
			t.Errorf("a second after: %v, %v", all, err)
		}
		if _, found := a.LookupID(one.ID); found {
			t.Error("a purged account still exists")
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestKeysCanBeRefused(t *testing.T) {
	a := open(t, newStore(t, "", sourcetest.NewFake("root")))
	create(t, a, "one", visage.S0)
	keys := keysOf(t, a, "one")
	set := func(refused bool) {
		t.Helper()
		_, err := a.Update(t.Context(), visage.Caller{}, "one", func(account.Account) (account.Change, error) {
			return account.Change{LocalAuthDisabled: &refused}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	set(true)
	_, _, err := a.Resource(t.Context(), keys.Key1, "")
	wantRefusal(t, err, visage.Denied, "AuthenticationTypeDisabled")
	set(false)
	if _, _, err := a.Resource(t.Context(), keys.Key1, ""); err != nil {
		t.Error(err)
	}
}

// TestSubdomainIsChosenOnce checks that an account's host is the chosen subdomain, which never changes, and without one
// its name, if that is a valid host name.
func TestSubdomainIsChosenOnce(t *testing.T) {
	a := open(t, newStore(t, "", sourcetest.NewFake("root")))
	create(t, a, "one", visage.S0)
	create(t, a, "no.label", visage.S0)
	choose := func(name, label string) error {
		_, err := a.Update(t.Context(), visage.Caller{}, name, func(account.Account) (account.Change, error) {
			return account.Change{Subdomain: &label}, nil
		})
		return err
	}
	if _, found := a.LookupHost("ONE"); !found {
		t.Error("an account without a subdomain has no host")
	}
	if _, found := a.LookupHost("no.label"); found {
		t.Error("a name with a dot is a host")
	}
	wantRefusal(t, choose("no.label", "One"), visage.Conflict, "CustomDomainInUse")
	wantRefusal(t, choose("no.label", "-"), visage.Invalid, "InvalidSubdomain")
	if err := choose("one", "first"); err != nil {
		t.Fatal(err)
	}
	if got, found := a.LookupHost("First"); !found || got.Name != "one" {
		t.Errorf("got %+v, %t", got, found)
	}
	if _, found := a.LookupHost("one"); found {
		t.Error("the name is still a host")
	}
	if err := choose("one", "FIRST"); err != nil {
		t.Errorf("the same subdomain again: %v", err)
	}
	wantRefusal(t, choose("one", "other"), visage.Invalid, "SubdomainCannotBeChanged")
	if err := choose("no.label", "one"); err != nil {
		t.Errorf("a subdomain that became free: %v", err)
	}
}
