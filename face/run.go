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

// Resume has Run look at a resource now: it has been opened, so that what a lock interrupted can go on. It only queues.
func (s *Service) Resume(id visage.ResourceID) {
	s.trainings.add(id)
	s.sweeps.add(id)
}
