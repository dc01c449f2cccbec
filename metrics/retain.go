package metrics

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
)

// firstKeptDay is the oldest day that is kept by the minute, at a moment.
func firstKeptDay(now time.Time) time.Time {
	return now.UTC().Truncate(24*time.Hour).AddDate(0, 0, -keptDays)
}

// firstKeptMonth is the oldest month that is kept by the hour, at a moment.
func firstKeptMonth(now time.Time) time.Time {
	year, month, _ := now.UTC().Date()
	return time.Date(year, month-keptMonths, 1, 0, 0, 0, 0, time.UTC)
}

// tidy drops the minutes of days and the hours of months that are too old, and deletes what is left of resources that
// were purged before a crash. What fails is tried again with the next day and at the next start.
func (r *Recorder) tidy(ctx context.Context) {
	err := r.findPurged(ctx)
	r.deleteForgotten(ctx)
	now := time.Now()
	for _, name := range slices.Sorted(maps.Keys(r.periods)) {
		p := r.periods[name]
		switch {
		case p.Hourly && name < firstKeptMonth(now).Format(monthName):
			err = errors.Join(err, r.drop(ctx, p, hours.In(name)))
		case !p.Hourly && name < firstKeptDay(now).Format(dayName):
			err = errors.Join(err, r.drop(ctx, p, minutes.In(name)))
		}
	}
	if err != nil && ctx.Err() == nil {
		r.log.Warn("old figures not removed", "err", err)
	}
}

// drop removes a container and forgets that it was there.
func (r *Recorder) drop(ctx context.Context, p periodRecord, container sealed.Container[record]) error {
	if err := container.Drop(ctx, r.space); err != nil {
		return fmt.Errorf("drop the figures of %s: %w", p.Name, err)
	}
	err := r.space.Update(ctx, func(tx sealed.Tx) error { return periods.In().Delete(tx, p.Name) })
	if err != nil && !errors.Is(err, sealed.ErrNotFound) {
		return fmt.Errorf("drop the figures of %s: %w", p.Name, err)
	}
	delete(r.periods, p.Name)
	return nil
}

// findPurged queues the resources that have figures and no space.
func (r *Recorder) findPurged(ctx context.Context) error {
	if len(r.known) == 0 {
		return nil
	}
	spaces, err := r.spaces(ctx)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for id := range r.known {
		if !spaces[id] {
			r.forgotten[id] = true
		}
	}
	return nil
}

// deleteForgotten deletes the figures of purged resources. Those that it cannot delete stay queued for the next minute.
func (r *Recorder) deleteForgotten(ctx context.Context) {
	r.mu.Lock()
	forgotten := slices.Collect(maps.Keys(r.forgotten))
	r.mu.Unlock()
	for _, id := range forgotten {
		if err := r.delete(ctx, id); err != nil {
			if ctx.Err() == nil {
				r.log.Warn("figures of a purged resource not deleted", "resource", id.String(), "err", err)
			}
			continue
		}
		r.mu.Lock()
		delete(r.forgotten, id)
		r.mu.Unlock()
	}
}

// delete removes all figures of a resource, and its row in the table of resources last, so that a crash leaves nothing
// unknown.
func (r *Recorder) delete(ctx context.Context, id visage.ResourceID) error {
	r.storing.Lock()
	defer r.storing.Unlock()
	delete(r.pending, id)
	if !r.known[id] {
		delete(r.known, id)
		return nil
	}
	for name, p := range r.periods {
		err := r.space.Update(ctx, func(tx sealed.Tx) error { return deleteIn(tx, id, p) })
		if err != nil {
			return fmt.Errorf("delete figures of %s: %w", name, err)
		}
	}
	err := r.space.Update(ctx, func(tx sealed.Tx) error {
		return deleteIfThere(tx, resources.In(), id.String())
	})
	if err == nil {
		delete(r.known, id)
	}
	return err
}

// deleteIn deletes the records of a resource in a day of minutes or a month of hours.
func deleteIn(tx sealed.Tx, id visage.ResourceID, p periodRecord) error {
	if p.Hourly {
		for day := 1; day <= 31; day++ {
			at := time.Date(2000, time.January, day, 0, 0, 0, 0, time.UTC)
			if err := deleteIfThere(tx, hours.In(p.Name), dayID(id, at)); err != nil {
				return err
			}
		}
		return nil
	}
	for hour := range 24 {
		at := time.Date(2000, time.January, 1, hour, 0, 0, 0, time.UTC)
		if err := deleteIfThere(tx, minutes.In(p.Name), hourID(id, at)); err != nil {
			return err
		}
	}
	return nil
}

func deleteIfThere[T any](tx sealed.Tx, c sealed.Container[T], id string) error {
	if err := c.Delete(tx, id); err != nil && !errors.Is(err, sealed.ErrNotFound) {
		return err
	}
	return nil
}
