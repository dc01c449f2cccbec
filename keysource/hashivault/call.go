package hashivault

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/internal/answer"
)

// session is a token of the server.
type session struct {
	token string
	given bool      // by the login as it is, and not by the server
	until time.Time // when it is replaced; zero: there is none
}

// longest is how long a token is used at most, however long it lives.
const longest = time.Hour

// said is an error document of the server: its own words.
type said struct {
	status int
	errors []string
	login  bool // it answers a login
	given  bool // the token was not from a login
}

func (e *said) Error() string {
	return fmt.Sprintf("status %d %.300s", e.status, strings.Join(e.errors, "; "))
}

// says reports whether one of the errors contains one of the texts.
func (e *said) says(texts ...string) bool {
	return slices.ContainsFunc(e.errors, func(line string) bool {
		return slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(line, text) })
	})
}

// ended is the cause of an ended context, which is an answer of nobody.
type ended struct{ cause error }

func (e ended) Error() string { return e.cause.Error() }

// call makes one call below the engine within the deadline, and decodes the data of its answer. classified turns its
// error into one of a key source.
func (s *Source) call(ctx context.Context, method, path string, request, into any) error {
	within, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	err := s.ask(within, method, s.at.mount+"/"+path, request, into)
	if err != nil && ctx.Err() != nil {
		return ended{context.Cause(ctx)}
	}
	return err
}

// ask makes a call with a token. A refusal may be that of a token that has expired or was revoked, which says nothing
// of the key; so it counts only with a token that is known to be valid.
func (s *Source) ask(ctx context.Context, method, path string, request, into any) error {
	now, fresh, err := s.token(ctx, "")
	if err != nil {
		return err
	}
	err = s.send(ctx, now.token, method, path, request, data{into})
	if !refused(err) {
		return err
	}
	if !fresh {
		if now, _, err = s.token(ctx, now.token); err != nil {
			return err
		}
		err = s.send(ctx, now.token, method, path, request, data{into})
	}
	if now.given && refused(err) {
		if known := s.send(ctx, now.token, http.MethodGet, "auth/token/lookup-self", nil, nil); known != nil {
			return errors.New("the token that was given is not valid now")
		}
	}
	return err
}

// refused reports whether an error is the server's refusal of a token or of what it was used for.
func refused(err error) bool {
	e, ok := errors.AsType[*said](err)
	return ok && !e.login && e.status == http.StatusForbidden && e.says("permission denied")
}

// token returns a token that is not the given one, and whether it is new.
func (s *Source) token(ctx context.Context, not string) (now session, fresh bool, err error) {
	select {
	case now = <-s.session:
		defer func() { s.session <- now }()
	case <-ctx.Done():
		return session{}, false, context.Cause(ctx)
	}
	if now.token != "" && now.token != not && time.Now().Before(now.until) {
		return now, false, nil
	}
	next, err := s.logIn(ctx)
	if loginDenied(err) {
		next, err = s.logIn(ctx) // with new tokens: one refusal could be about a moment
	}
	if err != nil {
		return session{}, false, err
	}
	now = next
	return now, true, nil
}

// logIn gets a token.
func (s *Source) logIn(ctx context.Context) (session, error) {
	path, fields, token, err := s.login(ctx)
	if err != nil {
		return session{}, &loginError{err}
	}
	if path == "" {
		return session{token, true, time.Now().Add(longest)}, nil
	}
	var auth struct {
		Token string `json:"client_token"`
		Lease int64  `json:"lease_duration"` // seconds; 0: it does not end
	}
	if err := s.send(ctx, "", http.MethodPost, path, fields, login{&auth}); err != nil {
		if e, ok := errors.AsType[*said](err); ok {
			e.login = true
		}
		return session{}, err
	}
	if auth.Token == "" || auth.Lease < 0 {
		return session{}, errors.New("the answer to the login holds no token")
	}
	life := longest
	if auth.Lease > 0 {
		life = min(life, time.Duration(min(auth.Lease, int64(longest/time.Second)))*time.Second*4/5)
	}
	return session{auth.Token, false, time.Now().Add(life)}, nil
}

// loginError is the failure to make a login, before anything was sent.
type loginError struct{ err error }

func (e *loginError) Error() string { return e.err.Error() }

// loginDenied reports whether an error certainly means that the principal may no longer log in. A token whose signature
// or time the server cannot verify is no certainty: its clock, or its way to the issuer's keys, may be wrong.
func loginDenied(err error) bool {
	e, ok := errors.AsType[*said](err)
	if !ok || !e.login || e.status != http.StatusBadRequest && e.status != http.StatusForbidden {
		return false
	}
	return e.says("permission denied", "could not be found", "invalid role ID", "invalid role or secret ID",
		"invalid secret id", "invalid secret_id", "error validating claims", "invalid subject (sub) claim",
		"invalid audience (aud) claim", "invalid issuer (iss) claim", "no audiences bound to the role",
		"role_type is not allowed")
}

// data and login are the two places of an answer that hold what was asked for; see envelope.
type (
	data  struct{ into any }
	login struct{ into any }
)

// envelope is an answer of the server.
type envelope struct {
	RequestID string          `json:"request_id"`
	Data      json.RawMessage `json:"data"`
	Auth      json.RawMessage `json:"auth"`
	Errors    *[]string       `json:"errors"`
}

// send makes one request. Only an error document of the server is a *said: a bare status may come from any
// intermediary.
func (s *Source) send(ctx context.Context, token, method, path string, request, want any) error {
	var body io.Reader
	if request != nil {
		raw, err := json.Marshal(request)
		if err != nil {
			return fmt.Errorf("encode the request: %w", err)
		}
		defer clear(raw)
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, s.at.base()+"/v1/"+path, body)
	if err != nil {
		return fmt.Errorf("make the request: %w", err)
	}
	req.Header.Set("X-Vault-Request", "true")
	if token != "" {
		req.Header.Set("X-Vault-Token", token)
	}
	if s.at.namespace != "" {
		req.Header.Set("X-Vault-Namespace", s.at.namespace)
	}
	res, err := s.client.Do(req)
	if err != nil {
		return errors.New(withoutURL(err))
	}
	defer res.Body.Close() // its content has been read
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	defer clear(raw)
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	var got envelope
	if len(raw) > maxAnswer || !answer.Unambiguous(raw) || json.Unmarshal(raw, &got) != nil {
		return fmt.Errorf("status %d without a document of the server", res.StatusCode)
	}
	keysource.TraceOf(ctx).Answered(got.RequestID)
	if res.StatusCode != http.StatusOK {
		if got.Errors == nil {
			return fmt.Errorf("status %d without an error document of the server", res.StatusCode)
		}
		return &said{status: res.StatusCode, errors: *got.Errors}
	}
	switch want := want.(type) {
	case data:
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
	type unwrapper interface{ Unwrap() error }
	if outer, ok := err.(unwrapper); ok && outer.Unwrap() != nil {
		err = outer.Unwrap()
	}
	return fmt.Sprintf("%.300s", err)
}

// classified gives an error its class. Only what the server says in its own words is an answer.
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
		return s.failure(verb, keysource.ErrUnknown, "", "no login could be made")
	}
	e, ok := errors.AsType[*said](err)
	if !ok {
		return s.failure(verb, keysource.ErrUnknown, "", err.Error())
	}
	switch {
	case loginDenied(err):
		return s.failure(verb, keysource.ErrDenied, keysource.NoIdentity, "the login is refused: "+e.Error())
	case e.login || e.says("Vault is sealed"):
		return s.failure(verb, keysource.ErrUnknown, "", e.Error())
	case e.status == http.StatusForbidden && e.says("permission denied"):
		return s.failure(verb, keysource.ErrDenied, keysource.Permission, e.Error())
	case e.status == http.StatusNotFound && len(e.errors) == 0:
		return s.failure(verb, keysource.ErrDenied, keysource.Missing, "there is no such key")
	case e.status == http.StatusNotFound:
		// An engine that was unmounted has lost its keys, but a wrong path or namespace looks the same.
		return s.failure(verb, keysource.ErrUnknown, "", "there is no transit engine at "+s.at.mount+": "+e.Error())
	case e.says("disallowed by policy (too old)"):
		return s.failure(verb, keysource.ErrDenied, keysource.Disabled, e.Error())
	case e.says("message authentication failed", "invalid ciphertext", "version is too new",
		"failed to RSA decrypt the ciphertext: crypto/rsa: decryption error"):
		return s.failure(verb, keysource.ErrWrong, "", e.Error())
	}
	return s.failure(verb, keysource.ErrUnknown, "", e.Error())
}

func (s *Source) failure(verb string, class error, reason keysource.Reason, what string) error {
	return &keysource.Error{Class: class, Reason: reason, Text: fmt.Sprintf("%s with key %s: %s", verb, s.key, what)}
}
