package account

import (
	"context"
	"fmt"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
)

// Names returns the names of all resources of a store, deleted ones included. It is for commands on a store that no
// server has open.
func Names(ctx context.Context, store *sealed.Store) (map[visage.ResourceID]string, error) {
	names := map[visage.ResourceID]string{}
	err := store.Space(sealed.Operator).View(ctx, func(r sealed.Reader) error {
		clear(names) // the function may run more than once
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

// IDOf returns the id of the resource called name, ignoring case. It is for commands on a store that no server has
// open. Refusal: ResourceNotFound, also for a deleted resource.
func IDOf(ctx context.Context, store *sealed.Store, name string) (visage.ResourceID, error) {
	rec, err := storedIn(ctx, store, name, ready)
	if err != nil {
		return visage.ResourceID{}, err
	}
	return visage.ParseResourceID(rec.ID)
}
