package main

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	local "github.com/nsmithuk/local-kms/src"
	"github.com/nsmithuk/local-kms/src/config"
	"github.com/nsmithuk/local-kms/src/data"
)

// The one region and account.
const (
	region  = "eu-central-1"
	account = "111122223333"
)

// cloud is KMS and STS of one account. The keys are local-kms's; what stands in front of them does what AWS does for
// them: it verifies signatures and tokens, and decides by policies who may do what.
type cloud struct {
	root string // the administrator's bearer token: it may do everything, and signs nothing
	keys *data.Database

	mu        sync.Mutex
	down      bool
	principal map[string]*principal // by access key id
	roles     map[string]trust      // by ARN
	policies  map[string][]rule     // of users and roles, by ARN
}

// principal is who an access key speaks for.
type principal struct {
	arn     string
	secret  string
	token   string // of the session; empty: a user's own key
	session []rule // narrows the policies, if there is a token
	ends    time.Time
}

// rule permits actions with a key.
type rule struct {
	Actions []string `json:"actions"`
	Key     string   `json:"key"` // its ARN
}

// trust says whose tokens a role accepts.
type trust struct {
	Issuer   string `json:"issuer"`
	JWKS     string `json:"jwks"` // its address
	CA       string `json:"ca"`   // PEM, of the issuer
	Subject  string `json:"subject"`
	Audience string `json:"audience"`
}

// refusal is an error as AWS words it.
type refusal struct{ code, message string }

func (e *refusal) Error() string { return e.code + ": " + e.message }

func newCloud() (*cloud, func(), error) {
	config.AWSRegion, config.AWSAccountId = region, account
	dir, err := os.MkdirTemp("", "awskms")
	if err != nil {
		return nil, nil, err
	}
	c := &cloud{
		root: "root-" + rand.Text(), keys: data.NewDatabase(dir), principal: map[string]*principal{},
		roles: map[string]trust{}, policies: map[string][]rule{},
	}
	return c, func() {
		c.keys.Close()
		if err := os.RemoveAll(dir); err != nil {
			slog.Error("remove the keys", "err", err)
		}
	}, nil
}

// ServeHTTP implements http.Handler.
func (c *cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock() // one request at a time is enough
	defer c.mu.Unlock()
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return // the client has left
	}
	w.Header().Set("X-Amzn-RequestId", rand.Text())
	target := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "TrentService.")
	administrator := r.Header.Get("Authorization") == "Bearer "+c.root
	switch {
	case administrator && r.URL.Path != "/":
		if err := c.administer(r.URL.Path, body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	case administrator:
		c.forward(w, r, body)
	case c.down:
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprint(w, `{"__type":"KMSInternalException"}`)
	case target != "":
		who, err := c.authenticate(r, body)
		if err == nil {
			err = c.authorise(who, "kms:"+target, body)
		}
		if err == nil && target == "Decrypt" {
			err = checkCiphertext(body)
		}
		if err != nil {
			respondJSON(w, err)
			return
		}
		c.forward(w, r, body)
	default:
		c.assumeRole(w, body)
	}
}

// administer changes who may do what.
func (c *cloud) administer(path string, body []byte) error {
	var req struct {
		ARN, ID, Secret string
		Trust           *trust
		Rules           []rule
		Down            bool
	}
	if err := json.Unmarshal(body, &req); err != nil {
		return err
	}
	switch path {
	case "/test/down":
		c.down = req.Down
	case "/test/user":
		if c.principal[req.ID] = (&principal{arn: req.ARN, secret: req.Secret}); req.Secret == "" {
			delete(c.principal, req.ID)
		}
	case "/test/role":
		if delete(c.roles, req.ARN); req.Trust != nil {
			c.roles[req.ARN] = *req.Trust
		}
	case "/test/policy":
		c.policies[req.ARN] = req.Rules
	default:
		return errors.New("unknown path")
	}
	return nil
}

// forward has local-kms answer.
func (c *cloud) forward(w http.ResponseWriter, r *http.Request, body []byte) {
	r.Body = io.NopCloser(bytes.NewReader(body))
	answered := httptest.NewRecorder()
	local.HandleRequest(answered, r, c.keys)
	w.Header().Set("Content-Type", answered.Header().Get("Content-Type"))
	w.WriteHeader(answered.Code)
	_, _ = w.Write(answered.Body.Bytes()) // to this machine
}

// authorise decides whether a principal may do something with the key of a request.
func (c *cloud) authorise(who *principal, action string, body []byte) error {
	var req struct{ KeyId string }
	if err := json.Unmarshal(body, &req); err != nil {
		return &refusal{"SerializationException", ""}
	}
	permits := func(rules []rule) bool {
		return slices.ContainsFunc(rules, func(r rule) bool {
			return r.Key == req.KeyId && slices.Contains(r.Actions, action)
		})
	}
	if !permits(c.policies[who.arn]) || who.token != "" && !permits(who.session) {
		return &refusal{"AccessDeniedException", fmt.Sprintf("User: %s is not authorized to perform: %s on resource: "+
			"%s because no identity-based policy allows the %s action", who.arn, action, req.KeyId, action)}
	}
	return nil
}

// checkCiphertext refuses a ciphertext of a symmetric key that does not name the key of the request. AWS authenticates
// the name; local-kms passes over it when the request has one.
func checkCiphertext(body []byte) error {
	var req struct {
		KeyId, EncryptionAlgorithm string
		CiphertextBlob             []byte
	}
	if err := json.Unmarshal(body, &req); err != nil {
		return &refusal{"SerializationException", ""}
	}
	b := req.CiphertextBlob
	if req.EncryptionAlgorithm != "SYMMETRIC_DEFAULT" {
		return nil
	}
	if len(b) == 0 || len(b) < 1+int(b[0]) || string(b[1:1+int(b[0])]) != req.KeyId {
		return &refusal{"InvalidCiphertextException", ""}
	}
	return nil
}

// assumeRole answers STS's one operation.
func (c *cloud) assumeRole(w http.ResponseWriter, body []byte) {
	form, err := url.ParseQuery(string(body))
	if err == nil && form.Get("Action") != "AssumeRoleWithWebIdentity" {
		err = &refusal{"InvalidAction", "Could not find operation " + form.Get("Action")}
	}
	role := form.Get("RoleArn")
	if err == nil {
		err = c.verify(role, form.Get("WebIdentityToken"))
	}
	var narrowed []rule
	if err == nil {
		narrowed, err = readPolicy(form.Get("Policy"))
	}
	w.Header().Set("Content-Type", "text/xml")
	if err != nil {
		var says *refusal
		if !errors.As(err, &says) {
			says = &refusal{"InternalFailure", err.Error()}
		}
		status := http.StatusBadRequest
		if says.code == "AccessDenied" {
			status = http.StatusForbidden
		}
		w.WriteHeader(status)
		fmt.Fprintf(w, `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>`+
			`<Code>%s</Code><Message>%s</Message></Error><RequestId>%s</RequestId></ErrorResponse>`, says.code,
			says.message, w.Header().Get("X-Amzn-RequestId"))
		return
	}
	id, ends := "ASIA"+rand.Text()[:16], time.Now().Add(15*time.Minute)
	p := &principal{arn: role, secret: rand.Text(), token: rand.Text(), session: narrowed, ends: ends}
	c.principal[id] = p
	fmt.Fprintf(w, `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">`+
		`<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>%s</AccessKeyId><SecretAccessKey>%s`+
		`</SecretAccessKey><SessionToken>%s</SessionToken><Expiration>%s</Expiration></Credentials>`+
		`</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`, id, p.secret, p.token,
		ends.UTC().Format(time.RFC3339))
}

// readPolicy reads the policy of a session, in the one form that permits actions with keys.
func readPolicy(text string) ([]rule, error) {
	var policy struct {
		Version   string
		Statement []struct {
			Effect   string
			Action   []string
			Resource string
		}
	}
	if json.Unmarshal([]byte(text), &policy) != nil || policy.Version != "2012-10-17" {
		return nil, &refusal{"MalformedPolicyDocument", "Syntax errors in policy."}
	}
	var rules []rule
	for _, s := range policy.Statement {
		if s.Effect == "Allow" {
			rules = append(rules, rule{s.Action, s.Resource})
		}
	}
	return rules, nil
}

func respondJSON(w http.ResponseWriter, err error) {
	var says *refusal
	if !errors.As(err, &says) {
		says = &refusal{"InternalFailure", err.Error()}
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(http.StatusBadRequest)
	_ = json.NewEncoder(w).Encode(map[string]string{"__type": says.code, "message": says.message}) // to this machine
}
