package face

import (
	"context"
	"errors"
	"fmt"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/gallery"
	"github.com/visage-face/visage/sealed"
)

// live is the gallery version of a small face list, which is searched as it is: changes are applied to it at once. The
// versions of other collections are the sequence numbers they were trained up to, and those begin at 1.
const live = 0

// entry is the face as a gallery keeps it.
func (f faceRecord) entry() gallery.Entry {
	return gallery.Entry{ID: gallery.ID(f.ID), Owner: gallery.ID(f.Person), Order: f.Sequence, Code: f.Code}
}

// addTo adds the face to a gallery, unless it is in it already.
func (f faceRecord) addTo(g *gallery.Gallery) error {
	if g.Has(gallery.ID(f.ID)) {
		return nil
	}
	return g.Add(f.entry())
}

// scope names the galleries of a collection by one pack.
func scope(res visage.Resource, c collectionRecord) string {
	of := c.templates()
	return string(res.ID[:]) + string(of[:])
}

// changeGalleries applies a change to the galleries of a collection, by whichever pack.
func (s *Service) changeGalleries(res visage.Resource, c collectionRecord, change func(*gallery.Gallery) error) {
	for _, side := range c.sides() {
		s.galleries.Change(scope(res, side), change)
	}
}

// withGallery calls use with the faces of a collection up to a sequence number, or all for live, loading them first if
// need be. The gallery lives no longer than the lease of the space it was read from.
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

// load fills a gallery with the faces of a collection up to a sequence number, or all for live. They are opened on all
// processors, and their codes go from where they were opened into the gallery and nowhere else.
func load(
	ctx context.Context, r sealed.Reader, ref Ref, c collectionRecord, upTo uint64, g *gallery.Gallery,
) error {
	// A collection that was deleted meanwhile may be half dropped: only its record says that it is whole.
	now, st, err := findState(r, ref)
	if err != nil {
		return err
	}
	if now.Incarnation != c.Incarnation {
		return ref.notFound()
	}
	expected := st.Faces // or fewer: those that were added since the training are not searched
	switch {
	case now.templates() == c.templates():
	case now.Migration != nil && now.Migration.Templates == c.templates():
		expected = st.Sent
	default:
		return gallery.ErrDropped // a migration has ended, and what c names may be half dropped
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

// attempts is how often an operation starts again because the gallery it used was dropped under it: by a change of the
// collection, after which the operation may have another answer.
const attempts = 3

// again runs an operation until no gallery is dropped under it.
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
