package keyvault

import (
	"context"
	"errors"
	"time"

	"github.com/visage-face/visage/sealed"
)

const (
	longestRest = time.Hour        // how long Run sleeps at most, so that a changed clock is noticed
	sharedRest  = 30 * time.Second // likewise, where other processes change keys and policies too

	duty      = "keyvault/schedule" // the claim of the process that does the work for all
	dutyLasts = 15 * time.Second    // after its process has ended
	dutyAsk   = 5 * time.Second     // between two attempts of the other processes to get it
)

// Run purges keys and vaults whose retention has ended, rotates keys according to their policies, and delivers events
// that are not in the audit log yet. Of the processes that share a store, one does it. Run returns nil when ctx has
// ended.
func (s *Service) Run(ctx context.Context) error {
	var claim *sealed.Claim
	defer func() {
		if claim != nil {
			claim.Release()
		}
	}()
	for ctx.Err() == nil {
		var next time.Time
		var err error
		if claim == nil || claim.Context().Err() != nil {
			claim, err = s.cfg.Store.Claim(ctx, duty, dutyLasts)
		}
		if err == nil {
			next, err = s.attend(ctx)
			err = errors.Join(s.deliver(ctx), err)
		}
		switch {
		case errors.Is(err, sealed.ErrClaimed):
			next = time.Now().Add(dutyAsk)
		case err != nil && ctx.Err() == nil:
			// A failure, such as a full disk, is retried; the vault goes on serving meanwhile.
			s.log.ErrorContext(ctx, "scheduled work of the key vaults failed", "err", err)
			next = time.Now().Add(time.Minute)
		}
		most := longestRest
		if s.cfg.Store.Shared() {
			most = sharedRest
		}
		rest := time.NewTimer(min(most, max(time.Until(next), time.Second)))
		select {
		case <-ctx.Done():
		case <-rest.C:
		case <-s.due:
		}
		rest.Stop()
	}
	return nil
}

// attend does the work that is due and returns when the next is.
func (s *Service) attend(ctx context.Context) (next time.Time, err error) {
	next = time.Now().Add(longestRest)
	due := func(at time.Time) bool {
		if !at.After(time.Now()) {
			return true
		}
		if at.Before(next) {
			next = at
		}
		return false
	}
	var all []vaultRecord
	err = s.space.View(ctx, func(r sealed.Reader) error {
		all = nil // the function may run again
		for rec, err := range vaults.In().All(r) {
			if err != nil {
				return err
			}
			all = append(all, rec)
		}
		return nil
	})
	if err != nil {
		return next, err
	}
	var failures []error
	for _, vault := range all {
		if vault.Deleted == 0 {
			failures = append(failures, s.attendKeys(ctx, vault, due))
		} else if due(fromNanos(vault.PurgeAt)) {
			failures = append(failures, s.expireVault(ctx, vault))
		}
	}
	return next, errors.Join(failures...)
}

func (s *Service) attendKeys(ctx context.Context, vault vaultRecord, due func(time.Time) bool) error {
	type pair struct {
		k keyRecord
		v versionRecord
	}
	var all []pair
	err := s.space.View(ctx, func(r sealed.Reader) error {
		all = nil // the function may run again
		records, err := keysOf(r, vault)
		if err != nil {
			return err
		}
		for _, k := range records {
			if k.Deleted == 0 && k.Policy == nil {
				continue
			}
			v, err := versions.In(vault.ID, k.ID).Get(r, k.Current)
			if err != nil {
				return err
			}
			all = append(all, pair{k, v})
		}
		return nil
	})
	if err != nil {
		return err
	}
	var failures []error
	for _, p := range all {
		if p.k.Deleted != 0 {
			if due(fromNanos(p.k.PurgeAt)) {
				failures = append(failures, s.expireKey(ctx, vault, p.k))
			}
			continue
		}
		failures = append(failures, s.attendPolicy(ctx, vault, p.k, p.v, due))
	}
	return errors.Join(failures...)
}
