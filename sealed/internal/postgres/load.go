package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/visage-face/visage/sealed/internal/engine"
)

// Load implements engine.Loader, with COPY.
func (e *Engine) Load(ctx context.Context, rows engine.Batch) error {
	for _, value := range rows.Values {
		if len(value.Bytes()) == 0 {
			return engine.ErrUnsealed
		}
	}
	if err := e.enter(ctx); err != nil {
		return err
	}
	defer e.gate.Leave()
	conn, err := e.acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	bounded, stop := e.bound(ctx)
	defer stop()
	// One statement is a transaction.
	_, err = conn.Conn().CopyFrom(bounded, pgx.Identifier{"visage", "rows"}, []string{"key", "value"},
		pgx.CopyFromSlice(len(rows.Keys), func(i int) ([]any, error) {
			return []any{rows.Keys[i], rows.Values[i].Bytes()}, nil
		}))
	return failed(ctx, err)
}

var _ engine.Loader = (*Engine)(nil)
