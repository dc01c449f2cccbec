package awskms_test

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/awskms"
	"github.com/visage-face/visage/test/keystores"
)

// fake is a store that answers as a function says. operation is that of KMS, or the action of STS.
func fake(t *testing.T, answer func(w http.ResponseWriter, operation string)) *store {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Amzn-Requestid", "request-1")
		if target := r.Header.Get("X-Amz-Target"); target != "" {
			w.Header().Set("Content-Type", "application/x-amz-json-1.1")
			answer(w, strings.TrimPrefix(target, "TrentService."))
			return
		}
		w.Header().Set("Content-Type", "text/xml")
		answer(w, r.PostFormValue("Action"))
	}))
	t.Cleanup(server.Close)
	s := &store{KMS: &keystores.KMS{Address: server.Listener.Addr().String(), Roots: x509.NewCertPool()},
		secret: filepath.Join(t.TempDir(), "secret"), faces: someKey}
	s.Roots.AddCert(server.Certificate())
	s.servers = s.reach(t, s.Address)
	s.write(t, userSecret)
	s.login = awskms.Static(userKey, s.secret)
	return s
}

// ref and blob are what a source has wrapped before.
var (
	ref  = keysource.Ref{URI: keystores.KMSStore + "/keys/" + someKey}
	blob = append([]byte{1}, "ciphertext"...)
)

func document(code, message string) string {
	return fmt.Sprintf(`{"__type":%q,"message":%q}`, code, message)
}

// state is an answer to DescribeKey.
func state(state, more string) string {
	return fmt.Sprintf(`{"KeyMetadata":{"Arn":%q,"KeyId":%q,"KeyState":%q,"KeySpec":"SYMMETRIC_DEFAULT",`+
		`"KeyUsage":"ENCRYPT_DECRYPT","KeyManager":"CUSTOMER","EncryptionAlgorithms":["SYMMETRIC_DEFAULT"]%s}}`, someARN,
		someKey, state, more)
}

// TestAnswers holds the class of every answer of KMS, and that nothing but its own words is an answer.
func TestAnswers(t *testing.T) {
	opened := fmt.Sprintf(`{"KeyId":%q,"Plaintext":%q,"EncryptionAlgorithm":"SYMMETRIC_DEFAULT"}`, someARN,
		base64.StdEncoding.EncodeToString(inner))
	for name, c := range map[string]struct {
		status int
		body   string
		class  error
		reason keysource.Reason
		says   string
	}{
		"opened":       {200, opened, nil, "", ""},
		"denied":       {400, document("AccessDeniedException", `User is not authorized`), keysource.ErrDenied, keysource.Permission, "not authorized"},
		"capital M":    {400, `{"__type":"AccessDeniedException","Message":"not authorized"}`, keysource.ErrDenied, keysource.Permission, "not authorized"},
		"namespace":    {400, document(`com.amazonaws.kms#DisabledException`, "key is disabled"), keysource.ErrDenied, keysource.Disabled, "is disabled"},
		"not found":    {400, document(`NotFoundException`, "does not exist"), keysource.ErrDenied, keysource.Missing, "does not exist"},
		"other key":    {400, document("IncorrectKeyException", ""), keysource.ErrWrong, "", "IncorrectKeyException"},
		"altered":      {400, document(`InvalidCiphertextException`, ""), keysource.ErrWrong, "", "InvalidCiphertextException"},
		"usage":        {400, document(`InvalidKeyUsageException`, ""), keysource.ErrUnknown, "", "InvalidKeyUsageException"},
		"unavailable":  {400, document(`KeyUnavailableException`, ""), keysource.ErrUnknown, "", "KeyUnavailableException"},
		"timeout":      {400, document("DependencyTimeoutException", ""), keysource.ErrUnknown, "", ""},
		"internal":     {500, document("KMSInternalException", ""), keysource.ErrUnknown, "", `status 500 KMSInternalException`},
		"throttled":    {400, document(`ThrottlingException`, "Rate exceeded"), keysource.ErrUnknown, "", "Rate exceeded"},
		"too many":     {400, document("RequestLimitExceeded", ""), keysource.ErrUnknown, "", ""},
		"no longer":    {400, document("ExpiredTokenException", "expired"), keysource.ErrUnknown, "", "expired"},
		"incomplete":   {400, document("IncompleteSignature", ""), keysource.ErrUnknown, "", ""},
		"too late":     {400, document("RequestExpired", ""), keysource.ErrUnknown, "", "the clock of this machine"},
		"clock":        {400, document("InvalidSignatureException", `Signature expired: x-amz-security-token:TOKEN`), keysource.ErrUnknown, "", "the clock of this machine"},
		"mismatch":     {400, document("SignatureDoesNotMatch", `x-amz-security-token:TOKEN`), keysource.ErrUnknown, "", "the clock of this machine"},
		"no principal": {400, document("UnrecognizedClientException", `The security token is invalid`), keysource.ErrDenied, keysource.NoIdentity, ""},
		"new code":     {400, document("SomethingElse", "new"), keysource.ErrUnknown, "", "new"},
		"long code":    {400, document(strings.Repeat("x", 1<<16), ""), keysource.ErrUnknown, "", "xxx"},
		"gateway":      {502, document("AccessDeniedException", ""), keysource.ErrUnknown, "", "status 502"},
		"in order":     {200, document("AccessDeniedException", ""), keysource.ErrUnknown, "", "names no key"},
		"html":         {403, "<html>AccessDeniedException</html>", keysource.ErrUnknown, "", `status 403 without a document of AWS`},
		"bare status":  {404, "", keysource.ErrUnknown, "", ""},
		"no code":      {400, `{"message":"AccessDeniedException"}`, keysource.ErrUnknown, "", ""},
		"twice":        {400, `{"__type":"x","__Type":"AccessDeniedException"}`, keysource.ErrUnknown, "", "without a document"},
		"truncated":    {200, opened[:60], keysource.ErrUnknown, "", "without a document"},
		"too long":     {200, `{"Plaintext":"` + strings.Repeat("A", 1<<18) + `"}`, keysource.ErrUnknown, "", "without a document"},
		"nothing":      {200, `{}`, keysource.ErrUnknown, "", "names no key"},
		`no plaintext`: {200, strings.Replace(opened, "Plaintext", "Plain", 1), keysource.ErrUnknown, "", "no plaintext"},
		"another key":  {200, strings.Replace(opened, "1234abcd", "9999abcd", 1), keysource.ErrWrong, "", `AWS answered for key`},
		"elsewhere":    {200, strings.Replace(opened, "eu-central-1", "eu-west-1", 1), keysource.ErrWrong, "", `AWS answered for key`},
		"other cipher": {200, strings.Replace(opened, `SYMMETRIC_DEFAULT`, "SM2PKE", 1), keysource.ErrWrong, "", "SM2PKE"},
		"redirect":     {307, "", keysource.ErrUnknown, "", "307"},
	} {
		t.Run(name, func(t *testing.T) {
			s := fake(t, func(w http.ResponseWriter, operation string) {
				if operation != "Decrypt" {
					t.Errorf("%s was called", operation)
				}
				if c.status == http.StatusTemporaryRedirect {
					w.Header().Set("Location", "/elsewhere")
				}
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			})
			ctx := keysource.WithTrace(t.Context())
			got, err := s.open(t, someKey).Unwrap(ctx, ref, blob)
			if c.class == nil {
				if err != nil || string(got) != string(inner) || keysource.TraceOf(ctx).RequestID() != "request-1" {
					t.Errorf("got %q, %v, request %q", got, err, keysource.TraceOf(ctx).RequestID())
				}
				return
			}
			want(t, err, c.class, c.reason, c.says)
			if got != nil || strings.Contains(err.Error(), "TOKEN") || len(err.Error()) > 1000 {
				t.Errorf("got %q and %.1000v", got, err)
			}
		})
	}
	t.Run("not of AWS", func(t *testing.T) {
		for _, header := range []string{"X-Amzn-Requestid", "Content-Type"} {
			s := fake(t, func(w http.ResponseWriter, _ string) {
				w.Header().Set(header, "")
				w.WriteHeader(http.StatusBadRequest)
				_, _ = io.WriteString(w, document("AccessDeniedException", ""))
			})
			_, err := s.open(t, someKey).Unwrap(t.Context(), ref, blob)
			want(t, err, keysource.ErrUnknown, "", "without a document of AWS")
		}
	})
}

// TestStates holds what the state of a key means. The error of a use alone says nothing.
func TestStates(t *testing.T) {
	past, future := time.Now().Add(-time.Hour).Unix(), time.Now().Add(time.Hour).Unix()
	for name, c := range map[string]struct {
		about  string
		class  error
		reason keysource.Reason
		says   string
	}{
		"disabled":         {state("Disabled", ""), keysource.ErrDenied, keysource.Disabled, "the key is disabled"},
		"pending deletion": {state("PendingDeletion", `,"DeletionDate":1893456000`), keysource.ErrDenied, keysource.Missing, "deleted on 2030-01-01"},
		"replicas":         {state("PendingReplicaDeletion", ""), keysource.ErrDenied, keysource.Missing, `replicas in other regions`},
		"import":           {state("PendingImport", ""), keysource.ErrDenied, keysource.Disabled, `waits for its material`},
		"import due":       {state("PendingImport", fmt.Sprintf(`,"ValidTo":%d`, future)), keysource.ErrDenied, keysource.Disabled, "waits"},
		"expired":          {state("PendingImport", fmt.Sprintf(`,"ValidTo":%d`, past)), keysource.ErrDenied, keysource.Expired, "expired on"},
		"unavailable":      {state("Unavailable", ""), keysource.ErrUnknown, "", `state "Unavailable"`},
		"creating":         {state("Creating", ""), keysource.ErrUnknown, "", `state "Creating"`},
		"updating":         {state("Updating", ""), keysource.ErrUnknown, "", `state "Updating"`},
		"enabled":          {state("Enabled", ""), keysource.ErrUnknown, "", "KMSInvalidStateException: is pending"},
		"no answer":        {"", keysource.ErrUnknown, "", "could not be read"},
		"not allowed":      {document("AccessDeniedException", "no"), keysource.ErrDenied, keysource.Permission, `AccessDeniedException: no`},
		"not found":        {document("NotFoundException", "no"), keysource.ErrDenied, keysource.Missing, `NotFoundException: no`},
		"throttled":        {document("ThrottlingException", "no"), keysource.ErrUnknown, "", `could not be read: ThrottlingException`},
		"another key":      {strings.Replace(state("Disabled", ""), "1234abcd", "9999abcd", 1), keysource.ErrWrong, "", `AWS answered for key`},
	} {
		s := fake(t, func(w http.ResponseWriter, operation string) {
			body := c.about
			if operation == "Decrypt" {
				body = document("KMSInvalidStateException", "is pending")
			}
			if strings.Contains(body, "Exception") || body == "" {
				w.WriteHeader(http.StatusBadRequest)
			}
			_, _ = io.WriteString(w, body)
		})
		_, err := s.open(t, someKey).Unwrap(t.Context(), ref, blob)
		t.Run(name, func(t *testing.T) { want(t, err, c.class, c.reason, c.says) })
	}
}

// TestDescriptions holds what is said of keys that the store of the tests cannot make.
func TestDescriptions(t *testing.T) {
	for name, c := range map[string]struct {
		about string
		of    keysource.Fitness
		says  string
	}{
		"fit":      {state("Enabled", `,"MultiRegion":true,"Origin":"EXTERNAL"`), "", ""},
		"expires":  {state("Enabled", `,"Origin":"EXTERNAL","ValidTo":1893456000`), keysource.FitProtection, "AWS deletes on 2030-01-01"},
		"of AWS":   {strings.Replace(state("Enabled", ""), "CUSTOMER", "AWS", 1), keysource.FitProtection, `managed by AWS`},
		"new spec": {strings.Replace(state("Enabled", ""), `"KeySpec":"SYMMETRIC_DEFAULT"`, `"KeySpec":"SM2"`, 1), keysource.FitType, `"SM2"`},
		"SHA-1 alone": {strings.NewReplacer(`"KeySpec":"SYMMETRIC_DEFAULT"`, `"KeySpec":"RSA_2048"`,
			`["SYMMETRIC_DEFAULT"]`, `["RSAES_OAEP_SHA_1"]`).Replace(state("Enabled", "")), keysource.FitType, "RSAES_OAEP_SHA_256"},
	} {
		s := fake(t, func(w http.ResponseWriter, _ string) { _, _ = io.WriteString(w, c.about) })
		d, err := s.open(t, someKey).Describe(t.Context(), keysource.Ref{})
		if err != nil || c.of == "" && len(d.Unfit) > 0 || c.of != "" && !strings.Contains(d.Unfit[c.of], c.says) {
			t.Errorf("%s: %+v, %v; want %q to say %q", name, d, err, c.of, c.says)
		}
		if name == "expires" && !d.Expires.Equal(time.Unix(1893456000, 0)) {
			t.Errorf("it expires on %s", d.Expires)
		}
	}
	for _, about := range []string{`{}`, `{"KeyMetadata":{}}`, `{"KeyMetadata":{"Arn":"` + someARN + `"}}`} {
		s := fake(t, func(w http.ResponseWriter, _ string) { _, _ = io.WriteString(w, about) })
		_, err := s.open(t, someKey).Describe(t.Context(), keysource.Ref{})
		want(t, err, keysource.ErrUnknown, "", "describes no key")
	}
	s := fake(t, func(w http.ResponseWriter, _ string) {
		_, _ = io.WriteString(w, strings.Replace(state("Enabled", ""), "111122223333", "444455556666", 1))
	})
	_, err := s.open(t, someKey).Describe(t.Context(), keysource.Ref{})
	want(t, err, keysource.ErrWrong, "", "AWS answered for key")
}

// TestLeft holds that the caller's context ends a call.
func TestLeft(t *testing.T) {
	asked, release := make(chan struct{}), make(chan struct{})
	s := fake(t, func(http.ResponseWriter, string) { close(asked); <-release })
	defer close(release)
	cause := errors.New("the caller has left")
	ctx, cancel := context.WithCancelCause(t.Context())
	failed := make(chan error, 1)
	go func() {
		_, err := s.open(t, someKey).Unwrap(ctx, ref, blob)
		failed <- err
	}()
	<-asked
	cancel(cause)
	if err := <-failed; !errors.Is(err, cause) {
		t.Errorf("got %v, want the caller's cause", err)
	}
}

// TestSlow holds that a call without an answer ends after five seconds, with its login.
func TestSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		servers, err := awskms.NewServers(awskms.Config{Address: keystores.KMSStore,
			Dial: func(context.Context, string, string) (net.Conn, error) {
				near, far := net.Pipe() // which nobody reads
				t.Cleanup(func() { far.Close() })
				return near, nil
			}})
		if err != nil {
			t.Fatal(err)
		}
		for _, login := range []awskms.Login{
			awskms.Static(userKey, fileWith(t, userSecret)),
			awskms.WebIdentity("arn:aws:iam::111122223333:role/visage-vip", "vip",
				func(context.Context) (string, time.Time, error) { return "a.b.c", time.Time{}, nil }),
		} {
			src, err := servers.Open(visage.KeyRef{Vault: keystores.KMSStore, Name: someKey}, login)
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			_, err = src.Unwrap(t.Context(), ref, blob)
			want(t, err, keysource.ErrUnknown, "", "no answer within 5s")
			if took := time.Since(start); took != 5*time.Second {
				t.Errorf("it took %v of the bubble's clock", took)
			}
		}
	})
}

func fileWith(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
