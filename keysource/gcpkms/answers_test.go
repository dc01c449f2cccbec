package gcpkms_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/gcpkms"
	"github.com/visage-face/visage/test/keystores"
)

// made is a server that answers as a function says, and gives every login a token.
func made(t *testing.T, answer http.HandlerFunc) *store {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/token" {
			_, _ = io.WriteString(w, `{"access_token":"t","token_type":"Bearer","expires_in":3599}`)
			return
		}
		answer(w, r)
	}))
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	s := &store{issuer: newIssuer()}
	s.services = services(t, gcpkms.Config{Roots: roots, Endpoint: server.URL})
	s.login = gcpkms.WorkloadIdentity(keystores.CloudProvider, "", s.assertion)
	return s
}

const keyName = keystores.CloudRing + "/cryptoKeys/faces"

var first = keysource.Ref{URI: ring + "/keys/faces", Version: "1"}

// good are answers to the requests about the first version of the key faces. Its ciphertext opens to "secret".
func good(path string) map[string]any {
	version := map[string]any{"name": keyName + "/cryptoKeyVersions/1", "state": "ENABLED",
		"protectionLevel": "SOFTWARE", "algorithm": "GOOGLE_SYMMETRIC_ENCRYPTION"}
	switch {
	case strings.HasSuffix(path, ":encrypt"): // CRC-32C of "sealed"
		return map[string]any{"name": keyName + "/cryptoKeyVersions/1", "ciphertext": []byte("sealed"),
			"ciphertextCrc32c": "2252807419", "verifiedPlaintextCrc32c": true,
			"verifiedAdditionalAuthenticatedDataCrc32c": true}
	case strings.HasSuffix(path, ":decrypt"): // CRC-32C of "secret"
		return map[string]any{"plaintext": []byte("secret"), "plaintextCrc32c": "2956741965"}
	case strings.HasSuffix(path, "/1"):
		return version
	}
	return map[string]any{"name": keyName, "purpose": "ENCRYPT_DECRYPT", "primary": version,
		"destroyScheduledDuration": "2592000s"}
}

// TestAltered holds that what was altered on its way, or is about another key, is not used.
func TestAltered(t *testing.T) {
	unknown, wrong := keysource.ErrUnknown, keysource.ErrWrong
	set := func(field string, value any) func(map[string]any) {
		return func(a map[string]any) { a[field] = value }
	}
	drop := func(field string) func(map[string]any) { return func(a map[string]any) { delete(a, field) } }
	empty := func(a map[string]any) { clear(a) }
	const verifiedLabel = "verifiedAdditionalAuthenticatedDataCrc32c"
	for name, c := range map[string]struct {
		to    string // the end of the path whose answer is changed
		edit  func(map[string]any)
		class error // of wrapping or unwrapping; nil: there is none
		says  string
	}{
		"nothing":               {":encrypt", func(map[string]any) {}, nil, ""},
		"ciphertext":            {":encrypt", set("ciphertext", []byte("sealEd")), unknown, "checksum"},
		"no checksum":           {":encrypt", drop("ciphertextCrc32c"), unknown, "checksum"},
		"checksum that is none": {":encrypt", set("ciphertextCrc32c", "-1"), unknown, "not the one"},
		"plaintext unverified":  {":encrypt", set("verifiedPlaintextCrc32c", false), unknown, "checksum"},
		"label unverified":      {":encrypt", drop(verifiedLabel), unknown, "checksum"},
		"by another version":    {":encrypt", set("name", keyName+"/cryptoKeyVersions/2"), wrong, "was asked for"},
		"by another project": {":encrypt", set("name", strings.Replace(keyName, "test", "prod", 1)), wrong,
			"has wrapped"},
		"number of the project": {":encrypt",
			set("name", strings.Replace(keyName, "visage-test", "42", 1)+"/cryptoKeyVersions/1"), nil, ""},
		"plaintext":    {":decrypt", set("plaintext", []byte("secreT")), unknown, "checksum"},
		"no plaintext": {":decrypt", drop("plaintext"), unknown, "checksum"},
		"another key":  {"faces", set("name", keyName+"2"), wrong, "answered for"},
		"another location": {"faces", set("name", strings.Replace(keyName, "west3", "west1", 1)), wrong,
			"answered for"},
		"no key": {"faces", empty, unknown, "describes no key"},
		"primary of another key": {"faces", set("primary",
			map[string]any{"name": keyName + "2/cryptoKeyVersions/1", "state": "ENABLED"}), unknown, "no primary"},
		"version of another":      {"/1", set("name", keyName+"/cryptoKeyVersions/2"), nil, ""},
		"state that is not known": {"/1", set("state", "PENDING_GENERATION"), nil, ""},
		"no state":                {"/1", empty, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := made(t, func(w http.ResponseWriter, r *http.Request) {
				a := good(r.URL.Path)
				if strings.HasSuffix(r.URL.Path, c.to) {
					c.edit(a)
				}
				_ = json.NewEncoder(w).Encode(a)
			})
			src := s.open(t, "faces", "")
			blob, ref, err := src.Wrap(t.Context(), inner)
			if err == nil {
				_, err = src.Unwrap(t.Context(), ref, blob)
			}
			if !errors.Is(err, c.class) || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %v and %q", err, c.class, c.says)
			}
		})
	}
}

// TestAnswers holds that nothing but a service's own words is an answer.
func TestAnswers(t *testing.T) {
	unknown, wrong := keysource.ErrUnknown, keysource.ErrWrong
	document := func(code int, status, text string) string {
		return fmt.Sprintf(`{"error":{"code":%d,"status":%q,"message":%q}}`, code, status, text)
	}
	for name, c := range map[string]struct {
		status int
		body   string
		class  error
		says   string
	}{
		"html":            {404, "<html>NOT_FOUND</html>", unknown, "without a document"},
		"bare status":     {403, "", unknown, "without a document"},
		"no document":     {403, `{"message":"cloudkms. denied"}`, unknown, "without an error document"},
		"another code":    {404, document(403, "NOT_FOUND", "x"), unknown, "without an error document"},
		"another status":  {404, document(404, "PERMISSION_DENIED", "cloudkms."), unknown, ""},
		"a field twice":   {404, `{"error":{"code":404,"status":"x","Status":"NOT_FOUND"}}`, unknown, "document"},
		"truncated":       {404, `{"error":{"code":404,"status":"NOT_FOUND"`, unknown, "without a document"},
		"good, truncated": {200, `{"plaintext":"c2VjcmV0`, unknown, "without a document"},
		"a list":          {200, `[]`, unknown, "without a document"},
		"too long":        {200, `{"plaintext":"` + strings.Repeat("A", 1<<20) + `"}`, unknown, ""},
		"redirect":        {307, "", unknown, "status 307"},
		"no content":      {204, "", unknown, "status 204"},
		"wrong":           {400, document(400, "INVALID_ARGUMENT", "Decryption failed: …"), wrong, ""},
		"wrong elsewhere": {503, document(503, "INVALID_ARGUMENT", "Decryption failed."), unknown, ""},
		"service off": {403, document(403, "PERMISSION_DENIED", "Cloud Key Management Service (KMS) API has not been "+
			"used in project 42 before or it is disabled. Enable it by visiting "+
			"https://console.developers.google.com/apis/api/cloudkms.googleapis.com/overview?project=42."), unknown,
			"disabled"},
		"permission by its name": {403, document(403, "PERMISSION_DENIED",
			"Permission 'cloudkms.cryptoKeyVersions.useToDecrypt' denied on resource."), keysource.ErrDenied, "denied"},
		"oauth's document": {400, `{"error":"invalid_grant"}`, unknown, "invalid_grant"},
	} {
		t.Run(name, func(t *testing.T) {
			s := made(t, func(w http.ResponseWriter, r *http.Request) {
				switch {
				case !strings.HasSuffix(r.URL.Path, ":decrypt"):
					_ = json.NewEncoder(w).Encode(good(r.URL.Path))
				case c.status == http.StatusTemporaryRedirect && r.URL.RawQuery == "":
					http.Redirect(w, r, r.URL.Path+"?again", c.status)
				case c.status == http.StatusTemporaryRedirect:
					t.Error("the token went where a redirect led")
				default:
					w.WriteHeader(c.status)
					_, _ = io.WriteString(w, c.body)
				}
			})
			got, err := s.open(t, "faces", "").Unwrap(t.Context(), first, append([]byte{1}, "sealed"...))
			if got != nil || !errors.Is(err, c.class) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %v and %q", err, c.class, c.says)
			}
		})
	}
}

// TestSlow ends a call whose answer does not come, or does not end.
func TestSlow(t *testing.T) {
	for name, answer := range map[string]string{"no answer": "", "half an answer": `{"plaintext":"c2Vj`} {
		t.Run(name, func(t *testing.T) {
			asked := make(chan struct{}, 8)
			s := made(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body) // only then the server notices that the caller has left
				if answer != "" {
					_, _ = io.WriteString(w, answer)
					w.(http.Flusher).Flush()
				}
				asked <- struct{}{}
				<-r.Context().Done()
			})
			cause := errors.New("the caller has left")
			ctx, cancel := context.WithCancelCause(t.Context())
			failed := make(chan error)
			go func() {
				_, err := s.open(t, "faces", "").Unwrap(ctx, first, append([]byte{1}, "sealed"...))
				failed <- err
			}()
			<-asked
			cancel(cause)
			if err := <-failed; !errors.Is(err, cause) {
				t.Errorf("got %v, want the context's cause", err)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) { // nobody is at the other end: the deadline of five seconds ends it
		s := &store{issuer: newIssuer()}
		ends := make(chan net.Conn, 8)
		s.services = services(t, gcpkms.Config{Dial: func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			ends <- far
			return near, nil
		}})
		s.login = gcpkms.WorkloadIdentity(keystores.CloudProvider, "", s.assertion)
		began := time.Now()
		_, err := s.open(t, "faces", "").Describe(t.Context(), keysource.Ref{})
		want(t, err, keysource.ErrUnknown, "", "no answer within 5s")
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("it took %v", took)
		}
		for len(ends) > 0 {
			(<-ends).Close()
		}
	})
}

// another is the subject of another resource.
const another = "99999999-2222-4333-8444-555555555555"

// TestLogins holds which refusals of a login are certain, and which are none.
func TestLogins(t *testing.T) {
	s := newStore(t, "")
	s.services.UseTokensFor(0) // each call logs in
	blob, ref := wrapped(t, t.Context(), s.open(t, "faces", ""))
	unwrap := func() error {
		_, err := s.open(t, "faces", "").Unwrap(t.Context(), ref, blob)
		return err
	}
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	other := &issuer{private: private, subject: s.subject}
	denied, unknown := keysource.ErrDenied, keysource.ErrUnknown
	trust := func(field string, value any) func() {
		return func() { s.trust(map[string]any{field: value}) }
	}
	claim := func(name string, value any) func() { return func() { s.edit[name] = value } }
	for name, c := range map[string]struct {
		begin func()
		class error // nil: the login succeeds
		says  string
	}{
		"good":                 {func() {}, nil, ""},
		"another subject":      {func() { s.subject = another }, denied, "IAM_PERMISSION_DENIED"},
		"not of the condition": {trust("subjects", []string{"x"}), denied, "rejected by the attribute condition"},
		"another audience":     {claim("aud", "https://iam.googleapis.com/x"), denied, "audience in ID Token"},
		"another issuer":       {claim("iss", "https://faces.example/other"), denied, "issuer in ID Token"},
		"provider gone":        {trust("disabled", true), denied, "invalid_target"},
		"signed by nobody":     {trust("jwks", other.keys()), unknown, "signature"},
		"keys turned":          {func() { s.private = other.private; s.trust(nil) }, nil, ""},
		"clock hours off": {func() { s.edit["iat"], s.edit["exp"] = time.Now().Unix()-8000, time.Now().Unix()-7700 },
			unknown, "stale"},
		"issuer out of reach": {trust("jwksUrl", "https://127.0.0.1:1/keys"), unknown, "Error connecting"},
		"service down": {func() { s.Fail("sts", 503, "temporarily_unavailable", "Try again.", "") }, unknown,
			"temporarily_unavailable"},
	} {
		before := *s.issuer
		s.edit = map[string]any{}
		c.begin()
		err := unwrap()
		if !errors.Is(err, c.class) || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want %v and %q", name, err, c.class, c.says)
		}
		if err != nil && strings.Contains(err.Error(), "eyJ") {
			t.Errorf("%s: the error repeats a token: %v", name, err)
		}
		*s.issuer = before
		s.edit = map[string]any{}
		s.trust(nil)
		s.Fail("sts", 0, "", "", "")
	}
	// A token that has ended is not a verdict: the source logs in again.
	s.services.UseTokensFor(time.Hour)
	src := s.open(t, "faces", "")
	if _, err := src.Unwrap(t.Context(), ref, blob); err != nil {
		t.Fatal(err)
	}
	s.RevokeTokens()
	if _, err := src.Unwrap(t.Context(), ref, blob); err != nil {
		t.Errorf("after the token was revoked: %v", err)
	}
	// An identity that is gone is certain without a question.
	s.login = gcpkms.WorkloadIdentity(keystores.CloudProvider, "", func(context.Context) (string, time.Time, error) {
		return "", time.Time{}, fmt.Errorf("the identity is gone: %w", keysource.ErrDenied)
	})
	want(t, unwrap(), keysource.ErrDenied, keysource.NoIdentity, "can no longer get a token")
}

// TestServiceAccounts logs in as a service account: by federation, and with a key.
func TestServiceAccounts(t *testing.T) {
	s := newStore(t, "")
	s.services.UseTokensFor(0) // each call logs in
	s.Account(false, keystores.CloudPrincipal(s.subject))
	s.Permit("faces", symmetricRoles, "serviceAccount:"+keystores.CloudAccount)
	s.login = gcpkms.WorkloadIdentity(keystores.CloudProvider, keystores.CloudAccount, s.assertion)
	blob, ref := wrapped(t, t.Context(), s.open(t, "faces", ""))
	unwrap := func() error {
		_, err := s.open(t, "faces", "").Unwrap(t.Context(), ref, blob)
		return err
	}
	if err := unwrap(); err != nil {
		t.Errorf("as the service account: %v", err)
	}
	mine := s.subject
	s.subject = another // resource, which may not act as the account
	want(t, unwrap(), keysource.ErrDenied, keysource.NoIdentity, "iam.serviceAccounts.getAccessToken")
	s.subject = mine

	file := filepath.Join(t.TempDir(), "key.json")
	write := func(content []byte) {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.login = gcpkms.ServiceAccountKey(file)
	want(t, unwrap(), keysource.ErrUnknown, "", "no login could be made")
	first := s.Account(false)
	write(first)
	if err := unwrap(); err != nil {
		t.Errorf("with a key: %v", err)
	}
	second := s.Account(false) // the account has another key now
	want(t, unwrap(), keysource.ErrDenied, keysource.NoIdentity, "Invalid JWT Signature")
	write(second)
	if err := unwrap(); err != nil {
		t.Errorf("with the key that replaces it: %v", err)
	}
	write(s.Account(true))
	want(t, unwrap(), keysource.ErrDenied, keysource.NoIdentity, "Account disabled")
	write([]byte(`{"type":"authorized_user"}`))
	want(t, unwrap(), keysource.ErrUnknown, "", "not one that Google writes")
}

// TestGone holds that the login of an identity that was deleted is not tried, however many have succeeded before.
func TestGone(t *testing.T) {
	s := newStore(t, "")
	s.services.UseTokensFor(0) // each call logs in
	var gone error
	get := func(ctx context.Context) (string, time.Time, error) {
		if gone != nil {
			return "", time.Time{}, gone
		}
		return s.assertion(ctx)
	}
	s.login = gcpkms.WorkloadIdentity(keystores.CloudProvider, "", get)
	src := s.open(t, "faces", "")
	blob, ref := wrapped(t, t.Context(), src)
	gone = fmt.Errorf("the identity is gone: %w", keysource.ErrDenied)
	_, err := src.Unwrap(t.Context(), ref, blob)
	want(t, err, keysource.ErrDenied, keysource.NoIdentity, "can no longer get a token")
}

// TestLoginsAtOnce has one login serve the calls that wait for it.
func TestLoginsAtOnce(t *testing.T) {
	s := newStore(t, "")
	var logins atomic.Int32
	counted := func(ctx context.Context) (string, time.Time, error) {
		logins.Add(1)
		return s.assertion(ctx)
	}
	s.login = gcpkms.WorkloadIdentity(keystores.CloudProvider, "", counted)
	src := s.open(t, "faces", "")
	failed := make(chan error)
	for range 4 {
		go func() {
			_, err := src.Describe(t.Context(), keysource.Ref{})
			failed <- err
		}()
	}
	for range 4 {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
	if n := logins.Load(); n != 1 {
		t.Errorf("%d logins", n)
	}
}

func TestMain(m *testing.M) {
	pair() // randomness is drawn once before the bubble's clock stops
	m.Run()
}
