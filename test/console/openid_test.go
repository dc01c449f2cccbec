package console_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// TestPasskeysInTheBrowser registers passkeys with Chromium's own authenticator. It has the browser to itself: another
// page in front would end a question of the authenticator.
func TestPasskeysInTheBrowser(t *testing.T) {
	h := house{servertest.Start(t, server.Config{}), t, map[string]string{}}
	h.facts["human"] = h.person("Amélie")
	walk(t, h.Server, "passkeys.mjs", h.facts)
}

// TestOpenIDWithAProvider signs in with a provider in a process of its own.
func TestOpenIDWithAProvider(t *testing.T) {
	t.Parallel()
	p := startProvider(t)
	h := house{servertest.Start(t, server.Config{
		ConsoleIssuers: []string{p.url + "=visage"}, ConsoleIssuerSecretFiles: []string{p.url + "=" + p.secret},
		IssuerCAFile: p.certificate,
	}), t, map[string]string{"issuer": p.url}}
	page := strings.ReplaceAll(h.Browser(t, "").Get("/console/access/issuers").Body, "<wbr>", "") // of long addresses
	redirect := regexp.MustCompile(`https://[^<]*/console/signin/openid/answer/[0-9a-f]+`).FindString(page)
	p.ready(redirect)
	const identities = "/providers/Visage.Identity/servicePrincipals"
	var app struct {
		ID string `json:"objectId"`
	}
	h.manageInto(http.MethodPost, identities, `{"displayName":"developers"}`, &app)
	for id, subject := range map[string]string{h.person("Ada"): `"subject":"ada"`,
		app.ID: `"subject":"developers","group":true`} {
		h.manage(http.MethodPut, identities+"/"+id+"/federatedSubjects",
			fmt.Sprintf(`{"value":[{"issuer":%q,%s}]}`, p.url, subject))
	}
	walk(t, h.Server, "openid.mjs", h.facts)
}

// person makes a person without roles, and returns the object id.
func (h house) person(name string) string {
	h.t.Helper()
	body, err := json.Marshal(map[string]string{"displayName": name})
	if err != nil {
		h.t.Fatal(err)
	}
	var one struct {
		ID string `json:"objectId"`
	}
	h.manageInto(http.MethodPost, "/providers/Visage.Identity/people", string(body), &one)
	return one.ID
}

// provider is a running provider of OpenID Connect.
type provider struct {
	t                        *testing.T
	url, certificate, secret string
	say                      io.Writer
	said                     *bufio.Scanner
}

// startProvider starts provider.mjs, which ends with the test.
func startProvider(t *testing.T) *provider {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		missing(t, "node is not installed")
	}
	if _, err := os.Stat("node_modules/oidc-provider"); err != nil {
		missing(t, "the provider is not installed: run make test, or npm ci --ignore-scripts in test/console")
	}
	dir := t.TempDir()
	p := &provider{t: t, certificate: filepath.Join(dir, "cert.pem"), secret: filepath.Join(dir, "secret")}
	key, certificate := selfSigned(t)
	secret := rand.Text()
	for name, content := range map[string][]byte{
		p.certificate: certificate, p.secret: []byte(secret), filepath.Join(dir, "key.pem"): key,
	} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), node, "provider.mjs")
	cmd.Env = append(os.Environ(), "PROVIDER_KEY="+filepath.Join(dir, "key.pem"), "PROVIDER_CERT="+p.certificate,
		"PROVIDER_SECRET="+secret, "NODE_NO_WARNINGS=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close() // ends it
		_ = cmd.Wait() // how it ends says nothing
	})
	p.say, p.said = in, bufio.NewScanner(out)
	p.url = "https://localhost:" + p.line()
	return p
}

// line is the next that the provider says about itself.
func (p *provider) line() string {
	p.t.Helper()
	for p.said.Scan() {
		if text := p.said.Text(); text == "ready" || strings.Trim(text, "0123456789") == "" && text != "" {
			return text
		}
	}
	p.t.Fatalf("the provider has ended: %v", p.said.Err())
	return ""
}

// ready tells the provider where to send browsers back to, and waits until it serves.
func (p *provider) ready(redirect string) {
	p.t.Helper()
	if _, err := io.WriteString(p.say, redirect+"\n"); err != nil {
		p.t.Fatal(err)
	}
	if said := p.line(); said != "ready" {
		p.t.Fatalf("the provider says %q", said)
	}
}

// selfSigned makes a key and a certificate of localhost, in PEM.
func selfSigned(t *testing.T) (key, certificate []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	of := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, of, of, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
