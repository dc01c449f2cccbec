// Package vaultapi speaks the wire contract of Azure Key Vault for keys, so that the official clients work unchanged.
//
// A Key Vault client insists on paths at the root of its host, so a vault is told by the first label of the host it is
// called at.
package vaultapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/keyvault"
)

// Tokens knows whose a bearer token is.
type Tokens interface {
	// Token returns who sends bearer, a token that was made for audience, with ObjectID and Tenant set. A token that is
	// forged, expired, of an unknown issuer or for another audience is a *visage.Refusal of kind Unauthenticated, whose
	// message is told to the caller. It is called concurrently, once for each request.
	Token(ctx context.Context, bearer, audience string) (visage.Principal, error)
}

// Config is what the plane is made of.
type Config struct {
	// Vaults keeps the keys. Required.
	Vaults *keyvault.Service
	// Address returns the base address of a vault, ending in a slash; the same that Vaults was given. Required.
	Address func(vault string) string
	// Tokens proves bearer tokens. Required.
	Tokens Tokens
	// Audience is what tokens must be made for, and what clients are told to ask tokens for: an address without a slash
	// at the end, of which every vault's host is a subdomain, with the port when there is one (contract §A2). Required.
	Audience string
	// Authority returns the address at which tokens of a tenant are to be had: its path is the tenant and nothing else,
	// and it has no query (contract §A2). Required.
	Authority func(tenant string) string
}

// New checks cfg and makes the plane.
func New(cfg Config) (api.Plane, error) {
	if cfg.Vaults == nil || cfg.Address == nil || cfg.Tokens == nil || cfg.Audience == "" || cfg.Authority == nil {
		return api.Plane{},
			errors.New("make key vault plane: vaults, address, tokens, audience and authority are required")
	}
	p := &plane{cfg}
	return api.Plane{
		Name: "vault", Prefix: "/keys/", Paths: isPath, Routes: p.routes(), Admit: p.admit, Greet: greet,
		Problem: problem,
		Unknown: "There is no such path: a vault here holds keys, and neither secrets nor certificates.",
	}, nil
}

type plane struct {
	Config
}

// isPath reports whether a path is one of the contract of Key Vault.
func isPath(path string) bool {
	first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	switch strings.TrimPrefix(first, "deleted") {
	case "keys", "secrets", "certificates", "storage", "rng":
		return true
	}
	return false
}

// Names of segments in patterns.
const (
	segKey     = "key"
	segVersion = "version"
)

// The paths of the plane (contract §A5). Empty segments mean nothing, so "no version" needs no care.
const (
	allKeys    = "/keys"
	oneKey     = "/keys/{key}"
	oneVersion = "/keys/{key}/{version}"
	allDeleted = "/deletedkeys"
	oneDeleted = "/deletedkeys/{key}"

	// The path of the operation "restore" is also that of a key of that name.
	restoring = "/keys/restore"
	reserved  = "restore"
)

func (p *plane) routes() []api.Route {
	type handler = func(*api.Request) (any, error)
	route := func(method, pattern string, handle handler, doc api.Doc) api.Route {
		doc.Query = append(doc.Query, api.Param{Name: "api-version", Text: "The version of the contract.", Value: ""})
		r := api.Route{
			Method: method, Pattern: pattern, Allow: api.PlaneToken, Timeout: time.Minute, Doc: doc,
			Handle: func(r *api.Request) (any, error) {
				if err := checkVersion(r); err != nil {
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
	paging := []api.Param{
		{Name: "maxresults", Text: "At most so many, 1 to 25.", Value: 0},
		{Name: "$skiptoken", Text: "Where the list goes on, from a nextLink.", Value: ""},
	}
	restore := route(http.MethodPost, restoring, p.permitted(keyvault.MayRestore, p.restore),
		api.Doc{Summary: "Restore a key from a backup", Body: blobBody{}, Answer: keyBundle{}})
	restore.MaxBody = 8 << 20
	routes := []api.Route{
		restore,
		route(http.MethodGet, allKeys, p.list, api.Doc{Summary: "List keys", Query: paging, Answer: keyList{}}),
		route(http.MethodPost, oneKey+"/create", p.permitted(keyvault.MayCreate, p.create),
			api.Doc{Summary: "Make a key, or a version of one", Body: createBody{}, Answer: keyBundle{}}),
		route(http.MethodGet, oneKey+"/versions", p.versions,
			api.Doc{Summary: "List the versions of a key", Query: paging, Answer: keyList{}}),
		route(http.MethodPost, oneKey+"/backup", p.backup, api.Doc{Summary: "Back a key up", Answer: blobAnswer{}}),
		route(http.MethodPost, oneKey+"/rotate", p.rotate,
			api.Doc{Summary: "Make the next version of a key", Answer: keyBundle{}}),
		route(http.MethodGet, oneKey+"/rotationpolicy", p.policy,
			api.Doc{Summary: "Get the rotation policy of a key", Answer: policyBody{}}),
		route(http.MethodPut, oneKey+"/rotationpolicy", p.permitted(keyvault.MaySetRotationPolicy, p.setPolicy),
			api.Doc{Summary: "Set the rotation policy of a key", Body: policyBody{}, Answer: policyBody{}}),
		route(http.MethodGet, oneVersion, p.get, api.Doc{Summary: "Get a version of a key", Answer: keyBundle{}}),
		route(http.MethodGet, oneVersion+"/attestation", p.attest,
			api.Doc{Summary: "Refused: only hardware modules attest their keys"}),
		route(http.MethodPatch, oneVersion, p.permitted(keyvault.MayUpdate, p.update),
			api.Doc{Summary: "Change a version of a key", Body: updateBody{}, Answer: keyBundle{}}),
		route(http.MethodGet, allDeleted, p.listDeleted,
			api.Doc{Summary: "List deleted keys", Query: paging, Answer: deletedList{}}),
		route(http.MethodGet, oneDeleted, p.getDeleted, api.Doc{Summary: "Get a deleted key", Answer: deletedBundle{}}),
		route(http.MethodDelete, oneDeleted, p.purge,
			api.Doc{Summary: "Destroy a deleted key for good", Status: http.StatusNoContent}),
		route(http.MethodPost, oneDeleted+"/recover", p.recover,
			api.Doc{Summary: "Bring a deleted key back", Answer: keyBundle{}}),
		route(http.MethodPost, "/rng", noRandom, api.Doc{Summary: "Refused: random bytes come from managed HSMs"}),
	}
	for _, pattern := range []string{oneKey, restoring} {
		routes = append(routes,
			route(http.MethodPut, pattern, p.permitted(keyvault.MayImport, p.importKey),
				api.Doc{Summary: "Import a key", Body: importBody{}, Answer: keyBundle{}}),
			route(http.MethodGet, pattern, p.get, api.Doc{Summary: "Get a key", Answer: keyBundle{}}),
			route(http.MethodPatch, pattern, p.permitted(keyvault.MayUpdate, p.update),
				api.Doc{Summary: "Change a key", Body: updateBody{}, Answer: keyBundle{}}),
			route(http.MethodDelete, pattern, p.remove, api.Doc{Summary: "Delete a key", Answer: deletedBundle{}}))
	}
	for _, pattern := range []string{oneKey, oneVersion} {
		routes = append(routes, route(http.MethodPost, pattern+"/release",
			p.permitted(keyvault.MayRelease, p.release),
			api.Doc{Summary: "Refused: no key leaves a vault", Body: releaseBody{}}))
	}
	for path, op := range operations {
		use := api.Doc{Summary: "Use a key to " + string(op), Body: useBody{}, Answer: useAnswer{}}
		if op == keyvault.Verify {
			use.Answer = verifyAnswer{}
		}
		for _, pattern := range []string{oneKey, oneVersion} {
			routes = append(routes, route(http.MethodPost, pattern+"/"+path, p.permitted(op.Needs(), p.use(op)), use))
		}
	}
	return routes
}

// permitted lets nobody send a body for what they may not do: what is long is not waited for.
func (p *plane) permitted(
	need keyvault.Permission, do func(*api.Request) (any, error),
) func(*api.Request) (any, error) {
	return func(r *api.Request) (any, error) {
		about := ref(r)
		if need == keyvault.MayRestore {
			about = keyvault.Ref{Vault: vaultOf(r)} // the body names the key
		}
		if err := p.Vaults.Admit(r.Context(), r.Caller(), about, need); err != nil {
			return nil, err
		}
		return do(r)
	}
}

// noRandom answers as vaults do, which are no managed HSMs.
func noRandom(*api.Request) (any, error) {
	return nil, visage.Refuse(visage.NotFound, "NotFound",
		"A key vault does not return random bytes; only a managed HSM does.")
}

// operations are what a key does, by their names in paths.
var operations = map[string]keyvault.Operation{
	"encrypt": keyvault.Encrypt, "decrypt": keyvault.Decrypt, "wrapkey": keyvault.Wrap, "unwrapkey": keyvault.Unwrap,
	"sign": keyvault.Sign, "verify": keyvault.Verify,
}

// vaultOf returns the name of the vault that a request is for: the first label of its host.
func vaultOf(r *api.Request) string {
	label, _, _ := strings.Cut(r.Host(), ":")
	label, _, _ = strings.Cut(label, ".")
	return label
}

// isVaultHost reports whether a Host header, in any spelling, is that of the vault that its first label names.
func (p *plane) isVaultHost(host string) bool {
	name, _, _ := strings.Cut(host, ".")
	own, err := visage.ParseOrigin(p.Address(name))
	return err == nil && own.HasHost(host)
}

// ref returns the key that a request is for.
func ref(r *api.Request) keyvault.Ref {
	pattern := r.Route().Pattern
	ref := keyvault.Ref{Vault: vaultOf(r)}
	if strings.Contains(pattern, "{"+segKey+"}") {
		ref.Name = r.Path(segKey)
	} else if pattern == restoring {
		ref.Name = reserved
	}
	if strings.Contains(pattern, "{"+segVersion+"}") {
		ref.Version = strings.ToLower(r.Path(segVersion))
	}
	return ref
}

// akvNumbers are the numbers that the contract has for what is wrong with a token (§A8), by the codes of Tokens.
var akvNumbers = map[string]string{"InvalidAuthenticationTokenAudience": "AKV10022: "}

// admit proves who calls. Clients send their first request without a token and without its body, and learn from the
// challenge of the 401 where to get one (contract §A2).
func (p *plane) admit(r *api.Request) (visage.Principal, error) {
	if !p.isVaultHost(r.Host()) {
		return visage.Principal{}, visage.Refuse(visage.NotFound, "VaultNotFound",
			"The host %.200q does not belong to a key vault: use the vaultUri of the vault, such as %s.",
			r.Host(), p.Address("name"))
	}
	vault, err := p.Vaults.Vault(r.Context(), vaultOf(r))
	if err != nil {
		return visage.Principal{}, err
	}
	refuse := func(message string) (visage.Principal, error) {
		return visage.Principal{}, &api.Problem{
			Status: http.StatusUnauthorized, Message: message,
			Challenge: fmt.Sprintf("Bearer authorization=%q, resource=%q", p.Authority(vault.Tenant), p.Audience),
		}
	}
	token := r.Bearer()
	if token == "" {
		return refuse("AKV10000: Request is missing a Bearer or PoP token.")
	}
	who, err := p.Tokens.Token(r.Context(), token, p.Audience)
	if refusal, ok := errors.AsType[*visage.Refusal](err); ok && refusal.Kind == visage.Unauthenticated {
		return refuse(akvNumbers[refusal.Code] + refusal.Message)
	}
	if err != nil {
		return visage.Principal{}, fmt.Errorf("look for the holder of a token: %w", err)
	}
	if !strings.EqualFold(who.Tenant, vault.Tenant) {
		return refuse("AKV10032: Invalid issuer. The token is of another tenant than the vault.")
	}
	return who, nil
}

// checkVersion wants a version of the contract; what is served is the same in all of them.
func checkVersion(r *api.Request) error {
	version, _, err := r.Query("api-version")
	if err != nil {
		return err
	}
	if api.ValidVersion(version) {
		return nil
	}
	return visage.Refuse(visage.Invalid, "BadParameter",
		"The query parameter api-version must be given, as 7.0 to 7.6 or a date such as 2025-07-01.")
}

// read decodes a body as lenient as the contract is: property names in any case, null for what is not set, unknown ones
// ignored, none given twice.
func read(r *api.Request, into any) error {
	body, err := r.ReadText()
	if err != nil {
		return err
	}
	return api.DecodeLenient(body, into, "BadParameter")
}

// window returns where a list begins and how long it may be.
func window(r *api.Request) (after string, limit int, err error) {
	const most = 25 // contract §A5
	limit = most
	text, given, err := r.Query("maxresults")
	if err != nil {
		return "", 0, err
	}
	if given {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > most {
			return "", 0, visage.Refuse(visage.Invalid, "BadParameter",
				"maxresults must be a whole number from 1 to %d.", most)
		}
	}
	after, _, err = r.Query("$skiptoken")
	return after, limit, err
}

// nextLink is the address of the following part of a list; nil when there is none.
func (p *plane) nextLink(r *api.Request, path, next string, limit int) (*string, error) {
	if next == "" {
		return nil, nil
	}
	version, _, err := r.Query("api-version")
	if err != nil {
		return nil, err
	}
	query := url.Values{"api-version": {version}, "$skiptoken": {next}, "maxresults": {strconv.Itoa(limit)}}
	link := p.Address(vaultOf(r)) + path + "?" + query.Encode()
	return &link, nil
}

func greet(h http.Header, r *http.Request, requestID string) {
	h.Set("x-ms-request-id", requestID)
	h.Set("x-ms-keyvault-service-version", "1.9.0.0") // the clients only show it
	api.EchoRequestID(h, r, "x-ms-client-request-id")
}

// errorAnswer is the error shape of the contract, §A8.
type errorAnswer struct {
	Error errorDetail `json:"error"`
}

type errorDetail struct {
	Code    string     `json:"code"`
	Message string     `json:"message"`
	Inner   *innerCode `json:"innererror,omitempty"`
}

type innerCode struct {
	Code string `json:"code"`
}

// problem spells an error. It is the only place that does.
func problem(_ http.Header, p *api.Problem) any {
	d := errorDetail{Code: p.Code, Message: p.Message}
	if d.Code == "" || p.Status == http.StatusUnauthorized {
		d.Code = codeOf(p.Status)
	}
	if p.InnerCode != "" {
		d.Inner = &innerCode{p.InnerCode}
	}
	if p.Status == http.StatusInternalServerError {
		d.Message += " It is " + p.RequestID + "."
	}
	return errorAnswer{d}
}

// codeOf names a refusal that was made before an operation was reached.
func codeOf(status int) string {
	switch status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
		return "BadParameter"
	case http.StatusUnauthorized:
		return "Unauthorized"
	case http.StatusForbidden:
		return "Forbidden"
	case http.StatusNotFound:
		return "NotFound"
	case http.StatusMethodNotAllowed:
		return "MethodNotAllowed"
	case http.StatusTooManyRequests:
		return "Throttled"
	case http.StatusServiceUnavailable:
		return "ServiceUnavailable"
	}
	return "InternalServerError"
}
