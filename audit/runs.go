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

// How runs are told. What fills the log at most, when somebody tries to, is maxRuns entries in firstSpan for each kind
// and outcome of what is refused.
const (
	// the first count of a run comes after this, and each further one after twice the time of the one before
	firstSpan  = time.Minute
	longSpan   = time.Hour // at most
	maxRuns    = 32        // runs of one kind that are told apart at a time, where anybody can begin one
	maxDone    = 256       // likewise of what was done: for that, somebody had to be proved
	runTick    = 5 * time.Second
	manyOthers = "others" // the operation of what is counted together because there are too many runs
)

// Runs writes events that may come in floods, such as refusals: the first of a run of events that differ in nothing but
// time and request at once, and the others as their number, again and again while the run lasts. It needs little memory
// whatever comes. It is safe for concurrent use.
type Runs struct {
	log *Log

	mu   sync.Mutex
	open map[string]*run // guarded by mu: by everything that tells runs apart
	of   map[string]int  // guarded by mu: how many of them there are of a kind and outcome
}

// run is events that are alike.
type run struct {
	event  Event // the first
	family string
	count  int       // those that were not told
	since  time.Time // of the first of these
	due    time.Time
	span   time.Duration
}

// NewRuns makes Runs that write to l. It starts nothing; see Run.
func NewRuns(l *Log) *Runs { return &Runs{log: l, open: map[string]*run{}, of: map[string]int{}} }

// Note takes an event and returns at once. While the log is behind, because the disk is full for example, events are
// counted, and told when it is not: nobody has to be kept from signing in by that. An error is a mistake of the caller,
// as that of Log.Note.
func (r *Runs) Note(ctx context.Context, e Event) error {
	now := time.Now()
	family := string(e.Kind) + " " + string(e.Outcome)
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
			Details: map[Detail]string{DetailOperation: manyOthers}}
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
	switch err := r.log.Note(ctx, e); {
	case errors.Is(err, ErrBehind):
		begun.count, begun.since = 1, now
	case err != nil:
		return err
	}
	r.open[key] = begun
	r.of[family]++
	return nil
}

// keyOf is everything of an event but its time and its request.
func keyOf(family string, e Event) string {
	parts := []string{family, e.Code, string(e.Actor.Kind), e.Actor.ID, e.Resource.String(), e.KeyID, e.KeyVersion}
	for _, k := range slices.Sorted(maps.Keys(e.Details)) {
		parts = append(parts, string(k), e.Details[k])
	}
	return strings.Join(parts, "\x00")
}

// Run tells of the runs until ctx ends, then of what is left of them, and returns nil or what kept it from that.
func (r *Runs) Run(ctx context.Context) error {
	tick := time.NewTicker(runTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return r.tell(context.WithoutCancel(ctx), time.Time{})
		case <-tick.C:
			if err := r.tell(ctx, time.Now()); err != nil && ctx.Err() == nil {
				r.log.log.ErrorContext(ctx, "repeated events not audited yet", "err", err)
			}
		}
	}
}

// tell writes the numbers of the runs that are due at a time, and forgets those in which nothing came any more; all of
// them at the zero time.
func (r *Runs) tell(ctx context.Context, now time.Time) error {
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
			e.Time, e.RequestID = time.Time{}, ""
			if e.Details = maps.Clone(e.Details); e.Details == nil {
				e.Details = map[Detail]string{}
			}
			e.Details[DetailCount] = strconv.Itoa(one.count)
			e.Details[DetailSince] = one.since.UTC().Format(time.RFC3339)
			if err := r.log.Note(ctx, e); err != nil {
				failures = append(failures, err) // its number is told later
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
