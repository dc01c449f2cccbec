package prove_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"math/big"
	random "math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/api/vaultapi"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/keysource/azure"
	"github.com/visage-face/visage/keyvault"
	"github.com/visage-face/visage/sealed"
)

// fault is what the proxy in front of the vaults does with a request.
type fault string

const (
	pass       fault = "pass"
	late       fault = "late"        // the answer comes within the time limit of a call of two requests
	tooLate    fault = "too-late"    // it comes later
	dropped    fault = "dropped"     // the request never arrives
	unanswered fault = "unanswered"  // it arrives, and its answer is lost
	cut        fault = "cut"         // half of the answer comes
	dripping   fault = "dripping"    // the answer comes a byte a second
	throttled  fault = "throttled"   // 429, and when to come again
	failing    fault = "failing"     // 503 with the vault's error document
	badGateway fault = "bad-gateway" // 502 with another error document
	portal     fault = "portal"      // 200 with a page for people
	elsewhere  fault = "elsewhere"   // a redirection
	garbled    fault = "garbled"     // JSON that is something else
	huge       fault = "huge"        // JSON of another form
	otherKey   fault = "other-key"   // the answer of another key
	disguised  fault = "disguised"   // the answer of another key, under the identifier of the requested one
	flipped    fault = "flipped"     // another value
	twisted    fault = "twisted"     // other attributes
	denying    fault = "denying"     // 403 with the vault's error document, although the key is allowed
	missing    fault = "missing"     // 404, although the key exists
	closedDoor fault = "closed-door" // 401, although the token is valid
)

var (
	losses    = []fault{dropped, unanswered, cut, dripping, tooLate, late}
	burdens   = []fault{throttled, failing, badGateway, late}
	nonsense  = []fault{portal, elsewhere, garbled, huge}
	lies      = []fault{otherKey, disguised, flipped, twisted, denying, missing, closedDoor}
	allFaults = slices.Concat(losses, burdens, nonsense, lies)
)

// weather is the share of requests that the proxy does not simply pass on, and the faults it applies to them.
type weather struct {
	name  string
	share float64 // of requests
	what  []fault
}

// stormyVaults are built-in vaults behind a network of the test's choice: a proxy ends the clients' TLS and treats each
// request as the weather says. It runs in a bubble, without sockets.
type stormyVaults struct {
	t        *testing.T
	keys     *keyvault.Service
	handler  http.Handler // of the vaults
	listener *pipes
	server   *http.Server
	roots    *x509.CertPool
	pairs    []*rsa.PrivateKey

	mu      sync.Mutex // guards the fields below
	chance  *random.Rand
	weather weather
	did     map[fault]int
	named   map[string][]keyvault.Ref // all versions, by vault
	next    int                       // of pairs
}

const (
	vaultSuffix   = "vault.example"
	vaultTenant   = "11111111-1111-4111-8111-111111111111"
	vaultOfficer  = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
	vaultIdentity = "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb" // of the resources
)

// someKeys makes a few key pairs, which keys share because generating them is slow.
func someKeys(t *testing.T, n int) []*rsa.PrivateKey {
	t.Helper()
	pairs := make([]*rsa.PrivateKey, n)
	for i := range pairs {
		var err error
		if pairs[i], err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			t.Fatal(err)
		}
	}
	return pairs
}

func newStormyVaults(t *testing.T, store *sealed.Store, pairs []*rsa.PrivateKey, chance *random.Rand) *stormyVaults {
	t.Helper()
	v := &stormyVaults{
		t: t, pairs: pairs, chance: chance, did: map[fault]int{}, named: map[string][]keyvault.Ref{},
		listener: &pipes{conns: make(chan net.Conn), closed: make(chan struct{})},
	}
	address := func(vault string) string { return "https://" + strings.ToLower(vault) + "." + vaultSuffix + "/" }
	var err error
	if v.keys, err = keyvault.New(keyvault.Config{Store: store, Address: address, Audit: audit.Discard{}}); err != nil {
		t.Fatal(err)
	}
	plane, err := vaultapi.New(vaultapi.Config{
		Vaults: v.keys, Address: address, Tokens: vaultTokens{}, Audience: "https://" + vaultSuffix,
		Authority: func(tenant string) string { return "https://login.example/" + tenant },
	})
	if err != nil {
		t.Fatal(err)
	}
	if v.handler, err = api.New(api.Config{Planes: []api.Plane{plane}}); err != nil {
		t.Fatal(err)
	}
	v.serve()
	return v
}

func (v *stormyVaults) serve() {
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		v.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: vaultSuffix},
		DNSNames:  []string{"*." + vaultSuffix},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0), IsCA: true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, own.Public(), own)
	if err != nil {
		v.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		v.t.Fatal(err)
	}
	v.roots = x509.NewCertPool()
	v.roots.AddCert(leaf)
	v.server = &http.Server{
		Handler: v, ErrorLog: log.New(io.Discard, "", 0), // handshakes that are abandoned
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12,
			Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: own}}},
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := v.server.ServeTLS(v.listener, "", ""); err != http.ErrServerClosed {
			v.t.Errorf("serve the vaults: %v", err)
		}
	}()
	v.t.Cleanup(func() {
		if err := v.server.Close(); err != nil {
			v.t.Errorf("close the vaults: %v", err)
		}
		<-ended
	})
}

func (v *stormyVaults) turn(w weather) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.weather = w
}

func (v *stormyVaults) counts() map[fault]int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return maps.Clone(v.did)
}

// versions returns all versions of all keys of a vault.
func (v *stormyVaults) versions(vault string) []keyvault.Ref {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.named[vault])
}

func (v *stormyVaults) draw() (f fault, wait time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	f = pass
	if w := v.weather; v.chance.Float64() < w.share {
		f = w.what[v.chance.IntN(len(w.what))]
	}
	v.did[f]++
	return f, time.Duration(v.chance.Int64N(int64(2400 * time.Millisecond)))
}

// ServeHTTP implements http.Handler as the proxy.
func (v *stormyVaults) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	f, wait := v.draw()
	switch f {
	case late:
		pause(r.Context(), wait)
	case tooLate:
		pause(r.Context(), 5*time.Second+wait)
	case dropped:
		panic(http.ErrAbortHandler)
	case throttled:
		w.Header().Set("Retry-After", fmt.Sprint(1+int(wait/time.Millisecond)%120))
		say(w, http.StatusTooManyRequests, `{"error":{"code":"Throttled","message":"Too many requests."}}`)
		return
	case failing:
		say(w, http.StatusServiceUnavailable, `{"error":{"code":"ServiceUnavailable","message":"Not now."}}`)
		return
	case badGateway:
		w.Header().Set("Content-Type", "text/html")
		say(w, http.StatusBadGateway, "<html><h1>502 Bad Gateway</h1></html>")
		return
	case portal:
		w.Header().Set("Content-Type", "text/html")
		say(w, http.StatusOK, "<html><h1>Welcome to the airport</h1></html>")
		return
	case elsewhere:
		http.Redirect(w, r, "http://elsewhere.example/", http.StatusTemporaryRedirect)
		return
	case garbled:
		say(w, http.StatusOK, `{"key":[],"kid":7,"value":{"a":[null]},"attributes":"none"}`)
		return
	case huge:
		w.Header().Set("Content-Type", "application/json")
		if _, err := io.WriteString(w, `{"value":"`); err != nil {
			return
		}
		for range 64 {
			if _, err := w.Write(bytes.Repeat([]byte("A"), 16<<10)); err != nil {
				return
			}
		}
		panic(http.ErrAbortHandler)
	case denying:
		say(
			w, http.StatusForbidden,
			`{"error":{"code":"Forbidden","message":"Caller is not authorized.","innererror":{"code":"AccessDenied"}}}`,
		)
		return
	case missing:
		say(w, http.StatusNotFound, `{"error":{"code":"KeyNotFound","message":"A key with that name was not found."}}`)
		return
	case closedDoor:
		w.Header().Set("WWW-Authenticate", `Bearer authorization="https://login.example/`+vaultTenant+
			`", resource="https://`+vaultSuffix+`"`)
		say(w, http.StatusUnauthorized, `{"error":{"code":"Unauthorized","message":"The token is no longer good."}}`)
		return
	}
	v.answer(w, r, body, f)
}

// answer gets the vault's answer, and passes it on: complete, in part, or changed.
func (v *stormyVaults) answer(w http.ResponseWriter, r *http.Request, body []byte, f fault) {
	asked := r.URL.Path
	path := asked
	if f == otherKey || f == disguised {
		path = v.otherPath(r.Host, asked)
	}
	forwarded := r.Clone(r.Context())
	forwarded.URL.Path, forwarded.RequestURI = path, path+"?"+r.URL.RawQuery
	forwarded.Body = io.NopCloser(bytes.NewReader(body))
	said := httptest.NewRecorder()
	v.handler.ServeHTTP(said, forwarded)
	answer := said.Body.Bytes()
	switch f {
	case unanswered:
		panic(http.ErrAbortHandler)
	case disguised:
		answer = bytes.ReplaceAll(answer, []byte(keyOf(path)), []byte(keyOf(asked)))
	case flipped:
		answer = changed(answer, func(a map[string]any) {
			if value, ok := a["value"].(string); ok {
				if raw, err := base64.RawURLEncoding.DecodeString(value); err == nil && len(raw) > 0 {
					raw[len(raw)/2] ^= 4
					a["value"] = base64.RawURLEncoding.EncodeToString(raw)
				}
			}
		})
	case twisted:
		answer = changed(answer, func(a map[string]any) {
			if _, ok := a["attributes"]; ok {
				a["attributes"] = map[string]any{"enabled": false, "exp": 1, "nbf": 1 << 40,
					"recoveryLevel": "Purgeable"}
			}
		})
	}
	maps.Copy(w.Header(), said.Header())
	w.Header().Del("Content-Length")
	switch f {
	case cut:
		w.Header().Set("Content-Length", fmt.Sprint(len(answer)))
		w.WriteHeader(said.Code)
		if _, err := w.Write(answer[:len(answer)/2]); err == nil {
			_ = http.NewResponseController(w).Flush() // the client may be gone
		}
		panic(http.ErrAbortHandler)
	case dripping:
		w.WriteHeader(said.Code)
		for i := range answer {
			if _, err := w.Write(answer[i : i+1]); err != nil || http.NewResponseController(w).Flush() != nil ||
				!pause(r.Context(), time.Second) {
				panic(http.ErrAbortHandler)
			}
		}
	default:
		say(w, said.Code, string(answer))
	}
}

// otherPath is the path with another key of the vault, or the same path if there is none.
func (v *stormyVaults) otherPath(host, path string) string {
	vault, _, _ := strings.Cut(host, ".")
	v.mu.Lock()
	defer v.mu.Unlock()
	var others []string
	for _, ref := range v.named[vault] {
		if other := ref.Name + "/" + ref.Version; other != keyOf(path) {
			others = append(others, other)
		}
	}
	if len(others) == 0 || keyOf(path) == "" {
		return path
	}
	return strings.Replace(path, keyOf(path), others[v.chance.IntN(len(others))], 1)
}

// keyOf returns the name and version in a path; empty without a version.
func keyOf(path string) string {
	parts := strings.Split(path, "/") // "", "keys", name, version, verb
	if len(parts) < 4 || parts[3] == "" {
		return ""
	}
	return parts[2] + "/" + parts[3]
}

func changed(answer []byte, change func(map[string]any)) []byte {
	var decoded map[string]any
	if json.Unmarshal(answer, &decoded) != nil {
		return answer
	}
	change(decoded)
	out, err := json.Marshal(decoded)
	if err != nil {
		panic(err) // it was valid JSON before
	}
	return out
}

func say(w http.ResponseWriter, status int, body string) {
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/json")
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body) // the client may be gone
}

// pause waits, and reports whether the client is still there.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// vault creates a vault in which the identity has the permissions that custody needs.
func (v *stormyVaults) vault(name string) {
	v.t.Helper()
	_, err := v.keys.CreateVault(v.t.Context(), visage.Caller{}, keyvault.Vault{
		Name: name, Group: "default", Location: "local", Tenant: vaultTenant, PurgeProtection: true,
		Policies: vaultPolicies(true),
	})
	if err != nil {
		v.t.Fatal(err)
	}
}

func vaultPolicies(granted bool) []keyvault.AccessPolicy {
	all := []keyvault.AccessPolicy{{ObjectID: vaultOfficer, Keys: []keyvault.Permission{keyvault.All}}}
	if granted {
		all = append(
			all, keyvault.AccessPolicy{ObjectID: vaultIdentity,
				Keys: []keyvault.Permission{keyvault.MayGet, keyvault.MayWrap, keyvault.MayUnwrap}},
		)
	}
	return all
}

// key creates a key, or a new version of one.
func (v *stormyVaults) key(vault, name string) (visage.KeyRef, error) {
	v.mu.Lock()
	k := v.pairs[v.next%len(v.pairs)]
	v.next++
	v.mu.Unlock()
	made, err := v.keys.ImportKey(v.t.Context(), officer(), keyvault.Ref{Vault: vault, Name: name},
		keyvault.ImportedKey{
			JWK: keyvault.JWK{
				Type: "RSA", N: k.N.Bytes(), E: big.NewInt(int64(k.E)).Bytes(), D: k.D.Bytes(), P: k.Primes[0].Bytes(),
				Q: k.Primes[1].Bytes(),
			},
			Attributes: keyvault.Attributes{Enabled: true},
		})
	if err != nil {
		return visage.KeyRef{}, err
	}
	v.mu.Lock()
	v.named[vault] = append(v.named[vault], made.Ref)
	v.mu.Unlock()
	return azure.ParseKey("https://"+vault+"."+vaultSuffix, name, made.Version)
}

func officer() visage.Caller {
	return visage.Caller{Principal: visage.Principal{Method: "token", ObjectID: vaultOfficer, Tenant: vaultTenant}}
}

// vaultTokens accepts tokens that consist of a principal id.
type vaultTokens struct{}

// Token implements vaultapi.Tokens.
func (vaultTokens) Token(_ context.Context, bearer, _ string) (visage.Principal, error) {
	if bearer == "" {
		return visage.Principal{}, visage.Refuse(visage.Unauthenticated, "Unauthorized", "There is no token.")
	}
	return visage.Principal{Method: "token", ObjectID: bearer, Tenant: vaultTenant}, nil
}

// vaultCredential makes such tokens.
type vaultCredential struct{ as visage.PrincipalID }

// Token implements azure.Credential.
func (c vaultCredential) Token(context.Context, string) (string, time.Time, error) {
	return string(c.as), time.Now().Add(time.Hour), nil
}

// pipes is a network without sockets.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once

	mu  sync.Mutex
	far []net.Conn // the ends of the servers
}

// cut ends all connections. A server that is closed says goodbye over each, and waits for somebody who reads it.
func (p *pipes) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.far {
		c.Close()
	}
}

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.conns <- far:
		p.mu.Lock()
		defer p.mu.Unlock()
		p.far = append(p.far, far)
		return near, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Accept implements net.Listener.
func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (p *pipes) Close() error { p.once.Do(func() { close(p.closed) }); return nil }

// Addr implements net.Listener.
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "vaults", Net: "pipe"} }
