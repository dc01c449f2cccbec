package server

import (
	"context"
	"errors"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api/armapi"
	"github.com/visage-face/visage/identity"
)

// directory changes identities for the management plane. The directory itself tells the audit log of every change,
// whoever asks for it and by whatever way; the context of a request says who does.
type directory struct {
	*identity.Directory
	tenant string
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
func (d directory) AddSecret(
	ctx context.Context, _ armapi.Caller, id string, life time.Duration,
) (s armapi.NewSecret, err error) {
	s.Secret, s.Value, err = d.Directory.AddSecret(ctx, id, life)
	return s, err
}

// RemoveSecret implements armapi.Identities.
func (d directory) RemoveSecret(ctx context.Context, _ armapi.Caller, id, secret string) error {
	return d.Directory.RemoveSecret(ctx, id, secret)
}

// Delete implements armapi.Identities. The identity of a resource goes with its resource, and the operator stays:
// nobody could repair what was done without one.
func (d directory) Delete(ctx context.Context, by armapi.Caller, id string) error {
	return d.DeleteIf(ctx, id, func(p identity.Principal) error {
		if p.Kind == identity.Application && p.ID != by.Principal.ObjectID {
			return nil
		}
		return visage.Refuse(visage.Conflict, "PrincipalInUse",
			"The identity %s belongs to a resource or to the caller, and cannot be deleted here: delete the "+
				"resource, or sign in as another identity.", p.ID)
	})
}

// SetSubjects implements armapi.Identities.
func (d directory) SetSubjects(ctx context.Context, _ armapi.Caller, id string, subjects []identity.Subject) error {
	return d.Directory.SetSubjects(ctx, id, subjects)
}

// Assign implements armapi.Identities.
func (d directory) Assign(
	ctx context.Context, _ armapi.Caller, id, principal, role, scope string,
) (identity.Assignment, error) {
	return d.Directory.Assign(ctx, id, principal, role, scope)
}

// Unassign implements armapi.Identities.
func (d directory) Unassign(ctx context.Context, _ armapi.Caller, id string) error {
	return d.Directory.Unassign(ctx, id)
}
