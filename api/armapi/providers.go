package armapi

import (
	"net/http"
	"slices"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/api/armapi/armwire"
)

// providerRoutes describe the resource providers; clients read them first.
func (p *plane) providerRoutes(route routeMaker) []api.Route {
	const (
		all = oneSubscription + "/providers"
		one = all + "/{namespace}"
	)
	list := func(pattern string) api.Route {
		return route(http.MethodGet, pattern, p.listProviders,
			api.Doc{Summary: "List the providers of resources", Answer: providerList{}, Query: pageParams})
	}
	get := func(pattern string) api.Route {
		return route(http.MethodGet, pattern, p.getProvider,
			api.Doc{Summary: "Get the registration and the types of a provider", Answer: providerWire{}})
	}
	return []api.Route{
		list("/providers"), get("/providers/{namespace}"), list(all), get(one),
		route(http.MethodPost, one+"/register", p.getProvider,
			api.Doc{Summary: "Register a provider: it is", Answer: providerWire{}}),
		route(http.MethodPost, one+"/unregister", p.unregister,
			api.Doc{Summary: "Unregister a provider: all stay", Answer: providerWire{}}),
		route(http.MethodGet, one+"/resourceTypes", p.listTypes,
			api.Doc{Summary: "List the types of a provider", Answer: typeList{}}),
	}
}

type providerList struct{ armwire.Page[providerWire] }

type providerWire struct {
	ID                 string         `json:"id"`
	Namespace          string         `json:"namespace"`
	RegistrationState  string         `json:"registrationState"`
	RegistrationPolicy string         `json:"registrationPolicy"`
	Types              []resourceType `json:"resourceTypes"`
}

type typeList struct {
	Value []resourceType `json:"value"`
}

type resourceType struct {
	Name         string     `json:"resourceType"`
	Locations    []string   `json:"locations"`
	Versions     []string   `json:"apiVersions"`
	Default      string     `json:"defaultApiVersion"`
	Capabilities string     `json:"capabilities"`
	Aliases      []struct{} `json:"aliases"`
}

// capabilities are the contract's names of what some types can do.
var capabilities = map[string]string{
	accountType: "SystemAssignedResourceIdentity, SupportsTags, SupportsLocation",
	vaultType:   "SupportsTags, SupportsLocation",
}

// versions are the api-versions that official clients of a provider send. All others are accepted too.
var versions = map[string][]string{
	"microsoft.cognitiveservices": {
		"2025-09-01", "2025-06-01", "2024-10-01", "2023-05-01", "2022-12-01", "2022-10-01", "2022-03-01", "2021-10-01",
		"2021-04-30", "2017-04-18",
	},
	"microsoft.keyvault": {
		"2026-02-01", "2024-11-01", "2023-07-01", "2023-02-01", "2022-11-01", "2022-07-01", "2021-10-01", "2019-09-01",
		"2018-02-14", "2016-10-01", "2015-06-01",
	},
	"microsoft.authorization": {"2022-04-01", "2020-10-01", "2018-07-01", "2018-01-01-preview", "2015-07-01"},
	"microsoft.resources": {"2025-04-01", "2024-03-01", "2022-09-01", "2021-04-01", "2019-07-01", "2018-05-01",
		"2016-06-01", "2015-11-01"},
}

// ownVersions are those of the providers that are extensions.
var ownVersions = []string{"2025-09-01"}

// providers returns all providers with their types, generated from the plane's routes so that none can be missing.
func (p *plane) providers(r *api.Request) ([]providerWire, error) {
	locations, err := p.locations(r)
	if err != nil {
		return nil, err
	}
	known := map[string]*providerWire{}
	for _, route := range p.routes() {
		namespace, name, ok := typeIn(route.Method, route.Pattern)
		if !ok {
			continue
		}
		key := strings.ToLower(namespace)
		w := known[key]
		if w == nil {
			w = &providerWire{
				ID: "/subscriptions/" + p.Subscription + "/providers/" + namespace, Namespace: namespace,
				RegistrationState:  "Registered",
				RegistrationPolicy: "RegistrationFree", Types: []resourceType{},
			}
			known[key] = w
		}
		if slices.ContainsFunc(w.Types, func(t resourceType) bool { return strings.EqualFold(t.Name, name) }) {
			continue
		}
		t := resourceType{Name: name, Locations: []string{}, Versions: versions[key],
			Capabilities: capabilities[namespace+"/"+name], Aliases: []struct{}{}}
		if t.Versions == nil {
			t.Versions = ownVersions
		}
		t.Default = t.Versions[0]
		if t.Capabilities == "" {
			t.Capabilities = "None"
		} else {
			t.Locations = locations
		}
		w.Types = append(w.Types, t)
	}
	var all []providerWire
	for _, w := range known {
		slices.SortFunc(w.Types, func(a, b resourceType) int { return strings.Compare(a.Name, b.Name) })
		all = append(all, *w)
	}
	return all, nil
}

// typeIn returns the provider and the resource type of a route: the literals of the path after the last provider.
// Actions on a resource, and routes without a public provider, have none.
func typeIn(method, pattern string) (namespace, name string, ok bool) {
	namespace, rest := "Microsoft.Resources", strings.TrimPrefix(pattern, "/")
	if at := strings.LastIndex(pattern, "/providers/"); at >= 0 && !strings.Contains(pattern, anyProvider) {
		namespace, rest, _ = strings.Cut(pattern[at+len("/providers/"):], "/")
	}
	if rest == "" || strings.HasPrefix(namespace, "{") || strings.HasPrefix(rest, "metadata/") {
		return "", "", false
	}
	segments := strings.Split(rest, "/")
	if last := len(segments) - 2; method == http.MethodPost && last >= 0 && strings.HasPrefix(segments[last], "{") &&
		segments[last] != "{location}" {
		return "", "", false
	}
	words := slices.DeleteFunc(segments, func(s string) bool { return strings.HasPrefix(s, "{") })
	return namespace, strings.Join(words, "/"), true
}

func (p *plane) listProviders(r *api.Request) (any, error) {
	all, err := p.providers(r)
	if err != nil {
		return nil, err
	}
	return page(p, r, all, func(w providerWire) string { return w.ID })
}

// provider finds the provider that a path names.
func (p *plane) provider(r *api.Request) (providerWire, error) {
	all, err := p.providers(r)
	if err != nil {
		return providerWire{}, err
	}
	name := r.Path("namespace")
	i := slices.IndexFunc(all, func(w providerWire) bool { return strings.EqualFold(w.Namespace, name) })
	if i < 0 {
		return providerWire{}, visage.Refuse(visage.NotFound, "InvalidResourceNamespace",
			"The resource provider %q does not exist here.", name)
	}
	return all[i], nil
}

func (p *plane) getProvider(r *api.Request) (any, error) {
	w, err := p.provider(r)
	if err != nil {
		return nil, err
	}
	return w, nil
}

func (p *plane) unregister(r *api.Request) (any, error) {
	w, err := p.provider(r)
	if err != nil {
		return nil, err
	}
	return nil, visage.Refuse(visage.Conflict, "CannotUnregisterProvider",
		"The resource provider %s is built in and cannot be unregistered.", w.Namespace)
}

func (p *plane) listTypes(r *api.Request) (any, error) {
	w, err := p.provider(r)
	if err != nil {
		return nil, err
	}
	return typeList{w.Types}, nil
}
