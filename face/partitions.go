package face

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/gallery"
	"github.com/visage-face/visage/sealed"
)

// partOf is what PartQuery.Collection says: the templates of one side of a collection.
type partOf struct {
	resource  visage.ResourceID
	templates uuid
	ref       Ref
}

// String returns the resource, the templates, and kind and id of the collection.
func (p partOf) String() string {
	return string(p.resource[:]) + string(p.templates[:]) + string([]byte{byte(p.ref.Kind)}) + p.ref.ID
}

// scope is scope of the same templates.
func (p partOf) scope() string { return string(p.resource[:]) + string(p.templates[:]) }

func parsePartOf(s string) (p partOf, err error) {
	if fixed := len(p.resource) + len(p.templates); len(s) > fixed {
		copy(p.resource[:], s)
		copy(p.templates[:], s[len(p.resource):])
		p.ref = Ref{Kind: Kind(s[fixed]), ID: s[fixed+1:]}
	}
	if p.ref.Kind < FaceList || p.ref.Kind > LargePersonGroup || !validID(p.ref.ID) {
		return partOf{}, errors.New("a part of no collection")
	}
	return p, nil
}

// PartOf returns the resource and the kind of the collection that PartQuery.Collection names.
func PartOf(collection string) (visage.ResourceID, Kind, error) {
	p, err := parsePartOf(collection)
	return p.resource, p.ref.Kind, err
}

// side reads the collection of a part as it is searched. gallery.ErrDropped: it has other templates now.
func (p partOf) side(r sealed.Reader) (collectionRecord, error) {
	c, err := find(r, p.ref)
	if err != nil {
		return c, err
	}
	for _, side := range c.sides() {
		if side.templates() == p.templates {
			return side, nil
		}
	}
	return c, gallery.ErrDropped
}

// SearchPart searches a part of a collection that this process has in memory, or loads; the load goes on when ctx ends
// before. The answer has seen the query's changes, and comes only while the resource is open here under the query's key
// bundle. Where both are so already, nothing is read from the store.
//
// Errors: one that wraps ErrBehind; the cause of ctx; every other one says that this process cannot answer now.
func (s *Service) SearchPart(ctx context.Context, q PartQuery) (PartFound, error) {
	of, err := parsePartOf(q.Collection)
	if err != nil {
		return PartFound{}, err
	}
	space := s.space(visage.Resource{ID: of.resource})
	lease := space.Lease() // before the bundle is compared: a lock after that ends it
	if err := s.sameBundle(ctx, space, q.Bundle); err != nil {
		return PartFound{}, err
	}
	found := PartFound{Changes: q.Changes}
	key := gallery.Key{Scope: of.scope(), Version: q.Version, Part: q.Part}
	err = s.galleries.Use(ctx, key, s.partSource(space, lease, of, q), func(g *gallery.Gallery) (err error) {
		found.Faces = g.Len()
		found.Candidates, err = g.Candidates(ctx, q.Query)
		for _, list := range found.Candidates {
			found.Faces = max(found.Faces, len(list)) // some may have been removed, or added, in between
		}
		return err
	})
	if err != nil && ctx.Err() == nil {
		err = ended(lease, err)
	}
	return found, err
}

// sameBundle compares the key bundle of a query with the one by which a space is open, which it reads if the query's is
// newer.
func (s *Service) sameBundle(ctx context.Context, space *sealed.Space, bundle uint64) error {
	sequence, open := space.Sequence()
	if !open || sequence < bundle {
		err := outcome(space.View(ctx, func(sealed.Reader) error { return nil }))
		if err != nil {
			return err
		}
		sequence, open = space.Sequence()
	}
	switch {
	case !open:
		return outcome(sealed.ErrLocked)
	case sequence > bundle:
		return ErrBehind
	case sequence < bundle:
		return fmt.Errorf("the key bundle %d of the search is newer than %d, the store's", bundle, sequence)
	}
	return nil
}

// partSource says how the gallery of a part is loaded and followed.
func (s *Service) partSource(
	space *sealed.Space, lease context.Context, of partOf, q PartQuery,
) gallery.Source {
	return gallery.Source{
		Lease: lease, Dim: len(q.Probes[0]) / 2, At: q.Changes, Keep: true,
		Load: func(ctx context.Context, g *gallery.Gallery) (at uint64, err error) {
			all := passOf{of.String(), q.Version, max(q.Part.Count, 1)}
			at, trained, err := s.passes.load(ctx, all, q.Part.Index, g, s.partReader(space, of, all))
			if err == nil {
				s.galleries.Retire(of.scope(), trained)
			}
			return at, err
		},
		Follow: func(ctx context.Context, g *gallery.Gallery, after uint64) (uint64, error) {
			var c collectionRecord
			err := space.View(ctx, func(r sealed.Reader) (err error) {
				c, err = of.side(r)
				return err
			})
			if refusal, ok := errors.AsType[*visage.Refusal](err); ok && refusal.Kind == visage.NotFound {
				err = gallery.ErrDropped
			}
			if err != nil {
				return 0, err
			}
			return follow(ctx, space, of.ref, c, q.Version, q.Part, g, after)
		},
	}
}

// partReader says how a collection is read for its parts.
func (s *Service) partReader(space *sealed.Space, of partOf, all passOf) partReader {
	return func(ctx context.Context, begin func() []*partLoad) (at, trained uint64, err error) {
		err = space.LongView(ctx, func(r sealed.Reader) error {
			c, err := of.side(r)
			if err != nil {
				return err
			}
			m, err := s.recogniserOf(c)
			if err != nil {
				return err
			}
			var add func(faceRecord) error
			at, trained, err = load(ctx, r, of.ref, c, all.version, func(faces int) {
				loads := begin()
				for _, l := range loads {
					if m.Dim() != l.g.Dim() {
						l.end(fmt.Errorf("probes of %d numbers for templates of %d", l.g.Dim(), m.Dim()))
					}
				}
				expect(loads, faces, all.count)
				add = adder(loads, all.count)
			}, func(f faceRecord) error { return add(f) })
			return err
		})
		return at, trained, err
	}
}

// parts returns in how many parts a version of a collection is searched; 1: as a whole, in this process.
func (s *Service) parts(res visage.Resource, ref Ref, c collectionRecord, st stateRecord, upTo uint64) int {
	if s.partitions == nil || upTo == live {
		return 1
	}
	m, err := s.recogniserOf(c)
	if err != nil {
		return 1 // which refuses it
	}
	return s.partitions.Count(partOf{res.ID, c.templates(), ref}.String(), gallery.Size(m.Dim(), st.Faces))
}

// search returns what matches a query in a version of a collection, in this process or in parts, and how many faces
// were searched. within is the largest distance of a match among so many faces, or 0; it does not rise with them. The
// answer is the same both ways.
func (s *Service) search(
	ctx context.Context, res visage.Resource, ref Ref, c collectionRecord, st stateRecord, upTo uint64,
	q gallery.Query, within func(faces int) float32,
) (matches [][]gallery.Match, faces int, err error) {
	parts := s.parts(res, ref, c, st, upTo)
	if parts == 1 {
		err = s.withGallery(ctx, res, ref, c, st, upTo, func(g *gallery.Gallery) (err error) {
			faces = g.Len()
			q.Within = within(faces)
			matches, err = g.Search(ctx, q)
			return err
		})
		return matches, faces, err
	}
	q.Within = within(1)
	found, err := s.searchParts(ctx, res, ref, c, st, upTo, parts, q)
	if err != nil {
		return nil, 0, err
	}
	most := within(found.Faces)
	matches = make([][]gallery.Match, len(found.Candidates))
	for i, list := range found.Candidates {
		for _, c := range list {
			if d := c.Distance(); most == 0 || d <= most {
				matches[i] = append(matches[i], gallery.Match{ID: c.ID, Owner: c.Owner, Distance: d})
			}
		}
	}
	return matches, found.Faces, nil
}

func (s *Service) searchParts(
	ctx context.Context, res visage.Resource, ref Ref, c collectionRecord, st stateRecord, upTo uint64, parts int,
	q gallery.Query,
) (PartFound, error) {
	space := s.space(res)
	lease := space.Lease()
	bundle, open := space.Sequence()
	if !open {
		return PartFound{}, ended(lease, sealed.ErrLocked)
	}
	found, err := s.partitions.Search(ctx, PartQuery{
		Collection: partOf{res.ID, c.templates(), ref}.String(), Version: upTo, Part: gallery.Part{Count: parts},
		Bundle: bundle, Changes: st.Followed, Query: q,
	})
	switch {
	case ctx.Err() != nil:
		return PartFound{}, context.Cause(ctx)
	case lease.Err() != nil: // an answer that came before the lock is late
		return PartFound{}, ended(lease, context.Cause(lease))
	}
	return found, outcome(err)
}

// trainParts waits until all parts of a version of a collection are loaded: a search with any probe needs them all.
func (s *Service) trainParts(
	ctx context.Context, res visage.Resource, ref Ref, c collectionRecord, st stateRecord, upTo uint64, parts int,
) error {
	m, err := s.recogniserOf(c)
	if err != nil {
		return err
	}
	probe := make(gallery.Code, 2*m.Dim())
	binary.LittleEndian.PutUint16(probe, gallery.CodeMost)
	patience := time.After(trainPatience)
	for {
		_, err := s.searchParts(ctx, res, ref, c, st, upTo, parts, gallery.Query{Probes: []gallery.Code{probe}, K: 1})
		refusal, refused := errors.AsType[*visage.Refusal](err)
		if !refused || refusal.RetryAfter == 0 {
			return err
		}
		select {
		case <-time.After(refusal.RetryAfter):
		case <-patience:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// trainPatience is how long a training waits for parts. Then it is tried again in a later round, so that trainings of
// other resources have their turn.
const trainPatience = 2 * time.Minute
