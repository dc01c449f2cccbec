package sealed

import (
	"bytes"
	"context"
	"fmt"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/rowkey"
	"github.com/visage-face/visage/sealed/internal/tree"
)

// docs/formats/containers.md says when containers are folded, why, and how that meets writers.

// foldForever folds containers as they come due.
func (s *Store) foldForever(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.folds.wake:
		}
		for ref, ok := s.folds.take(); ok; ref, ok = s.folds.take() {
			// A space that is locked or gone, or a page that is damaged, is no reason to stop folding others; who reads
			// the page hears of it.
			if err := s.foldIfDue(ctx, ref); err != nil && ctx.Err() != nil {
				return nil
			}
		}
	}
}

// countNurseries counts the nursery rows that an earlier process left, in transactions of bounded length.
func (s *Store) countNurseries(ctx context.Context) error {
	ids, err := s.Spaces().List(ctx)
	for _, id := range ids {
		from := rowkey.OfSpace(format.ID(id), rowkey.Nursery)
		to := rowkey.After(from)
		for from != nil && err == nil {
			counts := map[format.ID]int{}
			rows := 0
			err = s.engine.View(ctx, func(r engine.Reader) error {
				for row, err := range r.Scan(from, to) {
					if err != nil {
						return err
					}
					if len(row.Key) == rowkey.Size {
						container, _ := rowkey.Parse(row.Key)
						counts[container]++
					}
					if rows++; rows == countedContainers {
						from = append(bytes.Clone(row.Key), 0)
						return nil
					}
				}
				from = nil
				return nil
			})
			s.folds.note(id, counts, nil)
		}
	}
	return err
}

// foldIfDue measures a container, and folds it when its nursery is over its share.
func (s *Store) foldIfDue(ctx context.Context, ref containerRef) error {
	sp := s.Space(ref.space)
	rows, pages := 0, 0
	err := sp.view(ctx, func(t *tree.Tx) (err error) {
		rows, pages, err = t.Size(ref.container)
		return err
	})
	if err != nil {
		return err
	}
	limit := max(foldRows, pages*tree.PageFill/foldShare)
	if rows < limit {
		s.folds.folded(ref, rows, limit)
		return nil
	}
	if err := sp.foldContainer(ctx, ref.container); err != nil {
		return err
	}
	s.folds.folded(ref, 0, max(foldRows, (pages*tree.PageFill+rows)/foldShare))
	return nil
}

// Fold moves the secrets of every container of the space into key pages now, instead of when enough have come together.
func (sp *Space) Fold(ctx context.Context) error {
	var containers []format.ID
	err := sp.view(ctx, func(t *tree.Tx) (err error) {
		containers, err = t.Unfolded()
		return err
	})
	for _, c := range containers {
		if err != nil {
			break
		}
		err = sp.foldContainer(ctx, c)
	}
	if err != nil {
		return fmt.Errorf("fold: %w", err)
	}
	return nil
}

// foldContainer walks a container's lowest pages, one step and so one transaction a page.
func (sp *Space) foldContainer(ctx context.Context, container format.ID) error {
	position := format.ID{15: 1} // the zero id is nobody's but the blinding key's
	for more := true; more; {
		var goOn format.ID
		err := sp.updateAlone(ctx, func(t *tree.Tx) (err error) {
			goOn, more, err = t.FoldStep(container, position)
			return err
		})
		if err != nil {
			return err
		}
		position = goOn
	}
	return nil
}
