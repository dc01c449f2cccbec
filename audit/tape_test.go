package audit_test

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"testing"

	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/sealed"
)

// tape is an append-only stream that a test can cut, splice and break. It stands for whoever has the instance root and
// so gets past the sealing of the store.
type tape struct {
	mu     sync.Mutex
	data   [][]byte
	before error // what Append fails with, having written nothing
	after  error // what Append fails with, having written everything
}

func (s *tape) Append(ctx context.Context, fn func(uint64) ([][]byte, error)) error {
	return s.Extend(ctx, func(first uint64, _ sealed.Since) ([][]byte, error) { return fn(first) })
}

func (s *tape) Extend(ctx context.Context, fn func(uint64, sealed.Since) ([][]byte, error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.before != nil {
		return s.before
	}
	data, err := fn(uint64(len(s.data))+1, func(first uint64) iter.Seq2[sealed.Entry, error] {
		return (&tape{data: s.data}).From(ctx, first)
	})
	if err != nil {
		return err
	}
	s.data = append(s.data, data...)
	return s.after
}

func (s *tape) Next(context.Context) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(len(s.data)) + 1, nil
}

func (s *tape) From(_ context.Context, first uint64) iter.Seq2[sealed.Entry, error] {
	s.mu.Lock()
	data := slices.Clone(s.data)
	s.mu.Unlock()
	return func(yield func(sealed.Entry, error) bool) {
		for i := max(first, 1); i <= uint64(len(data)); i++ {
			if !yield(sealed.Entry{Sequence: i, Data: data[i-1]}, nil) {
				return
			}
		}
	}
}

func (s *tape) breakWith(before, after error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before, s.after = before, after
}

// tapedLog is a log whose streams are tapes.
type tapedLog struct {
	store                *sealed.Store
	entries, checkpoints *tape
	nodes                *tape
	log                  *audit.Log
}

func newTapedLog(t testing.TB) *tapedLog {
	t.Helper()
	r := &tapedLog{store: newStore(t), entries: &tape{}, checkpoints: &tape{}, nodes: &tape{}}
	r.log = must[*audit.Log](t)(r.open(t))
	return r
}

func (r *tapedLog) streams() audit.Streams {
	return audit.Streams{Entries: r.entries, Checkpoints: r.checkpoints, Nodes: r.nodes}
}

func (r *tapedLog) open(t testing.TB) (*audit.Log, error) {
	return audit.OpenOn(t.Context(), audit.Config{Store: r.store}, r.streams())
}

// history reads tapes that are not the log's own.
func (r *tapedLog) history(entries, checkpoints [][]byte) *audit.History {
	return audit.ReadOn(audit.Config{Store: r.store},
		audit.Streams{Entries: &tape{data: entries}, Checkpoints: &tape{data: checkpoints}})
}

// TestEveryTamperingIsFoundAtItsPlace makes a log of 40 entries with a checkpoint every 10 and does to it what somebody
// might.
func TestEveryTamperingIsFoundAtItsPlace(t *testing.T) {
	r := newTapedLog(t)
	signed := map[uint64]audit.Checkpoint{}
	for n := 1; n <= 40; n += 10 {
		appendN(t, r.log, n, n+9)
		mustDo(t, r.log.Sign(t.Context()))
		last := must[audit.Report](t)(r.log.Verify(t.Context())).Last
		signed[last.Size] = last
	}
	appendN(t, r.log, 41, 45)
	setFloor := func(size uint64) { mustDo(t, audit.SetFloor(t.Context(), r.store, signed[size])) }
	// another continuation of the first 20, by somebody with the signing key
	forked := &tapedLog{store: r.store, entries: &tape{data: slices.Clone(r.entries.data[:20])},
		checkpoints: &tape{data: slices.Clone(r.checkpoints.data[:2])}, nodes: &tape{}}
	setFloor(20)
	forked.log = must[*audit.Log](t)(forked.open(t))
	appendN(t, forked.log, 1001, 1010)
	mustDo(t, forked.log.Sign(t.Context()))
	appendN(t, forked.log, 1011, 1020)
	mustDo(t, forked.log.Sign(t.Context()))
	setFloor(40)
	kept := signed[40].Note
	strange := newTapedLog(t) // another instance
	appendN(t, strange.log, 1, 45)
	mustDo(t, strange.log.Sign(t.Context()))

	e, c := r.entries.data, r.checkpoints.data
	edited := func(all [][]byte, i, at int) [][]byte {
		out := slices.Clone(all)
		out[i] = slices.Clone(out[i])
		if at < 0 {
			at += len(out[i])
		}
		out[i][at] ^= 1
		return out
	}
	join := func(parts ...[][]byte) [][]byte { return slices.Concat(parts...) }
	for _, x := range []struct {
		name                 string
		entries, checkpoints [][]byte
		sequence, checkpoint uint64 // 0 and 0: whole
	}{
		{"untouched", e, c, 0, 0},
		{"first removed", e[1:], c, 1, 0},
		{"one removed", join(e[:16], e[17:]), c, 17, 0},
		{"two swapped", join(e[:5], e[6:7], e[5:6], e[7:]), c, 6, 0},
		{"one repeated", join(e[:6], e[5:]), c, 7, 0},
		{"place edited", edited(e, 12, 11), c, 13, 0},
		{"link edited", edited(e, 12, 20), c, 13, 0},
		{"content edited", edited(e, 12, -10), c, 14, 0},
		{"last signed edited", edited(e, 39, -10), c, 31, 4},
		{"unsigned edited", edited(e, 42, -10), c, 44, 0},
		{"format changed", edited(e, 12, 3), c, 13, 0},
		{"one emptied", join(e[:12], [][]byte{nil}, e[13:]), c, 13, 0},
		{"cut to a checkpoint", e[:30], c, 31, 4},
		{"cut between checkpoints", e[:35], c, 36, 4},
		{"all cut", nil, c, 1, 1},
		{"cut with its checkpoints", e[:30], c[:3], 31, 0},
		{"last checkpoint removed", e, c[:3], 0, 4},
		{"first checkpoint removed", e, c[1:], 0, 0}, // harmless: the next one holds what it held
		{"checkpoints removed", e, nil, 0, 1},
		{"checkpoints swapped", e, join(c[1:2], c[:1], c[2:]), 0, 2},
		{"checkpoint repeated", e, join(c, c[3:]), 0, 5},
		{"signature edited", e, edited(c, 1, 200), 0, 2},
		{"edge edited", e, edited(c, 1, -1), 0, 2},
		{"forked", forked.entries.data, c, 21, 3},
		{"forked with checkpoints of the fork", forked.entries.data, forked.checkpoints.data, 31, 0},
		{"entries of the fork spliced in", join(e[:25], forked.entries.data[25:30], e[30:]), c, 26, 0},
		{"of another instance", strange.entries.data, c, 1, 0},
		{"checkpoints of another instance", e, strange.checkpoints.data, 0, 1},
	} {
		report, err := r.history(x.entries, x.checkpoints).Verify(t.Context())
		checkBroken(t, x.name, err, x.sequence, x.checkpoint)
		if x.sequence+x.checkpoint == 0 && report.Entries != 45 {
			t.Errorf("%s: %d entries, want 45", x.name, report.Entries)
		}
	}

	// Somebody who can write everything, the record in the operator's space included, is found by a checkpoint kept
	// elsewhere.
	setFloor(0)
	for _, x := range []struct {
		name                 string
		entries, checkpoints [][]byte
		sequence             uint64
	}{
		{"older log put back", e[:30], c[:3], 31},
		{"forked with its checkpoints", forked.entries.data, forked.checkpoints.data, 31},
	} {
		h := r.history(x.entries, x.checkpoints)
		if _, err := h.Verify(t.Context()); err != nil {
			t.Errorf("%s: %v, want that only the kept checkpoint shows it", x.name, err)
		}
		_, err := h.Verify(t.Context(), kept)
		checkBroken(t, x.name, err, x.sequence, 0)
	}
	if _, err := r.log.Verify(t.Context(), must[audit.Report](t)(strange.log.Verify(t.Context())).
		Last.Note); err == nil {
		t.Error("a kept checkpoint of another instance was taken")
	}
}

func checkBroken(t *testing.T, name string, err error, sequence, checkpoint uint64) {
	t.Helper()
	if sequence == 0 && checkpoint == 0 {
		if err != nil {
			t.Errorf("%s: %v, want a whole log", name, err)
		}
		return
	}
	broken, ok := errors.AsType[*audit.BrokenError](err)
	if !ok || broken.Sequence != sequence || broken.Checkpoint != checkpoint {
		t.Errorf("%s: %v (%+v), want it broken at entry %d, checkpoint %d", name, err, broken, sequence, checkpoint)
	}
}

// TestOpenRefusesABrokenEnd: the log does not go on behind something that is broken.
func TestOpenRefusesABrokenEnd(t *testing.T) {
	for name, damage := range map[string]func(*tapedLog){
		"entry cut":          func(r *tapedLog) { r.entries.data = r.entries.data[:9] },
		"unsigned removed":   func(r *tapedLog) { r.entries.data = slices.Delete(r.entries.data, 11, 12) },
		"unsigned edited":    func(r *tapedLog) { r.entries.data[11][len(r.entries.data[11])-9] ^= 1 },
		"signed edited":      func(r *tapedLog) { r.entries.data[9][len(r.entries.data[9])-9] ^= 1 },
		"checkpoint removed": func(r *tapedLog) { r.checkpoints.data = nil },
		"checkpoint edited":  func(r *tapedLog) { r.checkpoints.data[0][100] ^= 1 },
	} {
		r := newTapedLog(t)
		appendN(t, r.log, 1, 10)
		mustDo(t, r.log.Sign(t.Context()))
		appendN(t, r.log, 11, 15)
		damage(r)
		_, err := r.open(t)
		if _, ok := errors.AsType[*audit.BrokenError](err); !ok {
			t.Errorf("%s: %v, want a broken log", name, err)
		}
	}
}

// counted is a true stream whose transactions are counted. Only one caller appends at a time.
type counted struct {
	*sealed.Log
	appends int
}

func (c *counted) Append(ctx context.Context, fn func(uint64) ([][]byte, error)) error {
	c.appends++
	return c.Log.Append(ctx, fn)
}
