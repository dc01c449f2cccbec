// Package armapi speaks the wire contract of Azure's resource manager for Face resources and key vaults, so far as the
// operator's command line and the official management clients need it to make, show and remove them.
package armapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/keyvault"
)

// Config is what the plane is made of.
type Config struct {
	// Accounts keeps the Face resources. Required.
	Accounts *account.Accounts
	// Subscription is the id of the one subscription there is. Required.
	Subscription string
	// Group is the name of the one resource group there is. Required.
	Group string
	// Endpoint returns the base address of a resource, ending in a slash. Required.
	Endpoint func(resource string) string
	// Vaults keeps the key vaults. Required.
	Vaults *keyvault.Service
	// VaultAddress returns the base address of a key vault, ending in a slash. Required.
	VaultAddress func(vault string) string
	// May reports whether who has a role that allows an action, named as Azure's roles name it, on a path. Required.
	May func(who visage.Principal, action, path string) bool
	// Authority is where tokens are to be had, for clients that come without one. Required.
	Authority string
}

// New checks cfg and makes the plane.
func New(cfg Config) (api.Plane, error) {
	if cfg.Accounts == nil || cfg.Subscription == "" || cfg.Group == "" || cfg.Endpoint == nil {
		return api.Plane{}, errors.New("make management plane: accounts, subscription, group and endpoint are required")
	}
	if cfg.Vaults == nil || cfg.VaultAddress == nil || cfg.May == nil || cfg.Authority == "" {
		return api.Plane{}, errors.New("make management plane: vaults, their address, may and authority are required")
	}
	p := &plane{cfg}
	return api.Plane{Name: "management", Prefix: "/subscriptions/", Routes: p.routes(), Greet: greet, Problem: p.problem}, nil
}

type plane struct {
	Config
}

// The paths of the plane (contract §2). Literals match in any case.
const (
	inSubscription = "/subscriptions/{subscription}/providers/Microsoft.CognitiveServices/accounts"
	inGroup        = "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.CognitiveServices/accounts"
	one            = inGroup + "/{account}"
)

func (p *plane) routes() []api.Route {
	route := func(method, pattern string, handle func(*api.Request) (any, error), doc api.Doc) api.Route {
		r := api.Route{
			Method: method, Pattern: pattern, Allow: api.BearerToken, Timeout: time.Minute, Doc: doc,
			Handle: func(r *api.Request) (any, error) {
				if err := p.scope(r); err != nil {
					return nil, err
				}
				if err := p.authorise(r); err != nil {
					return nil, err
				}
				return handle(r)
			},
		}
		if doc.Body != nil {
			r.MaxBody = 64 << 10
		}
		return r
	}
	accounts := []api.Route{
		route(http.MethodGet, inSubscription, p.list, api.Doc{Summary: "List the accounts of the subscription",
			Answer: list{}}),
		route(http.MethodGet, inGroup, p.list, api.Doc{Summary: "List the accounts of the resource group", Answer: list{}}),
		route(http.MethodGet, one, p.get, api.Doc{Summary: "Get an account", Answer: resource{}}),
		route(http.MethodPut, one, p.put, api.Doc{Summary: "Create an account, or change it", Body: request{},
			Answer: resource{}}),
		route(http.MethodPatch, one, p.patch, api.Doc{Summary: "Change an account", Body: request{}, Answer: resource{}}),
		route(http.MethodDelete, one, p.remove, api.Doc{Summary: "Delete an account with its data"}),
		route(http.MethodPost, one+"/listKeys", p.keys, api.Doc{Summary: "List the keys of an account", Answer: keys{}}),
		route(http.MethodPost, one+"/regenerateKey", p.regenerate,
			api.Doc{Summary: "Replace a key of an account", Body: regeneration{}, Answer: keys{}}),
	}
	return append(accounts, p.vaultRoutes(route)...)
}

// scope checks what every path of the plane says: a version of the contract, the subscription, and the group where
// there is one.
func (p *plane) scope(r *api.Request) error {
	version, given, err := r.Query("api-version")
	if err != nil {
		return err
	}
	if !given || version == "" {
		return visage.Refuse(visage.Invalid, "MissingApiVersionParameter", "The query has no api-version; 2025-09-01 is one.")
	}
	if s := r.Path("subscription"); !strings.EqualFold(s, p.Subscription) {
		return visage.Refuse(visage.NotFound, "SubscriptionNotFound", "There is no subscription %q.", s)
	}
	if !strings.Contains(r.Route().Pattern, "{group}") {
		return nil
	}
	if g := r.Path("group"); !strings.EqualFold(g, p.Group) {
		return visage.Refuse(visage.NotFound, "ResourceGroupNotFound", "There is no resource group %q.", g)
	}
	return nil
}

// read decodes a body as lenient as the contract is (§1): property names in any case, unknown ones ignored.
func read(r *api.Request, into any) error {
	body, err := r.ReadBody()
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return visage.Refuse(visage.Invalid, "InvalidRequestContent", "The body is not the JSON this operation takes.")
	}
	return nil
}

func greet(h http.Header, r *http.Request, requestID string) {
	h.Set("x-ms-request-id", requestID)
	const most = 128 // the clients send UUIDs
	if id := r.Header.Get("x-ms-correlation-request-id"); id != "" && len(id) <= most {
		h.Set("x-ms-correlation-request-id", id)
	}
}

// errorAnswer is the error shape of the contract, §1.
type errorAnswer struct {
	Error errorDetail `json:"error"`
}

type errorDetail struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// problem spells an error. It is the only place that does.
func (p *plane) problem(h http.Header, said *api.Problem) any {
	d := errorDetail{said.Code, said.Message}
	if d.Code == "" {
		d.Code = codeOf(said.Status)
	}
	if said.Status == http.StatusInternalServerError {
		d.Message += " It is " + said.RequestID + "."
	}
	if said.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", fmt.Sprintf("Bearer authorization_uri=%q, error=%q, error_description=%q", p.Authority,
			"invalid_token", d.Code))
	}
	return errorAnswer{d}
}

// codeOf names a refusal that was made before an operation was reached.
func codeOf(status int) string {
	switch status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
		return "InvalidRequestContent"
	case http.StatusUnauthorized:
		return "AuthenticationFailed"
	case http.StatusNotFound:
		return "InvalidResourceType"
	case http.StatusMethodNotAllowed:
		return "HttpMethodNotAllowed"
	case http.StatusTooManyRequests:
		return "TooManyRequests"
	}
	return "InternalServerError"
}
