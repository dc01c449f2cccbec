package gcpkms_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/gcpkms"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/test/keystores"
)

// The roles on a key of each sort, as the documents name them.
var (
	symmetricRoles = keystores.CloudRoles
	rsaRoles       = append(slices.Clone(symmetricRoles), "roles/cloudkms.publicKeyViewer")
)

const audience = "https://iam.googleapis.com/" + keystores.CloudProvider

// issuer signs assertions, as an instance does for the identities of its resources.
type issuer struct {
	private *rsa.PrivateKey
	subject string
	edit    map[string]any // claims that differ
}

// pair makes the issuer's key once: that takes long.
var pair = sync.OnceValue(func() *rsa.PrivateKey {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return private
})

func newIssuer() *issuer {
	return &issuer{pair(), "11111111-2222-4333-8444-555555555555", map[string]any{}}
}

func (i *issuer) keys() map[string]any {
	public := i.private.PublicKey
	return map[string]any{"keys": []map[string]any{{
		"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "1",
		"n": base64.RawURLEncoding.EncodeToString(public.N.Bytes()),
		"e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(public.E)).Bytes()),
	}}}
}

func (i *issuer) assertion(context.Context) (string, time.Time, error) {
	now := time.Now()
	claims := map[string]any{"iss": "https://faces.example/tenant", "sub": i.subject, "aud": audience,
		"iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix()}
	maps.Copy(claims, i.edit)
	body, err := json.Marshal(claims)
	if err != nil {
		return "", time.Time{}, err
	}
	encode := base64.RawURLEncoding.EncodeToString
	text := encode([]byte(`{"alg":"RS256","typ":"JWT","kid":"1"}`)) + "." + encode(body)
	digest := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, i.private, crypto.SHA256, digest[:])
	return text + "." + encode(signature), now.Add(5 * time.Minute), err
}

// store is a Cloud KMS whose provider trusts an issuer, and which lets the subject use the key faces.
type store struct {
	*keystores.CloudKMS
	*issuer
	services *gcpkms.Services
	login    gcpkms.Login
}

func newStore(t testing.TB, algorithm string) *store {
	t.Helper()
	s := &store{CloudKMS: keystores.StartCloudKMS(t), issuer: newIssuer()}
	for _, key := range []string{"faces", "other"} {
		s.Key(key, algorithm, nil)
		s.permitted(key, algorithm)
	}
	s.trust(nil)
	s.services = services(t, gcpkms.Config{Roots: s.Roots, Endpoint: "https://" + s.Address})
	s.login = gcpkms.WorkloadIdentity(keystores.CloudProvider, "", s.assertion)
	return s
}

func services(t testing.TB, cfg gcpkms.Config) *gcpkms.Services {
	t.Helper()
	s, err := gcpkms.NewServices(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// trust makes the provider accept the issuer.
func (s *store) trust(with map[string]any) {
	about := map[string]any{"issuer": "https://faces.example/tenant", "jwks": s.keys()}
	maps.Copy(about, with)
	s.Provider(about)
}

// permitted gives the subject the roles of the documents.
func (s *store) permitted(key, algorithm string) {
	roles := symmetricRoles
	if algorithm != "" {
		roles = rsaRoles
	}
	s.Permit(key, roles, keystores.CloudPrincipal(s.subject))
}

func (s *store) open(t testing.TB, name, version string) *gcpkms.Source {
	t.Helper()
	return s.openAt(t, ring, name, version)
}

func (s *store) openAt(t testing.TB, address, name, version string) *gcpkms.Source {
	t.Helper()
	key, err := gcpkms.ParseKey(address, name, version)
	if err != nil {
		t.Fatal(err)
	}
	src, err := s.services.Open(key, s.login)
	if err != nil {
		t.Fatal(err)
	}
	return src
}

const rsa2048 = "RSA_DECRYPT_OAEP_2048_SHA256"

// TestConformance runs the suite of key sources on each sort of key.
func TestConformance(t *testing.T) {
	for algorithm, version := range map[string]string{"": "", rsa2048: "1", "RSA_DECRYPT_OAEP_4096_SHA512": "1"} {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			s := newStore(t, algorithm) // of its own: a fault changes it
			sourcetest.Run(t, sourcetest.Provider{
				Open:   func(t testing.TB) keysource.Source { return s.open(t, "faces", version) },
				Other:  func(t testing.TB) keysource.Source { return s.open(t, "other", version) },
				Faults: faults(s, algorithm, version),
				Stride: 5,
			})
		})
	}
}

// faults are the failures of the services, each undone when its test ends.
func faults(s *store, algorithm, version string) []sourcetest.Fault {
	source := func(begin, end func()) func(testing.TB) keysource.Source {
		return func(t testing.TB) keysource.Source {
			begin()
			t.Cleanup(end)
			return s.open(t, "faces", version)
		}
	}
	answer := func(service string, code int, status, message, reason string) func(testing.TB) keysource.Source {
		return source(func() { s.Fail(service, code, status, message, reason) },
			func() { s.Fail(service, 0, "", "", "") })
	}
	state := func(state string) func(testing.TB) keysource.Source {
		return source(func() { s.State("faces", "1", state) }, func() { s.State("faces", "1", "ENABLED") })
	}
	all := []sourcetest.Fault{
		{Name: "IAM", Class: keysource.ErrDenied, Says: "IAM_PERMISSION_DENIED",
			Source: source(func() { s.Permit("faces", nil) }, func() { s.permitted("faces", algorithm) })},
		{Name: "disabled", Class: keysource.ErrDenied, Says: "is disabled", Source: state("DISABLED")},
		{Name: "to be destroyed", Class: keysource.ErrDenied, Says: "DESTROY_SCHEDULED",
			Source: state("DESTROY_SCHEDULED")},
		{Name: "destroyed", Class: keysource.ErrDenied, Says: "destroyed", Source: state("DESTROYED")},
		{Name: "disabled, and used for some time", Class: keysource.ErrDenied, Says: "is disabled",
			Source: source(func() { s.Lag(true); s.State("faces", "1", "DISABLED") },
				func() { s.Lag(false); s.State("faces", "1", "ENABLED") })},
		{Name: "provider disabled", Class: keysource.ErrDenied, Says: "the login is refused",
			Source: source(func() { s.trust(map[string]any{"disabled": true}) }, func() { s.trust(nil) })},
		{Name: "no services", Class: keysource.ErrUnknown, Says: "refused",
			Source: func(t testing.TB) keysource.Source {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				address := l.Addr().String()
				l.Close()
				gone := *s
				gone.services = services(t, gcpkms.Config{Roots: s.Roots, Endpoint: "https://" + address})
				return gone.open(t, "faces", version)
			}},
	}
	for _, row := range []struct {
		name   string
		code   int
		status string
		text   string
		reason string
		class  error
	}{
		{"permission by its text", 403, "PERMISSION_DENIED", "Permission 'cloudkms.cryptoKeyVersions.useToDecrypt' " +
			"denied on resource", "", keysource.ErrDenied},
		{"perimeter", 403, "PERMISSION_DENIED", "Request is prohibited by organization's policy.",
			"SECURITY_POLICY_VIOLATED", keysource.ErrDenied},
		{"service disabled", 403, "PERMISSION_DENIED", "Cloud Key Management Service (KMS) API has not been used in " +
			"project 1 before or it is disabled. cloudkms.googleapis.com", "SERVICE_DISABLED", keysource.ErrUnknown},
		{"billing", 403, "PERMISSION_DENIED", "This API method requires billing to be enabled.", "BILLING_DISABLED",
			keysource.ErrUnknown},
		{"consumer", 403, "PERMISSION_DENIED", "Permission denied: Consumer 'projects/1' has been suspended.",
			"CONSUMER_SUSPENDED", keysource.ErrUnknown},
		{"scope", 403, "PERMISSION_DENIED", "Request had insufficient authentication scopes.",
			"ACCESS_TOKEN_SCOPE_INSUFFICIENT", keysource.ErrUnknown},
		{"forbidden without a reason", 403, "PERMISSION_DENIED", "The caller does not have permission", "",
			keysource.ErrUnknown},
		{"not found", 404, "NOT_FOUND", "CryptoKey not found.", "", keysource.ErrDenied},
		{"precondition", 400, "FAILED_PRECONDITION", "The external key manager has answered with an error.", "",
			keysource.ErrUnknown},
		{"bad checksum", 400, "INVALID_ARGUMENT", "The checksum in field ciphertext_crc32c did not match.", "",
			keysource.ErrUnknown},
		{"principal unknown", 401, "UNAUTHENTICATED", "Request had invalid authentication credentials.",
			"ACCOUNT_STATE_INVALID", keysource.ErrDenied},
		{"clock", 401, "UNAUTHENTICATED", "Request had invalid authentication credentials.", "ACCESS_TOKEN_EXPIRED",
			keysource.ErrUnknown},
		{"without its token", 401, "UNAUTHENTICATED", "Request is missing required authentication credential.",
			"CREDENTIALS_MISSING", keysource.ErrUnknown},
		{"too many", 429, "RESOURCE_EXHAUSTED", "Quota exceeded for quota metric 'Cryptographic requests'.",
			"RATE_LIMIT_EXCEEDED", keysource.ErrUnknown},
		{"unavailable", 503, "UNAVAILABLE", "The service is currently unavailable.", "", keysource.ErrUnknown},
		{"internal", 500, "INTERNAL", "Internal error encountered.", "", keysource.ErrUnknown},
		{"late", 504, "DEADLINE_EXCEEDED", "Deadline exceeded.", "", keysource.ErrUnknown},
		{"aborted", 409, "ABORTED", "The operation was aborted.", "", keysource.ErrUnknown},
		{"the words of another status", 503, "NOT_FOUND", "CryptoKey not found.", "", keysource.ErrUnknown},
	} {
		all = append(all, sourcetest.Fault{Name: row.name, Class: row.class, Says: row.text,
			Source: answer("cloudkms", row.code, row.status, row.text, row.reason)})
	}
	return all
}

var inner = bytes.Repeat([]byte("secret "), 8)

func wrapped(t testing.TB, ctx context.Context, src keysource.Source) ([]byte, keysource.Ref) {
	t.Helper()
	blob, ref, err := src.Wrap(ctx, inner)
	if err != nil {
		t.Fatal(err)
	}
	return blob, ref
}

// want fails unless err has a class, a reason and a text.
func want(t testing.TB, err, class error, reason keysource.Reason, says string) {
	t.Helper()
	e, ok := errors.AsType[*keysource.Error](err)
	if !ok || !errors.Is(err, class) || e.Reason != reason || !strings.Contains(err.Error(), says) {
		t.Errorf("got %v, want class %q, reason %q and the text %q", err, class, reason, says)
	}
}

// TestLabels holds that the service itself refuses to unwrap a key in the place of another one.
func TestLabels(t *testing.T) {
	s := newStore(t, "")
	src := s.open(t, "faces", "")
	one := keysource.Label{Instance: [16]byte{1}, Resource: [16]byte{2}, Generation: 3}
	blob, ref := wrapped(t, keysource.WithLabel(t.Context(), one), src)
	got, err := src.Unwrap(keysource.WithLabel(t.Context(), one), ref, blob)
	if err != nil || !bytes.Equal(got, inner) {
		t.Errorf("with its label: %v", err)
	}
	for _, other := range []keysource.Label{{}, {Instance: [16]byte{1}, Resource: [16]byte{2}, Generation: 4},
		{Instance: [16]byte{1}, Resource: [16]byte{9}, Generation: 3},
		{Instance: [16]byte{9}, Resource: [16]byte{2}, Generation: 3}} {
		_, err := src.Unwrap(keysource.WithLabel(t.Context(), other), ref, blob)
		want(t, err, keysource.ErrWrong, "", "Decryption failed")
	}
	altered := bytes.Clone(blob)
	altered[0] = 1 // claims that no label is bound
	_, err = src.Unwrap(keysource.WithLabel(t.Context(), one), ref, altered)
	want(t, err, keysource.ErrWrong, "", "Decryption failed")
	s.Rotate("faces")
	_, err = src.Unwrap(keysource.WithLabel(t.Context(), one), keysource.Ref{URI: ref.URI, Version: "2"}, blob)
	want(t, err, keysource.ErrWrong, "", "Decryption failed") // the version is bound as well
}

// TestVersions follows the rotation of a key, pins a version, and revokes one.
func TestVersions(t *testing.T) {
	s := newStore(t, "")
	src := s.open(t, "faces", "")
	blob, ref := wrapped(t, t.Context(), src)
	s.Rotate("faces")
	if _, newer := wrapped(t, t.Context(), src); ref.Version != "1" || newer.Version != "2" {
		t.Errorf("versions %s and %s, want 1 and 2", ref.Version, newer.Version)
	}
	pinned := s.open(t, "faces", "1")
	if _, ref := wrapped(t, t.Context(), pinned); ref.Version != "1" {
		t.Errorf("a pinned source wrapped with version %s", ref.Version)
	}
	if got, err := src.Unwrap(t.Context(), ref, blob); err != nil || !bytes.Equal(got, inner) {
		t.Errorf("unwrap with the version of before: %v", err)
	}
	s.State("faces", "1", "DISABLED")
	_, err := src.Unwrap(t.Context(), ref, blob)
	want(t, err, keysource.ErrDenied, keysource.Disabled, "version 1 is disabled")
	_, _, err = pinned.Wrap(t.Context(), inner)
	want(t, err, keysource.ErrDenied, keysource.Disabled, "version 1 is disabled")
	if d, err := src.Describe(t.Context(), ref); err != nil || d.Enabled {
		t.Errorf("a disabled version is described as enabled (%v)", err)
	}
	_, _, err = s.open(t, "faces", "7").Wrap(t.Context(), inner)
	want(t, err, keysource.ErrDenied, keysource.Missing, "NOT_FOUND")
	_, err = src.Unwrap(t.Context(), keysource.Ref{URI: ring + "/keys/other", Version: "1"}, blob)
	want(t, err, keysource.ErrWrong, "", "is another key")
	s.State("faces", "1", "ENABLED")
	// The state alone is no reason to refuse: what decides is that the service opens it.
	s.Permit("faces", symmetricRoles[:1], keystores.CloudPrincipal(s.subject))
	if got, err := src.Unwrap(t.Context(), ref, blob); err != nil || !bytes.Equal(got, inner) {
		t.Errorf("unwrap without the right to read the version: %v", err)
	}
	_, err = src.Describe(t.Context(), ref)
	want(t, err, keysource.ErrDenied, keysource.Permission, "cloudkms.cryptoKeys.get")
}

// TestAsymmetric holds that wrapping with a public key asks for the permission to unwrap, and that a version is named.
func TestAsymmetric(t *testing.T) {
	s := newStore(t, rsa2048)
	s.Permit("faces", rsaRoles[1:], keystores.CloudPrincipal(s.subject)) // may see the public key, but not decrypt
	_, _, err := s.open(t, "faces", "1").Wrap(t.Context(), inner)
	want(t, err, keysource.ErrDenied, keysource.Permission, "useToDecrypt")
	s.permitted("faces", rsa2048)
	_, _, err = s.open(t, "faces", "").Wrap(t.Context(), inner)
	want(t, err, keysource.ErrUnknown, "", "a version must be named")
	d, err := s.open(t, "faces", "").Describe(t.Context(), keysource.Ref{})
	if err != nil || !strings.Contains(d.Unfit[keysource.FitType], "name a version") {
		t.Errorf("without a version: unfit %v (%v)", d.Unfit, err)
	}
}

// TestOfficialClient holds that this room and Google's own client open what the other has wrapped.
func TestOfficialClient(t *testing.T) {
	s := newStore(t, "")
	s.Key("rsa", rsa2048, nil)
	s.permitted("rsa", rsa2048)
	label := keysource.Label{Instance: [16]byte{1}, Resource: [16]byte{2}, Generation: 3}
	ctx := keysource.WithLabel(t.Context(), label)
	src := s.open(t, "faces", "")
	blob, ref := wrapped(t, ctx, src)
	aad := fmt.Appendf(nil, "visage/gcpkms/v1 1 %s", label.Bytes())
	var opened struct{ Plaintext []byte }
	key := keystores.CloudRing + "/cryptoKeys/faces"
	s.Official("decrypt", map[string]any{
		"name": key, "ciphertext": blob[1:], "additionalAuthenticatedData": aad}, &opened)
	if !bytes.Equal(opened.Plaintext, inner) {
		t.Error("Google's client opens something else")
	}
	var sealed struct{ Ciphertext []byte }
	s.Official("encrypt", map[string]any{"name": key, "plaintext": inner, "additionalAuthenticatedData": aad}, &sealed)
	got, err := src.Unwrap(ctx, ref, append([]byte{2}, sealed.Ciphertext...))
	if err != nil || !bytes.Equal(got, inner) {
		t.Errorf("what Google's client has wrapped: %v", err)
	}
	blob, _ = wrapped(t, ctx, s.open(t, "rsa", "1"))
	opened.Plaintext = nil
	s.Official("asymmetricDecrypt", map[string]any{"name": keystores.CloudRing + "/cryptoKeys/rsa/cryptoKeyVersions/1",
		"ciphertext": blob[1:]}, &opened)
	if !bytes.Equal(opened.Plaintext, inner) {
		t.Error("Google's client opens something else with an RSA key")
	}
}

// TestLog holds that the service's log names the resource's identity, and the id that this service's log has.
func TestLog(t *testing.T) {
	s := newStore(t, "")
	ctx := keysource.WithTrace(t.Context())
	blob, ref := wrapped(t, ctx, s.open(t, "faces", ""))
	if _, err := s.open(t, "faces", "").Unwrap(ctx, ref, blob); err != nil {
		t.Fatal(err)
	}
	id := keysource.TraceOf(ctx).RequestID()
	found := slices.ContainsFunc(s.Log(), func(e keystores.CloudEntry) bool {
		return e.Method == "decrypt" && e.Principal == keystores.CloudPrincipal(s.subject) && e.Reason == id &&
			strings.HasSuffix(e.Resource, "/cryptoKeys/faces") && e.Status == http.StatusOK
	})
	if !found || id == "" {
		t.Errorf("no entry of the id %q in %+v", id, s.Log())
	}
}

// TestFitness says of each kind of key why it may not protect a resource.
func TestFitness(t *testing.T) {
	s := newStore(t, "")
	external := map[string]any{"versionTemplate": map[string]any{"protectionLevel": "EXTERNAL",
		"algorithm": "EXTERNAL_SYMMETRIC_ENCRYPTION"}}
	for name, c := range map[string]struct {
		algorithm string
		with      map[string]any
		of        keysource.Fitness
		says      string
	}{
		"fit":      {"", nil, "", ""},
		"hardware": {"", map[string]any{"versionTemplate": map[string]any{"protectionLevel": "HSM"}}, "", ""},
		"large":    {"RSA_DECRYPT_OAEP_3072_SHA256", nil, "", ""},
		"sha1":     {"RSA_DECRYPT_OAEP_2048_SHA1", nil, keysource.FitType, "RSA_DECRYPT_OAEP_2048_SHA1"},
		"signing": {"", map[string]any{"purpose": "MAC", "versionTemplate": map[string]any{"algorithm": "HMAC_SHA256"}},
			keysource.FitOperations, `purpose "MAC"`},
		"soon": {"", map[string]any{"destroyScheduledDuration": "86400s"}, keysource.FitProtection,
			"--destroy-scheduled-duration"},
		"external": {"", external, keysource.FitProtection, "external key manager"},
	} {
		s.Key(name, c.algorithm, c.with)
		s.permitted(name, c.algorithm)
		version := ""
		if c.algorithm != "" {
			version = "1"
		}
		d, err := s.open(t, name, version).Describe(t.Context(), keysource.Ref{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if c.of == "" && len(d.Unfit) > 0 || c.of != "" && !strings.Contains(d.Unfit[c.of], c.says) {
			t.Errorf("%s: unfit %v, want %q to say %q", name, d.Unfit, c.of, c.says)
		}
	}
}

// TestPlaces learns nothing from another project, location or ring: a key there may not exist, or not be for the
// caller.
func TestPlaces(t *testing.T) {
	s := newStore(t, "")
	blob, ref := wrapped(t, t.Context(), s.open(t, "faces", ""))
	for _, address := range []string{
		strings.Replace(ring, "visage-test", "visage-prod", 1), strings.Replace(ring, "europe-west3", "us-east1", 1),
		strings.Replace(ring, "keyRings/faces", "keyRings/others", 1),
	} {
		src := s.openAt(t, address, "faces", "")
		_, _, err := src.Wrap(t.Context(), inner)
		want(t, err, keysource.ErrDenied, keysource.Permission, "or it may not exist")
		_, err = src.Unwrap(t.Context(), ref, blob)
		want(t, err, keysource.ErrWrong, "", "is another key")
	}
	if _, err := s.services.Open(visage.KeyRef{Vault: ring + "/", Name: "faces"}, s.login); err == nil {
		t.Error("a reference in another spelling was opened")
	}
}

// TestSilence holds that a connection that has fallen silent is used for one call, and not for those that follow.
func TestSilence(t *testing.T) {
	line := keystores.StartLine(t)
	s := &store{issuer: newIssuer()}
	s.login = gcpkms.WorkloadIdentity(keystores.CloudProvider, "", s.assertion)
	s.services = services(t, gcpkms.Config{Roots: line.Roots, Endpoint: "https://" + line.Address, Dial: line.Dial})
	src := s.open(t, "faces", "")
	describe := func(ctx context.Context) error {
		_, err := src.Describe(ctx, keysource.Ref{})
		return err
	}
	want(t, describe(t.Context()), keysource.ErrUnknown, "", "without a document")
	lost := line.Silence()
	cause := errors.New("the caller has left")
	ctx, cancel := context.WithCancelCause(t.Context())
	failed := make(chan error, 1)
	go func() { failed <- describe(ctx) }()
	<-lost
	cancel(cause)
	if err := <-failed; !errors.Is(err, cause) {
		t.Errorf("over the silent connection: %v", err)
	}
	want(t, describe(t.Context()), keysource.ErrUnknown, "", "without a document")
}
