package armapi

import (
	"net/http"
	"slices"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/api/armapi/armwire"
)

// offerRoutes list the available types and tiers.
func (p *plane) offerRoutes(route routeMaker) []api.Route {
	location := provider + "/locations/{location}"
	return []api.Route{
		route(http.MethodGet, one+"/skus", p.accountSKUs,
			api.Doc{Summary: "List the tiers an account can have", Answer: accountSKUs{}}),
		route(http.MethodGet, provider+"/skus", p.skus,
			api.Doc{Summary: "List the tiers there are", Answer: skuList{}}),
		route(http.MethodPost, location+"/checkSkuAvailability", p.checkSKUs,
			api.Doc{Summary: "Ask whether tiers can be had", Body: skuQuestion{}, Answer: skuAnswers{}}),
		route(http.MethodPost, provider+"/checkDomainAvailability", p.checkDomain,
			api.Doc{Summary: "Ask whether a subdomain is free", Body: domainQuestion{}, Answer: domainAnswer{}}),
	}
}

type accountSKUs struct {
	Value []accountSKU `json:"value"`
}

type accountSKU struct {
	ResourceType string      `json:"resourceType"`
	SKU          armwire.SKU `json:"sku"`
}

type skuList struct {
	Value []skuOffer `json:"value"`
}

type skuOffer struct {
	ResourceType string     `json:"resourceType"`
	Name         string     `json:"name"`
	Tier         string     `json:"tier"`
	Kind         string     `json:"kind"`
	Locations    []string   `json:"locations"`
	Restrictions []struct{} `json:"restrictions"`
}

type skuQuestion struct {
	SKUs []string `json:"skus"`
	Kind string   `json:"kind"`
	Type string   `json:"type"`
}

type skuAnswers struct {
	Value []skuAvailability `json:"value"`
}

type skuAvailability struct {
	Kind      string `json:"kind"`
	Type      string `json:"type"`
	SKU       string `json:"skuName"`
	Available bool   `json:"skuAvailable"`
	Reason    string `json:"reason,omitempty"`
	Message   string `json:"message,omitempty"`
}

type domainQuestion struct {
	Subdomain string `json:"subdomainName"`
	Type      string `json:"type"`
	Kind      string `json:"kind"`
}

type domainAnswer struct {
	Available bool   `json:"isSubdomainAvailable"`
	Reason    string `json:"reason,omitempty"`
	Subdomain string `json:"subdomainName"`
	Type      string `json:"type"`
	Kind      string `json:"kind,omitempty"`
}

// nothing answers with an empty list.
type nothing struct {
	Value []struct{} `json:"value"`
}

var tiers = []visage.Tier{visage.F0, visage.S0, visage.E0}

// accountSKUs lists the tier of an account and those it can change to: E0 is chosen at creation, and kept.
func (p *plane) accountSKUs(r *api.Request) (any, error) {
	a, err := p.Accounts.Get(r.Context(), r.Path("account"))
	if err != nil {
		return nil, err
	}
	answer := accountSKUs{Value: []accountSKU{}}
	for _, t := range tiers {
		if (t == visage.E0) == (a.Tier == visage.E0) {
			answer.Value = append(answer.Value, accountSKU{
				accountType, armwire.SKU{Name: string(t), Tier: tierNames[t]},
			})
		}
	}
	return answer, nil
}

// skus lists the tiers in the locations of existing resources; every word is a valid location.
func (p *plane) skus(r *api.Request) (any, error) {
	all, err := p.Accounts.List(r.Context())
	if err != nil {
		return nil, err
	}
	locations := []string{"LOCAL"}
	for _, a := range all {
		if l := strings.ToUpper(visage.FoldLocation(a.Location)); !slices.Contains(locations, l) {
			locations = append(locations, l)
		}
	}
	slices.Sort(locations)
	answer := skuList{Value: []skuOffer{}}
	for _, t := range tiers {
		answer.Value = append(answer.Value,
			skuOffer{"accounts", string(t), tierNames[t], kindFace, locations, []struct{}{}})
	}
	return answer, nil
}

func (p *plane) checkSKUs(r *api.Request) (any, error) {
	var want skuQuestion
	if err := read(r, &want); err != nil {
		return nil, err
	}
	answer := skuAnswers{Value: []skuAvailability{}}
	for _, name := range want.SKUs {
		a := skuAvailability{Kind: want.Kind, Type: want.Type, SKU: name, Available: true}
		if _, err := visage.ParseTier(name); err != nil || !strings.EqualFold(want.Kind, kindFace) {
			a.Available, a.Reason, a.Message = false, "NotAvailable",
				"The kind is Face, and the tiers are F0, S0 and E0."
		}
		answer.Value = append(answer.Value, a)
	}
	return answer, nil
}

func (p *plane) checkDomain(r *api.Request) (any, error) {
	var want domainQuestion
	if err := read(r, &want); err != nil {
		return nil, err
	}
	answer := domainAnswer{Subdomain: want.Subdomain, Type: want.Type, Kind: want.Kind}
	switch {
	case account.CheckSubdomain(want.Subdomain) != nil:
		answer.Reason = "The subdomain is not 2 to 64 letters, digits and hyphens that begin and end with a letter " +
			"or digit."
	case !p.Accounts.FreeSubdomain(want.Subdomain):
		answer.Reason = "The subdomain is taken, maybe by a deleted resource."
	default:
		answer.Available = true
	}
	return answer, nil
}
