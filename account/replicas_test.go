package account_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/sealed/follow"
)

// replicas runs a test on the accounts of two processes over one store, in a bubble with its own clock.
func replicas(t *testing.T, test func(t *testing.T, a, b *account.Accounts, stores [2]*sealed.Store)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		src := sourcetest.NewFake("root")
		var both []*account.Accounts
		var stores [2]*sealed.Store
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		for i := range stores {
			store, err := sealed.Open(t.Context(), sealed.Config{Engine: "memory:" + t.Name(), Shared: true,
				Protectors: []sealed.Protector{{Name: "test", Kind: "fake", Source: src}}})
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := store.Close(); err != nil {
					t.Error(err)
				}
			}()
			stores[i] = store
			a := open(t, store)
			running.Go(func() {
				if err := a.Run(ctx); err != nil {
					t.Error(err)
				}
			})
			both = append(both, a)
		}
		defer running.Wait()
		defer stop()
		test(t, both[0], both[1], stores)
	})
}

// wait is how long a change of one process may be unknown to the other.
const wait = follow.Every + 50*time.Millisecond

func TestKeysAreOfAllProcesses(t *testing.T) {
	replicas(t, func(t *testing.T, a, b *account.Accounts, _ [2]*sealed.Store) {
		create(t, a, "one", visage.S0)
		keys := keysOf(t, a, "one")
		if _, _, err := b.Resource(t.Context(), keys.Key1, ""); err != nil {
			t.Errorf("a key of a resource that the other process has made: %v", err)
		}
		fresh, err := a.Regenerate(t.Context(), visage.Caller{}, "one", account.Key1)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.Resource(t.Context(), fresh.Key1, ""); err != nil {
			t.Errorf("a key that the other process has just made: %v", err)
		}
		_, err = a.Regenerate(t.Context(), visage.Caller{}, "one", account.Key1)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(wait) // of the bubble
		_, _, err = b.Resource(t.Context(), fresh.Key1, "")
		wantRefusal(t, err, visage.Unauthenticated, "401")
	})
}

// TestAPurgeWaitsForAnotherProcess: one that has created the account could not give its claim back, or purges it too.
// Purge answers when the data is destroyed, or that it is not.
func TestAPurgeWaitsForAnotherProcess(t *testing.T) {
	replicas(t, func(t *testing.T, a, _ *account.Accounts, stores [2]*sealed.Store) {
		one := create(t, a, "one", visage.S0)
		if err := a.Delete(t.Context(), visage.Caller{}, "one"); err != nil {
			t.Fatal(err)
		}
		claim, err := stores[1].Claim(t.Context(), "account/"+one.ID.String(), 30*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		wantRefusal(t, a.Purge(t.Context(), visage.Caller{}, "one"), visage.Unavailable, "ServiceUnavailable")
		if _, err := a.GetDeleted(t.Context(), "one"); err != nil {
			t.Errorf("after a purge that was refused: %v", err)
		}
		time.AfterFunc(10*time.Second, claim.Release)
		if err := a.Purge(t.Context(), visage.Caller{}, "one"); err != nil {
			t.Error(err)
		}
		err = stores[1].Space(sealed.SpaceID(one.ID)).View(t.Context(), func(sealed.Reader) error { return nil })
		if err == nil {
			t.Error("a purged account opens")
		}
	})
}

// TestGarbageCostsFewReads: a thousand wrong keys at once are refused after one look at the version.
func TestGarbageCostsFewReads(t *testing.T) {
	replicas(t, func(t *testing.T, _, b *account.Accounts, _ [2]*sealed.Store) {
		time.Sleep(time.Second) // of the bubble
		begun := time.Now()
		var work sync.WaitGroup
		for range 1000 {
			work.Go(func() {
				_, _, err := b.Resource(t.Context(), "garbage", "")
				wantRefusal(t, err, visage.Unauthenticated, "401")
			})
		}
		work.Wait()
		if took := time.Since(begun); took > 30*time.Millisecond { // each look waits for its turn, 10 ms
			t.Errorf("a thousand wrong keys took %v", took)
		}
	})
}

func TestNamesAndPlacesAreOfAllProcesses(t *testing.T) {
	replicas(t, func(t *testing.T, a, b *account.Accounts, _ [2]*sealed.Store) {
		create(t, a, "free", visage.F0)
		_, err := b.Create(t.Context(), visage.Caller{},
			account.Creation{Name: "second", Group: "default", Location: "local", Tier: visage.F0})
		wantRefusal(t, err, visage.Conflict, "CanNotCreateMultipleFreeAccounts")
		_, err = b.Create(t.Context(), visage.Caller{},
			account.Creation{Name: "FREE", Group: "default", Location: "local", Tier: visage.S0})
		wantRefusal(t, err, visage.Conflict, "AccountAlreadyExists")
		if _, err := a.Access().SetCapacity(t.Context(), visage.Caller{}, 1); err != nil {
			t.Fatal(err)
		}
		create(t, a, "vip", visage.E0)
		_, err = b.Create(t.Context(), visage.Caller{},
			account.Creation{Name: "vip2", Group: "default", Location: "local", Tier: visage.E0})
		wantRefusal(t, err, visage.Denied, "CustomerManagedKeyNotApproved")
	})
}

// TestDeletionIsOfAllProcesses: the data of a deleted resource is locked everywhere, and opens everywhere when it is
// recovered.
func TestDeletionIsOfAllProcesses(t *testing.T) {
	replicas(t, func(t *testing.T, a, b *account.Accounts, stores [2]*sealed.Store) {
		one := create(t, a, "one", visage.S0)
		read := func() error {
			return stores[1].Space(sealed.SpaceID(one.ID)).View(t.Context(), func(sealed.Reader) error { return nil })
		}
		time.Sleep(wait) // of the bubble
		if err := read(); err != nil {
			t.Fatal(err)
		}
		if err := a.Delete(t.Context(), visage.Caller{}, "one"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(wait)
		if err := read(); !errors.Is(err, sealed.ErrLocked) {
			t.Errorf("read the data of a deleted resource at another process: %v", err)
		}
		if _, err := b.Recover(t.Context(), visage.Caller{}, "one"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(wait)
		for i, store := range stores {
			err := store.Space(sealed.SpaceID(one.ID)).View(t.Context(), func(sealed.Reader) error { return nil })
			if err != nil {
				t.Errorf("read the data of a recovered resource at process %d: %v", i+1, err)
			}
		}
		if err := b.Delete(t.Context(), visage.Caller{}, "one"); err != nil {
			t.Fatal(err)
		}
		if err := b.Purge(t.Context(), visage.Caller{}, "one"); err != nil {
			t.Fatal(err)
		}
		create(t, a, "one", visage.S0) // the name is free
	})
}
