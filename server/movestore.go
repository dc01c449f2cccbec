package server

import (
	"context"

	"github.com/visage-face/visage/internal/durable"
	"github.com/visage-face/visage/sealed"
)

// MoveStore copies the store of a server that is not running between its data directory and a database, or between
// databases; see sealed.Move. from and to have the same Dir, whose keys stay, and different engines. The copy is
// complete when it returns nil, and the source is left as it is.
func MoveStore(ctx context.Context, from, to Config, progress func(sealed.Moved)) (sealed.Moved, error) {
	from, err := from.withDefaults()
	if err != nil {
		return sealed.Moved{}, err
	}
	if to, err = to.withDefaults(); err != nil {
		return sealed.Moved{}, err
	}
	if err := from.hasData(ctx); err != nil {
		return sealed.Moved{}, err
	}
	if !to.onDatabase() {
		if err := durable.MkdirAll(to.dataDir()); err != nil {
			return sealed.Moved{}, err
		}
	}
	source, err := from.place()
	if err != nil {
		return sealed.Moved{}, err
	}
	target, err := to.place()
	if err != nil {
		return sealed.Moved{}, err
	}
	return sealed.Move(ctx, source, target, progress)
}
