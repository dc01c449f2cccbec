package audit_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/sealed"
)

// BenchmarkAppend is Append on a true disk, by callers that come one at a time and by many at once: what sharing a
// transaction is worth. It reports entries a transaction.
func BenchmarkAppend(b *testing.B) {
	for _, callers := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			store := must[*sealed.Store](b)(sealed.Open(b.Context(), sealed.Config{
				Engine: "pebble:" + b.TempDir(), KeyDir: b.TempDir(),
				Protectors: []sealed.Protector{{Name: "test", Kind: "fake", Source: sourcetest.NewFake("root")}},
			}))
			entries := &counted{Log: store.Log("bench/entries")}
			l := must[*audit.Log](b)(audit.OpenOn(b.Context(), audit.Config{Store: store}, audit.Streams{
				Entries: entries, Checkpoints: store.Log("bench/checkpoints"),
			}))
			work := make(chan int)
			var group sync.WaitGroup
			for range callers {
				group.Go(func() {
					for n := range work {
						if err := l.Append(b.Context(), event(n)); err != nil {
							b.Error(err)
						}
					}
				})
			}
			done := 0
			for b.Loop() {
				work <- done
				done++
			}
			close(work)
			group.Wait()
			b.ReportMetric(float64(done)/float64(entries.appends), "entries/transaction")
			mustDo(b, store.Close())
		})
	}
}

// BenchmarkVerify is the walk over a log of 10,000 entries.
func BenchmarkVerify(b *testing.B) {
	l := open(b, newStore(b))
	const entries = 10_000
	for n := range entries {
		mustDo(b, l.Note(b.Context(), event(n)))
	}
	mustDo(b, l.Sign(b.Context()))
	for b.Loop() {
		must[audit.Report](b)(l.Verify(b.Context()))
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/entries, "ns/entry")
}

// BenchmarkEntries is a page of 50 events of one resource among 10,000 entries on a true disk: of one that has many,
// and of one that has a few old ones.
func BenchmarkEntries(b *testing.B) {
	store := must[*sealed.Store](b)(sealed.Open(b.Context(), sealed.Config{
		Engine: "pebble:" + b.TempDir(), KeyDir: b.TempDir(),
		Protectors: []sealed.Protector{{Name: "test", Kind: "fake", Source: sourcetest.NewFake("root")}},
	}))
	defer func() { mustDo(b, store.Close()) }()
	l := open(b, store)
	busy, quiet := visage.ResourceID(visage.NewUUID()), visage.ResourceID(visage.NewUUID())
	for n := range 10_000 {
		e := event(n)
		if e.Resource = busy; n%1000 == 0 && n < 5000 {
			e.Resource = quiet
		}
		e.KeyID, e.KeyVersion = "https://safe.vault.localhost:8443/keys/k", "0123456789abcdef0123456789abcdef"
		mustDo(b, l.Note(b.Context(), e))
	}
	mustDo(b, l.Sign(b.Context()))
	for name, resource := range map[string]visage.ResourceID{"busy": busy, "quiet": quiet} {
		q := audit.Query{Resource: resource, Limit: 50}
		b.Run("list of "+name, func(b *testing.B) {
			for b.Loop() {
				list(b, l.History, q)
			}
		})
		b.Run("page of "+name, func(b *testing.B) {
			for b.Loop() {
				_, _, err := l.Page(b.Context(), q)
				mustDo(b, err)
			}
		})
	}
}
