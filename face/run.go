package face

import (
	"context"
	"sync"
	"time"

	"github.com/visage-face/visage"
)

// round is how often Run looks at every resource, for what no request of this process announced: trainings that a crash
// interrupted, and what could not be done then. See also Resume.
const round = time.Minute

// trainers is how many resources are trained at the same time. Loading is bound by memory and decryption; more would
// only take processors from requests.
const trainers = 2

// Run does the work that no request waits for until ctx ends: it executes trainings (those a crash interrupted too),
// removes detected faces whose time is up, and removes what deleted collections leave behind. Without it trainings do
// not proceed. It returns nil after everything it started has ended.
func (s *Service) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for range trainers {
		wg.Go(func() { s.trainings.work(ctx, s.train) })
	}
	wg.Go(func() { s.sweeps.work(ctx, s.sweep) })
	ticker := time.NewTicker(round)
	defer ticker.Stop()
	for ctx.Err() == nil {
		ids, err := s.resources(ctx)
		if err != nil && ctx.Err() == nil {
			s.log.Warn("face: list resources", "err", err)
		}
		for _, id := range ids {
			s.trainings.add(id)
			s.sweeps.add(id)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
	wg.Wait()
	s.writeAllMatches(context.WithoutCancel(ctx))
	return nil
}

// lastWords bounds how long a shutdown is held up by what was to be written.
const lastWords = 5 * time.Second

// writeAllMatches stores what waits, of all resources that are open.
func (s *Service) writeAllMatches(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lastWords)
	defer cancel()
	for _, id := range s.matches.resources() {
		s.report(ctx, "write matches", id, s.writeMatches(ctx, visage.Resource{ID: id}))
	}
}

// expireIfDue expires a resource once an hour, and otherwise stores who was recognised.
func (s *Service) expireIfDue(ctx context.Context, res visage.Resource) error {
	if last, ok := s.expired[res.ID]; ok && time.Since(last) < expireEvery {
		return s.writeMatches(ctx, res)
	}
	_, err := s.Expire(ctx, res, false)
	if err == nil {
		s.expired[res.ID] = time.Now()
	}
	return err
}

// Resume has Run look at a resource now: it has been opened, so that what a lock interrupted can go on. It only queues.
func (s *Service) Resume(id visage.ResourceID) {
	s.trainings.add(id)
	s.sweeps.add(id)
}

// agenda is a set of resources that something is to be done for. A resource is worked on by one worker at a time; one
// that is added meanwhile is worked on again.
type agenda struct {
	mu     sync.Mutex
	due    map[visage.ResourceID]bool
	active map[visage.ResourceID]bool
	news   chan struct{} // holds one value when due may have something that nobody works on
}

func newAgenda() *agenda {
	return &agenda{
		due: make(map[visage.ResourceID]bool), active: make(map[visage.ResourceID]bool), news: make(chan struct{}, 1),
	}
}

// add asks for work on a resource.
func (a *agenda) add(id visage.ResourceID) {
	a.mu.Lock()
	a.due[id] = true
	a.mu.Unlock()
	a.signal()
}

func (a *agenda) signal() {
	select {
	case a.news <- struct{}{}:
	default:
	}
}

// take returns a resource that is due and that nobody works on.
func (a *agenda) take() (visage.ResourceID, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id := range a.due {
		if !a.active[id] {
			delete(a.due, id)
			a.active[id] = true
			return id, true
		}
	}
	return visage.ResourceID{}, false
}

func (a *agenda) done(id visage.ResourceID) {
	a.mu.Lock()
	delete(a.active, id)
	a.mu.Unlock()
	a.signal()
}

// work does what is due until ctx ends. Several may run side by side.
func (a *agenda) work(ctx context.Context, do func(context.Context, visage.ResourceID)) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.news:
		}
		for {
			id, ok := a.take()
			if !ok || ctx.Err() != nil {
				break
			}
			a.signal() // there may be work for another worker
			do(ctx, id)
			a.done(id)
		}
	}
}
