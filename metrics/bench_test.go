package metrics_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/metrics"
	"github.com/visage-face/visage/sealed"
)

// BenchmarkObserve counts requests of a thousand resources on all processors.
func BenchmarkObserve(b *testing.B) {
	r, err := metrics.Open(b.Context(), metrics.Config{Store: newStore(b)})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		o := metrics.Observation{Status: 200}
		for i := 0; pb.Next(); i++ {
			o.Resource = visage.ResourceID{byte(i), byte(i >> 8 & 3)}
			o.Took = time.Duration(i&0xff) * time.Millisecond
			o.Status, o.Code = 200, ""
			if i%16 == 0 {
				o.Status, o.Code = 404, "PersonNotFound"
			}
			r.Observe(o)
		}
	})
}

// BenchmarkRead reads what the console shows, of a resource that was used in every minute of eight days, from an engine
// on disk.
func BenchmarkRead(b *testing.B) {
	dir := b.TempDir()
	store, err := sealed.Open(b.Context(), sealed.Config{
		Engine: "pebble:" + filepath.Join(dir, "data"), KeyDir: filepath.Join(dir, "keys"),
		Protectors: []sealed.Protector{{Name: "test", Kind: "fake", Source: sourcetest.NewFake("root")}},
	})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	if err := store.Spaces().Create(b.Context(), sealed.SpaceID(alice)); err != nil {
		b.Fatal(err)
	}
	r, err := metrics.Open(b.Context(), metrics.Config{Store: store})
	if err != nil {
		b.Fatal(err)
	}
	now := time.Now()
	if err := metrics.Fill(b.Context(), r, alice, now.Add(-8*24*time.Hour), now); err != nil {
		b.Fatal(err)
	}
	for _, row := range []struct {
		span, step time.Duration
	}{
		{time.Hour, time.Minute}, {24 * time.Hour, 5 * time.Minute}, {7 * 24 * time.Hour, time.Hour},
		{365 * 24 * time.Hour, 24 * time.Hour},
	} {
		for name, of := range map[string]visage.ResourceID{"resource": alice, "instance": instance} {
			b.Run(fmt.Sprintf("%v by %v/%s", row.span, row.step, name), func(b *testing.B) {
				for b.Loop() {
					s, err := r.Read(b.Context(), of, now.Add(-row.span), now, row.step)
					if err != nil || s.Total.Requests == 0 {
						b.Fatal(s.Total, err)
					}
				}
			})
		}
	}
}

// BenchmarkMinute ends a minute in which a thousand resources had requests, or had only their keys checked.
func BenchmarkMinute(b *testing.B) {
	ids := make([]visage.ResourceID, 1000)
	for i := range ids {
		ids[i] = visage.ResourceID{0: 1, 1: byte(i), 2: byte(i >> 8)}
	}
	for name, busy := range map[string]bool{"busy": true, "idle": false} {
		b.Run(name, func(b *testing.B) {
			dir := b.TempDir()
			store, err := sealed.Open(b.Context(), sealed.Config{
				Engine: "pebble:" + filepath.Join(dir, "data"), KeyDir: filepath.Join(dir, "keys"),
				Protectors: []sealed.Protector{{Name: "test", Kind: "fake", Source: sourcetest.NewFake("root")}},
			})
			if err != nil {
				b.Fatal(err)
			}
			defer store.Close()
			r, err := metrics.Open(b.Context(), metrics.Config{Store: store})
			if err != nil {
				b.Fatal(err)
			}
			r.Know(ids)
			for b.Loop() {
				r.ObserveCheck(metrics.CheckOK, ids...)
				for i := 0; busy && i < 10*len(ids); i++ {
					r.Observe(metrics.Observation{Resource: ids[i%len(ids)], Status: 200, Took: time.Duration(i) << 16})
				}
				r.EndMinute(b.Context())
			}
		})
	}
}
