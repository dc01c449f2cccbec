package account

import (
	"context"
	"fmt"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
)

// Names returns what the resources of a store are called, deleted ones among them, for work on a store that no server
// has open.
func Names(ctx context.Context, store *sealed.Store) (map[visage.ResourceID]string, error) {
	names := map[visage.ResourceID]string{}
	err := store.Space(sealed.Operator).View(ctx, func(r sealed.Reader) error {
		clear(names) // the function may run again
		for rec, err := range records.In().All(r) {
			if err != nil {
				return err
			}
			id, err := visage.ParseResourceID(rec.ID)
			if err != nil {
				return err
			}
			names[id] = rec.Name
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the names of resources: %w", err)
	}
	return names, nil
}

// IDOf returns the id of the resource called name, in any case, for work on a store that no server has open. Refusal:
// ResourceNotFound, also for a resource that is deleted.
func IDOf(ctx context.Context, store *sealed.Store, name string) (visage.ResourceID, error) {
	rec, err := storedIn(ctx, store, name, ready)
	if err != nil {
		return visage.ResourceID{}, err
	}
	return visage.ParseResourceID(rec.ID)
}
