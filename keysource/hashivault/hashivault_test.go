package hashivault_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/hashivault"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/test/keystores"
)

// store is a Vault with an application that may use some of its keys.
type store struct {
	*keystores.Vault
	servers *hashivault.Servers
	login   hashivault.Login
	roots   *x509.CertPool // of a fake
	secret  string         // the file with the application's secret id
}

// permitted are the rights of the documents.
func permitted(key string) map[string][]string {
	return map[string][]string{
		"transit/keys/" + key: {"read"}, "transit/encrypt/" + key: {"update"}, "transit/decrypt/" + key: {"update"},
	}
}

func newStore(t testing.TB, keyType string) *store {
	t.Helper()
	s := &store{Vault: keystores.StartVault(t), secret: filepath.Join(t.TempDir(), "secret")}
	for _, key := range []string{"faces", "other"} {
		s.Post("transit/keys/"+key, map[string]any{"type": keyType})
	}
	s.Permit("visage", permitted("*"))
	s.Post("auth/approle/role/visage", map[string]any{"token_policies": "visage", "token_ttl": "10m"})
	role, _ := s.Do(http.MethodGet, "auth/approle/role/visage/role-id", nil)["role_id"].(string)
	s.newSecret(t)
	s.servers = hashivault.NewServers(hashivault.Config{Roots: s.Roots})
	s.login = hashivault.AppRole("approle", role, s.secret)
	return s
}

// newSecret gives the application a new secret id.
func (s *store) newSecret(t testing.TB) {
	t.Helper()
	id, _ := s.Post("auth/approle/role/visage/secret-id", nil)["secret_id"].(string)
	if err := os.WriteFile(s.secret, []byte(id+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// open opens a key of the engine transit.
func (s *store) open(t testing.TB, name, version string) *hashivault.Source {
	t.Helper()
	return s.openAt(t, "hashivault://"+s.Address+"/transit", name, version)
}

func (s *store) openAt(t testing.TB, address, name, version string) *hashivault.Source {
	t.Helper()
	key, err := hashivault.ParseKey(address, name, version)
	if err != nil {
		t.Fatal(err)
	}
	src, err := s.servers.Open(key, s.login)
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// TestConformance runs the suite of key sources on each type of key, with the failures of a real server.
func TestConformance(t *testing.T) {
	for _, keyType := range []string{"aes256-gcm96", "rsa-2048"} {
		t.Run(keyType, func(t *testing.T) {
			t.Parallel()
			// A fault changes the server, so each has one of its own; the key is made there too.
			s := newStore(t, keyType)
			sourcetest.Run(t, sourcetest.Provider{
				Open:   func(t testing.TB) keysource.Source { return s.open(t, "faces", "") },
				Other:  func(t testing.TB) keysource.Source { return s.open(t, "other", "") },
				Faults: faults(s),
				Stride: 3,
			})
		})
	}
}

// faults are the failures of a server, each undone when its test ends.
func faults(s *store) []sourcetest.Fault {
	during := func(t testing.TB, begin, end func()) {
		begin()
		t.Cleanup(end)
	}
	source := func(begin, end func()) func(testing.TB) keysource.Source {
		return func(t testing.TB) keysource.Source {
			during(t, begin, end)
			return s.open(t, "faces", "")
		}
	}
	permit := func(rules map[string][]string) func() { return func() { s.Permit("visage", rules) } }
	return []sourcetest.Fault{{
		Name: "permission taken away", Class: keysource.ErrDenied, Says: "permission denied",
		Source: source(permit(nil), permit(permitted("*"))),
	}, {
		Name: "sealed", Class: keysource.ErrUnknown, Says: "Vault is sealed",
		Source: source(func() { s.Seal(true) }, func() { s.Seal(false) }),
	}, {
		Name: "no server", Class: keysource.ErrUnknown, Says: "refused",
		Source: func(t testing.TB) keysource.Source {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			address := l.Addr().String()
			l.Close()
			return unwrapsAll{s.openAt(t, "hashivault://"+address+"/transit", "faces", ""), address}
		},
	}, {
		Name: "secret replaced", Class: keysource.ErrDenied, Says: "the login is refused",
		Source: source(func() {
			if err := os.WriteFile(s.secret, []byte("no-longer\n"), 0o600); err != nil {
				panic(err)
			}
		}, func() {
			id, _ := s.Post("auth/approle/role/visage/secret-id", nil)["secret_id"].(string)
			if err := os.WriteFile(s.secret, []byte(id), 0o600); err != nil {
				panic(err)
			}
		}),
	}, {
		Name: "key deleted", Class: keysource.ErrDenied, Says: "there is no such key",
		Source: source(func() {
			s.Post("transit/keys/faces/config", map[string]any{"deletion_allowed": true})
			s.Do(http.MethodDelete, "transit/keys/faces", nil)
		}, func() {
			s.Post("transit/keys/faces", nil)
		}),
	}}
}

// unwrapsAll is a source at another address, asked to unwrap what the same key wrapped at its own.
type unwrapsAll struct {
	*hashivault.Source
	address string
}

// Unwrap implements keysource.Source.
func (u unwrapsAll) Unwrap(ctx context.Context, ref keysource.Ref, blob []byte) ([]byte, error) {
	ref.URI = "hashivault://" + u.address + "/transit/keys/faces"
	return u.Source.Unwrap(ctx, ref, blob)
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

// TestLabels holds that the server itself refuses to unwrap a key in the place of another one.
func TestLabels(t *testing.T) {
	s := newStore(t, "aes256-gcm96")
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
		want(t, err, keysource.ErrWrong, "", "")
	}
	altered := bytes.Clone(blob)
	altered[0] = 1 // claims that no label is bound
	_, err = src.Unwrap(keysource.WithLabel(t.Context(), one), ref, altered)
	want(t, err, keysource.ErrWrong, "", "")
}

// TestVersions follows the rotation of a key, pins a version, and revokes one.
func TestVersions(t *testing.T) {
	s := newStore(t, "aes256-gcm96")
	src := s.open(t, "faces", "")
	blob, ref := wrapped(t, t.Context(), src)
	s.Post("transit/keys/faces/rotate", nil)
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
	s.Post("transit/keys/faces/config", map[string]any{"min_decryption_version": 2})
	_, err := src.Unwrap(t.Context(), ref, blob)
	want(t, err, keysource.ErrDenied, keysource.Disabled, "too old")
	_, _, err = pinned.Wrap(t.Context(), inner)
	want(t, err, keysource.ErrDenied, keysource.Disabled, "min_decryption_version")
	if d, err := src.Describe(t.Context(), ref); err != nil || d.Enabled {
		t.Errorf("a revoked version is described as enabled (%v)", err)
	}
	_, _, err = s.open(t, "faces", "7").Wrap(t.Context(), inner)
	want(t, err, keysource.ErrDenied, keysource.Missing, "no version 7")
	_, err = src.Unwrap(t.Context(), keysource.Ref{URI: ref.URI, Version: "2"}, blob)
	want(t, err, keysource.ErrWrong, "", "does not name version 2")
}

// TestMadeAnew holds the trap of transit: a key that was deleted and made anew under its name is another one, and a
// deleted key is not made anew by wrapping, even where the policy would permit that.
func TestMadeAnew(t *testing.T) {
	s := newStore(t, "aes256-gcm96")
	src := s.open(t, "faces", "")
	blob, ref := wrapped(t, t.Context(), src)
	s.Post("transit/keys/faces/config", map[string]any{"deletion_allowed": true})
	s.Do(http.MethodDelete, "transit/keys/faces", nil)
	rules := permitted("*")
	rules["transit/encrypt/*"] = []string{"create", "update"}
	s.Permit("visage", rules)
	_, _, err := src.Wrap(t.Context(), inner)
	want(t, err, keysource.ErrDenied, keysource.Missing, "no such key")
	_, err = src.Unwrap(t.Context(), ref, blob)
	want(t, err, keysource.ErrDenied, keysource.Missing, "no such key")
	if _, err := s.open(t, "faces", "").Describe(t.Context(), keysource.Ref{}); err == nil {
		t.Fatal("wrapping has made the key anew")
	}
	s.restoreLater(t, "faces", "aes256-gcm96") // versions are told apart by the second in which they were made
	_, _, err = src.Wrap(t.Context(), inner)
	want(t, err, keysource.ErrWrong, "", "made anew")
	_, err = s.open(t, "faces", "").Unwrap(t.Context(), ref, blob)
	want(t, err, keysource.ErrWrong, "", "made anew")
}

// TestRotatedAndMadeAnew holds that a key which was rotated, deleted and made anew, and has fewer versions now, is
// another one.
func TestRotatedAndMadeAnew(t *testing.T) {
	s := newStore(t, "aes256-gcm96")
	s.Post("transit/keys/faces/rotate", nil)
	blob, ref := wrapped(t, t.Context(), s.open(t, "faces", ""))
	if ref.Version != "2" {
		t.Fatalf("wrapped with version %s, want 2", ref.Version)
	}
	s.Post("transit/keys/faces/config", map[string]any{"deletion_allowed": true})
	s.Do(http.MethodDelete, "transit/keys/faces", nil)
	s.Post("transit/keys/faces", map[string]any{"type": "aes256-gcm96"})
	_, err := s.open(t, "faces", "").Unwrap(t.Context(), ref, blob)
	want(t, err, keysource.ErrWrong, "", "version is too new; the newest version is 1")
}

// TestStandbyLagsBehind holds that a server which has not heard of a rotation yet gives no verdict, as far as the key
// is known to be the same.
func TestStandbyLagsBehind(t *testing.T) {
	keys := `"1":1700000000,"2":1700000100`
	latest := 2
	s := fake(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/login"):
			_, _ = io.WriteString(w, `{"auth":{"client_token":"t","lease_duration":60}}`)
		case r.Method == http.MethodGet:
			fmt.Fprintf(w, `{"data":{"name":"faces","type":"aes256-gcm96","latest_version":%d,"keys":{%s}}}`, latest, keys)
		default:
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"errors":["invalid ciphertext: version is too new"]}`)
		}
	})
	ref := keysource.Ref{URI: "hashivault://" + s.Address + "/transit/keys/faces", Version: "2"}
	src := s.open(t, "faces", "")
	if _, err := src.Describe(t.Context(), keysource.Ref{}); err != nil {
		t.Fatal(err)
	}
	unwrap := func() error {
		_, err := src.Unwrap(t.Context(), ref, append([]byte{1}, "vault:v2:AAAA"...))
		return err
	}
	latest, keys = 1, `"1":1700000000`
	want(t, unwrap(), keysource.ErrUnknown, "", "lag behind")
	keys = `"1":1700000200`
	want(t, unwrap(), keysource.ErrWrong, "", "made anew")
	latest, keys = 2, `"1":1700000200,"2":1700000300`
	want(t, unwrap(), keysource.ErrWrong, "", "made anew")
}

// restoreLater makes a key under a name whose only version was made a minute from now: it restores the backup of
// another key with its times changed, since a test cannot turn the clock of the server.
func (s *store) restoreLater(t *testing.T, name, keyType string) {
	t.Helper()
	s.Post("transit/keys/later", map[string]any{"type": keyType, "exportable": true, "allow_plaintext_backup": true})
	taken, _ := s.Do(http.MethodGet, "transit/backup/later", nil)["backup"].(string)
	text, err := base64.StdEncoding.DecodeString(taken)
	if err != nil {
		t.Fatal(err)
	}
	later := time.Now().Add(time.Minute)
	changed := regexp.MustCompile(`"creation_time":\d+`).ReplaceAll(text,
		fmt.Appendf(nil, `"creation_time":%d`, later.Unix()))
	changed = regexp.MustCompile(`"time":"[^"]*"`).ReplaceAll(changed,
		fmt.Appendf(nil, `"time":%q`, later.UTC().Format(time.RFC3339Nano)))
	if bytes.Equal(changed, text) {
		t.Fatal("the backup of a key has no time")
	}
	s.Post("transit/restore/"+name, map[string]any{"backup": base64.StdEncoding.EncodeToString(changed)})
}

// TestTokens holds that the end of a token is no verdict on the key: the source logs in again.
func TestTokens(t *testing.T) {
	s := newStore(t, "aes256-gcm96")
	src := s.open(t, "faces", "")
	blob, ref := wrapped(t, t.Context(), src)
	s.RevokeTokens()
	if _, err := src.Unwrap(t.Context(), ref, blob); err != nil {
		t.Errorf("after the token was revoked: %v", err)
	}
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("hvs.nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.login = hashivault.Token(file)
	_, err := s.open(t, "faces", "").Unwrap(t.Context(), ref, blob)
	want(t, err, keysource.ErrUnknown, "", "does not know its token")
	if err := os.WriteFile(file, []byte(s.Root), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := s.open(t, "faces", "").Unwrap(t.Context(), ref, blob); err != nil || !bytes.Equal(got, inner) {
		t.Errorf("with a token of its own: %v", err)
	}
	s.login = hashivault.Token(filepath.Join(t.TempDir(), "none"))
	_, err = s.open(t, "faces", "").Unwrap(t.Context(), ref, blob)
	want(t, err, keysource.ErrUnknown, "", "no login")
}

// TestLoginTakenAway holds that a principal who may no longer log in is noticed, however long its tokens live, and that
// a refused secret is not sent twice, because servers lock accounts out.
func TestLoginTakenAway(t *testing.T) {
	s := newStore(t, "aes256-gcm96")
	s.servers.UseTokensFor(0) // each call logs in
	src := s.open(t, "faces", "")
	blob, ref := wrapped(t, t.Context(), src)
	s.Do(http.MethodDelete, "auth/approle/role/visage", nil)
	_, err := src.Unwrap(t.Context(), ref, blob)
	want(t, err, keysource.ErrDenied, keysource.NoIdentity, "the login is refused")

	var logins int
	f := fake(t, func(w http.ResponseWriter, _ *http.Request) {
		logins++
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"errors":[%q]}`, `invalid secret_id "secret"`)
	})
	_, err = f.open(t, "faces", "").Describe(t.Context(), keysource.Ref{})
	want(t, err, keysource.ErrDenied, keysource.NoIdentity, "invalid secret_id")
	if logins != 1 || strings.Contains(err.Error(), `"secret"`) {
		t.Errorf("%d logins, and the error %v; the secret is sent once, and not repeated", logins, err)
	}
}

// TestPlaces opens keys in engines with longer paths, and learns nothing from wrong ones.
func TestPlaces(t *testing.T) {
	s := newStore(t, "aes256-gcm96")
	s.Post("keys/of/team/keys/faces", nil)
	rules := permitted("*")
	for path, may := range permitted("*") {
		rules["keys/of/team"+strings.TrimPrefix(path, "transit")] = may
	}
	rules["nowhere/*"] = []string{"read", "update"}
	s.Permit("visage", rules)
	blob, ref := wrapped(t, t.Context(), s.openAt(t, "hashivault://"+s.Address+"/keys/of/team", "faces", ""))
	if want := "hashivault://" + s.Address + "/keys/of/team/keys/faces"; ref.URI != want {
		t.Errorf("the reference is %s, want %s", ref.URI, want)
	}
	if _, err := s.open(t, "faces", "").Unwrap(t.Context(), ref, blob); !errors.Is(err, keysource.ErrWrong) {
		t.Errorf("by another engine: %v", err)
	}
	_, _, err := s.openAt(t, "hashivault://"+s.Address+"/nowhere", "faces", "").Wrap(t.Context(), inner)
	want(t, err, keysource.ErrUnknown, "", "no transit engine at nowhere")
	_, _, err = s.openAt(t, "hashivault://"+s.Address+"/transit?namespace=team", "faces", "").Wrap(t.Context(), inner)
	want(t, err, keysource.ErrUnknown, "", "the login failed") // as while an account is locked out
}

// TestFitness says of each kind of key why it may not protect a resource.
func TestFitness(t *testing.T) {
	s := newStore(t, "aes256-gcm96")
	for name, c := range map[string]struct {
		key    map[string]any
		config map[string]any
		of     keysource.Fitness
		says   string
	}{
		"fit":        {map[string]any{"type": "aes256-gcm96"}, nil, "", ""},
		"large":      {map[string]any{"type": "rsa-4096"}, nil, "", ""},
		"signing":    {map[string]any{"type": "ed25519"}, nil, keysource.FitType, `type "ed25519"`},
		"small":      {map[string]any{"type": "aes128-gcm96"}, nil, keysource.FitType, `type "aes128-gcm96"`},
		"derived":    {map[string]any{"derived": true}, nil, keysource.FitType, "without derived"},
		"exportable": {map[string]any{"exportable": true}, nil, keysource.FitProtection, "in the clear"},
		"deletable": {nil, map[string]any{"deletion_allowed": true}, keysource.FitProtection,
			"deletion_allowed to false"},
	} {
		s.Post("transit/keys/"+name, c.key)
		if c.config != nil {
			s.Post("transit/keys/"+name+"/config", c.config)
		}
		d, err := s.open(t, name, "").Describe(t.Context(), keysource.Ref{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if c.of == "" && len(d.Unfit) > 0 || c.of != "" && !strings.Contains(d.Unfit[c.of], c.says) {
			t.Errorf("%s: unfit %v, want %q to say %q", name, d.Unfit, c.of, c.says)
		}
	}
}

// TestAnswers holds that nothing but a server's own words is an answer.
func TestAnswers(t *testing.T) {
	const login, key = `{"auth":{"client_token":"t","lease_duration":60}}`,
		`{"data":{"name":"faces","type":"aes256-gcm96","latest_version":1,"keys":{"1":1700000000}}}`
	for name, c := range map[string]struct {
		status int
		body   string
		class  error
		says   string
	}{
		"html":          {403, "<html>permission denied</html>", keysource.ErrUnknown, "without a document"},
		"bare status":   {404, "", keysource.ErrUnknown, "without a document"},
		"no errors":     {403, `{"message":"permission denied"}`, keysource.ErrUnknown, "without an error document"},
		"a field twice": {403, `{"errors":["x"],"Errors":["permission denied"]}`, keysource.ErrUnknown, "document"},
		"truncated":     {200, `{"data":{"plaintext":"`, keysource.ErrUnknown, "without a document"},
		"nothing":       {200, `{"data":{}}`, keysource.ErrUnknown, "no plaintext"},
		"no data":       {200, `{"data":null}`, keysource.ErrUnknown, "not the one to the question"},
		"too long":      {200, `{"data":{"plaintext":"` + strings.Repeat("A", 1<<20) + `"}}`, keysource.ErrUnknown, ""},
		"redirect":      {307, "", keysource.ErrUnknown, "status 307"},
		"standby":       {473, `{"errors":["standby"]}`, keysource.ErrUnknown, "473"},
		"replica":       {472, `{"errors":["disaster recovery secondary"]}`, keysource.ErrUnknown, "472"},
		"too many":      {429, `{"errors":["rate limit quota exceeded"]}`, keysource.ErrUnknown, "429"},
		"not yet seen":  {412, `{"errors":["required index state not present"]}`, keysource.ErrUnknown, "412"},
		"failed":        {500, `{"errors":["internal error"]}`, keysource.ErrUnknown, "internal error"},
		"storage":       {500, `{"errors":["decryption failed: cipher: message authentication failed"]}`, keysource.ErrUnknown, ""},
		"gateway":       {502, `{"errors":["invalid ciphertext: no prefix"]}`, keysource.ErrUnknown, ""},
		"overloaded": {503, `{"errors":["ciphertext or signature version is disallowed by policy (too old)"]}`,
			keysource.ErrUnknown, ""},
		"folded":           {400, `{"errors":["x"],"errorſ":["cipher: message authentication failed"]}`, keysource.ErrUnknown, ""},
		"unknown token":    {403, `{"errors":["2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"]}`, keysource.ErrUnknown, "its token"},
		"known token":      {403, `{"errors":["1 error occurred:\n\t* permission denied\n\n"]}`, keysource.ErrDenied, ""},
		"altered":          {400, `{"errors":["cipher: message authentication failed"]}`, keysource.ErrWrong, ""},
		"RSA":              {500, `{"errors":["failed to RSA decrypt the ciphertext: crypto/rsa: decryption error"]}`, keysource.ErrWrong, ""},
		"other ciphertext": {400, `{"errors":["invalid ciphertext: no prefix"]}`, keysource.ErrWrong, ""},
		// the fake's key has the version: another server has rotated it, and this one has caught up since
		"too new": {400, `{"errors":["invalid ciphertext: version is too new"]}`, keysource.ErrUnknown, "lag behind"},
		"too old": {400, `{"errors":["ciphertext or signature version is disallowed by policy (too old)"]}`,
			keysource.ErrDenied, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := fake(t, func(w http.ResponseWriter, r *http.Request) {
				switch {
				case strings.HasSuffix(r.URL.Path, "/login"):
					_, _ = io.WriteString(w, login)
				case strings.HasSuffix(r.URL.Path, "/lookup-self"):
					w.WriteHeader(http.StatusForbidden)
					_, _ = io.WriteString(w, `{"errors":["permission denied"]}`)
				case r.Method == http.MethodGet:
					_, _ = io.WriteString(w, key)
				case c.status == http.StatusTemporaryRedirect && r.URL.RawQuery == "":
					http.Redirect(w, r, r.URL.Path+"?again", c.status)
				case c.status == http.StatusTemporaryRedirect:
					t.Error("the token went where a redirect led")
				default:
					w.WriteHeader(c.status)
					_, _ = io.WriteString(w, c.body)
				}
			})
			ref := keysource.Ref{URI: "hashivault://" + s.Address + "/transit/keys/faces", Version: "1"}
			blob := append([]byte{1}, "vault:v1:AAAA"...)
			got, err := s.open(t, "faces", "").Unwrap(t.Context(), ref, blob)
			if got != nil || !errors.Is(err, c.class) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %v and %q", err, c.class, c.says)
			}
		})
	}
	t.Run("another key's answer", func(t *testing.T) {
		s := fake(t, func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/login") {
				_, _ = io.WriteString(w, login)
				return
			}
			_, _ = io.WriteString(w, strings.Replace(key, "faces", "other", 1))
		})
		_, err := s.open(t, "faces", "").Describe(t.Context(), keysource.Ref{})
		want(t, err, keysource.ErrWrong, "", "answered for key")
	})
}

// TestLogins holds which refusals of a login are certain.
func TestLogins(t *testing.T) {
	for text, class := range map[string]error{
		`role "visage" could not be found`:                                       keysource.ErrDenied,
		`error validating token: invalid subject (sub) claim`:                    keysource.ErrDenied,
		`error validating token: invalid audience (aud) claim: no match`:         keysource.ErrDenied,
		`error validating claims: claim "sub" does not match any`:                keysource.ErrDenied,
		`error validating token: error verifying token signature: fetching keys`: keysource.ErrUnknown,
		`error validating token: invalid expiration time (exp) claim`:            keysource.ErrUnknown,
		`could not load configuration`:                                           keysource.ErrUnknown,
		`permission denied`:                                                      keysource.ErrUnknown,
	} {
		logins, made := 0, 0
		s := fake(t, func(w http.ResponseWriter, _ *http.Request) {
			logins++
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprintf(w, `{"errors":[%q]}`, text)
		})
		s.login = hashivault.JWT("jwt", "visage", func(context.Context) (string, time.Time, error) {
			made++
			return fmt.Sprintf("a.b.%d", made), time.Now().Add(time.Minute), nil
		})
		_, err := s.open(t, "faces", "").Describe(t.Context(), keysource.Ref{})
		if !errors.Is(err, class) {
			t.Errorf("%s: got %v, want %v", text, err, class)
		}
		if certain := errors.Is(class, keysource.ErrDenied); certain != (logins == 2) {
			t.Errorf("%s: %d logins; a refusal is tried twice", text, logins)
		}
	}
	s := fake(t, func(http.ResponseWriter, *http.Request) { t.Error("nothing is to be sent") })
	s.login = hashivault.JWT("jwt", "visage", func(context.Context) (string, time.Time, error) {
		return "", time.Time{}, fmt.Errorf("the identity is gone: %w", keysource.ErrDenied)
	})
	_, err := s.open(t, "faces", "").Describe(t.Context(), keysource.Ref{})
	want(t, err, keysource.ErrDenied, keysource.NoIdentity, "can no longer get a token")
}

// fake is a store that answers as a function says.
func fake(t *testing.T, answer http.HandlerFunc) *store {
	t.Helper()
	server := httptest.NewTLSServer(answer)
	t.Cleanup(server.Close)
	s := &store{Vault: &keystores.Vault{Address: server.Listener.Addr().String()},
		secret: filepath.Join(t.TempDir(), "secret")}
	if err := os.WriteFile(s.secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.roots = x509.NewCertPool()
	s.roots.AddCert(server.Certificate())
	s.servers = hashivault.NewServers(hashivault.Config{Roots: s.roots})
	s.login = hashivault.AppRole("approle", "role", s.secret)
	return s
}

// TestSilence holds that a connection that has fallen silent is used for one call, and not for those that follow.
func TestSilence(t *testing.T) {
	line := keystores.StartLine(t)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &store{Vault: &keystores.Vault{Address: line.Address}, login: hashivault.Token(token),
		servers: hashivault.NewServers(hashivault.Config{Roots: line.Roots, Dial: line.Dial})}
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

// TestWriteWithoutAnswer holds that a write is not repeated by itself when its connection ends before the answer: the
// second one would find the value of the first, and report that another one is there.
func TestWriteWithoutAnswer(t *testing.T) {
	var writes atomic.Int32
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodGet:
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"errors":[]}`)
		case writes.Add(1) == 1:
			panic(http.ErrAbortHandler) // it is written, and the connection ends
		default:
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"errors":["check-and-set parameter did not match the current version"]}`)
		}
	}))
	defer server.Close()
	dir := t.TempDir()
	ca, token := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "token")
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	err := errors.Join(os.WriteFile(ca, certificate, 0o600), os.WriteFile(token, []byte("token"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	kv, err := hashivault.OpenKV("hashivault://"+server.Listener.Addr().String()+"/kv/visage?ca="+ca, token)
	if err != nil {
		t.Fatal(err)
	}
	if _, version, err := kv.Read(t.Context(), "x"); err != nil || version != 0 { // from here on there is a connection
		t.Fatalf("read: version %d, %v", version, err)
	}
	_, _, err = kv.Write(t.Context(), "x", 0, []byte("value"))
	if !errors.Is(err, keysource.ErrUnknown) || writes.Load() != 1 {
		t.Errorf("got %v after %d writes, want one whose end is unknown", err, writes.Load())
	}
}
