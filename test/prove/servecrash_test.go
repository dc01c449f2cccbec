package prove_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/visage-face/visage/server/servertest"
)

// clients is how many clients write to the service at the same time, each to a resource and a group of its own: the
// rate of a single resource would leave the service idle most of the time.
const clients = 6

// TestServiceSurvivesKill kills the service at random moments while clients write to it over HTTP, and checks after
// each restart that exactly the acknowledged data is there and every record opens. In a plain run the service has a
// synthetic recogniser; with VISAGE_ROUNDS it is `visage serve` itself, if the models are installed.
func TestServiceSurvivesKill(t *testing.T) {
	if testing.Short() {
		t.Skip("starts and kills a server several times")
	}
	real := os.Getenv("VISAGE_ROUNDS") != ""
	photo := servertest.Photo(1, "somebody")
	if real {
		photo = portrait(t)
	}
	r := chance(t)
	dir := filepath.Join(t.TempDir(), "visage")
	worlds := make([]*ackedState, clients)
	keys := make([]string, clients)
	for i := range worlds {
		worlds[i] = &ackedState{group: fmt.Sprintf("group-%d", i), photo: photo}
	}

	service := startService(t, dir, real)
	for i := range keys {
		keys[i] = service.key(t, fmt.Sprintf("prove%d", i))
	}
	inDoubt, compared := 0, 0
	total := rounds(t, 3)
	for round := range total {
		moment := time.Duration(r.IntN(1500)) * time.Millisecond
		err := writeUntil(t, service, worlds, keys, seeds(r), moment)
		if err != nil {
			t.Fatalf("round %d: %v\nthe service said:\n%s", round, err, service.log)
		}
		if err := verify(t, dir); err != nil {
			t.Fatalf("round %d: after the kill: %v", round, err)
		}
		service = startService(t, dir, real)
		var all errgroup
		for i, w := range worlds {
			if w.inDoubt != nil {
				inDoubt++
			}
			api := service.client(t, keys[i])
			all.Go(func() error { return w.compare(t.Context(), api) })
		}
		if err := all.Wait(); err != nil {
			t.Fatalf("round %d: after the restart: %v\nthe service said:\n%s", round, err, service.log)
		}
		compared += len(worlds)
		if (round+1)%10 == 0 {
			t.Logf("%d of %d rounds, all as acknowledged", round+1, total)
		}
	}
	service.kill(t)

	acked, persons, faces := 0, 0, 0
	for _, w := range worlds {
		acked += w.acked
		persons += len(w.persons)
		for _, p := range w.persons {
			faces += len(p.faces)
		}
	}
	t.Logf("%d kills, %d requests acknowledged, %d under way at a kill, %d persons with %d faces alive: nothing lost",
		total, acked, inDoubt,
		persons, faces)
	t.Attr("kills", fmt.Sprint(total))
	t.Attr("requests-acknowledged", fmt.Sprint(acked))
	t.Attr("groups-compared", fmt.Sprint(compared))
	for _, w := range worlds {
		searchDisk(t, dir, w.canaries())
	}
}

// seeds returns the seeds of the clients' choices for a round.
func seeds(r interface{ Uint64() uint64 }) [clients][2]uint64 {
	var out [clients][2]uint64
	for i := range out {
		out[i] = [2]uint64{r.Uint64(), r.Uint64()}
	}
	return out
}

// writeUntil lets all clients write for a while, kills the service and returns the unexpected answers.
func writeUntil(
	t *testing.T, service *service, worlds []*ackedState, keys []string, choices [clients][2]uint64,
	while time.Duration,
) error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var all errgroup
	var first sync.WaitGroup // so that even the shortest round has running requests
	for i, w := range worlds {
		first.Add(1)
		api := service.client(t, keys[i])
		all.Go(func() error {
			r := source(choices[i])
			defer api.http.CloseIdleConnections()
			for n := 0; ; n++ {
				ok, err := w.act(ctx, api, w.choose(r))
				if n == 0 {
					first.Done()
				}
				if err != nil || !ok {
					return err
				}
			}
		})
	}
	first.Wait()
	timer := time.NewTimer(while)
	defer timer.Stop()
	select {
	case <-timer.C: // a kill at a random moment is the purpose of this test
	case <-ctx.Done():
	}
	service.kill(t)
	return all.Wait()
}

// errgroup runs functions and collects all errors.
type errgroup struct {
	wg   sync.WaitGroup
	mu   sync.Mutex
	errs []error
}

func (g *errgroup) Go(fn func() error) {
	g.wg.Go(func() {
		if err := fn(); err != nil {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.errs = append(g.errs, err)
		}
	})
}

func (g *errgroup) Wait() error {
	g.wg.Wait()
	return errors.Join(g.errs...)
}
