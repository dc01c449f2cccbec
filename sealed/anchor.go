package sealed

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/visage-face/visage/internal/durable"
	"github.com/visage-face/visage/internal/owned"
	"github.com/visage-face/visage/sealed/internal/event"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/rowkey"
)

const (
	// anchorEvery and anchorCommits bound the window in which going back is not seen.
	anchorEvery   = time.Minute
	anchorCommits = 1_000
)

// anchorDoc is a state of a space that it must not fall behind.
type anchorDoc struct {
	Space    format.ID  `cbor:"1,keyasint"`
	Sequence uint64     `cbor:"2,keyasint"` // of the root container's head
	Head     format.Sum `cbor:"3,keyasint"` // SHA-256 of that row
	Bundle   uint64     `cbor:"4,keyasint"` // sequence of the bundle
}

// anchors are the newest states of spaces, kept outside the engine. Without a file they last as long as the process.
type anchors struct {
	dir    string // empty: there are none
	file   string
	accept bool // take what is older

	writing sync.Mutex // held while the file is written; taken before mu

	mu      sync.Mutex // guards all below
	known   map[SpaceID]anchorDoc
	changed bool // since the file was written
	commits int  // since the last round

	wake chan struct{}
}

func newAnchors(accept bool) *anchors {
	return &anchors{accept: accept, known: map[SpaceID]anchorDoc{}, wake: make(chan struct{}, 1)}
}

// openAnchors reads the file of anchors in a directory. One that is not there is the beginning, and is reported.
func (s *Store) openAnchors(dir string) error {
	if dir == "" {
		return nil
	}
	if err := durable.MkdirAll(dir); err != nil {
		return fmt.Errorf("make the directory of anchors: %w", err)
	}
	s.anchors.dir = dir
	s.anchors.file = filepath.Join(dir, SpaceID(s.instance).String())
	const maxAnchors = 256 << 20 // bytes: millions of spaces
	value, err := owned.ReadSecret(s.anchors.file, maxAnchors)
	if errors.Is(err, fs.ErrNotExist) {
		s.report(Event{Kind: AnchorMissing, Note: s.anchors.file})
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the anchors: %w", err)
	}
	raw, err := format.OpenAnchor(s.root.Bytes(), s.instance, value)
	var list []anchorDoc
	if err == nil {
		if decodeErr := format.Strict.Unmarshal(raw, &list); decodeErr != nil {
			err = fmt.Errorf("%w: %v", format.ErrMalformed, decodeErr)
		}
	}
	if err != nil {
		if s.anchors.accept {
			s.report(Event{Kind: RollbackAccepted, Err: err, Note: s.anchors.file})
			return nil
		}
		return s.report.Corrupt(&CorruptError{What: "anchors", Err: err})
	}
	for _, a := range list {
		s.anchors.known[SpaceID(a.Space)] = a
	}
	return nil
}

// checkAnchor refuses a state of a space that is older than its anchor, or another of the same age.
func (s *Store) checkAnchor(id SpaceID, bundle uint64, head *format.Head, row []byte) error {
	s.anchors.mu.Lock()
	a, ok := s.anchors.known[id]
	s.anchors.mu.Unlock()
	if !ok || head.Sequence > a.Sequence && bundle >= a.Bundle ||
		head.Sequence == a.Sequence && bundle >= a.Bundle && sha256.Sum256(row) == a.Head {
		return nil
	}
	err := &RollbackError{Space: id, Stored: head.Sequence, Anchored: a.Sequence, StoredBundle: bundle,
		AnchoredBundle: a.Bundle}
	if !s.anchors.accept {
		return err
	}
	s.anchors.forget(id)
	s.report(Event{Kind: RollbackAccepted, Space: id, Err: err})
	return nil
}

// AcceptRollback lets a space open whose state is older than its anchor, as after a restore. Whoever calls it keeps a
// record of that.
func (s *Store) AcceptRollback(id SpaceID) { s.anchors.forget(id) }

func (a *anchors) forget(id SpaceID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, ok := a.known[id]
	delete(a.known, id)
	a.changed = a.changed || ok
}

func (a *anchors) set(doc anchorDoc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.known[SpaceID(doc.Space)] = doc
	a.changed = true
}

// committed counts transactions, and wakes whoever anchors when there are many.
func (a *anchors) committed(transactions int) {
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

// anchorForever brings the anchors up to date.
func (s *Store) anchorForever(ctx context.Context) {
	tick := time.NewTicker(anchorEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-s.anchors.wake:
		}
		if err := s.Anchor(ctx); err != nil && ctx.Err() == nil {
			s.report(Event{Kind: AnchorDelayed, Err: err})
		}
	}
}

// Anchor brings what is kept outside the engine up to date: every open space's newest state. Run does it once a minute,
// after every 1,000 commits, and Close does it at the end.
func (s *Store) Anchor(ctx context.Context) error {
	s.mu.Lock()
	var spaces []*Space
	for _, sp := range s.spaces {
		spaces = append(spaces, sp)
	}
	s.mu.Unlock()
	var failed error
	for _, sp := range spaces {
		if err := sp.anchor(ctx); err != nil && !isGone(err) {
			failed = errors.Join(failed, fmt.Errorf("anchor space %s: %w", sp.id, err))
		}
	}
	return errors.Join(failed, s.writeAnchors())
}

// isGone reports whether an error says that a space cannot be looked into now, which is no failure of anchoring.
func isGone(err error) bool {
	return errors.Is(err, ErrLocked) || errors.Is(err, ErrNoSpace) || errors.Is(err, ErrGrace) ||
		errors.Is(err, ErrClosed)
}

// anchor lets the root container know the newest states of the containers that changed, and anchors its head.
func (sp *Space) anchor(ctx context.Context) error {
	sp.mu.Lock()
	changed := sp.dirty
	if len(changed) == 0 || sp.ring == nil {
		sp.mu.Unlock()
		return nil
	}
	sp.dirty = map[format.ID]bool{}
	sp.mu.Unlock()
	sp.keying.Lock() // so that the bundle is of the same time
	defer sp.keying.Unlock()
	var doc anchorDoc
	err := sp.updateAlone(ctx, func(t *txn) error {
		for id := range changed {
			if id == rowkey.Root {
				continue
			}
			tr, err := t.tree(id)
			if event.IsCorrupt(err) {
				continue // it is told of to whoever reads it
			}
			if err != nil {
				return err
			}
			if tr != nil && tr.head.Sequence > tr.floor {
				if err := t.root.set(id, format.Secret{Key: tr.key, Version: tr.head.Sequence}); err != nil {
					return err
				}
			}
		}
		if err := t.flush(); err != nil {
			return err
		}
		doc = anchorDoc{Space: format.ID(sp.id), Sequence: t.root.head.Sequence, Head: sha256.Sum256(t.root.row)}
		return nil
	})
	if err != nil {
		sp.note(0, nil, keysOf(changed), committed{})
		return err
	}
	bundle, err := (&Bundle{sp}).read(ctx)
	if err == nil {
		doc.Bundle = bundle.Sequence
		sp.store.anchors.set(doc)
	}
	return err
}

func keysOf(set map[format.ID]bool) (list []format.ID) {
	for id := range set {
		list = append(list, id)
	}
	return list
}

// writeAnchors writes the file when something has changed.
func (s *Store) writeAnchors() error {
	a := s.anchors
	a.writing.Lock()
	defer a.writing.Unlock()
	a.mu.Lock()
	var list []anchorDoc
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
		s.using.RLock()
		value := format.AuthAnchor(s.root.Bytes(), s.instance, raw)
		s.using.RUnlock()
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
