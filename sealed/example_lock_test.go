package sealed_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/sealed"
)

// badge is a type of records.
type badge struct{ Number int }

var badges = sealed.NewTable[badge]("badges", 1)

// Put a space under its customer's key, lock it, and open it again. Keys in memory stand for the root key's protector
// and for the customer's vault.
func ExampleBundle_Lock() {
	ctx := context.Background()
	root, vault := sourcetest.NewFake("root"), sourcetest.NewFake("the customer's vault")
	store, err := sealed.Open(ctx, sealed.Config{
		Engine:     "memory:",
		Protectors: []sealed.Protector{{Name: "root", Kind: "memory", Source: root}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	id := sealed.SpaceID{1}
	if err := store.Spaces().Create(ctx, id); err != nil {
		log.Fatal(err)
	}
	space, keys := store.Space(id), store.Bundle(id)
	read := func() (b badge, err error) {
		err = space.View(ctx, func(r sealed.Reader) (err error) {
			b, err = badges.In().Get(r, "ada")
			return err
		})
		return b, err
	}
	err = space.Update(ctx, func(tx sealed.Tx) error { return badges.In().Put(tx, "ada", badge{Number: 7}) })
	if err != nil {
		log.Fatal(err)
	}

	// Wrap adds a data key that the vault wraps, Turn seals the data under it, Retire ends the key from before.
	generation, err := keys.Wrap(ctx, vault)
	if err == nil {
		err = keys.Turn(ctx, generation, vault)
	}
	if err == nil {
		err = keys.Retire(ctx, vault)
	}
	if err != nil {
		log.Fatal(err)
	}

	lease := space.Lease() // ends with the lock: nothing that was made from the data may outlive it
	keys.Lock(errors.New("the customer has revoked the key"))
	fmt.Println("the lease has ended:", context.Cause(lease))
	_, err = read()
	fmt.Println("reading is refused:", errors.Is(err, sealed.ErrLocked))
	fmt.Println("the service alone opens it:", keys.Load(ctx, nil) == nil)

	if err := keys.Load(ctx, vault); err != nil {
		log.Fatal(err)
	}
	b, err := read()
	fmt.Println("with the customer's key:", b.Number, err)
	// Output:
	// the lease has ended: the customer has revoked the key
	// reading is refused: true
	// the service alone opens it: false
	// with the customer's key: 7 <nil>
}
