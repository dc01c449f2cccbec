package gallery_test

import (
	"context"
	"fmt"
	"log"

	"github.com/visage-face/visage/gallery"
)

// Search the faces of two people for the one who is nearest to a probe. Templates have 128 numbers or more; two are
// enough to see what a distance is.
func ExampleGallery_Search() {
	g, err := gallery.New(2)
	if err != nil {
		log.Fatal(err)
	}
	defer g.Close()
	ada, ben := gallery.ID{1}, gallery.ID{2}
	for i, face := range []struct {
		owner  gallery.ID
		vector []float32
	}{
		{ada, []float32{1, 0}},
		{ada, []float32{0.6, 0.8}},
		{ben, []float32{0, -1}},
	} {
		code, err := gallery.Encode(face.vector)
		if err != nil {
			log.Fatal(err)
		}
		err = g.Add(gallery.Entry{ID: gallery.ID{10 + byte(i)}, Owner: face.owner, Order: uint64(i), Code: code})
		if err != nil {
			log.Fatal(err)
		}
	}

	probe, err := gallery.Encode([]float32{0.8, 0.6})
	if err != nil {
		log.Fatal(err)
	}
	// One search takes several probes, and returns the matches of each. ByOwner: each person by the nearest face alone.
	found, err := g.Search(context.Background(), gallery.Query{Probes: []gallery.Code{probe}, K: 2, ByOwner: true})
	if err != nil {
		log.Fatal(err)
	}
	for _, match := range found[0] {
		fmt.Printf("person %d at distance %.2f\n", match.Owner[0], match.Distance)
	}
	// Output:
	// person 1 at distance 0.04
	// person 2 at distance 1.60
}

// Keep galleries within a budget of memory: the pool loads one when it is asked for, keeps it for the next, and drops
// it when its lease ends, as it does when the key of the data is revoked.
func ExamplePool_Use() {
	pool, err := gallery.NewPool(1 << 20)
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	lease, revoke := context.WithCancel(context.Background())
	defer revoke()
	guests := gallery.Source{
		Lease: lease,
		Dim:   2,
		Load: func(_ context.Context, g *gallery.Gallery) (at uint64, err error) {
			fmt.Println("loading")
			code, err := gallery.Encode([]float32{1, 0})
			if err != nil {
				return 0, err
			}
			return 0, g.Add(gallery.Entry{ID: gallery.ID{1}, Code: code})
		},
	}
	count := func(g *gallery.Gallery) error {
		fmt.Println(g.Len(), "face")
		return nil
	}

	ctx, key := context.Background(), gallery.Key{Scope: "guests", Version: 1}
	for range 2 {
		if err := pool.Use(ctx, key, guests, count); err != nil {
			log.Fatal(err)
		}
	}
	revoke()
	fmt.Println(pool.Use(ctx, key, guests, count))
	// Output:
	// loading
	// 1 face
	// 1 face
	// context canceled
}
