package sealed_test

import (
	"context"
	"errors"
	"io"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

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

// few opens a store in a database with the fewest connections, which have four snapshots: two may last, one of them for
// maintenance.
func few(t *testing.T) (*sealed.Store, *sealed.Space) {
	s := open(t, sealed.Config{
		Engine: pgtest.Shared(t).Database(t) + "&pool_max_conns=12", KeyDir: t.TempDir(), Shared: true,
		Protectors: []sealed.Protector{{Name: "test", Kind: "fake", Source: protector(t)}},
	})
	sp := create(t, s, spaceA)
	for _, id := range []string{"1", "2", "3", "4"} {
		put(t, sp, "x", note{id, "a text"})
	}
	for i := range 80 { // more than a backup reads ahead of its writer, so that its snapshot lasts
		put(t, sp, "y", note{strconv.Itoa(i), strings.Repeat("a long text ", 10_000)})
	}
	return s, sp
}

// waitFor returns when so many readings wait for a place. No more than most may have begun.
func waitFor(t *testing.T, s *sealed.Store, waiting int, begun <-chan struct{}, most int) {
	t.Helper()
	for {
		stats, _ := s.Database()
		switch {
		case len(begun) > most:
			t.Fatalf("%d readings that last have begun, of which %d may", len(begun), most)
		case stats.Waiting == waiting:
			return
		}
		runtime.Gosched()
	}
}

// TestLongViewsLeaveRoom has more long readings at a time than the database has snapshots: short ones go on. While all
// of them are maintenance, one that is not goes on as well.
func TestLongViewsLeaveRoom(t *testing.T) {
	s, sp := few(t)
	const readings = 5
	for what, c := range map[string]struct {
		read func(begun chan<- struct{}, release <-chan struct{}) error
		most int
	}{
		"views": {func(begun chan<- struct{}, release <-chan struct{}) error {
			return sp.LongView(t.Context(), func(r sealed.Reader) error {
				_, err := notes.In("x").Get(r, "1")
				begun <- struct{}{}
				<-release
				return err
			})
		}, 2},
		"backups": {func(begun chan<- struct{}, release <-chan struct{}) error {
			_, err := s.Backup().WriteData(t.Context(), &heldWriter{begun: begun, release: release})
			return err
		}, 1},
	} {
		t.Run(what, func(t *testing.T) {
			begun, release := make(chan struct{}, readings), make(chan struct{})
			var readers sync.WaitGroup
			defer readers.Wait()
			defer close(release)
			for range readings {
				readers.Go(func() {
					if err := c.read(begun, release); err != nil {
						t.Error(err)
					}
				})
			}
			waitFor(t, s, readings-c.most, begun, c.most)
			for range 20 {
				if got := all(t, sp, "x"); len(got) != 4 {
					t.Fatalf("%d records", len(got))
				}
			}
			if what == "views" {
				gone, leave := context.WithCancelCause(t.Context())
				leave(errStop)
				if err := sp.LongView(gone, func(sealed.Reader) error { return nil }); !errors.Is(err, errStop) {
					t.Errorf("one whose context has ended: %v", err)
				}
				return
			}
			ctx, stop := context.WithTimeout(t.Context(), time.Minute) // it ends one that waits for the backups
			defer stop()
			err := sp.LongView(ctx, func(r sealed.Reader) error {
				_, err := notes.In("x").Get(r, "1")
				return err
			})
			if err != nil {
				t.Errorf("a load during backups: %v", err)
			}
		})
	}
}

// TestMaintenanceTakesTurns has a verification and an export of the keyring wait for a backup.
func TestMaintenanceTakesTurns(t *testing.T) {
	s, _ := few(t)
	begun, release := make(chan struct{}, 1), make(chan struct{})
	var readers sync.WaitGroup
	defer readers.Wait()
	defer close(release)
	readers.Go(func() {
		if _, err := s.Backup().WriteData(t.Context(), &heldWriter{begun: begun, release: release}); err != nil {
			t.Error(err)
		}
	})
	<-begun
	ended := make(chan struct{}, 2)
	readers.Go(func() {
		found := func(f sealed.Finding) { t.Errorf("found %v", f.Err) }
		tally, err := s.Maintenance().Verify(t.Context(), found)
		if err != nil || tally.Records < 4 {
			t.Errorf("verify: %+v, %v", tally, err)
		}
		ended <- struct{}{}
	})
	readers.Go(func() {
		if saved, err := s.Backup().WriteKeyring(t.Context(), io.Discard); err != nil || saved.Rows == 0 {
			t.Errorf("export the keyring: %+v, %v", saved, err)
		}
		ended <- struct{}{}
	})
	waitFor(t, s, 2, ended, 0)
}

// TestLongViewEndsWithTheStore closes a store while a reading waits for a place.
func TestLongViewEndsWithTheStore(t *testing.T) {
	s, sp := few(t)
	begun, release := make(chan struct{}, 2), make(chan struct{})
	var readers sync.WaitGroup
	for range cap(begun) {
		readers.Go(func() {
			_ = sp.LongView(t.Context(), func(sealed.Reader) error {
				begun <- struct{}{}
				<-release
				return nil
			})
		})
	}
	waited := make(chan error, 1)
	for range cap(begun) {
		<-begun
	}
	readers.Go(func() { waited <- sp.LongView(t.Context(), func(sealed.Reader) error { return nil }) })
	waitFor(t, s, 1, nil, 0)
	readers.Go(func() { _ = s.Close() })
	if err := <-waited; !errors.Is(err, sealed.ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
	close(release)
	readers.Wait()
}

var errStop = errors.New("stop")
