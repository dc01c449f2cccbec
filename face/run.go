package face

import (
	"context"
	"sync"
	"time"

	"github.com/visage-face/visage"
)

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
	wg.Go(func() { s.keepFresh(ctx) })
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

// keepFresh brings what is in memory up to date once a round. Each search does so for what it uses; this is for what
// nobody uses at the moment and may have faces and names that another process has deleted.
func (s *Service) keepFresh(ctx context.Context) {
	ticker := time.NewTicker(round)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			s.refresh(ctx)
		case <-ctx.Done():
			return
		}
	}
}

func (s *Service) refresh(ctx context.Context) {
	s.galleries.Refresh(ctx)
	s.names.refresh(ctx)
}

// Resume makes Run look at a resource now: the resource has been opened, and work that a lock interrupted can go on. It
// only queues the resource.
func (s *Service) Resume(id visage.ResourceID) {
	s.trainings.add(id)
	s.sweeps.add(id)
}
