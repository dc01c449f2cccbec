package face

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/gallery"
	"github.com/visage-face/visage/sealed"
)

// samePerson is the confidence from which two faces are taken for one person (contract §5.5).
const samePerson = 0.5

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

// confidence is what clients see: five decimals, cut off rather than rounded, so that what lies below a line never
// seems to lie on it.
func confidence(m Recogniser, distance float32) float64 {
	c := min(max(m.Confidence(float64(distance)), 0), 1)
	return math.Floor(c*1e5) / 1e5
}

// within returns a distance that no face with at least that confidence is beyond, for a search to do without others; 0
// when every face has it, or none. A search need not be told exactly: who asks looks at the confidence anyway.
func within(m Recogniser, least float64) float32 {
	enough := func(distance float32) bool { return confidence(m, distance) >= least }
	near, far := float32(0), float32(2)
	if !enough(near) || enough(far) {
		return 0
	}
	for far-near > 1e-6 { // confidence falls with the distance
		if middle := (near + far) / 2; enough(middle) {
			near = middle
		} else {
			far = middle
		}
	}
	return far + 1e-6
}

// ranked is one of several codes, by its index, with its distance from a probe.
type ranked struct {
	index    int
	distance float32
}

// rank returns the k codes nearest to a probe, the nearest first; equally near ones keep their order.
func rank(probe gallery.Code, codes []gallery.Code, k int) ([]ranked, error) {
	order := make([]ranked, len(codes))
	for i, c := range codes {
		distance, err := gallery.Distance(probe, c)
		if err != nil {
			return nil, fmt.Errorf("compare: %w", err)
		}
		order[i] = ranked{index: i, distance: distance}
	}
	slices.SortStableFunc(order, func(a, b ranked) int { return cmp.Compare(a.distance, b.distance) })
	return order[:min(k, len(order))], nil
}

// forget clears the codes of detected faces, which are biometric data, once they have been used.
func forget(probes *[]detectionRecord) {
	for _, d := range *probes {
		clear(d.code())
	}
}

// asInvalid turns a refusal of kind NotFound into one of kind Invalid: what a request names in its body is an argument,
// what it names in its path is a place (contract §12, points 4 and 5).
func asInvalid(err error) error {
	refusal, ok := errors.AsType[*visage.Refusal](err)
	if !ok || refusal.Kind != visage.NotFound {
		return err
	}
	invalid := *refusal
	invalid.Kind = visage.Invalid
	return &invalid
}
