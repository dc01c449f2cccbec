package sealed_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/sealed/backup"
	"github.com/visage-face/visage/sealed/internal/stream"
)

// saved is a backup and a keyring in memory.
type saved struct{ data, keyring []byte }

func save(t *testing.T, s *sealed.Store) (b saved) {
	t.Helper()
	var data, keyring bytes.Buffer
	if _, err := s.Backup().WriteData(t.Context(), &data); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Backup().WriteKeyring(t.Context(), &keyring); err != nil {
		t.Fatal(err)
	}
	return saved{data.Bytes(), keyring.Bytes()}
}

// elsewhere is a configuration like cfg in a new place: the same protectors, nothing else.
func elsewhere(t *testing.T, cfg sealed.Config) sealed.Config {
	t.Helper()
	fresh := config(t, "lasting")
	fresh.Protectors = cfg.Protectors
	return fresh
}

func restore(t *testing.T, cfg sealed.Config, keyring, data []byte) error {
	t.Helper()
	return sealed.Restore(t.Context(), cfg, bytes.NewReader(keyring), bytes.NewReader(data))
}

// orders collects what putting restored spaces in order came to.
type orders struct {
	mu   sync.Mutex
	said map[sealed.SpaceID]string
}

func (o *orders) watch(cfg *sealed.Config) {
	o.said = map[sealed.SpaceID]string{}
	cfg.Report = func(e sealed.Event) {
		if e.Kind == sealed.SpaceRestored {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.said[e.Space] = e.Note
		}
	}
}

// halfFoldedStore is a store with a folded and an unfolded part, and what is in it.
func halfFoldedStore(t *testing.T) (cfg sealed.Config, s *sealed.Store, want map[string]string) {
	t.Helper()
	cfg = config(t, "lasting")
	s = open(t, cfg)
	sp := create(t, s, spaceA)
	want = map[string]string{}
	add := func(from, to int) {
		var list []note
		for i := from; i < to; i++ {
			n := note{fmt.Sprint(i), fmt.Sprint("text ", i)}
			list, want[n.ID] = append(list, n), n.Text
		}
		put(t, sp, "a", list...)
	}
	add(0, 600)
	if err := sp.Fold(t.Context()); err != nil {
		t.Fatal(err)
	}
	add(600, 700)
	put(t, sp, "b", note{"1", "another container"})
	appendAll(t, s.Log("log"), "first", "second")
	return cfg, s, want
}

func TestRestoreBringsBackWhatWasThere(t *testing.T) {
	cfg, s, want := halfFoldedStore(t)
	b := save(t, s)
	to := elsewhere(t, cfg)
	var said orders
	said.watch(&to)
	if err := restore(t, to, b.keyring, b.data); err != nil {
		t.Fatal(err)
	}
	r := open(t, to)
	if got := all(t, r.Space(spaceA), "a"); !maps.Equal(got, want) {
		t.Errorf("%d records, want the %d that there were", len(got), len(want))
	}
	if got := entries(t, r.Log("log"), 1); strings.Join(got, " ") != "1:first 2:second" {
		t.Errorf("the log has %q", got)
	}
	if r.Instance() != s.Instance() {
		t.Error("the restored store is another instance")
	}
	if tally := verifyClean(t, r); tally.Records < len(want) {
		t.Errorf("verified %+v", tally)
	}
	if note := said.said[spaceA]; !strings.HasPrefix(note, "0 records") {
		t.Errorf("said %q", note)
	}
	put(t, r.Space(spaceA), "a", note{"1", "changed"}) // and it is a store like any other
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	clear(said.said)
	if got := all(t, open(t, to).Space(spaceA), "a"); got["1"] != "changed" || len(said.said) > 0 {
		t.Errorf("after a restart: %q, and it was put in order again: %v", got["1"], said.said)
	}
}

// TestErasedRecordsStayErased: yesterday's backup with today's keyring brings back the living and nobody else, and no
// key that still exists opens the others.
func TestErasedRecordsStayErased(t *testing.T) {
	cfg, s, want := halfFoldedStore(t)
	sp := s.Space(spaceA)
	yesterday := save(t, s)
	update(t, sp, func(tx sealed.Tx) error { // folded and unfolded ones, and a whole container
		for _, id := range []string{"5", "6", "650"} {
			if err := notes.In("a").Delete(tx, id); err != nil {
				return err
			}
			delete(want, id)
		}
		return nil
	})
	if err := notes.In("b").Drop(t.Context(), sp); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"8", "9", "652"} { // made again with the same ids
		eraseOne(t, sp, "a", id)
		put(t, sp, "a", note{id, "another"})
		delete(want, id)
	}
	if err := sp.Fold(t.Context()); err != nil { // the secrets of two are in pages then
		t.Fatal(err)
	}
	eraseOne(t, sp, "a", "9")
	put(t, sp, "a", note{"9", "a third"})
	put(t, sp, "a", note{"9", "changed"})
	put(t, sp, "a", note{"7", "newer"}, note{"651", "newer"}) // older in the backup
	put(t, sp, "a", note{"after", "the backup"})
	today := save(t, s)

	to := elsewhere(t, cfg)
	var said orders
	said.watch(&to)
	if err := restore(t, to, today.keyring, yesterday.data); err != nil {
		t.Fatal(err)
	}
	r := open(t, to)
	if got := all(t, r.Space(spaceA), "a"); !maps.Equal(got, want) {
		t.Errorf("%d records, want %d; erased %q, after %q, changed since %q", len(got), len(want), got["5"],
			got["after"], got["7"])
	}
	if got := all(t, r.Space(spaceA), "b"); len(got) > 0 {
		t.Errorf("the dropped container came back: %v", got)
	}
	const told = "7 records had been erased since the backup, 3 of them made anew, 1 were made since and are not in " +
		"it, 2 are older in it"
	if got := said.said[spaceA]; got != told {
		t.Errorf("said %q, want %q", got, told)
	}
	verifyClean(t, r)
}

func TestBackupsHoldNoKeysAndKeyringsNoRecords(t *testing.T) {
	_, s, _ := halfFoldedStore(t)
	b := save(t, s)
	kinds := func(b []byte) map[string]int {
		in, err := stream.NewReader(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]int{}
		err = in.Each(t.Context(), 1, func(*stream.Segment) error { return nil }, func(g *stream.Segment) error {
			for f := range g.All() {
				if f.Kind == stream.EpochKey {
					found["epoch key"]++
				} else {
					found[string(f.Key[16])]++
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	total := map[string]int{}
	for _, row := range s.Rows(t) {
		total[string(row.Kind)]++
	}
	data, keyring := kinds(b.data), kinds(b.keyring)
	if len(data) != 2 || data["R"] != total["R"] || data["L"] != total["L"] {
		t.Errorf("the backup has %v of %v", data, total)
	}
	if keyring["epoch key"] != 2 || keyring["R"]+keyring["L"] != 0 || keyring["P"] != total["P"] ||
		keyring["N"] != total["N"] || keyring["B"] != 2 || keyring["I"] != 1 {
		t.Errorf("the keyring has %v of %v", keyring, total)
	}
	for _, secret := range []string{"text 1", "another container", "first"} {
		if bytes.Contains(b.data, []byte(secret)) || bytes.Contains(b.keyring, []byte(secret)) {
			t.Errorf("%q can be read", secret)
		}
	}
}

// TestDamagedStreamsAreNotRestored changes, cuts and exchanges: never does a store come of it.
func TestDamagedStreamsAreNotRestored(t *testing.T) {
	cfg := config(t, "pebble")
	s := open(t, cfg)
	put(t, create(t, s, spaceA), "a", note{"1", "one"})
	b := save(t, s)
	foreign := config(t, "pebble")
	other := open(t, foreign)
	create(t, other, spaceA)
	theirs := save(t, other)
	try := func(what string, keyring, data []byte, protectors []sealed.Protector, want ...error) {
		t.Helper()
		to := elsewhere(t, cfg)
		if protectors != nil {
			to.Protectors = protectors
		}
		err := restore(t, to, keyring, data)
		if err == nil {
			t.Errorf("%s: it was restored", what)
			return
		}
		for _, w := range want {
			if !errors.Is(err, w) {
				t.Errorf("%s: got %v, want %v", what, err, w)
			}
		}
		if opened, err := sealed.Open(t.Context(), to); err == nil {
			if ids, _ := opened.Spaces().List(t.Context()); len(ids) > 1 {
				t.Errorf("%s: what is left opens as a store", what)
			}
			opened.Close()
		}
	}
	changed := func(b []byte, i int) []byte {
		c := bytes.Clone(b)
		c[i] ^= 0x40
		return c
	}
	for i := 0; i < len(b.data); i += 1 + len(b.data)/20 {
		try(fmt.Sprint("data changed at ", i), b.keyring, changed(b.data, i), nil)
		try(fmt.Sprint("data cut at ", i), b.keyring, b.data[:i], nil, backup.ErrMalformed)
	}
	for i := 0; i < len(b.keyring); i += 1 + len(b.keyring)/20 {
		try(fmt.Sprint("keyring changed at ", i), changed(b.keyring, i), b.data, nil)
		try(fmt.Sprint("keyring cut at ", i), b.keyring[:i], b.data, nil, backup.ErrMalformed)
	}
	last := len(b.data) - 1
	try("the code changed", b.keyring, changed(b.data, last), nil, backup.ErrNotAuthentic)
	try("data of another instance", b.keyring, theirs.data, nil, backup.ErrForeign)
	try("keyring of another instance", theirs.keyring, b.data, foreign.Protectors, backup.ErrForeign)
	try("the two exchanged", b.data, b.keyring, nil, backup.ErrMalformed)
	try("a root that cannot be had", b.keyring, b.data,
		[]sealed.Protector{{Name: "test", Kind: "fake", Source: sourcetest.NewFake("test")}})

	if err := restore(t, cfg, b.keyring, b.data); !errors.Is(err, sealed.ErrInUse) {
		t.Errorf("onto a store that is open: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := restore(t, cfg, b.keyring, b.data); !errors.Is(err, backup.ErrNotEmpty) {
		t.Errorf("onto a store: %v", err)
	}
	if got := all(t, open(t, cfg).Space(spaceA), "a"); got["1"] != "one" {
		t.Errorf("the store that was there has %v", got)
	}
}

// TestBackupWhileWriting: a backup is one moment, whatever goes on meanwhile, turns of the keys included.
func TestBackupWhileWriting(t *testing.T) {
	cfg, s, _ := halfFoldedStore(t)
	sp := s.Space(spaceA)
	done := make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() {
		for round := 0; ; round++ {
			select {
			case <-done:
				return
			default:
			}
			// Two records that always agree, in one transaction.
			put(t, sp, "pair", note{"left", fmt.Sprint(round)}, note{"right", fmt.Sprint(round)})
			if round%10 == 0 {
				generation := uint32(1)
				if err := s.Bundle(spaceA).Turn(t.Context(), generation, nil); err != nil {
					t.Error(err)
				}
				if err := s.Bundle(spaceA).Retire(t.Context(), nil); err != nil {
					t.Error(err)
				}
			}
		}
	})
	for range 5 {
		b := save(t, s)
		to := elsewhere(t, cfg)
		if err := restore(t, to, b.keyring, b.data); err != nil {
			t.Fatal(err)
		}
		r := open(t, to)
		if got := all(t, r.Space(spaceA), "pair"); got["left"] != got["right"] {
			t.Errorf("half a transaction: %v", got)
		}
		verifyClean(t, r)
	}
	close(done)
	writing.Wait()
}

// TestBackupDuringTheTurnsOfAnotherReplica: a keyring opens the data that was saved before it, whatever epochs another
// process has begun and ended between the two.
func TestBackupDuringTheTurnsOfAnotherReplica(t *testing.T) {
	s, cfg := replicas(t, 2)
	sp := create(t, s[0], spaceA)
	put(t, sp, "pair", note{"left", "0"}, note{"right", "0"})
	done := make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() {
		for round := 1; ; round++ {
			select {
			case <-done:
				return
			default:
			}
			put(t, sp, "pair", note{"left", fmt.Sprint(round)}, note{"right", fmt.Sprint(round)})
			put(t, sp, "gone", note{"1", "erased"})
			eraseOne(t, sp, "gone", "1") // it turns the epoch
		}
	})
	for range 10 {
		b := save(t, s[1])
		to := elsewhere(t, cfg)
		if err := restore(t, to, b.keyring, b.data); err != nil {
			t.Fatal(err)
		}
		r := open(t, to)
		if got := all(t, r.Space(spaceA), "pair"); got["left"] != got["right"] || got["left"] == "" {
			t.Errorf("half a transaction: %v", got)
		}
		verifyClean(t, r)
	}
	close(done)
	writing.Wait()
}

// TestRestoreThatWasInterrupted: until the last row is there, what is there is no store, and says so.
func TestRestoreThatWasInterrupted(t *testing.T) {
	cfg, s, _ := halfFoldedStore(t)
	b := save(t, s)
	to := elsewhere(t, cfg)
	err := sealed.Restore(t.Context(), to, bytes.NewReader(b.keyring),
		io.MultiReader(bytes.NewReader(b.data[:len(b.data)/2]), broken{}))
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	opened, err := sealed.Open(t.Context(), to)
	if corrupt, ok := errors.AsType[*sealed.CorruptError](err); !ok || corrupt.What != "instance" {
		t.Errorf("got %v, want a *CorruptError about the instance", err)
		if err == nil {
			opened.Close()
		}
	}
	if err := restore(t, to, b.keyring, b.data); !errors.Is(err, backup.ErrNotEmpty) {
		t.Errorf("again, onto what is left: %v", err)
	}
	if _, err := os.Stat(filepath.Join(to.KeyDir, "epochs")); err != nil {
		t.Error(err)
	}
	anew := elsewhere(t, cfg) // the place of the keys has none of the first attempt
	anew.KeyDir = to.KeyDir
	if err := restore(t, anew, b.keyring, b.data); err != nil {
		t.Errorf("into other rows, with the same place of epoch keys: %v", err)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, os.ErrDeadlineExceeded }

// TestLostKeyDirectoryIsMended: with the data still there, a keyring brings the key directory back, and nothing that
// has ended since.
func TestLostKeyDirectoryIsMended(t *testing.T) {
	cfg, s, want := halfFoldedStore(t)
	b := save(t, s)
	if err := s.Bundle(spaceA).Turn(t.Context(), 1, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Bundle(spaceA).Retire(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	newest := save(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(cfg.KeyDir); err != nil {
		t.Fatal(err)
	}
	if s, err := sealed.Open(t.Context(), cfg); !errors.Is(err, sealed.ErrOtherPlace) {
		t.Errorf("without the keys: %v, %v", s, err)
	}
	cfg.FindKeys = true
	s = open(t, cfg)
	if err := s.Space(spaceA).View(t.Context(), func(sealed.Reader) error { return nil }); err == nil {
		t.Fatal("the space opens without its epoch key")
	}
	if _, err := s.Backup().MendKeyring(t.Context(), bytes.NewReader(newest.data)); !errors.Is(err,
		backup.ErrMalformed) {
		t.Errorf("data in place of a keyring: %v", err)
	}
	// the operator's, which did not turn
	if n, err := s.Backup().MendKeyring(t.Context(), bytes.NewReader(b.keyring)); err != nil || n != 1 {
		t.Errorf("the older keyring mended %d, %v", n, err)
	}
	if n, err := s.Backup().MendKeyring(t.Context(), bytes.NewReader(newest.keyring)); err != nil || n != 1 {
		t.Errorf("the newest keyring mended %d, %v", n, err)
	}
	if got := all(t, s.Space(spaceA), "a"); !maps.Equal(got, want) {
		t.Errorf("%d records, want %d", len(got), len(want))
	}
}

// TestSpaceThatGoesDuringABackup: what is dropped while a backup is written is in it as it was when it began, and comes
// back with a keyring of that time alone.
func TestSpaceThatGoesDuringABackup(t *testing.T) {
	cfg, s, want := halfFoldedStore(t)
	gone := sealed.SpaceID{9}
	sp := create(t, s, gone)
	const large = 1500 // of more than one segment together
	for i := range large / 500 {
		var list []note
		for j := range 500 {
			list = append(list, note{fmt.Sprint(i, "-", j), strings.Repeat("x", 4_000)})
		}
		put(t, sp, "a", list...)
	}
	earlier := save(t, s)
	w := &dropping{drop: func() error { return s.Spaces().Drop(t.Context(), gone) }}
	if _, err := s.Backup().WriteData(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	if w.after < 1<<20 {
		t.Fatalf("%d bytes were written after the space was dropped", w.after)
	}
	later := save(t, s)
	for name, keyring := range map[string][]byte{"of then": earlier.keyring, "of now": later.keyring} {
		to := elsewhere(t, cfg)
		if err := restore(t, to, keyring, w.Bytes()); err != nil {
			t.Fatalf("with the keyring %s: %v", name, err)
		}
		r := open(t, to)
		if got := all(t, r.Space(spaceA), "a"); !maps.Equal(got, want) {
			t.Errorf("with the keyring %s: %d records, want %d", name, len(got), len(want))
		}
		if name == "of then" {
			if got := all(t, r.Space(gone), "a"); len(got) != large {
				t.Errorf("%d records of the space, want %d", len(got), large)
			}
			continue
		}
		err := r.Space(gone).View(t.Context(), func(sealed.Reader) error { return nil })
		if !errors.Is(err, sealed.ErrNoSpace) {
			t.Errorf("the dropped space came back: %v", err)
		}
	}
}

// dropping is a buffer that does something once rows arrive in it.
type dropping struct {
	bytes.Buffer
	drop  func() error
	after int
}

func (d *dropping) Write(b []byte) (int, error) {
	if d.drop == nil {
		d.after += len(b)
	} else if len(b) > 1<<10 {
		err := d.drop()
		if d.drop = nil; err != nil {
			return 0, err
		}
	}
	return d.Buffer.Write(b)
}
