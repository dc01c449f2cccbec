package audit

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// How runs are counted. The most that a flood can add to the log is maxRuns entries in each firstSpan, for each family
// of what is refused: see familyOf.
const (
	firstSpan = time.Minute // until the first count of a run is written; each further one after twice the time before
	longSpan  = time.Hour   // at most
	maxRuns   = 32          // runs of one family at the same time, where anybody can begin one
	maxDone   = 256         // likewise of what was done: to begin one, a caller must have been authenticated
	runTick   = 5 * time.Second
	others    = "others" // DetailOperation of events that are counted together because there are too many runs
)

// runs counts events that may come in floods, such as refusals. Its memory is bounded by maxRuns and maxDone.
type runs struct {
	note func(context.Context, Event) error // Log.Note

	mu   sync.Mutex
	open map[string]*run // guarded by mu: by all fields in which runs differ
	of   map[string]int  // guarded by mu: how many there are of a family
}

// run is events that differ in nothing but time and request.
type run struct {
	event  Event // the first
	family string
	count  int       // of those that are not written yet
	since  time.Time // of the first of these
	due    time.Time
	span   time.Duration
}

func newRuns(note func(context.Context, Event) error) *runs {
	return &runs{note: note, open: map[string]*run{}, of: map[string]int{}}
}

func (r *runs) tally(ctx context.Context, e Event) error {
	now := time.Now()
	family := familyOf(e)
	key := keyOf(family, e)
	r.mu.Lock()
	defer r.mu.Unlock()
	at, known := r.open[key]
	most := maxRuns
	if e.Outcome == Done {
		most = maxDone
	}
	if !known && r.of[family] >= most {
		e = Event{Kind: e.Kind, Outcome: e.Outcome, Actor: Actor{Kind: Anonymous},
			Details: map[Detail]string{DetailOperation: others}}
		key = family
		at, known = r.open[key]
	}
	if known {
		if at.count++; at.count == 1 {
			at.since = now
		}
		return nil
	}
	begun := &run{event: e, family: family, due: now.Add(firstSpan), span: firstSpan}
	switch err := r.note(ctx, e); {
	case errors.Is(err, ErrBehind):
		begun.count, begun.since = 1, now
	case err != nil:
		return err
	}
	r.open[key] = begun
	r.of[family]++
	return nil
}

// familyOf is what events are bounded by together: kind and outcome and, so that strangers cannot push what an identity
// does, or what is tried on one, into the count of others, whether the event names somebody who exists.
func familyOf(e Event) string {
	family := string(e.Kind) + " " + string(e.Outcome)
	if e.Actor.Kind != Anonymous || e.Details[DetailSubject] != "" {
		family += " named"
	}
	return family
}

// keyOf is all of an event except its time and its request.
func keyOf(family string, e Event) string {
	parts := []string{family, e.Code, string(e.Actor.Kind), e.Actor.ID, e.Actor.Name, e.Resource.String(), e.KeyID,
		e.KeyVersion}
	for _, k := range slices.Sorted(maps.Keys(e.Details)) {
		parts = append(parts, string(k), e.Details[k])
	}
	return strings.Join(parts, "\x00")
}

// tell writes the counts of the runs that are due at a time, and ends runs without new events; at the zero time it does
// so for all runs, and ends them.
func (r *runs) tell(ctx context.Context, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var failures []error
	for key, one := range r.open {
		last := now.IsZero()
		if !last && now.Before(one.due) {
			continue
		}
		if one.count > 0 {
			e := one.event
			e.Time, e.RequestID, e.Details = time.Time{}, "", maps.Clone(e.Details)
			e.Set(DetailCount, strconv.Itoa(one.count))
			e.Set(DetailSince, one.since.UTC().Format(time.RFC3339))
			if err := r.note(ctx, e); err != nil {
				failures = append(failures, err) // the count is written later
				continue
			}
		}
		if one.count == 0 || last {
			delete(r.open, key)
			r.of[one.family]--
			continue
		}
		one.count = 0
		one.span = min(2*one.span, longSpan)
		one.due = now.Add(one.span)
	}
	return errors.Join(failures...)
}
