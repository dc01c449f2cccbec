package console

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"

	"github.com/visage-face/visage"
)

// TestSigningOutEverywhereEndsTasks runs tasks whose session has ended because nobody used it: who signs out everywhere
// ends their own, and an operator those of all who act as a principal.
func TestSigningOutEverywhereEndsTasks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJobs(slog.New(slog.DiscardHandler))
		ctx, stop := context.WithCancel(t.Context())
		stopped := make(chan error)
		go func() { stopped <- j.run(ctx) }()
		synctest.Wait()
		begin := func(by, name string) *job {
			begun, err := j.start(&job{By: by, Name: name}, visage.Caller{}, &language{},
				func() bool { return true }, func(ctx context.Context, _ progress) error {
					<-ctx.Done()
					return nil
				})
			if err != nil {
				t.Fatal(err)
			}
			return begun
		}
		ada, beth, cleo := begin("app", "Ada"), begin("app", "Beth"), begin("other", "Cleo")
		over := func(want ...bool) {
			t.Helper()
			synctest.Wait()
			j.mu.Lock()
			defer j.mu.Unlock()
			for i, one := range []*job{ada, beth, cleo} {
				if got := !one.Ended.IsZero(); got != want[i] {
					t.Errorf("the task of %s has ended: %v", one.Name, got)
				}
			}
		}
		over(false, false, false)
		j.signedOut("app", "Ada")
		over(true, false, false)
		j.signedOut("app", "")
		over(true, true, false)
		stop()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
}
