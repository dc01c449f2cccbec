package api

import (
	"container/list"
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/visage-face/visage"
)

// Rate limits requests: to PerSecond on average, and to Burst at once.
type Rate struct {
	PerSecond float64
	Burst     int
}

// share returns the part of a rate that each of n replicas allows. What is rounded up allows one request at least.
func (r Rate) share(n int) Rate {
	if n <= 1 {
		return r
	}
	return Rate{r.PerSecond / float64(n), (r.Burst + n - 1) / n}
}

// rateOfTier is the default of Config.Rate.
func rateOfTier(r visage.Resource) (perSecond float64, burst int) {
	limits := r.Tier.Limits()
	return limits.Requests, limits.Burst
}

// count counts a request against the rate of its resource or its plane. A request without a credential whose body has
// not arrived is counted later, by SignIn or countRest: requests without their body are limited elsewhere, and must not
// use up the rate of other clients at the same address.
func (h *Handler) count(x *exchange, r *Request) error {
	switch {
	case x.route.Allow == ResourceKey:
		perSecond, burst := h.cfg.Rate(r.Resource)
		return h.take(holderOf(r), Rate{perSecond, burst},
			"The requests to this resource exceed the rate limit of its tier. Try again in %d s.")
	case x.route.Allow == Anyone && x.route.MaxBody > 0:
		r.uncounted = true
		return nil
	case x.route.Allow != Anyone && x.plane.CallerRate != (Rate{}):
		err := h.take(caller(x.plane.Name+" ")+holderOf(r), x.plane.CallerRate,
			"This identity exceeds the rate limit of the service. Try again in %d s.")
		if err != nil {
			return err
		}
	}
	return h.countAddress(x)
}

// countRest counts a request after its handler, if it has not been counted before.
func (h *Handler) countRest(x *exchange, r *Request) error {
	if !r.uncounted {
		return nil
	}
	return h.countAddress(x)
}

func (h *Handler) countAddress(x *exchange) error {
	if x.plane.AddressRate == (Rate{}) {
		return nil
	}
	return h.take(caller(x.plane.Name+" ")+x.body.address, x.plane.AddressRate,
		"This address exceeds the rate limit of the service. Try again in %d s.")
}

// take counts one request, or refuses it with a sentence, which has a %d for the seconds to wait.
func (h *Handler) take(who caller, r Rate, sentence string) error {
	r = r.share(h.cfg.Replicas())
	wait := h.rates.take(who, r.PerSecond, r.Burst, time.Now())
	if wait == 0 {
		return nil
	}
	refusal := visage.Refuse(visage.TooMany, "", sentence, seconds(wait))
	refusal.RetryAfter = wait
	return refusal
}

// maxRates limits the number of callers with a bucket. The one that was idle longest is dropped first; when it returns
// it has its whole burst again, which it nearly always would have anyway.
const maxRates = 10_000

// rates holds a token bucket for each recent caller.
type rates struct {
	mu     sync.Mutex
	recent *list.List // of *bucket, the latest in front
	byID   map[caller]*list.Element
}

type bucket struct {
	id      caller
	limiter *rate.Limiter
}

func newRates() *rates {
	return &rates{recent: list.New(), byID: map[caller]*list.Element{}}
}

// take counts one request at now. It returns the time to wait if the caller exceeds its rate, else 0.
func (r *rates) take(id caller, perSecond float64, burst int, now time.Time) time.Duration {
	limit := rate.Limit(perSecond)
	if perSecond < 0 || math.IsInf(perSecond, 1) {
		return 0
	}
	l := r.limiter(id, limit, burst)
	reservation := l.ReserveN(now, 1)
	if !reservation.OK() {
		return time.Minute // this caller may make no requests at all
	}
	wait := reservation.DelayFrom(now)
	if wait > 0 {
		reservation.CancelAt(now)
	}
	return wait
}

func (r *rates) limiter(id caller, limit rate.Limit, burst int) *rate.Limiter {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.byID[id]
	if e == nil {
		if r.recent.Len() >= maxRates {
			oldest := r.recent.Back()
			delete(r.byID, oldest.Value.(*bucket).id)
			r.recent.Remove(oldest)
		}
		e = r.recent.PushFront(&bucket{id, rate.NewLimiter(limit, burst)})
		r.byID[id] = e
	}
	r.recent.MoveToFront(e)
	l := e.Value.(*bucket).limiter
	if l.Limit() != limit || l.Burst() != burst { // the tier was changed
		l.SetLimit(limit)
		l.SetBurst(burst)
	}
	return l
}
