//go:build linux

package replicas_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/visage-face/visage/server"
)

// client sends requests to one replica, whatever host they name.
type client struct {
	http  *http.Client
	op    server.Operator
	key   string   // of a Face resource
	heard *answers // of what replicas say when they have trouble; nil: nobody asks
}

// client returns a client of a running replica.
func (r *replica) client() (*client, error) {
	pem, err := os.ReadFile(r.op.CAFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("the CA file has no certificate")
	}
	dial := new(net.Dialer).DialContext
	if r.cluster.users != nil {
		dial = r.cluster.users.dial
	}
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots}, MaxIdleConnsPerHost: 16,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dial(ctx, network, r.listen)
		},
	}
	return &client{http: &http.Client{Transport: transport, Timeout: 30 * time.Second}, op: r.op}, nil
}

// of is a client of another resource, at the same replica.
func (c *client) of(key string) *client { return &client{c.http, c.op, key, c.heard} }

// answer is the answer to a request; of none, its status is 0.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// text returns the text at a path of names in the JSON of an answer; empty if there is none.
func (a answer) text(path string) string {
	var v any
	if json.Unmarshal(a.body, &v) != nil {
		return ""
	}
	for name := range strings.SplitSeq(path, ".") {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	s, _ := v.(string)
	return s
}

// ids returns the persisted faces that an answer lists.
func (a answer) ids() (all []string) {
	var faces []struct{ PersistedFaceID string }
	if json.Unmarshal(a.body, &faces) != nil {
		return nil
	}
	for _, f := range faces {
		all = append(all, f.PersistedFaceID)
	}
	return all
}

func (a answer) String() string { return fmt.Sprintf("%d %s", a.status, a.body) }

// want fails the test when an answer has another status.
func (a answer) want(t *testing.T, status int) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("got %s, want %d", a, status)
	}
	return a
}

// send sends body (bytes are an image, text is JSON, nil is nothing) with a header of two words.
func (c *client) send(ctx context.Context, method, address, header, value string, body any) (answer, error) {
	kind, content := "application/json", []byte{}
	switch b := body.(type) {
	case string:
		content = []byte(b)
	case []byte:
		kind, content = "application/octet-stream", b
	}
	req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(content))
	if err != nil {
		return answer{}, err
	}
	if len(content) > 0 {
		req.Header.Set("Content-Type", kind)
	}
	req.Header.Set(header, value)
	res, err := c.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return answer{}, err
	}
	return c.hear(method, address, answer{res.StatusCode, res.Header, b}), nil
}

func (c *client) hear(method, address string, a answer) answer {
	if c.heard != nil {
		c.heard.hear(method, address, a)
	}
	return a
}

// face makes a request of the face API.
func (c *client) face(ctx context.Context, method, path string, body any) (answer, error) {
	return c.send(ctx, method, origin+"/face/v1.2/"+path, "Ocp-Apim-Subscription-Key", c.key, body)
}

// token returns a token of the operator.
func (c *client) token(ctx context.Context, audience string) (string, error) {
	form := url.Values{
		"grant_type": {"client_credentials"}, "scope": {audience + "/.default"},
		"client_id": {c.op.ClientID}, "client_secret": {c.op.ClientSecret},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, origin+"/"+c.op.TenantID+"/oauth2/v2.0/token",
		strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := c.http.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return "", err
	}
	a := c.hear(req.Method, req.URL.String(), answer{res.StatusCode, res.Header, b})
	if token := a.text("access_token"); token != "" {
		return token, nil
	}
	return "", fmt.Errorf("no token: %s", a)
}

// arm makes a request of the management plane, below the default resource group.
func (c *client) arm(ctx context.Context, method, path string, body any) (answer, error) {
	return c.manage(ctx, method, "resourceGroups/default/providers/"+path, body)
}

// manage makes a request of the management plane, below the subscription.
func (c *client) manage(ctx context.Context, method, path string, body any) (answer, error) {
	token, err := c.token(ctx, "https://management.azure.com")
	if err != nil {
		return answer{}, err
	}
	return c.send(ctx, method, origin+"/subscriptions/"+c.op.SubscriptionID+"/"+path+"?api-version=2025-09-01",
		"Authorization", "Bearer "+token, body)
}

// vaultDomain is the parent of the hosts of vaults.
var vaultDomain = "vault." + strings.TrimPrefix(origin, "https://")

// vault makes a request of a vault.
func (c *client) vault(ctx context.Context, vault, method, path string, body any) (answer, error) {
	token, err := c.token(ctx, "https://"+vaultDomain)
	if err != nil {
		return answer{}, err
	}
	return c.send(ctx, method, "https://"+vault+"."+vaultDomain+path+"?api-version=7.5", "Authorization",
		"Bearer "+token, body)
}

// must is for requests that are answered.
func must(a answer, err error) answer {
	if err != nil {
		return answer{body: []byte(err.Error())}
	}
	return a
}

func account(name string) string { return "Microsoft.CognitiveServices/accounts/" + name }

// identified returns the people of a group whom a photo shows; ok is false when the replica refuses.
func (c *client) identified(ctx context.Context, group string, photo []byte) (ids []string, refused answer, err error) {
	found, err := c.face(ctx, http.MethodPost, "detect?recognitionModel=recognition_04", photo)
	if err != nil || found.status != http.StatusOK {
		return nil, found, err
	}
	var faces []struct{ FaceID string }
	if err := json.Unmarshal(found.body, &faces); err != nil || len(faces) != 1 {
		return nil, found, fmt.Errorf("%d faces, %v", len(faces), err)
	}
	said, err := c.face(ctx, http.MethodPost, "identify",
		fmt.Sprintf(`{"personGroupId":%q,"faceIds":[%q]}`, group, faces[0].FaceID))
	if err != nil || said.status != http.StatusOK {
		return nil, said, err
	}
	var results []struct{ Candidates []struct{ PersonID string } }
	if err := json.Unmarshal(said.body, &results); err != nil {
		return nil, said, err
	}
	for _, r := range results {
		for _, c := range r.Candidates {
			ids = append(ids, c.PersonID)
		}
	}
	return ids, answer{}, nil
}
