package server

import (
	"context"
	"errors"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api/armapi"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/identity"
)

// directory changes identities for the management plane, and tells the audit log: before it is done for what takes away or
// gives power, so that nothing of the kind is ever done untold.
type directory struct {
	*identity.Directory
	tenant string
	audit  *audit.Log
}

func (d directory) tell(ctx context.Context, by armapi.Caller, kind audit.Kind, details map[audit.Detail]string) error {
	return d.audit.Append(ctx, audit.Event{
		Kind: kind, Outcome: audit.Done, Actor: audit.ActorOf(by.Principal), RequestID: by.RequestID, Details: details,
	})
}

// CreateApplication implements armapi.Identities.
func (d directory) CreateApplication(
	ctx context.Context, by armapi.Caller, name string, life time.Duration,
) (p identity.Principal, s armapi.NewSecret, err error) {
	if p, err = d.Directory.CreateApplication(ctx, identity.Creation{Tenant: d.tenant, Name: name}); err != nil {
		return p, s, err
	}
	if s, err = d.AddSecret(ctx, by, p.ID, life); err != nil {
		return p, s, errors.Join(err, d.Directory.Delete(context.WithoutCancel(ctx), p.ID))
	}
	p, err = d.Principal(p.ID)
	return p, s, err
}

// AddSecret implements armapi.Identities.
func (d directory) AddSecret(ctx context.Context, by armapi.Caller, id string, life time.Duration) (s armapi.NewSecret, err error) {
	if _, err := d.Principal(id); err != nil {
		return s, err
	}
	err = d.tell(ctx, by, audit.IdentityCreate, map[audit.Detail]string{audit.DetailSubject: id, audit.DetailOperation: "secret"})
	if err == nil {
		s.Secret, s.Value, err = d.Directory.AddSecret(ctx, id, life)
	}
	return s, err
}

// RemoveSecret implements armapi.Identities.
func (d directory) RemoveSecret(ctx context.Context, by armapi.Caller, id, secret string) error {
	if _, err := d.Principal(id); err != nil {
		return err
	}
	err := d.tell(ctx, by, audit.IdentityDelete, map[audit.Detail]string{audit.DetailSubject: id, audit.DetailOperation: "secret"})
	if err == nil {
		err = d.Directory.RemoveSecret(ctx, id, secret)
	}
	return err
}

// Delete implements armapi.Identities. The identity of a resource goes with its resource, and the operator stays: nobody could
// repair what was done without one.
func (d directory) Delete(ctx context.Context, by armapi.Caller, id string) error {
	p, err := d.Principal(id)
	if err != nil {
		return err
	}
	if p.Kind != identity.Application || p.ID == by.Principal.ObjectID {
		return visage.Refuse(visage.Conflict, "PrincipalInUse",
			"The identity %s is that of a resource, with which it goes, or the caller's own: it cannot be removed here.", p.ID)
	}
	if err := d.tell(ctx, by, audit.IdentityDelete, map[audit.Detail]string{audit.DetailSubject: p.ID}); err != nil {
		return err
	}
	return d.Directory.Delete(ctx, p.ID)
}

// SetSubjects implements armapi.Identities.
func (d directory) SetSubjects(ctx context.Context, by armapi.Caller, id string, subjects []identity.Subject) error {
	if _, err := d.Principal(id); err != nil {
		return err
	}
	err := d.tell(ctx, by, audit.IdentityCreate, map[audit.Detail]string{audit.DetailSubject: id, audit.DetailOperation: "federated-subjects"})
	if err == nil {
		err = d.Directory.SetSubjects(ctx, id, subjects)
	}
	return err
}

// Assign implements armapi.Identities.
func (d directory) Assign(ctx context.Context, by armapi.Caller, id, principal, role, scope string) (identity.Assignment, error) {
	a, err := d.Directory.Assign(ctx, id, principal, role, scope)
	if err != nil {
		return a, err
	}
	return a, d.tell(ctx, by, audit.IdentityRole, map[audit.Detail]string{
		audit.DetailOperation: "assign", audit.DetailSubject: a.Principal, audit.DetailRole: a.Role,
	})
}

// Unassign implements armapi.Identities.
func (d directory) Unassign(ctx context.Context, by armapi.Caller, id string) error {
	if err := d.Directory.Unassign(ctx, id); err != nil {
		return err
	}
	return d.tell(ctx, by, audit.IdentityRole, map[audit.Detail]string{audit.DetailOperation: "unassign", audit.DetailSubject: id})
}
