// Package graphapi is the directory plane. It implements the part of Microsoft Graph that management clients use to
// look up service principals. It is read-only: identities are created and changed on the management plane.
package graphapi

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/identity"
)

// Identities lists the identities.
type Identities interface {
	// Principals returns all identities, sorted by object id.
	Principals() []identity.Principal
}

// Config configures the plane.
type Config struct {
	// Identities lists the identities. Required.
	Identities Identities
	// Tenant is the tenant of the directory. Required.
	Tenant string
	// Origin is the address of the service, without a slash at the end. It is never taken from a request. Required.
	Origin string
	// Principal returns the principal of a bearer token for Graph. Other tokens give refusals of kind Unauthenticated.
	// Required.
	Principal func(ctx context.Context, bearer string) (visage.Principal, error)
	// MayRead reports whether a principal may read the whole directory. Other principals see only themselves. Required.
	MayRead func(who visage.Principal) bool
}

// New checks cfg and makes the plane.
func New(cfg Config) (api.Plane, error) {
	if cfg.Identities == nil || cfg.Tenant == "" || cfg.Origin == "" || cfg.Principal == nil || cfg.MayRead == nil {
		return api.Plane{},
			errors.New("make graph plane: identities, tenant, origin, principal and mayRead are required")
	}
	p := &plane{cfg}
	return api.Plane{Name: "graph", Prefix: "/v1.0/", Routes: p.routes(), Admit: p.admit, Greet: greet,
		Problem: problem}, nil
}

type plane struct{ Config }

func (p *plane) routes() []api.Route {
	route := func(method, path, summary string, handle func(*api.Request) (any, error), doc api.Doc) api.Route {
		doc.Summary = summary
		return api.Route{
			Method: method, Pattern: "/v1.0/" + path, Allow: api.PlaneToken, Timeout: 10 * time.Second,
			MaxBody: 256 << 10,
			Handle:  handle, Doc: doc,
		}
	}
	get := func(path, summary string, handle func(*api.Request) (any, error)) api.Route {
		r := route(http.MethodGet, path, summary, handle, api.Doc{Query: queries, Answer: map[string]any{}})
		r.MaxBody = 0
		return r
	}
	post := func(path, summary string, body any, handle func(*api.Request) (any, error)) api.Route {
		return route(http.MethodPost, path, summary, handle, api.Doc{Body: body, Answer: map[string]any{}})
	}
	return []api.Route{
		get("me", "Refuse: an application has no signed-in user", p.me),
		get("me/ownedObjects", "Refuse: an application has no signed-in user", p.me),
		get("servicePrincipals", "List service principals", p.list(servicePrincipals)),
		get("servicePrincipals/{id}", "Get a service principal", p.one(servicePrincipals)),
		get("applications", "List applications", p.list(applications)),
		get("applications/{id}", "Get an application", p.one(applications)),
		get("users", "List users: the people who sign in to the console", p.list(users)),
		get("users/{id}", "Get a user", p.one(users)),
		get("groups", "List groups (always empty)", p.list(groups)),
		get("groups/{id}", "Get a group (never found)", p.one(groups)),
		get("directoryObjects/{id}", "Get a service principal, an application or a user", p.one(directoryObjects)),
		get("{addressed}", "Get an object by its alternate key", p.addressed),
		post("directoryObjects/getByIds", "Get objects by their ids", idsBody{}, p.byIDs),
		post("directoryObjects/{id}/checkMemberGroups",
			"List an object's groups among the given ones (always empty)", groupsBody{}, p.noGroups),
		post("directoryObjects/{id}/getMemberGroups", "List the groups of an object (always empty)",
			memberBody{}, p.noGroups),
		post("servicePrincipals/{id}/getMemberGroups", "List the groups of a service principal (always empty)",
			memberBody{}, p.noGroups),
	}
}

var queries = []api.Param{
	{Name: "$filter", Text: "Selects objects: comparisons with eq, ne, in and startswith, joined by and, or and not.",
		Value: ""},
	{Name: "$select", Text: "The properties to return, separated by commas.", Value: ""},
	{Name: "$top", Text: "The maximal number of objects, 1 to 999.", Value: 0},
	{Name: "$skiptoken", Text: "The position in the list, from a nextLink.", Value: ""},
}

// admit authenticates the caller.
func (p *plane) admit(r *api.Request) (visage.Principal, error) {
	bearer := r.Bearer()
	if bearer == "" {
		return visage.Principal{}, visage.Refuse(visage.Unauthenticated, "InvalidAuthenticationToken",
			"Access token is empty.")
	}
	who, err := p.Principal(r.Context(), bearer)
	if refusal, ok := errors.AsType[*visage.Refusal](err); ok && refusal.Kind == visage.Unauthenticated {
		err = visage.Refuse(visage.Unauthenticated, "InvalidAuthenticationToken", "%s", refusal.Message)
	}
	return who, err
}

func (p *plane) me(*api.Request) (any, error) {
	return nil, visage.Refuse(visage.Invalid, "BadRequest",
		"/me request is only valid with delegated authentication flow: the caller is an application, without a "+
			"signed-in user.")
}

// list answers with a collection.
func (p *plane) list(of collection) func(*api.Request) (any, error) {
	return func(r *api.Request) (any, error) {
		all, err := p.filtered(r, of)
		if err != nil {
			return nil, err
		}
		return p.page(r, of.name, all)
	}
}

// filtered returns the objects of a collection that match the request's filter and that its caller may see. A caller
// who may see only themselves gets a refusal for all other objects, whether they exist or not.
func (p *plane) filtered(r *api.Request, of collection) ([]object, error) {
	matches := func(object) bool { return true }
	text, given, err := r.Query("$filter")
	if err != nil {
		return nil, err
	}
	if given && strings.TrimSpace(text) != "" {
		if matches, err = parseFilter(text); err != nil {
			return nil, err
		}
	}
	all := []object{}
	for _, o := range p.visible(r.Principal, of) {
		if matches(o) {
			all = append(all, o)
		}
	}
	if len(all) == 0 && !p.MayRead(r.Principal) {
		return nil, insufficient()
	}
	return all, nil
}

// visible returns the objects of a collection that a principal may see.
func (p *plane) visible(who visage.Principal, of collection) []object {
	var all []object
	everybody := p.MayRead(who)
	for _, one := range p.Identities.Principals() {
		if one.Tenant == p.Tenant && (everybody || one.ID == who.ObjectID) {
			all = append(all, of.objects(one)...)
		}
	}
	return all
}

// one answers with a single object.
func (p *plane) one(of collection) func(*api.Request) (any, error) {
	return func(r *api.Request) (any, error) {
		return p.single(r, of, "id", r.Path("id"))
	}
}

// addressed answers with an object that is addressed by an alternate key, as servicePrincipals(appId='…').
func (p *plane) addressed(r *api.Request) (any, error) {
	for _, of := range []collection{servicePrincipals, applications} {
		key, found := strings.CutPrefix(r.Path("addressed"), of.name+"(appId='")
		if key, closed := strings.CutSuffix(key, "')"); found && closed {
			return p.single(r, of, "appId", key)
		}
	}
	return nil, visage.Refuse(visage.Invalid, "BadRequest", "Resource not found for the segment %q.",
		visage.Shortened(r.Path("addressed")))
}

func (p *plane) single(r *api.Request, of collection, property, value string) (any, error) {
	for _, o := range p.visible(r.Principal, of) {
		if is, _ := o[property].(string); strings.EqualFold(is, value) {
			answer, err := selected(r, o)
			if err != nil {
				return nil, err
			}
			answer["@odata.context"] = p.Origin + "/v1.0/$metadata#" + of.name + "/$entity"
			return answer, nil
		}
	}
	if !p.MayRead(r.Principal) {
		return nil, insufficient()
	}
	return nil, visage.Refuse(visage.NotFound, "Request_ResourceNotFound",
		"Resource '%s' does not exist or one of its queried reference-property objects are not present.",
		visage.Shortened(value))
}

// idsBody requests objects by their ids.
type idsBody struct {
	IDs   []string `json:"ids" api:"required"`
	Types []string `json:"types"`
}

// byIDs answers with the requested objects that the caller may see. As in the contract, ids that do not exist are left
// out.
func (p *plane) byIDs(r *api.Request) (any, error) {
	var body idsBody
	if err := r.ReadJSON(&body); err != nil {
		return nil, err
	}
	const most = 1000
	if len(body.IDs) > most {
		return nil, visage.Refuse(visage.Invalid, "Request_BadRequest", "At most %d ids can be requested at a time.",
			most)
	}
	wanted := map[string]bool{}
	for _, id := range body.IDs {
		wanted[strings.ToLower(id)] = true
	}
	types := map[string]bool{}
	for _, t := range body.Types {
		types[strings.ToLower(t)] = true
	}
	found := []object{}
	for _, o := range p.visible(r.Principal, directoryObjects) {
		id, _ := o["id"].(string)
		kind, _ := o[odataType].(string)
		kind = strings.ToLower(strings.TrimPrefix(kind, "#microsoft.graph."))
		if wanted[id] && (len(types) == 0 || types[kind] || types["directoryobject"]) {
			found = append(found, o)
		}
	}
	if len(found) == 0 && len(wanted) > 0 && !p.MayRead(r.Principal) {
		return nil, insufficient()
	}
	return map[string]any{"@odata.context": p.Origin + "/v1.0/$metadata#directoryObjects", "value": found}, nil
}

type groupsBody struct {
	GroupIDs []string `json:"groupIds" api:"required"`
}

type memberBody struct {
	SecurityEnabledOnly bool `json:"securityEnabledOnly"`
}

// noGroups answers with no groups: none exist.
func (p *plane) noGroups(r *api.Request) (any, error) {
	if _, err := p.single(r, directoryObjects, "id", r.Path("id")); err != nil {
		return nil, err
	}
	return map[string]any{"@odata.context": p.Origin + "/v1.0/$metadata#Collection(Edm.String)", "value": []string{}},
		nil
}

func insufficient() error {
	return visage.Refuse(visage.Denied, "Authorization_RequestDenied",
		"Insufficient privileges to complete the operation: reading the directory takes a role on the subscription "+
			"that reads it, such as Reader.")
}

func greet(h http.Header, r *http.Request, requestID string) {
	h.Set("request-id", requestID)
	h.Set("OData-Version", "4.0")
	api.EchoRequestID(h, r, "client-request-id")
}

// errorAnswer is Graph's error document.
type errorAnswer struct {
	Error struct {
		Code    string            `json:"code"`
		Message string            `json:"message"`
		Inner   map[string]string `json:"innerError"`
	} `json:"error"`
}

// problem writes an error document. No other function of the plane does.
func problem(h http.Header, p *api.Problem) any {
	var a errorAnswer
	a.Error.Code, a.Error.Message = p.Code, p.Message
	if a.Error.Code == "" {
		a.Error.Code = codeOf(p.Status)
	}
	if p.Status == http.StatusMethodNotAllowed { // clients use these methods to create and change identities
		a.Error.Message = `The directory is only read here: make and change identities with "visage identity", ` +
			`or at Visage.Identity of the management plane.`
	}
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="", error="invalid_token"`)
	}
	client := h.Get("client-request-id")
	if client == "" {
		client = p.RequestID
	}
	a.Error.Inner = map[string]string{
		"date": time.Now().UTC().Format("2006-01-02T15:04:05"), "request-id": p.RequestID, "client-request-id": client,
	}
	return a
}

// codeOf returns the code of a refusal that was made before an operation was called.
func codeOf(status int) string {
	switch {
	case status == http.StatusNotFound || status == http.StatusBadRequest:
		return "BadRequest"
	case status == http.StatusMethodNotAllowed:
		return "Request_BadRequest"
	case status == http.StatusTooManyRequests:
		return "TooManyRequests"
	case status == http.StatusServiceUnavailable:
		return "serviceNotAvailable"
	case status >= http.StatusInternalServerError:
		return "generalException"
	}
	return "invalidRequest"
}
