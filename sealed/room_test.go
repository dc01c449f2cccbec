package sealed_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/visage-face/visage/sealed"
)

// small mounts a volume of so many MiB, which is gone after the test.
func small(t *testing.T, size int) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "volume")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%dm", size), "tmpfs", dir).
		CombinedOutput(); err != nil {
		t.Skipf("a small volume cannot be mounted here: %s", out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %s", out)
		}
	})
	return dir
}

// running runs a store until halt, or the end of the test.
func running(t *testing.T, s *sealed.Store) (halt func()) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	halt = sync.OnceFunc(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(halt)
	return halt
}

// TestAFullDiskRefusesWhatIsNewAlone fills a volume: reads, deletions and erasures go on, after a restart too, and it
// heals when space is freed.
func TestAFullDiskRefusesWhatIsNewAlone(t *testing.T) {
	dir := small(t, 60)
	cfg := config(t, "pebble")
	cfg.Engine, cfg.KeyDir, cfg.AnchorDir = "pebble:"+filepath.Join(dir, "data"), filepath.Join(dir, "keys"),
		filepath.Join(dir, "anchors")
	s := open(t, cfg)
	halt := running(t, s)
	sp := create(t, s, spaceA)
	text := strings.Repeat("x", 4<<10)
	n := 0
	// The engine tidies up behind the scenes, so that there is room again for a while: it is full when it has refused
	// for a second on end.
	fill := func() (err error) {
		var refused time.Time
		for n < 60_000 {
			err = sp.Update(
				t.Context(), func(tx sealed.Tx) error {
					return notes.In("a").
						Put(tx, fmt.Sprint(n), note{fmt.Sprint(n), text})
				},
			)
			switch {
			case err == nil:
				n, refused = n+1, time.Time{}
			case !errors.Is(err, sealed.ErrFull) || !refused.IsZero() && time.Since(refused) > time.Second:
				return err
			case refused.IsZero():
				refused = time.Now()
			}
		}
		return err
	}
	err := fill()
	full, ok := errors.AsType[*sealed.FullError](err)
	if !ok || !errors.Is(err, sealed.ErrFull) || full.Free >= full.Needed || full.Holds != "data" {
		t.Fatalf("after %d notes: %v", n, err)
	}
	t.Logf("%d notes, %v", n, err)
	if n < 2000 {
		t.Errorf("%d notes of 4 kB fill a volume of 60 MB", n)
	}
	if v := s.Maintenance().Volumes(); len(v) != 3 || !v[0].Full || v[0].Spent || v[0].Total != 60<<20 {
		t.Errorf("the volumes are said to be %+v", v)
	}
	refill := func() {
		if err := fill(); !errors.Is(err, sealed.ErrFull) {
			t.Fatalf("fill again: %v", err)
		}
	}
	// refuses puts a new note, which has to be refused: at once or, where the engine has just given room back, when
	// that is taken again.
	refuses := func() (err error) {
		for range 10 {
			err = sp.Update(
				t.Context(), func(tx sealed.Tx) error { return notes.In("b").Put(tx, "1", note{"1", text}) },
			)
			if err != nil {
				return err
			}
			refill()
		}
		return err
	}
	works := func(when string, i int) {
		t.Helper()
		err := sp.View(t.Context(), func(r sealed.Reader) error {
			for _, id := range []int{i, n - 1} {
				if got, err := notes.In("a").Get(r, fmt.Sprint(id)); err != nil || got.Text != text {
					return fmt.Errorf("read note %d: %w", id, err)
				}
			}
			return nil
		})
		if err != nil {
			t.Errorf("%s: %v", when, err)
		}
		receipt, err := sp.Erase(t.Context(),
			func(tx sealed.Tx) error { return notes.In("a").Delete(tx, fmt.Sprint(i)) })
		if err != nil || len(receipt.Erased) != 1 {
			t.Errorf("%s: erase: %+v, %v", when, receipt, err)
		}
		if err := refuses(); !errors.Is(err, sealed.ErrFull) {
			t.Errorf("%s: a new note: %v", when, err)
		}
		err = sp.Update(sealed.FromReserve(t.Context()),
			func(tx sealed.Tx) error { return notes.In("c").Put(tx, "1", note{"1", "it must"}) })
		if err != nil {
			t.Errorf("%s: what has to go on: %v", when, err)
		}
	}
	for i := range 50 {
		works("full", i)
	}
	if err := s.Spaces().Create(t.Context(), spaceB); !errors.Is(err, sealed.ErrFull) {
		t.Errorf("a new space: %v", err)
	}

	// Others take what is left of the volume.
	others, err := os.Create(filepath.Join(dir, "others"))
	if err != nil {
		t.Fatal(err)
	}
	byRecords := refill
	block := make([]byte, 64<<10)
	for err == nil {
		_, err = others.Write(block)
	}
	refill = func() { // and of what the engine gives back, as much as lets nothing new in
		for !s.Maintenance().Volumes()[0].Full {
			if _, err := others.Write(block); err != nil {
				return
			}
		}
	}
	t.Logf("with nothing left: %+v", s.Maintenance().Volumes()[0])
	for i := range 20 {
		works("with nothing left but the reserve", 50+i)
	}
	halt()
	if err := s.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	s = open(t, cfg)
	running(t, s)
	sp = s.Space(spaceA)
	works("after a restart with nothing left", 90)
	if err := errors.Join(others.Close(), os.Remove(others.Name())); err != nil {
		t.Fatal(err)
	}
	refill = byRecords
	refill()
	works("full, by its own records", 91)
	t.Logf("%d notes, %+v", n, s.Maintenance().Volumes())

	count := 0
	err = sp.View(t.Context(), func(r sealed.Reader) error {
		for got, err := range notes.In("a").All(r) {
			if err != nil {
				return err
			}
			if got.Text != text {
				return fmt.Errorf("note %s is another", got.ID)
			}
			count++
		}
		return nil
	})
	if err != nil || count != n-72 {
		t.Errorf("%d notes, %v; want %d", count, err, n-72)
	}
}

// TestDeletionsLeaveRoomForKeys lets other programs take a volume, and deletions what was kept in reserve: what keys
// and logs write goes on.
func TestDeletionsLeaveRoomForKeys(t *testing.T) {
	const reserve, left = 8 << 20, 7 << 19 // of which the engine's own file in reserve is 2 MiB
	dir := small(t, 60)
	cfg := config(t, "pebble")
	cfg.Engine, cfg.Reserve = "pebble:"+filepath.Join(dir, "data"), reserve
	s := open(t, cfg)
	running(t, s)
	sp := create(t, s, spaceA)
	const count = 2000
	text := strings.Repeat("x", 2<<10)
	for i := range count {
		err := sp.Update(t.Context(), func(tx sealed.Tx) error {
			return notes.In("a").Put(tx, fmt.Sprint(i), note{fmt.Sprint(i), text})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	others, err := os.Create(filepath.Join(dir, "others"))
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 64<<10)
	// takeUntil takes room, also what the engine has given back meanwhile, since it tidies up behind the scenes.
	takeUntil := func(enough func(sealed.VolumeState) bool) {
		for !enough(s.Maintenance().Volumes()[0]) {
			if _, err := others.Write(block); err != nil {
				t.Fatal(err)
			}
		}
	}
	deleted := 0
	for ; err == nil && deleted < count; deleted++ {
		takeUntil(func(v sealed.VolumeState) bool { return v.Free <= left })
		err = sp.Update(t.Context(), func(tx sealed.Tx) error { return notes.In("a").Delete(tx, fmt.Sprint(deleted)) })
	}
	if err != nil {
		deleted-- // the last was refused
	}
	full, ok := errors.AsType[*sealed.FullError](err)
	if !ok || !full.Spent || deleted < 20 {
		t.Fatalf("after %d deletions: %v", deleted, err)
	}
	if words := full.Shortage(); !strings.Contains(words, "deleting is refused") {
		t.Errorf("deletions are refused with %q", words)
	}
	takeUntil(func(v sealed.VolumeState) bool { return v.Full && v.Spent })
	operator := s.Space(sealed.Operator)
	for i := range 50 {
		appendAll(t, s.Log("audit"), strings.Repeat("x", 300))
		if err := operator.Update(t.Context(),
			func(tx sealed.Tx) error { return notes.In("keys").Put(tx, "1", note{"1", fmt.Sprint(i)}) }); err != nil {
			t.Fatalf("change %d of a key: %v", i, err)
		}
	}
	t.Logf("%d deletions; %+v", deleted, s.Maintenance().Volumes()[0])
	if err := errors.Join(others.Close(), os.Remove(others.Name())); err != nil {
		t.Fatal(err)
	}
	if err := sp.Update(t.Context(),
		func(tx sealed.Tx) error { return notes.In("a").Delete(tx, fmt.Sprint(deleted)) }); err != nil {
		t.Errorf("a deletion when there is room again: %v", err)
	}
}
