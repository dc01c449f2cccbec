package account_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/azure"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/sealed"
)

// fakeVault is a vault with one key, "k", for principals with access.
type fakeVault struct {
	*sourcetest.Fake
	access *sync.Map // the visage.PrincipalIDs with access
	asked  *atomic.Int64
}

// open returns the key as one principal sees it.
func (s fakeVault) open(_ context.Context, _ visage.KeyRef, as visage.PrincipalID) (keysource.Source, error) {
	return view{s, as}, nil
}

type view struct {
	fakeVault
	as visage.PrincipalID
}

func (v view) ready() error {
	v.asked.Add(1)
	if _, may := v.access.Load(v.as); !may {
		return &keysource.Error{Class: keysource.ErrDenied, Reason: keysource.Permission, Text: "no access"}
	}
	return nil
}

const (
	safeAddress = "https://safe.example"
	version     = "0123456789abcdef0123456789abcdef"
)

func (v view) Describe(ctx context.Context, _ keysource.Ref) (keysource.Description, error) {
	if err := v.ready(); err != nil {
		return keysource.Description{}, err
	}
	d, err := v.Fake.Describe(ctx, keysource.Ref{})
	d.Ref = keysource.Ref{URI: safeAddress + "/keys/k", Version: version}
	d.KeyType, d.Bits, d.Operations, d.Recovery = "RSA", 2048, []string{"wrapKey", "unwrapKey"}, "Recoverable"
	return d, err
}

func (v view) Wrap(ctx context.Context, inner []byte) ([]byte, keysource.Ref, error) {
	if err := v.ready(); err != nil {
		return nil, keysource.Ref{}, err
	}
	blob, _, err := v.Fake.Wrap(ctx, inner)
	return blob, keysource.Ref{URI: safeAddress + "/keys/k", Version: version}, err
}

func (v view) Unwrap(ctx context.Context, _ keysource.Ref, blob []byte) ([]byte, error) {
	if err := v.ready(); err != nil {
		return nil, err
	}
	d, err := v.Fake.Describe(ctx, keysource.Ref{})
	if err != nil {
		return nil, err
	}
	return v.Fake.Unwrap(ctx, d.Ref, blob)
}

// identities creates numbered identities and lists them.
type identities struct {
	made  int
	there map[string]account.Managed // by the account's name
	vault fakeVault
	grant bool // callers may grant access to the key

	during func() // called during a change of the key

	store *sealed.Store
	stop  func() // of custody
}

func (s *identities) Ensure(_ context.Context, a account.Account) (account.Managed, error) {
	if _, found := s.there[a.Name]; !found {
		s.made++
		s.there[a.Name] = account.Managed{PrincipalID: fmt.Sprintf("principal-%d", s.made)}
	}
	return s.there[a.Name], nil
}

func (s *identities) Remove(_ context.Context, a account.Account) error {
	s.vault.access.Delete(visage.PrincipalID(s.there[a.Name].PrincipalID))
	delete(s.there, a.Name)
	return nil
}

func (s *identities) Forget(context.Context, account.Account) error { return nil }

func (s *identities) Grant(_ context.Context, _ visage.Caller, a account.Account, _ visage.KeyRef) error {
	if s.during != nil {
		s.during()
	}
	if s.grant {
		s.vault.access.Store(visage.PrincipalID(a.Identity.System.PrincipalID), true)
	}
	return nil
}

func (s *identities) User(context.Context, string) (account.Managed, bool) {
	return account.Managed{}, false
}

// ownVaults accepts the vaults of one location, and knows nothing else of them.
type ownVaults struct{}

func (ownVaults) Check(_ context.Context, of account.Account, key visage.KeyRef) ([]account.VaultCheck, error) {
	check := account.VaultCheck{Precondition: account.SameRegion}
	if strings.Contains(key.Vault, "remote") != (of.Location == "remote") {
		check.Err = visage.Refuse(visage.Invalid, "KeyVaultRegionMismatch", "%s is not in %s.", key.Vault, of.Location)
	}
	return []account.VaultCheck{check}, nil
}

func (ownVaults) Access(context.Context, account.Account, visage.KeyRef) (*custody.Access, error) {
	return nil, nil
}

func (ownVaults) Properties(context.Context, visage.Caller, visage.KeyRef) (*custody.Properties, bool, error) {
	return nil, false, nil
}

func (ownVaults) Remedies(
	context.Context, visage.Caller, account.Account, account.Precondition, visage.KeyRef,
) ([]account.Remedy, error) {
	return nil, nil
}

func (ownVaults) Locate(visage.KeyRef) (string, error) { return "", nil }

func (ownVaults) List(
	context.Context, visage.Caller, string, string, int,
) ([]account.ListedVault, string, error) {
	return nil, "", nil
}

func (ownVaults) Keys(context.Context, visage.Caller, string, string, int) ([]account.ListedKey, string, error) {
	return nil, "", nil
}

func (ownVaults) Newer(context.Context, account.Account, visage.KeyRef) ([]account.ListedKey, bool, error) {
	return nil, false, nil
}

// accountsWithCustody are accounts whose customers may use keys of their own, with the custody of those keys, the
// identities of the accounts and a vault.
type accountsWithCustody struct {
	*account.Accounts
	t          *testing.T
	custody    *custody.Custody
	identities *identities
}

func newAccountsWithCustody(t *testing.T) accountsWithCustody {
	t.Helper()
	key := fakeVault{sourcetest.NewFake("k"), &sync.Map{}, &atomic.Int64{}}
	h := accountsWithCustody{t: t, identities: &identities{
		there: map[string]account.Managed{}, vault: key, grant: true,
		store: newStore(t, "", sourcetest.NewFake("root")),
	}}
	h = h.restarted()
	t.Cleanup(func() { h.identities.stop() })
	accountsWithAccess{h.Accounts, h.Access(), t}.ask("place")
	if _, err := h.Create(t.Context(), visage.Caller{},
		account.Creation{Name: "vip", Location: "local", Tier: visage.E0}); err != nil {
		t.Fatal(err)
	}
	return h
}

// restarted returns a new accountsWithCustody over the same store.
func (h accountsWithCustody) restarted() accountsWithCustody {
	h.t.Helper()
	if h.identities.stop != nil {
		h.identities.stop()
	}
	var err error
	h.custody, err = custody.New(h.t.Context(),
		custody.Config{Store: h.identities.store, Audit: audit.Discard{}, Open: h.identities.vault.open})
	if err != nil {
		h.t.Fatal(err)
	}
	keeper := h.custody
	ctx, stop := context.WithCancel(context.WithoutCancel(h.t.Context()))
	ended := make(chan error, 1)
	h.Accounts, err = account.Open(h.t.Context(), account.Config{
		Store: h.identities.store, Custody: keeper, Identities: h.identities, ParseKey: azure.ParseKey,
		Vaults: ownVaults{},
	})
	if err != nil {
		h.t.Fatal(err)
	}
	go func() { ended <- keeper.Run(ctx) }()
	h.identities.stop = func() {
		stop()
		if err := <-ended; err != nil {
			h.t.Error(err)
		}
	}
	return h
}

// withCustody runs a test in a bubble, in which waiting takes no time.
func withCustody(t *testing.T, test func(*testing.T, accountsWithCustody)) {
	synctest.Test(t, func(t *testing.T) { test(t, newAccountsWithCustody(t)) })
}

func (h accountsWithCustody) protect(p account.Protection) error {
	h.t.Helper()
	_, err := h.Update(h.t.Context(), visage.Caller{}, "vip", func(account.Account) (account.Change, error) {
		return account.Change{Protection: &p, Tags: map[string]string{"protected": fmt.Sprint(p.Customer)}}, nil
	})
	return err
}

// settled returns the account and its encryption when no change is running.
func (h accountsWithCustody) settled() (account.Account, account.Encryption) {
	h.t.Helper()
	for until := time.Now().Add(time.Hour); ; time.Sleep(time.Second) {
		a, err := h.Get(h.t.Context(), "vip")
		if err != nil {
			h.t.Fatal(err)
		}
		e, err := h.Encryption(h.t.Context(), a)
		if err != nil {
			h.t.Fatal(err)
		}
		if !e.Pending() {
			return a, e
		}
		if time.Now().After(until) {
			h.t.Fatalf("the change does not end: %+v", e)
		}
	}
}

var mine = account.Protection{Customer: true, VaultURI: "https://SAFE.example/", KeyName: "k", Register: true}

func TestRefusedProtectionChangesNothing(t *testing.T) {
	withCustody(t, refusedProtectionChangesNothing)
}

func refusedProtectionChangesNothing(t *testing.T, h accountsWithCustody) {
	h.identities.grant = false
	wantRefusal(t, h.protect(mine), visage.Invalid, "KeyVaultAccessDenied")
	a, e := h.settled()
	if a.Identity.Type() != "None" || len(h.identities.there) != 0 || e.Said || len(a.Tags) != 0 {
		t.Errorf("after a refusal: %+v, %+v", a, e)
	}
	if _, err := h.Access().Withdraw(t.Context(), visage.Caller{}, "place"); err != nil {
		t.Fatal(err)
	}
	h.identities.grant = true
	wantRefusal(t, h.protect(mine), visage.Denied, "CustomerManagedKeyNotApproved")
}

func TestProtectionIsShownAsItWasGiven(t *testing.T) { withCustody(t, protectionIsShownAsItWasGiven) }

func protectionIsShownAsItWasGiven(t *testing.T, h accountsWithCustody) {
	if err := h.protect(mine); err != nil {
		t.Fatal(err)
	}
	a, e := h.settled()
	if a.Identity.System.PrincipalID != "principal-1" || a.Tags["protected"] != "true" || !e.Said ||
		e.VaultURI != safeAddress+"/" ||
		e.Key.Version != "" || e.Status.Version != version || e.Status.Condition != custody.Active {
		t.Errorf("protected: %+v, %+v", a, e)
	}
	exact := mine
	exact.VaultURI, exact.KeyName = safeAddress+"/keys/k/"+version, ""
	if err := h.protect(exact); err != nil {
		t.Fatal(err)
	}
	if _, e := h.settled(); e.VaultURI != safeAddress+"/" || e.Key.Version != version {
		t.Errorf("named by its identifier: %+v", e)
	}
	if err := h.SetPolicy(t.Context(), visage.Caller{}, "vip", account.Policy{Grace: 5 * time.Minute}); err != nil {
		t.Fatal(err)
	}
	if _, e := h.settled(); e.Status.Policy.Grace != 5*time.Minute {
		t.Errorf("policy: %+v", e.Status.Policy)
	}
	// A key in use is not asked: its vault may be unreachable when a client changes a tag.
	h.identities.vault.Fail(errors.New("down"))
	exact.Register = false
	if err := h.protect(exact); err != nil {
		t.Errorf("the same key again: %v", err)
	}
	h.identities.vault.Fail(nil)
	if err := h.protect(account.Protection{}); err != nil {
		t.Fatal(err)
	}
	if a, e := h.settled(); e.Key != (visage.KeyRef{}) || !e.Said || e.Status.Condition != custody.ServiceManaged ||
		a.Tags["protected"] != "false" {
		t.Errorf("given back: %+v, %+v", a, e)
	}
}

// TestCustodyIsBelieved checks that after a crash between a change of the key and the record of it in the account, the
// account shows the key in use.
func TestCustodyIsBelieved(t *testing.T) { withCustody(t, custodyIsBelieved) }

func custodyIsBelieved(t *testing.T, h accountsWithCustody) {
	a, _ := h.settled()
	h.identities.vault.access.Store(visage.PrincipalID("somebody"), true)
	key := visage.KeyRef{Vault: safeAddress, Name: "k"}
	if _, err := h.custody.Enable(t.Context(), sealed.SpaceID(a.ID), key, "somebody"); err != nil {
		t.Fatal(err)
	}
	if e, err := h.Encryption(t.Context(), a); err != nil || e.Pending() && !e.Said {
		t.Errorf("under way: %+v, %v", e, err)
	}
	if _, e := h.settled(); !e.Said || e.Key != key || e.VaultURI != safeAddress+"/" {
		t.Errorf("got %+v", e)
	}
}

// TestNewIdentityOpensAgain checks that the data of an account without its identity opens with a new identity that has
// access, when its owner unlocks it or names its key again.
func TestNewIdentityOpensAgain(t *testing.T) {
	for _, way := range []string{"unlock", "protect"} {
		t.Run(way, func(t *testing.T) {
			withCustody(t, func(t *testing.T, h accountsWithCustody) { newIdentityOpensAgain(t, h, way) })
		})
	}
}

func newIdentityOpensAgain(t *testing.T, h accountsWithCustody, way string) {
	if err := h.protect(mine); err != nil {
		t.Fatal(err)
	}
	h.settled()
	identity := func(system bool) {
		t.Helper()
		_, err := h.Update(t.Context(), visage.Caller{}, "vip", func(account.Account) (account.Change, error) {
			return account.Change{Identity: &account.IdentitySpec{System: system}}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	identity(false)
	h.until(custody.Revoked)
	identity(true)
	if way == "protect" {
		if err := h.protect(mine); err != nil {
			t.Fatal(err)
		}
	} else {
		err := h.Unlock(t.Context(), visage.Caller{}, "vip") // it has no access yet
		wantRefusal(t, err, visage.Invalid, "KeyVaultAccessDenied")
		h.identities.vault.access.Store(visage.PrincipalID("principal-2"), true)
		if err := h.Unlock(t.Context(), visage.Caller{}, "vip"); err != nil {
			t.Fatal(err)
		}
	}
	e := h.until(custody.Active)
	if string(e.Status.As) != "principal-2" || strings.Contains(e.Status.Reason, "no access") {
		t.Errorf("open again: %+v", e.Status)
	}
}

// until waits for a condition.
func (h accountsWithCustody) until(want custody.Condition) account.Encryption {
	h.t.Helper()
	for end := time.Now().Add(time.Hour); ; time.Sleep(time.Second) {
		if _, e := h.settled(); e.Status.Condition == want {
			return e
		} else if time.Now().After(end) {
			h.t.Fatalf("no state %s in time: %+v", want, e.Status)
		}
	}
}
