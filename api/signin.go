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

// How failed sign-ins are slowed down. Failures count for an address, or for a name at an address, so that nobody can
// lock out others; a name that has signed in from an address before is always checked there.
const (
	freeOfName       = 5           // failures of a name at an address before the first pause
	freeOfAddress    = 50          // failures of an address, with any names
	freeOfCredential = 100         // wrong keys and tokens of an address
	repeated         = .01         // of a failure: sending the same wrong key or token again is no guessing
	rememberedWrong  = 64          // keys and tokens of an address
	firstPause       = time.Second // doubled with each further failure
	longestPause     = time.Minute
	forgiven         = 15 * time.Minute // after the last failure
	maxTries         = 10_000           // remembered names and addresses; the longest idle is dropped first
)

// signIns counts failed sign-ins.
type signIns struct {
	seed maphash.Seed // so that remembered hashes of credentials are useless outside the process

	mu     sync.Mutex
	recent *list.List // of *tries, the latest in front
	byKey  map[caller]*list.Element
}

type tries struct {
	key    caller
	failed float64
	wrong  []uint64  // hashes of the latest keys and tokens that failed
	last   time.Time // failure
	until  time.Time // further tries are refused until then
	proved bool      // it has succeeded once
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

// pause returns how long key has to wait, and whether it has succeeded before.
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

// fail counts a failure of key; the first free ones cause no pause.
func (s *signIns) fail(key caller, free float64, now time.Time) {
	s.failWith(key, "", free, now)
}

// failWith is fail with the credential that failed; empty: it is not remembered.
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

// weight returns how much a failure counts.
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

// succeed clears the failures of key.
func (s *signIns) succeed(key caller) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*s.of(key) = tries{key: key, proved: true}
}

// errSlowed refuses a sign-in before the pause is over.
func errSlowed(wait time.Duration) error {
	r := visage.Refuse(visage.TooMany, "",
		"Too many sign-ins from this address have failed. Check the credential, and try again in %d s.", seconds(wait))
	r.RetryAfter = wait
	return r
}

// SignIn calls prove, which checks the credential in the body for the claimed name. After too many failures for name at
// the same address, or at that address with any name, SignIn returns a refusal of kind TooMany instead, unless name has
// signed in from there before. Other addresses are not affected, so that nobody can lock out others. These errors of
// prove count as failed sign-ins: refusals of kind Unauthenticated, and the OAuth code unauthorized_client.
func (r *Request) SignIn(name string, prove func() error) error { return r.SignInBy("", name, prove) }

// SignInBy is SignIn by one of several ways: failures by one way do not count for the others. There must be few ways.
func (r *Request) SignInBy(way, name string, prove func() error) error {
	h, now := r.handler, time.Now()
	if len(name) > maxName {
		name = name[:maxName]
	}
	r.uncounted = false
	at := r.body.address
	if way != "" {
		at += caller("\x00by " + way)
	}
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
		if proved && r.x.plane.AddressRate != (Rate{}) {
			// A rate of its own, so that others at the address cannot use it up.
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

// maxName limits the remembered part of names that callers claim.
const maxName = 64

func isFailedSignIn(err error) bool {
	if refusal, ok := errors.AsType[*visage.Refusal](err); ok {
		return refusal.Kind == visage.Unauthenticated || refusal.Code == "unauthorized_client"
	}
	problem, ok := errors.AsType[*Problem](err)
	return ok && problem.Status == http.StatusUnauthorized
}

// turnedAway counts an invalid key or token against the client's address, and returns errSlowed instead of err when
// there were too many. Valid credentials always pass: checking them is cheap, and others may share the address.
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
