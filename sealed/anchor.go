package sealed

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keys"
	"github.com/visage-face/visage/sealed/internal/tree"
)

// anchorEvery bounds the age of an anchor, as the number of commits does: a rollback of up to this time is not
// detected.
const anchorEvery = time.Minute

// anchorForever brings the anchors up to date.
func (s *Store) anchorForever(ctx context.Context) {
	tick := time.NewTicker(anchorEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-s.anchors.Due():
		}
		err := errors.Join(s.surveySpaces(ctx), s.anchorSpaces(ctx))
		if err != nil && ctx.Err() == nil {
			s.report(Event{Kind: AnchorDelayed, Err: err})
		}
	}
}

// anchorSpaces brings what is kept outside the engine up to date: every open space's newest state. Run does it once a
// minute, after every 1,000 commits, and Close does it at the end.
func (s *Store) anchorSpaces(ctx context.Context) error {
	var failed error
	for _, sp := range s.allKnown() {
		if err := sp.anchor(ctx); err != nil && !isGone(err) {
			failed = errors.Join(failed, fmt.Errorf("anchor space %s: %w", sp.id, err))
		}
	}
	return errors.Join(failed, s.anchors.Write(ctx))
}

// anchor lets the root container know the newest states of the containers that changed, and anchors its head.
func (sp *Space) anchor(ctx context.Context) error {
	sp.mu.Lock()
	changed := sp.dirty
	if len(changed) == 0 || sp.ring == nil {
		sp.mu.Unlock()
		return nil
	}
	sp.dirty = map[format.ID]bool{}
	sp.mu.Unlock()
	sp.keying.Lock() // so that the bundle is of the same time
	defer sp.keying.Unlock()
	var doc keys.Anchor
	err := sp.updateAlone(ctx, func(t *tree.Tx) error {
		if err := t.NoteStates(keysOf(changed)); err != nil {
			return err
		}
		root := t.RootState()
		doc = keys.Anchor{Space: format.ID(sp.id), Sequence: root.Sequence, Head: sha256.Sum256(root.Row)}
		return nil
	})
	if err != nil {
		sp.note(0, tree.Changes{Touched: keysOf(changed)})
		return err
	}
	bundle, err := (&Bundle{sp}).read(ctx)
	if err == nil {
		doc.Bundle, doc.Made = bundle.Sequence, bundle.Made
		sp.store.anchors.Set(doc)
	}
	return err
}

func keysOf(set map[format.ID]bool) (list []format.ID) {
	for id := range set {
		list = append(list, id)
	}
	return list
}
