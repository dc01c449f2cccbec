package server

import (
	"context"

	"github.com/visage-face/visage/sealed"
)

// MoveEpochKeys moves the epoch keys and anchors of a server that is not running to another place; see
// sealed.MoveEpochKeys. from and to differ in EpochKeys and EpochKeysSecretFile alone.
func MoveEpochKeys(ctx context.Context, from, to Config) (sealed.KeysMoved, error) {
	from, err := from.withDefaults()
	if err != nil {
		return sealed.KeysMoved{}, err
	}
	if to, err = to.withDefaults(); err != nil {
		return sealed.KeysMoved{}, err
	}
	if err := from.hasData(ctx); err != nil {
		return sealed.KeysMoved{}, err
	}
	source, err := from.place()
	if err != nil {
		return sealed.KeysMoved{}, err
	}
	target, err := to.place()
	if err != nil {
		return sealed.KeysMoved{}, err
	}
	if source.Protectors, err = from.protectors(false); err != nil {
		return sealed.KeysMoved{}, err
	}
	defer func() { _ = from.rootStores.close() }() // it ends helpers, which have done their work
	return sealed.MoveEpochKeys(ctx, source, target)
}
