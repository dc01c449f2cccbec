//go:build visage_next_format

package sealed

import (
	"context"

	"github.com/visage-face/visage/sealed/internal/format"
)

// further is the migration of a program that is built as if it were the next version: tests replace processes of this
// version by some of that one. Its log has an entry for each migration that was run to its end.
var further = []migration{{
	Migration: Migration{
		Number: format.Store + 1, Name: "next-format", Since: "9.0.0",
		Does: "Appends to a log, for tests.",
	},
	rolling: true,
	run: func(ctx context.Context, s *Store) error {
		return s.Log("next-format").Append(ctx, func(uint64) ([][]byte, error) { return [][]byte{{1}}, nil })
	},
}}
