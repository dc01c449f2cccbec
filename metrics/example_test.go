package metrics_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/metrics"
	"github.com/visage-face/visage/sealed"
)

// Count requests of a resource, store them, and read them back.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	store, err := sealed.Open(ctx, sealed.Config{
		Engine:     "memory:",
		Protectors: []sealed.Protector{{Name: "test", Kind: "fake", Source: sourcetest.NewFake("root")}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	resource := visage.ResourceID(visage.NewUUID())
	if err := store.Spaces().Create(ctx, sealed.SpaceID(resource)); err != nil {
		log.Fatal(err)
	}

	begin := time.Now()
	recorder, err := metrics.Open(ctx, metrics.Config{Store: store})
	if err != nil {
		log.Fatal(err)
	}
	for range 99 {
		recorder.Observe(metrics.Observation{Resource: resource, Status: 200, Took: 20 * time.Millisecond})
	}
	recorder.Observe(metrics.Observation{Resource: resource, Status: 404, Code: "PersonNotFound", Took: time.Second})
	stop() // a server stops: Run writes the minute that has begun
	if err := recorder.Run(ctx); err != nil {
		log.Fatal(err)
	}

	series, err := recorder.Read(context.Background(), resource, begin, time.Now(), time.Minute)
	if err != nil {
		log.Fatal(err)
	}
	total := series.Total
	fmt.Printf("%d requests, %d %s\n", total.Requests, total.Errors[0].Count, total.Errors[0].Code)
	fmt.Println("p99:", total.P99.Round(5*time.Millisecond))
	// Output:
	// 100 requests, 1 PersonNotFound
	// p99: 20ms
}
