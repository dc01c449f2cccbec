package identity

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"slices"
	"sync"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/internal/weakkey"
)

// Issuer is a trusted issuer of OpenID Connect: our token endpoint exchanges its tokens for ours, as Azure does for
// federated credentials. The planes accept only our tokens.
type Issuer struct {
	// URL is the claim "iss" of its tokens, to the letter. Required.
	URL string
	// Audience is what the claim "aud" of its tokens must have: a name that only this instance has.
	// Required.
	Audience string
	// Keys returns the issuer's published keys, a JSON Web Key Set (RFC 7517 §5). It is called when they are first
	// needed, hourly, and for a key that is not known, at most once a minute. Required.
	Keys func(context.Context) ([]byte, error)
}

// How often the keys of a trusted issuer are asked for.
const (
	keysFresh = time.Hour
	keysPause = time.Minute // between two attempts, whatever tokens say
	// a slower issuer delays only the clients that present its tokens
	keysTimeout = 10 * time.Second
)

// trusted is an issuer with what is known of its keys.
type trusted struct {
	Issuer
	log *slog.Logger

	mu    sync.Mutex // held while the keys are asked for, so that they are asked for once
	keys  map[string]*rsa.PublicKey
	read  time.Time // when keys came
	tried time.Time // when they were asked for
}

// vouches reports whether an issuer may vouch for people.
func (d *Directory) vouches(issuer string) bool {
	return d.trustedBy(issuer) != nil || slices.Contains(d.cfg.SignIn, issuer)
}

func (d *Directory) trustedBy(url string) *trusted {
	i := slices.IndexFunc(d.trusted, func(t *trusted) bool { return t.URL == url })
	if i < 0 {
		return nil
	}
	return d.trusted[i]
}

// vouched refuses an assertion that no trusted issuer has made for a subject of the application.
func (d *Directory) vouched(ctx context.Context, rec principalRecord, assertion string) error {
	refuse := func(number, why string) error {
		return refuseGrant(visage.Unauthenticated, "invalid_client", number, "The client assertion is not valid: %s.",
			why)
	}
	t, err := parse(assertion)
	if err != nil {
		return refuse("50027", err.Error())
	}
	issuer := t.claims.Issuer
	if issuer == "" {
		return refuse("50027", "it has no iss")
	}
	from := d.trustedBy(issuer)
	if from == nil {
		return refuse("700211", "its issuer is not trusted")
	}
	key, err := from.key(ctx, t.keyID)
	if err != nil {
		return fmt.Errorf("get the keys of issuer %s: %w", from.URL, err)
	}
	if key == nil {
		return refuse("700027", "the key that signed it is not one of its issuer")
	}
	if err := t.verify(key); err != nil {
		return refuse("700027", err.Error())
	}
	if err := t.current(time.Now()); err != nil {
		return refuse("700024", err.Error())
	}
	made, err := t.audiences()
	if err != nil || !slices.Contains(made, from.Audience) {
		return refuse("700212", errAudience.Error())
	}
	if t.claims.Subject == "" {
		return refuse("50027", "it has no sub")
	}
	if !slices.Contains(rec.Subjects, Subject{Issuer: issuer, Name: t.claims.Subject}) { // a group gets no token
		return refuse("700213", "its subject is not one of the application's")
	}
	return nil
}

// LookupVouched returns whom a trusted issuer vouches for at the console: the person or application that has the
// subject or, if there is none, one that has one of the groups; of several the one with the smallest object id. The
// caller has verified what the issuer said.
func (d *Directory) LookupVouched(issuer, subject string, groups []string) (Principal, bool) {
	if !d.vouches(issuer) {
		return Principal{}, false
	}
	all := d.state.Now().principals
	first := func(fits func(Subject) bool) (found principalRecord) {
		for _, rec := range all {
			if slices.ContainsFunc(rec.Subjects, fits) && (found.ID == "" || rec.ID < found.ID) {
				found = rec
			}
		}
		return found
	}
	rec := first(func(s Subject) bool { return !s.Group && s.Issuer == issuer && s.Name == subject })
	if rec.ID == "" {
		rec = first(func(s Subject) bool { return s.Group && s.Issuer == issuer && slices.Contains(groups, s.Name) })
	}
	return rec.principal(), rec.ID != ""
}

// key returns the issuer's key with an id; nil when it has none. Keys that were read stay in use while the issuer does
// not answer, for a day.
func (t *trusted) key(ctx context.Context, id string) (*rsa.PublicKey, error) {
	const longest = 24 * time.Hour
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	key, known := t.keys[id]
	if known && now.Sub(t.read) < keysFresh {
		return key, nil
	}
	usable := t.keys != nil && now.Sub(t.read) < longest
	if !t.tried.IsZero() && now.Sub(t.tried) < keysPause {
		if !usable {
			return nil, errors.New("they could not be had a moment ago")
		}
		return key, nil
	}
	t.tried = now
	// The answer is for everybody who waits, so that it is not lost when the first of them goes away.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keysTimeout)
	defer cancel()
	document, err := t.Keys(ctx)
	if err == nil {
		var keys map[string]*rsa.PublicKey
		var skipped []error
		keys, skipped, err = parseKeys(document)
		for _, why := range skipped {
			t.log.Warn("a key of a trusted issuer is passed over", "issuer", t.URL, "err", why)
		}
		if err == nil {
			t.keys, t.read = keys, now
			return keys[id], nil
		}
	}
	if usable {
		return key, nil
	}
	return nil, err
}

// parseKeys reads the RSA keys for signatures of a JSON Web Key Set. Keys of other kinds are passed over: an issuer may
// have them for others. A key that is weak or cannot be read is passed over too, so that it does not cost the others,
// and skipped says which and why; a set of none but such keys is an error.
func parseKeys(document []byte) (keys map[string]*rsa.PublicKey, skipped []error, err error) {
	const maxKeys = 100
	var set struct{ Keys []json.RawMessage }
	if err := json.Unmarshal(document, &set); err != nil {
		return nil, nil, errors.New("the issuer's keys are not a JSON Web Key Set")
	}
	if len(set.Keys) > maxKeys {
		return nil, nil, fmt.Errorf("the issuer has more than %d keys", maxKeys)
	}
	keys = map[string]*rsa.PublicKey{}
	for i, text := range set.Keys {
		var k publishedKey
		if err := json.Unmarshal(text, &k); err != nil {
			skipped = append(skipped, fmt.Errorf("key %d of the set is not a JSON Web Key", i+1))
			continue
		}
		if k.Kty != "RSA" || k.Kid == "" || k.Use != "" && k.Use != "sig" || k.Alg != "" && k.Alg != string(algorithm) {
			continue
		}
		key, err := k.public()
		if err != nil {
			skipped = append(skipped, fmt.Errorf("key %q: %w", short(k.Kid), err))
			continue
		}
		keys[k.Kid] = key
	}
	if len(keys) == 0 && len(skipped) > 0 {
		return nil, skipped, fmt.Errorf("none of the issuer's keys can be used: %w", skipped[0])
	}
	return keys, skipped, nil
}

// publishedKey is a key of a JSON Web Key Set, with the parts that a verifier of RSA signatures needs.
type publishedKey struct{ Kty, Use, Alg, Kid, N, E string }

// public returns the key when it is one and not weak.
func (k publishedKey) public() (*rsa.PublicKey, error) {
	const minBits, maxBits = 2048, 8192
	n, err := encoding.DecodeString(k.N)
	if err != nil {
		return nil, errors.New("its modulus is not base64url")
	}
	e, err := encoding.DecodeString(k.E)
	if err != nil {
		return nil, errors.New("its exponent is not base64url")
	}
	modulus, exponent := new(big.Int).SetBytes(n), new(big.Int).SetBytes(e)
	if bits := modulus.BitLen(); bits < minBits || bits > maxBits {
		return nil, fmt.Errorf("its modulus has %d bits; %d to %d are accepted", bits, minBits, maxBits)
	}
	if exponent.BitLen() > 31 {
		return nil, errors.New("its exponent is above 2^31")
	}
	if err := weakkey.Public(modulus, exponent); err != nil {
		return nil, err
	}
	return &rsa.PublicKey{N: modulus, E: int(exponent.Int64())}, nil
}
