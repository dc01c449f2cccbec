package bench_test

import (
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/visage-face/visage/face"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/test/postgres"
)

// replicated starts a PostgreSQL and returns what stores have that share its only database.
func replicated(b *testing.B) (*postgres.Server, sealed.Config) {
	b.Helper()
	server := postgres.StartWith(b, postgres.Options{Settings: []string{
		"shared_buffers = 1GB", "max_wal_size = 4GB", "checkpoint_timeout = 30min", // as on a machine for it
	}})
	cfg := storeConfig(b, b.TempDir())
	cfg.Engine, cfg.Shared = server.Database(b), true
	return server, cfg
}

// BenchmarkReplicas has two replicas over one PostgreSQL, in this process: 16 clients enrol people over HTTPS, half of
// them at each replica; then four clients of another process identify among 100,000, two at each. PostgreSQL keeps its
// files in memory where the machine has a file system there, so that its disk is not measured. Beside it, the same
// identifications are answered by one replica alone.
func BenchmarkReplicas(b *testing.B) {
	const enrolled, stretch, clients, queries = 100_000, 400, 4, 250
	_, cfg := replicated(b)
	var services []*face.Service
	desks := new(desks)
	for i := range 2 {
		store := openConfig(b, cfg)
		if i == 0 {
			makeSpace(b, store, account.ID)
		}
		services = append(services, newService(b, store))
		desks.webs = append(desks.webs, openAPI(b, services[i]))
	}
	enrolment := face.Ref{Kind: face.LargePersonGroup, ID: groupID}
	if err := services[0].Create(b.Context(), account, enrolment, face.Creation{Name: "desk"}); err != nil {
		b.Fatalf("create the group: %v", err)
	}
	desks.enrol(b, stretch)
	var stretches []time.Duration
	for range 5 {
		stretches = append(stretches, desks.enrol(b, stretch))
	}
	atLeast(b, "replicas: people enrolled a second in one group", stretch/median(stretches).Seconds(), 600, "people",
		fmt.Sprintf("median of %d stretches of %d people by %d clients in the same process, at two replicas; best %.0f",
			len(stretches), stretch, enrolClients, stretch/quantile(stretches, 0).Seconds()))
	if err := services[0].Delete(b.Context(), account, enrolment); err != nil {
		b.Fatalf("delete the group: %v", err)
	}

	c := &crowd{service: services[1]}
	c.gather(b, enrolled)
	var rounds []func() []time.Duration
	for _, web := range desks.webs {
		rounds = append(rounds, startClients(b, clientsOf(web, c, clients/len(desks.webs), queries)))
	}
	alone := startClients(b, clientsOf(desks.webs[0], c, clients, queries))
	for _, round := range append(rounds, alone) {
		round() // connects, and loads the gallery
	}
	var times, single []time.Duration
	for b.Loop() {
		times = append(times, together(rounds)...)
		single = append(single, alone()...)
	}
	p99, single99 := milliseconds(quantile(times, 0.99)), milliseconds(quantile(single, 0.99))
	note := fmt.Sprintf("%d queries by %d clients in processes of their own, at two replicas; p50 %.2f ms; at one of "+
		"them: p50 %.2f ms, p99 %.2f ms",
		len(times), clients, milliseconds(median(times)), milliseconds(median(single)), single99)
	atMost(b, "replicas: identify over HTTPS among 100,000, p99", p99, 8, "ms", note)
}

// clientsOf is an order to ask a replica.
func clientsOf(web *httptest.Server, c *crowd, clients, queries int) clientOrder {
	return clientOrder{
		Address: web.URL,
		CA:      string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw})),
		Key:     anyText, Clients: clients, Queries: queries, Probes: c.probes, Persons: c.persons,
	}
}

// together has several processes of clients do a round at the same time.
func together(rounds []func() []time.Duration) (times []time.Duration) {
	results := make(chan []time.Duration)
	for _, round := range rounds {
		go func() { results <- round() }()
	}
	for range rounds {
		times = append(times, <-results...)
	}
	return times
}

// BenchmarkDatabase loads a gallery of a million sealed faces from PostgreSQL, and moves the store that has them from
// the directory into PostgreSQL and back. PostgreSQL is as in BenchmarkReplicas. Beside the load, the same faces are
// loaded from the directory.
func BenchmarkDatabase(b *testing.B) {
	const faces = 1_000_000
	local := storeConfig(b, b.TempDir())
	id := [16]byte{1}
	store, end := startStore(b, local)
	fillSpace(b, makeSpace(b, store, id), faces)
	fromDirectory := loadFaces(b, store.Space(id), faces)
	end()
	_, shared := replicated(b)
	shared.KeyDir, shared.Protectors = local.KeyDir, local.Protectors
	back := storeConfig(b, b.TempDir())
	move := func(where string, from, to sealed.Config) {
		start := time.Now()
		moved, err := sealed.Move(b.Context(), from, to, nil)
		took := time.Since(start)
		if err != nil || moved.Records < faces {
			b.Fatalf("move %s: %d records, %v", where, moved.Records, err)
		}
		atLeast(b, "move: "+where+", records a second", float64(moved.Records)/took.Seconds(), 100_000, "records",
			fmt.Sprintf("%d records, %d MB, %.1f s, read back and compared", moved.Records, moved.Bytes/1e6,
				took.Seconds()))
	}
	for done := false; b.Loop(); done = true {
		if done {
			continue // one run is enough
		}
		move("into PostgreSQL", local, shared)
		store, end := startStore(b, shared)
		var loads []time.Duration
		for range 5 {
			loads = append(loads, loadFaces(b, store.Space(id), faces))
		}
		end()
		atMost(b, "load: 1,000,000 sealed faces from PostgreSQL", median(loads).Seconds(), 3.5, "s",
			fmt.Sprintf("median of %d; the first %.2f s; from the directory %.2f s", len(loads), loads[0].Seconds(),
				fromDirectory.Seconds()))
		move("out of PostgreSQL", shared, back)
	}
}
