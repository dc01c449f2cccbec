// Package audittest has a Recorder for the tests of the rooms that record events.
package audittest

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/visage-face/visage/audit"
)

// Recorder keeps the events of a test in memory. The zero Recorder is empty.
type Recorder struct {
	mu     sync.Mutex
	events []audit.Event // guarded by mu
	placed uint64        // guarded by mu: how many events there were
	err    error         // guarded by mu
}

// Append implements audit.Recorder. While the Recorder fails, it keeps nothing.
func (r *Recorder) Append(_ context.Context, events ...audit.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range events {
		if err := e.Check(); err != nil {
			return err
		}
	}
	if r.err == nil {
		r.events = append(r.events, events...)
		r.placed += uint64(len(events))
	}
	return r.err
}

// Place implements audit.Placer: events are numbered from 1. Concurrent calls may get the number of a later event.
func (r *Recorder) Place(ctx context.Context, e audit.Event) (uint64, error) {
	if err := r.Append(ctx, e); err != nil {
		return 0, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.placed, nil
}

// Tally implements audit.Recorder: it keeps every event.
func (r *Recorder) Tally(ctx context.Context, e audit.Event) error { return r.Append(ctx, e) }

// Fail makes the Recorder fail with err from now on; nil: it works again.
func (r *Recorder) Fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

// Events returns what was recorded since the last call of Events or Told.
func (r *Recorder) Events() []audit.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.events
	r.events = nil
	return all
}

// Count returns how many events of a kind and outcome there are that Events has not returned.
func (r *Recorder) Count(kind audit.Kind, outcome audit.Outcome) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if e.Kind == kind && e.Outcome == outcome {
			n++
		}
	}
	return n
}

// Told returns Words of Events.
func (r *Recorder) Told() []string { return Words(r.Events()) }

// Words returns events as "KIND OPERATION OUTCOME CODE"; an operation and the code of a refusal where there are such.
func Words(events []audit.Event) []string {
	var all []string
	for _, e := range events {
		words := []string{string(e.Kind), e.Details[audit.DetailOperation], string(e.Outcome), e.Code}
		words = slices.DeleteFunc(words, func(w string) bool { return w == "" })
		all = append(all, strings.Join(words, " "))
	}
	return all
}
