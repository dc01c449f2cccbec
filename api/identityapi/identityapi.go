// Package identityapi implements Azure's managed identity endpoints, so that programs which use managed identities work
// unchanged: the form of App Service, which requires a secret, and that of the instance metadata service (IMDS), which
// requires none. It is served on a loopback listener of its own, over plain HTTP, as clients expect.
package identityapi

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/identity"
)

// The paths of the two forms.
const (
	AppServicePath = "/msi/token"
	IMDSPath       = "/metadata/identity/oauth2/token"
)

// Identities issues tokens of the identities that the operator configured, and of no others.
type Identities interface {
	// Assigned returns the configured identities in their present state and configured order.
	Assigned() []identity.Principal
	// Token returns a token for one of them, by its object id, and its expiry. Refusals: PrincipalNotFound;
	// invalid_resource for an unknown audience.
	Token(ctx context.Context, objectID, audience string) (token string, expires time.Time, err error)
}

// Config configures the plane.
type Config struct {
	// Identities issues the tokens. Required.
	Identities Identities
	// Header is the secret that callers send in App Service's form. Required.
	Header string
	// IMDS serves the form of the instance metadata service too. It requires no secret: every process on this machine
	// that reaches the listener gets tokens.
	IMDS bool
	// Local reports whether an address belongs to this machine. Required.
	Local func(netip.Addr) bool
	// Refused is called for forwarded requests and for requests of an identity that is not configured, which no
	// legitimate client sends. Wrong secrets go to api.Config.Refused. Optional.
	Refused func(*api.Request, *visage.Refusal)
}

// New checks cfg and makes the plane.
func New(cfg Config) (api.Plane, error) {
	if cfg.Identities == nil || cfg.Header == "" || cfg.Local == nil {
		return api.Plane{}, errors.New("make managed identity plane: identities, header and local are required")
	}
	p := &plane{Config: cfg, header: sha256.Sum256([]byte(cfg.Header))}
	route := func(path, summary string, handle func(*api.Request) (any, error)) api.Route {
		return api.Route{
			Method: http.MethodGet, Pattern: path, Allow: api.Anyone, Timeout: 10 * time.Second, Handle: handle,
			Doc: api.Doc{Summary: summary, Query: queries, Answer: tokenAnswer{}},
		}
	}
	routes := []api.Route{route(AppServicePath, "Get a token of a managed identity, as in App Service", p.appService)}
	if cfg.IMDS {
		routes = append(routes, route(IMDSPath, "Get a token of a managed identity, as on a virtual machine", p.imds))
	}
	return api.Plane{Name: "identity", Prefix: "/", Routes: routes, Greet: greet, Problem: problem}, nil
}

var queries = []api.Param{
	{Name: "api-version", Text: "The version of the contract, a date.", Value: ""},
	{Name: "resource", Text: "The audience of the token.", Value: ""},
	{Name: "client_id", Text: "The identity, by its client id.", Value: ""},
	{Name: "object_id", Text: "The identity, by its object id.", Value: ""},
	{Name: "mi_res_id", Text: "The identity, by the path of its resource.", Value: ""},
}

type plane struct {
	Config
	header [sha256.Size]byte
}

// appService answers App Service's form. Its version in the version of 2017 has other names for the header and the
// client id.
func (p *plane) appService(r *api.Request) (any, error) {
	if err := p.near(r); err != nil {
		return nil, p.told(r, err)
	}
	version, err := query(r, "api-version")
	if err != nil {
		return nil, err
	}
	shown := r.Header("X-IDENTITY-HEADER")
	switch version {
	case "2019-08-01":
	case "2017-09-01":
		shown = r.Header("secret")
	default:
		return nil, refuse("invalid_request", "The api-version must be 2019-08-01 or 2017-09-01.")
	}
	// Both are hashed, so that the duration of the comparison reveals neither bytes nor length.
	if sum := sha256.Sum256([]byte(shown)); subtle.ConstantTimeCompare(sum[:], p.header[:]) != 1 {
		return nil, visage.Refuse(visage.Unauthenticated, "unauthorized",
			"The header X-IDENTITY-HEADER is not the value of IDENTITY_HEADER.")
	}
	return p.token(r)
}

// imds answers the form of the instance metadata service. Its required header is one that no page in a browser can send
// across origins, and that no proxy adds.
func (p *plane) imds(r *api.Request) (any, error) {
	if err := p.near(r); err != nil {
		return nil, p.told(r, err)
	}
	if !strings.EqualFold(r.Header("Metadata"), "true") {
		return nil, refuse("bad_request_102", "Required metadata header not specified: send \"Metadata: true\".")
	}
	version, err := query(r, "api-version")
	if err != nil {
		return nil, err
	}
	if !api.ValidVersion(version) || version < "2018-02-01" {
		return nil, refuse("invalid_request", "The api-version must be a date of 2018-02-01 or later.")
	}
	return p.token(r)
}

// near refuses requests on behalf of others: those forwarded by a proxy, those from another machine, and those of a
// browser after DNS rebinding.
func (p *plane) near(r *api.Request) error {
	for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Host", "Forwarded", "Via"} {
		if r.Header(name) != "" {
			return refuse("invalid_request", "Requests forwarded by a proxy (header %s) are not allowed.",
				name)
		}
	}
	if !isLiteral(r.Host()) {
		return refuse("invalid_request", "The Host header must be an IP address or localhost.")
	}
	if from := r.ClientAddress(); !from.IsLoopback() && !p.Local(from) {
		return visage.Refuse(visage.Denied, "invalid_request", "This endpoint answers only requests from its own "+
			"machine.")
	}
	return nil
}

// told reports a refusal and returns it.
func (p *plane) told(r *api.Request, err error) error {
	refusal, ok := errors.AsType[*visage.Refusal](err)
	if ok && refusal.Kind == visage.Invalid && p.Refused != nil { // other kinds go to api.Config.Refused
		p.Refused(r, refusal)
	}
	return err
}

// isLiteral reports whether a Host header is an IP address or localhost.
func isLiteral(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil || strings.EqualFold(strings.TrimSuffix(host, "."), "localhost")
}

// tokenAnswer is the answer of both forms. Numbers are written as text, which all clients accept.
type tokenAnswer struct {
	Token     string `json:"access_token"`
	ClientID  string `json:"client_id"`
	Expires   string `json:"expires_in"`
	ExpiresOn string `json:"expires_on"` // seconds since 1970
	Extended  string `json:"ext_expires_in"`
	NotBefore string `json:"not_before"`
	Resource  string `json:"resource"`
	Type      string `json:"token_type"`
}

func (p *plane) token(r *api.Request) (any, error) {
	audience, err := query(r, "resource")
	if err != nil {
		return nil, err
	}
	if audience == "" {
		return nil, refuse("invalid_resource", "The query parameter resource is required: name the audience of "+
			"the token.")
	}
	who, err := p.selected(r)
	if err != nil {
		return nil, p.told(r, err)
	}
	now := time.Now()
	token, expires, err := p.Identities.Token(r.Context(), who.ID, audience)
	if err != nil {
		return nil, err
	}
	seconds := strconv.FormatInt(int64(expires.Sub(now).Seconds()), 10) // rounded down
	return tokenAnswer{
		Token: token, ClientID: who.ClientID, Expires: seconds, ExpiresOn: strconv.FormatInt(expires.Unix(), 10),
		Extended: seconds, NotBefore: strconv.FormatInt(now.Unix(), 10), Resource: audience, Type: "Bearer",
	}, nil
}

// selected returns the identity that a request names or, if it names none, the only one or the only system-assigned
// one.
func (p *plane) selected(r *api.Request) (identity.Principal, error) {
	fits := func(identity.Principal) bool { return true }
	named := false
	for name, field := range selectors {
		value, err := query(r, name)
		if err != nil {
			return identity.Principal{}, err
		}
		if value == "" {
			continue
		}
		if named {
			return identity.Principal{}, refuse("invalid_request",
				"Name the identity in one way: client_id, object_id or mi_res_id.")
		}
		named = true
		fits = func(p identity.Principal) bool { return strings.EqualFold(field(p), value) }
	}
	var found, system []identity.Principal
	for _, one := range p.Identities.Assigned() {
		if !fits(one) {
			continue
		}
		found = append(found, one)
		if one.Kind == identity.SystemAssigned {
			system = append(system, one)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(system) == 1 && !named:
		return system[0], nil
	case len(found) > 1:
		return identity.Principal{}, refuse("invalid_request",
			"Several identities are available: name one with client_id, object_id or mi_res_id.")
	}
	return identity.Principal{}, refuse("invalid_request",
		"Identity not found: the operator has named no such identity.")
}

var selectors = map[string]func(identity.Principal) string{
	"client_id":    func(p identity.Principal) string { return p.ClientID },
	"clientid":     func(p identity.Principal) string { return p.ClientID }, // of 2017
	"object_id":    func(p identity.Principal) string { return p.ID },
	"principal_id": func(p identity.Principal) string { return p.ID },
	"mi_res_id":    func(p identity.Principal) string { return p.Resource },
	"msi_res_id":   func(p identity.Principal) string { return p.Resource },
}

// query returns a query parameter; empty when it is not given.
func query(r *api.Request, name string) (string, error) {
	value, _, err := r.Query(name)
	return value, err
}

func refuse(code, format string, args ...any) error {
	return visage.Refuse(visage.Invalid, code, format, args...)
}

func greet(h http.Header, _ *http.Request, requestID string) {
	h.Set("x-ms-request-id", requestID)
	h.Set("Pragma", "no-cache")
}

// errorAnswer is the error document of both forms.
type errorAnswer struct {
	Error       string `json:"error"`
	Description string `json:"error_description"`
}

// problem writes an error document. No other function of the plane does.
func problem(_ http.Header, p *api.Problem) any {
	a := errorAnswer{p.Code, p.Message}
	if a.Error == "" {
		a.Error = "invalid_request"
		if p.Status >= http.StatusInternalServerError {
			a.Error = "unknown"
		}
	}
	return a
}
