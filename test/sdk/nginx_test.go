package sdk_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// publicDomain is the domain in the documentation's block for nginx.
const publicDomain = "faces.example.org"

// TestBehindNginx runs every story, and the Go clients, against a server without TLS behind nginx, configured as
// documented.
func TestBehindNginx(t *testing.T) {
	t.Parallel()
	program := nginx(t)
	for _, story := range append(stories, struct{ name, script string }{"management clients", "manage.mjs"}) {
		t.Run(story.name, func(t *testing.T) {
			t.Parallel()
			photos := madeUp(t)
			tell(t, story.script, behindNginx(t, program), photos)
		})
	}
	t.Run("Go clients", func(t *testing.T) {
		t.Parallel()
		goClients(t, behindNginx(t, program))
	})
}

// TestClientAddressBehindNginx allows one address for a resource, and checks that the server sees the real address of a
// client, whatever headers it sends.
func TestClientAddressBehindNginx(t *testing.T) {
	t.Parallel()
	at := behindNginx(t, nginx(t))
	client := at.transport(t)
	token := at.token(t, client, "https://management.azure.com")
	body := `{"kind":"Face","sku":{"name":"S0"},"location":"local","properties":{"customSubDomainName":"fenced",
		"networkAcls":{"defaultAction":"Deny","ipRules":[{"value":"127.0.0.2"}]}}}`
	account := at.url + "/subscriptions/" + at.operator.SubscriptionID +
		"/resourceGroups/default/providers/Microsoft.CognitiveServices/accounts/fenced"
	if status, answer := send(t, client, http.MethodPut, account+"?api-version=2025-09-01", body,
		http.Header{"Authorization": {"Bearer " + token}}); status != http.StatusCreated {
		t.Fatalf("make a resource: %d %s", status, answer)
	}
	_, answer := send(t, client, http.MethodPost, account+"/listKeys?api-version=2025-09-01", "",
		http.Header{"Authorization": {"Bearer " + token}})
	_, key, _ := strings.Cut(answer, `"key1":"`)
	key, _, _ = strings.Cut(key, `"`)
	for _, c := range []struct {
		from   string
		header http.Header
		status int
	}{
		{"127.0.0.2", nil, http.StatusOK},
		{"127.0.0.3", nil, http.StatusForbidden},
		{"127.0.0.3", http.Header{"X-Forwarded-For": {"127.0.0.2"}}, http.StatusForbidden},
		{"127.0.0.3", http.Header{"Forwarded": {"for=127.0.0.2"}}, http.StatusForbidden},
		{"127.0.0.2", http.Header{"X-Forwarded-For": {"127.0.0.3"}, "Forwarded": {"for=127.0.0.3"}}, http.StatusOK},
	} {
		from := at.transport(t)
		dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(c.from)}}
		from.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, "127.0.0.1:"+at.port(t))
		}
		header := c.header.Clone()
		if header == nil {
			header = http.Header{}
		}
		header.Set("Ocp-Apim-Subscription-Key", key)
		status, answer := send(t, from, http.MethodGet, below(at.url, "fenced")+"/face/v1.2/persongroups", "", header)
		if status != c.status {
			t.Errorf("from %s with %v: %d %s, want %d", c.from, c.header, status, answer, c.status)
		}
	}
}

// nginx finds the program.
func nginx(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"nginx", "/usr/sbin/nginx"} { // outside of most users' PATH
		if program, err := exec.LookPath(name); err == nil {
			return program
		}
	}
	missing(t, "nginx is not installed: on Debian it is the package nginx-light")
	return ""
}

// behindNginx starts a server behind nginx.
func behindNginx(t *testing.T, program string) place {
	t.Helper()
	port := freePort(t)
	srv := servertest.Start(t, server.Config{
		PublicURL: "https://" + publicDomain + ":" + port, PlainHTTP: true, TrustedProxies: []string{"127.0.0.1"},
		AutoApprove: true, AllowPrivateURLs: true,
	})
	dir := t.TempDir()
	certificate, key, authority := filepath.Join(dir, "certificate.pem"), filepath.Join(dir, "key.pem"),
		filepath.Join(dir, "authority.pem")
	makeCertificate(t, certificate, key, authority)
	block := documentedBlock(t)
	for from, to := range map[string]string{
		"listen 443 ssl;": "listen 127.0.0.1:" + port + " ssl;", "http://127.0.0.1:8080;": srv.Operator().Listen + ";",
		"/etc/ssl/faces.example.org.pem;": certificate + ";", "/etc/ssl/private/faces.example.org.key;": key + ";",
	} {
		if !strings.Contains(block, from) {
			t.Fatalf("the documentation's block for nginx has no %q:\n%s", from, block)
		}
		block = strings.Replace(block, from, to, 1)
	}
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;\n" // otherwise its workers may not read the test's folder
	}
	temporary := ""
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		temporary += fmt.Sprintf("%s_temp_path %s;\n", kind, filepath.Join(dir, kind))
	}
	config := filepath.Join(dir, "nginx.conf")
	text := user + "daemon off;\nworker_processes 1;\npid " + filepath.Join(dir, "pid") +
		";\nerror_log stderr;\nevents {}\nhttp {\naccess_log off;\n" + temporary + block + "}\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, exec.Command(program, "-e", "stderr", "-p", dir, "-c", config), port)
	at := placeOf(srv)
	at.caFile, at.domain = authority, publicDomain
	return at
}

// run starts nginx, waits until it listens, and stops it at the end of the test.
func run(t *testing.T, cmd *exec.Cmd, port string) {
	t.Helper()
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Logf("stop nginx: %v", err)
		}
		<-ended
		if t.Failed() {
			t.Logf("nginx said: %s", said.String())
		}
	})
	for {
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			conn.Close()
			return
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("nginx ended: %v: %s", err, said.String())
		case <-t.Context().Done():
			t.Fatal("nginx did not start to listen")
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// documentedBlock returns the documented configuration for nginx.
func documentedBlock(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(module, "docs", "operations", "running.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, block, found := strings.Cut(string(page), "```nginx\n")
	block, _, closed := strings.Cut(block, "```")
	if !found || !closed {
		t.Fatal("docs/operations/running.md has no block for nginx")
	}
	return block
}

// freePort returns a free port. Another program could take it first; that is rare.
func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// makeCertificate writes a certificate for the public names, its key, and its authority.
func makeCertificate(t *testing.T, certificate, key, authority string) {
	t.Helper()
	write := func(path, kind string, der []byte) {
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sign := func(template, parent *x509.Certificate, public *ecdsa.PublicKey, private *ecdsa.PrivateKey) []byte {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, public, private)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	keys := [2]*ecdsa.PrivateKey{}
	for i := range keys {
		var err error
		if keys[i], err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority of a test"},
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true, IsCA: true,
	}
	write(authority, "CERTIFICATE", sign(root, root, &keys[0].PublicKey, keys[0]))
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: publicDomain},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{publicDomain, "*." + publicDomain, "*.vault." + publicDomain},
	}
	write(certificate, "CERTIFICATE", sign(leaf, root, &keys[1].PublicKey, keys[0]))
	der, err := x509.MarshalPKCS8PrivateKey(keys[1])
	if err != nil {
		t.Fatal(err)
	}
	write(key, "PRIVATE KEY", der)
}
