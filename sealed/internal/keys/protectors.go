package keys

import (
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed/internal/event"
	"github.com/visage-face/visage/sealed/internal/format"
)

// Why a change of protectors is refused.
var (
	ErrNoProtector   = errors.New("no protector of the root key has this name")
	ErrLastProtector = errors.New("it is the only protector that opens the root key")
	ErrProtected     = errors.New("this protector wraps the root key already")
	ErrDetached      = errors.New("the settings of this start do not name this protector")
)

// again repeats a change of protectors or of the key, which asks protectors first, as long as another process has
// changed what it rests on meanwhile: the change then fails with errOvertaken, and has changed nothing.
func (r *Root) again(ctx context.Context, change func(doc Instance) error) error {
	done, err := r.change(ctx)
	if err != nil {
		return err
	}
	defer done()
	for {
		doc, err := r.Read(ctx)
		if err == nil {
			err = change(doc)
		}
		if !errors.Is(err, errOvertaken) || ctx.Err() != nil {
			return err
		}
	}
}

// Add wraps the root key with another protector, proves that it opens it, and returns the name that it has.
// Errors: ErrProtected, what the source says.
func (r *Root) Add(ctx context.Context, p Protector) (name string, err error) {
	err = r.again(ctx, func(doc Instance) error {
		name, err = r.add(ctx, p, doc)
		return err
	})
	if err != nil {
		return "", err
	}
	r.report(event.Event{Kind: event.RootProtected, Note: name})
	return name, nil
}

func (r *Root) add(ctx context.Context, p Protector, doc Instance) (name string, err error) {
	sameEntry := func(at protectorDoc) bool {
		return at.Kind == p.Kind && at.Entry == p.Entry && p.Entry != ""
	}
	if slices.ContainsFunc(doc.Protectors, sameEntry) {
		return "", ErrProtected
	}
	root := r.Current()
	at, err := r.wrap(ctx, p, root)
	if err != nil {
		return "", err
	}
	err = r.Change(ctx, func(doc *Instance) error {
		if doc.Version != root.Version { // what was wrapped opens nothing any more
			return errOvertaken
		}
		if slices.ContainsFunc(doc.Protectors, func(other protectorDoc) bool {
			return sameEntry(other) || p.same(other, at)
		}) {
			return ErrProtected
		}
		at.Name = doc.freeName(p.Kind)
		doc.Protectors = append(doc.Protectors, at)
		doc.Exposed = doc.exposed()
		doc.Removed = slices.DeleteFunc(doc.Removed, func(r removedDoc) bool { return r.is(p, at.Ref.Version) })
		return nil
	})
	if err != nil {
		return "", err
	}
	r.attach(at.Name, p)
	return at.Name, nil
}

// Remove takes a protector out for good: what it wrapped is gone from the document, and the settings of a later start
// do not bring it back. Another one must open the root key first, and still be there when it is gone. Errors:
// ErrNoProtector, ErrLastProtector.
func (r *Root) Remove(ctx context.Context, name string) error {
	err := r.again(ctx, func(doc Instance) error { return r.remove(ctx, name, doc) })
	if err != nil {
		return err
	}
	r.mu.Lock()
	delete(r.attached, name)
	r.mu.Unlock()
	r.report(event.Event{Kind: event.RootUnprotected, Note: name})
	return nil
}

func (r *Root) remove(ctx context.Context, name string, doc Instance) error {
	gone := doc.find(name)
	if gone == nil {
		return ErrNoProtector
	}
	var opens *protectorDoc
	var failed error
	for i, other := range doc.Protectors {
		if other.Name == name {
			continue
		}
		err := r.testOne(ctx, other, doc)
		if err == nil {
			opens = &doc.Protectors[i]
			break
		}
		failed = errors.Join(failed, fmt.Errorf("%s: %w", other.Name, err))
	}
	if opens == nil {
		return errors.Join(ErrLastProtector, failed)
	}
	removed := removedDoc{Kind: gone.Kind, Entry: gone.Entry, Version: gone.Ref.Version}
	if p, ok := r.source(name); ok && removed.Entry == "" {
		removed.Entry = p.Entry
	}
	return r.Change(ctx, func(doc *Instance) error {
		if !doc.has(*gone) || !doc.has(*opens) {
			return errOvertaken
		}
		doc.Exposed = doc.exposed() // from before the removal: copies of what it wrapped may be somewhere
		doc.Protectors = slices.DeleteFunc(doc.Protectors, func(p protectorDoc) bool { return p.Name == name })
		doc.Removed = append(doc.Removed, removed)
		const kept = 64 // removals; far more than an instance sees
		doc.Removed = doc.Removed[max(0, len(doc.Removed)-kept):]
		return nil
	})
}

// testOne asks a protector to open the root key, and compares what it opens with the key in memory.
func (r *Root) testOne(ctx context.Context, at protectorDoc, doc Instance) error {
	p, ok := r.source(at.Name)
	if !ok {
		return ErrDetached
	}
	key := make([]byte, format.KeySize)
	defer clear(key)
	if err := unwrapRoot(ctx, key, p.Source, at, doc); err != nil {
		return err
	}
	if !hmac.Equal(key, r.Current().Key) {
		return fmt.Errorf("%w: it opened another key", keysource.ErrWrong)
	}
	return nil
}

// Test asks every protector to open the root key, and returns what each said, by name. Successes are remembered.
func (r *Root) Test(ctx context.Context) (said map[string]error, err error) {
	done, err := r.change(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	doc, err := r.Read(ctx)
	if err != nil {
		return nil, err
	}
	said = map[string]error{}
	for _, at := range doc.Protectors {
		said[at.Name] = r.testOne(ctx, at, doc)
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return said, r.Change(ctx, func(now *Instance) error {
		for i, at := range now.Protectors {
			if err, asked := said[at.Name]; asked && err == nil && doc.has(at) {
				now.Protectors[i].Tested = time.Now().Unix()
			}
		}
		return nil
	})
}
