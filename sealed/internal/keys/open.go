package keys

import (
	"context"
	"fmt"

	"github.com/visage-face/visage/internal/arena"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed/internal/format"
)

// Open opens the keys of a bundle into a keyring that is new: all but the blinding key, which lies in the root
// container.
func (b *Bundles) Open(ctx context.Context, id format.SpaceID, doc Doc, ring *Ring, src keysource.Source) error {
	if doc.State != Active {
		return b.damaged(id, fmt.Errorf("%w: state %q is not known", format.ErrMalformed, doc.State))
	}
	current, e := doc.current()
	if current == nil || e == nil {
		return b.damaged(id, errNoCurrent)
	}
	g := *current
	if err := b.unwrap(ctx, ring.data(), id, g, src); err != nil {
		return fmt.Errorf("unwrap data key of generation %d: %w", g.Number, err)
	}
	ring.generation = g.Number
	ring.take(slotHedge, format.HedgeKey(ring.data(), format.ID(id)))
	scratch, err := arena.New(format.KeySize)
	if err != nil {
		return err
	}
	defer scratch.Free()
	// A space under two keys, while one takes over from the other, needs both to open: its owner, who refuses one of
	// them, expects that it locks.
	for _, other := range doc.Generations {
		if other.Number == g.Number {
			continue
		}
		if err := b.unwrap(ctx, scratch.Bytes(), id, other, src); err != nil {
			return fmt.Errorf("unwrap data key of generation %d: %w", other.Number, err)
		}
	}
	if err := b.openEpoch(ctx, scratch.Bytes(), ring.data(), id, *e); err != nil {
		return err
	}
	ring.addRoot(format.Pair{Generation: g.Number, Epoch: e.Number}, format.RootKey(ring.data(), scratch.Bytes()))
	return nil
}
