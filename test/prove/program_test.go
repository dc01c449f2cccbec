package prove_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/visage-face/visage/server/servertest"
)

// exitDamaged is the exit code of `visage verify` when stored data does not open.
const exitDamaged = 3

// written runs the service on a new directory, has a client write to it, and kills it twice, so that the data is in the
// engine's tables. It returns the directory and the texts that must not be readable in it.
func written(t *testing.T) (dir string, canaries []string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "visage")
	w := &ackedState{group: "stolen", photo: servertest.Photo(1, "somebody")}
	s := startService(t, dir, false)
	api := s.client(t, s.key(t, "default"))
	for i, verb := range []verb{makeGroup, addPerson, addFace, addPerson, addFace} {
		d := doubt{what: "write", verb: verb, token: fmt.Sprintf("stolen-canary-%d", i)}
		if verb == addFace {
			d.person = sortedKeys(w.persons)[0]
		}
		if ok, err := w.act(t.Context(), api, d); err != nil || !ok {
			t.Fatalf("write: %v, answered: %t", err, ok)
		}
	}
	s.kill(t)
	startService(t, dir, false).kill(t)
	if err := verify(t, dir); err != nil {
		t.Fatalf("verify before any damage: %v", err)
	}
	return dir, w.canaries()
}

// TestProgramRefusesStolenData starts the program on a copy of the data directory without its keys.
func TestProgramRefusesStolenData(t *testing.T) {
	dir, canaries := written(t)
	searchDisk(t, dir, canaries)
	loot := t.TempDir()
	if err := os.CopyFS(filepath.Join(loot, "data"), os.DirFS(filepath.Join(dir, "data"))); err != nil {
		t.Fatalf("copy the data: %v", err)
	}
	for _, args := range [][]string{{"verify"}, {"serve", "--listen", "127.0.0.1:0"}} {
		out, err := runProgram(program(t), append(args, "--dir", loot)...)
		if err == nil {
			t.Fatalf("visage %s works without the root key:\n%s", args[0], out)
		}
		if os.Getenv("CI") != "true" && strings.Contains(err.Error(), "make setup") {
			t.Logf("visage %s needs the models before it opens anything, and they are not installed", args[0])
			continue
		}
		if !strings.Contains(err.Error(), "root.key") {
			t.Errorf("visage %s does not name the missing root key: %v", args[0], err)
		}
	}
	if _, err := os.Stat(filepath.Join(loot, "keys", "root.key")); err == nil {
		t.Error("a new root key was created for data of an old one")
	}
}

// TestVerifyReportsDamage flips one bit in a table of the engine.
func TestVerifyReportsDamage(t *testing.T) {
	dir, _ := written(t)
	r := chance(t)
	files := storedFiles(t, filepath.Join(dir, "data"))
	maps.DeleteFunc(files, func(name string, _ int64) bool { return filepath.Ext(name) != ".sst" })
	if len(files) == 0 {
		t.Fatal("the engine has no table to damage")
	}
	for range 5 {
		damaged := copyStore(t, dir)
		name, offset, bit := flip(t, filepath.Join(damaged, "data"), files, r)
		err := verify(t, damaged)
		if err == nil {
			t.Errorf("bit %d of byte %d of %s flipped, but verify finds no damage", bit, offset, name)
			continue
		}
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != exitDamaged {
			t.Errorf("bit %d of byte %d of %s flipped, but verify ends with %v", bit, offset, name, err)
		}
		if strings.Contains(err.Error(), "panic") || strings.Contains(err.Error(), "goroutine ") {
			t.Errorf("bit %d of byte %d of %s flipped, but verify crashes: %v", bit, offset, name, err)
		}
		t.Logf("bit %d of byte %d of %s: %s", bit, offset, name, firstLine(err.Error()))
	}
}

func firstLine(s string) string {
	_, rest, _ := strings.Cut(s, "\n") // the first is the exit status
	line, _, _ := strings.Cut(rest, "\n")
	return line
}
