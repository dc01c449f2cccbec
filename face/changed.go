package face

import (
	"context"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/gallery"
)

// changed brings what this process keeps in memory of a collection up to date with what a transaction has stored, so
// that deleted faces and names leave the memory now and not with the next search. persons are those that were added or
// renamed. Other processes, and copies that it cannot reach, follow by the log of changes before they are used.
func (s *Service) changed(
	ctx context.Context, res visage.Resource, c collectionRecord, st stateRecord, persons ...personRecord,
) {
	done := st.stored()
	if len(done.list) == 0 {
		return
	}
	for _, p := range persons {
		if done.names == nil {
			done.names = make(map[string]string, len(persons))
		}
		done.names[string(p.ID[:])] = fold(p.Name)
	}
	s.names.change(contentsOrder(res, c), done)
	ctx = context.WithoutCancel(ctx) // it is stored, even if the caller has left
	for i, side := range c.sides() {
		s.galleries.Apply(ctx, scope(res, side), done.after, done.last(),
			func(version uint64, g *gallery.Gallery) (bool, error) {
				return applyGone(g, version, i > 0, done.list), nil
			})
	}
	// Last: a client that has read the id of a face in a list can then delete it from all.
	s.orders.change(contentsOrder(res, c), done)
}

// applyGone applies changes to a gallery that has those before, if they only remove from it. next says that it is of
// the next side of a migration.
func applyGone(g *gallery.Gallery, version uint64, next bool, list []change) bool {
	for _, c := range list {
		switch c.what {
		case faceAdded:
			if version == live {
				return false
			}
		case faceSent, faceReplaced:
			if next {
				return false
			}
		}
	}
	removeGone(g, list)
	return true
}
