package face

import (
	"context"
	"errors"
	"fmt"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/cluster/placement"
	"github.com/visage-face/visage/gallery"
	"github.com/visage-face/visage/sealed"
)

// live is the gallery version of a small face list, to which changes are applied at once. The versions of other
// collections are the sequence numbers up to which they were trained; those begin at 1.
const live = 0

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

// GalleryUse is what the galleries of a process are at a moment.
type GalleryUse struct {
	Bytes   int64 // memory of all, loaded and loading
	Parts   int   // of collections of which other processes have the rest, loaded and loading
	Loading int   // galleries and parts that are being loaded
	Awaited int   // faces that these loads have still to read
}

// GalleryUse returns what the galleries of this process are now.
func (s *Service) GalleryUse() GalleryUse {
	parts, _ := s.galleries.Parts()
	u := GalleryUse{Bytes: s.galleries.Stats().Bytes, Parts: parts}
	for _, p := range s.galleries.Loading() {
		u.Loading++
		u.Awaited += max(p.Expected-p.Loaded, 0)
	}
	return u
}

// inPart reports whether a face is in a part of a collection; the zero part has all faces.
func inPart(part gallery.Part, id uuid) bool {
	return part.Count < 2 || placement.Partition(id, part.Count) == part.Index
}

// withGallery calls use with the faces of a collection up to a sequence number, or all for live. It loads them first if
// necessary, or applies what has changed since. The gallery ends with the lease of the space that it was read from.
func (s *Service) withGallery(
	ctx context.Context, res visage.Resource, ref Ref, c collectionRecord, st stateRecord, upTo uint64,
	use func(*gallery.Gallery) error,
) error {
	m, err := s.recogniserOf(c)
	if err != nil {
		return err
	}
	space := s.space(res)
	lease := space.Lease()
	src := gallery.Source{Lease: lease, Dim: m.Dim(), At: st.Changes.last(),
		Load: func(ctx context.Context, g *gallery.Gallery) (at uint64, err error) {
			var trained uint64
			err = readMany(ctx, space, st.Faces, func(r sealed.Reader) error {
				at, trained, err = load(ctx, r, ref, c, upTo, g.Expect, func(f faceRecord) error {
					return g.Add(f.entry())
				})
				return err
			})
			if err == nil {
				s.galleries.Retire(scope(res, c), trained)
			}
			return at, err
		},
		Follow: func(ctx context.Context, g *gallery.Gallery, after uint64) (uint64, error) {
			return follow(ctx, space, ref, c, upTo, gallery.Part{}, g, after)
		},
	}
	if upTo != live {
		src.At = st.Followed
	}
	err = s.galleries.Use(ctx, gallery.Key{Scope: scope(res, c), Version: upTo}, src, use)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return ended(lease, err)
}

// findLoaded reads a collection that galleries were loaded from, or are, and how many faces one side of it has.
// gallery.ErrDropped: that side is no more, because a migration has ended.
func findLoaded(r sealed.Reader, ref Ref, c collectionRecord) (
	now collectionRecord, st stateRecord, faces int, err error,
) {
	// The contents of a deleted collection may be partly dropped: only its record shows that they are complete.
	now, st, err = findSame(r, ref, c)
	switch {
	case err != nil:
	case now.templates() == c.templates():
		faces = st.Faces
	case now.Migration != nil && now.Migration.Templates == c.templates():
		faces = st.Sent
	default:
		err = gallery.ErrDropped // the templates that c names may be partly dropped
	}
	return now, st, faces, err
}

// load reads the faces of a collection up to a sequence number, or all for live. All processors open faces, whose codes
// add copies into a gallery and nowhere else; expect is called before, with the number of faces. It returns the number
// of the last change, and up to where the collection is trained.
func load(
	ctx context.Context, r sealed.Reader, ref Ref, c collectionRecord, upTo uint64, expect func(faces int),
	add func(faceRecord) error,
) (at, trained uint64, err error) {
	_, st, faces, err := findLoaded(r, ref, c)
	if err != nil {
		return 0, 0, err
	}
	expect(faces) // or fewer: those that were added after the training are not searched
	err = c.faces().Each(ctx, r, func(encoded []byte) error {
		f, err := parseFace(encoded)
		if err != nil {
			return fmt.Errorf("%w: %w", sealed.ErrRecord, err)
		}
		if upTo != live && f.Sequence > upTo {
			return nil
		}
		if err := add(f); errors.Is(err, gallery.ErrVector) {
			return fmt.Errorf("%w: %w", sealed.ErrRecord, err)
		} else {
			return err
		}
	})
	if err != nil {
		return 0, 0, fmt.Errorf("load faces of %s: %w", ref.Kind, err)
	}
	return st.Changes.last(), st.Trained, nil
}

// follow applies the changes of a collection after a number to a gallery of a part that holds all before. It reads
// everything before it changes anything.
func follow(
	ctx context.Context, space *sealed.Space, ref Ref, c collectionRecord, upTo uint64, part gallery.Part,
	g *gallery.Gallery, after uint64,
) (at uint64, err error) {
	var list []change
	var added []faceRecord
	defer func() {
		for _, f := range added {
			clear(f.Code)
		}
	}()
	err = space.View(ctx, func(r sealed.Reader) error {
		now, st, _, err := findLoaded(r, ref, c)
		if refusal, ok := errors.AsType[*visage.Refusal](err); ok && refusal.Kind == visage.NotFound {
			return gallery.ErrDropped
		}
		if err != nil {
			return err
		}
		if at = st.Changes.last(); upTo != live && st.Followed <= after {
			list = nil
			return nil
		}
		var reaches bool
		if list, reaches, err = st.changesSince(r, c, after); err != nil {
			return err
		} else if !reaches {
			return gallery.ErrDropped
		}
		added, err = newFaces(r, now, c, upTo, list)
		return err
	})
	if err != nil {
		return 0, err
	}
	removeGone(g, list)
	for _, f := range added {
		if !inPart(part, f.ID) {
			continue
		}
		if err := g.Add(f.entry()); err != nil {
			return 0, fmt.Errorf("%w: %w", gallery.ErrDropped, err) // it lacks some of the changes now
		}
	}
	return at, nil
}

// removeGone removes from a gallery what changes have removed.
func removeGone(g *gallery.Gallery, list []change) {
	faces, persons := make(map[gallery.ID]bool), make(map[gallery.ID]bool)
	for _, c := range list {
		switch c.what {
		case faceGone:
			faces[gallery.ID([]byte(c.id))] = true
		case personGone:
			persons[gallery.ID([]byte(c.id))] = true
		}
	}
	g.RemoveAll(faces, persons)
}

// newFaces returns the faces that changes have brought to the side c of a collection. gallery.ErrDropped: the changes
// do not tell.
func newFaces(
	r sealed.Reader, now, c collectionRecord, upTo uint64, list []change,
) (added []faceRecord, err error) {
	var moved, migrating bool
	for _, change := range list {
		moved = moved || change.what == sidesChanged
		migrating = migrating || change.what == faceSent || change.what == faceReplaced
	}
	if moved && migrating {
		return nil, gallery.ErrDropped // which migration a template was of is not known
	}
	next := now.Migration != nil && now.Migration.Templates == c.templates()
	for _, change := range list {
		switch {
		case change.what == faceReplaced && next:
			return nil, gallery.ErrDropped
		case change.what == faceAdded && upTo == live, change.what == faceSent && next:
		default:
			continue
		}
		f, err := c.faces().Get(r, uuid([]byte(change.id)).String())
		if errors.Is(err, sealed.ErrNotFound) {
			continue // it was deleted since
		}
		if err != nil {
			return added, fmt.Errorf("read face: %w", err)
		}
		if upTo != live && f.Sequence > upTo {
			clear(f.Code)
			continue
		}
		added = append(added, f)
	}
	return added, nil
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
