package api

import (
	"container/list"
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/visage-face/visage"
)

// rateOfTier is what a resource may ask for when nobody says otherwise.
func rateOfTier(r visage.Resource) (perSecond float64, burst int) {
	limits := r.Tier.Limits()
	return limits.Requests, limits.Burst
}

// maxRates bounds how many resources are remembered. The one that was idle longest is forgotten first; when it comes
// back it may have its whole burst again, which it nearly always would have anyway.
const maxRates = 10_000

// rates holds a token bucket for each resource that was seen lately.
type rates struct {
	mu     sync.Mutex
	recent *list.List // of *bucket, the latest in front
	byID   map[visage.ResourceID]*list.Element
}

type bucket struct {
	id      visage.ResourceID
	limiter *rate.Limiter
}

func newRates() *rates {
	return &rates{recent: list.New(), byID: map[visage.ResourceID]*list.Element{}}
}

// take counts one request at now. It returns how long to wait when the resource is over its rate, else 0.
func (r *rates) take(id visage.ResourceID, perSecond float64, burst int, now time.Time) time.Duration {
	limit := rate.Limit(perSecond)
	if perSecond < 0 || math.IsInf(perSecond, 1) {
		return 0
	}
	l := r.limiter(id, limit, burst)
	reservation := l.ReserveN(now, 1)
	if !reservation.OK() {
		return time.Minute // nothing is allowed to this resource at all
	}
	wait := reservation.DelayFrom(now)
	if wait > 0 {
		reservation.CancelAt(now)
	}
	return wait
}

func (r *rates) limiter(id visage.ResourceID, limit rate.Limit, burst int) *rate.Limiter {
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
