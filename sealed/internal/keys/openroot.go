package keys

import (
	"context"
	"errors"
	"fmt"

	"github.com/visage-face/visage/internal/arena"
	"github.com/visage-face/visage/sealed/internal/event"
	"github.com/visage-face/visage/sealed/internal/format"
)

// Open opens the root key with the first protector that answers, or makes one in an engine that is empty: the instance
// has the given format then. It returns the format that the instance has.
func (r *Root) Open(ctx context.Context, protectors []Protector, newest Format) (Format, error) {
	names := map[string]bool{}
	for _, p := range protectors {
		if names[p.Name] || p.Name == "" || (p.Source == nil) == (p.Recover == nil) {
			return Format{},
				fmt.Errorf("protector %q of the instance root: names must be unique, and a source is needed", p.Name)
		}
		names[p.Name] = true
	}
	for {
		f, err := r.openRow(ctx, protectors, newest)
		if !errors.Is(err, errOvertaken) {
			return f, err
		}
		r.versions.Swap(nil).free()
		r.mu.Lock()
		clear(r.attached)
		r.ignored = nil
		r.mu.Unlock()
	}
}

func (r *Root) openRow(ctx context.Context, protectors []Protector, newest Format) (Format, error) {
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
		r.later = r.learn
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
	return doc.Format, r.protect(ctx, protectors, doc, row)
}

// Unwrap opens the root key that a row of the instance holds: it tries the protectors that the instance knows, in the
// order they are given.
func (r *Root) Unwrap(ctx context.Context, protectors []Protector, row []byte) (Instance, error) {
	doc, err := decodeInstance(row)
	if err != nil {
		return Instance{}, r.report.Corrupt(&event.CorruptError{What: "instance", Err: err})
	}
	current, err := arena.New(format.KeySize)
	if err != nil {
		return Instance{}, err
	}
	var failed RootError
	for _, p := range protectors {
		at, err := r.try(ctx, current.Bytes(), p, doc)
		if err != nil {
			failed.Tried = append(failed.Tried, ProtectorError{p.Name, err})
			if p.Recover != nil {
				break // it was named to be used, not as one way of several
			}
			continue
		}
		err = format.CheckInstance(current.Bytes(), row)
		var all *versions
		if err == nil {
			all, err = openVersions(doc, current)
		}
		if err != nil {
			current.Free()
			return Instance{}, r.report.Corrupt(&event.CorruptError{What: "instance", Err: err})
		}
		r.versions.Store(all)
		r.Instance, r.later = doc.ID, r.learn
		if p.Recover == nil {
			r.attach(at.Name, p)
		}
		r.mu.Lock()
		r.opened = at.Name
		r.mu.Unlock()
		r.report(event.Event{Kind: event.RootOpened, Note: at.Name})
		return doc, nil
	}
	current.Free()
	return Instance{}, &failed
}
