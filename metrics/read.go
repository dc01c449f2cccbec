package metrics

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
)

// maxPoints limits what one call of Read returns: a day by the minute, and a little more.
const maxPoints = 1500

// maxSpan limits the time between the first point and the last, which is of no use beyond what is kept.
const maxSpan = 10 * 365 * 24 * time.Hour

// Series is the figures of a resource or of the instance over time.
type Series struct {
	Step   time.Duration // of each point
	Points []Point       // one for each step, in the order of time, without gaps
	Total  Point         // of all points together
}

// Point is the figures of a span of time.
type Point struct {
	Start time.Time // UTC, a multiple of the step
	// Missing: nothing is known of the span. The server did not run, the figures could not be stored, they are too
	// old, or the span is in the future. Of a resource for which nothing happened, all figures are zero instead.
	Missing  bool
	Requests uint64       // answered
	Failed   uint64       // of Requests, those answered with a status of 500 or above
	Errors   []ErrorCount // answers with a status of 400 or above, by code, the most frequent first
	// Percentiles of the time from the first byte of a request to the last of its answer; zero without requests. See
	// PercentileError.
	P50, P95, P99 time.Duration
	Checks        Checks
	GalleryBytes  uint64 // the most memory that galleries took at the end of a minute
	DiskUsed      uint64 // the most that the data's volume held at the end of a minute, in bytes; of the instance alone
	DiskTotal     uint64 // the size of that volume, in bytes; of the instance alone
}

// ErrorCount is how often an error code was answered. The code is a word of the contracts, a status where there is
// none, or Other.
type ErrorCount struct {
	Code  string
	Count uint64
}

// Checks is how often customers' keys were asked, by their answers. Of the instance, resources under the same key count
// once.
type Checks struct{ OK, Refused, Unanswered uint64 }

// Read returns the figures of a resource, or of the instance for the zero id, from one time to another. The times are
// rounded to multiples of step, outwards. The last minute is there when it has ended.
//
// step is rounded up to whole minutes, and to whole hours when from is before the seven days that are kept by the
// minute: Series.Step says which it is. A call returns at most 1500 points, within ten years; more are an error. Of a
// purged or unknown resource, all figures are zero.
func (r *Recorder) Read(ctx context.Context, of visage.ResourceID, from, to time.Time, step time.Duration) (
	Series, error,
) {
	unit := time.Minute
	if from.Before(firstKeptDay(time.Now())) {
		unit = time.Hour
	}
	step = max((step+unit-1)/unit, 1) * unit
	from, to = from.UTC().Truncate(step), to.UTC().Add(step-1).Truncate(step)
	if span := to.Sub(from); span <= 0 || span > maxSpan || span/step > maxPoints {
		return Series{}, fmt.Errorf("read metrics: from %s to %s in steps of %v: want 1 to %d points within 10 years",
			from.Format(time.RFC3339), to.Format(time.RFC3339), step, maxPoints)
	}
	q := &query{of: of, from: from, to: to, step: step}
	q.points = make([]*figures, to.Sub(from)/step)
	q.covered = make([]bool, len(q.points))
	if err := r.collect(ctx, q); err != nil {
		return Series{}, fmt.Errorf("read metrics: %w", err)
	}
	return q.series(), nil
}

// Rates returns how many requests a minute each of some resources had from one time to another, on average over the
// minutes of which the instance has figures; nil: it has none. from must be within the seven days that are kept by the
// minute. It reads less of a resource than Read does.
func (r *Recorder) Rates(ctx context.Context, of []visage.ResourceID, from, to time.Time) ([]float64, error) {
	q := &query{from: from.UTC().Truncate(time.Minute), to: to.UTC(), step: time.Minute}
	if span := q.to.Sub(q.from); span <= 0 || span/q.step > maxPoints || from.Before(firstKeptDay(time.Now())) {
		return nil, fmt.Errorf("read rates: from %s to %s: want 1 to %d minutes of the last days",
			from.Format(time.RFC3339), to.Format(time.RFC3339), maxPoints)
	}
	q.covered = make([]bool, q.to.Sub(q.from)/q.step+1)
	totals := make([]uint64, len(of))
	instance := visage.ResourceID{}
	r.storing.RLock() // as in collect
	defer r.storing.RUnlock()
	err := r.space.View(ctx, func(tx sealed.Reader) error {
		clear(totals)
		if err := q.scan(tx, instance, q.cover); err != nil {
			return err
		}
		for i, id := range of {
			err := q.scan(tx, id, func(t time.Time, body []byte) error { return q.count(&totals[i], t, body) })
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read rates: %w", err)
	}
	for _, m := range r.pending[instance] {
		_ = q.cover(m.start, m.body) // it has no errors
	}
	for i, id := range of {
		for _, m := range r.pending[id] {
			if err := q.count(&totals[i], m.start, m.body); err != nil {
				return nil, fmt.Errorf("read rates: %w", err)
			}
		}
	}
	covered := 0
	for _, is := range q.covered {
		if is {
			covered++
		}
	}
	if covered == 0 {
		return nil, nil
	}
	rates := make([]float64, len(of))
	for i, n := range totals {
		rates[i] = float64(n) / float64(covered)
	}
	return rates, nil
}

// count adds the requests in the encoded figures of a moment, which begin with them.
func (q *query) count(total *uint64, t time.Time, body []byte) error {
	if _, ok := q.at(t); !ok {
		return nil
	}
	in := &reader{b: body}
	if *total = sum(*total, in.number()); in.bad {
		return errEncoding
	}
	return nil
}

// query is a call of Read or Rates, and what it has collected.
type query struct {
	of       visage.ResourceID
	from, to time.Time
	step     time.Duration
	points   []*figures // nil: nothing happened
	covered  []bool     // the instance has figures of a part of the point
}

// at returns the point of a moment.
func (q *query) at(t time.Time) (i int, ok bool) {
	if t.Before(q.from) || !t.Before(q.to) {
		return 0, false
	}
	return int(t.Sub(q.from) / q.step), true
}

// add adds the encoded figures of the resource at a moment.
func (q *query) add(t time.Time, body []byte) error {
	i, ok := q.at(t)
	if !ok {
		return nil
	}
	if q.points[i] == nil {
		q.points[i] = &figures{}
	}
	q.covered[i] = true
	if !q.points[i].addFrom(body) {
		return errEncoding
	}
	return nil
}

// cover notes that the instance has figures of a moment.
func (q *query) cover(t time.Time, _ []byte) error {
	if i, ok := q.at(t); ok {
		q.covered[i] = true
	}
	return nil
}

// collect reads what is stored and what is still in memory.
func (r *Recorder) collect(ctx context.Context, q *query) error {
	instance := visage.ResourceID{}
	r.storing.RLock() // or a minute that is being stored would be found twice, or not at all
	defer r.storing.RUnlock()
	err := r.space.View(ctx, func(tx sealed.Reader) error {
		if err := q.scan(tx, q.of, q.add); err != nil || q.of == instance {
			return err
		}
		return q.scan(tx, instance, q.cover)
	})
	if err != nil {
		return err
	}
	for _, m := range r.pending[q.of] {
		if err := q.add(m.start, m.body); err != nil {
			return err
		}
	}
	for _, m := range r.pending[instance] {
		_ = q.cover(m.start, m.body) // it has no errors
	}
	return nil
}

// scan visits the figures that are stored of a resource between from and to: hours if they suffice, else minutes. A
// damaged record is a gap: the store has reported it.
func (q *query) scan(tx sealed.Reader, of visage.ResourceID, visit func(time.Time, []byte) error) error {
	byHour := q.step%time.Hour == 0
	span, each := time.Hour, time.Minute // of a record and of its slots
	if byHour {
		span, each = 24*time.Hour, time.Hour
	}
	// From long ago and into the far future, not everything is looked for.
	now := time.Now()
	start, end := later(q.from, firstKeptMonth(now)).Truncate(span), now.Add(time.Hour)
	if q.to.Before(end) {
		end = q.to
	}
	for ; start.Before(end); start = start.Add(span) {
		var rec record
		var err error
		if byHour {
			rec, err = hours.In(start.Format(monthName)).Get(tx, dayID(of, start))
		} else {
			rec, err = minutes.In(start.Format(dayName)).Get(tx, hourID(of, start))
		}
		if _, damaged := errors.AsType[*sealed.CorruptError](err); damaged || errors.Is(err, sealed.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		for _, s := range rec.slots {
			if err := visit(start.Add(time.Duration(s.at)*each), s.body); err != nil {
				return err
			}
		}
	}
	return nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// series returns what was collected.
func (q *query) series() Series {
	s := Series{Step: q.step, Points: make([]Point, len(q.points))}
	var total, none figures
	missing := true
	for i, f := range q.points {
		if f == nil {
			f = &none
		}
		total.add(f)
		missing = missing && !q.covered[i]
		s.Points[i] = f.point(q.from.Add(time.Duration(i)*q.step), !q.covered[i])
	}
	s.Total = total.point(q.from, missing)
	return s
}

// point returns the figures for readers.
func (f *figures) point(start time.Time, missing bool) Point {
	p := Point{
		Start: start, Missing: missing, Requests: f.requests, Failed: f.failed,
		P50: f.latency.percentile(0.5), P95: f.latency.percentile(0.95), P99: f.latency.percentile(0.99),
		Checks: Checks{f.checks[CheckOK], f.checks[CheckRefused], f.checks[CheckUnanswered]},

		GalleryBytes: f.gauges[galleryBytes], DiskUsed: f.gauges[diskUsed], DiskTotal: f.gauges[diskTotal],
	}
	for _, c := range f.codes {
		p.Errors = append(p.Errors, ErrorCount{c.code, c.n})
	}
	slices.SortStableFunc(p.Errors, func(a, b ErrorCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.Code, b.Code))
	})
	return p
}
