package armapi

import (
	"context"
	"net/http"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/identity"
)

// Identities manages applications and role assignments. The context of each call carries the caller, for the audit log.
type Identities interface {
	// Principals returns all identities; Principal one of them, by its object id. Refusal: PrincipalNotFound.
	Principals() []identity.Principal
	Principal(id string) (identity.Principal, error)
	// CreateApplication creates an application with one secret, whose value is returned only here; life is as AddSecret
	// has it.
	CreateApplication(ctx context.Context, name string, life time.Duration) (identity.Principal, NewSecret, error)
	// Delete removes an identity with its roles. Refusals: PrincipalNotFound, PrincipalInUse.
	Delete(ctx context.Context, id string) error
	// AddSecret adds a secret to an application; a life of 0 has no end. Refusals: PrincipalNotFound, InvalidPrincipal.
	AddSecret(ctx context.Context, id string, life time.Duration) (NewSecret, error)
	// RemoveSecret ends one. Refusal: PrincipalNotFound.
	RemoveSecret(ctx context.Context, id, secret string) error
	// SetSubjects replaces the subjects of trusted issuers that get tokens of an application. Refusals:
	// PrincipalNotFound, InvalidPrincipal.
	SetSubjects(ctx context.Context, id string, subjects []identity.Subject) error
	// Assign assigns a role on a scope, Unassign removes an assignment; Assignments returns those that apply to a
	// scope. See identity.Directory.
	Assign(ctx context.Context, id, principal, role, scope string) (identity.Assignment, error)
	Unassign(ctx context.Context, id string) error
	Assignments(scope string) []identity.Assignment
}

// NewSecret is a new secret.
type NewSecret struct {
	identity.Secret
	Value string // returned only here
}

// identityRoutes are the operations on identities. They are extensions: Azure has them in another service. Only the
// operator can change identities, since anyone who can add a secret can act as the identity.
func (p *plane) identityRoutes(route routeMaker) []api.Route {
	const (
		all       = oneSubscription + "/providers/Visage.Identity/servicePrincipals"
		principal = all + "/{principal}"
	)
	return []api.Route{
		route(http.MethodGet, all, p.listPrincipals,
			api.Doc{Summary: "List identities", Answer: armwire.ServicePrincipalList{}}),
		route(http.MethodGet, principal, p.getPrincipal,
			api.Doc{Summary: "Get an identity", Answer: armwire.ServicePrincipal{}}),
		route(http.MethodPost, all, p.forOperator(p.createPrincipal),
			api.Doc{Summary: "Make an application, with one secret", Status: http.StatusCreated,
				Body:   armwire.ServicePrincipalRequest{},
				Answer: armwire.CreatedServicePrincipal{}}),
		route(http.MethodDelete, principal, p.forOperator(p.deletePrincipal),
			api.Doc{Summary: "Remove an identity with its roles", Status: http.StatusNoContent}),
		route(http.MethodPut, principal+"/federatedSubjects", p.forOperator(p.setSubjects),
			api.Doc{Summary: "Say who, vouched for by trusted issuers, is an application",
				Body:   armwire.FederatedSubjectList{},
				Answer: armwire.ServicePrincipal{}}),
		route(http.MethodPost, principal+"/addPassword", p.forOperator(p.addPassword),
			api.Doc{Summary: "Make a further secret for an application",
				Body: armwire.PasswordRequest{}, Answer: armwire.CreatedPassword{}}),
		route(http.MethodPost, principal+"/removePassword", p.forOperator(p.removePassword),
			api.Doc{Summary: "End a secret of an application", Status: http.StatusNoContent,
				Body: armwire.PasswordID{}}),
	}
}

func principalOf(p identity.Principal) armwire.ServicePrincipal {
	s := armwire.ServicePrincipal{
		ObjectID: p.ID, AppID: p.ClientID, TenantID: p.Tenant, Name: p.Name, Kind: string(p.Kind), Resource: p.Resource,
		Created: stamp(p.Created), Secrets: []armwire.PasswordCredential{}, Subjects: []armwire.FederatedSubject{},
	}
	for _, secret := range p.Secrets {
		s.Secrets = append(s.Secrets, secretOf(secret))
	}
	for _, of := range p.Subjects {
		s.Subjects = append(s.Subjects, armwire.FederatedSubject(of))
	}
	return s
}

func secretOf(s identity.Secret) armwire.PasswordCredential {
	return armwire.PasswordCredential{KeyID: s.ID, Created: stamp(s.Created), Expires: stamp(s.Expires)}
}

func (p *plane) listPrincipals(*api.Request) (any, error) {
	answer := armwire.ServicePrincipalList{Value: []armwire.ServicePrincipal{}}
	for _, one := range p.Identities.Principals() {
		answer.Value = append(answer.Value, principalOf(one))
	}
	return answer, nil
}

func (p *plane) getPrincipal(r *api.Request) (any, error) {
	one, err := p.Identities.Principal(r.Path("principal"))
	if err != nil {
		return nil, err
	}
	return principalOf(one), nil
}

func (p *plane) createPrincipal(r *api.Request) (any, error) {
	var want armwire.ServicePrincipalRequest
	if err := read(r, &want); err != nil {
		return nil, err
	}
	life, err := lifeOf(want.Days)
	if err != nil {
		return nil, err
	}
	made, secret, err := p.Identities.CreateApplication(r.Context(), want.Name, life)
	if err != nil {
		return nil, err
	}
	answer := armwire.CreatedServicePrincipal{ServicePrincipal: principalOf(made), Password: secret.Value}
	return api.Reply{Status: http.StatusCreated, Body: answer}, nil
}

// lifeOf returns the life of a secret; one of 0 days ends with its application.
func lifeOf(days int) (time.Duration, error) {
	if days < 0 || days > 730 {
		return 0, visage.Refuse(visage.Invalid, "InvalidPrincipal",
			"passwordLifetimeDays must be from 1 to 730, or 0 for a secret that ends with its application.")
	}
	return time.Duration(days) * 24 * time.Hour, nil
}

func (p *plane) deletePrincipal(r *api.Request) (any, error) {
	if err := p.Identities.Delete(r.Context(), r.Path("principal")); err != nil {
		return nil, err
	}
	return api.Reply{Status: http.StatusNoContent}, nil
}

func (p *plane) addPassword(r *api.Request) (any, error) {
	var want armwire.PasswordRequest
	if err := read(r, &want); err != nil {
		return nil, err
	}
	life, err := lifeOf(want.Days)
	if err != nil {
		return nil, err
	}
	made, err := p.Identities.AddSecret(r.Context(), r.Path("principal"), life)
	if err != nil {
		return nil, err
	}
	return armwire.CreatedPassword{PasswordCredential: secretOf(made.Secret), Text: made.Value}, nil
}

func (p *plane) removePassword(r *api.Request) (any, error) {
	var which armwire.PasswordID
	if err := read(r, &which); err != nil {
		return nil, err
	}
	if err := p.Identities.RemoveSecret(r.Context(), r.Path("principal"), which.KeyID); err != nil {
		return nil, err
	}
	return api.Reply{Status: http.StatusNoContent}, nil
}

func (p *plane) setSubjects(r *api.Request) (any, error) {
	var want armwire.FederatedSubjectList
	if err := read(r, &want); err != nil {
		return nil, err
	}
	subjects := []identity.Subject{}
	for _, s := range want.Value {
		subjects = append(subjects, identity.Subject(s))
	}
	if err := p.Identities.SetSubjects(r.Context(), r.Path("principal"), subjects); err != nil {
		return nil, err
	}
	return p.getPrincipal(r)
}
