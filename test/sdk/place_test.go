package sdk_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// place is a server as its clients see it.
type place struct {
	url      string
	key      string // of the default resource
	caFile   string
	domain   string // of names that need no DNS; empty: localhost
	operator server.Operator
}

// placeOf is a server without a proxy.
func placeOf(srv *servertest.Server) place {
	o := srv.Operator()
	return place{url: srv.URL, key: srv.Key, caFile: o.CAFile, operator: o}
}

// port is the port of the place's address.
func (p place) port(t *testing.T) string {
	t.Helper()
	u, err := url.Parse(p.url)
	if err != nil {
		t.Fatal(err)
	}
	return u.Port()
}

// tell runs one story at a place.
func tell(t *testing.T, script string, at place, photos cast) {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		missing(t, "node is not installed")
	}
	scripts := filepath.Join(module, "test", "sdk")
	if !exists(filepath.Join(scripts, "node_modules")) {
		missing(t, "the official clients are not installed: run npm ci --ignore-scripts in test/sdk")
	}
	cmd := exec.CommandContext(t.Context(), node, "--import", "./lookup.mjs", script)
	cmd.Dir = scripts
	cmd.Env = append(os.Environ(), "FACE_ENDPOINT="+at.url, "FACE_KEY="+at.key, "FACE_DOMAIN="+at.domain,
		"FACE_CAST="+photos.publish(t),
		"NODE_EXTRA_CA_CERTS="+at.caFile, "MANAGE_TENANT="+at.operator.TenantID,
		"MANAGE_SUBSCRIPTION="+at.operator.SubscriptionID,
		"MANAGE_CLIENT="+at.operator.ClientID, "MANAGE_SECRET="+at.operator.ClientSecret)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	err = cmd.Run()
	t.Logf("%s said:\n%s", script, said.String())
	if err != nil {
		t.Fatalf("%s: %v", script, err)
	}
}

// token gets a token of the operator.
func (p place) token(t *testing.T, client *http.Client, audience string) string {
	t.Helper()
	form := url.Values{
		"grant_type": {"client_credentials"}, "client_id": {p.operator.ClientID},
		"client_secret": {p.operator.ClientSecret},
		"scope":         {audience + "/.default"},
	}
	_, answer := send(t, client, http.MethodPost, p.url+"/"+p.operator.TenantID+"/oauth2/v2.0/token", form.Encode(),
		http.Header{"Content-Type": {"application/x-www-form-urlencoded"}})
	var said struct {
		Token string `json:"access_token"`
	}
	if err := json.Unmarshal([]byte(answer), &said); err != nil || said.Token == "" {
		t.Fatalf("get a token: %s (%v)", answer, err)
	}
	return said.Token
}

// send makes one request and returns the status and the body of the answer.
func send(t *testing.T, client *http.Client, method, address, body string, header http.Header) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	if header.Get("Content-Type") == "" {
		header.Set("Content-Type", "application/json")
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(raw)
}
