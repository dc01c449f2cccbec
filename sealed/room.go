package sealed

import (
	"context"

	"github.com/visage-face/visage/sealed/internal/pebble"
	"github.com/visage-face/visage/sealed/internal/volume"
)

// Bytes writes a number of bytes for people.
func Bytes(n uint64) string { return pebble.Bytes(n) }

// FullError says that nothing was written, because a volume has too little room left. It is an ErrFull.
type FullError = volume.FullError

// VolumeState is what a volume has left.
type VolumeState = volume.State

// FromReserve marks a context: what is written under it may use what is kept in reserve, as deletions do. It is for
// what must go on while the disk is full and is small.
func FromReserve(ctx context.Context) context.Context { return volume.FromReserve(ctx) }

// Volumes says how full the volumes are. What is not known is left out.
func (s *Store) Volumes() []VolumeState { return s.volumes.States() }

// MayGrow returns a *FullError when nothing new is taken. It is for services whose records lie in the operator's space,
// where changes are always taken.
func (s *Store) MayGrow() error {
	if err := s.volumes.Growth(); err != nil {
		return err
	}
	return nil
}

// MayGrow is the store's: see Store.MayGrow.
func (sp *Space) MayGrow() error { return sp.store.MayGrow() }

// refuseGrowth refuses a transaction that adds or changes records while the volume is full, unless it deletes some as
// well, or is marked; and one that deletes when too little is left for that. The operator's space holds accounts, keys
// and rights, whose changes must go on; what adds to it asks MayGrow.
func (t *txn) refuseGrowth(ctx context.Context, adds, deletes bool) error {
	var full *FullError
	switch {
	case t.sp.id == Operator || volume.MayUseReserve(ctx):
	case deletes:
		full = t.sp.store.volumes.Exhaustion()
	case adds:
		full = t.growth()
	}
	if full != nil {
		return full
	}
	return nil
}

// growth refuses what is new, and looks at the volume once for all members of a group.
func (t *txn) growth() *FullError {
	if t.stage == nil {
		return t.sp.store.volumes.Growth()
	}
	g := t.stage.group
	if !g.looked {
		g.looked, g.full = true, t.sp.store.volumes.Growth()
	}
	return g.full
}
