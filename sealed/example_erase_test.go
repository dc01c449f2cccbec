package sealed_test

import (
	"context"
	"fmt"
	"log"

	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/sealed"
)

// visit is a type of records.
type visit struct{ Purpose string }

var visits = sealed.NewTable[visit]("visits", 1)

// Delete a record so that no older copy of the data opens it either, and get a receipt for that. In memory, where the
// epoch key lies beside the data, the receipt claims no more than the deletion: D0. With a directory of keys it is D1.
func ExampleSpace_Erase() {
	ctx := context.Background()
	store, err := sealed.Open(ctx, sealed.Config{
		Engine:     "memory:",
		Protectors: []sealed.Protector{{Name: "root", Kind: "memory", Source: sourcetest.NewFake("root")}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	id := sealed.SpaceID{1}
	if err := store.Spaces().Create(ctx, id); err != nil {
		log.Fatal(err)
	}
	space, today := store.Space(id), visits.In("2026-12-24")
	err = space.Update(ctx, func(tx sealed.Tx) error { return today.Put(tx, "ada", visit{Purpose: "dinner"}) })
	if err != nil {
		log.Fatal(err)
	}

	receipt, err := space.Erase(ctx, func(tx sealed.Tx) error { return today.Delete(tx, "ada") })
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("erased %d record by destroying epoch key %d: grade %s\n",
		receipt.Erased[0].Count, receipt.Epoch, receipt.Grade)
	// Output:
	// erased 1 record by destroying epoch key 1: grade D0
}
