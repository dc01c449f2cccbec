package sealed

import (
	"context"
	"errors"
	"fmt"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keys"
	"github.com/visage-face/visage/sealed/internal/keystore"
	"github.com/visage-face/visage/sealed/internal/tree"
)

// verifyClosed looks at what a space shows without its customer's key: that its bundle is authentic, that the epoch
// keys it names are there, that it is no older than its anchor's bundle, that the engine reads every row, and that rows
// are well formed and belong together. What is under the instance root alone is opened.
func (s *Store) verifyClosed(ctx context.Context, id SpaceID, v *verification) error {
	s.root.Hold()
	defer s.root.Release()
	found := func(err error) error {
		_, corrupt := errors.AsType[*CorruptError](err)
		if corrupt || errors.Is(err, ErrRollback) {
			v.found(id, err)
			return nil
		}
		return err
	}
	doc, err := s.bundles.Read(ctx, id)
	if err != nil {
		return found(err)
	}
	if err := s.openClosed(ctx, id, doc); err != nil && !errors.Is(err, ErrLocked) {
		return found(err)
	}
	_, err = s.epochs.Get(format.ID(id), doc.Current.Epoch) // an older one may be on its way out
	if errors.Is(err, keystore.ErrNotFound) {
		v.found(
			id,
			s.report.Corrupt(&CorruptError{Space: id, What: "epoch key",
				Err: fmt.Errorf("%w; restore the key directory from its newest copy", err)}),
		)
	} else if err != nil {
		return fmt.Errorf("read epoch key %d: %w", doc.Current.Epoch, err)
	}
	if err := s.anchors.CheckBundle(id, doc.Sequence); err != nil {
		v.found(id, err)
	}
	var tally tree.Counts
	defer func() { v.count(tally) }()
	return s.engine.View(ctx, func(r engine.Reader) error {
		t := tree.NewReader(s.env, id, nil, r)
		defer t.Finish()
		return t.VerifyRows(ctx, doc.Restored, &tally, func(err error) { v.found(id, err) })
	})
}

// openClosed opens the keys of a space that is locked although it needs no customer's key, as far as its root
// container; then they are wiped again.
func (s *Store) openClosed(ctx context.Context, id SpaceID, doc keys.Doc) error {
	ring, err := keys.NewRing(&s.rings)
	if err != nil {
		return err
	}
	defer ring.Free()
	_, err = s.openRing(ctx, id, doc, ring, nil)
	return err
}
