// Package armapi is the management plane. It implements the part of Azure Resource Manager's contract for Face
// resources and key vaults that the command line and the official management clients use.
package armapi

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/keyvault"
)

// Config configures the plane.
type Config struct {
	// Accounts manages the Face resources. Required.
	Accounts *account.Accounts
	// Subscription is the id of the only subscription. Required.
	Subscription string
	// Tenant is the id of the subscription's tenant. Required.
	Tenant string
	// Group is the name of the only resource group. Required.
	Group string
	// Endpoint returns the base address of the resource at the subdomain label, with a final slash; without a label,
	// the address that all resources share. Required.
	Endpoint func(label string) string
	// Rate returns how many requests a second a resource may make on average, and how many at once. Required.
	Rate func(visage.Resource) (perSecond float64, burst int)
	// Vaults manages the key vaults. Required.
	Vaults *keyvault.Service
	// VaultAddress returns the base address of a key vault, with a final slash. Required.
	VaultAddress func(vault string) string
	// May reports whether a principal has a role that allows an action (in the notation of Azure's roles) on a path.
	// Required.
	May func(who visage.Principal, action, path string) bool
	// IsOperator reports whether a principal operates the instance: roles of the subscription do not allow what such a
	// principal may do. Required.
	IsOperator func(visage.Principal) bool
	// Authority is the address of the token service, for clients without a token. Required.
	Authority string
	// Identities manages identities and role assignments. Required.
	Identities Identities
	// People manages the people who sign in to the console. Required.
	People People
	// AuditEvents reads the audit log for owners of resources. Required.
	AuditEvents AuditEvents
	// Retentions manages retention and legal holds. Required.
	Retentions Retentions
	// Backups streams backups to the operator. Required.
	Backups Backups
	// KeyStores manages the stores of customers' keys beside key vaults. Required.
	KeyStores KeyStores
	// Replicas tells the operator which processes serve the instance. Required.
	Replicas Replicas
	// RootKeys manages the root key of the instance for the operator. Required.
	RootKeys RootKeys
	// Remedies says how to mend what a key lacks. Required.
	Remedies Remedies
}

// New checks cfg and makes the plane.
func New(cfg Config) (api.Plane, error) {
	if cfg.Accounts == nil || cfg.Subscription == "" || cfg.Tenant == "" || cfg.Group == "" || cfg.Endpoint == nil {
		return api.Plane{},
			errors.New("make management plane: accounts, subscription, tenant, group and endpoint are required")
	}
	if cfg.Vaults == nil || cfg.VaultAddress == nil || cfg.May == nil || cfg.Authority == "" || cfg.Rate == nil ||
		cfg.Backups == nil || cfg.IsOperator == nil || cfg.People == nil ||
		cfg.Identities == nil || cfg.AuditEvents == nil || cfg.Retentions == nil ||
		cfg.KeyStores == nil || cfg.RootKeys == nil || cfg.Replicas == nil ||
		cfg.Remedies == nil {
		return api.Plane{},
			errors.New(
				"make management plane: vaults, their address, may, is operator, rate, authority, backups, " +
					"root keys, replicas, identities, people, audit events, retentions, key stores and " +
					"remedies are required",
			)
	}
	p := &plane{cfg}
	return api.Plane{Name: "management", Prefix: "/subscriptions/", Paths: isPath, Routes: p.routes(), Greet: greet,
		Problem: p.problem}, nil
}

type plane struct {
	Config
}

// isPath reports whether a path without a subscription belongs to the management plane.
func isPath(path string) bool {
	first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	switch first {
	case "providers", "tenants", "metadata", "locations":
		return true
	}
	return false
}

// The paths of the plane (contract §2). Literals match in any case.
const (
	oneSubscription = "/subscriptions/{subscription}"
	oneGroup        = oneSubscription + "/resourceGroups/{group}"
	provider        = oneSubscription + "/providers/Microsoft.CognitiveServices"
	inSubscription  = provider + "/accounts"
	inGroup         = oneGroup + "/providers/Microsoft.CognitiveServices/accounts"
	one             = inGroup + "/{account}"
)

// handle performs one operation.
type handle = func(*api.Request) (any, error)

// routeMaker makes a route with the settings that all routes of the plane share.
type routeMaker = func(method, pattern string, handle handle, doc api.Doc) api.Route

func (p *plane) routes() []api.Route {
	route := func(method, pattern string, handle handle, doc api.Doc) api.Route {
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
	var all []api.Route
	for _, some := range []func(routeMaker) []api.Route{
		p.accountRoutes, p.encryptionRoutes, p.deletedRoutes, p.offerRoutes, p.requestRoutes, p.subscriptionRoutes,
		p.vaultRoutes,
		p.backupRoutes, p.replicaRoutes, p.rootKeyRoutes, p.keyStoreRoutes, p.checkRoutes,
		p.identityRoutes, p.peopleRoutes, p.roleRoutes, p.auditRoutes, p.retentionRoutes,
		p.metadataRoutes,
		p.resourceRoutes, p.groupRoutes, p.providerRoutes, p.assignmentRoutes, p.absentRoutes,
		p.vaultKeyRoutes, p.tagRoutes, p.operationRoutes,
	} {
		all = append(all, some(route)...)
	}
	return append(all, heads(all)...)
}

// heads are the HEAD routes: a client can check that an item exists without reading it.
func heads(all []api.Route) []api.Route {
	var heads []api.Route
	for _, get := range all {
		if get.Method != http.MethodGet || !strings.HasPrefix(get.Pattern, oneSubscription) ||
			!strings.HasSuffix(get.Pattern, "}") {
			continue
		}
		head := get
		head.Method, head.Doc = http.MethodHead,
			api.Doc{Summary: "Ask whether it exists: " + get.Doc.Summary, Status: http.StatusNoContent}
		head.Handle = func(r *api.Request) (any, error) {
			if _, err := get.Handle(r); err != nil {
				return nil, err
			}
			return api.Reply{Status: http.StatusNoContent}, nil
		}
		heads = append(heads, head)
	}
	return heads
}

// scope checks the common parts of a request: api-version, and the subscription and the group if the path has them.
func (p *plane) scope(r *api.Request) error {
	version, given, err := r.Query("api-version")
	if err != nil {
		return err
	}
	if !given || version == "" {
		return visage.Refuse(visage.Invalid, "MissingApiVersionParameter",
			"The query parameter api-version is missing: give a date such as 2025-09-01.")
	}
	if !api.ValidVersion(version) {
		return visage.Refuse(visage.Invalid, "InvalidApiVersionParameter",
			"The api-version %.64q is not valid: give a date such as 2025-09-01.", version)
	}
	if !strings.Contains(r.Route().Pattern, "{subscription}") {
		return nil
	}
	if s := r.Path("subscription"); !strings.EqualFold(s, p.Subscription) {
		return visage.Refuse(visage.NotFound, "SubscriptionNotFound", "There is no subscription %q.", s)
	}
	if !strings.Contains(r.Route().Pattern, "{group}") {
		return nil
	}
	if g := r.Path("group"); !p.isGroup(g) {
		method := ""
		if r.Route().Pattern == oneGroup {
			method = r.Route().Method
		}
		return p.noSuchGroup(method, g)
	}
	return nil
}

// read decodes a body as leniently as the contract does (§1): property names in any case, unknown ones ignored, none
// given twice.
func read(r *api.Request, into any) error {
	body, err := r.ReadText()
	if err != nil {
		return err
	}
	return api.DecodeLenient(body, into, "InvalidRequestContent")
}

func greet(h http.Header, r *http.Request, requestID string) {
	h.Set("x-ms-request-id", requestID)
	api.EchoRequestID(h, r, "x-ms-correlation-request-id")
}

// problem writes an error document. No other function of the plane does.
func (p *plane) problem(h http.Header, said *api.Problem) any {
	d := armwire.ErrorDetail{Code: said.Code, Message: said.Message, Target: targets[said.Code]}
	if d.Code == "" {
		d.Code = codeOf(said.Status)
	}
	if said.Status == http.StatusInternalServerError {
		d.Message += " It is " + said.RequestID + "."
	}
	if said.Status == http.StatusUnauthorized {
		h.Set(
			"WWW-Authenticate", fmt.Sprintf("Bearer authorization_uri=%q, error=%q, error_description=%q", p.Authority,
				"invalid_token", d.Code))
	}
	return armwire.ErrorAnswer{Error: d}
}

// codeOf returns the code of a refusal that was made before an operation was called.
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
