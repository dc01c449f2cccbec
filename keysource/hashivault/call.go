package hashivault

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/internal/answer"
)

// client calls a server for one principal.
type client struct {
	at      place
	login   Login
	servers *Servers
	life    time.Duration // how long a token is used

	session chan session // holds one; a call that logs in keeps it meanwhile
}

func (s *Servers) client(at place, login Login, life time.Duration) *client {
	c := &client{at: at, login: login, servers: s, life: life, session: make(chan session, 1)}
	c.session <- session{}
	return c
}

// session is a token of the server.
type session struct {
	token string
	until time.Time // when it is replaced; zero: there is none
}

// refusal is an error document of the server: its own words.
type refusal struct {
	status int
	errors []string
	login  bool // it answers a login
}

func (e *refusal) Error() string {
	if e.login { // the whole text may repeat what was sent
		phrase := e.loginPhrase()
		for _, other := range []string{"Vault is sealed", "permission denied", "error verifying token signature"} {
			if phrase == "" && e.says(other, e.status) {
				phrase = other
			}
		}
		return strings.TrimSpace(fmt.Sprintf("status %d %s", e.status, phrase))
	}
	return fmt.Sprintf("status %d %.300s", e.status, strings.Join(e.errors, "; "))
}

// says reports whether the status is one of statuses and one of the errors contains text.
func (e *refusal) says(text string, statuses ...int) bool {
	return slices.Contains(statuses, e.status) &&
		slices.ContainsFunc(e.errors, func(line string) bool { return strings.Contains(line, text) })
}

// tooNew reports whether the server says that a ciphertext names a version of the key that there is not.
func (e *refusal) tooNew() bool {
	return e.says("invalid ciphertext: version is too new", http.StatusBadRequest)
}

// loginPhrases are the words in which a server says for certain that a principal may not log in. That it cannot verify
// the signature or the time of a token is no certainty: its clock, or its way to the issuer's keys, may be wrong. Nor
// is a bare "permission denied": servers say it also while they lock an account out for somebody else's attempts.
var loginPhrases = []string{
	"could not be found", "invalid role ID", "invalid role or secret ID", "invalid secret id", "invalid secret_id",
	"error validating claims", "invalid subject (sub) claim", "invalid audience (aud) claim",
	"invalid issuer (iss) claim", "no audiences bound to the role", "role_type is not allowed",
}

func (e *refusal) loginPhrase() string {
	for _, phrase := range loginPhrases {
		if e.says(phrase, http.StatusBadRequest) {
			return phrase
		}
	}
	return ""
}

// loginDenied reports whether an error certainly means that the principal may no longer log in.
func loginDenied(err error) bool {
	e, ok := errors.AsType[*refusal](err)
	return ok && e.login && e.loginPhrase() != ""
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

// call makes one call below the engine and decodes the data of its answer. classified turns its error into one of a key
// source.
func (s *Source) call(ctx context.Context, method, path string, request, into any) error {
	err := s.ask(ctx, method, s.at.mount+"/"+path, request, data{into})
	switch cause := context.Cause(ctx); {
	case err == nil || cause == nil:
		return err
	case errors.Is(cause, errSlow):
		return errSlow
	default:
		return ended{cause}
	}
}

// ask makes a call with a token. A refusal may be that of a token that has expired or was revoked, which says nothing
// of the key; so it counts only with a token that the server is known to know.
func (c *client) ask(ctx context.Context, method, path string, request, into any) error {
	current, fresh, err := c.token(ctx, "")
	if err != nil {
		return err
	}
	err = c.send(ctx, current.token, method, path, request, into)
	if !denied(err) {
		return err
	}
	if !fresh {
		if current, _, err = c.token(ctx, current.token); err != nil {
			return err
		}
		err = c.send(ctx, current.token, method, path, request, into)
	}
	if !denied(err) || knowsToken(err) {
		return err
	}
	if unknown := c.send(ctx, current.token, http.MethodGet, "auth/token/lookup-self", nil, nil); unknown != nil {
		return errors.New("the server does not know its token at the moment")
	}
	return err
}

// denied reports whether an error is the server's refusal of a token or of what it was used for.
func denied(err error) bool {
	e, ok := errors.AsType[*refusal](err)
	return ok && !e.login && e.says("permission denied", http.StatusForbidden)
}

// knowsToken reports whether a refusal is about what a token may do: of a token that a server does not know, it says
// nothing else, or more than one error.
func knowsToken(err error) bool {
	e, ok := errors.AsType[*refusal](err)
	return ok && e.says("1 error occurred:", http.StatusForbidden)
}

// token returns a token that is not the given one, and whether it is new.
func (c *client) token(ctx context.Context, not string) (current session, fresh bool, err error) {
	select {
	case current = <-c.session:
		defer func() { c.session <- current }()
	case <-ctx.Done():
		return session{}, false, context.Cause(ctx)
	}
	if current.token != "" && current.token != not && time.Now().Before(current.until) {
		return current, false, nil
	}
	next, sent, err := c.logIn(ctx, nil)
	if loginDenied(err) { // perhaps only of a secret that had just been replaced
		if other, _, againErr := c.logIn(ctx, sent); !errors.Is(againErr, errSame) {
			next, err = other, againErr
		}
	}
	if err != nil {
		return session{}, false, err
	}
	current = next
	return current, true, nil
}

// errSame says that a login would send what was refused before: servers count bad attempts.
var errSame = errors.New("the login would be the same")

// logIn gets a token, unless it would send the same fields as before, and returns what it sent. What would only be
// refused again is not sent: see Refusals.
func (c *client) logIn(ctx context.Context, before map[string]string) (session, map[string]string, error) {
	path, fields, token, err := c.login(ctx)
	if err != nil {
		return session{}, nil, &loginError{err}
	}
	if path == "" {
		return session{token, time.Now().Add(c.life)}, nil, nil
	}
	if before != nil && maps.Equal(before, fields) {
		return session{}, fields, errSame
	}
	ended, err := c.servers.refusals.begin(ctx, c.idOf(path, fields))
	if err != nil {
		return session{}, fields, err
	}
	token, err = c.sendLogin(ctx, path, fields)
	ended(err)
	if err != nil {
		return session{}, fields, err
	}
	return session{token, time.Now().Add(c.life)}, fields, nil
}

// sendLogin makes a login and returns its token.
func (c *client) sendLogin(ctx context.Context, path string, fields map[string]string) (token string, err error) {
	var auth struct {
		Token string `json:"client_token"`
	}
	if err := c.send(ctx, "", http.MethodPost, path, fields, login{&auth}); err != nil {
		if e, ok := errors.AsType[*refusal](err); ok {
			e.login = true
		}
		return "", err
	}
	if auth.Token == "" {
		return "", errors.New("the answer to the login holds no token")
	}
	return auth.Token, nil
}

// loginError is the failure to make a login, before anything was sent.
type loginError struct{ err error }

func (e *loginError) Error() string { return e.err.Error() }

// data and login are the two places of an answer that hold what was asked for; see envelope. kept is data that comes
// with an error's status when its value was deleted. Where nothing is asked for, an answer needs no document.
type (
	data  struct{ into any }
	login struct{ into any }
	kept  struct{ into any }
)

// envelope is an answer of the server.
type envelope struct {
	RequestID string          `json:"request_id"`
	Data      json.RawMessage `json:"data"`
	Auth      json.RawMessage `json:"auth"`
	Errors    *[]string       `json:"errors"`
}

// send makes one request. Only an error document of the server is a *refusal: a bare status may come from any
// intermediary.
func (c *client) send(ctx context.Context, token, method, path string, request, want any) error {
	var body io.Reader
	if request != nil {
		raw, err := json.Marshal(request)
		if err != nil {
			return fmt.Errorf("encode the request: %w", err)
		}
		defer clear(raw)
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.at.base()+"/v1/"+path, body)
	if err != nil {
		return fmt.Errorf("make the request: %w", err)
	}
	req.Header.Set("X-Vault-Request", "true")
	if token != "" {
		req.Header.Set("X-Vault-Token", token)
	}
	if c.at.namespace != "" {
		req.Header.Set("X-Vault-Namespace", c.at.namespace)
	}
	res, err := c.servers.http.Load().Do(req)
	if err != nil {
		return errors.New(withoutURL(err))
	}
	defer res.Body.Close() // its content has been read
	raw, err := io.ReadAll(io.LimitReader(res.Body, c.servers.limit+1))
	defer clear(raw)
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if want == nil && res.StatusCode == http.StatusNoContent && len(raw) == 0 {
		return nil
	}
	var got envelope
	if int64(len(raw)) > c.servers.limit || !answer.Unambiguous(raw) || json.Unmarshal(raw, &got) != nil {
		return fmt.Errorf("status %d without a document of the server", res.StatusCode)
	}
	if _, isLogin := want.(login); !isLogin { // the id is that of the use of the key
		keysource.TraceOf(ctx).Answered(got.RequestID)
	}
	if want, ok := want.(kept); ok && res.StatusCode == http.StatusNotFound && got.Errors == nil {
		return decode(got.Data, want.into)
	}
	if res.StatusCode != http.StatusOK {
		if got.Errors == nil {
			return fmt.Errorf("status %d without an error document of the server", res.StatusCode)
		}
		return &refusal{status: res.StatusCode, errors: *got.Errors}
	}
	switch want := want.(type) {
	case data:
		return decode(got.Data, want.into)
	case kept:
		return decode(got.Data, want.into)
	case login:
		return decode(got.Auth, want.into)
	}
	return nil
}

func decode(raw json.RawMessage, into any) error {
	if len(raw) == 0 || raw[0] != '{' || json.Unmarshal(raw, into) != nil {
		return errors.New("the answer is not the one to the question")
	}
	return nil
}

// withoutURL returns the text of an error of the HTTP client without the address, which the message has already.
func withoutURL(err error) string {
	if outer := errors.Unwrap(err); outer != nil {
		err = outer
	}
	return fmt.Sprintf("%.300s", err)
}

// classified gives an error its class. Only what the server says in its own words, with the status that belongs to
// them, is an answer: a fault of its storage may come in the same words with another status.
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
	e, ok := errors.AsType[*refusal](err)
	if !ok {
		return s.failure(verb, keysource.ErrUnknown, "", err.Error())
	}
	const bad = http.StatusBadRequest
	switch {
	case loginDenied(err):
		return s.failure(verb, keysource.ErrDenied, keysource.NoIdentity, "the login is refused: "+err.Error())
	case e.login:
		return s.failure(verb, keysource.ErrUnknown, "", "the login failed: "+e.Error())
	case denied(err):
		return s.failure(verb, keysource.ErrDenied, keysource.Permission, e.Error())
	case e.status == http.StatusNotFound && len(e.errors) == 0:
		return s.failure(verb, keysource.ErrDenied, keysource.Missing, "there is no such key")
	case e.status == http.StatusNotFound:
		// An engine that was unmounted has lost its keys, but a wrong path or namespace looks the same.
		return s.failure(verb, keysource.ErrUnknown, "", "there is no transit engine at "+s.at.mount+": "+e.Error())
	case e.says("disallowed by policy (too old)", bad):
		return s.failure(verb, keysource.ErrDenied, keysource.Disabled, e.Error())
	case e.tooNew(): // see explainTooNew, which knows more
		return s.failure(verb, keysource.ErrUnknown, "", e.Error())
	case e.says("message authentication failed", bad), e.says("invalid ciphertext", bad),
		e.says("failed to RSA decrypt the ciphertext: crypto/rsa: decryption error", bad,
			http.StatusInternalServerError):
		return s.failure(verb, keysource.ErrWrong, "", e.Error())
	}
	return s.failure(verb, keysource.ErrUnknown, "", e.Error())
}

func (s *Source) failure(verb string, class error, reason keysource.Reason, what string) error {
	return &keysource.Error{Class: class, Reason: reason, Text: fmt.Sprintf("%s with key %s: %s", verb, s.key, what)}
}
