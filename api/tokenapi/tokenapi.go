// Package tokenapi is the token plane. It implements discovery, published keys and client credentials of Entra's token
// service, so that the official identity clients work unchanged.
package tokenapi

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/identity"
)

// Config configures the plane.
type Config struct {
	// Directory has the applications and issues the tokens. Required.
	Directory *identity.Directory
	// Authority is the origin of the token service, below which every tenant has a path. It is never taken from a
	// request, because clients trust the documents of this plane. Required.
	Authority visage.Origin
	// Issuer returns the issuer of a tenant's tokens; the same as Directory's. Required.
	Issuer func(tenant string) string
}

// New checks cfg and makes the plane.
func New(cfg Config) (api.Plane, error) {
	if cfg.Directory == nil || cfg.Issuer == nil || cfg.Authority.IsZero() {
		return api.Plane{}, errors.New("make token plane: directory, issuer and authority are required")
	}
	p := &plane{cfg}
	return api.Plane{Name: "token", Prefix: "/common/", Paths: isPath, Routes: p.routes(), Greet: greet,
		Problem: problem}, nil
}

type plane struct {
	Config
}

// isPath reports whether a path begins with a tenant, or continues like the paths below one.
func isPath(path string) bool {
	first, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	switch first {
	case "adfs", "organizations", "consumers":
		return true
	}
	isUUID := strings.Count(first, "-") == 4 && len(first) == 36 && strings.Trim(first, "0123456789abcdef-") == ""
	second, _, _ := strings.Cut(rest, "/")
	switch second {
	case "oauth2", "v2.0", "discovery", ".well-known":
		return true
	}
	return isUUID
}

func (p *plane) routes() []api.Route {
	get := func(pattern string, handle func(*api.Request) (any, error), doc api.Doc) api.Route {
		return api.Route{
			Method: http.MethodGet, Pattern: pattern, Allow: api.Anyone, Timeout: 10 * time.Second, Handle: handle,
			Doc: doc,
		}
	}
	token := func(pattern string, style style) api.Route {
		return api.Route{
			Method: http.MethodPost, Pattern: pattern, Allow: api.Anyone, Timeout: 30 * time.Second, MaxBody: 64 << 10,
			Handle: func(r *api.Request) (any, error) { return p.token(r, style) },
			Doc:    api.Doc{Summary: "Get a token for a client credential", Answer: tokenAnswer{}},
		}
	}
	discovery := api.Doc{Summary: "Describe the token service of a tenant", Answer: configuration{}}
	keys := api.Doc{Summary: "List the keys that tokens are signed with", Answer: keySet{}}
	return []api.Route{
		get("/common/discovery/instance", p.instance,
			api.Doc{Summary: "Describe the token service", Answer: instance{}}),
		get("/{tenant}/.well-known/openid-configuration", p.openID(first), discovery),
		get("/{tenant}/v2.0/.well-known/openid-configuration", p.openID(second), discovery),
		get("/{tenant}/discovery/keys", p.keys, keys),
		get("/{tenant}/discovery/v2.0/keys", p.keys, keys),
		token("/{tenant}/oauth2/token", first),
		token("/{tenant}/oauth2/v2.0/token", second),
		// Some clients append the tenant to an authority that ends in "/adfs", which is the one in old metadata
		// versions.
		token("/adfs/{tenant}/oauth2/token", first),
		token("/adfs/{tenant}/oauth2/v2.0/token", second),
	}
}

// style is the version of a form or document: in the first, "resource" is the audience of a token; in the second,
// "scope".
type style int

const (
	first style = iota + 1
	second
)

// tenant returns the tenant that a path names.
func (p *plane) tenant(r *api.Request) (string, error) {
	name := r.Path("tenant")
	id, found := p.Directory.LookupTenant(name)
	if !found {
		return "", refuse(visage.Invalid, "invalid_request", "90002", "The tenant %q does not exist on this "+
			"instance.", visage.Shortened(name))
	}
	return id, nil
}

// configuration is an OpenID provider's metadata, contract §2.1.
type configuration struct {
	Issuer                string   `json:"issuer"`
	AuthorizationEndpoint string   `json:"authorization_endpoint"` // required by clients; there is no interactive sign-in
	TokenEndpoint         string   `json:"token_endpoint"`
	KeysAddress           string   `json:"jwks_uri"`
	ResponseTypes         []string `json:"response_types_supported"`
	SubjectTypes          []string `json:"subject_types_supported"`
	Algorithms            []string `json:"id_token_signing_alg_values_supported"`
	AuthMethods           []string `json:"token_endpoint_auth_methods_supported"`
	GrantTypes            []string `json:"grant_types_supported"`
	Claims                []string `json:"claims_supported"`
}

func (p *plane) openID(style style) func(*api.Request) (any, error) {
	return func(r *api.Request) (any, error) {
		tenant, err := p.tenant(r)
		if err != nil {
			return nil, err
		}
		at := p.Authority.String() + "/" + tenant
		c := configuration{
			Issuer: p.Issuer(tenant), AuthorizationEndpoint: at + "/oauth2/v2.0/authorize",
			TokenEndpoint: at + "/oauth2/v2.0/token", KeysAddress: at + "/discovery/v2.0/keys",
			ResponseTypes: []string{"token"}, SubjectTypes: []string{"public"}, Algorithms: []string{"RS256"},
			AuthMethods: []string{"client_secret_post", "private_key_jwt"},
			GrantTypes:  []string{clientCredentials},
			Claims: []string{"aud", "iss", "iat", "nbf", "exp", "appid", "appidacr", "oid", "sub", "tid", "uti",
				"ver"},
		}
		if style == first && !strings.EqualFold(r.Path("tenant"), "adfs") {
			c.AuthorizationEndpoint, c.TokenEndpoint, c.KeysAddress = at+"/oauth2/authorize", at+"/oauth2/token",
				at+"/discovery/keys"
		}
		return c, nil
	}
}

// keySet is a JSON Web Key Set (RFC 7517 §5).
type keySet struct {
	Keys []identity.PublicKey `json:"keys"`
}

func (p *plane) keys(r *api.Request) (any, error) {
	if _, err := p.tenant(r); err != nil {
		return nil, err
	}
	return keySet{p.Directory.PublicKeys()}, nil
}

// instance confirms to clients that this authority is valid (contract §2.2).
type instance struct {
	DiscoveryEndpoint string          `json:"tenant_discovery_endpoint"`
	Version           string          `json:"api-version"`
	Metadata          []instanceNames `json:"metadata"`
}

type instanceNames struct {
	Network string   `json:"preferred_network"`
	Cache   string   `json:"preferred_cache"`
	Aliases []string `json:"aliases"`
}

func (p *plane) instance(r *api.Request) (any, error) {
	version, given, err := r.Query("api-version")
	if err != nil {
		return nil, err
	}
	if given && !api.ValidVersion(version) {
		return nil, refuse(visage.Invalid, "invalid_request", "90014",
			"The api-version %q is not valid: give 1.1.", visage.Shortened(version))
	}
	host := p.Authority.Host()
	names := []string{host}
	if full := p.Authority.Hostname() + ":" + p.Authority.Port(); full != host { // clients compare it
		names = append(names, full)
	}
	return instance{
		DiscoveryEndpoint: p.Authority.String() + "/adfs/.well-known/openid-configuration", Version: "1.1",
		Metadata: []instanceNames{{host, host, names}},
	}, nil
}

const (
	clientCredentials = "client_credentials"
	assertionType     = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
)

// tokenAnswer is RFC 6749 §5.1 with Entra's additions; the first style writes numbers as text.
type tokenAnswer struct {
	Type      string `json:"token_type"`
	Expires   any    `json:"expires_in"`
	Extended  any    `json:"ext_expires_in"`
	ExpiresOn string `json:"expires_on,omitempty"`
	NotBefore string `json:"not_before,omitempty"`
	Resource  string `json:"resource,omitempty"`
	Token     string `json:"access_token"`
}

func (p *plane) token(r *api.Request, style style) (any, error) {
	tenant, err := p.tenant(r)
	if err != nil {
		return nil, err
	}
	if r.ContentType() != "application/x-www-form-urlencoded" {
		return nil, refuse(visage.Invalid, "invalid_request", "900144",
			"The body must be a form, application/x-www-form-urlencoded.")
	}
	body, err := r.ReadBody()
	if err != nil {
		return nil, err
	}
	form, err := parseForm(body)
	if err != nil {
		return nil, err
	}
	grant, err := form.grant(style)
	if err != nil {
		return nil, err
	}
	grant.Tenant = tenant
	now := time.Now()
	var token string
	var expires time.Time
	err = r.SignIn(grant.ClientID, func() error {
		var err error
		token, expires, err = p.Directory.Grant(r.Context(), grant)
		return err
	})
	if err != nil {
		return nil, err
	}
	seconds := int64(expires.Sub(now).Seconds()) // rounded down, so that no client uses an expired token
	if style == second {
		return tokenAnswer{Type: "Bearer", Expires: seconds, Extended: seconds, Token: token}, nil
	}
	written := strconv.FormatInt(seconds, 10)
	return tokenAnswer{
		Type: "Bearer", Expires: written, Extended: written, ExpiresOn: strconv.FormatInt(expires.Unix(), 10),
		NotBefore: strconv.FormatInt(now.Unix(), 10), Resource: grant.Audience, Token: token,
	}, nil
}

// form is a request's form. It holds secrets and must not be logged.
type form url.Values

// parseForm parses a form and refuses repeated fields. Unknown fields are ignored, because clients send extra ones; so
// is a byte order mark.
func parseForm(body []byte) (form, error) {
	values, err := url.ParseQuery(strings.TrimPrefix(string(body), "\ufeff"))
	if err != nil { // its text repeats the body
		return nil, refuse(visage.Invalid, "invalid_request", "900144", "The body is not a form.")
	}
	for name, v := range values {
		if len(v) > 1 {
			return nil, refuse(visage.Invalid, "invalid_request", "900144",
				"The field %q is given more than once.", visage.Shortened(name))
		}
	}
	return form(values), nil
}

func (f form) get(name string) string { return url.Values(f).Get(name) }

// grant returns the grant that the form requests.
func (f form) grant(style style) (identity.Grant, error) {
	none := identity.Grant{}
	switch f.get("grant_type") {
	case clientCredentials:
	case "":
		return none, missing("grant_type")
	default:
		return none, refuse(visage.Invalid, "unsupported_grant_type", "70003",
			"The only supported grant type is %s.", clientCredentials)
	}
	g := identity.Grant{ClientID: f.get("client_id"), Secret: f.get("client_secret")}
	if t := f.get("client_assertion_type"); t == assertionType {
		g.Assertion = f.get("client_assertion")
	} else if t != "" {
		return none, refuse(visage.Invalid, "invalid_request", "900144",
			"The only supported client_assertion_type is %s.", assertionType)
	}
	switch {
	case g.ClientID == "":
		return none, missing("client_id")
	case g.Secret == "" && g.Assertion == "":
		return none, refuse(visage.Unauthenticated, "invalid_client", "7000218",
			"The form needs a client_secret or a client_assertion.")
	}
	var err error
	if style == first {
		if g.Audience = f.get("resource"); g.Audience == "" {
			err = missing("resource")
		}
	} else {
		g.Audience, err = audienceOf(f.get("scope"))
	}
	return g, err
}

// audienceOf returns the audience of a scope: the only part that ends in "/.default" (contract §3). Clients add other
// parts, which have no meaning for applications.
func audienceOf(scope string) (string, error) {
	if scope == "" {
		return "", missing("scope")
	}
	const suffix = "/.default"
	var audience string
	for part := range strings.FieldsSeq(scope) {
		of, found := strings.CutSuffix(part, suffix)
		switch {
		case !found:
		case audience != "" && audience != of:
			return "", refuse(visage.Invalid, "invalid_scope", "70011", "The scope names more than one resource.")
		default:
			audience = of
		}
	}
	if audience == "" {
		return "", refuse(visage.Invalid, "invalid_scope", "70011",
			"The scope must be the name of a resource followed by %s.", suffix)
	}
	return audience, nil
}

func missing(field string) error {
	return refuse(visage.Invalid, "invalid_request", "900144", "The form needs the field %s.", field)
}

func refuse(kind visage.Kind, code, number, format string, args ...any) error {
	r := visage.Refuse(kind, code, format, args...)
	r.InnerCode = number
	return r
}

func greet(h http.Header, r *http.Request, requestID string) {
	h.Set("x-ms-request-id", requestID)
	h.Set("Pragma", "no-cache") // RFC 6749 §5.1
	api.EchoRequestID(h, r, "client-request-id")
}

// errorAnswer is RFC 6749 §5.2 with Entra's additions, contract §3.
type errorAnswer struct {
	Error         string `json:"error"`
	Description   string `json:"error_description"`
	Codes         []int  `json:"error_codes"`
	Time          string `json:"timestamp"`
	TraceID       string `json:"trace_id"`
	CorrelationID string `json:"correlation_id"`
}

// problem writes an error document. No other function of the plane does.
func problem(_ http.Header, p *api.Problem) any {
	a := errorAnswer{
		Error: p.Code, Description: p.Message, Codes: []int{}, Time: time.Now().UTC().Format("2006-01-02 15:04:05Z"),
		TraceID: p.RequestID, CorrelationID: p.RequestID,
	}
	if number, err := strconv.Atoi(p.InnerCode); err == nil {
		a.Codes, a.Description = []int{number}, "AADSTS"+p.InnerCode+": "+p.Message
	}
	if a.Error == "" {
		a.Error = codeOf(p.Status)
	}
	return a
}

// codeOf returns the code of a refusal that was made before an operation was called.
func codeOf(status int) string {
	switch {
	case status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests:
		return "temporarily_unavailable"
	case status >= http.StatusInternalServerError:
		return "server_error"
	}
	return "invalid_request"
}
