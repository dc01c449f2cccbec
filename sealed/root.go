package sealed

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/visage-face/visage/internal/arena"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/rowkey"
)

// instanceDoc is the one document that is not encrypted, because what opens everything else is wrapped in it.
type instanceDoc struct {
	ID         format.ID      `cbor:"1,keyasint"`
	Version    uint32         `cbor:"2,keyasint"` // of the root key; 1 until it can be rotated
	Commitment []byte         `cbor:"3,keyasint"`
	Protectors []protectorDoc `cbor:"4,keyasint"`
	// Format is that of the store: see migrate.go. Zero: the store is from before there were formats.
	Format uint32 `cbor:"5,keyasint,omitempty"`
	Told   uint32 `cbor:"6,keyasint,omitempty"` // the format up to which TellMigrations has told
	Since  string `cbor:"7,keyasint,omitempty"` // the first version of the program that knows the format
}

type protectorDoc struct {
	Name    string        `cbor:"1,keyasint"`
	Kind    string        `cbor:"2,keyasint"`
	Exposed bool          `cbor:"3,keyasint"`
	Ref     keysource.Ref `cbor:"4,keyasint"`
	Wrapped []byte        `cbor:"5,keyasint"`
}

// openRoot opens the instance root key with the first protector that answers, or makes one in an engine that is empty.
func (s *Store) openRoot(ctx context.Context, protectors []Protector) error {
	names := map[string]bool{}
	for _, p := range protectors {
		if names[p.Name] || p.Name == "" || p.Source == nil {
			return fmt.Errorf("protector %q of the instance root: names must be unique, and a source is needed", p.Name)
		}
		names[p.Name] = true
	}
	row, empty, err := s.readInstance(ctx)
	if err != nil {
		return err
	}
	if s.root, err = arena.New(format.KeySize); err != nil {
		return err
	}
	var doc instanceDoc
	switch {
	case row != nil:
		doc, err = s.unwrapRoot(ctx, protectors, row)
	case empty:
		doc = s.createRoot()
	default:
		err = s.report.Corrupt(&CorruptError{What: "instance",
			Err: errors.New(
				"the store has rows, but the document of its root key is gone: restore the data directory from a " +
					"backup",
			)})
	}
	if err != nil {
		return err
	}
	s.instance, s.format = doc.ID, doc.Format
	return s.protectRoot(ctx, protectors, doc, row == nil)
}

func (s *Store) readInstance(ctx context.Context) (row []byte, empty bool, err error) {
	err = s.engine.View(ctx, func(r engine.Reader) error {
		row, _, err = r.Get(rowkey.OfSpace(format.ID{}, rowkey.Instance))
		if err != nil || row != nil {
			return err
		}
		empty = true
		for _, err := range r.Scan([]byte{0}, format.MaxID[:]) {
			empty = false
			return err
		}
		return nil
	})
	return row, empty, err
}

func (s *Store) createRoot() instanceDoc {
	rand.Read(s.root.Bytes()) // never fails: the runtime ends the process instead
	id := format.RandomID()
	newest := uint32(len(s.steps))
	return instanceDoc{
		ID: id, Version: 1, Commitment: format.RootKeyCommitment(s.root.Bytes(), id),
		Format: newest, Told: newest, Since: since(s.steps, newest),
	}
}

// unwrapRoot tries the protectors that the instance knows, in the order they are given.
func (s *Store) unwrapRoot(ctx context.Context, protectors []Protector, row []byte) (instanceDoc, error) {
	doc, err := decodeInstance(row)
	if err != nil {
		return instanceDoc{}, s.report.Corrupt(&CorruptError{What: "instance", Err: err})
	}
	var failed RootError
	for _, p := range protectors {
		err := fmt.Errorf("the data is not protected by %s; it is protected by %s", p.Name, protectorNames(doc))
		if at := doc.find(p.Name); at != nil {
			err = s.tryProtector(ctx, p, *at, doc)
		}
		if err == nil {
			if err := format.CheckInstance(s.root.Bytes(), row); err != nil {
				return instanceDoc{}, s.report.Corrupt(&CorruptError{What: "instance", Err: err})
			}
			s.report(Event{Kind: RootOpened, Note: p.Name})
			return doc, nil
		}
		failed.Tried = append(failed.Tried, ProtectorError{p.Name, err})
	}
	return instanceDoc{}, &failed
}

// decodeInstance returns the document of an instance row, which nobody has authenticated.
func decodeInstance(row []byte) (doc instanceDoc, err error) {
	raw, err := format.ReadInstance(row)
	if err != nil {
		return doc, err
	}
	if err := format.Strict.Unmarshal(raw, &doc); err != nil {
		return doc, fmt.Errorf("%w: %v", format.ErrMalformed, err)
	}
	return doc, nil
}

func (s *Store) tryProtector(ctx context.Context, p Protector, at protectorDoc, doc instanceDoc) error {
	key, err := p.Source.Unwrap(ctx, at.Ref, at.Wrapped)
	if err != nil {
		return err
	}
	defer clear(key)
	committed := hmac.Equal(format.RootKeyCommitment(key, doc.ID), doc.Commitment)
	if len(key) != format.KeySize || !committed {
		return fmt.Errorf("%w: it opened something that is not this instance's root key", keysource.ErrWrong)
	}
	copy(s.root.Bytes(), key)
	return nil
}

// protectRoot wraps the root key with the protectors that do not wrap it yet, and stores the document when anything is
// new.
func (s *Store) protectRoot(ctx context.Context, protectors []Protector, doc instanceDoc, created bool) error {
	changed := created
	for _, p := range protectors {
		if p.Exposed {
			s.report(Event{Kind: RootExposed, Note: p.Name})
		}
		if doc.find(p.Name) != nil {
			continue
		}
		blob, ref, err := p.Source.Wrap(ctx, s.root.Bytes())
		if err != nil {
			return fmt.Errorf("protect the instance root key with %s: %w", p.Name, err)
		}
		doc.Protectors = append(doc.Protectors,
			protectorDoc{Name: p.Name, Kind: p.Kind, Exposed: p.Exposed, Ref: ref, Wrapped: blob})
		s.report(Event{Kind: RootProtected, Note: p.Name})
		changed = true
	}
	if !changed {
		return nil
	}
	value, err := s.authInstance(doc)
	if err != nil {
		return err
	}
	err = s.updateIn(ctx, format.ID{}, func(w engine.Writer) error {
		return w.Put(rowkey.OfSpace(format.ID{}, rowkey.Instance), value)
	})
	if err == nil && created {
		s.report(Event{Kind: RootCreated})
	}
	return err
}

func (d *instanceDoc) find(name string) *protectorDoc {
	for i := range d.Protectors {
		if d.Protectors[i].Name == name {
			return &d.Protectors[i]
		}
	}
	return nil
}

func protectorNames(d instanceDoc) string {
	s := ""
	for i, p := range d.Protectors {
		if i > 0 {
			s += ", "
		}
		s += p.Name
	}
	return s
}
