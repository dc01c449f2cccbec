package sealed_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/visage-face/visage/sealed"
	pgtest "github.com/visage-face/visage/test/postgres"
)

// heldWriter blocks in its first write of some size until it is released.
type heldWriter struct {
	once    sync.Once
	begun   chan<- struct{}
	release <-chan struct{}
}

func (w *heldWriter) Write(p []byte) (int, error) {
	if len(p) >= 1<<10 { // not the header
		w.once.Do(func() { w.begun <- struct{}{} })
		<-w.release
	}
	return len(p), nil
}

// TestLongViewsLeaveRoom has more long readings at a time than the database has snapshots: short ones go on.
func TestLongViewsLeaveRoom(t *testing.T) {
	s := open(t, sealed.Config{
		Engine: pgtest.Shared(t).Database(t) + "&pool_max_conns=8", KeyDir: t.TempDir(), Shared: true,
		Protectors: []sealed.Protector{{Name: "test", Kind: "fake", Source: protector(t)}},
	})
	sp := create(t, s, spaceA)
	for _, id := range []string{"1", "2", "3", "4"} {
		put(t, sp, "x", note{id, strings.Repeat("a long text ", 10_000)})
	}
	const readings = 3
	for what, read := range map[string]func(begun chan<- struct{}, release <-chan struct{}) error{
		"views": func(begun chan<- struct{}, release <-chan struct{}) error {
			return sp.LongView(t.Context(), func(r sealed.Reader) error {
				_, err := notes.In("x").Get(r, "1")
				begun <- struct{}{}
				<-release
				return err
			})
		},
		"backups": func(begun chan<- struct{}, release <-chan struct{}) error {
			_, err := s.Backup().WriteData(t.Context(), &heldWriter{begun: begun, release: release})
			return err
		},
		"verifications": func(begun chan<- struct{}, release <-chan struct{}) error {
			return sp.LongView(t.Context(), func(r sealed.Reader) error { // it waits for this one
				begun <- struct{}{}
				<-release
				return nil
			})
		},
	} {
		t.Run(what, func(t *testing.T) {
			begun, release := make(chan struct{}, readings), make(chan struct{})
			var readers sync.WaitGroup
			defer readers.Wait()
			defer close(release)
			for range readings {
				readers.Go(func() {
					if err := read(begun, release); err != nil {
						t.Error(err)
					}
				})
			}
			<-begun
			if what == "verifications" {
				readers.Go(func() {
					found := func(f sealed.Finding) { t.Errorf("found %v", f.Err) }
					tally, err := s.Maintenance().Verify(t.Context(), found)
					if err != nil || tally.Records < 4 {
						t.Errorf("verify: %+v, %v", tally, err)
					}
				})
			}
			for range 20 {
				if got := all(t, sp, "x"); len(got) != 4 {
					t.Fatalf("%d records", len(got))
				}
			}
			gone, leave := context.WithCancelCause(t.Context())
			leave(errStop)
			if err := sp.LongView(gone, func(sealed.Reader) error { return nil }); !errors.Is(err, errStop) {
				t.Errorf("one whose context has ended: %v", err)
			}
		})
	}
}

var errStop = errors.New("stop")
