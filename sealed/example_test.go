package sealed_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/visage-face/visage/keysource/file"
	"github.com/visage-face/visage/sealed"
)

// guest is a type of records. Nothing of it reaches the disk in the clear: neither its fields nor its id.
type guest struct {
	Name string
	Room int
}

var guests = sealed.NewTable[guest]("guests", 1)

// Make a store on disk, seal a record in a space of its own, and read it back.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "sealed")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	// The root key never lies inside the data: a copy of the data alone opens nothing.
	data := filepath.Join(dir, "data")
	root, err := file.New(filepath.Join(dir, "root.key"), data)
	if err != nil {
		log.Fatal(err)
	}
	if err := root.Create(); err != nil {
		log.Fatal(err)
	}
	store, err := sealed.Open(ctx, sealed.Config{
		Engine:     "pebble:" + data,
		KeyDir:     filepath.Join(dir, "epochs"),
		Protectors: []sealed.Protector{{Name: "file", Kind: "file", Exposed: true, Source: root}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()

	hotel := sealed.SpaceID{1} // one customer's data, under keys of its own
	if err := store.Spaces().Create(ctx, hotel); err != nil {
		log.Fatal(err)
	}
	space := store.Space(hotel)
	err = space.Update(ctx, func(tx sealed.Tx) error {
		return guests.In("west wing").Put(tx, "ada", guest{Name: "Ada Lovelace", Room: 12})
	})
	if err != nil {
		log.Fatal(err)
	}
	err = space.View(ctx, func(r sealed.Reader) error {
		g, err := guests.In("west wing").Get(r, "ada")
		if err != nil {
			return err
		}
		fmt.Printf("%s has room %d\n", g.Name, g.Room)
		_, err = guests.In("east wing").Get(r, "ada")
		fmt.Println("in the east wing:", err)
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// Ada Lovelace has room 12
	// in the east wing: no such record
}
