package sealed_test

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/visage-face/visage/sealed"
	pgtest "github.com/visage-face/visage/test/postgres"
)

// TestPromotedCopyIsRefused: a standby of the database is promoted while the original goes on, so that there are two
// databases of one store with the same place of epoch keys. The copy is refused and changes no key; the original goes
// on. TestFailoverIsAccepted is the other case.
func TestPromotedCopyIsRefused(t *testing.T) {
	primary := pgtest.Start(t)
	cfg := sealed.Config{Engine: primary.Database(t), KeyDir: t.TempDir(), Shared: true,
		Protectors: []sealed.Protector{{Name: "test", Kind: "fake", Source: protector(t)}}}
	s := open(t, cfg)
	sp := create(t, s, spaceA)
	put(t, sp, "x", note{"1", "one"}, note{"2", "two"}, note{"3", "three"})
	standby := primary.Standby(t)
	standby.Promote(t)
	eraseOne(t, sp, "x", "1") // in the original alone
	nextBeat(t, cfg)

	before := keyFiles(t, cfg.KeyDir)
	copied := cfg
	copied.Engine = at(t, cfg.Engine, standby)
	if _, err := sealed.Open(t.Context(), copied); !errors.Is(err, sealed.ErrOtherCopy) {
		t.Fatalf("the promoted copy: %v, want ErrOtherCopy", err)
	}
	if after := keyFiles(t, cfg.KeyDir); !maps.EqualFunc(before, after, bytes.Equal) {
		t.Error("the copy has changed epoch keys")
	}
	eraseOne(t, sp, "x", "2")
	if got := all(t, sp, "x"); len(got) != 1 || got["3"] != "three" || s.EpochKeys().Refused != nil {
		t.Errorf("the original: %v, refused: %v", got, s.EpochKeys().Refused)
	}
}

// TestFailoverIsAccepted: the primary is shut down and its standby promoted, while the store is open. It goes on,
// erases there, and is opened again by the next process.
func TestFailoverIsAccepted(t *testing.T) {
	primary := pgtest.Start(t)
	cfg := sealed.Config{Engine: primary.Database(t), KeyDir: t.TempDir(), Shared: true,
		Protectors: []sealed.Protector{{Name: "test", Kind: "fake", Source: protector(t)}}}
	closeStore(t, open(t, cfg)) // makes the schema
	standby := primary.Standby(t)
	cfg.Engine = at(t, cfg.Engine, primary, standby)
	s := open(t, cfg)
	sp := create(t, s, spaceA)
	put(t, sp, "x", note{"1", "one"}, note{"2", "two"})
	eraseOne(t, sp, "x", "1")
	primary.ShutDown(t)
	standby.Promote(t)
	eraseOne(t, sp, "x", "2")
	put(t, sp, "x", note{"3", "three"})
	nextBeat(t, cfg)
	if refused := s.EpochKeys().Refused; refused != nil {
		t.Errorf("after the failover: %v", refused)
	}
	closeStore(t, s)
	s = open(t, cfg)
	if got := all(t, s.Space(spaceA), "x"); len(got) != 1 || got["3"] != "three" {
		t.Errorf("opened again: %v", got)
	}
	eraseOne(t, s.Space(spaceA), "x", "3")
}

// at is the URL of a database at other servers, of which the one is used that takes writes.
func at(t *testing.T, address string, servers ...*pgtest.Server) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	var hosts, ports []string
	for _, s := range servers {
		hosts, ports = append(hosts, s.Dir), append(ports, strconv.Itoa(s.Port))
	}
	u.RawQuery = url.Values{"host": {strings.Join(hosts, ",")}, "port": {strings.Join(ports, ",")},
		"target_session_attrs": {"read-write"}}.Encode()
	return u.String()
}

// nextBeat waits until the store that is open has replaced the mark of its place, which it does every five seconds.
func nextBeat(t *testing.T, cfg sealed.Config) {
	t.Helper()
	marks := func() string {
		names, err := filepath.Glob(filepath.Join(cfg.KeyDir, "places", "*", "[0-9]*"))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(names, " ")
	}
	before := marks()
	for deadline := time.After(time.Minute); marks() == before; {
		select {
		case <-deadline:
			t.Fatal("no beat within a minute")
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// keyFiles are the files of epoch keys.
func keyFiles(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	err := filepath.WalkDir(filepath.Join(dir, "epochs"), func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			all[path], err = os.ReadFile(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
