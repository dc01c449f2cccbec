package keys

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/visage-face/visage/internal/arena"
	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/event"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/rowkey"
)

// Root is the instance root key, from which the keys of bundles, logs and anchors are derived, and the document of the
// instance that it is wrapped in. A caller that uses the key holds the Root.
//
// The key has versions. What is sealed now is sealed under the current one; earlier ones, which are sealed under the
// current one in the document, open what is from before a rotation.
type Root struct {
	Instance format.ID // of the instance for ever

	engine   engine.Engine
	report   event.Report
	using    sync.RWMutex // held for reading while the key is used: Free waits for it
	versions atomic.Pointer[versions]
	// holds one token; taken while protectors or the key are changed, which takes calls of protectors
	changing chan struct{}
	// held for writing while the document and the key in memory are of two versions, else for reading while the
	// document is read or changed; taken after changing, and before transactions of the engine
	document sync.RWMutex

	// opens the versions up to one that another process has made; nil: the root is not open yet
	later    func(version uint32) error
	learning sync.Mutex // held while versions that another process has made are opened; taken last
	learned  time.Time  // when that was last tried; learning guards it
	unlearnt error      // why it then failed, if nobody answered; learning guards it

	mu       sync.Mutex           // guards all below
	holders  *holders             // those who hold the root now, and may use the version that is current now
	attached map[string]Protector // the sources of this process, by the name in the document
	ignored  []string             // the entries of protectors that were removed and are configured all the same
	opened   string               // the name of the protector that opened the root
}

// Why a rotation is refused.
var (
	ErrRotating    = errors.New("the rotation before is not finished")
	ErrLastVersion = errors.New("the root key has had all the versions that it can have")
)

// versions are all versions of a root key.
type versions struct {
	current uint32
	keys    []*arena.Buffer // of version n at n-1
}

// holders are those who began to hold the root while one version was current.
type holders struct {
	n       int
	retired bool          // there is a newer version: nobody is added any more
	gone    chan struct{} // closed when the last one has left a retired one
}

// NewRoot returns a root that is not open yet.
func NewRoot(eng engine.Engine, report event.Report) *Root {
	r := &Root{engine: eng, report: report, changing: make(chan struct{}, 1), holders: newHolders(),
		attached: map[string]Protector{}}
	r.changing <- struct{}{}
	return r
}

func newHolders() *holders { return &holders{gone: make(chan struct{})} }

// Hold keeps the key from being wiped until release is called.
func (r *Root) Hold() (release func()) {
	r.using.RLock()
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.holders
	h.n++
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if h.n--; h.retired && h.n == 0 {
			close(h.gone)
		}
		r.using.RUnlock()
	}
}

// Current returns the current version of the key, which the caller must hold, and neither keep nor change.
func (r *Root) Current() format.InstanceKey {
	v := r.versions.Load()
	return format.InstanceKey{Version: v.current, Key: v.keys[v.current-1].Bytes()}
}

// Of returns a version of the key, as Current does; nil: there is none. It is a format.InstanceKeys. A later version
// than the current one may be of another process that has rotated the key: then it is opened now. Errors: *BehindError.
func (r *Root) Of(version uint32) ([]byte, error) {
	v := r.versions.Load()
	if version > v.current && r.engine.Shared() && r.later != nil {
		err := r.later(version)
		if v = r.versions.Load(); version > v.current && err != nil {
			return nil, err
		}
	}
	if version < 1 || int(version) > len(v.keys) {
		return nil, nil
	}
	return v.keys[version-1].Bytes(), nil
}

// First returns the first version of the key, as Current does.
func (r *Root) First() []byte { return r.versions.Load().keys[0].Bytes() }

// Free wipes the key once it is not held any more.
func (r *Root) Free() {
	r.using.Lock()
	defer r.using.Unlock()
	if v := r.versions.Load(); v != nil {
		v.free()
	}
}

func (v *versions) free() {
	for _, key := range v.keys {
		if key != nil {
			key.Free()
		}
	}
}

// change takes the turn to change protectors or the key.
func (r *Root) change(ctx context.Context) (done func(), err error) {
	select {
	case <-r.changing:
		return func() { r.changing <- struct{}{} }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Row returns the row of the instance, which is not authenticated yet. Without one, empty says that there is no other
// row either.
func (r *Root) Row(ctx context.Context) (row []byte, empty bool, err error) {
	err = r.engine.View(ctx, func(rd engine.Reader) error {
		row, _, err = rd.Get(rowkey.OfSpace(format.ID{}, rowkey.Instance))
		if row = bytes.Clone(row); err != nil || row != nil {
			return err
		}
		empty = true
		for _, err := range rd.Scan([]byte{0}, format.MaxID[:]) {
			empty = false
			return err
		}
		return nil
	})
	return row, empty, err
}

func (r *Root) create(newest Format) (doc Instance, err error) {
	key, err := arena.New(format.KeySize)
	if err != nil {
		return doc, err
	}
	rand.Read(key.Bytes()) // never fails: the runtime ends the process instead
	r.versions.Store(&versions{current: 1, keys: []*arena.Buffer{key}})
	r.Instance = format.RandomID()
	return Instance{ID: r.Instance, Version: 1, Commitment: format.RootKeyCommitment(key.Bytes(), r.Instance),
		Format: newest, Made: now()}, nil
}

// openVersions takes over the current key and opens the earlier ones with it.
func openVersions(doc Instance, current *arena.Buffer) (_ *versions, err error) {
	v := &versions{current: doc.Version, keys: make([]*arena.Buffer, doc.Version)}
	v.keys[doc.Version-1] = current
	defer func() {
		if err != nil {
			v.keys[doc.Version-1] = nil // it is the caller's
			v.free()
		}
	}()
	root := format.InstanceKey{Version: doc.Version, Key: current.Bytes()}
	for _, f := range doc.Former {
		if f.Version < 1 || f.Version >= doc.Version || v.keys[f.Version-1] != nil {
			return nil, fmt.Errorf("%w: a former root key of version %d", format.ErrMalformed, f.Version)
		}
		key, err := arena.New(format.KeySize)
		if err != nil {
			return nil, err
		}
		v.keys[f.Version-1] = key
		if err := format.OpenFormer(key.Bytes(), root, doc.ID, f.Version, f.Sealed); err != nil {
			return nil, fmt.Errorf("open version %d of the root key: %w", f.Version, err)
		}
	}
	for i, key := range v.keys {
		if key == nil {
			return nil, fmt.Errorf("%w: version %d of the root key is missing", format.ErrMalformed, i+1)
		}
	}
	return v, nil
}

// Read reads the document of the instance and authenticates it. The root key must be open.
func (r *Root) Read(ctx context.Context) (doc Instance, err error) {
	r.document.RLock()
	defer r.document.RUnlock()
	err = r.engine.View(ctx, func(from engine.Reader) error {
		doc, err = r.read(from)
		return err
	})
	return doc, err
}

func (r *Root) read(from engine.Reader) (doc Instance, err error) {
	row, _, err := from.Get(rowkey.OfSpace(format.ID{}, rowkey.Instance))
	if err != nil {
		return doc, err
	}
	if seen, err := decodeInstance(row); err == nil && seen.Version > r.Current().Version {
		if _, err := r.Of(seen.Version); err != nil {
			return doc, err
		}
	}
	err = format.CheckInstance(r.Current().Key, row)
	if err == nil {
		doc, err = decodeInstance(row)
	}
	if err != nil {
		return doc, r.report.Corrupt(&event.CorruptError{What: "instance", Err: err})
	}
	return doc, nil
}

// Change changes the document of the instance, durably. Another process may have changed it since it was read: change
// gets it as it is now, and an error of change leaves it so.
func (r *Root) Change(ctx context.Context, change func(*Instance) error) error {
	return r.ChangeIn(ctx, func(_ engine.Reader, doc *Instance) error { return change(doc) })
}

// ChangeIn is Change, where change may read other rows, on which it depends whether this is committed.
func (r *Root) ChangeIn(ctx context.Context, change func(engine.Reader, *Instance) error) error {
	r.document.RLock()
	defer r.document.RUnlock()
	return engine.CommitAndWait(ctx, r.engine, format.ID{}, func(w engine.Writer) error {
		doc, err := r.read(w)
		if err != nil {
			return err
		}
		if err := change(w, &doc); err != nil {
			return err
		}
		value, err := r.Seal(doc)
		if err != nil {
			return err
		}
		return w.Put(rowkey.OfSpace(format.ID{}, rowkey.Instance), value)
	})
}

// Seal makes the row of the instance out of its document.
func (r *Root) Seal(doc Instance) (format.Sealed, error) { return sealInstance(r.Current().Key, doc) }

func sealInstance(root []byte, doc Instance) (format.Sealed, error) {
	raw, err := cbor.Marshal(doc)
	if err != nil {
		return format.Sealed{}, err
	}
	return format.AuthInstance(root, raw), nil
}
