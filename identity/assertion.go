package identity

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"sync"
	"time"
)

const (
	// of an assertion, which is used within assertionUse; long enough for a clock that is three minutes off
	assertionLife = 8 * time.Minute
	// how long RecentAssertion returns an assertion again: each key of a store is asked every 30 s, and to sign an
	// assertion costs twice as much as all the rest of that
	assertionUse = 5 * time.Minute
)

// assertions are those that were made within assertionUse.
type assertions struct {
	mu    sync.Mutex
	kept  map[assertionOf]kept
	swept time.Time
}

// assertionOf is what an assertion says, and which key signed it.
type assertionOf struct{ subject, client, tenant, resource, audience, key string }

type kept struct {
	token          string
	until, expires time.Time
}

// get returns an assertion that was kept.
func (a *assertions) get(of assertionOf, now time.Time) (kept, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	k, found := a.kept[of]
	// After a clock was set back, an assertion would not be valid yet.
	return k, found && now.Before(k.until) && !now.Before(k.until.Add(-assertionUse))
}

// keep keeps an assertion, and forgets those that are old.
func (a *assertions) keep(of assertionOf, token string, expires, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.kept == nil {
		a.kept = map[assertionOf]kept{}
	}
	if now.Sub(a.swept) >= assertionUse {
		maps.DeleteFunc(a.kept, func(_ assertionOf, k kept) bool { return !now.Before(k.until) })
		a.swept = now
	}
	a.kept[of] = kept{token, now.Add(assertionUse), expires}
}

// Assertion returns a token by which an identity, named by its object id, proves itself to another service, and when it
// ends: workload identity federation. The claim "sub" is the object id. Such a token is of no use in this instance,
// because audience must not be one of its own: the other service could act as the identity here. Each call signs a
// token, so that its answer says what holds now. Refusal: PrincipalNotFound, also for a person.
func (d *Directory) Assertion(
	ctx context.Context, principal, audience string,
) (token string, expires time.Time, err error) {
	return d.assertion(ctx, principal, audience, d.signed)
}

// RecentAssertion is Assertion for questions that are asked again and again. It may return an assertion that it
// returned within the last five minutes; not of an identity that was deleted.
func (d *Directory) RecentAssertion(
	ctx context.Context, principal, audience string,
) (token string, expires time.Time, err error) {
	return d.assertion(ctx, principal, audience, d.keptOrSigned)
}

// assertion checks what Assertion requires, and records the assertion that get returns.
func (d *Directory) assertion(
	ctx context.Context, principal, audience string,
	get func(ctx context.Context, rec principalRecord, audience string) (string, time.Time, error),
) (token string, expires time.Time, err error) {
	rec, found := d.known(ctx, principal)
	if !found || rec.Kind == Person {
		return "", time.Time{}, refuseUnknown("identity", principal)
	}
	if audience == "" || d.cfg.Audience(lower(oneAudience(audience))) {
		return "", time.Time{}, fmt.Errorf("the audience %q is empty or one of this instance, so a token for it must "+
			"not leave the instance", short(audience))
	}
	token, expires, err = get(ctx, rec, audience)
	return d.granted(ctx, attempt{subject: rec.ID, clientID: rec.ClientID, audience: audience, proof: "none"}, token,
		expires, err)
}

// signed signs an assertion.
func (d *Directory) signed(ctx context.Context, rec principalRecord, audience string) (string, time.Time, error) {
	issuer := cmp.Or(d.cfg.AssertionIssuer, d.cfg.Issuer(rec.Tenant))
	return d.made(ctx, rec, issuer, audience, "2", assertionLife)
}

// keptOrSigned returns an assertion that was kept, or a new one.
func (d *Directory) keptOrSigned(ctx context.Context, rec principalRecord, audience string) (string, time.Time, error) {
	now := time.Now()
	key, _ := d.signer(now) // without one there is nothing kept
	of := assertionOf{rec.ID, rec.ClientID, rec.Tenant, rec.Resource, audience, key.id}
	if k, found := d.assertions.get(of, now); found {
		return k.token, k.expires, nil
	}
	token, expires, err := d.signed(ctx, rec, audience)
	if err == nil && key.id != "" {
		d.assertions.keep(of, token, expires, now)
	}
	return token, expires, err
}
