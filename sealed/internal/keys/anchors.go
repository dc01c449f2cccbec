package keys

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/fxamacker/cbor/v2"

	"github.com/visage-face/visage/internal/durable"
	"github.com/visage-face/visage/internal/owned"
	"github.com/visage-face/visage/sealed/internal/event"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keystore"
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
	// Made is that of the bundle: an anchor of a space that was dropped says nothing of one of the same id.
	Made []byte `cbor:"5,keyasint,omitempty"`
}

// behind reports whether a state is older than another one of the same space.
func (a Anchor) behind(b Anchor) bool {
	return a.Sequence < b.Sequence || a.Sequence == b.Sequence && a.Bundle < b.Bundle
}

// Anchors are the newest states of spaces, kept outside the engine. Without a file they last as long as the process.
type Anchors struct {
	root   *Root
	report event.Report
	file   string           // empty: there is none
	each   string           // a directory with a file for each state, where processes share them; empty: they do not
	in     keystore.Anchors // where a file would not do; nil: they are in files
	accept bool             // take what is older

	writing sync.Mutex // held while the file is written; taken before mu

	mu      sync.Mutex // guards all below
	known   map[format.SpaceID]Anchor
	moved   map[format.SpaceID]bool // since their files were written
	changed bool                    // since the file was written
	commits int                     // since the last round

	wake chan struct{}
}

// NewAnchors returns anchors that know nothing yet. accept says to take what is older than its anchor, and report it.
func NewAnchors(root *Root, accept bool, report event.Report) *Anchors {
	return &Anchors{root: root, accept: accept, report: report, known: map[format.SpaceID]Anchor{},
		moved: map[format.SpaceID]bool{}, wake: make(chan struct{}, 1)}
}

// Open reads the anchors in a directory; an empty name means that there is none. One without anchors is the beginning,
// and is reported. shared says that other processes use the directory too.
func (a *Anchors) Open(dir string, shared bool) error {
	if dir == "" {
		return nil
	}
	if err := durable.MkdirAll(dir); err != nil {
		return fmt.Errorf("make the directory of anchors: %w", err)
	}
	a.file = filepath.Join(dir, format.SpaceID(a.root.Instance).String())
	each := a.file + ".shared"
	list, err := a.read(a.file)
	missing := errors.Is(err, fs.ErrNotExist)
	if err == nil || missing {
		var more []Anchor
		more, err = a.readEach(each, "")
		missing, list = missing && errors.Is(err, fs.ErrNotExist), append(list, more...)
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	if err == nil && shared {
		a.each = each
		err = durable.MkdirAll(each)
	}
	switch {
	case event.IsCorrupt(err) && a.accept:
		a.report(event.Event{Kind: event.RollbackAccepted, Err: err, Note: a.file})
		return nil
	case err != nil:
		if e, ok := errors.AsType[*event.CorruptError](err); ok {
			return a.report.Corrupt(e)
		}
		return err
	case missing:
		a.report(event.Event{Kind: event.AnchorMissing, Note: a.file})
	}
	for _, doc := range list {
		a.keep(doc)
	}
	return nil
}

// OpenIn uses the anchors in a key store. One without anchors is the beginning, and is reported under its name.
func (a *Anchors) OpenIn(ctx context.Context, in keystore.Anchors, name string) error {
	a.in = in
	spaces, err := in.Anchored(ctx)
	if err != nil {
		return fmt.Errorf("list the anchors: %w", err)
	}
	if len(spaces) == 0 {
		a.report(event.Event{Kind: event.AnchorMissing, Note: name})
	}
	return nil
}

// keep keeps a state unless a newer one of the space is known.
func (a *Anchors) keep(doc Anchor) bool {
	known, ok := a.known[format.SpaceID(doc.Space)]
	if ok && bytes.Equal(known.Made, doc.Made) && !known.behind(doc) {
		return false
	}
	a.known[format.SpaceID(doc.Space)] = doc
	return true
}

// read reads a file of anchors. Errors: fs.ErrNotExist, *CorruptError, which is not reported.
func (a *Anchors) read(file string) (list []Anchor, err error) {
	const maxAnchors = 256 << 20 // bytes: millions of spaces
	value, err := owned.ReadSecret(file, maxAnchors)
	if err != nil {
		return nil, fmt.Errorf("read the anchors: %w", err)
	}
	return a.open(value)
}

// open opens a stored list of states. Error: *CorruptError, which is not reported.
func (a *Anchors) open(value []byte) (list []Anchor, err error) {
	raw, err := format.OpenAnchor(a.root.Of, a.root.Instance, value)
	if err == nil {
		if decodeErr := format.Strict.Unmarshal(raw, &list); decodeErr != nil {
			err = fmt.Errorf("%w: %v", format.ErrMalformed, decodeErr)
		}
	}
	if event.IsOutage(err) {
		return nil, err
	}
	if err != nil {
		return nil, &event.CorruptError{What: "anchors", Err: err}
	}
	return list, nil
}

// readEach reads the files of states whose names begin with a prefix. One that goes meanwhile was replaced by a newer
// one, which may have come too late to be listed: then it lists again.
func (a *Anchors) readEach(dir, prefix string) (list []Anchor, err error) {
	for {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		list = nil
		for _, e := range entries {
			if durable.IsUnfinished(e.Name()) || !strings.HasPrefix(e.Name(), prefix) {
				continue
			}
			var some []Anchor
			if some, err = a.read(filepath.Join(dir, e.Name())); err != nil {
				break
			}
			list = append(list, some...)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return list, err
		}
	}
}

// fetch reads the state of a space from the key store, with its stored form; nil: there is none.
func (a *Anchors) fetch(ctx context.Context, id format.SpaceID) (doc Anchor, value []byte, err error) {
	value, err = a.in.Anchor(ctx, format.ID(id))
	if errors.Is(err, keystore.ErrNotFound) {
		return Anchor{}, nil, nil
	}
	if err != nil {
		return Anchor{}, nil, fmt.Errorf("read the anchor: %w", err)
	}
	list, err := a.open(value)
	if err == nil && (len(list) != 1 || list[0].Space != format.ID(id)) {
		err = &event.CorruptError{What: "anchors", Err: fmt.Errorf("%w: not of this space", format.ErrMalformed)}
	}
	if err != nil {
		return Anchor{}, value, err
	}
	return list[0], value, nil
}

// Check refuses a state of a space that is older than its anchor, or another of the same age. left is what Left
// returned before anything of the state was read.
func (a *Anchors) Check(
	ctx context.Context, id format.SpaceID, doc Doc, sequence uint64, head []byte, left []Anchor,
) error {
	bundle := doc.Sequence
	known, ok := a.of(id, doc, left)
	if !ok || sequence > known.Sequence && bundle >= known.Bundle ||
		sequence == known.Sequence && bundle >= known.Bundle && sha256.Sum256(head) == known.Head {
		return nil
	}
	err := &RollbackError{Space: id, Stored: sequence, Anchored: known.Sequence, StoredBundle: bundle,
		AnchoredBundle: known.Bundle}
	if !a.accept {
		return err
	}
	a.Forget(ctx, id)
	a.report(event.Event{Kind: event.RollbackAccepted, Space: id, Err: err})
	return nil
}

// CheckBundle refuses a bundle that is older than its anchor.
func (a *Anchors) CheckBundle(ctx context.Context, id format.SpaceID, doc Doc) error {
	left, err := a.Left(ctx, id)
	if err != nil {
		return err
	}
	known, ok := a.of(id, doc, left)
	if !ok || doc.Sequence >= known.Bundle || a.accept {
		return nil
	}
	return &RollbackError{Space: id, Stored: known.Sequence, Anchored: known.Sequence, StoredBundle: doc.Sequence,
		AnchoredBundle: known.Bundle}
}

// Left returns the anchors of a space that other processes have left.
func (a *Anchors) Left(ctx context.Context, id format.SpaceID) (left []Anchor, err error) {
	switch {
	case a.in != nil:
		var other Anchor
		var value []byte
		if other, value, err = a.fetch(ctx, id); err == nil && value != nil {
			left = []Anchor{other}
		}
	case a.each != "":
		left, err = a.readEach(a.each, prefixOf(id))
		if err != nil && !event.IsCorrupt(err) && !event.IsOutage(err) { // its volume fails, or is not there
			err = &keystore.OutageError{Place: filepath.Dir(a.each), Err: err}
		}
	}
	if e, ok := errors.AsType[*event.CorruptError](err); ok && a.accept {
		return nil, nil
	} else if ok {
		err = a.report.Corrupt(e)
	}
	return left, err
}

// of returns the anchor of a space with a bundle, the newest that any process has left.
func (a *Anchors) of(id format.SpaceID, doc Doc, others []Anchor) (Anchor, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, other := range others {
		if bytes.Equal(other.Made, doc.Made) {
			a.keep(other)
		}
	}
	known, ok := a.known[id]
	return known, ok && bytes.Equal(known.Made, doc.Made)
}

// prefixOf returns what the names of the files of a space's states begin with.
func prefixOf(id format.SpaceID) string { return format.ID(id).String() + "-" }

// All returns the anchors of all spaces.
func (a *Anchors) All(ctx context.Context) (all []Anchor, err error) {
	if a.in == nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		return slices.Collect(maps.Values(a.known)), nil
	}
	spaces, err := a.in.Anchored(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the anchors: %w", err)
	}
	for _, space := range spaces {
		doc, value, err := a.fetch(ctx, format.SpaceID(space))
		if err != nil {
			return nil, err
		}
		if value != nil {
			all = append(all, doc)
		}
	}
	return all, nil
}

// Forget lets a space go back once.
func (a *Anchors) Forget(ctx context.Context, id format.SpaceID) {
	a.mu.Lock()
	_, ok := a.known[id]
	delete(a.known, id)
	delete(a.moved, id)
	a.changed = a.changed || ok
	a.mu.Unlock()
	if a.in != nil { // what stays is read anew with the next check, or is of a space that was dropped
		ctx = context.WithoutCancel(ctx)
		if value, err := a.in.Anchor(ctx, format.ID(id)); err == nil {
			_ = a.in.SetAnchor(ctx, format.ID(id), value, nil)
		}
		return
	}
	if a.each == "" {
		return
	}
	entries, _ := os.ReadDir(a.each) // what stays is older than all that follows, or of a space that was dropped
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefixOf(id)) {
			_ = os.Remove(filepath.Join(a.each, e.Name()))
		}
	}
}

// Set keeps a state.
func (a *Anchors) Set(doc Anchor) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.keep(doc) {
		a.moved[format.SpaceID(doc.Space)], a.changed = true, true
	}
}

// Knows reports whether the state of a space that has a sequence number is kept, or a newer one.
func (a *Anchors) Knows(id format.SpaceID, sequence uint64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	known, ok := a.known[id]
	return ok && known.Sequence >= sequence
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
func (a *Anchors) Rewrite(ctx context.Context) error {
	if a.in != nil {
		spaces, err := a.in.Anchored(ctx)
		if err != nil {
			return fmt.Errorf("list the anchors: %w", err)
		}
		for _, space := range spaces {
			doc, value, err := a.fetch(ctx, format.SpaceID(space))
			if err != nil && !event.IsCorrupt(err) { // which is found when the space is opened
				return err
			}
			if err == nil && value != nil {
				a.mu.Lock()
				a.keep(doc)
				a.mu.Unlock()
			}
		}
	}
	a.mu.Lock()
	a.changed = true
	for id := range a.known {
		a.moved[id] = true
	}
	a.mu.Unlock()
	return a.Write(ctx)
}

// Write writes the file if something has changed. The caller must not hold the root.
func (a *Anchors) Write(ctx context.Context) error {
	a.writing.Lock()
	defer a.writing.Unlock()
	if a.each != "" || a.in != nil {
		return a.writeEach(ctx)
	}
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
	if err := a.write(a.file, list); err != nil {
		a.mu.Lock()
		a.changed = true
		a.mu.Unlock()
		return err
	}
	return nil
}

func (a *Anchors) write(file string, list []Anchor) error {
	value, err := a.seal(list)
	if err == nil {
		err = durable.WriteFile(file, value)
	}
	if err != nil {
		return fmt.Errorf("write the anchors: %w", err)
	}
	return nil
}

// seal returns the stored form of a list of states.
func (a *Anchors) seal(list []Anchor) ([]byte, error) {
	raw, err := cbor.Marshal(list)
	if err != nil {
		return nil, err
	}
	defer a.root.Hold()()
	return format.AuthAnchor(a.root.Current(), a.root.Instance, raw), nil
}

// store puts a state into the key store, unless a newer one of the space is there.
func (a *Anchors) store(ctx context.Context, doc Anchor) error {
	id := format.SpaceID(doc.Space)
	for {
		there, from, err := a.fetch(ctx, id)
		if err != nil && !(event.IsCorrupt(err) && a.accept) {
			return err
		}
		if err == nil && from != nil && bytes.Equal(there.Made, doc.Made) && !there.behind(doc) {
			version, err := format.RootVersion(from)
			release := a.root.Hold()
			current := a.root.Current().Version
			release()
			if doc.behind(there) || err == nil && version == current {
				return nil
			}
		}
		value, err := a.seal([]Anchor{doc})
		if err != nil {
			return err
		}
		err = a.in.SetAnchor(ctx, doc.Space, from, value)
		if !errors.Is(err, keystore.ErrChanged) {
			return err
		}
	}
}

// storing is how many states are put into the key store at the same time.
const storing = 8

// storeAll puts states into the key store. The first one that cannot be put there ends the rest: a store that does not
// answer costs the time of one call, and not that of all.
func (a *Anchors) storeAll(ctx context.Context, list []Anchor) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var all sync.WaitGroup
	var mu sync.Mutex // guards failed
	var failed error
	next := make(chan Anchor)
	for range min(storing, len(list)) {
		all.Go(func() {
			for doc := range next {
				err := ctx.Err()
				if err == nil {
					err = a.store(ctx, doc)
				}
				if err == nil {
					continue
				}
				a.mu.Lock()
				a.moved[format.SpaceID(doc.Space)] = true
				a.mu.Unlock()
				mu.Lock()
				if failed == nil {
					failed = fmt.Errorf("write the anchor of space %s: %w", format.SpaceID(doc.Space), err)
				}
				mu.Unlock()
				stop()
			}
		})
	}
	for _, doc := range list {
		next <- doc
	}
	close(next)
	all.Wait()
	return failed
}

// writeEach writes the states that moved, each into a file of its own, and then removes the files of older ones of the
// same space. So the newest state that any process has seen stands, in whatever order they write: no file is changed
// into one of an older state.
func (a *Anchors) writeEach(ctx context.Context) error {
	a.mu.Lock()
	var list []Anchor
	for id := range a.moved {
		list = append(list, a.known[id])
	}
	clear(a.moved)
	a.changed = false
	a.mu.Unlock()
	if a.in != nil {
		return a.storeAll(ctx, list)
	}
	var failed error
	for _, doc := range list {
		id := format.SpaceID(doc.Space)
		name := fmt.Sprintf("%s%016x-%016x", prefixOf(id), doc.Sequence, doc.Bundle)
		err := a.write(filepath.Join(a.each, name), []Anchor{doc})
		var entries []os.DirEntry
		if err == nil {
			entries, err = os.ReadDir(a.each)
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), prefixOf(id)) && e.Name() < name {
				if removed := os.Remove(filepath.Join(a.each, e.Name())); !errors.Is(removed, fs.ErrNotExist) {
					err = errors.Join(err, removed)
				}
			}
		}
		if err != nil {
			a.mu.Lock()
			a.moved[id] = true
			a.mu.Unlock()
			failed = errors.Join(failed, err)
		}
	}
	return failed
}
