package awskms

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/internal/answer"
)

// session is a login.
type session struct {
	credentials aws.Credentials
	// its own, since a signer keeps the key that it derives from a secret as long as the access key has the same id,
	// even when the secret is another one
	signer *v4.Signer
	until  time.Time // when it is replaced; zero: there is none
}

// ended is the cause of an ended context, which is an answer of nobody.
type ended struct{ cause error }

func (e ended) Error() string { return e.cause.Error() }

// errSlow ends the context of a call after the deadline.
var errSlow = fmt.Errorf("no answer within %v", deadline)

// timed returns a context that ends after the deadline of a call of a source, with all its requests.
func timed(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, deadline, errSlow)
}

// ask makes one call of KMS and decodes its answer. explained and classified turn its error into one of a key source.
func (s *Source) ask(ctx context.Context, operation string, request, into any) error {
	err := s.askAs(ctx, operation, request, into)
	switch cause := context.Cause(ctx); {
	case err == nil || cause == nil:
		return err
	case errors.Is(cause, errSlow):
		return errSlow
	default:
		return ended{cause}
	}
}

// askAs makes a call with credentials. A refusal of credentials that were used before says nothing of the key: they may
// have been replaced since.
func (s *Source) askAs(ctx context.Context, operation string, request, into any) error {
	current, fresh, err := s.loggedIn(ctx, nil)
	if err != nil {
		return err
	}
	err = s.servers.call(ctx, current, operation, request, into)
	if !fresh && says(err, "UnrecognizedClientException", "ExpiredTokenException") {
		if current, _, err = s.loggedIn(ctx, current.signer); err != nil {
			return err
		}
		err = s.servers.call(ctx, current, operation, request, into)
	}
	return err
}

// minSecret is the least length of a secret access key; those of AWS have 40 characters. The certified cryptographic
// module refuses to derive keys from shorter ones than 10.
const minSecret = 16

// loggedIn returns a session whose signer is not the given one, and whether it is new.
func (s *Source) loggedIn(ctx context.Context, not *v4.Signer) (current session, fresh bool, err error) {
	select {
	case current = <-s.session:
		defer func() { s.session <- current }()
	case <-ctx.Done():
		return session{}, false, context.Cause(ctx)
	}
	if time.Now().Before(current.until) && current.signer != not {
		return current, false, nil
	}
	got, err := s.login.get(ctx, s)
	if err != nil {
		return session{}, false, err
	}
	if len(got.SecretAccessKey) < minSecret {
		return session{}, false, &loginError{errors.New("the secret access key is too short to be one of AWS")}
	}
	current = session{got, v4.NewSigner(), time.Now().Add(s.servers.credentialsLife)}
	return current, true, nil
}

// loginError is the failure to make a login, before anything was sent. stsError is an answer to a login.
type (
	loginError struct{ err error }
	stsError   struct{ err error }
)

func (e *loginError) Error() string { return e.err.Error() }
func (e *loginError) Unwrap() error { return e.err }
func (e *stsError) Error() string   { return e.err.Error() }
func (e *stsError) Unwrap() error   { return e.err }

// The types of the documents of KMS (AWS JSON 1.1) and of STS (AWS query), and of what STS is sent.
const (
	jsonType = "application/x-amz-json-1.1"
	xmlType  = "text/xml"
	formType = "application/x-www-form-urlencoded"
)

// call makes a signed request of KMS and decodes its answer. It notes the id of the answer in the trace of the context.
func (s *Servers) call(ctx context.Context, as session, operation string, request, into any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("encode the request: %w", err)
	}
	defer clear(body)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.endpoint+"/", bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("make the request: %w", err)
	}
	req.Header["Content-Type"] = []string{jsonType}
	req.Header["X-Amz-Target"] = []string{"TrentService." + operation}
	digest := sha256.Sum256(body) // Signature Version 4 signs the payload by its digest
	err = as.signer.SignHTTP(ctx, as.credentials, req, hex.EncodeToString(digest[:]), "kms", s.at.region, time.Now())
	if err != nil {
		return fmt.Errorf("sign the request: %w", err)
	}
	return s.send(req, jsonType, func(status int, raw []byte, id string) error {
		if len(raw) > 0 && !answer.Unambiguous(raw) {
			return withoutDocument(status)
		}
		keysource.TraceOf(ctx).Answered(id)
		if status != http.StatusOK {
			return jsonRefusal(status, raw)
		}
		if json.Unmarshal(raw, into) != nil {
			return errors.New("the answer is not the one to the question")
		}
		return nil
	})
}

// logIn makes a request of STS, which is not signed, and decodes its answer.
func (s *Servers) logIn(ctx context.Context, form url.Values, into any) error {
	body := []byte(form.Encode())
	defer clear(body)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.loginEndpoint+"/", bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("make the request: %w", err)
	}
	req.Header["Content-Type"] = []string{formType}
	return s.send(req, xmlType, func(status int, raw []byte, _ string) error {
		switch {
		case len(raw) == 0:
			return withoutDocument(status)
		case status != http.StatusOK:
			return xmlRefusal(status, raw)
		case xml.Unmarshal(raw, into) != nil:
			return errors.New("the answer is not the one to the question")
		}
		return nil
	})
}

// send makes a request and gives its answer to read, which must keep nothing of it. Only documents of AWS get there: a
// bare status or a page may come from any intermediary.
func (s *Servers) send(
	req *http.Request, contentType string, read func(status int, raw []byte, id string) error,
) error {
	res, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close() // its content has been read
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	defer func() { clear(raw) }() // it may hold a plaintext
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	id := res.Header.Get("X-Amzn-Requestid")
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type")) // none is none of AWS
	if id == "" || len(raw) > maxAnswer || kind != contentType {
		return withoutDocument(res.StatusCode)
	}
	return read(res.StatusCode, raw, id)
}

func withoutDocument(status int) error {
	return fmt.Errorf("status %d without a document of AWS", status)
}

// refusal is an error document of AWS: its own words.
type refusal struct {
	status        int
	code, message string
}

// newRefusal shortens the code, which goes into errors as it is: those of AWS are one word.
func newRefusal(status int, code, message string) *refusal {
	return &refusal{status, fmt.Sprintf("%.100s", code), message}
}

func (e *refusal) Error() string {
	return strings.TrimSpace(fmt.Sprintf("status %d %s", e.status, e.code))
}

// jsonRefusal reads an error document of KMS. Its code may have a name in front, with a #, and an address behind, with
// a colon (AWS JSON 1.1, Operation error serialization).
func jsonRefusal(status int, raw []byte) error {
	var document struct {
		Type    string `json:"__type"`
		Message string `json:"message"` // or Message
	}
	if json.Unmarshal(raw, &document) != nil || document.Type == "" {
		return withoutDocument(status)
	}
	code, _, _ := strings.Cut(document.Type, ":")
	return newRefusal(status, code[strings.LastIndexByte(code, '#')+1:], document.Message)
}

// xmlRefusal reads an error document of STS.
func xmlRefusal(status int, raw []byte) error {
	var document struct {
		XMLName xml.Name `xml:"ErrorResponse"`
		Code    string   `xml:"Error>Code"`
		Message string   `xml:"Error>Message"`
	}
	if xml.Unmarshal(raw, &document) != nil || document.Code == "" {
		return withoutDocument(status)
	}
	return newRefusal(status, document.Code, document.Message)
}

// said returns the code and the message of an error document of AWS; false for every other error. A document with
// another status than one of 400 to 499 is none: AWS answers so when it is in trouble itself.
func said(err error) (code, message string, ok bool) {
	e, ok := errors.AsType[*refusal](err)
	if !ok || e.status < 400 || e.status > 499 {
		return "", "", false
	}
	return e.code, e.message, true
}

// says reports whether an error is a document of AWS with one of the codes.
func says(err error, codes ...string) bool {
	code, _, ok := said(err)
	return ok && slices.Contains(codes, code)
}

// loginPhrases are the words with which STS says, under the code InvalidIdentityToken, that a principal cannot log in
// for certain. It uses the same code when it does not reach the issuer's keys, or finds a token too old or too young.
var loginPhrases = []string{"No OpenIDConnect provider found", "Incorrect token audience"}

// loginDenied reports whether the answer to a login certainly means that the principal may not log in.
func loginDenied(code, message string) bool {
	switch code {
	case "AccessDenied": // no such role, or its trust policy does not name the token's subject and audience
		return true
	case "InvalidIdentityToken":
		return slices.ContainsFunc(loginPhrases, func(p string) bool { return strings.Contains(message, p) })
	}
	return false
}

// explained gives the error of a use of the key its class, and asks AWS for the state of the key where the error says
// that it has a wrong one: the code alone has many causes, such as custom key stores that are disconnected.
func (s *Source) explained(ctx context.Context, verb string, err error) error {
	if !says(err, "KMSInvalidStateException") {
		return s.classified(verb, err)
	}
	k, readErr := s.read(ctx)
	if e, ok := errors.AsType[ended](readErr); ok {
		return e.cause
	}
	if readErr != nil {
		answered := s.classified(verb, readErr)
		if errors.Is(answered, keysource.ErrDenied) || errors.Is(answered, keysource.ErrWrong) {
			return answered // the question for the state has a definite answer too
		}
		return s.failure(verb, keysource.ErrUnknown, "",
			fmt.Sprintf("%s; and the state of the key could not be read: %s", quoted(err), quoted(readErr)))
	}
	if state := k.usable(); state != nil {
		return s.classified(verb, state)
	}
	return s.classified(verb, err)
}

// quoted returns what AWS said. Its messages on signatures repeat the request, with the session's token.
func quoted(err error) string {
	code, message, ok := said(err)
	switch {
	case !ok:
		return "the answer is not usable"
	case signatureRefused(code):
		return code + ": the clock of this machine or the secret is wrong"
	case message == "":
		return code
	}
	return fmt.Sprintf("%s: %.400s", code, message)
}

func signatureRefused(code string) bool {
	return strings.Contains(code, "Signature") || code == "RequestExpired" || code == "RequestTimeTooSkewed"
}

// classified gives an error its class. Only what AWS says in its own words is an answer.
func (s *Source) classified(verb string, err error) error {
	if e, ok := errors.AsType[ended](err); ok {
		return e.cause
	}
	if e, ok := errors.AsType[*keysource.Error](err); ok {
		class := e.Class
		if verb == "unwrap" && errors.Is(class, keysource.ErrExpired) { // the material is gone, and opens nothing
			class = keysource.ErrDenied
		}
		return s.failure(verb, class, e.Reason, e.Text)
	}
	if e, ok := errors.AsType[*loginError](err); ok {
		if errors.Is(e.err, keysource.ErrDenied) {
			return s.failure(verb, keysource.ErrDenied, keysource.NoIdentity, "its principal can no longer get a token")
		}
		return s.failure(verb, keysource.ErrUnknown, "", fmt.Sprintf("no login could be made: %.300s", e))
	}
	code, message, ok := said(err)
	if _, isLogin := errors.AsType[*stsError](err); isLogin {
		switch {
		case ok && loginDenied(code, message):
			return s.failure(verb, keysource.ErrDenied, keysource.NoIdentity, "the login is refused: "+quoted(err))
		case ok: // the whole text may repeat what was sent
			return s.failure(verb, keysource.ErrUnknown, "", "the login failed: "+code)
		}
		return s.failure(verb, keysource.ErrUnknown, "", "the login failed: "+transport(err))
	}
	if !ok {
		return s.failure(verb, keysource.ErrUnknown, "", transport(err))
	}
	switch code {
	case "AccessDeniedException":
		return s.failure(verb, keysource.ErrDenied, keysource.Permission, quoted(err))
	case "DisabledException":
		return s.failure(verb, keysource.ErrDenied, keysource.Disabled, quoted(err))
	case "NotFoundException":
		return s.failure(verb, keysource.ErrDenied, keysource.Missing, quoted(err))
	case "IncorrectKeyException", "InvalidCiphertextException":
		return s.failure(verb, keysource.ErrWrong, "", quoted(err))
	case "UnrecognizedClientException":
		// Of credentials that STS has just issued, it says that AWS disagrees with itself.
		if s.login.lasting {
			return s.failure(verb, keysource.ErrDenied, keysource.NoIdentity, quoted(err))
		}
	}
	return s.failure(verb, keysource.ErrUnknown, "", quoted(err))
}

// transport returns the text of an error that is no document of AWS, without the layers of the client.
func transport(err error) string {
	if errors.Is(err, errSlow) {
		return errSlow.Error()
	}
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return fmt.Sprintf("%.300s", err)
		}
		err = inner
	}
}

func (s *Source) failure(verb string, class error, reason keysource.Reason, what string) error {
	return &keysource.Error{Class: class, Reason: reason, Text: fmt.Sprintf("%s with key %s: %s", verb, s.key, what)}
}
