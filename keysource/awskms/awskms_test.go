package awskms_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/awskms"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/test/keystores"
)

// TestMain reads randomness once outside of every bubble: where FIPS mode asks for it, the first reading times the
// processor, and a bubble's clock stands still.
func TestMain(m *testing.M) {
	rand.Read(make([]byte, 1))
	os.Exit(m.Run())
}

// store is a KMS with a user who may use two of its keys.
type store struct {
	*keystores.KMS
	servers      *awskms.Servers
	login        awskms.Login
	secret       string // the file with the user's secret
	faces, other string // ids of keys
}

const userKey, userSecret = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"

func newStore(t testing.TB, spec string) *store {
	t.Helper()
	s := &store{KMS: keystores.StartKMS(t), secret: filepath.Join(t.TempDir(), "secret")}
	make := map[string]any{"KeySpec": spec, "KeyUsage": "ENCRYPT_DECRYPT"}
	s.faces, s.other = s.CreateKey(make), s.CreateKey(make)
	s.User("visage", userKey, userSecret)
	s.PermitUser("visage", keystores.KMSUse, s.faces, s.other)
	s.write(t, userSecret)
	s.servers = s.reach(t, s.Address)
	s.login = awskms.Static(userKey, s.secret)
	return s
}

// write replaces the secret of the user in the file.
func (s *store) write(t testing.TB, secret string) {
	t.Helper()
	if err := os.WriteFile(s.secret, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// reach returns the store at a host.
func (s *store) reach(t testing.TB, host string) *awskms.Servers {
	t.Helper()
	servers, err := awskms.NewServers(awskms.Config{Address: keystores.KMSStore, Endpoint: "https://" + host,
		LoginEndpoint: "https://" + host, Roots: s.Roots})
	if err != nil {
		t.Fatal(err)
	}
	return servers
}

func (s *store) open(t testing.TB, key string) *awskms.Source {
	t.Helper()
	return s.openBy(t, s.servers, key)
}

func (s *store) openBy(t testing.TB, servers *awskms.Servers, key string) *awskms.Source {
	t.Helper()
	ref, err := awskms.ParseKey(keystores.KMSStore, key, "")
	if err != nil {
		t.Fatal(err)
	}
	src, err := servers.Open(ref, s.login)
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// TestConformance runs the suite of key sources on each type of key, with the failures of a real server.
func TestConformance(t *testing.T) {
	for _, spec := range []string{"SYMMETRIC_DEFAULT", "RSA_2048"} {
		t.Run(spec, func(t *testing.T) {
			t.Parallel()
			s := newStore(t, spec)
			sourcetest.Run(t, sourcetest.Provider{
				Open:   func(t testing.TB) keysource.Source { return s.open(t, s.faces) },
				Other:  func(t testing.TB) keysource.Source { return s.open(t, s.other) },
				Faults: faults(s),
				Stride: 3,
			})
		})
	}
}

// faults are the failures of a server, each undone when its test ends.
func faults(s *store) []sourcetest.Fault {
	source := func(begin, end func(t testing.TB)) func(testing.TB) keysource.Source {
		return func(t testing.TB) keysource.Source {
			begin(t)
			t.Cleanup(func() { end(t) })
			return s.open(t, s.faces)
		}
	}
	call := func(operation string) func(testing.TB) {
		return func(testing.TB) { s.Do(operation, map[string]any{"KeyId": s.faces}) }
	}
	return []sourcetest.Fault{{
		Name: "permission taken away", Class: keysource.ErrDenied, Says: "not authorized to perform",
		Source: source(func(testing.TB) { s.PermitUser("visage", keystores.KMSUse, s.other) },
			func(testing.TB) { s.PermitUser("visage", keystores.KMSUse, s.faces, s.other) }),
	}, {
		Name: "AWS in trouble", Class: keysource.ErrUnknown, Says: "status 500 KMSInternalException",
		Source: source(func(testing.TB) { s.Down(true) }, func(testing.TB) { s.Down(false) }),
	}, {
		Name: "no server", Class: keysource.ErrUnknown, Says: "refused",
		Source: func(t testing.TB) keysource.Source {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			address := l.Addr().String()
			l.Close()
			return s.openBy(t, s.reach(t, address), s.faces)
		},
	}, {
		Name: "access key deleted", Class: keysource.ErrDenied, Says: "UnrecognizedClientException",
		Source: source(func(testing.TB) { s.User("visage", userKey, "") },
			func(testing.TB) { s.User("visage", userKey, userSecret) }),
	}, {
		Name: "another secret", Class: keysource.ErrUnknown, Says: "the clock of this machine or the secret is wrong",
		Source: source(func(t testing.TB) { s.write(t, `no longer the secret of that user`) }, func(t testing.TB) { s.write(t, userSecret) }),
	}, {
		Name: "no secret", Class: keysource.ErrUnknown, Says: "no login could be made",
		Source: source(func(t testing.TB) { s.write(t, "") }, func(t testing.TB) { s.write(t, userSecret) }),
	}, {
		Name: "half a secret", Class: keysource.ErrUnknown, Says: "too short to be one of AWS",
		Source: source(func(t testing.TB) { s.write(t, "wJalrXUt") }, func(t testing.TB) { s.write(t, userSecret) }),
	}, {
		Name: "key disabled", Class: keysource.ErrDenied, Says: "is disabled",
		Source: source(call("DisableKey"), call("EnableKey")),
	}, {
		Name: "key waits for its deletion", Class: keysource.ErrDenied, Says: "will be deleted on",
		Source: source(call("ScheduleKeyDeletion"), func(t testing.TB) {
			call("CancelKeyDeletion")(t)
			call("EnableKey")(t)
		}),
	}}
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

// TestLabels holds that AWS itself refuses to unwrap a key in the place of another one.
func TestLabels(t *testing.T) {
	s := newStore(t, "SYMMETRIC_DEFAULT")
	src := s.open(t, s.faces)
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
		want(t, err, keysource.ErrWrong, "", "InvalidCiphertextException")
	}
	altered := bytes.Clone(blob)
	altered[0] = 1 // claims that no label is bound
	_, err = src.Unwrap(keysource.WithLabel(t.Context(), one), ref, altered)
	want(t, err, keysource.ErrWrong, "", "InvalidCiphertextException")
}

// TestCredentials holds that a secret can be replaced, and that the end of an access key is noticed.
func TestCredentials(t *testing.T) {
	s := newStore(t, "SYMMETRIC_DEFAULT")
	src := s.open(t, s.faces)
	blob, ref := wrapped(t, t.Context(), src)
	s.User("visage", userKey, "")
	_, err := src.Unwrap(t.Context(), ref, blob)
	want(t, err, keysource.ErrDenied, keysource.NoIdentity, "UnrecognizedClientException")

	s.User("visage", userKey, "a new secret of the same user")
	s.write(t, "a new secret of the same user")
	s.servers.UseCredentialsFor(0)
	if got, err := s.open(t, s.faces).Unwrap(t.Context(), ref, blob); err != nil || !bytes.Equal(got, inner) {
		t.Errorf("with a new secret: %v", err)
	}
}

// TestNoAmbientConfiguration holds that nothing of the environment decides where a source goes and as whom.
func TestNoAmbientConfiguration(t *testing.T) {
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "AKIAOTHER", "AWS_SECRET_ACCESS_KEY": "other", "AWS_SESSION_TOKEN": "other",
		"AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": "https://192.0.2.1", "AWS_ENDPOINT_URL_KMS": "https://192.0.2.1",
		"AWS_PROFILE": "other", "AWS_USE_FIPS_ENDPOINT": "true", "HTTPS_PROXY": "http://192.0.2.1:3128",
		"AWS_CA_BUNDLE": "/nowhere", "AWS_MAX_ATTEMPTS": "10",
	} {
		t.Setenv(name, value)
	}
	s := newStore(t, "SYMMETRIC_DEFAULT")
	src := s.open(t, s.faces)
	blob, ref := wrapped(t, t.Context(), src)
	if _, err := src.Unwrap(t.Context(), ref, blob); err != nil {
		t.Error(err)
	}
}

// TestFitness says of each kind of key why it may not protect a resource.
func TestFitness(t *testing.T) {
	s := newStore(t, "SYMMETRIC_DEFAULT")
	for name, c := range map[string]struct {
		key  map[string]any
		of   keysource.Fitness
		says string
	}{
		"symmetric": {map[string]any{}, "", ""},
		"large":     {map[string]any{"KeySpec": "RSA_4096", "KeyUsage": "ENCRYPT_DECRYPT"}, "", ""},
		"signing": {map[string]any{"KeySpec": "RSA_2048", "KeyUsage": "SIGN_VERIFY"}, keysource.FitOperations,
			`key usage "SIGN_VERIFY"`},
		"curve": {map[string]any{"KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY"}, keysource.FitType,
			`key spec "ECC_NIST_P256"`},
	} {
		id := s.CreateKey(c.key)
		s.PermitUser("visage", keystores.KMSUse, id)
		d, err := s.open(t, id).Describe(t.Context(), keysource.Ref{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if c.of == "" && (len(d.Unfit) > 0 || !d.Enabled || d.Ref.Version != "") ||
			c.of != "" && !strings.Contains(d.Unfit[c.of], c.says) {
			t.Errorf("%s: %+v, want %q to say %q", name, d, c.of, c.says)
		}
	}
	s.PermitUser("visage", keystores.KMSUse, s.faces)
	s.Do("DisableKey", map[string]any{"KeyId": s.faces})
	if d, err := s.open(t, s.faces).Describe(t.Context(), keysource.Ref{}); err != nil || d.Enabled {
		t.Errorf("a disabled key: enabled %t, %v", d.Enabled, err)
	}
	s.Do("ScheduleKeyDeletion", map[string]any{"KeyId": s.faces})
	_, err := s.open(t, s.faces).Describe(t.Context(), keysource.Ref{})
	want(t, err, keysource.ErrDenied, keysource.Missing, "will be deleted on")

	waiting := s.CreateKey(map[string]any{"Origin": "EXTERNAL"})
	s.PermitUser("visage", keystores.KMSUse, waiting)
	if d, err := s.open(t, waiting).Describe(t.Context(), keysource.Ref{}); err != nil || d.Enabled {
		t.Errorf("a key without material: enabled %t, %v", d.Enabled, err)
	}
	_, _, err = s.open(t, waiting).Wrap(t.Context(), inner)
	want(t, err, keysource.ErrDenied, keysource.Disabled, "waits for its material")
}

// TestOpen refuses a key of another store.
func TestOpen(t *testing.T) {
	servers, err := awskms.NewServers(awskms.Config{Address: keystores.KMSStore})
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []visage.KeyRef{
		{Vault: "awskms://eu-west-1/111122223333", Name: someKey}, {Vault: `awskms://eu-central-1/444455556666`, Name: someKey},
		{Vault: keystores.KMSStore, Name: "alias/faces"}, {Vault: keystores.KMSStore, Name: someARN},
	} {
		if _, err := servers.Open(key, awskms.Static("a", "b")); err == nil {
			t.Errorf("%s was opened", key)
		}
	}
	if _, err := servers.Open(visage.KeyRef{Vault: keystores.KMSStore, Name: someKey}, awskms.Login{}); err == nil {
		t.Error("a key was opened without a login")
	}
}

// TestSilence holds that a connection that has fallen silent is used for one call, and not for those that follow.
func TestSilence(t *testing.T) {
	line := keystores.StartLine(t)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(userSecret), 0o600); err != nil {
		t.Fatal(err)
	}
	servers, err := awskms.NewServers(awskms.Config{Address: keystores.KMSStore, Endpoint: "https://" + line.Address,
		LoginEndpoint: "https://" + line.Address, Roots: line.Roots, Dial: line.Dial})
	if err != nil {
		t.Fatal(err)
	}
	src := (&store{login: awskms.Static(userKey, secret)}).openBy(t, servers, someKey)
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
