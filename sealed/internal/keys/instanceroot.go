package keys

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"

	"github.com/fxamacker/cbor/v2"

	"github.com/visage-face/visage/internal/arena"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/event"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/rowkey"
)

// Instance is the one document that is not encrypted, because what opens everything else is wrapped in it.
type Instance struct {
	ID         format.ID      `cbor:"1,keyasint"`
	Version    uint32         `cbor:"2,keyasint"` // of the root key; 1 until it can be rotated
	Commitment []byte         `cbor:"3,keyasint"`
	Protectors []protectorDoc `cbor:"4,keyasint"`
	Format
}

// Format is that of a store, as its instance knows it.
type Format struct {
	Number uint32 `cbor:"5,keyasint,omitempty"` // zero: the store is from before there were formats
	Told   uint32 `cbor:"6,keyasint,omitempty"` // the format up to which migrations are in an audit log
	Since  string `cbor:"7,keyasint,omitempty"` // the first version of the program that knows the format
}

type protectorDoc struct {
	Name    string        `cbor:"1,keyasint"`
	Kind    string        `cbor:"2,keyasint"`
	Exposed bool          `cbor:"3,keyasint"`
	Ref     keysource.Ref `cbor:"4,keyasint"`
	Wrapped []byte        `cbor:"5,keyasint"`
}

// Protector is one way to wrap the instance root key.
type Protector struct {
	Name string // unique among the protectors of an instance, for example "file"
	Kind string // what sort of source it is
	// what wraps lies on the same machine in the clear: good enough against a stolen copy of the data alone
	Exposed bool
	Source  keysource.Source
}

// RootError says that the instance root could not be opened with any of the protectors that were given. It wraps what
// each of them said.
type RootError struct {
	Tried []ProtectorError
}

// ProtectorError is why one protector did not open the instance root.
type ProtectorError struct {
	Name string
	Err  error
}

// Error tells what each protector said; those sentences say what to do.
func (e *RootError) Error() string {
	s := "the instance root key cannot be opened"
	for _, p := range e.Tried {
		s += fmt.Sprintf("; %s: %v", p.Name, p.Err)
	}
	return s
}

// Unwrap returns what each protector said.
func (e *RootError) Unwrap() []error {
	var errs []error
	for _, p := range e.Tried {
		errs = append(errs, p.Err)
	}
	return errs
}

// Root is the instance root key, from which the keys of bundles, logs and anchors are derived, and the document of the
// instance that it is wrapped in. Who uses the key holds the Root.
type Root struct {
	Instance format.ID // of the instance for ever

	engine engine.Engine
	report event.Report
	using  sync.RWMutex  // held for reading while key is used: Free waits for it
	key    *arena.Buffer // nil: not open
}

// NewRoot returns a root that is not open yet.
func NewRoot(eng engine.Engine, report event.Report) *Root { return &Root{engine: eng, report: report} }

// Hold keeps the key from being wiped until Release.
func (r *Root) Hold() { r.using.RLock() }

// Release ends what Hold began.
func (r *Root) Release() { r.using.RUnlock() }

// Key returns the key, which the caller must hold, and neither keep nor change.
func (r *Root) Key() []byte { return r.key.Bytes() }

// Free wipes the key once it is not held any more.
func (r *Root) Free() {
	r.using.Lock()
	defer r.using.Unlock()
	if r.key != nil {
		r.key.Free()
	}
}

// Open opens the root key with the first protector that answers, or makes one in an engine that is empty: the instance
// has the given format then. It returns the format that the instance has.
func (r *Root) Open(ctx context.Context, protectors []Protector, newest Format) (Format, error) {
	names := map[string]bool{}
	for _, p := range protectors {
		if names[p.Name] || p.Name == "" || p.Source == nil {
			return Format{},
				fmt.Errorf("protector %q of the instance root: names must be unique, and a source is needed", p.Name)
		}
		names[p.Name] = true
	}
	row, empty, err := r.Row(ctx)
	if err != nil {
		return Format{}, err
	}
	var doc Instance
	switch {
	case row != nil:
		doc, err = r.Unwrap(ctx, protectors, row)
	case empty:
		doc, err = r.create(newest)
	default:
		err = r.report.Corrupt(&event.CorruptError{What: "instance",
			Err: errors.New(
				"the store has rows, but the document of its root key is gone: restore the data directory from a " +
					"backup",
			)})
	}
	if err != nil {
		return Format{}, err
	}
	return doc.Format, r.protect(ctx, protectors, doc, row == nil)
}

// Row returns the row of the instance, which is not authenticated yet. Without one, empty says that there is no other
// row either.
func (r *Root) Row(ctx context.Context) (row []byte, empty bool, err error) {
	err = r.engine.View(ctx, func(rd engine.Reader) error {
		row, _, err = rd.Get(rowkey.OfSpace(format.ID{}, rowkey.Instance))
		if err != nil || row != nil {
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
	if r.key, err = arena.New(format.KeySize); err != nil {
		return doc, err
	}
	rand.Read(r.key.Bytes()) // never fails: the runtime ends the process instead
	id := format.RandomID()
	r.Instance = id
	return Instance{ID: id, Version: 1, Commitment: format.RootKeyCommitment(r.key.Bytes(), id),
			Format: newest},
		nil
}

// Unwrap opens the root key that a row of the instance holds: it tries the protectors that the instance knows, in the
// order they are given.
func (r *Root) Unwrap(ctx context.Context, protectors []Protector, row []byte) (Instance, error) {
	doc, err := decodeInstance(row)
	if err != nil {
		return Instance{}, r.report.Corrupt(&event.CorruptError{What: "instance", Err: err})
	}
	if r.key, err = arena.New(format.KeySize); err != nil {
		return Instance{}, err
	}
	var failed RootError
	for _, p := range protectors {
		err := fmt.Errorf("the data is not protected by %s; it is protected by %s", p.Name, protectorNames(doc))
		if at := doc.find(p.Name); at != nil {
			err = r.try(ctx, p, *at, doc)
		}
		if err == nil {
			if err := format.CheckInstance(r.key.Bytes(), row); err != nil {
				return Instance{}, r.report.Corrupt(&event.CorruptError{What: "instance", Err: err})
			}
			r.Instance = doc.ID
			r.report(event.Event{Kind: event.RootOpened, Note: p.Name})
			return doc, nil
		}
		failed.Tried = append(failed.Tried, ProtectorError{p.Name, err})
	}
	return Instance{}, &failed
}

// decodeInstance returns the document of an instance row, which is not authenticated yet.
func decodeInstance(row []byte) (doc Instance, err error) {
	raw, err := format.ReadInstance(row)
	if err != nil {
		return doc, err
	}
	if err := format.Strict.Unmarshal(raw, &doc); err != nil {
		return doc, fmt.Errorf("%w: %v", format.ErrMalformed, err)
	}
	return doc, nil
}

func (r *Root) try(ctx context.Context, p Protector, at protectorDoc, doc Instance) error {
	key, err := p.Source.Unwrap(ctx, at.Ref, at.Wrapped)
	if err != nil {
		return err
	}
	defer clear(key)
	committed := hmac.Equal(format.RootKeyCommitment(key, doc.ID), doc.Commitment)
	if len(key) != format.KeySize || !committed {
		return fmt.Errorf("%w: it opened something that is not this instance's root key", keysource.ErrWrong)
	}
	copy(r.key.Bytes(), key)
	return nil
}

// protect wraps the root key with the protectors that do not wrap it yet, and stores the document when anything is
// new.
func (r *Root) protect(ctx context.Context, protectors []Protector, doc Instance, created bool) error {
	changed := created
	for _, p := range protectors {
		if p.Exposed {
			r.report(event.Event{Kind: event.RootExposed, Note: p.Name})
		}
		if doc.find(p.Name) != nil {
			continue
		}
		blob, ref, err := p.Source.Wrap(ctx, r.key.Bytes())
		if err != nil {
			return fmt.Errorf("protect the instance root key with %s: %w", p.Name, err)
		}
		doc.Protectors = append(doc.Protectors,
			protectorDoc{Name: p.Name, Kind: p.Kind, Exposed: p.Exposed, Ref: ref, Wrapped: blob})
		r.report(event.Event{Kind: event.RootProtected, Note: p.Name})
		changed = true
	}
	if !changed {
		return nil
	}
	value, err := r.Seal(doc)
	if err != nil {
		return err
	}
	err = engine.CommitAndWait(ctx, r.engine, format.ID{}, func(w engine.Writer) error {
		return w.Put(rowkey.OfSpace(format.ID{}, rowkey.Instance), value)
	})
	if err == nil && created {
		r.report(event.Event{Kind: event.RootCreated})
	}
	return err
}

func (d *Instance) find(name string) *protectorDoc {
	for i := range d.Protectors {
		if d.Protectors[i].Name == name {
			return &d.Protectors[i]
		}
	}
	return nil
}

func protectorNames(d Instance) string {
	s := ""
	for i, p := range d.Protectors {
		if i > 0 {
			s += ", "
		}
		s += p.Name
	}
	return s
}

// Read reads the document of the instance and authenticates it. The root key must be open.
func (r *Root) Read(ctx context.Context) (doc Instance, err error) {
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
	err = format.CheckInstance(r.key.Bytes(), row)
	if err == nil {
		doc, err = decodeInstance(row)
	}
	if err != nil {
		return doc, r.report.Corrupt(&event.CorruptError{What: "instance", Err: err})
	}
	return doc, nil
}

// Change changes the document of the instance, durably.
func (r *Root) Change(ctx context.Context, change func(*Instance)) error {
	return engine.CommitAndWait(ctx, r.engine, format.ID{}, func(w engine.Writer) error {
		doc, err := r.read(w)
		if err != nil {
			return err
		}
		change(&doc)
		value, err := r.Seal(doc)
		if err != nil {
			return err
		}
		return w.Put(rowkey.OfSpace(format.ID{}, rowkey.Instance), value)
	})
}

// Seal makes the row of the instance out of its document.
func (r *Root) Seal(doc Instance) (format.Sealed, error) {
	raw, err := cbor.Marshal(doc)
	if err != nil {
		return format.Sealed{}, err
	}
	return format.AuthInstance(r.key.Bytes(), raw), nil
}
