package keystores

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"testing"
)

// KMS is a running AWS KMS, with an STS that lets roles log in by web identity: one region of one account, whose
// administrator may do everything. Its keys are those of local-kms.
type KMS struct {
	Address string // host and port, of both services
	CA      string // PEM of the authority that signed its certificate
	Roots   *x509.CertPool
	root    string
	tb      testing.TB
	client  *http.Client
}

// The region and the account of a KMS, and how ARNs of keys and roles in it begin.
const (
	KMSStore  = "awskms://eu-central-1/111122223333"
	kmsKeys   = "arn:aws:kms:eu-central-1:111122223333:key/"
	kmsRoles  = "arn:aws:iam::111122223333:role/"
	kmsUsers  = "arn:aws:iam::111122223333:user/"
	kmsTarget = "TrentService."
)

// StartKMS starts a KMS that ends with the test.
func StartKMS(tb testing.TB) *KMS {
	tb.Helper()
	var ready struct{ Address, CA, RootToken string }
	launch(tb, "awskms", &ready)
	k := &KMS{Address: ready.Address, CA: ready.CA, Roots: x509.NewCertPool(), root: ready.RootToken, tb: tb}
	k.Roots.AppendCertsFromPEM([]byte(ready.CA))
	k.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: k.Roots,
	}}}
	return k
}

// Do makes a call of the administrator, such as CreateKey, fails the test unless it succeeds, and returns the answer.
func (k *KMS) Do(operation string, request map[string]any) map[string]any {
	k.tb.Helper()
	raw := k.send("/", kmsTarget+operation, request)
	answer := map[string]any{}
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &answer); err != nil {
			k.tb.Fatalf("%s: %v", operation, err)
		}
	}
	return answer
}

// CreateKey makes a key and returns its id.
func (k *KMS) CreateKey(request map[string]any) string {
	k.tb.Helper()
	about, _ := k.Do("CreateKey", request)["KeyMetadata"].(map[string]any)
	id, _ := about["KeyId"].(string)
	return id
}

// Trust is whose tokens a role accepts.
type Trust struct {
	Issuer   string `json:"issuer"`
	JWKS     string `json:"jwks"` // the address of the issuer's keys
	CA       string `json:"ca"`   // PEM of the authority that signed the issuer's certificate
	Subject  string `json:"subject"`
	Audience string `json:"audience"`
}

// Role makes a role that the one subject of a trust can assume, or with nil removes it.
func (k *KMS) Role(name string, trust *Trust) {
	k.tb.Helper()
	k.send("/test/role", "", map[string]any{"arn": kmsRoles + name, "trust": trust})
}

// User makes a user with an access key, or with an empty secret removes the access key.
func (k *KMS) User(name, accessKeyID, secret string) {
	k.tb.Helper()
	k.send("/test/user", "", map[string]any{"arn": kmsUsers + name, "id": accessKeyID, "secret": secret})
}

// KMSUse is what a source of keys does with a key.
var KMSUse = []string{"kms:DescribeKey", "kms:Encrypt", "kms:Decrypt"}

// PermitRole and PermitUser set what a role or a user may do, with each of some keys, in the place of all before.
func (k *KMS) PermitRole(name string, actions []string, keys ...string) {
	k.tb.Helper()
	k.permit(kmsRoles+name, actions, keys)
}

// PermitUser is explained at PermitRole.
func (k *KMS) PermitUser(name string, actions []string, keys ...string) {
	k.tb.Helper()
	k.permit(kmsUsers+name, actions, keys)
}

func (k *KMS) permit(arn string, actions, keys []string) {
	k.tb.Helper()
	var rules []map[string]any
	for _, key := range keys {
		rules = append(rules, map[string]any{"actions": actions, "key": kmsKeys + key})
	}
	k.send("/test/policy", "", map[string]any{"arn": arn, "rules": rules})
}

// Down makes every call but the administrator's fail inside AWS, or ends that.
func (k *KMS) Down(down bool) {
	k.tb.Helper()
	k.send("/test/down", "", map[string]any{"down": down})
}

// send sends a request of the administrator and returns the answer.
func (k *KMS) send(path, target string, body any) []byte {
	k.tb.Helper()
	raw, err := json.Marshal(body)
	if err != nil {
		k.tb.Fatal(err)
	}
	req, err := http.NewRequest(http.MethodPost, "https://"+k.Address+path, bytes.NewReader(raw))
	if err != nil {
		k.tb.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+k.root)
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	if target != "" {
		req.Header.Set("X-Amz-Target", target)
	}
	res, err := k.client.Do(req)
	if err != nil {
		k.tb.Fatalf("%s %s: %v", path, target, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		k.tb.Fatalf("%s %s: status %d %s, %v", path, target, res.StatusCode, text, err)
	}
	return text
}
