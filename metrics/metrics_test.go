package metrics_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/metrics"
	"github.com/visage-face/visage/sealed"
)

// TestMain draws a byte first: the first random read of a process must not be inside a synctest bubble.
func TestMain(m *testing.M) {
	var b [1]byte
	rand.Read(b[:])
	os.Exit(m.Run())
}

var (
	instance = visage.ResourceID{}
	alice    = visage.ResourceID{0: 0xa, 15: 1}
	bob      = visage.ResourceID{0: 0xb, 15: 1}
)

// newStore opens a store in memory with the spaces of some resources.
func newStore(t testing.TB, of ...visage.ResourceID) *sealed.Store {
	t.Helper()
	store, err := sealed.Open(t.Context(), sealed.Config{
		Engine:     "memory:",
		Protectors: []sealed.Protector{{Name: "test", Kind: "fake", Source: sourcetest.NewFake("root")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Errorf("close store: %v", err)
		}
	})
	for _, id := range of {
		if err := store.Spaces().Create(t.Context(), sealed.SpaceID(id)); err != nil {
			t.Fatal(err)
		}
	}
	return store
}

// keeper is a Recorder that runs until halt.
type keeper struct {
	*metrics.Recorder
	halt func()
}

// start opens a Recorder and runs it.
func start(t *testing.T, cfg metrics.Config) keeper {
	t.Helper()
	r, err := metrics.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return run(t, r)
}

// run runs a Recorder.
func run(t *testing.T, r *metrics.Recorder) keeper {
	t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	halt := sync.OnceFunc(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(halt)
	synctest.Wait()
	return keeper{r, halt}
}

// read reads figures, which must succeed.
func read(
	t *testing.T, r *metrics.Recorder, of visage.ResourceID, from, to time.Time, step time.Duration,
) metrics.Series {
	t.Helper()
	s, err := r.Read(t.Context(), of, from, to, step)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range s.Points {
		if want := s.Points[0].Start.Add(time.Duration(i) * s.Step); !p.Start.Equal(want) {
			t.Fatalf("point %d begins at %v, want %v", i, p.Start, want)
		}
	}
	return s
}

// requests returns the number of requests of each point; -1: it is missing.
func requests(s metrics.Series) []int {
	var all []int
	for _, p := range s.Points {
		if p.Missing {
			all = append(all, -1)
		} else {
			all = append(all, int(p.Requests))
		}
	}
	return all
}

// wait lets time pass until just after a minute has ended.
func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// TestMinutes counts requests, errors, checks and memory of a resource and of the instance.
func TestMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sample atomic.Pointer[metrics.Sample]
		sample.Store(&metrics.Sample{
			Galleries: map[visage.ResourceID]uint64{alice: 100, bob: 50}, DiskUsed: 7, DiskTotal: 9,
		})
		r := start(t, metrics.Config{
			Store: newStore(t, alice, bob), Sample: func() metrics.Sample { return *sample.Load() },
		})
		begin := time.Now()
		r.Observe(metrics.Observation{Resource: alice, Status: 200, Took: 20 * time.Millisecond})
		r.Observe(metrics.Observation{Resource: alice, Status: 404, Code: "PersonNotFound", Took: time.Millisecond})
		r.Observe(metrics.Observation{Resource: alice, Status: 500, Took: time.Second})
		r.Observe(metrics.Observation{Status: 401, Code: "text from outside?", Took: time.Millisecond})
		r.ObserveCheck(metrics.CheckOK, alice, bob)
		r.ObserveCheck(metrics.CheckUnanswered, alice)
		if got := requests(read(t, r.Recorder, alice, begin, begin.Add(time.Minute), time.Minute)); got[0] != -1 {
			t.Errorf("the minute that has not ended has %d requests", got[0])
		}
		wait(time.Minute)
		sample.Store(&metrics.Sample{DiskUsed: 6, DiskTotal: 9})
		r.Observe(metrics.Observation{Resource: bob, Status: 429, Code: "429", Took: time.Millisecond})
		wait(2 * time.Minute)

		s := read(t, r.Recorder, alice, begin, begin.Add(4*time.Minute), time.Minute)
		if got, want := requests(s), []int{3, 0, 0, -1}; !slices.Equal(got, want) {
			t.Errorf("requests of one resource: %d, want %d", got, want)
		}
		p := s.Points[0]
		for _, latency := range []*time.Duration{&p.P50, &p.P95, &p.P99} {
			*latency = latency.Round(100 * time.Millisecond)
		}
		if diff := cmp.Diff(metrics.Point{
			Start: begin.UTC(), Requests: 3, Failed: 1, P95: time.Second, P99: time.Second,
			Errors: []metrics.ErrorCount{{Code: "500", Count: 1}, {Code: "PersonNotFound", Count: 1}},
			Checks: metrics.Checks{OK: 1, Unanswered: 1}, GalleryBytes: 100,
		}, p); diff != "" {
			t.Errorf("first minute of a resource, want -, got +:\n%s", diff)
		}
		s = read(t, r.Recorder, instance, begin, begin.Add(3*time.Minute), 3*time.Minute)
		p = s.Points[0]
		p.P50, p.P95, p.P99 = 0, 0, 0
		if diff := cmp.Diff(metrics.Point{
			Start: begin.UTC(), Requests: 5, Failed: 1,
			Errors: []metrics.ErrorCount{{Code: "429", Count: 1}, {Code: "500", Count: 1},
				{Code: "PersonNotFound", Count: 1}, {Code: metrics.Other, Count: 1}},
			Checks: metrics.Checks{OK: 1, Unanswered: 1}, GalleryBytes: 150, DiskUsed: 7, DiskTotal: 9,
		}, p); diff != "" {
			t.Errorf("three minutes of the instance, want -, got +:\n%s", diff)
		}
	})
}

// TestOpenedBeforeItRuns: what is counted when the minute in which the Recorder was opened has ended, but Run has only
// begun since, belongs to the minute in which it was counted.
func TestOpenedBeforeItRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := metrics.Config{Store: newStore(t, alice)}
		opened, err := metrics.Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute + time.Second)
		begin := time.Now()
		r := run(t, opened)
		r.Observe(metrics.Observation{Resource: alice, Status: 200, Took: time.Millisecond})
		r.halt()
		s := read(t, r.Recorder, alice, begin, begin.Add(time.Second), time.Minute)
		if got, want := requests(s), []int{1}; !slices.Equal(got, want) {
			t.Errorf("requests: %d, want %d", got, want)
		}
	})
}

// TestRates: what Read counts of each resource, divided by the minutes of which there are figures, while they wait in
// memory and when they are stored.
func TestRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t, alice, bob)
		r := start(t, metrics.Config{Store: store})
		ids := []visage.ResourceID{bob, alice, {9}}
		rates := func(ago time.Duration) []float64 {
			t.Helper()
			got, err := r.Rates(t.Context(), ids, time.Now().Add(-ago), time.Now())
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		if got := rates(time.Hour); got != nil {
			t.Errorf("rates without a figure: %v", got)
		}
		for range 3 {
			r.Observe(metrics.Observation{Resource: alice, Status: 200, Took: time.Millisecond})
		}
		r.ObserveCheck(metrics.CheckOK, bob) // waits in memory
		wait(time.Minute)
		r.Observe(metrics.Observation{Resource: alice, Status: 404, Code: "FaceNotFound", Took: time.Millisecond})
		wait(3 * time.Minute)
		want := []float64{0, 1, 0}
		if got := rates(time.Hour); !slices.Equal(got, want) {
			t.Errorf("rates: %v, want %v", got, want)
		}
		r.halt()
		r = start(t, metrics.Config{Store: store})
		if got := rates(time.Hour); len(got) != 3 || got[0] != 0 || got[1] == 0 || got[2] != 0 {
			t.Errorf("rates after a restart: %v", got)
		}
		if got := rates(2 * time.Minute); !slices.Equal(got, []float64{0, 0, 0}) {
			t.Errorf("rates of the last two minutes: %v", got)
		}
		for _, ago := range []time.Duration{0, -time.Minute, 9 * 24 * time.Hour} {
			if _, err := r.Rates(t.Context(), ids, time.Now().Add(-ago), time.Now()); err == nil {
				t.Errorf("rates of the last %v are no error", ago)
			}
		}
	})
}

// TestErrorCodesAreBounded answers with more codes than are kept.
func TestErrorCodesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, metrics.Config{Store: newStore(t)})
		begin := time.Now()
		for i := range 1000 {
			r.Observe(metrics.Observation{Status: 400, Code: fmt.Sprintf("Code%d", i%100)})
		}
		wait(time.Minute)
		total := read(t, r.Recorder, instance, begin, time.Now(), time.Minute).Total
		var all uint64
		for _, e := range total.Errors {
			all += e.Count
		}
		if len(total.Errors) > 30 || all != 1000 || total.Errors[0].Code != metrics.Other {
			t.Errorf("%d codes with %d errors, most of them %v", len(total.Errors), all, total.Errors[0])
		}
	})
}

// TestRestart stops a Recorder in the middle of a minute, which loses nothing, and ends another without a stop, which
// loses that minute alone.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t, alice)
		one := metrics.Observation{Resource: alice, Status: 200, Took: time.Millisecond}
		begin := time.Now()
		first := start(t, metrics.Config{Store: store})
		first.Observe(one)
		wait(70 * time.Second)
		first.Observe(one)
		first.halt()
		wait(10 * time.Second)
		second := start(t, metrics.Config{Store: store})
		second.Observe(one)
		wait(time.Minute)
		second.Observe(one) // in the minute that a crash loses
		wait(time.Second)
		third := start(t, metrics.Config{Store: store}) // the second goes on, but nobody asks it
		wait(time.Minute)
		if got, want := requests(read(t, third.Recorder, alice, begin, begin.Add(3*time.Minute), time.Minute)),
			[]int{1, 2, 0}; !slices.Equal(got[:2], want[:2]) {
			t.Errorf("requests after restarts: %d, want %d", got, want)
		}
	})
}

// TestIdleResourcesWriteOnceAnHour polls the key of a resource that nobody uses: what is stored appears with the hour's
// end, and Read knows it before.
func TestIdleResourcesWriteOnceAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t, alice)
		r := start(t, metrics.Config{Store: store})
		begin := time.Now()
		checks := func(r *metrics.Recorder) uint64 {
			return read(t, r, alice, begin, begin.Add(2*time.Hour), time.Hour).Total.Checks.OK
		}
		stored := func() uint64 { // what another Recorder finds
			other, err := metrics.Open(t.Context(), metrics.Config{Store: store})
			if err != nil {
				t.Fatal(err)
			}
			return checks(other)
		}
		for range 30 {
			r.ObserveCheck(metrics.CheckOK, alice)
			wait(time.Minute)
		}
		if known, there := checks(r.Recorder), stored(); known != 30 || there != 0 {
			t.Errorf("after half an hour %d checks are known and %d stored, want 30 and 0", known, there)
		}
		r.ObserveCheck(metrics.CheckRefused, alice)
		wait(time.Minute)
		if there := stored(); there != 30 {
			t.Errorf("with a refusal %d checks are stored, want 30", there)
		}
		for range 29 {
			r.ObserveCheck(metrics.CheckOK, alice)
			wait(time.Minute)
		}
		if known, there := checks(r.Recorder), stored(); known != 59 || there != 59 {
			t.Errorf("after an hour %d checks are known and %d stored, want 59", known, there)
		}
	})
}

// TestRetention keeps minutes for a week, hours for a year and no longer.
func TestRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t, alice)
		r := start(t, metrics.Config{Store: store})
		begin := time.Now() // midnight, UTC
		const day = 24 * time.Hour
		observe := func(n int) {
			for range n {
				r.Observe(metrics.Observation{Resource: alice, Status: 200, Took: 50 * time.Millisecond})
			}
		}
		observe(3)
		wait(30 * time.Minute)
		observe(4)
		wait(time.Hour)
		observe(5)
		wait(day - 91*time.Minute)
		r.halt()
		wait(6*day + time.Minute)
		r = start(t, metrics.Config{Store: store})
		if got, want := requests(read(t, r.Recorder, alice, begin, begin.Add(2*time.Minute), time.Minute)),
			[]int{3, 0}; !slices.Equal(got, want) {
			t.Errorf("minutes after a week: %d, want %d", got, want)
		}
		wait(day) // the day after
		s := read(t, r.Recorder, alice, begin, begin.Add(3*time.Hour), time.Minute)
		if got, want := requests(s), []int{7, 5, 0}; s.Step != time.Hour || !slices.Equal(got, want) {
			t.Errorf("hours after eight days: %d at %v, want %d", got, s.Step, want)
		}
		if p := s.Points[0]; p.P50 < 47*time.Millisecond || p.P50 > 53*time.Millisecond {
			t.Errorf("p50 of an hour is %v, want 50 ms", p.P50)
		}
		if got, want := requests(read(t, r.Recorder, alice, begin, begin.Add(2*day), day)),
			[]int{12, -1}; !slices.Equal(got, want) {
			t.Errorf("days: %d, want %d", got, want)
		}
		r.halt()
		wait(350 * day)
		r = start(t, metrics.Config{Store: store})
		if got := read(t, r.Recorder, alice, begin, begin.Add(day), day).Total.Requests; got != 12 {
			t.Errorf("after almost a year: %d requests, want 12", got)
		}
		r.halt()
		wait(60 * day)
		start(t, metrics.Config{Store: store}).halt()
		tally, err := store.Maintenance().Verify(t.Context(), func(f sealed.Finding) { t.Errorf("found %v", f) })
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%+v", tally)
		r = start(t, metrics.Config{Store: store})
		if s := read(t, r.Recorder, alice, begin, begin.Add(day), day); !s.Total.Missing || s.Total.Requests != 0 {
			t.Errorf("after more than a year: %+v", s.Total)
		}
	})
}

// TestPurge removes the figures of a resource, also when a request ends after the purge or a crash comes before the
// deletion.
func TestPurge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t, alice, bob)
		r := start(t, metrics.Config{Store: store})
		begin := time.Now()
		observe := func(id visage.ResourceID) {
			r.Observe(metrics.Observation{Resource: id, Status: 200})
			r.ObserveCheck(metrics.CheckOK, id)
		}
		of := func(id visage.ResourceID) int {
			return int(read(t, r.Recorder, id, begin, time.Now().Add(time.Minute), time.Minute).Total.Requests)
		}
		observe(alice)
		observe(bob)
		wait(time.Minute)
		observe(alice) // not stored yet
		if of(alice) != 1 {
			t.Fatalf("%d requests before the purge, want 1", of(alice))
		}
		if err := store.Spaces().Drop(t.Context(), sealed.SpaceID(alice)); err != nil {
			t.Fatal(err)
		}
		r.Forget(alice)
		synctest.Wait()
		if of(alice) != 0 {
			t.Errorf("%d requests are left of a purged resource", of(alice))
		}
		observe(alice) // it was under way
		wait(2 * time.Minute)
		if of(alice) != 0 || of(bob) != 1 {
			t.Errorf("%d requests came back to a purged resource; the other has %d, want 1", of(alice), of(bob))
		}
		r.halt()
		if err := store.Spaces().Drop(t.Context(), sealed.SpaceID(bob)); err != nil {
			t.Fatal(err)
		}
		r = start(t, metrics.Config{Store: store})
		if of(bob) != 0 || of(instance) != 4 {
			t.Errorf("after a start, a purged resource has %d requests, and the instance %d, want 0 and 4", of(bob),
				of(instance))
		}
	})
}

// TestFullDisk keeps nothing new and counts it, on a volume with less room than its reserve.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	cfg := sealed.Config{
		Engine: "pebble:" + filepath.Join(dir, "data"), KeyDir: filepath.Join(dir, "keys"),
		Protectors: []sealed.Protector{{Name: "test", Kind: "fake", Source: sourcetest.NewFake("root")}},
	}
	open := func(reserve uint64) *sealed.Store {
		cfg.Reserve = reserve
		s, err := sealed.Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	count := func(r *metrics.Recorder) uint64 {
		s, err := r.Read(t.Context(), instance, time.Now().Add(-time.Hour), time.Now().Add(time.Minute), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		return s.Total.Requests
	}
	for _, row := range []struct {
		reserve       uint64
		want, dropped int
	}{{0, 1, 0}, {1 << 60, 1, 1}, {0, 2, 0}} {
		store := open(row.reserve)
		if err := store.Space(sealed.Operator).MayGrow(); (err != nil) != (row.reserve > 0) {
			t.Fatalf("with a reserve of %d: %v", row.reserve, err)
		}
		r, err := metrics.Open(t.Context(), metrics.Config{Store: store})
		if err != nil {
			t.Fatal(err)
		}
		r.Observe(metrics.Observation{Status: 200})
		ctx, stop := context.WithCancel(t.Context())
		stop()
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
		if got := count(r); got != uint64(row.want) {
			t.Errorf("%d requests are stored, want %d", got, row.want)
		}
		if got := testutil.ToFloat64(r.Collectors()[0]); got != float64(row.dropped) {
			t.Errorf("%v minutes are dropped, want %d", got, row.dropped)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestPercentiles compares percentiles, merged from the minutes of a day, with those of all latencies, sorted.
func TestPercentiles(t *testing.T) {
	seed := mathrand.Uint64()
	random := mathrand.New(mathrand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	for range 10 {
		synctest.Test(t, func(t *testing.T) {
			r := start(t, metrics.Config{Store: newStore(t)})
			begin := time.Now()
			middle, spread := -9+random.Float64()*12, random.Float64()*3
			var all []time.Duration
			for range 1 + random.IntN(200) {
				for range random.IntN(50) {
					seconds := math.Exp(middle + spread*random.NormFloat64())
					took := time.Duration(min(max(seconds, 70e-6), 130) * float64(time.Second))
					r.Observe(metrics.Observation{Status: 200, Took: took})
					all = append(all, took)
				}
				wait(time.Minute)
			}
			slices.Sort(all)
			total := read(t, r.Recorder, instance, begin, time.Now(), 15*time.Minute).Total
			if total.Requests != uint64(len(all)) {
				t.Fatalf("%d requests, want %d", total.Requests, len(all))
			}
			for share, got := range map[float64]time.Duration{0.5: total.P50, 0.95: total.P95, 0.99: total.P99} {
				if len(all) == 0 {
					continue
				}
				want := all[max(1, int(math.Ceil(share*float64(len(all)))))-1]
				if off := math.Abs(float64(got-want)) / float64(want); off > metrics.PercentileError {
					t.Errorf("p%v of %d requests is %v, want %v: off by %.3f", 100*share, len(all), got, want, off)
				}
			}
		})
	}
}

// TestExtremes observes what no request takes.
func TestExtremes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, metrics.Config{Store: newStore(t)})
		begin := time.Now()
		for _, took := range []time.Duration{-1, 0, 1<<16 - 1, 1 << 16, 1<<37 - 1, 1 << 37, math.MaxInt64} {
			r.Observe(metrics.Observation{Status: 200, Took: took})
		}
		wait(time.Minute)
		total := read(t, r.Recorder, instance, begin, time.Now(), time.Minute).Total
		if total.Requests != 7 || total.P99 != 1<<37 || total.P50 < 1<<16 || total.P50 > 1<<16*11/10 {
			t.Errorf("%+v", total)
		}
	})
}

// TestReadRefuses asks for more than Read returns.
func TestReadRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, metrics.Config{Store: newStore(t)})
		now := time.Now()
		for _, row := range []struct {
			from, to time.Time
			step     time.Duration
			points   int // 0: refused
		}{
			{now, now, time.Minute, 0},
			{now, now.Add(-time.Hour), time.Minute, 0},
			{now.Add(-7 * 24 * time.Hour), now, time.Minute, 0},
			{time.Time{}, now, time.Hour, 0},
			{time.Time{}, time.Unix(1<<33, 0), 24 * 365 * time.Hour, 0},
			{now.Add(-24*time.Hour + 1), now.Add(-1), time.Minute, 24 * 60},
			{now.Add(-time.Hour), now, 0, 60},
			{now.Add(-time.Hour), now, -time.Hour, 60},
			{now.Add(-time.Hour), now, 90 * time.Second, 30},
			{now.Add(-400 * 24 * time.Hour), now, 24 * time.Hour, 400},
			{now.Add(-8 * 24 * time.Hour), now, time.Minute, 8 * 24},
		} {
			s, err := r.Read(t.Context(), alice, row.from, row.to, row.step)
			if (err == nil) != (row.points > 0) || len(s.Points) != row.points {
				t.Errorf("from %v to %v at %v: %d points, %v; want %d", row.from, row.to, row.step, len(s.Points), err,
					row.points)
			}
		}
	})
}

// TestAtTheSameTime observes, reads and forgets from many goroutines.
func TestAtTheSameTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, metrics.Config{Store: newStore(t, alice, bob)})
		begin := time.Now()
		const each, minutes = 100, 70
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				for n := range each * minutes {
					r.Observe(metrics.Observation{Resource: []visage.ResourceID{alice, bob}[i%2], Status: 200})
					if n%each == 0 {
						time.Sleep(time.Minute)
					}
				}
			})
		}
		for range 2 {
			all.Go(func() {
				for range minutes {
					s, err := r.Read(t.Context(), alice, begin, time.Now().Add(time.Minute), time.Minute)
					if err != nil {
						t.Error(err)
						return
					}
					for _, p := range s.Points {
						if p.Requests > 4*2*each {
							t.Errorf("%d requests in a minute", p.Requests)
						}
					}
					time.Sleep(time.Minute)
				}
			})
		}
		all.Wait()
		wait(2 * time.Minute)
		for id, want := range map[visage.ResourceID]uint64{alice: 4, bob: 4, instance: 8} {
			got := read(t, r.Recorder, id, begin, time.Now(), time.Hour).Total.Requests
			if got != want*each*minutes {
				t.Errorf("%d requests of %s, want %d", got, id, want*each*minutes)
			}
		}
	})
}

// FuzzRecord feeds the decoder bytes: what it takes, it writes again byte by byte.
func FuzzRecord(f *testing.F) {
	for _, seed := range []string{"", "\x00\x00", "\x00\x07\x00\x00\x00\x00\x00\x00\x00",
		"\x05\x13\x02\x01\x01\x03404\x01\x02\x08\x01\x09\x01\x00\x00\x00\x01\x02\x03\x3b\x01\x00",
		"\x3c\x00", "\x02\x00\x01\x00", "\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var r metrics.Record
		if err := r.UnmarshalBinary(b); err != nil {
			return
		}
		again, err := r.AppendBinary(nil)
		if err != nil || string(again) != string(b) {
			t.Errorf("%x is written as %x (%v)", b, again, err)
		}
		if read, again, ok := metrics.FirstFigures(r); ok && string(read) != string(again) {
			t.Errorf("figures %x are written as %x", read, again)
		}
	})
}

// TestOpenRefuses opens without a store, and over one that is closed.
func TestOpenRefuses(t *testing.T) {
	if _, err := metrics.Open(t.Context(), metrics.Config{}); err == nil {
		t.Error("opened without a store")
	}
	store, err := sealed.Open(t.Context(), sealed.Config{
		Engine:     "memory:",
		Protectors: []sealed.Protector{{Name: "test", Kind: "fake", Source: sourcetest.NewFake("root")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := metrics.Open(t.Context(), metrics.Config{Store: store}); !errors.Is(err, sealed.ErrClosed) {
		t.Errorf("over a closed store: %v", err)
	}
}
