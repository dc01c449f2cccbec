package armapi

import (
	"net/http"
	"slices"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
)

// subscriptionRoutes describe tenants, subscriptions and locations; clients read them first (contract §2).
func (p *plane) subscriptionRoutes(route routeMaker) []api.Route {
	return []api.Route{
		route(http.MethodGet, "/tenants", p.listTenants, api.Doc{Summary: "List the tenants", Answer: tenantList{}}),
		route(http.MethodGet, "/subscriptions", p.listSubscriptions,
			api.Doc{Summary: "List the subscriptions", Answer: subscriptionList{}}),
		route(http.MethodGet, oneSubscription, p.getSubscription,
			api.Doc{Summary: "Get a subscription", Answer: subscription{}}),
		route(http.MethodGet, oneSubscription+"/locations", p.listLocations,
			api.Doc{Summary: "List the locations that are in use", Answer: locationList{}}),
	}
}

type tenantList struct {
	Value []tenant `json:"value"`
}

type tenant struct {
	ID       string `json:"id"`
	TenantID string `json:"tenantId"`
	Category string `json:"tenantCategory"`
	Name     string `json:"displayName"`
}

type subscriptionList struct {
	Value []subscription `json:"value"`
}

type subscription struct {
	ID             string `json:"id"`
	SubscriptionID string `json:"subscriptionId"`
	TenantID       string `json:"tenantId"`
	DisplayName    string `json:"displayName"`
	State          string `json:"state"`
	Source         string `json:"authorizationSource"`
	// ManagedBy are the tenants that manage the subscription for its owner: there are none.
	ManagedBy []struct{}           `json:"managedByTenants"`
	Policies  subscriptionPolicies `json:"subscriptionPolicies"`
}

type subscriptionPolicies struct {
	Placement     string `json:"locationPlacementId"`
	Quota         string `json:"quotaId"`
	SpendingLimit string `json:"spendingLimit"`
}

type locationList struct {
	Value []locationWire `json:"value"`
}

type locationWire struct {
	ID                  string           `json:"id"`
	Name                string           `json:"name"`
	Type                string           `json:"type"`
	DisplayName         string           `json:"displayName"`
	RegionalDisplayName string           `json:"regionalDisplayName"`
	Metadata            locationMetadata `json:"metadata"`
}

type locationMetadata struct {
	RegionType       string     `json:"regionType"`
	RegionCategory   string     `json:"regionCategory"`
	Geography        string     `json:"geography"`
	GeographyGroup   string     `json:"geographyGroup"`
	PhysicalLocation string     `json:"physicalLocation"`
	Paired           []struct{} `json:"pairedRegion"`
}

func (p *plane) listTenants(*api.Request) (any, error) {
	return tenantList{[]tenant{{"/tenants/" + p.Tenant, p.Tenant, "Home", cloudName}}}, nil
}

func (p *plane) subscription() subscription {
	return subscription{
		ID: "/subscriptions/" + p.Subscription, SubscriptionID: p.Subscription, TenantID: p.Tenant,
		DisplayName: cloudName, State: "Enabled",
		Source: "RoleBased", ManagedBy: []struct{}{},
		Policies: subscriptionPolicies{"Public_2014-09-01", "Internal_2014-09-01", "Off"},
	}
}

// listSubscriptions lists the only subscription, to callers who may read it.
func (p *plane) listSubscriptions(r *api.Request) (any, error) {
	if !p.May(r.Principal, "Microsoft.Resources/subscriptions/read", "/subscriptions/"+p.Subscription) {
		return subscriptionList{[]subscription{}}, nil
	}
	return subscriptionList{[]subscription{p.subscription()}}, nil
}

func (p *plane) getSubscription(*api.Request) (any, error) { return p.subscription(), nil }

// locations are those of the resources, spelled as the resources spell them, plus the group's. Any text is a valid
// location.
func (p *plane) locations(r *api.Request) ([]string, error) {
	all, err := p.resources(r)
	if err != nil {
		return nil, err
	}
	locations := []string{groupLocation}
	for _, item := range all {
		if !slices.ContainsFunc(locations, func(l string) bool { return visage.SameLocation(l, item.Location) }) {
			locations = append(locations, item.Location)
		}
	}
	slices.SortFunc(
		locations, func(a, b string) int { return strings.Compare(visage.FoldLocation(a), visage.FoldLocation(b)) },
	)
	return locations, nil
}

func (p *plane) listLocations(r *api.Request) (any, error) {
	all, err := p.locations(r)
	if err != nil {
		return nil, err
	}
	answer := locationList{Value: []locationWire{}}
	for _, l := range all {
		answer.Value = append(answer.Value, locationWire{
			ID:   "/subscriptions/" + p.Subscription + "/locations/" + visage.FoldLocation(l),
			Name: visage.FoldLocation(l), Type: "Region",
			DisplayName: l, RegionalDisplayName: l,
			Metadata: locationMetadata{
				RegionType: "Physical", RegionCategory: "Other", Geography: l, GeographyGroup: l, PhysicalLocation: l,
				Paired: []struct{}{},
			},
		})
	}
	return answer, nil
}
