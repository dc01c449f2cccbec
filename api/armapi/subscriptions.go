package armapi

import (
	"net/http"

	"github.com/visage-face/visage/api"
)

// subscriptionRoutes are what clients look around with before they come to resources (contract §2).
func (p *plane) subscriptionRoutes(route routeMaker) []api.Route {
	return []api.Route{
		route(http.MethodGet, "/tenants", p.listTenants, api.Doc{Summary: "List the tenants", Answer: tenantList{}}),
		route(http.MethodGet, "/subscriptions", p.listSubscriptions, api.Doc{Summary: "List the subscriptions", Answer: subscriptionList{}}),
		route(http.MethodGet, oneSubscription, p.getSubscription, api.Doc{Summary: "Get a subscription", Answer: subscription{}}),
		route(http.MethodGet, oneSubscription+"/resourceGroups", p.listGroups, api.Doc{Summary: "List the resource groups", Answer: groupList{}}),
		route(http.MethodGet, oneGroup, p.getGroup, api.Doc{Summary: "Get a resource group", Answer: group{}}),
		route(http.MethodPut, oneGroup, p.putGroup, api.Doc{Summary: "Make a resource group: it is there", Answer: group{}}),
		route(http.MethodGet, provider, p.getProvider, api.Doc{Summary: "Get the registration of the provider", Answer: providerWire{}}),
		route(http.MethodPost, provider+"/register", p.getProvider, api.Doc{Summary: "Register the provider: it is", Answer: providerWire{}}),
	}
}

type tenantList struct {
	Value []tenant `json:"value"`
}

type tenant struct {
	ID       string `json:"id"`
	TenantID string `json:"tenantId"`
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
}

type groupList struct {
	Value []group `json:"value"`
}

type group struct {
	ID         string          `json:"id"`
	Name       string          `json:"name"`
	Type       string          `json:"type"`
	Location   string          `json:"location"`
	Properties groupProperties `json:"properties"`
}

type groupProperties struct {
	ProvisioningState string `json:"provisioningState"`
}

type providerWire struct {
	ID                string `json:"id"`
	Namespace         string `json:"namespace"`
	RegistrationState string `json:"registrationState"`
}

func (p *plane) listTenants(*api.Request) (any, error) {
	return tenantList{[]tenant{{"/tenants/" + p.Tenant, p.Tenant}}}, nil
}

func (p *plane) subscription() subscription {
	return subscription{"/subscriptions/" + p.Subscription, p.Subscription, p.Tenant, "Visage", "Enabled"}
}

// listSubscriptions lists the one there is, for who may see it.
func (p *plane) listSubscriptions(r *api.Request) (any, error) {
	if !p.May(r.Principal, "Microsoft.Resources/subscriptions/read", "/subscriptions/"+p.Subscription) {
		return subscriptionList{[]subscription{}}, nil
	}
	return subscriptionList{[]subscription{p.subscription()}}, nil
}

func (p *plane) getSubscription(*api.Request) (any, error) { return p.subscription(), nil }

func (p *plane) group() group {
	return group{
		"/subscriptions/" + p.Subscription + "/resourceGroups/" + p.Group, p.Group, "Microsoft.Resources/resourceGroups", "local",
		groupProperties{"Succeeded"},
	}
}

func (p *plane) listGroups(*api.Request) (any, error) { return groupList{[]group{p.group()}}, nil }

func (p *plane) getGroup(*api.Request) (any, error) { return p.group(), nil }

// putGroup is for tools that make the group before what goes into it.
func (p *plane) putGroup(*api.Request) (any, error) { return p.group(), nil }

func (p *plane) getProvider(*api.Request) (any, error) {
	return providerWire{
		"/subscriptions/" + p.Subscription + "/providers/Microsoft.CognitiveServices", "Microsoft.CognitiveServices", "Registered",
	}, nil
}
