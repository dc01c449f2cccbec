package sealed

import (
	"context"
	"fmt"

	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keys"
	"github.com/visage-face/visage/sealed/internal/tree"
)

// reconcile puts a restored space in order, and ends by taking the mark from the bundle. The root is held.
func (s *Store) reconcile(ctx context.Context, id SpaceID, ring *keys.Ring) error {
	sum, err := tree.Reconcile(ctx, s.env, id, ring, s.engine, func(rows map[format.ID]int) { s.folds.note(id, rows) })
	if err == nil {
		err = s.bundles.Change(ctx, id, func(doc *keys.Doc) error {
			doc.Restored = false
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("put restored space %s in order: %w", id, err)
	}
	s.report(Event{Kind: SpaceRestored, Space: id, Note: fmt.Sprintf(
		"%d records had been erased since the backup, %d were made since and are not in it, %d are older in it",
		sum.Erased, sum.Forgotten, sum.Older)})
	return nil
}
