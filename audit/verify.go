package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/visage-face/visage/sealed"
)

// BrokenError is a log that does not fit together, and the first place where it does not.
type BrokenError struct {
	// the first entry that is missing, does not open, or that nothing vouches for any more; 0 for none
	Sequence   uint64
	Checkpoint uint64 // the number of the checkpoint that shows it, from 1; 0 for none
	Err        error  // how it is broken; never quotes an entry
}

// Error names the place and what was found there.
func (e *BrokenError) Error() string {
	switch {
	case e.Checkpoint > 0 && e.Sequence > 0:
		return fmt.Sprintf("the audit log is broken at checkpoint %d, entry %d: %v", e.Checkpoint, e.Sequence, e.Err)
	case e.Checkpoint > 0:
		return fmt.Sprintf("the audit log is broken at checkpoint %d: %v", e.Checkpoint, e.Err)
	case e.Sequence > 0:
		return fmt.Sprintf("the audit log is broken at entry %d: %v", e.Sequence, e.Err)
	}
	return fmt.Sprintf("the audit log is broken: %v", e.Err)
}

// Unwrap returns how it is broken.
func (e *BrokenError) Unwrap() error { return e.Err }

// The errors that a BrokenError wraps when the log was changed.
var (
	errMissing  = errors.New("the entry is missing")
	errChain    = errors.New("the entry does not follow the one before it")
	errRoot     = errors.New("the entries are not those that were signed")
	errShorter  = errors.New("the log is shorter than what was signed")
	errOrder    = errors.New("the checkpoint is not of a longer log than the one before it")
	errUnsigned = errors.New("the last checkpoint is missing")
)

// broken tells damage, which has a place, from a store that cannot be read.
func broken(sequence uint64, err error) error {
	if _, ok := errors.AsType[*sealed.CorruptError](err); ok {
		return &BrokenError{Sequence: sequence, Err: err}
	}
	return fmt.Errorf("read audit log: %w", err)
}

// brokenCheckpoint is broken for the checkpoint of a number.
func brokenCheckpoint(number uint64, err error) error {
	if _, ok := errors.AsType[*sealed.CorruptError](err); ok || errors.Is(err, errMissing) {
		return &BrokenError{Checkpoint: number, Err: err}
	}
	return fmt.Errorf("read checkpoints of the audit log: %w", err)
}

// Report is what Verify found to be whole.
type Report struct {
	Entries     uint64
	Checkpoints uint64
	Unsigned    uint64     // entries behind the last checkpoint, which only the chain holds
	Last        Checkpoint // zero when there is none
	// the public key that checkpoints are verified with, as golang.org/x/mod/sumdb/note spells it
	Verifier string
}

// Verify reads the whole log: every entry in its place, linked to the one before it, every checkpoint signed, and of
// the tree that the entries make. kept are checkpoints that were kept elsewhere, as Report.Last.Note has them: the log
// must hold what they were signed over, which shows that it was not put back to an earlier state and continued
// differently. The error is a *BrokenError with the first place that is broken, or says why the log cannot be read.
func (h *History) Verify(ctx context.Context, kept ...[]byte) (Report, error) {
	rec, err := readRecord(ctx, h.store, false)
	if errors.Is(err, sealed.ErrNotFound) {
		return Report{}, h.verifyEmpty(ctx, len(kept))
	}
	if err != nil {
		return Report{}, err
	}
	signer, text, err := newSigner(h.origin, rec.PrivateKey)
	if err != nil {
		return Report{}, err
	}
	w := walk{history: h, verifier: signer, tail: tail{last: genesis(h.store.Instance())}, whole: true,
		report: Report{Verifier: text}}
	if rec.Size > 0 {
		w.fixed = append(w.fixed, Checkpoint{Size: rec.Size, Root: hash(rec.Root)})
	}
	for i, msg := range kept {
		c, err := parseNote(msg, signer)
		if err != nil {
			return Report{}, fmt.Errorf("read kept checkpoint %d: %w", i+1, err)
		}
		w.fixed = append(w.fixed, c)
	}
	if err := w.run(ctx); err != nil {
		return w.report, err
	}
	if w.report.Last.Size < rec.Size {
		return w.report, &BrokenError{Checkpoint: w.report.Checkpoints + 1, Err: errUnsigned}
	}
	return w.report, nil
}

// verifyEmpty is Verify for a store that never had a log.
func (h *History) verifyEmpty(ctx context.Context, kept int) error {
	next, err := h.entries.Next(ctx)
	if err != nil {
		return broken(0, err)
	}
	if next > 1 || kept > 0 {
		return &BrokenError{Err: errors.New("the key of the log is missing")}
	}
	return nil
}

// walk is one pass over entries and checkpoints, in the order in which they were written.
type walk struct {
	history  *History
	verifier note.Verifier
	tail     tail
	report   Report
	fixed    []Checkpoint // what must hold at some size, from elsewhere
	ahead    []Checkpoint // read and not reached yet
	read     uint64       // checkpoints read
	stop     uint64       // the number of the first checkpoint that is not looked at; 0: not known yet
	drained  bool         // none is left to read

	whole  bool        // it begins with the first entry, so that the kept nodes can be held against the entries
	kept   uint64      // blocks of nodes that there were when this began
	leaves []tlog.Hash // of the block that is being read
	blocks edge        // over the blocks before it
	nodes  [][]byte    // records of nodes that were read and not reached yet
}

func (w *walk) run(ctx context.Context) error {
	// Checkpoints first: one that is made between the two is of entries that are there already.
	if err := w.more(ctx); err != nil {
		return err
	}
	nodes, err := w.history.nodes.Next(ctx)
	if err != nil {
		return brokenNodes(0, err)
	}
	w.kept = nodes - 1
	next, err := w.history.entries.Next(ctx)
	if err != nil {
		return broken(0, err)
	}
	for s := range chunks(Query{Oldest: true}, next) {
		if err := w.entries(ctx, s); err != nil {
			return err
		}
	}
	if len(w.ahead) == 0 {
		if err := w.more(ctx); err != nil {
			return err
		}
	}
	if len(w.ahead) > 0 {
		return &BrokenError{Sequence: next, Checkpoint: w.report.Checkpoints + 1, Err: errShorter}
	}
	for _, c := range w.fixed {
		if c.Size > w.tail.size {
			return &BrokenError{Sequence: next, Err: errShorter}
		}
	}
	if w.kept > w.tail.size/blockLeaves {
		return &BrokenError{Sequence: next, Err: errNodes}
	}
	w.report.Unsigned = w.tail.size - w.report.Last.Size
	return nil
}

// entries walks over one span.
func (w *walk) entries(ctx context.Context, s span) error {
	raw, readErr := gather(ctx, w.history.entries, s)
	for _, data := range raw {
		at := w.tail.size + 1
		e, err := decodeEntry(data)
		switch {
		case err != nil:
		case e.Sequence != at:
			err = fmt.Errorf("it says that it is entry %d", e.Sequence)
		case e.Previous != w.tail.last:
			err = errChain
		}
		if err != nil {
			return &BrokenError{Sequence: at, Err: err}
		}
		w.tail = w.tail.add(data)
		w.report.Entries++
		if err := w.reached(ctx); err != nil {
			return err
		}
		if err := w.block(ctx, data); err != nil {
			return err
		}
	}
	if readErr != nil {
		return broken(w.tail.size+1, readErr)
	}
	if len(raw) < s.count {
		return &BrokenError{Sequence: w.tail.size + 1, Err: errMissing}
	}
	return nil
}

// block takes one more entry, and holds the kept nodes of a block against its entries once all of them were read.
func (w *walk) block(ctx context.Context, data []byte) error {
	if !w.whole {
		return nil
	}
	if w.leaves = append(w.leaves, tlog.RecordHash(data)); len(w.leaves) < blockLeaves {
		return nil
	}
	n := w.tail.size/blockLeaves - 1
	var want block
	want, w.blocks = w.blocks.growBlock(n, w.leaves)
	w.leaves = w.leaves[:0]
	if n >= w.kept {
		return nil // they are made later
	}
	if len(w.nodes) == 0 {
		var err error
		w.nodes, err = gather(ctx, w.history.nodes, span{n + 1, int(min(chunk, w.kept-n))})
		if len(w.nodes) == 0 && err == nil {
			err = errMissing
		}
		if len(w.nodes) == 0 {
			return brokenNodes(n*blockLeaves+1, err)
		}
	}
	if !bytes.Equal(w.nodes[0], want.encode()) {
		return &BrokenError{Sequence: n*blockLeaves + 1, Err: errNodes}
	}
	w.nodes = w.nodes[1:]
	return nil
}

// reached holds the tree against everything that says what it must be at this size.
func (w *walk) reached(ctx context.Context) error {
	root := w.tail.edge.root()
	unsigned := w.report.Last.Size + 1 // the first entry that no checkpoint before this size holds
	if len(w.ahead) == 0 {
		if err := w.more(ctx); err != nil {
			return err
		}
	}
	if len(w.ahead) > 0 && w.ahead[0].Size == w.tail.size {
		if tlog.Hash(w.ahead[0].Root) != root {
			return &BrokenError{Sequence: unsigned, Checkpoint: w.report.Checkpoints + 1, Err: errRoot}
		}
		w.report.Checkpoints++
		w.report.Last, w.ahead = w.ahead[0], w.ahead[1:]
	}
	for _, c := range w.fixed {
		if c.Size == w.tail.size && tlog.Hash(c.Root) != root {
			return &BrokenError{Sequence: unsigned, Err: errRoot}
		}
	}
	return nil
}

// more reads the checkpoints that come next. Sizes that do not rise would never be reached.
func (w *walk) more(ctx context.Context) error {
	if w.drained {
		return nil
	}
	next, err := w.history.checkpoints.Next(ctx)
	if err != nil {
		return broken(0, err)
	}
	if w.stop == 0 {
		w.stop = next // what is signed while this runs is of entries it will not read
	}
	s := span{w.read + 1, int(min(chunk, w.stop-w.read-1))}
	raw, readErr := gather(ctx, w.history.checkpoints, s)
	last := w.report.Last.Size
	for _, data := range raw {
		w.read++
		c, _, err := decodeCheckpoint(data, w.verifier)
		if err == nil && c.Size <= last {
			err = errOrder
		}
		if err != nil {
			return &BrokenError{Checkpoint: w.read, Err: err}
		}
		last = c.Size
		w.ahead = append(w.ahead, c)
	}
	if readErr == nil && len(raw) < s.count {
		readErr = errMissing
	}
	if readErr != nil {
		return brokenCheckpoint(w.read+1, readErr)
	}
	w.drained = w.read+1 >= w.stop
	return nil
}

// gather returns the entries of a span of a stream: fewer when it ends or breaks before.
func gather(ctx context.Context, r reader, s span) ([][]byte, error) {
	if s.count == 0 {
		return nil, nil
	}
	all := make([][]byte, 0, s.count)
	for e, err := range r.From(ctx, s.first) {
		if err != nil {
			return all, err
		}
		if all = append(all, e.Data); len(all) == s.count {
			break
		}
	}
	return all, nil
}

// resume finds the end of the log for writing: the last checkpoint, and the entries behind it.
func (h *History) resume(ctx context.Context, verifier note.Verifier, rec record) (t tail, signed uint64, err error) {
	t = tail{last: genesis(h.store.Instance())}
	next, err := h.checkpoints.Next(ctx)
	if err != nil {
		return tail{}, 0, broken(0, err)
	}
	if next > 1 {
		raw, err := gather(ctx, h.checkpoints, span{next - 1, 1})
		if err == nil && len(raw) == 0 {
			err = errMissing
		}
		if err != nil {
			return tail{}, 0, brokenCheckpoint(next-1, err)
		}
		c, edge, err := decodeCheckpoint(raw[0], verifier)
		if err != nil {
			return tail{}, 0, &BrokenError{Checkpoint: next - 1, Err: err}
		}
		t.size, t.edge = c.Size, edge
		if t.last, err = h.link(ctx, c, next-1); err != nil {
			return tail{}, 0, err
		}
	}
	if signed = t.size; signed < rec.Size || signed == rec.Size && signed > 0 && !bytes.Equal(rec.Root, rootOf(t)) {
		return tail{}, 0, &BrokenError{Checkpoint: next, Err: errUnsigned}
	}
	w := walk{history: h, tail: t, drained: true}
	w.report.Last.Size = signed
	if next, err = h.entries.Next(ctx); err != nil {
		return tail{}, 0, broken(0, err)
	}
	for s := range chunks(Query{Oldest: true, After: signed}, next) {
		if err := w.entries(ctx, s); err != nil {
			return tail{}, 0, err
		}
	}
	return w.tail, signed, nil
}

// link returns the hash of the last entry under a checkpoint.
func (h *History) link(ctx context.Context, c Checkpoint, number uint64) (hash, error) {
	raw, err := gather(ctx, h.entries, span{c.Size, 1})
	if err != nil {
		return hash{}, broken(c.Size, err)
	}
	if len(raw) == 0 {
		return hash{}, &BrokenError{Sequence: c.Size, Checkpoint: number, Err: errShorter}
	}
	return entryHash(raw[0]), nil
}

func rootOf(t tail) []byte {
	root := t.edge.root()
	return root[:]
}
