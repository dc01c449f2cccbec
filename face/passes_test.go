package face_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage/face"
)

// TestPartsShareReadings loads many parts at once: those that come before the first row is read share that reading,
// and all that come while it goes on share the next.
func TestPartsShareReadings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const parts = 14
		readings, gate := 0, make(chan struct{})
		p := face.NewPasses(func(ctx context.Context) error {
			readings++
			select {
			case <-gate:
			case <-ctx.Done():
			}
			return context.Cause(ctx)
		})
		var wg sync.WaitGroup
		begin := func(index int, ctx context.Context, want error) {
			wg.Go(func() {
				if err := p.Load(ctx, index); !errors.Is(err, want) {
					t.Errorf("load of part %d: %v, want %v", index, err, want)
				}
			})
		}
		begin(0, t.Context(), nil)
		synctest.Wait() // the first is being read
		gone, leave := context.WithCancel(t.Context())
		for i := range parts {
			begin(i, t.Context(), nil)
			begin(i, gone, context.Canceled)
		}
		synctest.Wait()
		leave()
		synctest.Wait() // those that left did not wait
		close(gate)
		wg.Wait()
		if readings != 2 {
			t.Errorf("%d readings for %d loads, want 2", readings, parts+1)
		}

		// A reading for which nobody waits any more ends, and one that waits for its turn never begins.
		gate = make(chan struct{})
		gone, leave = context.WithCancel(t.Context())
		begin(0, gone, context.Canceled)
		synctest.Wait()
		later, leaveLater := context.WithCancel(t.Context())
		begin(1, later, context.Canceled) // waits for its turn
		synctest.Wait()
		leaveLater()
		synctest.Wait()
		leave()
		wg.Wait()
		// The next one begins anew.
		close(gate)
		begin(0, t.Context(), nil)
		wg.Wait()
		if readings != 4 {
			t.Errorf("%d readings, want 4", readings)
		}
	})
}

// TestPartsLoadedAtOnce compares what parts that were loaded together hold with parts that were loaded one by one.
func TestPartsLoadedAtOnce(t *testing.T) {
	const parts = 8
	a, b, _, s := newScattered(t, parts)
	group := a.create(t, face.LargePersonGroup, "g")
	for i := range 60 {
		a.enrol(t, group, "n", fmt.Sprint("p", i))
	}
	s.by = []*service{a}
	a.trainOn(t, a, group) // which searches all parts
	all := 0
	for i, n := range loadAll(t, b, s.last, parts) {
		q := s.last
		q.Index = i
		if one := must[face.PartFound](t)(a.SearchPart(t.Context(), q)).Faces; n != one {
			t.Errorf("part %d has %d faces when it is loaded together with others, %d alone", i, n, one)
		}
		all += n
	}
	if all != 60 {
		t.Errorf("%d faces in all parts, want 60", all)
	}
}

// loadAll searches all parts at the same time and returns the faces of each.
func loadAll(t testing.TB, r *service, q face.PartQuery, parts int) []int {
	t.Helper()
	var wg sync.WaitGroup
	faces := make([]int, parts)
	for i := range parts {
		q := q // each its own
		q.Index = i
		wg.Go(func() {
			found, err := r.SearchPart(t.Context(), q)
			if err != nil {
				t.Error(err)
			}
			faces[i] = found.Faces
		})
	}
	wg.Wait()
	return faces
}

// BenchmarkLoadParts compares the processor time of loading the 16 parts of a collection at once with that of one.
func BenchmarkLoadParts(b *testing.B) {
	const parts, persons = 16, 10_000
	store := openStore(b, sharedConfig(b), true)
	a := newServiceOn(b, store, 0)
	group := a.create(b, face.LargePersonGroup, "g")
	for i := range persons {
		a.enrol(b, group, "n", fmt.Sprint("p", i))
	}
	s := &scattered{count: parts, by: []*service{a}}
	a.SearchIn(s)
	mustDo(b, a.Train(b.Context(), a.res, group))
	a.TrainNow(b.Context(), a.res)
	var one, all time.Duration
	for b.Loop() {
		for _, at := range []struct {
			parts int
			took  *time.Duration
		}{{1, &one}, {parts, &all}} {
			r := newServiceOn(b, store, 0)
			began := processor(b)
			loadAll(b, r, s.last, at.parts)
			*at.took += processor(b) - began
		}
	}
	b.ReportMetric(one.Seconds()/float64(b.N)*1e3, "one-ms")
	b.ReportMetric(all.Seconds()/float64(b.N)*1e3, "all-ms")
	b.ReportMetric(all.Seconds()/one.Seconds(), "ratio")
}

// processor returns the processor time of this process.
func processor(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
