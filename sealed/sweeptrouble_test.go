package sealed_test

import (
	"context"
	"net/url"
	"strings"
	"testing"

	"github.com/visage-face/visage/sealed"
	pgtest "github.com/visage-face/visage/test/postgres"
)

// TestSweepGoesOnAfterAnyError has the sweep of the start meet an error that is no outage: the store is served, says
// that erasures are delayed, and sweeps when that is over.
func TestSweepGoesOnAfterAnyError(t *testing.T) {
	server := pgtest.Start(t)
	address := server.Database(t)
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	database := strings.TrimPrefix(u.Path, "/")
	delayed := make(chan error, 100)
	s := open(t, sealed.Config{
		Engine: "memory:", EpochKeys: address,
		Protectors: []sealed.Protector{{Name: "test", Kind: "fake", Source: protector(t)}},
		Report: func(e sealed.Event) {
			if e.Kind == sealed.EraseDelayed {
				delayed <- e.Err
			}
		},
	})
	put(t, create(t, s, spaceA), "x", note{"1", "one"})
	server.Exec(t, database, "ALTER TABLE visage_keys.epochs RENAME TO others")
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	select {
	case err := <-ran:
		t.Fatalf("the store has ended: %v", err)
	case err := <-delayed:
		if !strings.Contains(err.Error(), "42P01") {
			t.Errorf("reported: %v", err)
		}
	}
	server.Exec(t, database, "ALTER TABLE visage_keys.others RENAME TO epochs")
	for s.EpochKeys().Unswept != nil {
		select {
		case err := <-ran:
			t.Fatalf("the store has ended: %v", err)
		case <-delayed:
		default:
		}
	}
	stop()
	if err := <-ran; err != nil {
		t.Error(err)
	}
}
