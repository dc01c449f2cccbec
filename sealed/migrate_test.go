package sealed_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/sealed/internal/stream"
)

// appending is a migration that appends some entries to a log, each in a commit of its own, which may be too few when
// it is interrupted; then it goes on where it was.
func appending(name, since string, after string) sealed.Step {
	return sealed.Step{Name: name, Since: since, Run: func(ctx context.Context, s *sealed.Store) error {
		if after != "" {
			if next, err := s.Log(after).Next(ctx); err != nil || next != 1+migrated {
				return errors.Join(err, fmt.Errorf("the migration before has written %d entries", next-1))
			}
		}
		for i := uint64(1); i <= migrated; i++ {
			err := s.Log(name).Append(ctx, func(first uint64) ([][]byte, error) {
				if first != i {
					return nil, nil // it was interrupted after this entry
				}
				return [][]byte{fmt.Append(nil, name, i)}, nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	}}
}

const migrated = 4 // entries that each of the test's migrations appends

// later is a configuration for a program two formats later.
func later(cfg sealed.Config) sealed.Config {
	return sealed.WithSteps(cfg, appending("first", "0.2.0", ""), appending("second", "0.3.0", "first"))
}

// checkMigrated makes sure that both migrations have been run to their ends.
func checkMigrated(t *testing.T, s *sealed.Store) {
	t.Helper()
	if s.Maintenance().Format() != sealed.Format+2 {
		t.Errorf("the store has format %d", s.Maintenance().Format())
	}
	for _, name := range []string{"first", "second"} {
		if got, want := strings.Join(entries(t, s.Log(name), 1), " "),
			fmt.Sprintf("1:%s1 2:%[1]s2 3:%[1]s3 4:%[1]s4", name); got != want {
			t.Errorf("migration %s has left %q, want %q", name, got, want)
		}
	}
}

// told returns the names of the migrations that the store tells of.
func told(t *testing.T, s *sealed.Store) (names string) {
	t.Helper()
	err := s.Maintenance().TellMigrations(t.Context(), func(m sealed.Migration) error {
		names += fmt.Sprintf("%d:%s ", m.Number, m.Name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(names)
}

// TestMigrationsAreAList: they are numbered without gaps, and each says what people ask.
func TestMigrationsAreAList(t *testing.T) {
	all := sealed.Migrations()
	if len(all) != int(sealed.Format) {
		t.Fatalf("%d migrations lead to format %d", len(all), sealed.Format)
	}
	for i, m := range all {
		if m.Number != uint32(i+1) || m.Name == "" || m.Since == "" || !strings.HasSuffix(m.Does, ".") {
			t.Errorf("migration %d is %+v", i+1, m)
		}
	}
}

// TestOlderStoresAreMigrated: a new store has the newest format and was through no migration; one from before formats,
// or of an older one, goes through those it has missed, once, in order, and is told of until somebody has listened.
func TestOlderStoresAreMigrated(t *testing.T) {
	cfg := config(t, "lasting")
	var said []string
	cfg.Report = func(e sealed.Event) {
		if e.Kind == sealed.StoreMigrating || e.Kind == sealed.StoreMigrated {
			said = append(said, fmt.Sprintf("%s %d %s", e.Kind, e.Format, e.Note))
		}
	}
	s := open(t, cfg)
	if s.Maintenance().Format() != sealed.Format || len(said) > 0 || told(t, s) != "" {
		t.Errorf("a new store has format %d and says %q", s.Maintenance().Format(), said)
	}
	put(t, create(t, s, spaceA), "x", note{"1", "text"})
	s.ForgetFormat(t)
	closeStore(t, s)

	s = open(t, cfg)
	if got, want := strings.Join(said, ", "),
		"store migrating 1 record-format, store migrated 1 record-format, "+
			"store migrating 2 root-versions, store migrated 2 root-versions"; got != want {
		t.Errorf("said %q, want %q", got, want)
	}
	if s.Maintenance().Format() != sealed.Format || all(t, s.Space(spaceA), "x")["1"] != "text" {
		t.Errorf("the store has format %d and %v", s.Maintenance().Format(), all(t, s.Space(spaceA), "x"))
	}
	closeStore(t, s)

	s = open(t, later(cfg))
	checkMigrated(t, s)
	failed := errors.New("the log is full")
	if err := s.Maintenance().TellMigrations(t.Context(),
		func(sealed.Migration) error { return failed }); !errors.Is(err, failed) {
		t.Errorf("a teller that fails: %v", err)
	}
	closeStore(t, s)
	s = open(t, later(cfg))
	if got := told(t, s); got != "1:record-format 2:root-versions 3:first 4:second" {
		t.Errorf("told of %q", got)
	}
	if got := told(t, s); got != "" {
		t.Errorf("told once more of %q", got)
	}
	verifyClean(t, s)
	closeStore(t, s)
	if s = open(t, later(cfg)); told(t, s) != "" || all(t, s.Space(spaceA), "x")["1"] != "text" {
		t.Error("a store of the newest format is migrated, or has lost something")
	}
}

func closeStore(t *testing.T, s *sealed.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestMigrationsCutByPowerAreFinished takes the power away after each operation on the disk while a store is migrated,
// with none and with half of what was not synced surviving. The format never runs ahead of what it stands for.
func TestMigrationsCutByPowerAreFinished(t *testing.T) {
	cfg := config(t, "memory")
	cfg.KeyDir = filepath.Join(t.TempDir(), "keys")
	disk := vfs.NewCrashableMem()
	s, err := sealed.OpenOn(t.Context(), cfg, disk)
	if err != nil {
		t.Fatal(err)
	}
	s.ForgetFormat(t)
	closeStore(t, s)

	var mu sync.Mutex
	var wrecks []*vfs.MemFS
	faulty := errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsRead {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		for _, percent := range []int{0, 50} {
			random := rand.New(rand.NewPCG(uint64(len(wrecks)), 5))
			wreck := disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: random})
			if !outOfOrder(wreck) {
				wrecks = append(wrecks, wreck)
			}
		}
		return nil
	}))
	if s, err = sealed.OpenOn(t.Context(), later(cfg), faulty); err != nil {
		t.Fatal(err)
	}
	checkMigrated(t, s)
	mu.Lock()
	tried := wrecks
	mu.Unlock()
	closeStore(t, s)
	if len(tried) < 40 {
		t.Fatalf("only %d moments", len(tried))
	}
	for i, wreck := range tried[:min(points(t, len(tried)), len(tried))] {
		s, err := sealed.OpenOn(t.Context(), later(cfg), wreck)
		if err != nil {
			t.Fatalf("moment %d: %v", i, err)
		}
		checkMigrated(t, s)
		if got := told(t, s); got != "1:record-format 2:root-versions 3:first 4:second" {
			t.Errorf("told of %q", got)
		}
		closeStore(t, s)
		if t.Failed() {
			t.Fatalf("at moment %d", i)
		}
	}
	t.Logf("%d moments", len(tried))
}

// TestMigrationsKilledAreFinished ends the machine at each commit of a store that is migrated, before and after it is
// done.
func TestMigrationsKilledAreFinished(t *testing.T) {
	cfg, kills := config(t, "memory"), 0
	for _, done := range []bool{false, true} {
		for die := 0; ; die++ {
			m := sealed.NewMachine()
			s, err := m.Start(t, cfg, -1, false)
			if err != nil {
				t.Fatal(err)
			}
			s.ForgetFormat(t)
			_, err = m.Start(t, later(cfg), die, done)
			died := m.Died()
			if died != errors.Is(err, sealed.ErrDied) {
				t.Fatalf("killed at %d: %t, %v", die, died, err)
			}
			if s, err = m.Start(t, later(cfg), -1, false); err != nil {
				t.Fatalf("after a kill at %d: %v", die, err)
			}
			checkMigrated(t, s)
			if t.Failed() {
				t.Fatalf("killed at %d, done %t", die, done)
			}
			if !died {
				break
			}
			kills++
		}
	}
	if kills < 2*(2*migrated+3) {
		t.Errorf("only %d kills", kills)
	}
}

// TestMigrationsAreCancelled: the store does not open, and the next one goes on.
func TestMigrationsAreCancelled(t *testing.T) {
	cfg := config(t, "lasting")
	closeStore(t, open(t, cfg))
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	interrupted := sealed.WithSteps(cfg,
		sealed.Step{Name: "first", Since: "0.2.0", Run: func(ctx context.Context, s *sealed.Store) error {
			_ = s.Log("first").Append(ctx, func(uint64) ([][]byte, error) { return [][]byte{[]byte("first1")}, nil })
			cancel(enough)
			return appending("first", "", "").Run(ctx, s)
		}})
	if _, err := sealed.Open(ctx, interrupted); !errors.Is(err, enough) {
		t.Fatalf("cancelled within a migration: %v", err)
	}
	if _, err := sealed.Open(ctx, later(cfg)); !errors.Is(err, enough) {
		t.Fatalf("cancelled before: %v", err)
	}
	checkMigrated(t, open(t, later(cfg)))
}

// TestMigrationsNeedRoom: on a full volume the store does not open, and nothing was written.
func TestMigrationsNeedRoom(t *testing.T) {
	var free atomic.Uint64
	free.Store(1 << 40)
	cfg := config(t, "memory")
	cfg.KeyDir = filepath.Join(t.TempDir(), "keys")
	disk := scarce{vfs.NewMem(), &free}
	s, err := sealed.OpenOn(t.Context(), cfg, disk)
	if err != nil {
		t.Fatal(err)
	}
	reserve := s.Maintenance().Volumes()[0].Reserve
	closeStore(t, s)
	free.Store(reserve / 2)
	_, err = sealed.OpenOn(t.Context(), later(cfg), disk)
	if full, ok := errors.AsType[*sealed.FullError](err); !ok ||
		!strings.Contains(err.Error(), "migrate the store to format 3 (first)") {
		t.Fatalf("on a full volume: %v (%v)", err, full)
	}
	if s, err = sealed.OpenOn(t.Context(), cfg, disk); err != nil { // the program of before goes on meanwhile
		t.Fatal(err)
	}
	if next, err := s.Log("first").Next(t.Context()); err != nil || next != 1 ||
		s.Maintenance().Format() != sealed.Format {
		t.Errorf("format %d, entry %d, %v", s.Maintenance().Format(), next, err)
	}
	closeStore(t, s)
	free.Store(1 << 40)
	if s, err = sealed.OpenOn(t.Context(), later(cfg), disk); err != nil {
		t.Fatal(err)
	}
	checkMigrated(t, s)
	closeStore(t, s)
}

// files returns everything in a directory.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			found[path] = "directory"
			return err
		}
		b, err := os.ReadFile(path)
		found[path] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestNewerStoresAreRefused, by every way in, with a sentence that says which version to use, and before anything is
// written.
func TestNewerStoresAreRefused(t *testing.T) {
	const sentence = "was written by a newer version of Visage (format 4); this program knows formats up to 2: use " +
		"version 0.3.0 or later"
	dir := t.TempDir()
	cfg := config(t, "memory")
	cfg.Engine, cfg.KeyDir, cfg.AnchorDir = "pebble:"+filepath.Join(dir, "data"), filepath.Join(dir, "keys"),
		filepath.Join(dir, "anchors")
	s := open(t, later(cfg))
	put(t, create(t, s, spaceA), "x", note{"1", "text"})
	b := save(t, s)
	closeStore(t, s)

	refused := func(what string, err error) {
		t.Helper()
		newer, ok := errors.AsType[*sealed.NewerError](err)
		if !ok || newer.Format != sealed.Format+2 || newer.Known != sealed.Format ||
			!strings.Contains(err.Error(), "this "+what+" "+sentence) {
			t.Errorf("a newer %s: %v", what, err)
		}
	}
	before := files(t, dir)
	_, err := sealed.Open(t.Context(), cfg)
	refused("store", err)
	if after := files(t, dir); !maps.Equal(before, after) {
		t.Error("the refusal has changed files")
	}
	there := elsewhere(t, cfg)
	refused("keyring", sealed.Restore(t.Context(), there, bytes.NewReader(b.keyring), bytes.NewReader(b.data)))
	if _, err := os.Stat(strings.TrimPrefix(there.Engine, "pebble:")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the refusal has made a data directory: %v", err)
	}
	older := save(t, open(t, config(t, "lasting")))
	refused("backup", sealed.Restore(t.Context(), there, bytes.NewReader(older.keyring), bytes.NewReader(b.data)))
	_, err = open(t, config(t, "memory")).Backup().MendKeyring(t.Context(), bytes.NewReader(b.keyring))
	refused("keyring", err)

	later := bytes.Replace(older.data, []byte("VISAGE BACKUP 2"), []byte("VISAGE BACKUP 3"), 1)
	err = sealed.Restore(t.Context(), there, bytes.NewReader(older.keyring), bytes.NewReader(later))
	if newer, ok := errors.AsType[*sealed.NewerError](err); !ok || newer.Format != 3 || newer.Of != "stream" {
		t.Errorf("a stream of a form to come: %v", err)
	}
}

// TestRestoredBackupsAreMigrated: a backup from before a migration, with a keyring from after it, makes a store of the
// older format, which goes through the migration again.
func TestRestoredBackupsAreMigrated(t *testing.T) {
	cfg := config(t, "lasting")
	s := open(t, cfg)
	put(t, create(t, s, spaceA), "x", note{"1", "text"})
	old := save(t, s)
	closeStore(t, s)
	s = open(t, later(cfg))
	if told(t, s) == "" {
		t.Error("no migration was told")
	}
	now := save(t, s)
	in, err := stream.NewReader(bytes.NewReader(now.data))
	if err != nil || in.Header().Format != sealed.Format+2 || in.Header().Since != "0.3.0" {
		t.Errorf("the header is %+v, %v", in.Header(), err)
	}
	there := later(elsewhere(t, cfg))
	if err := sealed.Restore(t.Context(), there, bytes.NewReader(now.keyring), bytes.NewReader(old.data)); err != nil {
		t.Fatal(err)
	}
	r := open(t, there)
	checkMigrated(t, r)
	if got := told(t, r); got != "3:first 4:second" || all(t, r.Space(spaceA), "x")["1"] != "text" {
		t.Errorf("told of %q, and the record is %q", got, all(t, r.Space(spaceA), "x")["1"])
	}
	verifyClean(t, r)
}
