package identity_test

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/sealed/follow"
)

// entries counts the events that two directories record.
type entries struct {
	audit.Discard

	mu      sync.Mutex
	changes map[string]int // by change and operation
}

func (e *entries) Append(_ context.Context, events ...audit.Event) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, one := range events {
		e.changes[one.Details[audit.DetailChange]+" "+one.Details[audit.DetailOperation]]++
	}
	return nil
}

// replicas runs a test on two directories over one store, as two processes have them, in a bubble with its own clock.
func replicas(t *testing.T, test func(t *testing.T, a, b *identity.Directory, told *entries)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		src := sourcetest.NewFake("root")
		told := &entries{changes: map[string]int{}}
		var both []*identity.Directory
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		for range 2 {
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
			cfg := config(store)
			cfg.Audit = told
			d := open(t, cfg)
			running.Go(func() {
				if err := d.Run(ctx); err != nil {
					t.Error(err)
				}
			})
			both = append(both, d)
		}
		defer running.Wait()
		defer stop()
		test(t, both[0], both[1], told)
	})
}

// wait is how long a change of one process may be unknown to the other.
const wait = follow.Every + 50*time.Millisecond

func TestWhatIsMissingIsAskedForAtOnce(t *testing.T) {
	replicas(t, func(t *testing.T, a, b *identity.Directory, _ *entries) {
		p, secret := application(t, a)
		grant(t, b, p, secret, faces) // an application, with its secret
		_, second, err := a.AddSecret(t.Context(), p.ID, 0)
		if err != nil {
			t.Fatal(err)
		}
		grant(t, b, p, second, faces) // another secret
		if err := a.RotateSigningKey(t.Context()); err != nil {
			t.Fatal(err)
		}
		token := grant(t, a, p, secret, faces)
		if _, err := b.Verify(t.Context(), token, faces); err != nil {
			t.Errorf("a token under a new signing key of the other process: %v", err)
		}
		id, err := a.CreateTenant(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, found := b.LookupTenant(id); !found {
			t.Error("a tenant of the other process is not found")
		}
		person, err := a.CreatePerson(t.Context(), identity.PersonCreation{Tenant: tenant, Name: "Ada"})
		if err != nil {
			t.Fatal(err)
		}
		key := identity.Passkey{ID: []byte("passkey"), Name: "laptop", Credential: []byte("credential")}
		if err := a.AddPasskey(t.Context(), person.ID, key); err != nil {
			t.Fatal(err)
		}
		if got, _, found := b.LookupPasskey(key.ID); !found || got.ID != person.ID {
			t.Errorf("a passkey of the other process: %v, %v", got, found)
		}
	})
}

func TestWhatIsRevokedIsRefusedEverywhere(t *testing.T) {
	replicas(t, func(t *testing.T, a, b *identity.Directory, _ *entries) {
		p, secret := application(t, a)
		who := visage.Principal{ObjectID: p.ID}
		role, err := a.Assign(t.Context(), "", p.ID, identity.Reader, scope)
		if err != nil {
			t.Fatal(err)
		}
		token := grant(t, a, p, secret, faces)
		time.Sleep(wait) // of the bubble
		if !b.May(who, "Microsoft.CognitiveServices/accounts/read", scope) {
			t.Error("a role of the other process is unknown")
		}
		if err := a.Unassign(t.Context(), role.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(wait)
		if b.May(who, "Microsoft.CognitiveServices/accounts/read", scope) {
			t.Error("a role that the other process took back still counts")
		}
		if err := a.RemoveSecret(t.Context(), p.ID, secretOf(t, a, p.ID)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(wait)
		_, _, err = b.Grant(t.Context(), identity.Grant{Tenant: tenant, ClientID: p.ClientID, Secret: secret,
			Audience: faces})
		wantRefusal(t, "a removed secret", err, "invalid_client", "7000215")
		if err := a.Delete(t.Context(), p.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(wait)
		if _, err = b.Verify(t.Context(), token, faces); err == nil {
			t.Error("a token of a deleted application is accepted")
		}
	})
}

// TestAProcessThatWasStoppedLooksFirst: no goroutine of it has run since the change.
func TestAProcessThatWasStoppedLooksFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := sourcetest.NewFake("root")
		open := func() *identity.Directory { // Run is not called
			store, err := sealed.Open(t.Context(), sealed.Config{Engine: "memory:" + t.Name(), Shared: true,
				Protectors: []sealed.Protector{{Name: "test", Kind: "fake", Source: src}}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := store.Close(); err != nil {
					t.Error(err)
				}
			})
			return open(t, config(store))
		}
		a, b := open(), open()
		p, secret := application(t, a)
		token := grant(t, b, p, secret, faces)
		if err := a.Delete(t.Context(), p.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if _, err := b.Verify(t.Context(), token, faces); err == nil {
			t.Error("a token of a deleted application is accepted")
		}
	})
}

func TestChangesOfTwoProcessesDoNotOverwriteEachOther(t *testing.T) {
	replicas(t, func(t *testing.T, a, b *identity.Directory, told *entries) {
		ada := identity.PersonCreation{Tenant: tenant, Name: "Ada", Email: "a@b.org"}
		first, err := a.CreatePerson(t.Context(), ada)
		if err != nil {
			t.Fatal(err)
		}
		_, err = b.CreatePerson(t.Context(), identity.PersonCreation{Tenant: tenant, Name: "Eve", Email: "A@b.org"})
		wantRefusal(t, "an address that the other process has given", err, "EmailTaken", "")
		resource := "/subscriptions/x/resource"
		one, err := a.EnsureManaged(t.Context(), tenant, resource, identity.SystemAssigned)
		if err != nil {
			t.Fatal(err)
		}
		two, err := b.EnsureManaged(t.Context(), tenant, resource, identity.SystemAssigned)
		if err != nil || one.ID != two.ID {
			t.Errorf("the managed identity of one resource: %s and %s, %v", one.ID, two.ID, err)
		}
		var work sync.WaitGroup
		for _, d := range []*identity.Directory{a, b} {
			for range 5 {
				work.Go(func() {
					program := identity.Creation{Tenant: tenant, Name: "program"}
					if _, err := d.CreateApplication(t.Context(), program); err != nil {
						t.Error(err)
					}
				})
			}
		}
		work.Wait()
		time.Sleep(wait)
		if x, y := len(a.Principals()), len(b.Principals()); x != 12 || y != 12 {
			t.Errorf("%d and %d identities, want 12", x, y)
		}
		if _, err := b.Principal(first.ID); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * time.Minute) // what one has left would be delivered by the other
		for change, times := range told.changes {
			if times != 1 {
				t.Errorf("%s is %d times in the audit log", change, times)
			}
		}
	})
}

func TestSigningKeysAreMadeOnce(t *testing.T) {
	replicas(t, func(t *testing.T, a, b *identity.Directory, _ *entries) {
		time.Sleep(time.Hour)
		if x, y := a.PublicKeys(), b.PublicKeys(); len(x) != 1 || len(y) != 1 || x[0] != y[0] {
			t.Errorf("%d and %d signing keys after a start, want the same one", len(x), len(y))
		}
	})
}

func TestSessionsAreOfAllProcesses(t *testing.T) {
	replicas(t, func(t *testing.T, a, b *identity.Directory, _ *entries) {
		p, err := a.CreatePerson(t.Context(), identity.PersonCreation{Tenant: tenant, Name: "Ada"})
		if err != nil {
			t.Fatal(err)
		}
		from := netip.MustParseAddr("192.0.2.1")
		start := identity.SessionStart{Principal: p.ID, Method: identity.ByPasskey}
		secret, opened, err := a.OpenSession(t.Context(), start)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.Session(t.Context(), secret, from); err != nil {
			t.Fatalf("a session of the other process: %v", err)
		}
		for range 5 { // a person who uses one process alone for longer than an idle session lives
			time.Sleep(10 * time.Minute)
			if _, _, err := a.Session(t.Context(), secret, from); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, err := b.Session(t.Context(), secret, from); err != nil {
			t.Errorf("a session that was used at the other process: %v", err)
		}
		fresh, err := b.Prove(t.Context(), secret, identity.ByPasskey)
		if err != nil {
			t.Fatal(err)
		}
		_, err = a.Prove(t.Context(), secret, identity.ByPasskey)
		wantRefusal(t, "a secret that the other process has replaced", err, "SessionEnded", "")
		if _, _, err := a.Session(t.Context(), fresh, from); err != nil {
			t.Errorf("the secret that replaced it: %v", err)
		}
		if err := b.EndSession(t.Context(), opened.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(wait)
		_, _, err = a.Session(t.Context(), fresh, from)
		wantRefusal(t, "a session that the other process has ended", err, "SessionEnded", "")
	})
}

func TestACodeLetsInAtOneProcess(t *testing.T) {
	replicas(t, func(t *testing.T, a, b *identity.Directory, _ *entries) {
		p, err := a.CreatePerson(t.Context(), identity.PersonCreation{Tenant: tenant, Name: "Ada"})
		if err != nil {
			t.Fatal(err)
		}
		code, err := a.IssueCode(t.Context(), p.ID, identity.SignIn, 0)
		if err != nil {
			t.Fatal(err)
		}
		var work sync.WaitGroup
		got := make(chan error, 4)
		for _, d := range []*identity.Directory{b, a, b, a} {
			work.Go(func() {
				_, _, err := d.RedeemCode(t.Context(), code)
				got <- err
			})
		}
		work.Wait()
		close(got)
		in := 0
		for err := range got {
			if err == nil {
				in++
			} else if r, ok := errors.AsType[*visage.Refusal](err); !ok || r.Code != "OneTimeCodeSpent" {
				t.Error(err)
			}
		}
		if in != 1 {
			t.Errorf("the code let in %d times", in)
		}
	})
}

// secretOf returns the id of the one secret of an application.
func secretOf(t *testing.T, d *identity.Directory, id string) string {
	t.Helper()
	p, err := d.Principal(id)
	if err != nil || len(p.Secrets) != 1 {
		t.Fatalf("secrets %v, %v", p.Secrets, err)
	}
	return p.Secrets[0].ID
}
