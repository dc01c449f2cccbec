package identity_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/audit/audittest"
	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/sealed"
)

const (
	vaultScope = scope + "/resourceGroups/default/providers/Microsoft.KeyVault/vaults/safe"
	readVault  = "Microsoft.KeyVault/vaults/read"
)

// scopesAndEvents holds what scopes name, and what was recorded for the audit.
type scopesAndEvents struct {
	audittest.Recorder

	mu     sync.Mutex
	places map[string]identity.Place // guarded by mu: by the scope in lower case
}

func newScopesAndEvents() *scopesAndEvents {
	return &scopesAndEvents{places: map[string]identity.Place{scope: {}}}
}

func (w *scopesAndEvents) config(store *sealed.Store) identity.Config {
	cfg := config(store)
	cfg.Place, cfg.Audit = w.place, w
	return cfg
}

func (w *scopesAndEvents) place(_ context.Context, scope string) (identity.Place, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p, found := w.places[scope]
	if !found {
		return p, visage.Refuse(visage.NotFound, "ResourceNotFound", "There is no %s.", scope)
	}
	return p, nil
}

func (w *scopesAndEvents) put(scope string, p identity.Place) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.places[strings.ToLower(scope)] = p
}

func TestRolesAreOnTheThingAndNotOnItsName(t *testing.T) {
	w := newScopesAndEvents()
	d := open(t, w.config(nil))
	p, _ := application(t, d)
	who := visage.Principal{ObjectID: p.ID}
	assign := func(at string) error {
		_, err := d.Assign(t.Context(), "", p.ID, identity.VaultReader, at)
		return err
	}
	may := func() bool { return d.May(who, readVault, vaultScope) }
	wantRefusal(t, "a role on what is not there", assign(vaultScope), "ResourceNotFound", "")
	if may() {
		t.Error("a refused role works")
	}
	w.put(vaultScope, identity.Place{Instance: "first", Deleted: true})
	wantRefusal(t, "a role on what is deleted", assign(vaultScope), "ResourceNotFound", "")
	w.put(vaultScope, identity.Place{Instance: "first"})
	if err := assign(vaultScope); err != nil || !may() {
		t.Fatalf("a role on what is there: %v", err)
	}
	if again := assign(vaultScope); again == nil {
		t.Error("it was given twice")
	}
	first := d.Assignments(vaultScope)[0]

	// Another of its name, before anybody was told of the end of the first: nothing of it is inherited, nor listed.
	w.put(vaultScope, identity.Place{Instance: "second"})
	if may() || len(d.Assignments("")) != 0 || d.Has(p.ID, identity.VaultReader, vaultScope) {
		t.Error("the second of its name has roles of the first")
	}
	if err := assign(vaultScope); err != nil || !may() {
		t.Errorf("the same role on the second: %v", err)
	}
	w.Events()
	if err := d.Forget(t.Context(), vaultScope, "first"); err != nil {
		t.Fatal(err)
	}
	if told := w.Told(); !slices.Equal(told, []string{"identity.role end done"}) {
		t.Errorf("told of %v", told)
	}
	left := d.Assignments("")
	if len(left) != 1 || left[0].ID == first.ID || !may() {
		t.Fatalf("after the first was forgotten: %+v", left)
	}
	// The id of an assignment on what is gone can be used for another.
	w.put(vaultScope, identity.Place{Instance: "third"})
	if _, err := d.Assign(t.Context(), left[0].ID, p.ID, identity.Reader, scope); err != nil {
		t.Error(err)
	}
	if told := w.Told(); !slices.Equal(told, []string{"identity.role end done", "identity.role assign done"}) {
		t.Errorf("told of %v", told)
	}
}

// TestSettle: at the start, roles on what is gone end, and those of before there were instances are bound to what was
// meant.
func TestSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, src := t.TempDir(), sourcetest.NewFake("root")
		w := newScopesAndEvents()
		begin := time.Now()
		old := func(scope string, created time.Time) identity.Assignment {
			return identity.Assignment{Principal: stranger, Role: identity.VaultReader, Scope: strings.ToLower(scope),
				Created: created.UnixNano()}
		}
		place := func(n string) string { return strings.Replace(vaultScope, "safe", n, 1) }
		w.put(place("older"), identity.Place{Instance: "older", Created: begin})
		w.put(place("newer"), identity.Place{Instance: "newer", Created: begin.Add(2 * time.Hour)})
		w.put(place("turned"), identity.Place{Instance: "after", Created: begin})
		w.put(place("same"), identity.Place{Instance: "same", Created: begin})
		store := newStore(t, dir, src)
		type before struct { // as earlier versions of the program stored them
			ID, Principal, Role, Scope string
			Created                    int64
		}
		earlier := sealed.NewTable[before]("identity/assignment", 1)
		table := sealed.NewTable[identity.Assignment]("identity/assignment", 1)
		err := store.Space(sealed.Operator).Update(t.Context(), func(tx sealed.Tx) error {
			for id, a := range map[string]identity.Assignment{
				"1": old(place("older"), begin.Add(time.Hour)), "2": old(place("newer"), begin.Add(time.Hour)),
				"3": old(place("none"), begin),
				"4": old(scope, begin), "5": old(place("turned"), begin.Add(time.Hour)),
				"6": old(place("same"), begin.Add(time.Hour)),
			} {
				a.ID = id
				a.Instance = map[string]string{"5": "before", "6": "same"}[id]
				err := earlier.In().Put(tx, id, before{a.ID, a.Principal, a.Role, a.Scope, a.Created})
				if a.Instance != "" {
					err = table.In().Put(tx, id, a)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		d := open(t, w.config(store))
		w.Events()
		if err := d.Settle(t.Context()); err != nil {
			t.Fatal(err)
		}
		var left []string
		for _, a := range d.Assignments("") {
			left = append(left, a.ID+" "+a.Instance)
		}
		if want := []string{"1 older", "4 ", "6 same"}; !slices.Equal(left, want) {
			t.Errorf("left are %q, want %q", left, want)
		}
		if told := w.Told(); !slices.Equal(told, slices.Repeat([]string{"identity.role end done"}, 3)) {
			t.Errorf("told of %v", told)
		}
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestEveryChangeIsToldOnce: done after it is durable, refused as refused, and never done when it was not.
func TestEveryChangeIsToldOnce(t *testing.T) {
	dir, src := t.TempDir(), sourcetest.NewFake("root")
	store := newStore(t, dir, src)
	w := newScopesAndEvents()
	d := open(t, w.config(store))
	if told := w.Told(); !slices.Equal(told, []string{"identity.rotate signing-key done"}) {
		t.Errorf("the first start: told of %q", told)
	}
	who := visage.Caller{Principal: visage.Principal{Method: "token", ObjectID: stranger}, RequestID: "request"}
	ctx := visage.WithCaller(t.Context(), who)
	p, err := d.CreateApplication(ctx, identity.Creation{Tenant: tenant, Name: "program"})
	if err != nil {
		t.Fatal(err)
	}
	want := func(step string, told ...string) []audit.Event {
		t.Helper()
		events := w.Events()
		for _, e := range events {
			if e.Actor != audit.ActorOf(who) || e.RequestID != "request" || e.Details[audit.DetailChange] == "" ||
				e.Time.IsZero() {
				t.Errorf("%s: recorded %+v", step, e)
			}
		}
		if got := audittest.Words(events); !slices.Equal(got, told) {
			t.Errorf("%s: recorded %q, want %q", step, got, told)
		}
		return events
	}
	want("create", "identity.create principal done")
	secret, _, err := d.AddSecret(ctx, p.ID, 0)
	if err != nil {
		t.Fatal(err)
	}
	want("secret", "identity.create secret done")
	d.AddSecret(ctx, stranger, 0)
	want("a secret of nobody", "identity.create secret refused PrincipalNotFound")
	d.AddSecret(ctx, p.ID, -1)
	want("a secret of no life", "identity.create secret refused InvalidPrincipal")
	a, err := d.Assign(ctx, "", p.ID, identity.Reader, scope)
	if err != nil {
		t.Fatal(err)
	}
	role := want("role", "identity.role assign done")[0].Details
	delete(role, audit.DetailChange)
	if diff := cmp.Diff(map[audit.Detail]string{
		audit.DetailOperation: "assign", audit.DetailSubject: p.ID, audit.DetailRole: identity.Reader,
		audit.DetailScope: scope, audit.DetailAssignment: a.ID, audit.DetailBefore: "none", audit.DetailAfter: "Reader",
	}, role); diff != "" {
		t.Errorf("a role that was assigned (-want +got):\n%s", diff)
	}
	d.Assign(ctx, a.ID, p.ID, identity.Reader, scope)
	want("the same again")
	d.Assign(ctx, "", p.ID, identity.Reader, scope)
	want("the same under another id", "identity.role assign refused RoleAssignmentExists")
	d.Assign(ctx, "", p.ID, "none", scope)
	want("a role there is not", "identity.role assign refused RoleDefinitionDoesNotExist")
	d.Assign(ctx, "", p.ID, identity.Reader, vaultScope)
	want("a role on nothing", "identity.role assign refused ResourceNotFound")
	d.Unassign(ctx, stranger)
	want("taking what is not there", "identity.role unassign refused RoleAssignmentNotFound")
	d.SetSubjects(ctx, p.ID, []identity.Subject{{Issuer: "https://none", Name: "s"}})
	want("subjects of nobody", "identity.create federated-subjects refused InvalidPrincipal")
	d.RemoveSecret(ctx, p.ID, secret.ID)
	want("removed secret", "identity.delete secret done")
	managed, err := d.EnsureManaged(ctx, tenant, vaultScope, identity.SystemAssigned)
	if err != nil {
		t.Fatal(err)
	}
	want("managed", "identity.create principal done")
	if _, err := d.EnsureManaged(ctx, tenant, vaultScope, identity.SystemAssigned); err != nil {
		t.Fatal(err)
	}
	want("managed again")
	d.Delete(ctx, managed.ID)
	want("end", "identity.delete principal done")

	// A log that cannot be written to fails the change for its caller, and is told what is durable when it can.
	full := errors.New("the disk is full")
	w.Fail(full)
	if _, err := d.Assign(ctx, "", p.ID, identity.Owner, scope); !errors.Is(err, full) {
		t.Errorf("a change that could not be told of: %v", err)
	}
	if !d.May(visage.Principal{ObjectID: p.ID}, "x/write", scope) {
		t.Error("what is stored does not show")
	}
	if err := store.Close(); err != nil { // and the process ends
		t.Fatal(err)
	}
	w.Fail(nil)
	store = newStore(t, dir, src)
	defer store.Close()
	d = open(t, w.config(store))
	want("the next start", "identity.role assign done")
	d.Delete(ctx, p.ID)
	want("an identity with roles", "identity.role end done", "identity.role end done", "identity.delete principal done")
}

// TestTheLastOwnerStays: whoever owns the subscription and can sign in is not removed, in no way, while nobody else
// does.
func TestTheLastOwnerStays(t *testing.T) {
	w := newScopesAndEvents()
	cfg := w.config(nil)
	cfg.Trusted = []identity.Issuer{{URL: "https://issuer", Audience: "a",
		Keys: func(context.Context) ([]byte, error) { return nil, nil }}}
	d := open(t, cfg)
	p, err := d.CreateApplication(t.Context(), identity.Creation{Tenant: tenant, Name: "first"})
	if err != nil {
		t.Fatal(err)
	}
	secret, _, err := d.AddSecret(t.Context(), p.ID, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	a, err := d.Assign(t.Context(), "", p.ID, identity.Owner, scope)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(step string) {
		t.Helper()
		wantRefusal(t, step+": take the role", d.Unassign(t.Context(), a.ID), "LastOwner", "")
		wantRefusal(t, step+": end the secret", d.RemoveSecret(t.Context(), p.ID, secret.ID), "LastOwner", "")
		wantRefusal(t, step+": delete", d.Delete(t.Context(), p.ID), "LastOwner", "")
	}
	refused("alone")
	q, err := d.CreateApplication(t.Context(), identity.Creation{Tenant: tenant, Name: "second"})
	if err != nil {
		t.Fatal(err)
	}
	refused("beside one without a role")
	if _, err := d.Assign(t.Context(), "", q.ID, identity.Owner, scope); err != nil {
		t.Fatal(err)
	}
	refused("beside one that cannot sign in")
	if err := d.SetSubjects(t.Context(), q.ID, []identity.Subject{{Issuer: "https://issuer", Name: "s"}}); err != nil {
		t.Fatal(err)
	}
	if err := d.RemoveSecret(t.Context(), p.ID, secret.ID); err != nil {
		t.Errorf("beside one that is vouched for: %v", err)
	}
	wantRefusal(t, "nobody vouches any more", d.SetSubjects(t.Context(), q.ID, nil), "LastOwner", "")
	wantRefusal(t, "the only one that can sign in", d.Delete(t.Context(), q.ID), "LastOwner", "")
	if err := d.Unassign(t.Context(), a.ID); err != nil {
		t.Errorf("one that cannot sign in: %v", err)
	}
	if err := d.Delete(t.Context(), p.ID); err != nil {
		t.Errorf("one without roles: %v", err)
	}
}
