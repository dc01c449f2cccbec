package face

import (
	"context"
	"sync"
	"time"

	"github.com/visage-face/visage"
)

// round is how often Run looks at every resource for work that no request of this process announced: trainings that a
// crash interrupted, and work that failed before. See also Resume.
const round = time.Minute

// trainers is how many resources are trained at the same time. Loading is limited by memory and decryption; more
// trainers would only take processors from requests.
const trainers = 2

// Run does the background work until ctx ends: it performs trainings, also those that a crash interrupted, removes
// expired faces and persons, and removes the contents of deleted collections. Without it trainings do not proceed. It
// returns nil after everything that it started has ended.
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
			s.log.Warn("cannot list resources for background work", "err", err)
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

// Resume makes Run look at a resource now: the resource has been opened, and work that a lock interrupted can go on. It
// only queues the resource.
func (s *Service) Resume(id visage.ResourceID) {
	s.trainings.add(id)
	s.sweeps.add(id)
}
