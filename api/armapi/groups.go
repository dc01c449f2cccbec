package armapi

import (
	"net/http"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/api/armapi/armwire"
)

// groupLocation is the location of the resource group, which has no meaning.
const groupLocation = "local"

// groupRoutes are the operations on the only resource group.
func (p *plane) groupRoutes(route routeMaker) []api.Route {
	return []api.Route{
		route(http.MethodGet, oneSubscription+"/resourceGroups", p.listGroups, api.Doc{
			Summary: "List the resource groups", Answer: groupList{},
			Query: append([]api.Param{{Name: "$filter", Text: groupGrammar.example, Value: ""}}, pageParams...),
		}),
		route(http.MethodGet, oneGroup, p.getGroup, api.Doc{Summary: "Get a resource group", Answer: group{}}),
		route(http.MethodPut, oneGroup, p.putGroup,
			api.Doc{Summary: "Make a resource group: it is there", Body: groupRequest{}, Answer: group{}}),
		route(http.MethodPatch, oneGroup, p.putGroup,
			api.Doc{Summary: "Change a resource group: nothing of it can be", Body: groupRequest{}, Answer: group{}}),
		route(http.MethodDelete, oneGroup, p.removeGroup, api.Doc{Summary: "Delete a resource group: it stays"}),
	}
}

type groupList struct{ armwire.Page[group] }

type group struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Type       string            `json:"type"`
	Location   string            `json:"location"`
	Tags       map[string]string `json:"tags"`
	Properties groupProperties   `json:"properties"`
}

type groupProperties struct {
	ProvisioningState string `json:"provisioningState"`
}

type groupRequest struct {
	Location  string            `json:"location"`
	Tags      map[string]string `json:"tags"`
	ManagedBy string            `json:"managedBy"`
}

var groupGrammar = grammar{
	code: "InvalidFilterInQueryString", properties: []string{"name", "location", "tagName", "tagValue"},
	example: "tagName eq 'team' and tagValue eq 'front'",
}

func (p *plane) group() group {
	return group{
		"/subscriptions/" + p.Subscription + "/resourceGroups/" + p.Group, p.Group,
		"Microsoft.Resources/resourceGroups", groupLocation,
		map[string]string{}, groupProperties{stateSucceeded},
	}
}

func (p *plane) listGroups(r *api.Request) (any, error) {
	text, _, err := r.Query("$filter")
	if err != nil {
		return nil, err
	}
	f, err := groupGrammar.parse(text)
	if err != nil {
		return nil, err
	}
	g := p.group()
	all := []group{}
	if f(facts{of: func(property string) []string {
		return map[string][]string{"name": {g.Name}, "location": {g.Location}}[property] // and there are no tags
	}}) {
		all = append(all, g)
	}
	return page(p, r, all, func(g group) string { return g.ID })
}

func (p *plane) getGroup(*api.Request) (any, error) { return p.group(), nil }

// putGroup is for tools that create the group before its resources. Any location is accepted.
func (p *plane) putGroup(r *api.Request) (any, error) {
	var want groupRequest
	if err := read(r, &want); err != nil {
		return nil, err
	}
	if len(want.Tags) > 0 || want.ManagedBy != "" {
		return nil, visage.Refuse(visage.Invalid, "FeatureNotSupported",
			"The resource group %s cannot have tags or managedBy: leave them out, and tag the resources "+
				"instead.", p.Group)
	}
	return p.group(), nil
}

// noSuchGroup refuses a group other than the only one.
func (p *plane) noSuchGroup(method, name string) error {
	if method == http.MethodPut {
		return visage.Refuse(visage.Conflict, "ResourceGroupQuotaExceeded",
			"The resource group %q cannot be created: this instance has one fixed resource group. Use "+
				"%s.", name, p.Group)
	}
	return visage.Refuse(visage.NotFound, "ResourceGroupNotFound",
		"Resource group '%s' could not be found: the only one is %s.", name, p.Group)
}

func (p *plane) removeGroup(*api.Request) (any, error) {
	return nil, visage.Refuse(visage.Conflict, "CannotDeleteResourceGroup",
		"The resource group %s is the only one and cannot be deleted. Delete the resources in it one by one.",
		p.Group)
}

// isGroup reports whether a name is that of the only group.
func (p *plane) isGroup(name string) bool { return strings.EqualFold(name, p.Group) }
