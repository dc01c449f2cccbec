package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/visage-face/visage/sealed/internal/pipeline"
)

func count(n int) func(put func(*int) error) error {
	return func(put func(*int) error) error {
		for i := range n {
			if err := put(&i); err != nil {
				return err
			}
		}
		return nil
	}
}

func TestOrderIsKept(t *testing.T) {
	for _, workers := range []int{1, 2, 7} {
		want, worked := 0, atomic.Int64{}
		err := pipeline.Run(t.Context(), workers, count(1000), func(v *int) error {
			worked.Add(1)
			*v *= 2
			return nil
		}, func(v *int) error {
			if *v != 2*want {
				return fmt.Errorf("got %d, want %d", *v, 2*want)
			}
			want++
			return nil
		})
		if err != nil || want != 1000 || worked.Load() != 1000 {
			t.Errorf("%d workers: %d worked on, %d handed on, %v", workers, worked.Load(), want, err)
		}
	}
}

// TestFirstErrorEndsAll: whichever of the four fails, Run returns that error, and all goroutines have ended, which the
// bubble checks.
func TestFirstErrorEndsAll(t *testing.T) {
	broken := errors.New("broken")
	at := func(n int) func(*int) error {
		return func(v *int) error {
			if *v == n {
				return broken
			}
			return nil
		}
	}
	fine := func(*int) error { return nil }
	for name, run := range map[string]func(ctx context.Context) error{
		"work": func(ctx context.Context) error { return pipeline.Run(ctx, 3, count(1000), at(100), fine) },
		"next": func(ctx context.Context) error { return pipeline.Run(ctx, 3, count(1000), fine, at(100)) },
		"produce": func(ctx context.Context) error {
			return pipeline.Run(
				ctx, 3, func(put func(*int) error) error { return errors.Join(count(100)(put), broken) }, fine, fine,
			)
		},
		"context": func(ctx context.Context) error {
			ctx, cancel := context.WithCancelCause(ctx)
			return pipeline.Run(ctx, 3, count(1000), fine, func(v *int) error {
				if *v == 100 {
					cancel(broken)
				}
				return nil
			})
		},
		"context, while work waits": func(ctx context.Context) error {
			ctx, cancel := context.WithCancelCause(ctx)
			return pipeline.Run(ctx, 3, count(1000), func(v *int) error {
				if *v == 100 {
					cancel(broken)
				}
				if *v >= 100 {
					<-ctx.Done()
				}
				return nil
			}, fine)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if err := run(t.Context()); !errors.Is(err, broken) {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

// TestFewAreOnTheirWay: who hands on slowly is waited for.
func TestFewAreOnTheirWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const workers = 3
		var in atomic.Int64
		release := make(chan struct{})
		go func() {
			synctest.Wait()
			if n := in.Load(); n > 2*workers+2 {
				t.Errorf("%d are on their way", n)
			}
			close(release)
		}()
		err := pipeline.Run(t.Context(), workers, func(put func(*int) error) error {
			for i := range 100 {
				in.Add(1)
				if err := put(&i); err != nil {
					return err
				}
			}
			return nil
		}, func(*int) error { return nil }, func(*int) error { <-release; return nil })
		if err != nil {
			t.Error(err)
		}
	})
}
