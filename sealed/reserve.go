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

// MayGrow returns a *FullError when nothing new is taken. It is for services whose records lie in the operator's space,
// where changes are always taken.
func (sp *Space) MayGrow() error {
	if err := sp.store.volumes.Growth(); err != nil {
		return err
	}
	return nil
}
