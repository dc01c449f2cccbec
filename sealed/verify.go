package sealed

import (
	"context"
	"errors"
	"fmt"

	"github.com/visage-face/visage/sealed/internal/format"
)

// Finding is something stored that does not open, or a space that cannot be looked into.
type Finding struct {
	Space SpaceID
	Err   error // a *CorruptError, or why the space does not open
}

// Tally counts what Verify looked at.
type Tally struct {
	Spaces, Containers, Records int
	Findings                    int
}

// Verify opens every bundle, key page, nursery row and record of every space that opens without a customer's key, and calls report with everything
// that does not open or is not where it belongs. It knows no tables. The error is of the verification itself: the engine's, or an ended ctx's.
func (s *Store) Verify(ctx context.Context, report func(Finding)) (Tally, error) {
	var tally Tally
	found := func(space SpaceID, err error) {
		tally.Findings++
		report(Finding{space, err})
	}
	ids, err := s.Spaces(ctx)
	if err != nil {
		return tally, err
	}
	for _, id := range ids {
		tally.Spaces++
		err := s.Space(id).View(ctx, func(r Reader) error {
			return r.txn().verify(ctx, &tally, func(err error) { found(id, err) })
		})
		var corrupt *CorruptError
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return tally, context.Cause(ctx)
		case errors.As(err, &corrupt), errors.Is(err, ErrLocked), errors.Is(err, ErrGrace):
			found(id, err)
		case errors.Is(err, ErrNoSpace): // dropped meanwhile
		default:
			return tally, fmt.Errorf("verify space %s: %w", id, err)
		}
	}
	return tally, nil
}

func (t *txn) verify(ctx context.Context, tally *Tally, found func(error)) error {
	seen := map[format.ID]bool{rootContainer: true} // the root container was opened with the keys
	for _, kind := range []byte{rowPage, rowNursery, rowRecord} {
		err := t.eachContainer(kind, func(container format.ID) error {
			if seen[container] {
				return nil
			}
			seen[container] = true
			tally.Containers++
			return t.verifyContainer(ctx, container, tally, found)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *txn) verifyContainer(ctx context.Context, container format.ID, tally *Tally, found func(error)) (failed error) {
	opened := func([]byte, byte) (struct{}, error) { return struct{}{}, nil }
	walkRecords(t, container, opened, func(_ struct{}, err error) bool {
		var corrupt *CorruptError
		switch {
		case err == nil:
			tally.Records++
		case errors.As(err, &corrupt):
			found(err)
		default:
			failed = err
		}
		if failed == nil && ctx.Err() != nil {
			failed = context.Cause(ctx)
		}
		return failed == nil
	})
	return failed
}
