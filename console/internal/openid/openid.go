// Package openid signs people in with external issuers of OpenID Connect: the authorization code flow with PKCE, state
// and nonce (OpenID Connect Core 1.0 §3.1; RFC 9700).
package openid

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// What the errors of this package wrap.
var (
	// ErrUnavailable says that the issuer gives no usable answer. Another attempt may succeed.
	ErrUnavailable = errors.New("the issuer does not answer")
	// ErrInvalid says that the answer of the issuer, or of the browser, proves nothing.
	ErrInvalid = errors.New("the answer of the issuer is not valid")
	// ErrRefused says that the issuer, or the person there, has refused.
	ErrRefused = errors.New("the issuer has refused")
	// ErrStale says that a new proof was asked for, and the issuer shows none.
	ErrStale = errors.New("the issuer has not asked the person to sign in again")
)

// Config is what an Issuer is made of. Fields without a default are required.
type Config struct {
	URL      string // the claim "iss", to the letter
	ClientID string
	Secret   string // default: a public client
	Redirect string // the address at which the issuer's answers arrive, of this issuer alone
	// Client asks the issuer. It limits times, sizes and redirections.
	Client *http.Client
}

// Issuer is an external issuer. It is safe for concurrent use.
type Issuer struct {
	cfg Config

	mu    sync.Mutex // held while the issuer is asked what it is, so that it is asked once
	known *known     // nil: it was not asked, or has not answered
	tried time.Time
}

// known is what an issuer says of itself.
type known struct {
	provider *oidc.Provider
	oauth    oauth2.Config
	names    bool // answers name the issuer (RFC 9207)
}

// pause is between two attempts to learn about an issuer that does not answer.
const pause = 5 * time.Second

// lifetime is how long what an issuer says of itself is used.
const lifetime = 24 * time.Hour

// askTime is how long one question to an issuer may take.
const askTime = 10 * time.Second

// New returns an issuer. It is asked when somebody first signs in.
func New(cfg Config) *Issuer { return &Issuer{cfg: cfg} }

// URL returns the claim "iss" of the issuer.
func (i *Issuer) URL() string { return i.cfg.URL }

// context lets the libraries ask with the issuer's client.
func (i *Issuer) context(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(oidc.ClientContext(ctx, i.cfg.Client), askTime)
}

// learn asks the issuer what it is, unless that is known.
func (i *Issuer) learn(ctx context.Context) (*known, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	now := time.Now()
	if i.known != nil && now.Sub(i.tried) < lifetime {
		return i.known, nil
	}
	if i.known == nil && now.Sub(i.tried) < pause {
		return nil, fmt.Errorf("%w: it did not a moment ago", ErrUnavailable)
	}
	i.tried = now
	// The answer is for everybody who waits, so that it is not lost when the first of them goes away. The library keeps
	// the client of the context for the keys, and not its end.
	asked, cancel := i.context(context.WithoutCancel(ctx))
	defer cancel()
	k, err := i.discover(asked)
	if err != nil && i.known != nil {
		return i.known, nil // what was true yesterday
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	i.known = k
	return k, nil
}

// discover reads the issuer's configuration (OpenID Connect Discovery 1.0 §4). The library holds that it is about this
// issuer.
func (i *Issuer) discover(ctx context.Context) (*known, error) {
	provider, err := oidc.NewProvider(ctx, i.cfg.URL)
	if err != nil {
		return nil, err
	}
	var said struct {
		Keys    string   `json:"jwks_uri"`
		Methods []string `json:"token_endpoint_auth_methods_supported"`
		Scopes  []string `json:"scopes_supported"`
		Names   bool     `json:"authorization_response_iss_parameter_supported"`
	}
	if err := provider.Claims(&said); err != nil {
		return nil, err
	}
	endpoint := provider.Endpoint()
	for _, address := range []string{endpoint.AuthURL, endpoint.TokenURL, said.Keys} {
		if u, err := url.Parse(address); err != nil || u.Scheme != "https" || u.Host == "" {
			return nil, fmt.Errorf("an endpoint of the issuer is not at an https address: %q", address)
		}
	}
	endpoint.AuthStyle = oauth2.AuthStyleInHeader
	if i.cfg.Secret == "" || len(said.Methods) > 0 && !slices.Contains(said.Methods, "client_secret_basic") {
		endpoint.AuthStyle = oauth2.AuthStyleInParams
	}
	scopes := []string{oidc.ScopeOpenID}
	for _, scope := range []string{"profile", "groups"} {
		if slices.Contains(said.Scopes, scope) || len(said.Scopes) == 0 && scope == "profile" {
			scopes = append(scopes, scope)
		}
	}
	return &known{provider: provider, names: said.Names, oauth: oauth2.Config{
		ClientID: i.cfg.ClientID, ClientSecret: i.cfg.Secret, Endpoint: endpoint, RedirectURL: i.cfg.Redirect,
		Scopes: scopes,
	}}, nil
}

// Flow is a sign-in that has begun. The caller keeps it until the answer arrives, and takes one answer for it.
type Flow struct {
	State string

	nonce, verifier string
	fresh           bool
	begun           time.Time
}

// Begin returns the address at which a person signs in with the issuer. fresh asks for a proof now, also of a person
// who is signed in there. The error wraps ErrUnavailable.
func (i *Issuer) Begin(ctx context.Context, fresh bool) (address string, f Flow, err error) {
	k, err := i.learn(ctx)
	if err != nil {
		return "", Flow{}, err
	}
	// Three values of 256 random bits each: GenerateVerifier makes no others.
	f = Flow{State: oauth2.GenerateVerifier(), nonce: oauth2.GenerateVerifier(), verifier: oauth2.GenerateVerifier(),
		fresh: fresh, begun: time.Now()}
	options := []oauth2.AuthCodeOption{oidc.Nonce(f.nonce), oauth2.S256ChallengeOption(f.verifier)}
	if fresh {
		options = append(options, oauth2.SetAuthURLParam("prompt", "login"), oauth2.SetAuthURLParam("max_age", "0"))
	}
	return k.oauth.AuthCodeURL(f.State, options...), f, nil
}

// Proof is what an issuer says of a person who has signed in.
type Proof struct {
	Issuer, Subject string
	Name            string   // for people; of no other meaning
	Groups          []string // the claim "groups"
	// At is when the issuer has last asked the person for a proof; zero: it does not say.
	At time.Time
}

// leeway is how far the clock of an issuer may be off.
const leeway = time.Minute

// Finish returns what the issuer proves with the query that its answer came with. Errors wrap one of this package.
func (i *Issuer) Finish(ctx context.Context, f Flow, query url.Values) (Proof, error) {
	k, err := i.learn(ctx)
	if err != nil {
		return Proof{}, err
	}
	state := query.Get("state")
	if f.State == "" || subtle.ConstantTimeCompare([]byte(state), []byte(f.State)) != 1 {
		return Proof{}, fmt.Errorf("%w: it is for another sign-in", ErrInvalid)
	}
	if name := query.Get("iss"); name != i.cfg.URL && (name != "" || k.names) {
		return Proof{}, fmt.Errorf("%w: it comes from another issuer", ErrInvalid)
	}
	if refusal := query.Get("error"); refusal != "" {
		return Proof{}, fmt.Errorf("%w: %.80q", ErrRefused, refusal)
	}
	ctx, cancel := i.context(ctx)
	defer cancel()
	token, err := k.oauth.Exchange(ctx, query.Get("code"), oauth2.VerifierOption(f.verifier))
	if said, ok := errors.AsType[*oauth2.RetrieveError](err); ok && said.Response.StatusCode < 500 {
		return Proof{}, fmt.Errorf("%w: the code is refused: %.80q", ErrInvalid, said.ErrorCode)
	}
	if err != nil {
		return Proof{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	raw, ok := token.Extra("id_token").(string)
	if !ok {
		return Proof{}, fmt.Errorf("%w: it has no ID token", ErrInvalid)
	}
	return i.read(ctx, k, f, raw)
}

// read verifies an ID token (OpenID Connect Core 1.0 §3.1.3.7): the library holds its signature, by an algorithm that
// the issuer publishes, its issuer, its audience and its end.
func (i *Issuer) read(ctx context.Context, k *known, f Flow, raw string) (Proof, error) {
	token, err := k.provider.Verifier(&oidc.Config{ClientID: i.cfg.ClientID}).Verify(ctx, raw)
	if err != nil {
		return Proof{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	var said struct {
		Party    string `json:"azp"`
		At       int64  `json:"auth_time"`
		Name     string `json:"name"`
		Username string `json:"preferred_username"`
		Email    string `json:"email"`
		Groups   any    `json:"groups"`
	}
	if err := token.Claims(&said); err != nil {
		return Proof{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	switch {
	case subtle.ConstantTimeCompare([]byte(token.Nonce), []byte(f.nonce)) != 1:
		return Proof{}, fmt.Errorf("%w: its nonce is of another sign-in", ErrInvalid)
	case said.Party != i.cfg.ClientID && (said.Party != "" || len(token.Audience) > 1):
		return Proof{}, fmt.Errorf("%w: it is for another party", ErrInvalid)
	case token.Subject == "":
		return Proof{}, fmt.Errorf("%w: it has no subject", ErrInvalid)
	}
	p := Proof{Issuer: i.cfg.URL, Subject: token.Subject}
	for _, name := range []string{said.Name, said.Username, said.Email, token.Subject} {
		if p.Name = strings.TrimSpace(name); p.Name != "" {
			break
		}
	}
	if said.At > 0 {
		p.At = time.Unix(said.At, 0)
	}
	if f.fresh && p.At.Before(f.begun.Add(-leeway)) {
		return Proof{}, ErrStale
	}
	switch groups := said.Groups.(type) {
	case string:
		p.Groups = []string{groups}
	case []any:
		for _, g := range groups {
			if name, ok := g.(string); ok {
				p.Groups = append(p.Groups, name)
			}
		}
	}
	return p, nil
}
