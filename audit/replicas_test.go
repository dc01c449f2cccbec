package audit_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/sealed"
)

// replicas opens the logs of two processes that share a store.
func replicas(t *testing.T) (a, b *audit.Log) {
	t.Helper()
	src := sourcetest.NewFake("root")
	var both []*audit.Log
	for range 2 {
		store := must[*sealed.Store](t)(sealed.Open(t.Context(), sealed.Config{
			Engine: "memory:" + t.Name(), Shared: true,
			Protectors: []sealed.Protector{{Name: "test", Kind: "fake", Source: src}},
		}))
		t.Cleanup(func() { mustDo(t, store.Close()) })
		both = append(both, open(t, store))
	}
	return both[0], both[1]
}

// run runs logs until the end of the test, or stop.
func run(t *testing.T, logs ...*audit.Log) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for _, l := range logs {
		running.Go(func() {
			if err := l.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	return func() {
		cancel()
		running.Wait()
	}
}

// TestTwoWritersMakeOneChain: entries of two processes, appended and noted at the same time, are one log.
func TestTwoWritersMakeOneChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := replicas(t)
		stop := run(t, a, b)
		const each = 50
		var work sync.WaitGroup
		for i, l := range []*audit.Log{a, b} {
			for n := range each {
				work.Go(func() {
					if err := l.Append(t.Context(), event(1000*i+n)); err != nil {
						t.Error(err)
					}
				})
				mustDo(t, l.Note(t.Context(), event(1000*i+500+n)))
			}
		}
		work.Wait()
		time.Sleep(5 * time.Second) // of the bubble
		for _, l := range []*audit.Log{a, b} {
			report := must[audit.Report](t)(l.Verify(t.Context()))
			if report.Entries != 4*each || report.Unsigned != 0 {
				t.Errorf("%d entries, %d of them unsigned, want %d and 0", report.Entries, report.Unsigned, 4*each)
			}
		}
		times := map[string]int{}
		for _, e := range list(t, b.History, audit.Query{Oldest: true}) {
			times[e.RequestID]++
		}
		for i := range 2 {
			for n := range each {
				for _, id := range []int{1000*i + n, 1000*i + 500 + n} {
					if got := times[fmt.Sprintf("request-%d", id)]; got != 1 {
						t.Errorf("event %d is %d times in the log", id, got)
					}
				}
			}
		}
		stop()
		must[audit.Report](t)(a.Verify(t.Context()))
	})
}

// TestPlacesAreThoseOfTheSharedLog: a caller gets the number that its entry has among those of all processes.
func TestPlacesAreThoseOfTheSharedLog(t *testing.T) {
	a, b := replicas(t)
	appendN(t, a, 1, 3)
	if got := must[uint64](t)(b.Place(t.Context(), event(4))); got != 4 {
		t.Errorf("the entry of the second process is number %d, want 4", got)
	}
	appendN(t, a, 5, 5)
	if got := must[uint64](t)(b.Place(t.Context(), event(6))); got != 6 {
		t.Errorf("the next entry of the second process is number %d, want 6", got)
	}
	must[audit.Report](t)(b.Verify(t.Context()))
}

// TestOneProcessSigns: as long as it has the right, and then another.
func TestOneProcessSigns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := replicas(t)
		stopA, stopB := run(t, a), run(t, b)
		defer stopB()
		time.Sleep(time.Second) // of the bubble
		for n := range 20 {
			l := []*audit.Log{a, b}[n%2]
			appendN(t, l, n, n)
			time.Sleep(time.Second)
		}
		signed := must[audit.Report](t)(b.Verify(t.Context())).Checkpoints
		// About one a second: an entry of the other process may just miss a tick.
		if signed < 10 || signed > 21 {
			t.Errorf("%d checkpoints in 20 s, want about one a second", signed)
		}
		stopA()
		appendN(t, b, 20, 20)
		time.Sleep(5 * time.Second)
		report := must[audit.Report](t)(b.Verify(t.Context()))
		if report.Unsigned != 0 || report.Checkpoints <= signed {
			t.Errorf("%d checkpoints, %d entries unsigned after the other process has ended", report.Checkpoints,
				report.Unsigned)
		}
	})
}
