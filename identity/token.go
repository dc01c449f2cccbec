package identity

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
)

const (
	tokenLife = time.Hour
	leeway    = 5 * time.Minute // how far clocks may be apart (contract §5)
)

// claims are what a token says, as Entra's first version has them (contract §5).
type claims struct {
	Audience  string `json:"aud"`
	Issuer    string `json:"iss"`
	Issued    int64  `json:"iat"`
	NotBefore int64  `json:"nbf"`
	Expires   int64  `json:"exp"`
	ClientID  string `json:"appid"`
	Proof     string `json:"appidacr"` // "1" a secret, "2" something signed
	Provider  string `json:"idp"`
	ObjectID  string `json:"oid"`
	Subject   string `json:"sub"`
	Tenant    string `json:"tid"`
	ID        string `json:"uti"`
	Version   string `json:"ver"`
	Type      string `json:"idtyp"`
	Resource  string `json:"xms_mirid,omitempty"` // of a managed identity
}

// Grant is what an application shows to get a token: a secret, or the token of a trusted issuer. It does not log.
type Grant struct {
	Tenant    string // id, as LookupTenant returns it
	ClientID  string
	Secret    string
	Assertion string
	Audience  string // whom the token is for
}

// LogValue hides what proves the application.
func (g Grant) LogValue() slog.Value {
	return slog.GroupValue(slog.String("tenant", g.Tenant), slog.String("client_id", g.ClientID))
}

// Format hides what proves the application.
func (g Grant) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "grant to %s", g.ClientID) }

// Grant returns a token for an application and when it ends. Refusals have the codes of OAuth (RFC 6749 §5.2), and in
// InnerCode the number that Entra has for the case (contract §3).
func (d *Directory) Grant(ctx context.Context, g Grant) (token string, expires time.Time, err error) {
	attempt := attempt{clientID: g.ClientID, audience: g.Audience, proof: "secret"}
	if g.Assertion != "" {
		attempt.proof = "assertion"
	}
	defer func() { token, expires, err = d.granted(ctx, attempt, token, expires, err) }()
	rec, found := d.client(g.ClientID)
	fits := func() bool { return found && (g.Secret == "" || rec.check(g.Secret, time.Now()) == secretFits) }
	if !fits() && d.state.Missed(ctx) {
		rec, found = d.client(g.ClientID)
	}
	if found {
		attempt.subject = rec.ID
	}
	if !found || rec.Tenant != g.Tenant || rec.Kind != Application {
		return "", time.Time{}, refuseGrant(visage.Invalid, "unauthorized_client", "700016",
			"There is no application %q in the tenant.", short(g.ClientID))
	}
	proof := "1"
	switch {
	case g.Secret != "" && g.Assertion != "":
		return "", time.Time{}, refuseGrant(visage.Invalid, "invalid_request", "90014",
			"Send a secret or an assertion, not both.")
	case g.Assertion != "":
		proof = "2"
		if err := d.vouched(ctx, rec, g.Assertion); err != nil {
			return "", time.Time{}, err
		}
	default:
		switch rec.check(g.Secret, time.Now()) {
		case secretWrong:
			return "", time.Time{}, refuseGrant(visage.Unauthenticated, "invalid_client", "7000215",
				"The client secret is not one of application %s: send its value, not its id.", rec.ClientID)
		case secretExpired:
			return "", time.Time{}, refuseGrant(visage.Unauthenticated, "invalid_client", "7000222",
				"The client secret of application %s has expired: make a new one.", rec.ClientID)
		}
	}
	return d.issue(ctx, rec, g.Audience, proof)
}

// client returns the identity with a client id.
func (d *Directory) client(id string) (principalRecord, bool) {
	s := d.state.Now()
	rec, found := s.principals[s.clients[lower(id)]]
	return rec, found
}

// known returns the identity with an object id.
func (d *Directory) known(ctx context.Context, id string) (principalRecord, bool) {
	id = lower(id)
	rec, found := d.state.Now().principals[id]
	if !found && d.state.Missed(ctx) {
		rec, found = d.state.Now().principals[id]
	}
	return rec, found
}

// Token returns a token for an identity, named by its object id, and when it ends: for what acts for a resource within
// this instance, and needs no secret for it. Refusal: PrincipalNotFound, also for a person.
func (d *Directory) Token(
	ctx context.Context, principal, audience string,
) (token string, expires time.Time, err error) {
	rec, found := d.known(ctx, principal)
	if !found || rec.Kind == Person {
		return "", time.Time{}, refuseUnknown("identity", principal)
	}
	token, expires, err = d.issue(ctx, rec, audience, "2")
	if visage.CallerFrom(ctx).RequestID == "" { // for this instance itself: the use of the token has an entry
		return token, expires, err
	}
	a := attempt{subject: rec.ID, clientID: rec.ClientID, audience: audience, proof: "none"}
	return d.granted(ctx, a, token, expires, err)
}

// attempt is a request for a token from outside.
type attempt struct {
	subject  string // the object id of the identity; empty if there is none
	clientID string // as the client wrote it
	audience string // likewise
	proof    string // "secret", "assertion" or "none"
}

// granted records that a token was issued or refused. Such entries are counted (see audit.Recorder): a busy client gets
// a token an hour, or one a second, and unauthenticated clients can be refused without end. A token that cannot be
// recorded is not issued.
func (d *Directory) granted(
	ctx context.Context, a attempt, token string, expires time.Time, err error,
) (string, time.Time, error) {
	if failed := d.cfg.Audit.Tally(context.WithoutCancel(ctx), d.tokenEvent(ctx, a, err)); failed != nil && err == nil {
		return "", time.Time{}, fmt.Errorf("audit a token: %w", failed)
	}
	return token, expires, err
}

func (d *Directory) tokenEvent(ctx context.Context, a attempt, err error) audit.Event {
	caller := visage.CallerFrom(ctx)
	e := audit.Event{
		Kind: audit.IdentityToken, Actor: audit.Actor{Kind: audit.Anonymous}, RequestID: caller.RequestID,
	}.Ended(err)
	e.Set(audit.DetailOperation, a.proof)
	e.Set(audit.DetailSubject, a.subject)
	e.SetAddress(caller.Address)
	if refusal, ok := errors.AsType[*visage.Refusal](err); ok && refusal.InnerCode != "" {
		e.Set(audit.DetailReason, "AADSTS"+refusal.InnerCode)
	}
	// What an unauthenticated client wrote may be anything, a secret in the wrong field included.
	if err == nil {
		e.Actor = audit.ActorOf(visage.Caller{Principal: visage.Principal{Method: d.method(a.subject),
			ObjectID: a.subject}})
		e.Set(audit.DetailAudience, a.audience)
	} else if client := visage.FoldUUID(a.clientID); a.subject == "" && visage.IsUUID(client) {
		e.Set(audit.DetailClient, client)
	}
	return e
}

// method is how an identity authenticates: the Method of its visage.Principal.
func (d *Directory) method(objectID string) string {
	if objectID != "" && objectID == d.cfg.Operator {
		return "operator"
	}
	return "token"
}

func (d *Directory) issue(ctx context.Context, rec principalRecord, audience, proof string) (string, time.Time, error) {
	name := oneAudience(audience)
	if !d.cfg.Audience(name) {
		return "", time.Time{}, refuseGrant(visage.Invalid, "invalid_resource", "500011",
			"Unknown resource %q: request a token for the management address, for a key vault of this instance "+
				"or for https://cognitiveservices.azure.com.", short(audience))
	}
	if strings.HasSuffix(audience, "/") { // clients hold what they get against what they asked for
		name += "/"
	}
	return d.made(ctx, rec, d.cfg.Issuer(rec.Tenant), name, proof, tokenLife)
}

// made makes a token of an issuer for an audience.
func (d *Directory) made(
	ctx context.Context, rec principalRecord, issuer, audience, proof string, life time.Duration,
) (string, time.Time, error) {
	now := time.Now()
	key, found := d.signer(now)
	if !found { // the clock was set, or Run does not run
		if _, err := d.tend(ctx); err != nil {
			return "", time.Time{}, err
		}
		if key, found = d.signer(now); !found {
			return "", time.Time{}, errors.New("there is no signing key for this time")
		}
	}
	expires := now.Add(life).Truncate(time.Second)
	c := claims{
		Audience: audience, Issuer: issuer, Provider: issuer,
		Issued: now.Unix(), NotBefore: now.Unix(), Expires: expires.Unix(), ClientID: rec.ClientID, Proof: proof,
		ObjectID: rec.ID, Subject: rec.ID, Tenant: rec.Tenant, ID: visage.NewUUID().String(),
		Version: "1.0", Type: "app",
		Resource: rec.Resource,
	}
	token, err := sign(c, key.id, key.private)
	return token, expires, err
}

// Verify returns whom a token proves: one of ours, for one of the audiences, a slash at whose end means nothing. Every
// other token is a refusal of kind Unauthenticated whose code says what is wrong: ExpiredAuthenticationToken,
// InvalidAuthenticationTokenAudience, InvalidAuthenticationTokenTenant, else InvalidAuthenticationToken. An identity
// that was deleted is proved by no token, however long it would have lived.
func (d *Directory) Verify(ctx context.Context, bearer string, allowed ...string) (visage.Principal, error) {
	who, err := d.verify(ctx, bearer, allowed)
	if err == nil {
		return who, nil
	}
	code := "InvalidAuthenticationToken"
	switch {
	case errors.Is(err, errExpired):
		code = "ExpiredAuthenticationToken"
	case errors.Is(err, errAudience):
		code = "InvalidAuthenticationTokenAudience"
	case errors.Is(err, errTenant):
		code = "InvalidAuthenticationTokenTenant"
	}
	return visage.Principal{}, visage.Refuse(visage.Unauthenticated, code, "The bearer token is not valid: %v.", err)
}

var (
	errAudience = errors.New("it was made for another audience")
	errTenant   = errors.New("its tenant or issuer is not one of this instance")
)

func (d *Directory) verify(ctx context.Context, bearer string, allowed []string) (visage.Principal, error) {
	none := visage.Principal{}
	t, err := parse(bearer)
	if err != nil {
		return none, err
	}
	now := time.Now()
	key := d.published(t.keyID, now)
	if key == nil && d.keys.Missed(ctx) {
		key = d.published(t.keyID, now)
	}
	if key == nil {
		return none, errors.New("the key that signed it is not known")
	}
	if err := t.verify(key); err != nil {
		return none, err
	}
	// From here on it is one that we have made.
	if err := t.current(now); err != nil {
		return none, err
	}
	rec, found := d.known(ctx, t.claims.ObjectID) // before the tenant, which another process may have made with it
	s, tenant := d.state.Now(), t.claims.Tenant
	if !s.tenants[tenant] || t.claims.Issuer != d.cfg.Issuer(tenant) {
		return none, errTenant
	}
	made, err := t.audiences()
	if err != nil {
		return none, err
	}
	if !slices.ContainsFunc(allowed, func(a string) bool { return sameAudience(made, a) }) {
		return none, errAudience
	}
	if !found || rec.Tenant != tenant {
		return none, errors.New("the identity that it names does not exist")
	}
	return visage.Principal{Method: d.method(rec.ID), ObjectID: rec.ID, AppID: rec.ClientID, Tenant: rec.Tenant}, nil
}

// published returns the key with an id while it is published.
func (d *Directory) published(id string, now time.Time) *rsa.PublicKey {
	for _, k := range d.keys.Now() {
		if k.id == id && now.Before(k.until.Add(signingAfter)) {
			return &k.private.PublicKey
		}
	}
	return nil
}

func sameAudience(made []string, allowed string) bool {
	return slices.ContainsFunc(made, func(m string) bool {
		return oneAudience(m) == oneAudience(allowed)
	})
}

// oneAudience returns the one form of whom a token is for, without a slash at the end: most are origins, which clients
// spell with or without a port, and in any case.
func oneAudience(name string) string {
	if o, err := visage.ParseOrigin(name); err == nil {
		return o.String()
	}
	return strings.TrimSuffix(name, "/")
}

func refuseGrant(kind visage.Kind, code, number, format string, args ...any) error {
	r := visage.Refuse(kind, code, format, args...)
	r.InnerCode = number
	return r
}

// short bounds what is repeated of a request.
func short(s string) string {
	const most = 128
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
