package custody

import (
	"context"
	"fmt"
	"time"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed"
)

// keySources returns the sources of a flow: of the keys in use, and of those that the flow goes to, each in the version
// that is to wrap. Keys are opened when they are first needed: an old one may no longer exist when the flow ends.
func (c *Custody) keySources(sp *space, f *flow) *changeSource {
	r := &changeSource{c: c, opened: map[string]keysource.Source{}, keys: map[string]storeKey{}}
	present := sp.stores()
	for _, k := range append(present, f.After...) {
		r.keys[k.uri()] = k
	}
	for _, k := range f.After {
		r.after = append(r.after, k.uri())
	}
	// The first key leaves the data key to the others when they may serve, or when it is to be replaced.
	now := sp.stateNow()
	if f.Opens > 0 || len(present) > 0 && now.firstSilent(time.Now()) && now.RefusedBy == noStore {
		r.skip = present[0].uri()
	}
	return r
}

// changeSource opens data keys with the keys of a change: with the first one that a data key has a slot of. It is not
// safe for concurrent use.
type changeSource struct {
	c      *Custody
	keys   map[string]storeKey // by their identifiers
	after  []string            // the identifiers of the keys that wrap, in the order of their slots
	skip   string              // the identifier of a key that opens nothing; empty: none
	opened map[string]keysource.Source
}

// storeError is the failure of a call to one of several stores.
type storeError struct {
	of   binding
	verb string
	err  error
}

// Error implements error.
func (e *storeError) Error() string {
	return fmt.Sprintf("%s with key %s: %v", e.verb, e.of.Key, e.err)
}

// Unwrap returns the error of the store.
func (e *storeError) Unwrap() error { return e.err }

// source opens a key, once.
func (r *changeSource) source(ctx context.Context, uri string) (keysource.Source, error) {
	if src := r.opened[uri]; src != nil {
		return src, nil
	}
	k, ok := r.keys[uri]
	if !ok {
		return nil, fmt.Errorf("key %s is not one of the keys of this change: %w", uri, keysource.ErrWrong)
	}
	src, err := r.c.cfg.Open(ctx, k.ref(), k.As)
	if err != nil {
		return nil, err
	}
	r.opened[uri] = src
	return src, nil
}

// failed returns an error with the key that it is about.
func (r *changeSource) failed(uri, verb string, err error) error {
	if err == nil {
		return nil
	}
	return &storeError{r.keys[uri].binding, verb, err}
}

// Unwrap implements keysource.Source.
func (r *changeSource) Unwrap(ctx context.Context, ref keysource.Ref, blob []byte) ([]byte, error) {
	if r.skip != "" && ref.URI == r.skip {
		return nil, sealed.ErrOtherSlot
	}
	return r.of(ref.URI).Unwrap(ctx, ref, blob)
}

// Wrap implements keysource.Source: by the first of the keys that wrap.
func (r *changeSource) Wrap(ctx context.Context, inner []byte) ([]byte, keysource.Ref, error) {
	return r.of(r.first()).Wrap(ctx, inner)
}

// Describe implements keysource.Source.
func (r *changeSource) Describe(ctx context.Context, ref keysource.Ref) (keysource.Description, error) {
	if ref.URI == "" {
		return r.of(r.first()).Describe(ctx, ref)
	}
	return r.of(ref.URI).Describe(ctx, ref)
}

// first returns the first of the keys that wrap; empty: the service's key.
func (r *changeSource) first() string {
	if len(r.after) == 0 {
		return ""
	}
	return r.after[0]
}

// to returns the sources of the keys that wrap, in the order of their slots; a nil one: the service's key.
func (r *changeSource) to() []keysource.Source {
	if len(r.after) == 0 {
		return []keysource.Source{nil}
	}
	all := make([]keysource.Source, len(r.after))
	for i, uri := range r.after {
		all[i] = r.of(uri)
	}
	return all
}

// of returns the source of one key.
func (r *changeSource) of(uri string) oneSource { return oneSource{r, uri} }

// oneSource is one of the keys of a change.
type oneSource struct {
	r   *changeSource
	uri string
}

// Wrap implements keysource.Source.
func (s oneSource) Wrap(ctx context.Context, inner []byte) (blob []byte, ref keysource.Ref, err error) {
	src, err := s.r.source(ctx, s.uri)
	if err == nil {
		blob, ref, err = src.Wrap(ctx, inner)
	}
	return blob, ref, s.r.failed(s.uri, "wrapKey", err)
}

// Unwrap implements keysource.Source.
func (s oneSource) Unwrap(ctx context.Context, ref keysource.Ref, blob []byte) (inner []byte, err error) {
	src, err := s.r.source(ctx, s.uri)
	if err == nil {
		inner, err = src.Unwrap(ctx, ref, blob)
	}
	return inner, s.r.failed(s.uri, "unwrapKey", err)
}

// Describe implements keysource.Source.
func (s oneSource) Describe(ctx context.Context, ref keysource.Ref) (d keysource.Description, err error) {
	src, err := s.r.source(ctx, s.uri)
	if err == nil {
		d, err = src.Describe(ctx, ref)
	}
	return d, s.r.failed(s.uri, "get", err)
}
