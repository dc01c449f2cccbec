package awskms

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/internal/answer"
)

// session is a login. It has a client of its own, since those of the SDK keep the key that they derive from a secret as
// long as the access key has the same id, even when the secret is another one.
type session struct {
	client *kms.Client
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

// operation is an operation of KMS.
type operation[I, O any] func(*kms.Client, context.Context, *I, ...func(*kms.Options)) (*O, error)

// ask makes one call of KMS. explained and classified turn its error into one of a key source.
func ask[I, O any](ctx context.Context, s *Source, call operation[I, O], request *I) (*O, error) {
	answered, err := askAs(ctx, s, call, request)
	switch cause := context.Cause(ctx); {
	case err == nil || cause == nil:
		return answered, err
	case errors.Is(cause, errSlow):
		return nil, errSlow
	default:
		return nil, ended{cause}
	}
}

// askAs makes a call with credentials. A refusal of credentials that were used before says nothing of the key: they may
// have been replaced since.
func askAs[I, O any](ctx context.Context, s *Source, call operation[I, O], request *I) (*O, error) {
	current, fresh, err := s.loggedIn(ctx, nil)
	if err != nil {
		return nil, err
	}
	answered, err := call(current.client, ctx, request)
	if err != nil && !fresh && says(err, "UnrecognizedClientException", "ExpiredTokenException") {
		if current, _, err = s.loggedIn(ctx, current.client); err != nil {
			return nil, err
		}
		answered, err = call(current.client, ctx, request)
	}
	return answered, err
}

// minSecret is the least length of a secret access key; those of AWS have 40 characters. The certified cryptographic
// module refuses to derive keys from shorter ones than 10.
const minSecret = 16

// loggedIn returns a session whose client is not the given one, and whether it is new.
func (s *Source) loggedIn(ctx context.Context, not *kms.Client) (current session, fresh bool, err error) {
	select {
	case current = <-s.session:
		defer func() { s.session <- current }()
	case <-ctx.Done():
		return session{}, false, context.Cause(ctx)
	}
	if time.Now().Before(current.until) && current.client != not {
		return current, false, nil
	}
	got, err := s.login.get(ctx, s)
	if err != nil {
		return session{}, false, err
	}
	if len(got.SecretAccessKey) < minSecret {
		return session{}, false, &loginError{errors.New("the secret access key is too short to be one of AWS")}
	}
	options := s.servers.kms
	options.Credentials = aws.CredentialsProviderFunc(
		func(context.Context) (aws.Credentials, error) { return got, nil })
	current = session{kms.New(options), time.Now().Add(s.servers.credentialsLife)}
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

// answers makes requests, and lets nothing through but documents of AWS: a bare status or a page may come from any
// intermediary. It notes the ids of the answers of KMS in the trace of the context.
type answers struct {
	client *http.Client
	check  func(contentType string, body []byte) bool
}

// Do sends a request.
func (a answers) Do(req *http.Request) (*http.Response, error) {
	res, err := a.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close() // its content has been read
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		clear(raw)
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	id := res.Header.Get("X-Amzn-Requestid")
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type")) // none is none of AWS
	if id == "" || len(raw) > maxAnswer || !a.check(kind, raw) {
		clear(raw)
		return nil, fmt.Errorf("status %d without a document of AWS", res.StatusCode)
	}
	if kind == jsonType { // the id is that of the use of the key
		keysource.TraceOf(req.Context()).Answered(id)
	}
	res.Body = &wiped{bytes.NewReader(raw), raw}
	return res, nil
}

// wiped is the content of an answer, which may be a plaintext: closing wipes it.
type wiped struct {
	*bytes.Reader
	raw []byte
}

// Close implements io.Closer.
func (w *wiped) Close() error { clear(w.raw); return nil }

// jsonType is the type of the documents of KMS (AWS JSON 1.1).
const jsonType = "application/x-amz-json-1.1"

func jsonAnswer(kind string, body []byte) bool {
	return kind == jsonType && (len(body) == 0 || answer.Unambiguous(body))
}

// xmlAnswer takes the documents of STS (AWS query).
func xmlAnswer(kind string, body []byte) bool { return kind == "text/xml" && len(body) > 0 }

// said returns the code and the message of an error document of AWS; false for every other error. A document with
// another status than one of 400 to 499 is none: AWS answers so when it is in trouble itself.
func said(err error) (code, message string, ok bool) {
	api, isAPI := errors.AsType[smithy.APIError](err)
	res, isResponse := errors.AsType[*awshttp.ResponseError](err)
	if !isAPI || !isResponse || res.HTTPStatusCode() < 400 || res.HTTPStatusCode() > 499 {
		return "", "", false
	}
	return api.ErrorCode(), api.ErrorMessage(), true
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
		return s.failure(verb, e.Class, e.Reason, e.Text)
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
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		if res, ok := errors.AsType[*awshttp.ResponseError](err); ok {
			return fmt.Sprintf("status %d %.100s", res.HTTPStatusCode(), api.ErrorCode())
		}
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
