package hashivault

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"
)

// A login is made at most twice with a secret that is refused, and then not again for longLoginRest. The second one
// follows at once, and confirms the first; it is made after loginRest where a refusal counts at once. Vault locks an
// AppRole out after five refused logins, and answers none of it for 15 minutes then, a corrected one neither; it
// forgets them when none was made for 15 minutes. So two servers that share an AppRole do not have it locked out.
const (
	loginRest     = time.Minute
	longLoginRest = 16 * time.Minute
)

// goodFor is how long after a login with a secret others are made with it at the same time. Else one is made after the
// other, so that not all of them are refused before one is known to be.
const goodFor = time.Minute

// Refusals are what is known of refused logins to a store, for all sources that log in with the same secret: together
// they must not send one again and again that was refused. A refusal counts when a second login has met with it, as
// that of the source that confirms the first. The zero value knows of none. It is safe for concurrent use.
type Refusals struct {
	once bool          // a refusal counts at once
	long time.Duration // the rest after further refusals. Default: longLoginRest

	mu     sync.Mutex // guards the fields below
	turn   chan struct{}
	of     loginID // of the login that was refused last
	err    error
	sent   int // how often of was refused
	at     time.Time
	good   loginID // of the login that was accepted last
	goodAt time.Time
	retry  time.Time // when a login was made last for WithRetry
}

type retryKey struct{}

// WithRetry marks the logins of a context as those of an operator's test: one that was refused is made again before its
// time, but at most once in loginRest. When it is accepted, the refusal is forgotten.
func WithRetry(ctx context.Context) context.Context { return context.WithValue(ctx, retryKey{}, true) }

// remembered is a refusal that a login has met with before.
type remembered struct {
	err   error
	until time.Time // when the login is made again
}

func (e *remembered) Error() string {
	return fmt.Sprintf("%v (this answer is remembered: the same secret is not sent again before %s)", e.err,
		e.until.UTC().Format(time.RFC3339))
}

func (e *remembered) Unwrap() error { return e.err }

// loginID tells a login from others, with its secret.
type loginID [sha256.Size]byte

// idOf returns the ID of a login. A secret id is random, so its digest does not give it away.
func (c *client) idOf(path string, fields map[string]string) loginID {
	h := sha256.New()
	add := func(text string) {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(text))))
		h.Write([]byte(text))
	}
	for _, text := range []string{c.at.host, c.at.namespace, path} {
		add(text)
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		add(name)
		add(fields[name])
	}
	return loginID(h.Sum(nil))
}

// begin returns the refusal that a login would meet with, or what is to be told of its end when it may be made. Unless
// the secret was good a moment ago, it waits for the login of another source.
func (r *Refusals) begin(ctx context.Context, id loginID) (ended func(error), err error) {
	if r == nil {
		return func(error) {}, nil
	}
	r.mu.Lock()
	if r.turn == nil {
		r.turn = make(chan struct{}, 1)
		r.turn <- struct{}{}
	}
	turn := r.turn
	alone := id != r.good || time.Since(r.goodAt) >= goodFor
	r.mu.Unlock()
	leave := func() {}
	if alone {
		select {
		case <-turn:
			leave = func() { turn <- struct{}{} }
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now, until := time.Now(), r.at.Add(r.restLocked())
	retries := ctx.Value(retryKey{}) != nil
	if own := r.retry.Add(loginRest); retries && own.Before(until) {
		until = own
	}
	if id == r.of && now.Before(until) {
		leave()
		return nil, &remembered{r.err, until}
	}
	if retries {
		r.retry = now
	}
	return func(err error) {
		defer leave()
		r.note(id, err)
	}, nil
}

// restLocked is how long the login that was refused last is not made again. mu is held.
func (r *Refusals) restLocked() time.Duration {
	switch {
	case r.sent >= 2:
		return cmp.Or(r.long, longLoginRest)
	case r.once:
		return loginRest
	}
	return 0
}

// note notes how a login has ended.
func (r *Refusals) note(id loginID, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	switch {
	case err == nil:
		r.good, r.goodAt = id, now
		if id == r.of {
			r.of, r.err, r.sent = loginID{}, nil, 0
		}
	case loginDenied(err):
		if id != r.of {
			r.of, r.sent = id, 0
		}
		r.err, r.at = err, now
		r.sent++
		if id == r.good {
			r.good = loginID{}
		}
	case id == r.of && lockedOut(err): // the server counts it, or has stopped to
		r.at = now
		r.sent++
	}
}

// lockedOut reports whether an error may be that of a server that answers no login of the principal for a time.
func lockedOut(err error) bool {
	e, ok := err.(*refusal)
	return ok && e.login && e.says("permission denied", http.StatusForbidden)
}
