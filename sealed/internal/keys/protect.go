package keys

import (
	"bytes"
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"slices"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/event"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/rowkey"
)

// errOvertaken says that another process has changed the document of the instance meanwhile.
var errOvertaken = errors.New("the instance has changed meanwhile")

// protect wraps the root key with the protectors that do not wrap it yet, and stores the document when anything is
// new, in place of the row that it was read from. One that was removed is left out, although the settings name it.
func (r *Root) protect(ctx context.Context, protectors []Protector, doc Instance, row []byte) error {
	created := row == nil
	var added []string
	recovering := slices.ContainsFunc(protectors, func(p Protector) bool { return p.Recover != nil })
	for _, p := range protectors {
		if p.Recover != nil {
			continue
		}
		if recovering { // what is there under its name opens nothing any more, or need not be asked
			at := doc.of(p)
			if at == nil {
				at = doc.named(p, protectors)
			}
			if at != nil {
				doc.Protectors = slices.DeleteFunc(doc.Protectors, func(old protectorDoc) bool {
					return old.Name == at.Name
				})
			}
			doc.Removed = slices.DeleteFunc(doc.Removed, func(r removedDoc) bool { return r.is(p, "") })
		}
		if at := doc.of(p); at != nil {
			if _, taken := r.source(at.Name); !taken {
				r.attach(at.Name, p)
			}
			continue
		}
		if r.isAttached(p) {
			continue // it has opened the root key as one of another name
		}
		if doc.wasRemoved(p, "") {
			r.ignore(p)
			continue
		}
		if at := doc.named(p, protectors); at != nil && r.mayBe(ctx, p, *at, doc) {
			r.attach(at.Name, p)
			continue
		}
		at, err := r.wrap(ctx, p, r.Current())
		if err != nil {
			return fmt.Errorf("protect the instance root key with %s: %w", p.Name, err)
		}
		if recovering {
			doc.Removed = slices.DeleteFunc(doc.Removed, func(r removedDoc) bool { return r.is(p, at.Ref.Version) })
		}
		if doc.wasRemoved(p, at.Ref.Version) {
			r.ignore(p)
			continue
		}
		if i := slices.IndexFunc(doc.Protectors, func(known protectorDoc) bool {
			_, taken := r.source(known.Name)
			return !taken && p.same(known, at)
		}); i >= 0 { // its entry is spelled in another way now
			r.attach(doc.Protectors[i].Name, p)
			continue
		}
		at.Name = doc.freeName(p.Kind)
		if doc.find(p.Name) == nil {
			at.Name = p.Name
		}
		doc.Protectors = append(doc.Protectors, at)
		r.attach(at.Name, p)
		added = append(added, at.Name)
	}
	if len(doc.Protectors) == 0 {
		return errors.New("the instance root needs at least one protector")
	}
	r.tellExposed(doc)
	if !created && added == nil {
		return nil
	}
	doc.Exposed = doc.exposed()
	value, err := r.Seal(doc)
	if err != nil {
		return err
	}
	err = engine.CommitAndWait(ctx, r.engine, format.ID{}, func(w engine.Writer) error {
		key := rowkey.OfSpace(format.ID{}, rowkey.Instance)
		switch now, _, err := w.Get(key); {
		case err != nil:
			return err
		case !bytes.Equal(now, row):
			return errOvertaken
		}
		return w.Put(key, value)
	})
	if err != nil {
		return err
	}
	for _, name := range added {
		r.report(event.Event{Kind: event.RootProtected, Note: name})
	}
	if created {
		r.report(event.Event{Kind: event.RootCreated})
	}
	return nil
}

// mayBe reports whether a configured protector may be one of the document that has its name and another entry, and that
// no other has taken: unless it answers that it did not wrap what that did.
func (r *Root) mayBe(ctx context.Context, p Protector, at protectorDoc, doc Instance) bool {
	if _, taken := r.source(at.Name); taken {
		return false
	}
	key := make([]byte, format.KeySize)
	defer clear(key)
	return !isWrong(unwrapRoot(ctx, key, p.Source, at, doc))
}

func (r *Root) isAttached(p Protector) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, other := range r.attached {
		if other.Name == p.Name {
			return true
		}
	}
	return false
}

func (r *Root) ignore(p Protector) {
	r.mu.Lock()
	r.ignored = append(r.ignored, entryOf(p))
	r.mu.Unlock()
	r.report(event.Event{Kind: event.RootIgnored, Note: entryOf(p)})
}

// entryOf names a configured protector.
func entryOf(p Protector) string {
	if p.Entry != "" {
		return p.Entry
	}
	return p.Name
}

// tellExposed reports that the root key is exposed, once for each protector by which it is.
func (r *Root) tellExposed(doc Instance) {
	told := false
	for _, p := range doc.Protectors {
		if p.Exposed {
			r.report(event.Event{Kind: event.RootExposed, Note: p.Name})
			told = true
		}
	}
	if doc.Exposed && !told {
		r.report(event.Event{Kind: event.RootExposed, Note: "until the root key is rotated"})
	}
}

// wrap wraps a version of the root key with a protector, unwraps it again and compares. The result has no name yet.
func (r *Root) wrap(ctx context.Context, p Protector, root format.InstanceKey) (protectorDoc, error) {
	ctx = about(ctx, r.Instance, root.Version)
	blob, ref, err := p.Source.Wrap(ctx, root.Key)
	if err != nil {
		return protectorDoc{}, err
	}
	back, err := p.Source.Unwrap(ctx, ref, blob)
	if err != nil {
		return protectorDoc{}, fmt.Errorf("unwrap what was just wrapped: %w", err)
	}
	defer clear(back)
	if !hmac.Equal(back, root.Key) {
		return protectorDoc{}, fmt.Errorf("%w: what was just wrapped unwraps to something else", keysource.ErrWrong)
	}
	t := now()
	return protectorDoc{Kind: p.Kind, Exposed: p.Exposed, Ref: ref, Wrapped: blob, Entry: p.Entry, Added: t, Tested: t},
		nil
}
