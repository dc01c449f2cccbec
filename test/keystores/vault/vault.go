package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	jwtauth "github.com/hashicorp/vault-plugin-auth-jwt"
	kv "github.com/hashicorp/vault-plugin-secrets-kv"
	"github.com/hashicorp/vault/builtin/credential/approle"
	"github.com/hashicorp/vault/builtin/logical/transit"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
)

// vault is a server. Its engines are Vault's own; what stands in front of them does what Vault's core does for them:
// tokens, policies, and the operation that a request means.
type vault struct {
	root    string // a token that may do everything
	engines map[string]engine

	mu       sync.Mutex
	sealed   bool
	tokens   map[string]token
	policies map[string][]rule
	bad      map[string]badLogins // by the id of the AppRole
}

// badLogins are those of one AppRole. Vault locks it out after five, for 15 minutes from the last one: see isUserLocked
// in its vault/request_handling.go.
type badLogins struct {
	count int
	last  time.Time
}

const (
	maxBadLogins = 5
	lockout      = 15 * time.Minute
)

type engine struct {
	backend logical.Backend
	storage logical.Storage
}

type token struct {
	policies []string
	ends     time.Time // zero: never
}

// rule is a line of a policy: what may be done at a path, which may end with a star.
type rule struct {
	Path         string   `json:"path"`
	Capabilities []string `json:"capabilities"`
}

func newVault(ctx context.Context) (*vault, error) {
	v := &vault{root: "hvs." + rand.Text(), engines: map[string]engine{}, tokens: map[string]token{},
		policies: map[string][]rule{}, bad: map[string]badLogins{}}
	for mount, factory := range map[string]logical.Factory{
		"transit/": transit.Factory, "keys/of/team/": transit.Factory, "auth/jwt/": jwtauth.Factory,
		"auth/approle/": approle.Factory, "kv/": kv.Factory,
	} {
		storage := &logical.InmemStorage{}
		backend, err := factory(ctx, &logical.BackendConfig{
			Logger:      hclog.NewNullLogger(),
			System:      &logical.StaticSystemView{DefaultLeaseTTLVal: time.Hour, MaxLeaseTTLVal: 24 * time.Hour},
			StorageView: storage, BackendUUID: mount, Config: map[string]string{"version": "2"}, // of kv
		})
		if err != nil {
			return nil, fmt.Errorf("make %s: %w", mount, err)
		}
		completePaths(backend)
		if err := backend.Initialize(ctx, &logical.InitializationRequest{Storage: storage}); err != nil {
			return nil, fmt.Errorf("initialise %s: %w", mount, err)
		}
		v.engines[mount] = engine{backend, storage}
	}
	return v, nil
}

// completePaths gives the paths that create things the check that this version of the framework insists on.
func completePaths(backend logical.Backend) {
	b, ok := reflect.ValueOf(backend).Elem().FieldByName("Backend").Interface().(*framework.Backend)
	if !ok {
		return
	}
	for _, p := range b.Paths {
		_, creates := p.Operations[logical.CreateOperation]
		if _, old := p.Callbacks[logical.CreateOperation]; (creates || old) && p.ExistenceCheck == nil {
			p.ExistenceCheck = func(context.Context, *logical.Request, *framework.FieldData) (bool, error) {
				return true, nil
			}
		}
	}
}

// ServeHTTP implements http.Handler.
func (v *vault) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock() // one request at a time is enough
	defer v.mu.Unlock()
	at := strings.TrimPrefix(r.URL.Path, "/v1/")
	given := r.Header.Get("X-Vault-Token")
	var body map[string]any
	if raw, err := io.ReadAll(r.Body); err != nil || len(raw) > 0 && json.Unmarshal(raw, &body) != nil {
		respondError(w, http.StatusBadRequest, errors.New("error parsing JSON"))
		return
	}
	switch {
	case given == v.root && at == "test/seal":
		v.sealed = body["sealed"] == true
	case v.sealed:
		respondError(w, http.StatusServiceUnavailable, consts.ErrSealed)
	case given == v.root && strings.HasPrefix(at, "test/policies/"):
		raw, _ := json.Marshal(body["rules"]) // was JSON
		var rules []rule
		_ = json.Unmarshal(raw, &rules) // of the tests
		v.policies[path.Base(at)] = rules
	case given == v.root && at == "test/revoke":
		clear(v.tokens)
	case at == "auth/token/lookup-self" && v.valid(given):
		respond(w, &logical.Response{Data: map[string]any{"policies": v.tokens[given].policies}})
	case r.Header.Get("X-Vault-Namespace") != "": // of the enterprise edition
		respondError(w, http.StatusForbidden, logical.ErrPermissionDenied)
	default:
		v.engine(w, r, at, given, body)
	}
}

func (v *vault) valid(given string) bool {
	t, found := v.tokens[given]
	return given == v.root || found && (t.ends.IsZero() || time.Now().Before(t.ends))
}

// engine has the engine at a path answer.
func (v *vault) engine(w http.ResponseWriter, r *http.Request, at, given string, body map[string]any) {
	var mount string
	for m := range v.engines {
		if strings.HasPrefix(at, m) {
			mount = m
		}
	}
	e, found := v.engines[mount]
	open := found && slices.Contains(e.backend.SpecialPaths().Unauthenticated, strings.TrimPrefix(at, mount)) ||
		mount == "auth/approle/" && strings.TrimPrefix(at, mount) == "login"
	switch {
	case !open && !v.valid(given):
		respondError(w, http.StatusForbidden, logical.ErrPermissionDenied)
		return
	case !found:
		respondError(w, http.StatusNotFound, fmt.Errorf("no handler for route %q. route entry not found.", at))
		return
	}
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	req := &logical.Request{
		ID: rand.Text(), Path: strings.TrimPrefix(at, mount), Storage: e.storage, Data: body, MountPoint: mount,
		Connection: &logical.Connection{RemoteAddr: host}, Headers: r.Header, ClientToken: given,
	}
	switch r.Method {
	case http.MethodGet:
		req.Operation = logical.ReadOperation
	case http.MethodDelete:
		req.Operation = logical.DeleteOperation
	case "LIST":
		req.Operation = logical.ListOperation
		req.Path = strings.TrimSuffix(req.Path, "/") + "/"
	default:
		req.Operation = logical.UpdateOperation
		if checked, exists, err := e.backend.HandleExistenceCheck(r.Context(), req); err == nil && checked && !exists {
			req.Operation = logical.CreateOperation
		}
	}
	if !open && !v.may(given, at, string(req.Operation)) {
		respondError(w, http.StatusForbidden, errors.New("1 error occurred:\n\t* permission denied\n\n"))
		return
	}
	role, _ := body["role_id"].(string)
	bad := v.bad[role]
	if time.Since(bad.last) >= lockout {
		bad = badLogins{}
	}
	if open && bad.count >= maxBadLogins {
		respondError(w, http.StatusForbidden, logical.ErrPermissionDenied)
		return
	}
	resp, err := e.backend.HandleRequest(r.Context(), req)
	switch {
	case open && errors.Is(err, logical.ErrInvalidCredentials):
		v.bad[role] = badLogins{bad.count + 1, time.Now()}
	case open && err == nil && resp != nil && resp.Auth != nil:
		delete(v.bad, role)
	}
	if status, err := logical.RespondErrorCommon(req, resp, err); status != 0 {
		respondError(w, status, err)
		return
	}
	if resp != nil && resp.Auth != nil {
		resp.Auth.ClientToken = "hvs." + rand.Text()
		if resp.Auth.TTL == 0 {
			resp.Auth.TTL = time.Hour
		}
		v.tokens[resp.Auth.ClientToken] = token{resp.Auth.Policies, time.Now().Add(resp.Auth.TTL)}
	}
	if resp == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if raw, ok := resp.Data[logical.HTTPRawBody].(string); ok { // with a status of its own
		status, _ := resp.Data[logical.HTTPStatusCode].(int)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, raw) // to this machine
		return
	}
	respond(w, resp)
}

// may reports whether a token has a capability at a path.
func (v *vault) may(given, at, capability string) bool {
	if given == v.root {
		return true
	}
	for _, name := range v.tokens[given].policies {
		for _, r := range v.policies[name] {
			prefix, star := strings.CutSuffix(r.Path, "*")
			if (at == r.Path || star && strings.HasPrefix(at, prefix)) && slices.Contains(r.Capabilities, capability) {
				return true
			}
		}
	}
	return false
}

func respond(w http.ResponseWriter, resp *logical.Response) {
	answer := logical.LogicalResponseToHTTPResponse(resp)
	answer.RequestID = rand.Text()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer) // to this machine
}

func respondError(w http.ResponseWriter, status int, err error) { logical.RespondError(w, status, err) }
