package awskms_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/awskms"
	"github.com/visage-face/visage/test/keystores"
)

// issuer is an OpenID issuer that signs what a test claims.
type issuer struct {
	*httptest.Server
	key *rsa.PrivateKey
	ca  string
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{key: key}
	i.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"keys":[{"kid":"1","n":%q,"e":%q}]}`, segment(i.key.N.Bytes()),
			segment(big.NewInt(int64(i.key.E)).Bytes()))
	}))
	t.Cleanup(i.Close)
	i.ca = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.Certificate().Raw}))
	return i
}

func segment(raw []byte) string { return base64.RawURLEncoding.EncodeToString(raw) }

// token signs claims of a subject for an audience.
func (i *issuer) token(t testing.TB, subject, audience string, expires time.Time) string {
	t.Helper()
	claims, err := json.Marshal(map[string]any{"iss": i.URL, "sub": subject, "aud": audience, "exp": expires.Unix()})
	if err != nil {
		t.Fatal(err)
	}
	text := segment([]byte(`{"alg":"RS256","kid":"1"}`)) + "." + segment(claims)
	digest := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(nil, i.key, crypto.SHA256, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + segment(signature)
}

// TestWebIdentity logs in with tokens of an issuer, as the one subject that a role trusts and for its audience.
func TestWebIdentity(t *testing.T) {
	s, i := newStore(t, "SYMMETRIC_DEFAULT"), newIssuer(t)
	s.servers.UseCredentialsFor(0) // each call logs in
	s.Role("visage-vip", &keystores.Trust{Issuer: i.URL, JWKS: i.URL, CA: i.ca, Subject: "vip", Audience: "faces"})
	s.PermitRole("visage-vip", keystores.KMSUse, s.faces, s.other)
	token := i.token(t, "vip", "faces", time.Now().Add(time.Hour))
	role, err := awskms.RoleARN(keystores.KMSStore, "visage-vip")
	if err != nil {
		t.Fatal(err)
	}
	s.login = awskms.WebIdentity(role, "vip", func(context.Context) (string, time.Time, error) {
		return token, time.Time{}, nil
	})
	src := s.open(t, s.faces)
	blob, ref := wrapped(t, t.Context(), src)
	if got, err := src.Unwrap(t.Context(), ref, blob); err != nil || !bytes.Equal(got, inner) {
		t.Fatalf("unwrap: %v", err)
	}
	for name, c := range map[string]struct {
		token string
		class error
		says  string
	}{
		`another subject`:  {i.token(t, "other", "faces", time.Now().Add(time.Hour)), keysource.ErrDenied, "AccessDenied"},
		"another audience": {i.token(t, "vip", "elsewhere", time.Now().Add(time.Hour)), keysource.ErrDenied, `Incorrect token audience`},
		"too old":          {i.token(t, "vip", "faces", time.Now().Add(-time.Hour)), keysource.ErrUnknown, `ExpiredTokenException`},
		"another issuer":   {newIssuer(t).token(t, "vip", "faces", time.Now().Add(time.Hour)), keysource.ErrDenied, `No OpenIDConnect provider`},
		"no token":         {"nonsense", keysource.ErrUnknown, "the login failed: InvalidIdentityToken"},
	} {
		good := token
		token = c.token
		_, err := src.Unwrap(t.Context(), ref, blob)
		t.Run(name, func(t *testing.T) {
			var reason keysource.Reason
			if c.class == keysource.ErrDenied {
				reason = keysource.NoIdentity
			}
			want(t, err, c.class, reason, c.says)
		})
		token = good
	}
	// A signing key that AWS has not fetched yet is no verdict, and neither is an issuer that AWS does not reach.
	old := i.key
	if i.key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	_, err = src.Unwrap(t.Context(), ref, blob)
	want(t, err, keysource.ErrUnknown, "", "the login failed: InvalidIdentityToken")
	i.key = old
	i.CloseClientConnections()
	i.Close()
	_, err = src.Unwrap(t.Context(), ref, blob)
	want(t, err, keysource.ErrUnknown, "", "the login failed: InvalidIdentityToken")

	s.Role("visage-vip", nil)
	s.Role("visage-other", &keystores.Trust{Issuer: i.URL, Subject: "other"})
	_, err = src.Unwrap(t.Context(), ref, blob)
	want(t, err, keysource.ErrDenied, keysource.NoIdentity, "AccessDenied")
	s.login = awskms.WebIdentity(role, "vip", func(context.Context) (string, time.Time, error) {
		return "", time.Time{}, fmt.Errorf("the identity is gone: %w", keysource.ErrDenied)
	})
	_, err = s.open(t, s.faces).Describe(t.Context(), keysource.Ref{})
	want(t, err, keysource.ErrDenied, keysource.NoIdentity, "can no longer get a token")
}

const session = `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">` +
	`<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>secret of the session` +
	`</SecretAccessKey><SessionToken>session</SessionToken><Expiration>2030-01-01T00:00:00Z</Expiration></Credentials>` +
	`</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`

// TestLoginRequest holds what a login sends: the token as it is, and a policy that narrows the session to the one key.
func TestLoginRequest(t *testing.T) {
	var sent []map[string]string
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fields := map[string]string{"authorization": r.Header.Get("Authorization")}
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		for name := range r.PostForm {
			fields[name] = r.PostForm.Get(name)
		}
		w.Header().Set("X-Amzn-Requestid", "login")
		w.Header().Set("Content-Type", "text/xml")
		if r.Header.Get("X-Amz-Target") != "" {
			w.Header().Set("X-Amzn-Requestid", "use")
			w.Header().Set("Content-Type", "application/x-amz-json-1.1")
			fields["token"] = r.Header.Get("X-Amz-Security-Token")
			_, _ = io.WriteString(w, state("Enabled", ""))
		} else {
			_, _ = io.WriteString(w, session)
		}
		sent = append(sent, fields)
	}))
	defer server.Close()
	s := fake(t, nil)
	s.Roots.AddCert(server.Certificate())
	s.servers = s.reach(t, server.Listener.Addr().String())
	s.login = awskms.WebIdentity("arn:aws:iam::111122223333:role/visage-vip", "vip",
		func(context.Context) (string, time.Time, error) { return "a.b.c", time.Time{}, nil })
	ctx := keysource.WithTrace(t.Context())
	src := s.open(t, someKey)
	for range 2 { // the second time with the same credentials
		if _, err := src.Describe(ctx, keysource.Ref{}); err != nil {
			t.Fatal(err)
		}
	}
	if len(sent) != 3 || sent[1]["token"] != "session" || sent[2]["token"] != "session" {
		t.Fatalf("sent %v", sent)
	}
	for name, value := range map[string]string{
		"Action": "AssumeRoleWithWebIdentity", "RoleArn": "arn:aws:iam::111122223333:role/visage-vip",
		"RoleSessionName": "vip", "WebIdentityToken": "a.b.c", "DurationSeconds": "900", "authorization": "",
		"Policy": `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["kms:Encrypt","kms:Decrypt",` +
			`"kms:DescribeKey"],"Resource":"` + someARN + `"}]}`,
	} {
		if sent[0][name] != value {
			t.Errorf("%s is %q, want %q", name, sent[0][name], value)
		}
	}
	if got := keysource.TraceOf(ctx).RequestID(); got != "use" {
		t.Errorf("the request id is %q, want that of the use of the key", got)
	}
}

// TestLogins holds which answers to a login are certain, and that nothing is tried twice.
func TestLogins(t *testing.T) {
	failure := func(code, message string) string {
		return fmt.Sprintf(`<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>`+
			`<Code>%s</Code><Message>%s</Message></Error><RequestId>1</RequestId></ErrorResponse>`, code, message)
	}
	for name, c := range map[string]struct {
		status int
		body   string
		class  error
		says   string
	}{
		"not trusted":     {403, failure("AccessDenied", `Not authorized to perform sts:AssumeRoleWithWebIdentity`), keysource.ErrDenied, "Not authorized"},
		"no provider":     {400, failure("InvalidIdentityToken", `No OpenIDConnect provider found in your account for https://x`), keysource.ErrDenied, "No OpenIDConnect provider"},
		"audience":        {400, failure("InvalidIdentityToken", `Incorrect token audience`), keysource.ErrDenied, "Incorrect token audience"},
		"keys":            {400, failure("InvalidIdentityToken", `Couldn't retrieve verification key from your identity provider`), keysource.ErrUnknown, "InvalidIdentityToken"},
		"issuer down":     {400, failure("IDPCommunicationError", ""), keysource.ErrUnknown, "IDPCommunicationError"},
		"claim":           {403, failure("IDPRejectedClaim", ""), keysource.ErrUnknown, "IDPRejectedClaim"},
		"old token":       {400, failure(`ExpiredTokenException`, "Token expired: a.b.c"), keysource.ErrUnknown, "ExpiredTokenException"},
		"policy":          {400, failure(`MalformedPolicyDocument`, ""), keysource.ErrUnknown, "MalformedPolicyDocument"},
		"region":          {403, failure(`RegionDisabledException`, ""), keysource.ErrUnknown, "RegionDisabledException"},
		"throttled":       {400, failure("Throttling", "Rate exceeded"), keysource.ErrUnknown, "Throttling"},
		"long code":       {400, failure(strings.Repeat("x", 1<<16), ""), keysource.ErrUnknown, "failed: xxx"},
		"in trouble":      {503, failure("AccessDenied", ""), keysource.ErrUnknown, "status 503"},
		"html":            {403, "<html>AccessDenied</html>", keysource.ErrUnknown, "the login failed"},
		"truncated":       {200, session[:200], keysource.ErrUnknown, "the login failed"},
		"no credentials":  {200, strings.Replace(session, `<SessionToken>session</SessionToken>`, "", 1), keysource.ErrUnknown, "no credentials"},
		"nothing at all":  {200, "", keysource.ErrUnknown, "without a document of AWS"},
		"another success": {200, "<Other/>", keysource.ErrUnknown, ""},
	} {
		t.Run(name, func(t *testing.T) {
			calls := 0
			s := fake(t, func(w http.ResponseWriter, operation string) {
				if calls++; operation != "AssumeRoleWithWebIdentity" {
					t.Errorf("%s was called", operation)
				}
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			})
			s.login = awskms.WebIdentity("arn:aws:iam::111122223333:role/visage-vip", "vip",
				func(context.Context) (string, time.Time, error) { return "a.b.c", time.Time{}, nil })
			_, err := s.open(t, someKey).Unwrap(t.Context(), ref, blob)
			var reason keysource.Reason
			if c.class == keysource.ErrDenied {
				reason = keysource.NoIdentity
			}
			want(t, err, c.class, reason, c.says)
			if calls != 1 || strings.Contains(err.Error(), "a.b.c") || len(err.Error()) > 1000 {
				t.Errorf("%d calls, and the error %.1000v", calls, err)
			}
		})
	}
}

// TestSessionEnds holds that credentials which AWS no longer takes are replaced once, and what their refusal means.
func TestSessionEnds(t *testing.T) {
	logins, code := 0, "ExpiredTokenException"
	s := fake(t, func(w http.ResponseWriter, operation string) {
		switch {
		case operation == "AssumeRoleWithWebIdentity":
			logins++
			_, _ = io.WriteString(w, strings.Replace(session, "secret", fmt.Sprint("secret", logins), 1))
		case logins == 1 || logins > 3:
			_, _ = io.WriteString(w, state("Enabled", ""))
		default:
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, document(code, "The security token included in the request is invalid."))
		}
	})
	s.login = awskms.WebIdentity("arn:aws:iam::111122223333:role/visage-vip", "vip",
		func(context.Context) (string, time.Time, error) { return "a.b.c", time.Time{}, nil })
	src := s.open(t, someKey)
	if _, err := src.Describe(t.Context(), keysource.Ref{}); err != nil {
		t.Fatal(err)
	}
	logins = 2 // the credentials of the first login have ended
	_, err := src.Describe(t.Context(), keysource.Ref{})
	want(t, err, keysource.ErrUnknown, "", "ExpiredTokenException")
	if logins != 3 {
		t.Errorf("%d logins, want one more", logins-2)
	}
	if _, err := s.open(t, someKey).Describe(t.Context(), keysource.Ref{}); err != nil {
		t.Errorf("after a new login: %v", err)
	}
	code, logins = "UnrecognizedClientException", 1
	_, err = s.open(t, someKey).Describe(t.Context(), keysource.Ref{})
	want(t, err, keysource.ErrUnknown, "", "UnrecognizedClientException") // of what STS has just issued
}
