package armapi

import (
	"errors"
	"net/http"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/api/armapi/armwire"
)

// accountRoutes are the operations on Face resources.
func (p *plane) accountRoutes(route routeMaker) []api.Route {
	return []api.Route{
		route(http.MethodGet, inSubscription, p.list,
			api.Doc{Summary: "List the accounts of the subscription", Answer: list{}, Query: pageParams}),
		route(http.MethodGet, inGroup, p.list,
			api.Doc{Summary: "List the accounts of the resource group", Answer: list{}, Query: pageParams}),
		route(http.MethodGet, one, p.get, api.Doc{Summary: "Get an account", Answer: armwire.Account{}}),
		route(http.MethodPut, one, p.put,
			api.Doc{Summary: "Create an account, change it, or recover a deleted one", Body: armwire.AccountRequest{},
				Answer: armwire.Account{}}),
		route(http.MethodPatch, one, p.patch,
			api.Doc{Summary: "Change an account", Body: armwire.AccountRequest{}, Answer: armwire.Account{}}),
		route(http.MethodDelete, one, p.remove,
			api.Doc{Summary: "Delete an account; it can be recovered for 48 hours"}),
		route(http.MethodPost, one+"/listKeys", p.keys,
			api.Doc{Summary: "List the keys of an account", Answer: armwire.AccountKeys{}}),
		route(http.MethodPost, one+"/regenerateKey", p.regenerate,
			api.Doc{Summary: "Replace a key of an account", Body: armwire.KeyRegeneration{},
				Answer: armwire.AccountKeys{}}),
	}
}

func (p *plane) list(r *api.Request) (any, error) {
	all, err := p.Accounts.List(r.Context())
	if err != nil {
		return nil, err
	}
	return p.answerList(r, all)
}

func (p *plane) answerList(r *api.Request, all []account.Account) (any, error) {
	var wire []armwire.Account
	for _, a := range all {
		w, err := p.resource(r.Context(), a)
		if err != nil {
			return nil, err
		}
		wire = append(wire, w)
	}
	return page(p, r, wire, func(a armwire.Account) string { return a.ID })
}

func (p *plane) get(r *api.Request) (any, error) {
	a, err := p.Accounts.Get(r.Context(), r.Path("account"))
	if err != nil {
		return nil, err
	}
	return p.reply(r, http.StatusOK, a)
}

func (p *plane) put(r *api.Request) (any, error) {
	var want armwire.AccountRequest
	if err := read(r, &want); err != nil {
		return nil, err
	}
	// A recovery needs no properties: the account keeps the ones it had.
	if want.Kind == "" && want.Properties.Restore {
		want.Kind = kindFace
	}
	if !strings.EqualFold(want.Kind, kindFace) {
		return nil, visage.Refuse(visage.Invalid, "InvalidKind", "kind must be Face; got %q.", want.Kind)
	}
	if err := checkProperties(want.Properties); err != nil {
		return nil, err
	}
	name := r.Path("account")
	there, err := p.Accounts.Get(r.Context(), name)
	if err == nil {
		if r.Header("If-None-Match") == "*" {
			return nil, precondition(changed(there))
		}
		return p.change(r, want, true)
	}
	if !isUnknown(err) {
		return nil, err
	}
	if r.Header("If-Match") != "" {
		return nil,
			precondition(visage.Refuse(visage.Conflict, preconditionFailed, "There is no resource called %q.", name))
	}
	if want.Properties.Restore {
		return p.recover(r, want)
	}
	return p.create(r, want)
}

func (p *plane) create(r *api.Request, want armwire.AccountRequest) (any, error) {
	if want.Location == "" {
		return nil, visage.Refuse(visage.Invalid, "LocationRequired", "The property location is required.")
	}
	if want.SKU == nil {
		return nil, visage.Refuse(visage.Invalid, "InvalidSkuId", "The property sku.name is required: F0, S0 or E0.")
	}
	c := account.Creation{
		Name: r.Path("account"), Group: p.Group, Location: want.Location, Tier: visage.Tier(want.SKU.Name),
		Tags: want.Tags,
	}
	if s := want.Properties.CustomSubDomainName; s != nil {
		c.Subdomain = *s
	}
	if d := want.Properties.DisableLocalAuth; d != nil {
		c.LocalAuthDisabled = *d
	}
	var err error
	if c.Network, err = network(c.Network, want.Properties.NetworkACLs,
		want.Properties.PublicNetworkAccess); err != nil {
		return nil, err
	}
	if want.Properties.CORS != nil {
		c.Origins = want.Properties.CORS.AllowedOrigins
	}
	if c.Protection, err = protectionOf(want.Properties.Encryption); err != nil {
		return nil, err
	}
	if want.Identity != nil {
		if c.Identity, err = p.identitySpec(r, want.Identity, account.Identity{}); err != nil {
			return nil, err
		}
	}
	a, err := p.Accounts.Create(r.Context(), r.Caller(), c)
	if err != nil {
		return nil, err
	}
	return p.reply(r, http.StatusCreated, a)
}

func (p *plane) patch(r *api.Request) (any, error) {
	var want armwire.AccountRequest
	if err := read(r, &want); err != nil {
		return nil, err
	}
	if err := checkProperties(want.Properties); err != nil {
		return nil, err
	}
	return p.change(r, want, false)
}

// change applies the given properties to an existing account. whole is for PUT: tags that are not given are removed.
// Nothing else is removed: a client that does not know the identity must not end it, since it opens the customer's
// data.
func (p *plane) change(r *api.Request, want armwire.AccountRequest, whole bool) (any, error) {
	protection, err := protectionOf(want.Properties.Encryption)
	if err != nil {
		return nil, err
	}
	name := r.Path("account")
	a, err := p.Accounts.Update(r.Context(), r.Caller(), name, func(a account.Account) (account.Change, error) {
		c := account.Change{
			Subdomain: want.Properties.CustomSubDomainName, LocalAuthDisabled: want.Properties.DisableLocalAuth,
			Protection: protection,
		}
		if err := matches(r, a); err != nil {
			return c, err
		}
		if want.Location != "" && !visage.SameLocation(want.Location, a.Location) {
			return c, visage.Refuse(visage.Conflict, "InvalidResourceLocation",
				"Resource %q is in location %q and cannot be moved.", a.Name, a.Location)
		}
		if want.Kind != "" && !strings.EqualFold(want.Kind, kindFace) {
			return c, visage.Refuse(visage.Invalid, "InvalidKind", "The kind of a resource cannot be changed.")
		}
		if want.SKU != nil {
			tier := visage.Tier(want.SKU.Name)
			c.Tier = &tier
		}
		if c.Tags = want.Tags; c.Tags == nil && whole {
			c.Tags = map[string]string{}
		}
		rules, err := network(a.Network, want.Properties.NetworkACLs, want.Properties.PublicNetworkAccess)
		if err != nil {
			return c, err
		}
		c.Network = &rules
		if want.Properties.CORS != nil {
			c.Origins = &want.Properties.CORS.AllowedOrigins
		}
		if want.Identity != nil {
			spec, err := p.identitySpec(r, want.Identity, a.Identity)
			if err != nil {
				return c, err
			}
			c.Identity = &spec
		}
		return c, nil
	})
	if err != nil {
		return nil, precondition(err)
	}
	return p.reply(r, http.StatusOK, a)
}

// preconditionFailed is the code of a refusal by If-Match or If-None-Match, whose status no kind of refusal has.
const preconditionFailed = "PreconditionFailed"

// matches refuses a change if the account's state is not the one in the caller's If-Match.
func matches(r *api.Request, a account.Account) error {
	if tags := r.Header("If-Match"); tags != "" && tags != "*" && !strings.Contains(tags, etag(a)) {
		return changed(a)
	}
	return nil
}

func changed(a account.Account) error {
	return visage.Refuse(visage.Conflict, preconditionFailed,
		"The resource %q has changed: its ETag is %s. Get the resource, and repeat the change with this "+
			"ETag.", a.Name, etag(a))
}

// precondition gives a refusal by If-Match its status.
func precondition(err error) error {
	if refusal, ok := errors.AsType[*visage.Refusal](err); ok && refusal.Code == preconditionFailed {
		return &api.Problem{Status: http.StatusPreconditionFailed, Code: refusal.Code, Message: refusal.Message}
	}
	return err
}

func (p *plane) remove(r *api.Request) (any, error) {
	a, err := p.Accounts.Get(r.Context(), r.Path("account"))
	if err == nil {
		err = matches(r, a)
	}
	if err == nil {
		err = p.mayRemove(r.Context(), a.Resource)
	}
	if err == nil {
		err = p.Accounts.Delete(r.Context(), r.Caller(), r.Path("account"))
	}
	if isUnknown(err) {
		return api.Reply{Status: http.StatusNoContent}, nil
	}
	return nil, precondition(err)
}

func (p *plane) keys(r *api.Request) (any, error) {
	k, err := p.Accounts.ListKeys(r.Context(), r.Caller(), r.Path("account"))
	if err != nil {
		return nil, err
	}
	return armwire.AccountKeys(k), nil
}

func (p *plane) regenerate(r *api.Request) (any, error) {
	var want armwire.KeyRegeneration
	if err := read(r, &want); err != nil {
		return nil, err
	}
	name, err := account.ParseKeyName(want.KeyName)
	if err != nil {
		return nil, err
	}
	k, err := p.Accounts.Regenerate(r.Context(), r.Caller(), r.Path("account"), name)
	if err != nil {
		return nil, err
	}
	return armwire.AccountKeys(k), nil
}

// isUnknown reports whether an error means that a resource does not exist.
func isUnknown(err error) bool {
	refusal, ok := errors.AsType[*visage.Refusal](err)
	return ok && refusal.Kind == visage.NotFound
}
