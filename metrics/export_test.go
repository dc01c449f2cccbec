package metrics

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/visage-face/visage"
)

// Record is a stored record, for the tests that feed it bytes from outside.
type Record = record

// FirstFigures reads the first slot of a record as figures and returns their encoding.
func FirstFigures(r Record) (read, again []byte, ok bool) {
	if len(r.slots) == 0 {
		return nil, nil, false
	}
	var f figures
	if !f.addFrom(r.slots[0].body) {
		return nil, nil, false
	}
	return r.slots[0].body, f.appendTo(nil), true
}

// Fill stores figures of a resource and the instance for every minute from one time to another: a hundred requests, of
// which some failed.
func Fill(ctx context.Context, r *Recorder, id visage.ResourceID, from, to time.Time) error {
	random := rand.New(rand.NewPCG(1, 2))
	r.known[id] = false
	for t := from.UTC().Truncate(time.Minute); t.Before(to); t = t.Add(time.Minute) {
		m := &minute{start: t, resources: map[visage.ResourceID]*figures{id: {}}}
		for i := range 100 {
			o := Observation{Status: 200}
			if i%10 == 0 {
				o = Observation{Status: 400 + i, Code: fmt.Sprintf("SomeErrorCode%d", i)}
			}
			bucket := bucketOf(time.Duration(math.Exp(random.NormFloat64()) * 5e7))
			m.instance.observe(o, bucket)
			m.resources[id].observe(o, bucket)
		}
		before := r.dropped
		r.keep(ctx, m, t.Add(time.Minute).Truncate(time.Hour).After(t))
		if r.dropped != before {
			return errEncoding
		}
	}
	return nil
}

// EndMinute ends a minute now.
func (r *Recorder) EndMinute(ctx context.Context) { r.endMinute(ctx, false) }

// Know makes a Recorder take resources for existing ones.
func (r *Recorder) Know(ids []visage.ResourceID) {
	for _, id := range ids {
		r.known[id] = false
	}
}
