package keystores

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"
)

// CloudKMS is a running Google Cloud KMS with its security token service, for one project. Its administrator may do
// everything.
type CloudKMS struct {
	Address string // host and port, of all services
	CA      string // PEM of the authority that signed its certificate, also for *.googleapis.com
	Roots   *x509.CertPool
	root    string
	tb      testing.TB
	client  *http.Client
}

// Names of a CloudKMS.
const (
	CloudRing     = "projects/visage-test/locations/europe-west3/keyRings/faces"
	CloudProvider = "projects/123456789012/locations/global/workloadIdentityPools/visage/providers/visage"
	CloudAccount  = "visage@visage-test.iam.gserviceaccount.com"
)

// CloudPrincipal is the member of IAM policies that a subject of the provider is.
func CloudPrincipal(subject string) string {
	pool := strings.TrimSuffix(CloudProvider, "/providers/visage")
	return "principal://iam.googleapis.com/" + pool + "/subject/" + subject
}

// StartCloudKMS starts a Cloud KMS that ends with the test.
func StartCloudKMS(tb testing.TB) *CloudKMS {
	tb.Helper()
	var ready struct{ Address, CA, Root string }
	launch(tb, "gcpkms", &ready)
	c := &CloudKMS{Address: ready.Address, CA: ready.CA, Roots: x509.NewCertPool(), root: ready.Root, tb: tb}
	c.Roots.AppendCertsFromPEM([]byte(ready.CA))
	c.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: c.Roots,
	}}}
	return c
}

// Do sends a request of the administrator, fails the test unless it succeeds, and decodes the answer.
func (c *CloudKMS) Do(method, path string, body, answer any) {
	c.tb.Helper()
	raw, err := json.Marshal(body)
	if err != nil {
		c.tb.Fatal(err)
	}
	req, err := http.NewRequest(method, "https://"+c.Address+path, bytes.NewReader(raw))
	if err != nil {
		c.tb.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+c.root)
	res, err := c.client.Do(req)
	if err != nil {
		c.tb.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		c.tb.Fatalf("%s %s: status %d %s, %v", method, path, res.StatusCode, text, err)
	}
	if answer != nil {
		if err := json.Unmarshal(text, answer); err != nil {
			c.tb.Fatalf("%s %s: %v", method, path, err)
		}
	}
}

// Key creates a key of CloudRing with one version. An empty algorithm makes a symmetric one.
func (c *CloudKMS) Key(name, algorithm string, with map[string]any) {
	c.tb.Helper()
	body := map[string]any{"purpose": "ENCRYPT_DECRYPT"}
	if algorithm != "" {
		body = map[string]any{"purpose": "ASYMMETRIC_DECRYPT",
			"versionTemplate": map[string]any{"algorithm": algorithm}}
	}
	for field, value := range with {
		body[field] = value
	}
	c.Do(http.MethodPost, "/v1/"+CloudRing+"/cryptoKeys?cryptoKeyId="+name, body, nil)
}

// Rotate makes a new version of a key the primary one, and returns its number.
func (c *CloudKMS) Rotate(key string) string {
	c.tb.Helper()
	var made struct{ Name string }
	c.Do(http.MethodPost, c.key(key)+"/cryptoKeyVersions", map[string]any{}, &made)
	number := made.Name[strings.LastIndexByte(made.Name, '/')+1:]
	c.Do(http.MethodPost, c.key(key)+":updatePrimaryVersion", map[string]any{"cryptoKeyVersionId": number}, nil)
	return number
}

// State sets the state of a version: ENABLED, DISABLED, DESTROYED or another one of the definition.
func (c *CloudKMS) State(key, version, state string) {
	c.tb.Helper()
	c.Do(http.MethodPatch, c.key(key)+"/cryptoKeyVersions/"+version+"?updateMask=state", map[string]any{"state": state},
		nil)
}

// Permit gives members roles on a key, in the place of all that were given.
func (c *CloudKMS) Permit(key string, roles []string, members ...string) {
	c.tb.Helper()
	var bindings []map[string]any
	for _, role := range roles {
		bindings = append(bindings, map[string]any{"role": role, "members": members})
	}
	policy := map[string]any{"policy": map[string]any{"bindings": bindings}}
	c.Do(http.MethodPost, c.key(key)+":setIamPolicy", policy, nil)
}

// CloudRoles are the roles on a symmetric key that the documents name.
var CloudRoles = []string{"roles/cloudkms.cryptoKeyEncrypterDecrypter", "roles/cloudkms.viewer"}

func (c *CloudKMS) key(name string) string { return "/v1/" + CloudRing + "/cryptoKeys/" + name }

// Provider sets the OpenID provider CloudProvider: issuer, audiences, jwks or jwksUrl and ca, subjects, disabled.
func (c *CloudKMS) Provider(about map[string]any) {
	c.tb.Helper()
	about["name"] = CloudProvider
	c.Do(http.MethodPost, "/test/provider", about, nil)
}

// Account makes the service account CloudAccount anew, as which members may act, and returns the file of its new key.
func (c *CloudKMS) Account(disabled bool, members ...string) []byte {
	c.tb.Helper()
	var file json.RawMessage
	account := map[string]any{"email": CloudAccount, "members": members, "disabled": disabled}
	c.Do(http.MethodPost, "/test/account", account, &file)
	return file
}

// Fail makes a service answer everybody but the administrator with an error, or, with the code 0, as usual.
func (c *CloudKMS) Fail(service string, code int, status, message, reason string) {
	c.tb.Helper()
	c.Do(http.MethodPost, "/test/fault", map[string]any{"service": service, "code": code, "status": status,
		"message": message, "reason": reason}, nil)
}

// Lag makes disabled versions usable, as they are for minutes or hours after they were disabled.
func (c *CloudKMS) Lag(lags bool) {
	c.tb.Helper()
	c.Do(http.MethodPost, "/test/lag", lags, nil)
}

// RevokeTokens ends every access token but the administrator's.
func (c *CloudKMS) RevokeTokens() {
	c.tb.Helper()
	c.Do(http.MethodPost, "/test/revoke", nil, nil)
}

// CloudEntry is an entry of the audit log.
type CloudEntry struct {
	Method, Resource, Principal, Reason string
	Status                              int
}

// Log returns the audit log.
func (c *CloudKMS) Log() []CloudEntry {
	c.tb.Helper()
	var raw []struct {
		Method    string `json:"methodName"`
		Resource  string `json:"resourceName"`
		Principal string `json:"principalSubject"`
		Reason    string `json:"reason"`
		Status    int    `json:"status"`
	}
	c.Do(http.MethodPost, "/test/log", nil, &raw)
	all := make([]CloudEntry, len(raw))
	for i, e := range raw {
		all[i] = CloudEntry(e)
	}
	return all
}

// Official has Google's own client make a request of the administrator: encrypt, decrypt or asymmetricDecrypt. Request
// and answer are those of the REST definition.
func (c *CloudKMS) Official(method string, request, answer any) {
	c.tb.Helper()
	raw, err := json.Marshal(map[string]any{"address": c.Address, "ca": c.CA, "token": c.root, "method": method,
		"request": request})
	if err != nil {
		c.tb.Fatal(err)
	}
	cmd := exec.Command(program(c.tb, "gcpkms"), "official")
	cmd.Stdin = bytes.NewReader(raw)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, answer)
	}
	if err != nil {
		c.tb.Fatalf("%s by Google's client: %v\n%s", method, err, said.Bytes())
	}
}
