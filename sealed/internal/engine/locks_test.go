package engine_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
)

// TestLocksExclude has many lock a few scopes, or all, for contexts that end at any moment: no scope is held twice, and
// none together with all.
func TestLocksExclude(t *testing.T) {
	var l engine.Locks
	var held [3]atomic.Int64
	var got, ended atomic.Int64
	gone := errors.New("gone")
	var work sync.WaitGroup
	for g := range uint64(16) {
		work.Go(func() {
			random := rand.New(rand.NewPCG(g, 1))
			for range 2_000 {
				ctx, cancel := context.WithCancelCause(t.Context())
				if random.IntN(3) == 0 {
					go cancel(gone) // wherever it is by then
				}
				first, n := random.IntN(len(held)), 1
				scope := format.ID{byte(first)}
				lock, unlock := func() error { return l.Lock(ctx, scope) }, func() { l.Unlock(scope) }
				if random.IntN(8) == 0 {
					first, n = 0, len(held)
					lock, unlock = func() error { return l.LockAll(ctx) }, l.UnlockAll
				}
				if err := lock(); err != nil {
					cancel(nil)
					ended.Add(1)
					if !errors.Is(err, gone) {
						t.Error(err)
					}
					continue
				}
				got.Add(1)
				for i := first; i < first+n; i++ {
					if held[i].Add(1) != 1 {
						t.Errorf("scope %d is held twice", i)
					}
				}
				runtime.Gosched()
				for i := first; i < first+n; i++ {
					held[i].Add(-1)
				}
				unlock()
				cancel(nil)
			}
		})
	}
	work.Wait()
	if got.Load() == 0 || ended.Load() == 0 {
		t.Errorf("%d locked and %d gave up: the test looks at the wrong things", got.Load(), ended.Load())
	}
	if err := l.LockAll(t.Context()); err != nil { // all of it was given back
		t.Error(err)
	}
}

// TestLocksKeepTheOrder has somebody wait for all scopes while one is held: whoever comes later for another one waits
// behind, until the first gives up.
func TestLocksKeepTheOrder(t *testing.T) {
	var l engine.Locks
	if err := l.Lock(t.Context(), format.ID{1}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	all := make(chan error, 1)
	go func() { all <- l.LockAll(ctx) }()
	later := func() error { // for as short as can be
		now, stop := context.WithCancel(t.Context())
		result := make(chan error, 1)
		go func() { result <- l.Lock(now, format.ID{2}) }()
		for range 1_000 {
			select {
			case err := <-result:
				stop()
				return err
			default:
				runtime.Gosched()
			}
		}
		stop()
		return <-result
	}
	for { // until the one for all waits
		err := later()
		if err != nil {
			break
		}
		l.Unlock(format.ID{2})
	}
	cancel()
	if err := <-all; !errors.Is(err, context.Canceled) {
		t.Fatalf("lock all: %v", err)
	}
	if err := l.Lock(t.Context(), format.ID{2}); err != nil { // who gave up is in nobody's way
		t.Error(err)
	}
}
