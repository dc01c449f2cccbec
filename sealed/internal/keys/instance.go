package keys

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed/internal/format"
)

// Instance is the one document that is not encrypted, because what opens everything else is wrapped in it.
type Instance struct {
	ID         format.ID      `cbor:"1,keyasint"`
	Version    uint32         `cbor:"2,keyasint"` // of the root key
	Commitment []byte         `cbor:"3,keyasint"`
	Protectors []protectorDoc `cbor:"4,keyasint"`
	Format
	Former []formerDoc `cbor:"8,keyasint,omitempty"` // the earlier versions of the root key
	// an exposed protector has wrapped this version of the root key: a copy of it may be somewhere
	Exposed bool `cbor:"9,keyasint,omitempty"`
	// protectors that were taken out, and are not to come back by the settings of a start
	Removed []removedDoc `cbor:"10,keyasint,omitempty"`
	// what earlier versions sealed is still to be sealed under this one
	Rotating bool  `cbor:"11,keyasint,omitempty"`
	Made     int64 `cbor:"12,keyasint,omitempty"` // when this version was made, in seconds since 1970; zero: not known
	// when a recovery kit of this version was made, and proved to open it, in seconds since 1970; zero: never
	Kit    int64 `cbor:"13,keyasint,omitempty"`
	Proved int64 `cbor:"14,keyasint,omitempty"`
	// what the store is migrated from since it has its format: rows may still be of that one; zero: it is not
	From uint32 `cbor:"15,keyasint,omitempty"`
	// where the epoch keys lie; nil: the store is from before that was recorded, or new, or restored
	Placed *Placed `cbor:"16,keyasint,omitempty"`
}

// Placed says where the epoch keys lie, and how the mark of that place is: see the package place.
type Placed struct {
	ID     format.ID `cbor:"1,keyasint"`           // of the place
	Name   string    `cbor:"2,keyasint"`           // of the place, for people
	Count  uint64    `cbor:"3,keyasint"`           // of beats
	Beat   format.ID `cbor:"4,keyasint"`           // the newest
	Before format.ID `cbor:"5,keyasint"`           // the one that the place has until it has the newest
	Idle   bool      `cbor:"6,keyasint,omitempty"` // nobody has the store open
	Moving *Moving   `cbor:"7,keyasint,omitempty"` // nil: the keys stay
}

// Moving says where epoch keys are being moved to.
type Moving struct {
	ID   format.ID `cbor:"1,keyasint"`
	Name string    `cbor:"2,keyasint"`
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
	Entry   string        `cbor:"6,keyasint,omitempty"` // of the settings; empty: from before it was kept
	Added   int64         `cbor:"7,keyasint,omitempty"` // seconds since 1970; zero: not known
	Tested  int64         `cbor:"8,keyasint,omitempty"` // when it last opened the root key of this version; zero: never
}

// formerDoc is an earlier version of the root key, sealed under the current one.
type formerDoc struct {
	Version uint32 `cbor:"1,keyasint"`
	Sealed  []byte `cbor:"2,keyasint"`
}

type removedDoc struct {
	Kind    string `cbor:"1,keyasint"`
	Entry   string `cbor:"2,keyasint,omitempty"`
	Version string `cbor:"3,keyasint,omitempty"` // of its key, if its keys have versions
}

// Protector is one way to wrap the instance root key.
type Protector struct {
	// Name is unique among the configured protectors, for example "file". One that wraps the root key already keeps the
	// name that it had.
	Name string
	Kind string // what sort of source it is
	// Entry is how the settings name it, for example "file:/etc/visage/root.key": by it, a protector is found again. It
	// holds no secret. May be empty.
	Entry string
	// what wraps lies on the same machine in the clear: good enough against a stolen copy of the data alone
	Exposed bool
	Source  keysource.Source
	// Fingerprint says that the version of its key tells this key from all others, so that it is known again at another
	// place. Versions in a key store only count: there, the entry is the key.
	Fingerprint bool
	// Recover, in place of Source, returns the root key of an instance and version by a road of its own, such as a
	// recovery kit, and is not kept: the root key is then wrapped anew by all others.
	Recover func(instance format.SpaceID, version uint32) ([]byte, error)
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

func now() int64 { return time.Now().Unix() }

// decodeInstance returns the document of an instance row, which is not authenticated yet.
func decodeInstance(row []byte) (doc Instance, err error) {
	raw, err := format.ReadInstance(row)
	if err != nil {
		return doc, err
	}
	if err := format.Strict.Unmarshal(raw, &doc); err != nil {
		return doc, fmt.Errorf("%w: %v", format.ErrMalformed, err)
	}
	if doc.Version < 1 || doc.Version > format.MaxVersion {
		return doc, fmt.Errorf("%w: version %d of the root key", format.ErrMalformed, doc.Version)
	}
	return doc, nil
}

func (d *Instance) find(name string) *protectorDoc {
	for i := range d.Protectors {
		if d.Protectors[i].Name == name {
			return &d.Protectors[i]
		}
	}
	return nil
}

// has reports whether a protector is in the document as it was: of its name, and with what it wrapped.
func (d *Instance) has(p protectorDoc) bool {
	at := d.find(p.Name)
	return at != nil && bytes.Equal(at.Wrapped, p.Wrapped)
}

// of returns the protector of the document that has the entry of a configured one; nil: none has.
func (d *Instance) of(p Protector) *protectorDoc {
	for i := range d.Protectors {
		if at := &d.Protectors[i]; at.Kind == p.Kind && at.Entry == p.Entry && p.Entry != "" {
			return at
		}
	}
	return nil
}

// named returns the protector of the document that has the name and kind of a configured one, whose place may have
// changed since, unless it is another of the configured ones; nil: none has.
func (d *Instance) named(p Protector, all []Protector) *protectorDoc {
	at := d.find(p.Name)
	if at == nil || at.Kind != p.Kind || slices.ContainsFunc(all, func(other Protector) bool {
		return other.Name != p.Name && d.of(other) == at
	}) {
		return nil
	}
	return at
}

// same reports whether a protector of the document has the key of a configured one, by what that has wrapped.
func (p Protector) same(at, wrapped protectorDoc) bool {
	if p.Fingerprint {
		return at.Kind == p.Kind && at.Ref.Version == wrapped.Ref.Version && at.Ref.Version != ""
	}
	return at.Kind == p.Kind && at.Ref == wrapped.Ref && at.Ref.URI != ""
}

// candidates returns the protectors of the document that a configured one may be, the likeliest first.
func (d *Instance) candidates(p Protector) (all []protectorDoc) {
	first := d.of(p)
	if first == nil {
		first = d.named(p, nil)
	}
	if first != nil {
		all = append(all, *first)
	}
	for _, at := range d.Protectors {
		if at.Kind == p.Kind && (first == nil || at.Name != first.Name) {
			all = append(all, at)
		}
	}
	return all
}

// wasRemoved reports whether a configured protector is one that was taken out. version is that of its key, if known. Of
// one whose entry was not kept, the version is all that is known.
func (d *Instance) wasRemoved(p Protector, version string) bool {
	return slices.ContainsFunc(d.Removed, func(r removedDoc) bool {
		return r.is(p, version) || r.Entry == "" && r.Kind == p.Kind && r.Version == version && version != ""
	})
}

// is reports whether what was removed has the entry of a configured protector, or its key. An empty version is not
// known.
func (r removedDoc) is(p Protector, version string) bool {
	return r.Kind == p.Kind &&
		(r.Entry == p.Entry && p.Entry != "" || p.Fingerprint && r.Version == version && version != "")
}

// exposed reports whether a copy of the disks of this machine may open the root key.
func (d *Instance) exposed() bool {
	return d.Exposed || slices.ContainsFunc(d.Protectors, func(p protectorDoc) bool { return p.Exposed })
}

// freeName returns a name that no protector has.
func (d *Instance) freeName(kind string) string {
	name := kind
	for n := 2; d.find(name) != nil; n++ {
		name = fmt.Sprintf("%s %d", kind, n)
	}
	return name
}

func protectorNames(d Instance) string {
	names := make([]string, len(d.Protectors))
	for i, p := range d.Protectors {
		names[i] = p.Name
	}
	return strings.Join(names, ", ")
}
