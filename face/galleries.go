package face

import (
	"context"
	"errors"
	"fmt"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/gallery"
	"github.com/visage-face/visage/sealed"
)

// live is the gallery version of a small face list, to which changes are applied at once. The versions of other
// collections are the sequence numbers up to which they were trained; those begin at 1.
const live = 0

// entry returns the face as a gallery keeps it.
func (f faceRecord) entry() gallery.Entry {
	return gallery.Entry{ID: gallery.ID(f.ID), Owner: gallery.ID(f.Person), Order: f.Sequence, Code: f.Code}
}

// addTo adds the face to a gallery, unless it is there already.
func (f faceRecord) addTo(g *gallery.Gallery) error {
	if g.Has(gallery.ID(f.ID)) {
		return nil
	}
	return g.Add(f.entry())
}

// scope names the galleries of one side of a collection.
func scope(res visage.Resource, c collectionRecord) string {
	of := c.templates()
	return string(res.ID[:]) + string(of[:])
}

// GalleryMemory returns the bytes that the galleries take of each resource that has any.
func (s *Service) GalleryMemory() map[visage.ResourceID]uint64 {
	bytes := map[visage.ResourceID]uint64{}
	for scope, n := range s.galleries.Bytes() {
		bytes[visage.ResourceID([]byte(scope[:len(visage.ResourceID{})]))] += uint64(n)
	}
	return bytes
}

// changeGalleries applies a change to the galleries of all sides of a collection.
func (s *Service) changeGalleries(res visage.Resource, c collectionRecord, change func(*gallery.Gallery) error) {
	for _, side := range c.sides() {
		s.galleries.Change(scope(res, side), change)
	}
}

// withGallery calls use with the faces of a collection up to a sequence number, or all for live. It loads them first if
// necessary. The gallery ends with the lease of the space that it was read from.
func (s *Service) withGallery(
	ctx context.Context, res visage.Resource, ref Ref, c collectionRecord, upTo uint64,
	use func(*gallery.Gallery) error,
) error {
	m, err := s.recogniserOf(c)
	if err != nil {
		return err
	}
	space := s.space(res)
	lease := space.Lease()
	src := gallery.Source{Lease: lease, Dim: m.Dim(), Load: func(ctx context.Context, g *gallery.Gallery) error {
		return space.View(ctx, func(r sealed.Reader) error { return load(ctx, r, ref, c, upTo, g) })
	}}
	err = s.galleries.Use(ctx, gallery.Key{Scope: scope(res, c), Version: upTo}, src, use)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return ended(lease, err)
}

// load fills a gallery with the faces of a collection up to a sequence number, or all for live. All processors open
// faces, and copy their codes into the gallery and nowhere else.
func load(
	ctx context.Context, r sealed.Reader, ref Ref, c collectionRecord, upTo uint64, g *gallery.Gallery,
) error {
	// The contents of a deleted collection may be partly dropped: only its record shows that they are complete.
	now, st, err := findState(r, ref)
	if err != nil {
		return err
	}
	if now.Incarnation != c.Incarnation {
		return ref.notFound()
	}
	expected := st.Faces // or fewer: faces that were added after the training are not searched
	switch {
	case now.templates() == c.templates():
	case now.Migration != nil && now.Migration.Templates == c.templates():
		expected = st.Sent
	default:
		return gallery.ErrDropped // a migration has ended: the templates that c names may be partly dropped
	}
	g.Expect(expected)
	err = c.faces().Each(ctx, r, func(encoded []byte) error {
		f, err := parseFace(encoded)
		if err != nil {
			return fmt.Errorf("%w: %w", sealed.ErrRecord, err)
		}
		if upTo != live && f.Sequence > upTo {
			return nil
		}
		if err := g.Add(f.entry()); errors.Is(err, gallery.ErrVector) {
			return fmt.Errorf("%w: %w", sealed.ErrRecord, err)
		} else {
			return err
		}
	})
	if err != nil {
		return fmt.Errorf("load faces of %s: %w", ref.Kind, err)
	}
	return nil
}

// attempts is how often an operation is tried when its gallery is dropped meanwhile: the collection has changed, and
// the operation may have another answer. Also, when names that it searches are dropped for those of others.
const attempts = 3

// again repeats an operation until no gallery is dropped while it runs.
func again(op func() error) error {
	var err error
	for range attempts {
		if err = op(); !errors.Is(err, gallery.ErrDropped) {
			return err
		}
	}
	refusal := visage.Refuse(visage.Unavailable, "ServiceUnavailable",
		"The collection is being changed. Try again later.")
	refusal.RetryAfter = retryWhenBusy
	return refusal
}
