package postgres_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/visage-face/visage/sealed/internal/postgres"
	pgtest "github.com/visage-face/visage/test/postgres"
)

// TestLongViews takes all places of snapshots that last, first those of maintenance.
func TestLongViews(t *testing.T) {
	address := pgtest.Shared(t).Database(t)
	gone, stop := context.WithCancelCause(t.Context())
	stopped := errors.New("stopped")
	stop(stopped)
	for _, c := range []struct{ connections, maintenance, all int }{{12, 1, 2}, {21, 1, 2}, {24, 2, 3}, {60, 8, 9}} {
		e := open(t, postgres.Config{URL: address, Connections: c.connections, Patience: short})
		for range c.maintenance {
			leave, err := e.MaintenanceView(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer leave()
		}
		if _, err := e.MaintenanceView(gone); !errors.Is(err, stopped) { // it has no place, or it would get one
			t.Errorf("%d connections: maintenance too many: %v", c.connections, err)
		}
		var last func()
		for range c.all - c.maintenance {
			leave, err := e.LongView(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			last = leave
		}
		_, err := e.LongView(t.Context())
		wantOutage(t, err, "As many large collections")
		if err == nil || !strings.Contains(err.Error(), "pool_max_conns") {
			t.Errorf("%v does not name the setting", err)
		}
		last()
		leave, err := e.LongView(t.Context())
		if err != nil {
			t.Fatalf("%d connections: a place that was left: %v", c.connections, err)
		}
		leave()
	}
	if err := postgres.CheckURL("postgres://a@localhost/b?pool_max_conns=11"); err == nil {
		t.Error("too few connections were taken")
	}
}
