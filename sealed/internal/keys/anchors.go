package keys

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"

	"github.com/fxamacker/cbor/v2"

	"github.com/visage-face/visage/internal/durable"
	"github.com/visage-face/visage/internal/owned"
	"github.com/visage-face/visage/sealed/internal/event"
	"github.com/visage-face/visage/sealed/internal/format"
)

// ErrRollback is every *RollbackError.
var ErrRollback = errors.New("stored data is older than its anchor (possible rollback)")

// RollbackError says that a space's state is older than its anchor, or another of the same age: the data, or what
// belongs to one space, was put back from a copy. sealed.Spaces.AcceptRollback lets it open all the same. It is an
// ErrRollback.
type RollbackError struct {
	Space                        format.SpaceID
	Stored, Anchored             uint64 // sequence numbers of the root container
	StoredBundle, AnchoredBundle uint64 // sequence numbers of the bundle
}

// Error names both states.
func (e *RollbackError) Error() string {
	return fmt.Sprintf("%v: space %s has state %d (keys %d), where its anchor has seen %d (keys %d)", ErrRollback,
		e.Space, e.Stored, e.StoredBundle,
		e.Anchored, e.AnchoredBundle)
}

// Is makes it an ErrRollback.
func (e *RollbackError) Is(target error) bool { return target == ErrRollback }

const anchorCommits = 1_000 // transactions after which anchors are written, without waiting for the interval

// Anchor is a state of a space that it must not fall behind.
type Anchor struct {
	Space    format.ID  `cbor:"1,keyasint"`
	Sequence uint64     `cbor:"2,keyasint"` // of the root container's head
	Head     format.Sum `cbor:"3,keyasint"` // SHA-256 of that row
	Bundle   uint64     `cbor:"4,keyasint"` // sequence of the bundle
}

// Anchors are the newest states of spaces, kept outside the engine. Without a file they last as long as the process.
type Anchors struct {
	root   *Root
	report event.Report
	file   string // empty: there is none
	accept bool   // take what is older

	writing sync.Mutex // held while the file is written; taken before mu

	mu      sync.Mutex // guards all below
	known   map[format.SpaceID]Anchor
	changed bool // since the file was written
	commits int  // since the last round

	wake chan struct{}
}

// NewAnchors returns anchors that know nothing yet. accept says to take what is older than its anchor, and report it.
func NewAnchors(root *Root, accept bool, report event.Report) *Anchors {
	return &Anchors{root: root, accept: accept, report: report, known: map[format.SpaceID]Anchor{},
		wake: make(chan struct{}, 1)}
}

// Open reads the file of anchors in a directory; an empty name means that there is none. A file that is not there is
// the beginning, and is reported.
func (a *Anchors) Open(dir string) error {
	if dir == "" {
		return nil
	}
	if err := durable.MkdirAll(dir); err != nil {
		return fmt.Errorf("make the directory of anchors: %w", err)
	}
	a.file = filepath.Join(dir, format.SpaceID(a.root.Instance).String())
	const maxAnchors = 256 << 20 // bytes: millions of spaces
	value, err := owned.ReadSecret(a.file, maxAnchors)
	if errors.Is(err, fs.ErrNotExist) {
		a.report(event.Event{Kind: event.AnchorMissing, Note: a.file})
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the anchors: %w", err)
	}
	raw, err := format.OpenAnchor(a.root.Of, a.root.Instance, value)
	var list []Anchor
	if err == nil {
		if decodeErr := format.Strict.Unmarshal(raw, &list); decodeErr != nil {
			err = fmt.Errorf("%w: %v", format.ErrMalformed, decodeErr)
		}
	}
	if err != nil {
		if a.accept {
			a.report(event.Event{Kind: event.RollbackAccepted, Err: err, Note: a.file})
			return nil
		}
		return a.report.Corrupt(&event.CorruptError{What: "anchors", Err: err})
	}
	for _, doc := range list {
		a.known[format.SpaceID(doc.Space)] = doc
	}
	return nil
}

// Check refuses a state of a space that is older than its anchor, or another of the same age.
func (a *Anchors) Check(id format.SpaceID, bundle, sequence uint64, head []byte) error {
	known, ok := a.of(id)
	if !ok || sequence > known.Sequence && bundle >= known.Bundle ||
		sequence == known.Sequence && bundle >= known.Bundle && sha256.Sum256(head) == known.Head {
		return nil
	}
	err := &RollbackError{Space: id, Stored: sequence, Anchored: known.Sequence, StoredBundle: bundle,
		AnchoredBundle: known.Bundle}
	if !a.accept {
		return err
	}
	a.Forget(id)
	a.report(event.Event{Kind: event.RollbackAccepted, Space: id, Err: err})
	return nil
}

// CheckBundle refuses a bundle that is older than its anchor.
func (a *Anchors) CheckBundle(id format.SpaceID, bundle uint64) error {
	known, ok := a.of(id)
	if !ok || bundle >= known.Bundle || a.accept {
		return nil
	}
	return &RollbackError{Space: id, Stored: known.Sequence, Anchored: known.Sequence, StoredBundle: bundle,
		AnchoredBundle: known.Bundle}
}

func (a *Anchors) of(id format.SpaceID) (Anchor, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	known, ok := a.known[id]
	return known, ok
}

// Forget lets a space go back once.
func (a *Anchors) Forget(id format.SpaceID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, ok := a.known[id]
	delete(a.known, id)
	a.changed = a.changed || ok
}

// Set keeps a state.
func (a *Anchors) Set(doc Anchor) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.known[format.SpaceID(doc.Space)] = doc
	a.changed = true
}

// Committed counts transactions, and wakes the writer of anchors when there are many.
func (a *Anchors) Committed(transactions int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.commits += transactions; a.commits < anchorCommits {
		return
	}
	a.commits = 0
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// Due holds a token when there were many commits.
func (a *Anchors) Due() <-chan struct{} { return a.wake }

// Rewrite writes the file, whether or not something has changed. The caller must not hold the root.
func (a *Anchors) Rewrite() error {
	a.mu.Lock()
	a.changed = true
	a.mu.Unlock()
	return a.Write()
}

// Write writes the file if something has changed. The caller must not hold the root.
func (a *Anchors) Write() error {
	a.writing.Lock()
	defer a.writing.Unlock()
	a.mu.Lock()
	var list []Anchor
	for _, doc := range a.known {
		list = append(list, doc)
	}
	write := a.changed && a.file != ""
	a.changed = false
	a.mu.Unlock()
	if !write {
		return nil
	}
	raw, err := cbor.Marshal(list)
	if err == nil {
		release := a.root.Hold()
		value := format.AuthAnchor(a.root.Current(), a.root.Instance, raw)
		release()
		err = durable.WriteFile(a.file, value)
	}
	if err != nil {
		a.mu.Lock()
		a.changed = true
		a.mu.Unlock()
		return fmt.Errorf("write the anchors: %w", err)
	}
	return nil
}
