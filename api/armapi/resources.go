package armapi

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/api/armapi/armwire"
)

// resourceRoutes list resources of all types.
func (p *plane) resourceRoutes(route routeMaker) []api.Route {
	query := append([]api.Param{
		{Name: "$filter", Text: resourceGrammar.example + ", and the like with and, or, ne, startswith, substringof",
			Value: ""},
		{Name: "$expand", Text: "createdTime, changedTime and provisioningState, with commas between", Value: ""},
	}, pageParams...)
	return []api.Route{
		route(http.MethodGet, oneSubscription+"/resources", p.listResources,
			api.Doc{Summary: "List the resources of the subscription", Answer: resourceList{}, Query: query}),
		route(http.MethodGet, oneGroup+"/resources", p.listResources,
			api.Doc{Summary: "List the resources of the resource group", Answer: resourceList{}, Query: query}),
	}
}

type resourceList struct{ armwire.Page[resourceItem] }

// resourceItem has the properties that all resources share.
type resourceItem struct {
	ID       string            `json:"id"`
	Name     string            `json:"name"`
	Type     string            `json:"type"`
	Kind     string            `json:"kind,omitempty"`
	SKU      *armwire.SKU      `json:"sku,omitempty"`
	Identity *armwire.Identity `json:"identity,omitempty"`
	Location string            `json:"location"`
	Tags     map[string]string `json:"tags"`
	// the following three are only for requests
	Created string `json:"createdTime,omitempty"`
	Changed string `json:"changedTime,omitempty"`       // with $expand
	State   string `json:"provisioningState,omitempty"` //

	group string
}

// resourceGrammar is the grammar of filters of resources. A resource has no plan, so comparisons with one are false.
var resourceGrammar = grammar{
	code: "InvalidFilterInQueryString",
	properties: []string{
		"name", "location", "resourceType", "resourceGroup", "tagName", "tagValue", "identity", "identity/principalId",
		"kind", "sku/name", "plan",
		"plan/publisher", "plan/product", "plan/name", "plan/version", "plan/promotionCode",
	},
	example: "resourceType eq '" + vaultType + "'",
}

// passes reports whether an item matches a filter. Comparisons of tagName and tagValue must hold for the same tag.
func (item *resourceItem) passes(f filter) bool {
	with := func(tag, value []string) facts {
		return facts{of: func(property string) []string {
			switch property {
			case "name":
				return []string{item.Name}
			case "location":
				return []string{visage.FoldLocation(item.Location), item.Location}
			case "resourcetype":
				return []string{item.Type}
			case "resourcegroup":
				return []string{item.group}
			case "kind":
				return some(item.Kind)
			case "tagname":
				return tag
			case "tagvalue":
				return value
			}
			return item.ofParts(property)
		}}
	}
	if len(item.Tags) == 0 {
		return f(with(nil, nil))
	}
	for name, value := range item.Tags {
		if f(with([]string{name}, []string{value})) {
			return true
		}
	}
	return false
}

// ofParts are the properties in a part of the item.
func (item *resourceItem) ofParts(property string) []string {
	switch {
	case property == "sku/name" && item.SKU != nil:
		return []string{item.SKU.Name}
	case property == "identity" && item.Identity != nil:
		return []string{item.Identity.Type}
	case property == "identity/principalid" && item.Identity != nil:
		all := some(item.Identity.PrincipalID)
		for _, u := range item.Identity.Users {
			all = append(all, u.PrincipalID)
		}
		return all
	}
	return nil
}

func some(value string) []string {
	if value == "" {
		return nil
	}
	return []string{value}
}

func (p *plane) listResources(r *api.Request) (any, error) {
	text, _, err := r.Query("$filter")
	if err != nil {
		return nil, err
	}
	f, err := resourceGrammar.parse(text)
	if err != nil {
		return nil, err
	}
	expand, err := expansions(r)
	if err != nil {
		return nil, err
	}
	all, err := p.resources(r)
	if err != nil {
		return nil, err
	}
	var items []resourceItem
	for _, item := range all {
		if !item.passes(f) {
			continue
		}
		if !slices.Contains(expand, "createdtime") {
			item.Created = ""
		}
		if !slices.Contains(expand, "changedtime") {
			item.Changed = ""
		}
		if !slices.Contains(expand, "provisioningstate") {
			item.State = ""
		}
		items = append(items, item)
	}
	return page(p, r, items, func(i resourceItem) string { return i.ID })
}

// expansions are the values of a request's $expand, in lower case.
func expansions(r *api.Request) ([]string, error) {
	text, _, err := r.Query("$expand")
	if err != nil {
		return nil, err
	}
	var all []string
	for one := range strings.SplitSeq(strings.ToLower(text), ",") {
		switch one = strings.TrimSpace(one); one {
		case "createdtime", "changedtime", "provisioningstate":
			all = append(all, one)
		case "":
		default:
			return nil, visage.Refuse(visage.Invalid, "InvalidExpandInQueryString",
				"$expand must name createdTime, changedTime or provisioningState; got %.40q.",
				text)
		}
	}
	return all, nil
}

// resources returns all resources of every type.
func (p *plane) resources(r *api.Request) ([]resourceItem, error) {
	accounts, err := p.Accounts.List(r.Context())
	if err != nil {
		return nil, err
	}
	vaults, err := p.Vaults.Vaults(r.Context())
	if err != nil {
		return nil, err
	}
	var items []resourceItem
	for _, a := range accounts {
		items = append(items, p.accountItem(a))
	}
	for _, v := range vaults {
		full := p.vault(v)
		items = append(items, resourceItem{
			ID: full.ID, Name: full.Name, Type: full.Type, Location: full.Location, Tags: full.Tags, group: v.Group,
			Created: moment(v.Created), Changed: moment(v.Changed), State: full.Properties.ProvisioningState,
		})
	}
	return items, nil
}

func (p *plane) accountItem(a account.Account) resourceItem {
	tags := a.Tags
	if tags == nil {
		tags = map[string]string{}
	}
	return resourceItem{
		ID: p.accountID(a), Name: a.Name, Type: accountType, Kind: kindFace,
		SKU:      &armwire.SKU{Name: string(a.Tier), Tier: tierNames[a.Tier]},
		Identity: identityOf(a.Identity), Location: a.Location, Tags: tags, group: a.Group, Created: moment(a.Created),
		Changed: moment(a.Changed), State: stateSucceeded,
	}
}

// moment formats a time as lists of resources do.
func moment(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
