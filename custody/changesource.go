package custody

import (
	"context"
	"fmt"

	"github.com/visage-face/visage/keysource"
)

// keySources returns a source that wraps with the new key of a flow, and unwraps with the new or the present key, as
// the reference names it. Keys are opened when they are first needed: the old one may no longer exist when the flow
// ends.
func (c *Custody) keySources(sp *space, f *flow) *changeSource {
	r := &changeSource{c: c, opened: map[string]keysource.Source{}, bindings: map[string]binding{}}
	if key, version := sp.keyInUse(); key != nil {
		r.bindings[key.Key.Unversioned()] = binding{key.at(version), key.As}
	}
	if f.To != nil {
		r.target = f.To.Key.Unversioned()
		r.bindings[r.target] = binding{f.To.at(f.Version), f.To.As}
	}
	return r
}

// changeSource routes calls to the two keys of a change. It is not safe for concurrent use.
type changeSource struct {
	c        *Custody
	target   string // the key that wraps, as in bindings
	bindings map[string]binding
	opened   map[string]keysource.Source
}

// source opens the key with an unversioned identifier, once.
func (r *changeSource) source(ctx context.Context, uri string) (keysource.Source, error) {
	if src := r.opened[uri]; src != nil {
		return src, nil
	}
	b, ok := r.bindings[uri]
	if !ok {
		return nil, fmt.Errorf("key %s is not one of the keys of this change: %w", uri, keysource.ErrWrong)
	}
	src, err := r.c.cfg.Open(ctx, b.Key, b.As)
	if err != nil {
		return nil, err
	}
	r.opened[uri] = src
	return src, nil
}

// Wrap implements keysource.Source.
func (r *changeSource) Wrap(ctx context.Context, inner []byte) (blob []byte, ref keysource.Ref, err error) {
	src, err := r.source(ctx, r.target)
	if err != nil {
		return nil, keysource.Ref{}, err
	}
	return src.Wrap(ctx, inner)
}

// Unwrap implements keysource.Source.
func (r *changeSource) Unwrap(ctx context.Context, ref keysource.Ref, blob []byte) (inner []byte, err error) {
	src, err := r.source(ctx, ref.URI)
	if err != nil {
		return nil, err
	}
	return src.Unwrap(ctx, ref, blob)
}

// Describe implements keysource.Source.
func (r *changeSource) Describe(ctx context.Context, ref keysource.Ref) (d keysource.Description, err error) {
	uri := ref.URI
	if uri == "" {
		uri = r.target
	}
	src, err := r.source(ctx, uri)
	if err != nil {
		return d, err
	}
	return src.Describe(ctx, ref)
}
