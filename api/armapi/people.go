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

// People manages the humans who sign in to the console. The context of each call carries the caller, for the audit log.
type People interface {
	// CreatePerson creates a person of the subscription's tenant. Refusals: InvalidPrincipal, EmailTaken.
	CreatePerson(ctx context.Context, p identity.PersonCreation) (identity.Principal, error)
	// UpdatePerson changes a person; update may run more than once. Refusals: PrincipalNotFound, InvalidPrincipal,
	// EmailTaken.
	UpdatePerson(
		ctx context.Context, id string, update func(*identity.PersonChange) error,
	) (identity.Principal, error)
	// Sessions returns the open sessions of a principal.
	Sessions(principal string) []identity.Session
	// SignInAddress returns an address of the console that signs a person, or the operator, in once, and when it ends.
	// Refusals: PrincipalNotFound, InvalidCode.
	SignInAddress(ctx context.Context, id string, use identity.CodeUse) (address string, expires time.Time, err error)
}

// peopleRoutes are the operations on people. They are extensions. Only operators can change people, since anyone who
// can make a one-time address can act as its person.
func (p *plane) peopleRoutes(route routeMaker) []api.Route {
	const (
		all    = oneSubscription + "/providers/Visage.Identity/people"
		person = all + "/{person}"
	)
	return []api.Route{
		route(http.MethodGet, all, p.listPeople,
			api.Doc{Summary: "List the people who sign in to the console", Answer: armwire.PersonList{}}),
		route(http.MethodGet, person, p.getPerson,
			api.Doc{Summary: "Get a person", Answer: armwire.Person{}}),
		route(http.MethodPost, all, p.forOperator(p.createPerson),
			api.Doc{Summary: "Create a person", Status: http.StatusCreated, Body: armwire.PersonRequest{},
				Answer: armwire.Person{}}),
		route(http.MethodPatch, person, p.forOperator(p.updatePerson),
			api.Doc{Summary: "Change the name, the e-mail address or the language of a person",
				Body: armwire.PersonUpdate{}, Answer: armwire.Person{}}),
		route(http.MethodDelete, person, p.forOperator(p.deletePerson),
			api.Doc{Summary: "Remove a person with their roles, sessions and passkeys", Status: http.StatusNoContent}),
		route(http.MethodPost, person+"/invite", p.forOperator(p.invite),
			api.Doc{Summary: "Make an address at which a person signs in once, within 72 hours, to register a passkey",
				Answer: armwire.SignInAddress{}}),
		route(http.MethodPost, oneSubscription+"/providers/Visage.Identity/servicePrincipals/{principal}/signInAddress",
			p.forOperator(p.signIn),
			api.Doc{Summary: "Make an address of the console that signs a person, or the operator, in once, within " +
				"two minutes",
				Answer: armwire.SignInAddress{}}),
	}
}

func (p *plane) personOf(one identity.Principal) armwire.Person {
	of := principalOf(one)
	answer := armwire.Person{
		ObjectID: one.ID, TenantID: one.Tenant, Name: one.Name, Email: one.Email, Language: one.Language,
		Created: of.Created, Passkeys: []armwire.Passkey{}, Subjects: of.Subjects,
		Sessions: len(p.People.Sessions(one.ID)),
	}
	for _, k := range one.Passkeys {
		passkey := armwire.Passkey{Name: k.Name, Created: stamp(k.Created)}
		if !k.Used.IsZero() {
			passkey.Used = stamp(k.Used)
		}
		answer.Passkeys = append(answer.Passkeys, passkey)
	}
	return answer
}

func (p *plane) listPeople(*api.Request) (any, error) {
	answer := armwire.PersonList{Value: []armwire.Person{}}
	for _, one := range p.Identities.Principals() {
		if one.Kind == identity.Person {
			answer.Value = append(answer.Value, p.personOf(one))
		}
	}
	return answer, nil
}

// person finds the person that a request names.
func (p *plane) person(r *api.Request) (identity.Principal, error) {
	id := r.Path("person")
	one, err := p.Identities.Principal(id)
	if err == nil && one.Kind != identity.Person {
		err = visage.Refuse(visage.NotFound, "PrincipalNotFound", "There is no person %q.", id)
	}
	return one, err
}

func (p *plane) getPerson(r *api.Request) (any, error) {
	one, err := p.person(r)
	if err != nil {
		return nil, err
	}
	return p.personOf(one), nil
}

func (p *plane) createPerson(r *api.Request) (any, error) {
	var want armwire.PersonRequest
	if err := read(r, &want); err != nil {
		return nil, err
	}
	made, err := p.People.CreatePerson(r.Context(), identity.PersonCreation{
		Tenant: p.Tenant, Name: want.Name, Email: want.Email, Language: want.Language,
	})
	if err != nil {
		return nil, err
	}
	return api.Reply{Status: http.StatusCreated, Body: p.personOf(made)}, nil
}

func (p *plane) updatePerson(r *api.Request) (any, error) {
	var want armwire.PersonUpdate
	if err := read(r, &want); err != nil {
		return nil, err
	}
	now, err := p.People.UpdatePerson(r.Context(), r.Path("person"), func(c *identity.PersonChange) error {
		for _, field := range []struct{ into, from *string }{
			{&c.Name, want.Name}, {&c.Email, want.Email}, {&c.Language, want.Language},
		} {
			if field.from != nil {
				*field.into = *field.from
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return p.personOf(now), nil
}

func (p *plane) deletePerson(r *api.Request) (any, error) {
	one, err := p.person(r)
	if err != nil {
		return nil, err
	}
	if err := p.Identities.Delete(r.Context(), one.ID); err != nil {
		return nil, err
	}
	return api.Reply{Status: http.StatusNoContent}, nil
}

func (p *plane) invite(r *api.Request) (any, error) {
	return p.address(r, r.Path("person"), identity.Invite)
}

func (p *plane) signIn(r *api.Request) (any, error) {
	return p.address(r, r.Path("principal"), identity.SignIn)
}

func (p *plane) address(r *api.Request, id string, use identity.CodeUse) (any, error) {
	address, expires, err := p.People.SignInAddress(r.Context(), id, use)
	if err != nil {
		return nil, err
	}
	return armwire.SignInAddress{Address: address, Expires: stamp(expires)}, nil
}
