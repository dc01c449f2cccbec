package server

import (
	"context"

	"github.com/visage-face/visage/sealed"
)

// CheckEpochKeys tries what the place of cfg.EpochKeys can do; see sealed.CheckEpochKeys. No store is opened.
func CheckEpochKeys(ctx context.Context, cfg Config) (sealed.KeysCheck, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return sealed.KeysCheck{}, err
	}
	place, err := cfg.place()
	if err != nil {
		return sealed.KeysCheck{}, err
	}
	return sealed.CheckEpochKeys(ctx, place)
}

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
