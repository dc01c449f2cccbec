package server

import (
	"context"
	"errors"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api/armapi"
	"github.com/visage-face/visage/identity"
)

// signInPath is the page of the console at which one-time codes are used. A code stands behind it.
const signInPath = "/console/signin/"

// directory changes identities for the management plane.
type directory struct {
	*identity.Directory
	tenant   string
	operator string // object id of the operator's application
	address  string // of the console's page for one-time codes, with a slash at the end
}

func (s *Server) directory(of *identity.Directory, operator Operator) directory {
	return directory{of, operator.TenantID, operator.ClientID, s.Endpoint() + signInPath}
}

// CreateApplication implements armapi.Identities.
func (d directory) CreateApplication(
	ctx context.Context, name string, life time.Duration,
) (p identity.Principal, s armapi.NewSecret, err error) {
	if p, err = d.Directory.CreateApplication(ctx, identity.Creation{Tenant: d.tenant, Name: name}); err != nil {
		return p, s, err
	}
	if s, err = d.AddSecret(ctx, p.ID, life); err != nil {
		return p, s, errors.Join(err, d.Directory.Delete(context.WithoutCancel(ctx), p.ID))
	}
	p, err = d.Principal(p.ID)
	return p, s, err
}

// AddSecret implements armapi.Identities.
func (d directory) AddSecret(ctx context.Context, id string, life time.Duration) (s armapi.NewSecret, err error) {
	s.Secret, s.Value, err = d.Directory.AddSecret(ctx, id, life)
	return s, err
}

// Delete implements armapi.Identities. The identity of a resource is deleted with its resource. Callers cannot delete
// themselves, and nobody the operator's application: without it, a mistake could not be repaired.
func (d directory) Delete(ctx context.Context, id string) error {
	caller := visage.CallerFrom(ctx)
	return d.DeleteIf(ctx, id, func(p identity.Principal) error {
		if (p.Kind == identity.Application || p.Kind == identity.Person) && p.ID != caller.ObjectID &&
			p.ID != d.operator {
			return nil
		}
		return visage.Refuse(visage.Conflict, "PrincipalInUse",
			"The identity %s belongs to a resource, to the caller or to the operator, and cannot be deleted here: "+
				"delete the resource, or sign in as another identity.", p.ID)
	})
}

// SignInAddress implements armapi.People.
func (d directory) SignInAddress(
	ctx context.Context, id string, use identity.CodeUse,
) (address string, expires time.Time, err error) {
	life := identity.SignInCodeLife
	if use == identity.Invite {
		life = identity.InviteCodeLife
	}
	expires = time.Now().Add(life)
	code, err := d.IssueCode(ctx, id, use, life)
	if err != nil {
		return "", time.Time{}, err
	}
	return d.address + code, expires, nil
}
