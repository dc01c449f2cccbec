package api

import (
	"container/list"
	"errors"
	"hash/maphash"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/visage-face/visage"
)

// How failed sign-ins slow down. Nobody is locked out by others: what counts is an address, or a name at an address;
// and a name that has signed in from an address before is always looked at.
const (
	freeOfName       = 5           // failures of a name at an address that cost nothing
	freeOfAddress    = 50          // failures of an address, whatever the names
	freeOfCredential = 100         // wrong keys and tokens of an address
	repeated         = .01         // of a failure: the same wrong key or token again guesses nothing
	rememberedWrong  = 64          // keys and tokens of an address
	firstPause       = time.Second // doubled with each failure more
	longestPause     = time.Minute
	forgiven         = 15 * time.Minute // after the last failure
	maxTries         = 10_000           // names and addresses that are remembered; the longest idle is forgotten first
)

// signIns counts failed proofs of who somebody is.
type signIns struct {
	seed maphash.Seed // so that what is remembered of a credential says nothing outside of the process

	mu     sync.Mutex
	recent *list.List // of *tries, the latest in front
	byKey  map[caller]*list.Element
}

type tries struct {
	key    caller
	failed float64
	wrong  []uint64  // hashes of the latest keys and tokens that failed
	last   time.Time // failure
	until  time.Time // no further try is looked at before it
	proved bool      // it was done right once
}

func newSignIns() *signIns {
	return &signIns{seed: maphash.MakeSeed(), recent: list.New(), byKey: map[caller]*list.Element{}}
}

func (s *signIns) of(key caller) *tries {
	e := s.byKey[key]
	if e == nil {
		if s.recent.Len() >= maxTries {
			oldest := s.recent.Back()
			delete(s.byKey, oldest.Value.(*tries).key)
			s.recent.Remove(oldest)
		}
		e = s.recent.PushFront(&tries{key: key})
		s.byKey[key] = e
	}
	s.recent.MoveToFront(e)
	return e.Value.(*tries)
}

// pause returns how long key has to wait, and whether it was proved before.
func (s *signIns) pause(key caller, now time.Time) (wait time.Duration, proved bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.byKey[key]
	if e == nil {
		return 0, false
	}
	t := e.Value.(*tries)
	return max(0, t.until.Sub(now)), t.proved
}

// fail counts a failure of key, of which the first ones are free.
func (s *signIns) fail(key caller, free float64, now time.Time) {
	s.failWith(key, "", free, now)
}

// failWith counts a failure of key with a credential; empty: one that is not remembered.
func (s *signIns) failWith(key caller, credential string, free float64, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.of(key)
	if now.Sub(t.last) > forgiven {
		t.failed = 0
	}
	t.last = now
	t.failed += t.weight(s.seed, credential)
	if over := t.failed - free; over > 0 {
		t.until = now.Add(min(longestPause, firstPause<<min(int(over), 10)))
	}
}

// weight is how much a failure counts.
func (t *tries) weight(seed maphash.Seed, credential string) float64 {
	if credential == "" {
		return 1
	}
	hash := maphash.String(seed, credential)
	if slices.Contains(t.wrong, hash) {
		return repeated
	}
	if len(t.wrong) == rememberedWrong {
		t.wrong = slices.Delete(t.wrong, 0, 1)
	}
	t.wrong = append(t.wrong, hash)
	return 1
}

// succeed forgives what key has failed.
func (s *signIns) succeed(key caller) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*s.of(key) = tries{key: key, proved: true}
}

// errSlowed refuses a try that comes too soon.
func errSlowed(wait time.Duration) error {
	r := visage.Refuse(visage.TooMany, "",
		"Too many sign-ins from this address have failed. Check the credential, and try again in %d s.", seconds(wait))
	r.RetryAfter = wait
	return r
}

// SignIn has prove look at the credential that a body brings for name, which the caller claims to be. Where too many
// have failed for name at the same address, or at that address altogether, it is a refusal of kind TooMany and prove is
// not run, unless name has signed in from there before. Other addresses are not concerned, so that nobody can lock
// another out. Errors of prove that are failed sign-ins: refusals of kind Unauthenticated, and the OAuth code
// unauthorized_client.
func (r *Request) SignIn(name string, prove func() error) error {
	h, now := r.handler, time.Now()
	if len(name) > maxName {
		name = name[:maxName]
	}
	r.uncounted = false
	at := r.body.address
	atName := at + caller("\x00"+strings.ToLower(name))
	wait, proved := h.signIns.pause(atName, now)
	ofAddress, _ := h.signIns.pause(at, now)
	wait = max(wait, ofAddress)
	if wait > 0 && !proved {
		h.metrics.slowed.WithLabelValues(r.x.plane.Name).Inc()
		return errSlowed(wait)
	}
	if !proved {
		if err := h.countAddress(r.x); err != nil {
			return err
		}
	}
	err := prove()
	if err == nil {
		if proved && r.x.plane.AddressRate != (Rate{}) { // of its own, so that others at the address do not use it up
			err = h.take(atName, r.x.plane.AddressRate,
				"The sign-ins of this client exceed the rate limit of the service. Try again in %d s.")
		}
		h.signIns.succeed(atName)
		h.cfg.Proved(r.Context())
		return err
	}
	if !isFailedSignIn(err) {
		return err
	}
	h.metrics.failed.WithLabelValues(r.x.plane.Name).Inc()
	h.signIns.fail(atName, freeOfName, now)
	h.signIns.fail(at, freeOfAddress, now)
	if wait > 0 {
		h.metrics.slowed.WithLabelValues(r.x.plane.Name).Inc()
		return errSlowed(wait)
	}
	return err
}

// maxName bounds what is kept of names that callers give.
const maxName = 64

func isFailedSignIn(err error) bool {
	if refusal, ok := errors.AsType[*visage.Refusal](err); ok {
		return refusal.Kind == visage.Unauthenticated || refusal.Code == "unauthorized_client"
	}
	problem, ok := errors.AsType[*Problem](err)
	return ok && problem.Status == http.StatusUnauthorized
}

// turnedAway counts a key or a token that proved nothing against the address that it came from, and answers in its
// place when there are too many. What is right passes at any time: to look is cheap, and others may share the address.
func (h *Handler) turnedAway(x *exchange, r *Request, err error) error {
	shown := r.Header("Authorization")
	if x.plane.KeyHeader != "" {
		shown += "\x00" + r.Header(x.plane.KeyHeader)
	}
	if h.cfg.Inner || strings.Trim(shown, "\x00") == "" || !isFailedSignIn(err) {
		return err
	}
	now := time.Now()
	key := x.body.address + "\x00credential"
	wait, _ := h.signIns.pause(key, now)
	h.metrics.failed.WithLabelValues(x.plane.Name).Inc()
	h.signIns.failWith(key, shown, freeOfCredential, now)
	if wait > 0 {
		h.metrics.slowed.WithLabelValues(x.plane.Name).Inc()
		return errSlowed(wait)
	}
	return err
}
