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

const (
	// writeAtOnce is how many resources' hours are written in one transaction: other writers of the operator's space
	// wait for it.
	writeAtOnce = 100
	// lastWrite limits the time in which Run writes the last minute after ctx has ended.
	lastWrite = 10 * time.Second
)

// Run writes each minute when it has ended, drops figures that are too old and those of purged resources, until ctx
// ends. Then it writes what has been counted since, and returns nil: figures that cannot be written are dropped,
// counted and logged.
func (r *Recorder) Run(ctx context.Context) error {
	r.tidy(ctx)
	for {
		// The minute may be over already, as it began before Run did; a clock that was set back must not prolong it.
		end := time.NewTimer(min(time.Until(r.current.start.Add(time.Minute)), time.Minute))
		select {
		case <-end.C:
			r.endMinute(ctx, false)
		case <-r.wake:
			r.deleteForgotten(ctx)
		case <-ctx.Done():
		}
		end.Stop()
		if ctx.Err() != nil {
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWrite)
			defer cancel()
			r.endMinute(last, true)
			return nil
		}
	}
}

// endMinute begins a new minute and writes the one before. last: nothing may wait for the end of the hour.
func (r *Recorder) endMinute(ctx context.Context, last bool) {
	sample := r.sample()
	next := newMinute()
	r.mu.Lock()
	ended := r.current
	r.current = next
	r.mu.Unlock()
	ended.instance.gauges[diskUsed], ended.instance.gauges[diskTotal] = sample.DiskUsed, sample.DiskTotal
	for id, bytes := range sample.Galleries {
		ended.instance.gauges[galleryBytes] = sum(ended.instance.gauges[galleryBytes], bytes)
		if f := ended.of(id); f != nil {
			f.gauges[galleryBytes] = bytes
		}
	}
	r.keep(ctx, ended, last || next.start.Truncate(time.Hour).After(ended.start.Truncate(time.Hour)))
	r.deleteForgotten(ctx)
	if next.start.Truncate(24 * time.Hour).After(ended.start.Truncate(24 * time.Hour)) {
		r.tidy(ctx)
	}
}

// keep adds a minute to what is pending, and writes what is due: of the instance always, of resources what is urgent
// and, at the end of the hour, everything.
func (r *Recorder) keep(ctx context.Context, m *minute, all bool) {
	r.newcomers(ctx, m)
	r.storing.Lock()
	defer r.storing.Unlock()
	due := map[visage.ResourceID]bool{{}: true}
	r.pending[visage.ResourceID{}] = append(r.pending[visage.ResourceID{}],
		minuteFigures{m.start, m.instance.appendTo(nil)})
	for id, f := range m.resources {
		if _, known := r.known[id]; f.empty() || !known {
			continue
		}
		due[id] = f.urgent()
		r.pending[id] = append(r.pending[id], minuteFigures{m.start, f.appendTo(nil)})
	}
	var write []visage.ResourceID
	for id, waiting := range r.pending {
		if all || due[id] || len(waiting) >= slotLimit || !sameHour(waiting[0].start, m.start) {
			write = append(write, id)
		}
	}
	slices.SortFunc(write, func(a, b visage.ResourceID) int { return slices.Compare(a[:], b[:]) })
	for some := range slices.Chunk(write, writeAtOnce) {
		lost := 0
		err := r.write(ctx, some)
		for _, id := range some {
			lost += len(r.pending[id])
			delete(r.pending, id)
		}
		if err != nil {
			r.dropped.Add(float64(lost))
			r.log.Warn("figures not stored", "minutes", lost, "err", err)
		}
	}
}

func sameHour(a, b time.Time) bool { return a.Truncate(time.Hour).Equal(b.Truncate(time.Hour)) }

// newcomers finds the resources of a minute that have been seen for the first time and exist. A request may end after
// its resource was purged, and would bring the figures back.
func (r *Recorder) newcomers(ctx context.Context, m *minute) {
	var spaces map[visage.ResourceID]bool
	for id := range m.resources {
		if _, known := r.known[id]; known {
			continue
		}
		if spaces == nil {
			var err error
			if spaces, err = r.spaces(ctx); err != nil {
				r.log.Warn("resources not listed: figures of new ones are not kept", "err", err)
				return
			}
		}
		if spaces[id] {
			r.known[id] = false
		}
	}
}

// spaces returns the resources that exist.
func (r *Recorder) spaces(ctx context.Context) (map[visage.ResourceID]bool, error) {
	ids, err := r.store.Spaces().List(ctx)
	if err != nil {
		return nil, err
	}
	all := map[visage.ResourceID]bool{}
	for _, id := range ids {
		all[visage.ResourceID(id)] = true
	}
	return all, nil
}

// write writes what is pending of some resources in one transaction. storing is held.
func (r *Recorder) write(ctx context.Context, ids []visage.ResourceID) error {
	if err := r.space.MayGrow(); err != nil {
		return err
	}
	made := map[string]periodRecord{}
	err := r.space.Update(ctx, func(tx sealed.Tx) error {
		clear(made)
		for _, id := range ids {
			if id != (visage.ResourceID{}) && !r.known[id] {
				if err := resources.In().Put(tx, id.String(), resourceRecord{id}); err != nil {
					return err
				}
			}
			for _, minutesOfHour := range byHour(r.pending[id]) {
				if err := r.putHour(tx, made, id, minutesOfHour); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("store figures: %w", err)
	}
	maps.Copy(r.periods, made)
	for _, id := range ids {
		if id != (visage.ResourceID{}) {
			r.known[id] = true
		}
	}
	return nil
}

// makePeriod notes that a container exists, unless that is known. made are those of this transaction.
func (r *Recorder) makePeriod(tx sealed.Tx, made map[string]periodRecord, p periodRecord) error {
	if _, known := r.periods[p.Name]; known {
		return nil
	}
	if _, known := made[p.Name]; known {
		return nil
	}
	made[p.Name] = p
	return periods.In().Put(tx, p.Name, p)
}

// byHour divides minutes, which are in the order of time unless the clock was set back, by their hours.
func byHour(all []minuteFigures) (hours [][]minuteFigures) {
	for _, m := range all {
		if n := len(hours); n > 0 && sameHour(hours[n-1][0].start, m.start) {
			hours[n-1] = append(hours[n-1], m)
		} else {
			hours = append(hours, []minuteFigures{m})
		}
	}
	return hours
}

// putHour adds minutes of one hour to the record of the hour, and to the hour in that of its day.
func (r *Recorder) putHour(
	tx sealed.Tx, made map[string]periodRecord, of visage.ResourceID, all []minuteFigures,
) error {
	start := all[0].start
	day, month := periodRecord{Name: start.Format(dayName)}, periodRecord{start.Format(monthName), true}
	var slots []slot
	var hour []byte
	for i, m := range all {
		slots = append(slots, slot{byte(m.start.Minute()), m.body})
		if i == 0 {
			hour = m.body
		} else {
			hour = added(hour, m.body)
		}
	}
	if err := putSlots(tx, minutes.In(day.Name), hourID(of, start), slots...); err != nil {
		return err
	}
	if err := putSlots(tx, hours.In(month.Name), dayID(of, start), slot{byte(start.Hour()), hour}); err != nil {
		return err
	}
	if err := r.makePeriod(tx, made, day); err != nil {
		return err
	}
	return r.makePeriod(tx, made, month)
}

// putSlots adds figures to a record, which need not be there yet.
func putSlots(tx sealed.Tx, c sealed.Container[record], id string, slots ...slot) error {
	rec, err := c.Get(tx, id)
	if _, damaged := errors.AsType[*sealed.CorruptError](err); damaged {
		rec, err = record{}, nil // the store has reported it; what comes now replaces it
	}
	if err != nil && !errors.Is(err, sealed.ErrNotFound) {
		return err
	}
	for _, s := range slots {
		rec.put(s)
	}
	return c.Put(tx, id, rec)
}
