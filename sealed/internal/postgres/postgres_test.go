package postgres_test

import (
	"testing"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/engine/enginetest"
	"github.com/visage-face/visage/sealed/internal/postgres"
	pgtest "github.com/visage-face/visage/test/postgres"
)

func TestConformance(t *testing.T) {
	server := pgtest.Shared(t)
	enginetest.Run(t, func(t *testing.T) enginetest.Place { return place(server.Database(t)) })
}

func place(url string) enginetest.Place {
	return enginetest.Place{Shared: true, Open: func(tb testing.TB) (engine.Engine, error) {
		return opened(postgres.Open(tb.Context(), postgres.Config{URL: url}))
	}}
}

// opened keeps a nil *postgres.Engine from becoming an engine that is not nil.
func opened(e *postgres.Engine, err error) (engine.Engine, error) {
	if err != nil {
		return nil, err
	}
	return e, nil
}
