package sealed_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/sealed/internal/stream"
)

// rolling is a configuration for a program of the next format, to which processes that share a store are brought one
// after another. Its migration appends to a log.
func rolling(cfg sealed.Config) sealed.Config {
	step := appending("first", "9.0.0", "")
	step.Rolling = true
	return sealed.WithSteps(cfg, step)
}

// runs runs the background work of a store until stop is called, which returns what Run has returned.
func runs(t *testing.T, s *sealed.Store) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() { _ = stop() }) // a test that wants its error has called it
	return stop
}

// formats waits for as long as replicas take to see each other, and returns the formats that they write.
func formats(stores ...*sealed.Store) string {
	time.Sleep(16 * time.Second)
	var all []string
	for _, s := range stores {
		all = append(all, fmt.Sprint(s.Maintenance().Format()))
	}
	return strings.Join(all, " ")
}

func wantFormats(t *testing.T, want string, stores ...*sealed.Store) {
	t.Helper()
	if got := formats(stores...); got != want {
		t.Errorf("the replicas write formats %s, want %s", got, want)
	}
}

func putOne(t *testing.T, s *sealed.Store, id string) {
	t.Helper()
	if err := writeOne(s, id); err != nil {
		t.Fatal(err)
	}
}

func writeOne(s *sealed.Store, id string) error {
	return s.Space(spaceA).Update(context.Background(), func(tx sealed.Tx) error {
		return notes.In("x").Put(tx, id, note{id, "text " + id})
	})
}

// wantAppended wants the migration of rolling to have been run to its end.
func wantAppended(t *testing.T, s *sealed.Store) {
	t.Helper()
	const want = "1:first1 2:first2 3:first3 4:first4"
	if got := strings.Join(entries(t, s.Log("first"), 1), " "); got != want {
		t.Errorf("the migration has left %q, want %q", got, want)
	}
}

// wantRefused wants a program that knows an earlier format alone to be refused, with the version that it needs.
func wantRefused(t *testing.T, cfg sealed.Config) {
	t.Helper()
	s, err := sealed.Open(t.Context(), cfg)
	if newer, ok := errors.AsType[*sealed.NewerError](err); !ok || !strings.Contains(newer.Error(), "version 9.0.0") {
		t.Errorf("a program of the format before: %v, %v", s, err)
	}
}

// TestReplicasAreReplacedOneByOne: a program of the next format works beside two of the format before, in that. It can
// be taken back. The last one of the earlier program that leaves makes the others change over, once.
func TestReplicasAreReplacedOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		former := shared(t)
		var mu sync.Mutex
		migrated := 0
		next := rolling(former)
		next.Report = func(e sealed.Event) {
			if e.Kind == sealed.StoreMigrated {
				mu.Lock()
				migrated++
				mu.Unlock()
			}
		}
		a, b := open(t, former), open(t, former)
		stopA, stopB := runs(t, a), runs(t, b)
		create(t, a, spaceA)
		putOne(t, a, "1")
		was := fmt.Sprint(sealed.Format)
		is := fmt.Sprint(sealed.Format + 1)

		// forth and back
		if err := errors.Join(stopA(), a.Close()); err != nil {
			t.Fatal(err)
		}
		c := open(t, next)
		stopC := runs(t, c)
		putOne(t, c, "2")
		putOne(t, b, "3")
		wantFormats(t, was+" "+was, b, c)
		if err := errors.Join(stopC(), c.Close()); err != nil {
			t.Fatal(err)
		}
		a = open(t, former)
		stopA = runs(t, a)
		putOne(t, a, "4")

		// and forth, with two that may do it
		if err := errors.Join(stopA(), a.Close()); err != nil {
			t.Fatal(err)
		}
		c = open(t, next)
		d := open(t, next)
		stopC, stopD := runs(t, c), runs(t, d)
		wantFormats(t, was+" "+was+" "+was, b, c, d)
		if err := errors.Join(stopB(), b.Close()); err != nil {
			t.Fatal(err)
		}
		wantFormats(t, is+" "+is, c, d)
		wantAppended(t, c)
		mu.Lock()
		if migrated != 1 {
			t.Errorf("the store was migrated %d times", migrated)
		}
		mu.Unlock()
		wantRefused(t, former)
		putOne(t, d, "5")
		for _, id := range []string{"1", "2", "3", "4", "5"} {
			if got := all(t, c.Space(spaceA), "x")[id]; got != "text "+id {
				t.Errorf("record %s is %q", id, got)
			}
		}
		if got := told(t, d); got != is+":first" {
			t.Errorf("told of %q", got)
		}
		verifyClean(t, c)
		if err := errors.Join(stopC(), stopD()); err != nil {
			t.Error(err)
		}
	})
}

// TestPausedReplicasDoNotWriteTheFormatBefore: while one process of each program is paused, the store changes over. The
// one that does not know the new format writes nothing when it goes on, and ends; the other one writes the new format.
func TestPausedReplicasDoNotWriteTheFormatBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		former := shared(t)
		next := rolling(former)
		old, oldProcess := openPausable(t, former)
		stopOld := runs(t, old)
		create(t, old, spaceA)
		a := open(t, next)
		stopA := runs(t, a)
		b, process := openPausable(t, next)
		stopB := runs(t, b)
		was, is := fmt.Sprint(sealed.Format), fmt.Sprint(sealed.Format+1)
		wantFormats(t, was+" "+was+" "+was, old, a, b)

		oldProcess.Pause()
		process.Pause()
		time.Sleep(30 * time.Second)
		wantFormats(t, is+" "+was, a, b)
		wantAppended(t, a)
		for name, s := range map[string]*sealed.Store{"former": old, "next": b} {
			if err := writeOne(s, name); !errors.Is(err, sealed.ErrInUse) {
				t.Errorf("the paused process of the %s program writes: %v", name, err)
			}
		}
		oldProcess.Resume()
		process.Resume()
		wantFormats(t, is, b)
		putOne(t, b, "after")
		if err := writeOne(old, "late"); !errors.Is(err, sealed.ErrInUse) {
			t.Errorf("a program that does not know the format writes: %v", err)
		}
		err := stopOld()
		if _, newer := errors.AsType[*sealed.NewerError](err); !newer {
			t.Errorf("its work has ended with %v", err)
		}
		if got := all(t, a.Space(spaceA), "x"); len(got) != 1 || got["after"] != "text after" {
			t.Errorf("the records are %v", got)
		}
		verifyClean(t, a)
		if err := errors.Join(stopA(), stopB()); err != nil {
			t.Error(err)
		}
	})
}

// TestReplicasThatArePausedWhileTheyOpenTheStore have seen the format before, and go on when the store has the next
// one.
func TestReplicasThatArePausedWhileTheyOpenTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		former := shared(t)
		next := rolling(former)
		keep := open(t, former)
		create(t, keep, spaceA)
		type result struct {
			store *sealed.Store
			err   error
		}
		openPaused := func(cfg sealed.Config) (*sealed.Process, <-chan result) {
			process, opened := sealed.NewProcess(cfg), make(chan result, 1)
			process.Pause()
			go func() {
				s, err := process.Open(t.Context(), cfg)
				opened <- result{s, err}
			}()
			synctest.Wait() // it is about to join the others
			return process, opened
		}
		formerProcess, formerOpened := openPaused(former)
		nextProcess, nextOpened := openPaused(next)
		a := open(t, next)
		stopA := runs(t, a)
		if err := keep.Close(); err != nil {
			t.Fatal(err)
		}
		wantFormats(t, fmt.Sprint(sealed.Format+1), a)

		formerProcess.Resume()
		got := <-formerOpened
		if _, newer := errors.AsType[*sealed.NewerError](got.err); !newer {
			t.Errorf("the former program has opened the store: %v, %v", got.store, got.err)
		}
		nextProcess.Resume()
		if got = <-nextOpened; got.err != nil {
			t.Fatal(got.err)
		}
		if format := got.store.Maintenance().Format(); format != sealed.Format+1 {
			t.Errorf("the next program writes format %d", format)
		}
		if err := errors.Join(got.store.Close(), stopA()); err != nil {
			t.Error(err)
		}
	})
}

// TestAnotherReplicaFinishesAMigration: the process that has raised the number ends within the migration.
func TestAnotherReplicaFinishesAMigration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		former := shared(t)
		next := rolling(former)
		held := make(chan struct{})
		step := appending("first", "9.0.0", "")
		step.Rolling = true
		step.Run = func(ctx context.Context, s *sealed.Store) error {
			close(held)
			<-ctx.Done()
			return context.Cause(ctx)
		}
		keep := open(t, former)
		create(t, keep, spaceA)
		a := open(t, sealed.WithSteps(former, step))
		stopA := runs(t, a)
		if err := keep.Close(); err != nil {
			t.Fatal(err)
		}
		<-held
		wantRefused(t, former)
		if got := told(t, a); got != "" {
			t.Errorf("told of %q before it has ended", got)
		}
		b := open(t, next)
		stopB := runs(t, b)
		is := fmt.Sprint(sealed.Format + 1)
		wantFormats(t, is+" "+is, a, b)
		if next, err := b.Log("first").Next(t.Context()); err != nil || next != 1 {
			t.Errorf("the migration was run beside another one: entry %d, %v", next, err)
		}
		if err := errors.Join(stopA(), a.Close()); err != nil {
			t.Fatal(err)
		}
		wantFormats(t, is, b)
		wantAppended(t, b)
		if got := told(t, b); got != is+":first" {
			t.Errorf("told of %q", got)
		}
		if err := stopB(); err != nil {
			t.Error(err)
		}
	})
}

// TestFormatsThatAreNotRolledToStopReplicas: a migration that is not rolling, and two at a time, need the store alone.
func TestFormatsThatAreNotRolledToStopReplicas(t *testing.T) {
	former := shared(t)
	open(t, former)
	first, second := appending("first", "9.0.0", ""), appending("second", "9.1.0", "first")
	second.Rolling = true
	for name, cfg := range map[string]sealed.Config{
		"not rolling": sealed.WithSteps(former, first), "two at a time": sealed.WithSteps(former, first, second),
	} {
		if s, err := sealed.Open(t.Context(), cfg); !errors.Is(err, sealed.ErrInUse) ||
			!strings.Contains(err.Error(), "stop them first") {
			t.Errorf("%s: %v, %v", name, s, err)
		}
	}
}

// TestAMigrationWaitsForWhatWritesTheFormatBefore: a transaction that began before the number was raised may write the
// format before. The migration comes after it.
func TestAMigrationWaitsForWhatWritesTheFormatBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		former := shared(t)
		next := rolling(former)
		keep := open(t, former)
		create(t, keep, spaceA)
		a, b := open(t, next), open(t, next)
		stopA, stopB := runs(t, a), runs(t, b)
		began, release, ended := make(chan uint32), make(chan struct{}), make(chan error)
		go func() {
			ended <- b.Space(spaceA).Update(t.Context(), func(tx sealed.Tx) error {
				began <- b.Maintenance().Format()
				<-release
				return notes.In("x").Put(tx, "1", note{"1", "of the format before"})
			})
		}()
		if got := <-began; got != sealed.Format {
			t.Fatalf("it writes format %d", got)
		}
		if err := keep.Close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		wantRefused(t, former)
		next1, err := a.Log("first").Next(t.Context())
		if err != nil || next1 != 1 {
			t.Errorf("the migration did not wait: entry %d, %v", next1, err)
		}
		close(release)
		if err := <-ended; err != nil {
			t.Errorf("the transaction of before: %v", err)
		}
		is := fmt.Sprint(sealed.Format + 1)
		wantFormats(t, is+" "+is, a, b)
		if next1, err = a.Log("first").Next(t.Context()); err != nil || next1 != 1+migrated {
			t.Errorf("the migration has not run: entry %d, %v", next1, err)
		}
		if err := errors.Join(stopA(), stopB()); err != nil {
			t.Error(err)
		}
	})
}

// TestBackupsOfAStoreThatIsMigrated: a backup that was taken while the rows had two formats is restored with a keyring
// from after that, and the migration is run over it.
func TestBackupsOfAStoreThatIsMigrated(t *testing.T) {
	former := shared(t)
	begun, release := make(chan struct{}), make(chan struct{})
	step := appending("first", "9.0.0", "")
	step.Rolling = true
	run := step.Run
	step.Run = func(ctx context.Context, s *sealed.Store) error {
		close(begun)
		<-release
		return run(ctx, s)
	}
	ended := make(chan struct{})
	cfg := sealed.WithSteps(former, step)
	cfg.Report = func(e sealed.Event) {
		if e.Kind == sealed.StoreMigrated {
			close(ended)
		}
	}
	keep := open(t, former) // a store of the format before
	create(t, keep, spaceA)
	a := open(t, cfg)
	putOne(t, a, "1")
	if err := keep.Close(); err != nil {
		t.Fatal(err)
	}
	stop := runs(t, a)
	<-begun
	during := save(t, a)
	close(release)
	<-ended
	after := save(t, a)
	for _, b := range []saved{during, after} {
		in, err := stream.NewReader(bytes.NewReader(b.data))
		if err != nil || in.Header().Format != sealed.Format+1 || in.Header().Since != "9.0.0" {
			t.Errorf("the header is %+v, %v", in.Header(), err)
		}
	}
	there := rolling(elsewhere(t, former))
	there.Shared = false
	if err := sealed.Restore(t.Context(), there, bytes.NewReader(after.keyring),
		bytes.NewReader(during.data)); err != nil {
		t.Fatal(err)
	}
	r := open(t, there)
	wantAppended(t, r)
	if got := all(t, r.Space(spaceA), "x")["1"]; got != "text 1" {
		t.Errorf("the record is %q", got)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// TestAMigrationThatHasNotEndedIsNotSkipped: the replicas of a version stop while its migration is under way, and those
// of the version after it come. They need the store alone, and finish that migration before their own.
func TestAMigrationThatHasNotEndedIsNotSkipped(t *testing.T) {
	former := shared(t)
	defer sealed.NewProcess(former).Engine.Close() // keeps what is stored, as a database does
	keep := open(t, former)
	create(t, keep, spaceA)
	failing := appending("first", "9.0.0", "")
	failing.Rolling = true
	begun := make(chan struct{})
	failing.Run = func(ctx context.Context, _ *sealed.Store) error {
		close(begun)
		<-ctx.Done()
		return context.Cause(ctx)
	}
	a := open(t, sealed.WithSteps(former, failing))
	if err := keep.Close(); err != nil {
		t.Fatal(err)
	}
	stop := runs(t, a)
	<-begun
	first, second := appending("first", "9.0.0", ""), appending("second", "9.1.0", "first")
	first.Rolling, second.Rolling = true, true
	later := sealed.WithSteps(former, first, second)
	if s, err := sealed.Open(t.Context(), later); !errors.Is(err, sealed.ErrInUse) {
		t.Errorf("beside one that migrates: %v, %v", s, err)
	}
	if err := errors.Join(stop(), a.Close()); err != nil {
		t.Fatal(err)
	}
	s := open(t, later)
	wantAppended(t, s)
	if got := s.Maintenance().Format(); got != sealed.Format+2 {
		t.Errorf("the store has format %d", got)
	}
}
