package audit

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"slices"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
)

// reader is what can be read of a stream; sealed.Log says more.
type reader interface {
	Next(ctx context.Context) (uint64, error)
	From(ctx context.Context, first uint64) iter.Seq2[sealed.Entry, error]
}

// History is what the log has on disk: it lists, exports and verifies, and writes nothing. It is safe for concurrent
// use.
type History struct {
	store                       *sealed.Store
	entries, checkpoints, nodes reader
	origin                      string
	recent                      recent
}

// Read returns the history of a store, without opening the log for writing: a broken log can be read too.
func Read(store *sealed.Store) *History {
	return newHistory(store, store.Log(entriesName), store.Log(checkpointsName), store.Log(nodesName))
}

func newHistory(store *sealed.Store, entries, checkpoints, nodes reader) *History {
	return &History{store: store, entries: entries, checkpoints: checkpoints, nodes: nodes,
		origin: "visage/audit/" + store.Instance()}
}

// Query says which entries are wanted. Zero fields do not filter.
type Query struct {
	Resource visage.ResourceID
	Kinds    []Kind // any of them; empty: all
	Outcome  Outcome
	Actor    string    // the actor's id
	KeyID    string    // without the version
	From, To time.Time // From counts in, To does not
	After    uint64    // begins behind this entry, in the direction of the listing: the cursor of pages
	Oldest   bool      // oldest first; else newest first
	Limit    int       // entries at most; 0: all
}

func (q Query) matches(e Entry) bool {
	return (q.Resource == visage.ResourceID{} || q.Resource == e.Resource) &&
		(len(q.Kinds) == 0 || slices.Contains(q.Kinds, e.Kind)) &&
		(q.Outcome == "" || q.Outcome == e.Outcome) &&
		(q.Actor == "" || q.Actor == e.Actor.ID) &&
		(q.KeyID == "" || q.KeyID == e.KeyID) &&
		(q.From.IsZero() || !e.Time.Before(q.From)) &&
		(q.To.IsZero() || e.Time.Before(q.To))
}

// everything reports whether the query filters nothing.
func (q Query) everything() bool {
	return q.Resource == visage.ResourceID{} && len(q.Kinds) == 0 && q.Outcome == "" && q.Actor == "" &&
		q.KeyID == "" && q.From.IsZero() && q.To.IsZero()
}

// chunk is how many entries are read in one view of the store: a slow reader must not hold one open.
const chunk = 1000

// Entries yields the entries that q asks for, as they were when the loop began. The listing is a walk over the log and
// takes time with its length; it needs memory for a thousand entries. Page takes bounded time. An error ends it; see
// BrokenError.
func (h *History) Entries(ctx context.Context, q Query) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		next, err := h.entries.Next(ctx)
		if err != nil {
			yield(Entry{}, broken(0, err))
			return
		}
		found := 0
		for sequences := range chunks(q, next) {
			entries, err := h.read(ctx, sequences.first, sequences.count)
			for i := range entries {
				e := entries[i]
				if !q.Oldest {
					e = entries[len(entries)-1-i]
				}
				if !q.matches(e) {
					continue
				}
				if !yield(e, nil) {
					return
				}
				if found++; found == q.Limit {
					return
				}
			}
			if err != nil {
				yield(Entry{}, err)
				return
			}
		}
	}
}

// span is count entries from first on.
type span struct {
	first uint64
	count int
}

// chunks yields the spans of a log whose next entry is next, in the order of q.
func chunks(q Query, next uint64) iter.Seq[span] {
	return func(yield func(span) bool) {
		most := uint64(chunk)
		if q.Limit > 0 && q.everything() {
			most = min(most, uint64(q.Limit)) // the first span has all that is wanted
		}
		low, high := uint64(1), next // [low, high)
		if q.Oldest && q.After > 0 {
			low = q.After + 1
		} else if q.After > 0 {
			high = min(q.After, next)
		}
		for low < high {
			n := min(most, high-low)
			s := span{low, int(n)}
			if q.Oldest {
				low += n
			} else {
				high -= n
				s.first = high
			}
			if !yield(s) {
				return
			}
		}
	}
}

// read returns count entries from first on, and with an error those before it.
func (h *History) read(ctx context.Context, first uint64, count int) ([]Entry, error) {
	entries := make([]Entry, 0, count)
	for raw, err := range h.entries.From(ctx, first) {
		at := first + uint64(len(entries))
		if err != nil {
			return entries, broken(at, err)
		}
		e, err := decodeEntry(raw.Data)
		if err == nil && e.Sequence != at {
			err = fmt.Errorf("it says that it is entry %d", e.Sequence)
		}
		if err != nil {
			return entries, &BrokenError{Sequence: at, Err: err}
		}
		if entries = append(entries, e); len(entries) == count {
			return entries, nil
		}
	}
	return entries, &BrokenError{Sequence: first + uint64(len(entries)), Err: errMissing}
}

// Export writes the entries that q asks for to w, one JSON object a line, and returns how many. The names of the fields
// do not change; docs/formats/audit.md has them.
func (h *History) Export(ctx context.Context, w io.Writer, q Query) (int, error) {
	buffered := bufio.NewWriter(w)
	enc := json.NewEncoder(buffered)
	enc.SetEscapeHTML(false)
	n := 0
	for e, err := range h.Entries(ctx, q) {
		if err == nil {
			err = enc.Encode(e)
		}
		if err != nil {
			// what was read before the break is worth having
			if flushErr := buffered.Flush(); flushErr != nil {
				return n, fmt.Errorf("export audit log: %w", flushErr)
			}
			return n, fmt.Errorf("export audit log: %w", err)
		}
		n++
	}
	if err := buffered.Flush(); err != nil {
		return n, fmt.Errorf("export audit log: %w", err)
	}
	return n, nil
}
