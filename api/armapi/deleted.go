package armapi

import (
	"net/http"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/api/armapi/armwire"
)

// The paths of deleted accounts (contract §2).
const (
	deletedAccounts   = provider + "/deletedAccounts"
	oneDeletedAccount = provider + "/locations/{location}/resourceGroups/{group}/deletedAccounts/{account}"
)

func (p *plane) deletedRoutes(route routeMaker) []api.Route {
	return []api.Route{
		route(http.MethodGet, deletedAccounts, p.listDeleted,
			api.Doc{Summary: "List deleted accounts", Answer: list{}, Query: pageParams}),
		route(http.MethodGet, oneDeletedAccount, p.getDeleted,
			api.Doc{Summary: "Get a deleted account", Answer: armwire.Account{}}),
		route(http.MethodDelete, oneDeletedAccount, p.purge,
			api.Doc{Summary: "Destroy a deleted account with its data, for good"}),
	}
}

func (p *plane) deletedID(a account.Account) string {
	return "/subscriptions/" + p.Subscription + "/providers/Microsoft.CognitiveServices/locations/" +
		visage.FoldLocation(a.Location) +
		"/resourceGroups/" + a.Group + "/deletedAccounts/" + a.Name
}

func (p *plane) listDeleted(r *api.Request) (any, error) {
	all, err := p.Accounts.Deleted(r.Context())
	if err != nil {
		return nil, err
	}
	return p.answerList(r, all)
}

func (p *plane) getDeleted(r *api.Request) (any, error) {
	a, err := p.Accounts.GetDeleted(r.Context(), r.Path("account"))
	if err == nil && !visage.SameLocation(a.Location, r.Path("location")) {
		err = visage.Refuse(visage.NotFound, "ResourceNotFound", "There is no deleted resource %q in %q.",
			r.Path("account"), r.Path("location"))
	}
	if err != nil {
		return nil, err
	}
	return p.reply(r, http.StatusOK, a)
}

func (p *plane) purge(r *api.Request) (any, error) {
	a, err := p.Accounts.GetDeleted(r.Context(), r.Path("account"))
	if err == nil && !visage.SameLocation(a.Location, r.Path("location")) {
		return api.Reply{Status: http.StatusNoContent}, nil // there is none
	}
	if err == nil || isUnknown(err) { // another process may be purging it, and have to go on with that
		err = p.Accounts.Purge(r.Context(), r.Caller(), r.Path("account"))
	}
	if isUnknown(err) {
		return api.Reply{Status: http.StatusNoContent}, nil
	}
	return nil, err
}

// recover restores a deleted account with the properties it had; other properties in the request are ignored.
func (p *plane) recover(r *api.Request, want armwire.AccountRequest) (any, error) {
	there, err := p.Accounts.GetDeleted(r.Context(), r.Path("account"))
	if err != nil {
		return nil, err
	}
	if want.Location != "" && !visage.SameLocation(want.Location, there.Location) {
		return nil, visage.Refuse(visage.Conflict, "InvalidResourceLocation",
			"The deleted resource %q is in location %q: recover it there.", there.Name, there.Location)
	}
	a, err := p.Accounts.Recover(r.Context(), r.Caller(), r.Path("account"))
	if err != nil {
		return nil, err
	}
	return p.reply(r, http.StatusCreated, a)
}
