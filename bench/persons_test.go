package bench_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/face"
)

// BenchmarkFindPersons finds persons by name in a group of 1,000,000 on the embedded engine: common and rare names,
// parts of names, names of nobody, and ids, in pages of 25. It is compared with reading all names from the store, which
// the first search does. Every result is checked.
func BenchmarkFindPersons(b *testing.B) {
	const enrolled, page = 1_000_000, 25
	store := openStore(b, b.TempDir())
	makeSpace(b, store, account.ID)
	service, err := face.New(face.Config{
		Store:     store,
		Models:    map[string]face.Recogniser{face.DefaultRecognitionModel: numbers{}},
		Resources: func(context.Context) ([]visage.ResourceID, error) { return []visage.ResourceID{account.ID}, nil },
	})
	if err != nil {
		b.Fatalf("make the service: %v", err)
	}
	b.Cleanup(service.Close)
	group := face.Ref{Kind: face.LargePersonGroup, ID: groupID}
	if err := service.Create(b.Context(), account, group, face.Creation{Name: "everybody"}); err != nil {
		b.Fatalf("create the group: %v", err)
	}
	ids := make([]string, enrolled)
	var next atomic.Int64
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < enrolled && !b.Failed(); i = int(next.Add(1)) - 1 {
				var err error
				if ids[i], err = service.CreatePerson(b.Context(), account, group, personName(i), nil); err != nil {
					b.Errorf("create person %d: %v", i, err)
				}
			}
		})
	}
	all.Wait()
	if b.Failed() {
		b.FailNow()
	}
	find := func(text string) (face.PersonsFound, time.Duration) {
		top := page
		start := time.Now()
		found, err := service.FindPersons(b.Context(), account, group, face.PersonQuery{Text: text, Top: &top})
		took := time.Since(start)
		if err != nil {
			b.Fatalf("find %q: %v", text, err)
		}
		return found, took
	}
	start := time.Now()
	longest := time.Duration(0)
	searches := 0
	for found := (face.PersonsFound{Building: true}); found.Building; searches++ {
		var took time.Duration
		found, took = find("nobody of this name")
		longest = max(longest, took)
	}
	read := time.Since(start)

	var times []time.Duration
	byKind := map[string][]time.Duration{}
	for b.Loop() {
		for i := range 20 {
			n := (len(times)*7919 + i) % enrolled
			for kind, text := range map[string]string{
				"common": strings.Fields(personName(n))[0], "whole": personName(n),
				"part":   strings.Fields(personName(n))[1][1:5],
				"nobody": "Anxxar", "letters": "an", "rare": fmt.Sprintf("%d", n), "id": ids[n][:13],
			} {
				found, took := find(text)
				if some := len(found.Persons) > 0; some == (kind == "nobody") {
					b.Fatalf("%q: %d persons", text, len(found.Persons))
				}
				for _, p := range found.Persons {
					if kind != "id" && !strings.Contains(strings.ToLower(p.Name), strings.ToLower(text)) {
						b.Fatalf("%q finds %q", text, p.Name)
					}
				}
				times, byKind[kind] = append(times, took), append(byKind[kind], took)
			}
		}
	}
	for kind, times := range byKind {
		b.Logf("%s: p50 %.1f ms, p95 %.1f ms", kind, milliseconds(median(times)), milliseconds(quantile(times, 0.95)))
	}
	p95 := quantile(times, 0.95)
	note := fmt.Sprintf("%d searches of a page of %d; p50 %.1f ms; reading the names took %.1f s, during which a "+
		"search took at most %.0f ms", len(times), page, milliseconds(median(times)), read.Seconds(),
		milliseconds(longest))
	atMost(b, "find persons: 1M by name, p95", milliseconds(p95), 50, "ms", note)
	atLeast(b, "find persons: against reading all names, p95", float64(read)/float64(p95), 50, "times", note)
	registry := prometheus.NewRegistry()
	registry.MustRegister(service.Collectors()...)
	families, err := registry.Gather()
	if err != nil {
		b.Fatalf("read the metrics: %v", err)
	}
	for _, f := range families {
		if f.GetName() == "visage_face_name_bytes" {
			atMost(b, "find persons: memory of a person", f.Metric[0].GetGauge().GetValue()/enrolled, 64, "B",
				"names of 19 bytes on average")
		}
	}
}

// personName is the name of person i: a given name, a surname of some thousand, and a number as in staff lists.
func personName(i int) string {
	given := []string{"Anna", "Jürgen", "Zoë", "Mohammed", "Li", "Joanna", "François", "Ivan", "Sara", "Nguyen"}
	surnames := []string{"ler", "sson", "ova", "ez", "stein", "mann", "wala", "ian", "ski", "dottir"}
	begin := []string{"Mul", "Ander", "Petr", "Gonzal", "Gold", "Haupt", "Patel", "Sark", "Kowal", "Jons"}
	return fmt.Sprintf("%s %s%s %d", given[i%10], begin[i/10%10], surnames[i/100%10], i)
}
