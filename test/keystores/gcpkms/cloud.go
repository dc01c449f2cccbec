package main

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"cloud.google.com/go/iam/apiv1/iampb"
	"github.com/go-jose/go-jose/v4"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// cloud is the services. It is one handler for all hosts: no path belongs to two services.
type cloud struct {
	root string // a token that may do everything

	mu        sync.Mutex
	keys      map[string]*cryptoKey
	policies  map[string]*iampb.Policy // by the name of a project, a key ring or a key
	providers map[string]provider
	accounts  map[string]*serviceAccount // by address
	tokens    map[string]token
	fetched   map[string]jose.JSONWebKeySet // by address
	faults    map[string]failure            // by service; what it answers instead
	lags      bool                          // disabled versions are still used
	log       []entry
}

// token is an access token.
type token struct {
	principal string // as members of IAM policies are written
	scope     string
	ends      time.Time
}

// entry is one of the audit log, with the fields that Cloud Audit Logs has.
type entry struct {
	Method    string `json:"methodName"`
	Resource  string `json:"resourceName"`
	Principal string `json:"principalSubject"`
	Reason    string `json:"reason"` // requestMetadata.requestAttributes.reason
	Status    int    `json:"status"` // of HTTP
}

func newCloud() *cloud {
	return &cloud{
		root: "ya29.root-" + rand.Text(), keys: map[string]*cryptoKey{}, policies: map[string]*iampb.Policy{},
		providers: map[string]provider{}, accounts: map[string]*serviceAccount{}, tokens: map[string]token{},
		fetched: map[string]jose.JSONWebKeySet{},
		faults:  map[string]failure{},
	}
}

// failure is an error of a service, as its JSON has it.
type failure struct {
	Code    int    `json:"code"`   // of HTTP
	Status  string `json:"status"` // of google.rpc.Code
	Message string `json:"message"`
	Reason  string `json:"reason"` // of google.rpc.ErrorInfo; empty: none
}

func (f *failure) Error() string { return f.Message }

var statuses = map[string]int{
	"INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 400, "UNAUTHENTICATED": 401, "PERMISSION_DENIED": 403,
	"NOT_FOUND": 404, "ALREADY_EXISTS": 409, "UNIMPLEMENTED": 501,
}

func fail(status, format string, args ...any) error {
	return &failure{statuses[status], status, fmt.Sprintf(format, args...), ""}
}

// ServeHTTP implements http.Handler.
func (c *cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.mu.Lock() // one request at a time is enough
	defer c.mu.Unlock()
	switch {
	case strings.HasPrefix(r.URL.Path, "/test/") && bearer(r) == c.root:
		c.test(w, r, raw)
	case r.URL.Path == "/v1/token":
		c.security(w, raw)
	case r.URL.Path == "/token":
		c.oauth(w, raw)
	case strings.HasSuffix(r.URL.Path, ":generateAccessToken"):
		c.generate(w, r)
	default:
		c.kms(w, r, raw)
	}
}

func bearer(r *http.Request) string {
	return strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
}

// test does what no service does: settings of tests.
func (c *cloud) test(w http.ResponseWriter, r *http.Request, raw []byte) {
	var err error
	var answer any = struct{}{}
	switch strings.TrimPrefix(r.URL.Path, "/test/") {
	case "provider":
		var p provider
		if err = json.Unmarshal(raw, &p); err == nil {
			c.providers[p.Name] = p
		}
	case "account":
		var a serviceAccount
		if err = json.Unmarshal(raw, &a); err == nil {
			answer, err = a.create()
			c.accounts[a.Email] = &a
		}
	case "fault":
		var f struct {
			Service string `json:"service"`
			failure
		}
		if err = json.Unmarshal(raw, &f); err == nil {
			c.faults[f.Service] = f.failure
		}
	case "lag":
		err = json.Unmarshal(raw, &c.lags)
	case "revoke":
		clear(c.tokens)
	case "log":
		answer = c.log
	default:
		err = fmt.Errorf("no such setting: %s", r.URL.Path)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	writeJSON(w, http.StatusOK, answer)
}

func writeJSON(w http.ResponseWriter, status int, answer any) {
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer) // a client that has left needs no answer
}

// kms has Cloud KMS answer, and logs the request.
func (c *cloud) kms(w http.ResponseWriter, r *http.Request, raw []byte) {
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	t, err := c.authenticate(r, "cloudkms")
	answer := proto.Message(nil)
	if err == nil && t.principal != c.root && c.faults["cloudkms"].Code != 0 {
		fault := c.faults["cloudkms"]
		err = &fault
	}
	name, verb, _ := strings.Cut(path, ":")
	if project, rest, found := strings.Cut(path, ".com:"); found { // a project below a domain
		name, verb, _ = strings.Cut(rest, ":")
		name = project + ".com:" + name
	}
	if err == nil {
		answer, err = c.method(t, r, name, verb, raw)
	}
	c.log = append(c.log, entry{verb, name, t.principal, r.Header.Get("X-Goog-Request-Reason"), statusOf(err)})
	if err != nil {
		writeFailure(w, err)
		return
	}
	body, err := protojson.Marshal(answer)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	_, _ = w.Write(body) // a client that has left needs no answer
}

// authenticate returns the token of a request.
func (c *cloud) authenticate(r *http.Request, scope string) (token, error) {
	given := bearer(r)
	if given == c.root {
		return token{principal: c.root}, nil
	}
	t, found := c.tokens[given]
	switch {
	case !found || !time.Now().Before(t.ends):
		return token{}, fail("UNAUTHENTICATED", "Request had invalid authentication credentials. Expected OAuth 2 "+
			"access token, login cookie or other valid authentication credential.")
	case !strings.HasSuffix(t.scope, "/auth/"+scope) && !strings.HasSuffix(t.scope, "/auth/cloud-platform"):
		return token{}, &failure{http.StatusForbidden, "PERMISSION_DENIED",
			"Request had insufficient authentication scopes.", "ACCESS_TOKEN_SCOPE_INSUFFICIENT"}
	}
	return t, nil
}

// roles are Google's roles, with those of their permissions that matter here.
var roles = map[string][]string{
	"roles/cloudkms.cryptoKeyEncrypterDecrypter": {
		"cloudkms.cryptoKeyVersions.useToEncrypt", "cloudkms.cryptoKeyVersions.useToDecrypt",
	},
	"roles/cloudkms.cryptoKeyDecrypter": {"cloudkms.cryptoKeyVersions.useToDecrypt"},
	"roles/cloudkms.publicKeyViewer":    {"cloudkms.cryptoKeyVersions.viewPublicKey"},
	"roles/cloudkms.viewer":             {"cloudkms.cryptoKeys.get", "cloudkms.cryptoKeyVersions.get"},
}

// allow fails unless a token has a permission on a resource, by a policy of the resource or of one above it.
func (c *cloud) allow(t token, permission, resource string) error {
	if t.principal == c.root {
		return nil
	}
	for at := resource; at != ""; at = parent(at) {
		for _, b := range c.policies[at].GetBindings() {
			if slices.Contains(b.GetMembers(), t.principal) && slices.Contains(roles[b.GetRole()], permission) {
				return nil
			}
		}
	}
	return &failure{http.StatusForbidden, "PERMISSION_DENIED", fmt.Sprintf("Permission '%s' denied on resource '%s' "+
		"(or it may not exist).", permission, resource), "IAM_PERMISSION_DENIED"}
}

// parent returns the resource that holds another one: the name without its last two segments.
func parent(resource string) string {
	for range 2 {
		i := strings.LastIndexByte(resource, '/')
		if i < 0 {
			return ""
		}
		resource = resource[:i]
	}
	return resource
}

func statusOf(err error) int {
	if f, ok := err.(*failure); ok {
		return f.Code
	}
	if err != nil {
		return http.StatusInternalServerError
	}
	return http.StatusOK
}

// writeFailure writes an error as Google's APIs do: a google.rpc.Status, with the name of the code for its number.
func writeFailure(w http.ResponseWriter, err error) {
	f, ok := err.(*failure)
	if !ok {
		f = &failure{http.StatusInternalServerError, "INTERNAL", err.Error(), ""}
	}
	s := &statuspb.Status{Message: f.Message}
	if f.Reason != "" {
		info, err := anypb.New(&errdetails.ErrorInfo{Reason: f.Reason, Domain: "googleapis.com",
			Metadata: map[string]string{"service": "cloudkms.googleapis.com"}})
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		s.Details = append(s.Details, info)
	}
	raw, err := protojson.Marshal(s)
	var document map[string]any
	if err != nil || json.Unmarshal(raw, &document) != nil {
		http.Error(w, "the error could not be written", http.StatusInternalServerError)
		return
	}
	document["code"], document["status"] = f.Code, f.Status
	writeJSON(w, f.Code, map[string]any{"error": document})
}
