package identity_test

import (
	"context"
	"testing"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/identity"
)

// by is a context in which a principal acts.
func by(t *testing.T, id string) context.Context {
	return visage.WithCaller(t.Context(), visage.Caller{
		Principal: visage.Principal{Method: "person", ObjectID: id, Tenant: tenant}, RequestID: "r",
	})
}

// TestOperatorsAlone has an Owner, who may give every other role, try each way to become an operator.
func TestOperatorsAlone(t *testing.T) {
	w := newScopesAndEvents()
	cfg := w.config(nil)
	cfg.Operator = "44444444-4444-4444-8444-444444444444"
	d := open(t, cfg)
	_, err := d.CreateApplication(t.Context(), identity.Creation{Tenant: tenant, Name: "operator", ID: cfg.Operator})
	if err != nil {
		t.Fatal(err)
	}
	assign := func(ctx context.Context, id, role, at string) (identity.Assignment, error) {
		return d.Assign(ctx, "", id, role, at)
	}
	olga, owen := person(t, d, "Olga"), person(t, d, "Owen")
	app, _ := application(t, d)
	operator, owner := by(t, cfg.Operator), by(t, owen.ID)
	if _, err := assign(operator, owen.ID, identity.Owner, scope); err != nil {
		t.Fatal(err)
	}
	held, err := assign(operator, olga.ID, identity.VisageOperator, scope)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.AddPasskey(by(t, olga.ID), olga.ID, identity.Passkey{ID: []byte("k"), Name: "k",
		Credential: []byte("k")}); err != nil {
		t.Fatal(err)
	}
	secret, opened := openSession(t, d, olga)
	is := func(id string) bool { return d.IsOperator(visage.Principal{ObjectID: id}) }
	if !is(cfg.Operator) || !is(olga.ID) || is(owen.ID) || is(app.ID) || is("") {
		t.Error("operators are not the operator's application and the holder of the role alone")
	}

	rename := func(c *identity.PersonChange) error { c.Name = "Oscar"; return nil }
	for name, try := range map[string]func() error{
		"give the role to oneself": func() error {
			_, err := assign(owner, owen.ID, identity.VisageOperator, scope)
			return err
		},
		"give it to an application": func() error {
			_, err := assign(owner, app.ID, identity.VisageOperator, scope)
			return err
		},
		"use the id of the assignment": func() error {
			_, err := d.Assign(owner, held.ID, owen.ID, identity.VisageOperator, scope)
			return err
		},
		"take the role away":         func() error { return d.Unassign(owner, held.ID) },
		"delete an operator":         func() error { return d.Delete(owner, olga.ID) },
		"delete the operator":        func() error { return d.Delete(owner, cfg.Operator) },
		"rename an operator":         func() error { _, err := d.UpdatePerson(owner, olga.ID, rename); return err },
		"a secret of the operator":   func() error { _, _, err := d.AddSecret(owner, cfg.Operator, 0); return err },
		"subjects of an operator":    func() error { return d.SetSubjects(owner, olga.ID, nil) },
		"a passkey for an operator":  func() error { return d.AddPasskey(owner, olga.ID, identity.Passkey{}) },
		"without an operator's key":  func() error { return d.RemovePasskey(owner, olga.ID, []byte("k")) },
		"end an operator's session":  func() error { return d.EndSession(owner, opened.ID) },
		"end an operator's sessions": func() error { return d.EndSessions(owner, olga.ID) },
		"invite oneself as operator": func() error {
			_, err := d.IssueCode(owner, olga.ID, identity.Invite, 0)
			return err
		},
		"sign in as the operator": func() error {
			_, err := d.IssueCode(owner, cfg.Operator, identity.SignIn, 0)
			return err
		},
		"as somebody without a proof": func() error { return d.Unassign(by(t, ""), held.ID) },
	} {
		w.Events()
		wantRefusal(t, name, try(), "AuthorizationFailed", "")
		if w.Count(audit.IdentityRole, audit.Refused)+w.Count(audit.IdentityCreate, audit.Refused)+
			w.Count(audit.IdentityDelete, audit.Refused)+w.Count(audit.IdentityUpdate, audit.Refused)+
			w.Count(audit.SessionEnd, audit.Refused) != 1 {
			t.Errorf("%s: the refusal is not in the audit log", name)
		}
	}
	if code := use(t, d, secret); code != "" || !is(olga.ID) || is(owen.ID) {
		t.Error("a refused attempt has changed something")
	}

	// The role is for the whole instance, and not for what a resource acts as: who may change that resource would be
	// an operator too.
	managed, err := d.EnsureManaged(t.Context(), tenant, scope+"/resourceGroups/g/a", identity.UserAssigned)
	if err != nil {
		t.Fatal(err)
	}
	_, err = assign(operator, managed.ID, identity.VisageOperator, scope)
	wantRefusal(t, "the role for a resource", err, "InvalidScope", "")
	w.put(vaultScope, identity.Place{Instance: "v"})
	_, err = assign(operator, app.ID, identity.VisageOperator, vaultScope)
	wantRefusal(t, "the role on a vault", err, "InvalidScope", "")

	// An operator by role may do all of it.
	byRole := by(t, olga.ID)
	given, err := assign(byRole, app.ID, identity.VisageOperator, scope)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Unassign(byRole, given.ID); err != nil || is(app.ID) {
		t.Errorf("taken away: %v", err)
	}
	if _, err := d.IssueCode(byRole, owen.ID, identity.Invite, 0); err != nil {
		t.Error(err)
	}
	if err := d.EndSession(byRole, opened.ID); err != nil {
		t.Error(err)
	}
	if err := d.Unassign(byRole, held.ID); err != nil || is(olga.ID) {
		t.Errorf("given back: %v", err)
	}
}
