package vision

import (
	"context"
	"runtime"
)

// Limit bounds the number of photos that several pipelines together process at the same time; further calls wait.
type Limit struct{ turns chan struct{} }

// NewLimit makes a limit of a number of photos; less than 1: the number of processors.
func NewLimit(photos int) *Limit {
	if photos < 1 {
		photos = runtime.NumCPU()
	}
	return &Limit{make(chan struct{}, photos)}
}

// take waits for a place, which done gives back. The error is ctx's cause.
func (l *Limit) take(ctx context.Context) (done func(), err error) {
	select {
	case l.turns <- struct{}{}:
		return func() { <-l.turns }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// alone reports whether at most one photo is being processed.
func (l *Limit) alone() bool { return len(l.turns) <= 1 }
