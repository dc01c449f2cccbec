package audit

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
	"unique"

	"github.com/visage-face/visage"
)

// How much a page may cost. An entry that is read from disk takes about 5 µs, one in memory about 10 ns.
const (
	maxRecent  = 100_000 // entries that are remembered: 10 MB
	catchUp    = 10_000  // entries that are read at once to remember them
	walkedPage = 2_000   // older entries that a page reads
	maxPage    = 1_000   // entries of a page
)

// recent remembers of the newest entries what a Query asks for, so that a page of events of one resource does not read
// the log. It follows the log when it is asked, and remembers older entries when pages have read them.
type recent struct {
	mu    sync.Mutex
	heads []head // guarded by mu: without gaps, oldest first
}

// head is what a Query asks of an entry.
type head struct {
	sequence                  uint64
	time                      time.Time
	resource                  visage.ResourceID
	kind, outcome, actor, key unique.Handle[string]
}

func headOf(e Entry) head {
	return head{
		sequence: e.Sequence, time: e.Time, resource: e.Resource, kind: unique.Make(string(e.Kind)),
		outcome: unique.Make(string(e.Outcome)), actor: unique.Make(e.Actor.ID), key: unique.Make(e.KeyID),
	}
}

// entry returns the entry as far as a Query looks at it.
func (h head) entry() Entry {
	return Entry{Sequence: h.sequence, Event: Event{
		Time: h.time, Resource: h.resource, Kind: Kind(h.kind.Value()), Outcome: Outcome(h.outcome.Value()),
		Actor: Actor{ID: h.actor.Value()}, KeyID: h.key.Value(),
	}}
}

// follow reads the entries that were appended since the last call, or the newest ones if those are too many.
func (r *recent) follow(ctx context.Context, h *History) error {
	next, err := h.entries.Next(ctx)
	if err != nil {
		return broken(0, err)
	}
	from := uint64(1)
	if n := len(r.heads); n > 0 {
		from = r.heads[n-1].sequence + 1
	}
	if from > next || next-from > catchUp {
		r.heads, from = nil, max(1, next-min(next, catchUp))
	}
	for s := range chunks(Query{Oldest: true, After: from - 1}, next) {
		entries, err := h.read(ctx, s.first, s.count)
		for _, e := range entries {
			r.heads = append(r.heads, headOf(e))
		}
		if err != nil {
			return err
		}
	}
	if over := len(r.heads) - maxRecent; over > 0 {
		r.heads = slices.Clone(r.heads[over:])
	}
	return nil
}

// extend remembers entries that a page has read, if they end just before the oldest one that is remembered.
func (r *recent) extend(entries []Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(entries) == 0 || len(r.heads) == 0 || len(r.heads)+len(entries) > maxRecent ||
		entries[len(entries)-1].Sequence+1 != r.heads[0].sequence {
		return
	}
	older := make([]head, 0, len(entries)+len(r.heads))
	for _, e := range entries {
		older = append(older, headOf(e))
	}
	r.heads = append(older, r.heads...)
}

// findOldest returns the sequences of the oldest entries above a place that q asks for, at most limit, oldest first,
// and the last entry that it looked at. more reports whether it ended because of the limit.
func (r *recent) findOldest(q Query, above uint64, limit int) (found []uint64, last uint64, more bool) {
	last = above
	for _, h := range r.heads {
		if h.sequence <= above {
			continue
		}
		if len(found) == limit {
			return found, last, true
		}
		last = h.sequence
		if q.matches(h.entry()) {
			found = append(found, h.sequence)
		}
	}
	return found, last, false
}

// find returns the sequences of the newest entries below a place that q asks for, at most limit, newest first, and the
// last entry that it looked at. more reports whether it ended because of the limit.
func (r *recent) find(q Query, below uint64, limit int) (found []uint64, rest uint64, more bool) {
	rest = below
	for _, h := range slices.Backward(r.heads) {
		if h.sequence >= below {
			continue
		}
		if len(found) == limit {
			return found, rest, true
		}
		rest = h.sequence
		if q.matches(h.entry()) {
			found = append(found, h.sequence)
		}
	}
	return found, rest, false
}

// Page returns entries that q asks for, at most q.Limit and at most 1,000, in bounded time: it finds them among the
// newest entries of the log in memory, and of those behind it reads at most 2,000. So a page may have fewer entries
// than there are, or none. next is where the following page begins, as its Query.After; 0: there is none. The first
// page after a start reads 10,000 entries; the entries that further pages of the newest entries read are remembered
// too, up to 100,000. Errors: see BrokenError.
func (h *History) Page(ctx context.Context, q Query) (page []Entry, next uint64, err error) {
	if q.Limit < 1 || q.Limit > maxPage {
		q.Limit = maxPage
	}
	if q.Oldest {
		return h.oldestPage(ctx, q)
	}
	h.recent.mu.Lock()
	err = h.recent.follow(ctx, h)
	below, end := q.After, uint64(1)
	if n := len(h.recent.heads); n > 0 {
		end = h.recent.heads[n-1].sequence + 1
	}
	if below == 0 || below > end {
		below = end
	}
	found, rest, more := h.recent.find(q, below, q.Limit)
	h.recent.mu.Unlock()
	if err != nil {
		return nil, 0, fmt.Errorf("read audit log: %w", err)
	}
	slices.Reverse(found)
	if page, err = h.readEach(ctx, found); err != nil {
		return nil, 0, err
	}
	slices.Reverse(page)
	if more {
		return page, rest, nil
	}
	return h.walkPage(ctx, q, page, rest)
}

// readEach reads entries, given in the order of the log.
func (h *History) readEach(ctx context.Context, sequences []uint64) (all []Entry, err error) {
	for len(sequences) > 0 {
		n := 1 // entries that follow each other are read together
		for n < len(sequences) && sequences[n] == sequences[0]+uint64(n) {
			n++
		}
		entries, err := h.read(ctx, sequences[0], n)
		if err != nil {
			return nil, fmt.Errorf("read audit log: %w", err)
		}
		all, sequences = append(all, entries...), sequences[n:]
	}
	return all, nil
}

// oldestPage is Page for the oldest entries first.
func (h *History) oldestPage(ctx context.Context, q Query) (page []Entry, next uint64, err error) {
	h.recent.mu.Lock()
	err = h.recent.follow(ctx, h)
	remembered := uint64(1)
	if len(h.recent.heads) > 0 {
		remembered = h.recent.heads[0].sequence
	}
	h.recent.mu.Unlock()
	if err != nil {
		return nil, 0, fmt.Errorf("read audit log: %w", err)
	}
	last := q.After
	for end := min(remembered, last+1+walkedPage); last+1 < end; {
		entries, err := h.read(ctx, last+1, int(min(chunk, end-last-1)))
		if err != nil {
			return nil, 0, fmt.Errorf("read audit log: %w", err)
		}
		for _, e := range entries {
			if len(page) == q.Limit {
				return page, last, nil
			}
			last = e.Sequence
			if q.matches(e) {
				page = append(page, e)
			}
		}
	}
	if last+1 < remembered {
		return page, last, nil
	}
	h.recent.mu.Lock()
	found, last, more := h.recent.findOldest(q, last, q.Limit-len(page))
	h.recent.mu.Unlock()
	entries, err := h.readEach(ctx, found)
	if err != nil {
		return nil, 0, err
	}
	if !more {
		last = 0
	}
	return append(page, entries...), last, nil
}

// walkPage goes on with a page on disk, below an entry.
func (h *History) walkPage(ctx context.Context, q Query, page []Entry, below uint64) ([]Entry, uint64, error) {
	for last := max(1, below-min(below, walkedPage)); below > last; {
		count := min(chunk, below-last)
		entries, err := h.read(ctx, below-count, int(count))
		if err != nil {
			return nil, 0, fmt.Errorf("read audit log: %w", err)
		}
		h.recent.extend(entries)
		for _, e := range slices.Backward(entries) {
			if len(page) == q.Limit {
				return page, below, nil
			}
			below = e.Sequence
			if q.matches(e) {
				page = append(page, e)
			}
		}
	}
	if below <= 1 {
		return page, 0, nil
	}
	return page, below, nil
}
