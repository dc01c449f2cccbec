package azure_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource/azure"
)

const (
	versionOne = "11111111111111111111111111111111"
	versionTwo = "22222222222222222222222222222222"
	goodToken  = "a token that is good"
)

// pair is made once: generating keys of 2048 bits is slow.
var pair = sync.OnceValue(func() [2]*rsa.PrivateKey {
	var keys [2]*rsa.PrivateKey
	for i := range keys {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		keys[i] = k
	}
	return keys
})

// vault is a vault over TLS that really wraps, and fails on request.
type vault struct {
	*httptest.Server
	t testing.TB

	mu    sync.Mutex
	fault http.HandlerFunc // replaces the answer to a request that carries a token; nil: none
	raw   http.HandlerFunc // replaces the answer to any request
	edit  func(map[string]any)
	calls []string // method and path of requests that carried a token
}

func newVault(t testing.TB) *vault {
	v := &vault{t: t}
	v.Server = httptest.NewUnstartedServer(v)
	v.Config.ErrorLog = log.New(io.Discard, "", 0) // handshakes that a test breaks
	v.StartTLS()
	t.Cleanup(v.Close)
	return v
}

// vaultURL is the address of every vault of the tests: their certificates are valid for it, so that one vault can
// replace another and unwrap its keys.
const vaultURL = "https://example.com"

// config connects to the vault under vaultURL.
func (v *vault) config() azure.Config {
	return azure.Config{Hosts: []string{"example.com"}, Scope: "https://vault.test/.default", Roots: v.roots(),
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, v.Listener.Addr().String())
		}}
}

func (v *vault) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(v.Certificate())
	return pool
}

// key returns a reference to a key of the vault: "one" or "two".
func (v *vault) key(name, version string) visage.KeyRef {
	k, err := azure.ParseKey(vaultURL, name, version)
	if err != nil {
		v.t.Fatal(err)
	}
	return k
}

func (v *vault) source(name, version string) *azure.Source {
	return v.sourceAs(name, version, credential{})
}

func (v *vault) sourceAs(name, version string, c azure.Credential) *azure.Source {
	v.t.Helper()
	s, err := azure.NewVaults(v.config()).Open(v.key(name, version), c)
	if err != nil {
		v.t.Fatal(err)
	}
	return s
}

// set changes how the vault behaves.
func (v *vault) set(change func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	change()
}

// credential returns the good token, or the token or error that a test sets.
type credential struct {
	token string
	err   error
}

func (c credential) Token(_ context.Context, scope string) (string, time.Time, error) {
	if c.err == nil && scope != "https://vault.test/.default" {
		c.err = fmt.Errorf("scope %q", scope)
	}
	if c.token == "" {
		c.token = goodToken
	}
	return c.token, time.Now().Add(time.Hour), c.err
}

func (v *vault) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	raw, fault, edit := v.raw, v.fault, v.edit
	v.mu.Unlock()
	if raw != nil {
		raw(w, r)
		return
	}
	if r.Header.Get("Authorization") != "Bearer "+goodToken {
		challenge(w)
		return
	}
	v.mu.Lock()
	v.calls = append(v.calls, r.Method+" "+r.URL.Path)
	v.mu.Unlock()
	if fault != nil {
		fault(w, r)
		return
	}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	i := map[string]int{"one": 0, "two": 1}[parts[1]]
	version := versionOne
	if len(parts) > 2 {
		version = parts[2]
	}
	key := pair()[i]
	kid := fmt.Sprintf("%s/keys/%s/%s", vaultURL, parts[1], version)
	if r.Method == http.MethodGet {
		write(w, edit, map[string]any{
			"key": map[string]any{"kid": kid, "kty": "RSA", "key_ops": []string{"wrapKey", "unwrapKey"},
				"n": base64.RawURLEncoding.EncodeToString(key.N.Bytes()),
				"e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(key.E)).Bytes())},
			"attributes": map[string]any{"enabled": true, "nbf": 1600000000, "exp": 4000000000,
				"recoveryLevel": "Recoverable"},
		})
		return
	}
	var in struct{ Alg, Value string }
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.Alg != "RSA-OAEP-256" {
		answer(400, "BadParameter", "")(w, r)
		return
	}
	value, err := base64.RawURLEncoding.DecodeString(in.Value)
	if err == nil && parts[3] == "wrapkey" {
		value, err = rsa.EncryptOAEP(sha256.New(), rand.Reader, &key.PublicKey, value, nil)
	} else if err == nil {
		value, err = rsa.DecryptOAEP(sha256.New(), nil, key, value, nil)
	}
	if err != nil {
		answer(400, "BadParameter", "")(w, r)
		return
	}
	write(w, edit, map[string]any{"kid": kid, "value": base64.RawURLEncoding.EncodeToString(value)})
}

func challenge(w http.ResponseWriter) {
	w.Header().Set("WWW-Authenticate",
		`Bearer authorization="https://login.test/tenant", resource="https://vault.test"`)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusUnauthorized)
	io.WriteString(w, `{"error":{"code":"Unauthorized","message":"AKV10000"}}`)
}

func write(w http.ResponseWriter, edit func(map[string]any), body map[string]any) {
	if edit != nil {
		edit(body)
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(body) // the test may have closed the connection
}

// answer returns a vault's error document.
func answer(status int, code, inner string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		body := map[string]any{"code": code, "message": "m"}
		if inner != "" {
			body["innererror"] = map[string]any{"code": inner}
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(map[string]any{"error": body})
	}
}

// says answers with any status, body and headers.
func says(status int, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

// breaks cuts the connection after sending the given bytes.
func breaks(sent string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		io.WriteString(c, sent)
		c.Close()
	}
}

// spoilTLS makes the server's TLS configuration invalid for a vault.
func (v *vault) spoilTLS(change func(*tls.Config)) *vault {
	v.Close()
	v.Server = httptest.NewUnstartedServer(v)
	v.Config.ErrorLog = log.New(io.Discard, "", 0)
	v.TLS = &tls.Config{}
	change(v.TLS)
	v.StartTLS()
	v.t.Cleanup(v.Close)
	return v
}
