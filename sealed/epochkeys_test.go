package sealed_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource/hashivault"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/test/keystores"
	pgtest "github.com/visage-face/visage/test/postgres"
)

// vaultKeys returns a folder for epoch keys in the KV engine of a Vault.
func vaultKeys(t *testing.T, v *keystores.Vault, folder string) *hashivault.KV {
	t.Helper()
	dir := t.TempDir()
	ca, secret := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "token")
	err := errors.Join(os.WriteFile(ca, []byte(v.CA), 0o600), os.WriteFile(secret, []byte(v.Root), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	kv, err := hashivault.OpenKV("hashivault://"+v.Address+"/kv/"+folder+"?ca="+ca, secret)
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

// TestEpochKeysInAVault opens a store in PostgreSQL twice, as two replicas do, with the epoch keys and anchors in a
// Vault and no folder at all: what one erases opens at the other no more, nor in a copy of the database from before.
func TestEpochKeysInAVault(t *testing.T) {
	v, server := keystores.StartVault(t), pgtest.Shared(t)
	cfg := shared(t)
	cfg.Engine, cfg.KeyDir, cfg.AnchorDir = server.Database(t), "", ""
	cfg.EpochVault = vaultKeys(t, v, "visage")
	one, two := open(t, cfg), open(t, cfg)
	if p := one.EpochKeys(); p.Grade != sealed.GradeVault || !strings.HasSuffix(p.Name, "/kv/visage") {
		t.Errorf("the epoch keys are in %+v", p)
	}
	a, b := create(t, one, spaceA), two.Space(spaceA)
	put(t, a, "x", note{"1", "one"}, note{"2", "two"})
	if got := all(t, b, "x"); len(got) != 2 {
		t.Fatalf("the other replica has %v", got)
	}
	receipt := eraseOne(t, a, "x", "1")
	if receipt.Grade != sealed.GradeVault || receipt.Epoch == 0 {
		t.Errorf("the receipt is %+v", receipt)
	}
	if got := all(t, b, "x"); len(got) != 1 || got["2"] != "two" {
		t.Errorf("after the erasure the other replica has %v", got)
	}
	current, kept := two.Epochs(t, spaceA)
	if !slices.Equal(kept, []uint32{current}) || current == receipt.Epoch {
		t.Errorf("the Vault has the keys of epochs %v, the current one is %d", kept, current)
	}
	eraseOne(t, b, "x", "2") // and the other way round
	put(t, a, "x", note{"3", "three"})
	verifyClean(t, one)
	// While the Vault is away, that is an outage, and no data is taken for damaged.
	v.Seal(true)
	err := two.Bundle(spaceA).Rewrap(t.Context(), nil)
	if _, away := errors.AsType[visage.Outage](err); !away {
		t.Errorf("while the Vault is sealed: %v", err)
	}
	v.Seal(false)
	if got := all(t, b, "x"); got["3"] != "three" {
		t.Errorf("afterwards: %v", got)
	}
	if err := errors.Join(one.Close(), two.Close()); err != nil {
		t.Fatal(err)
	}
	names, ok := v.Do("LIST", "kv/metadata/visage/anchors/"+strings.ReplaceAll(one.Instance(), "-", ""),
		nil)["keys"].([]any)
	if !ok || len(names) < 1 {
		t.Errorf("the Vault has the anchors %v", names)
	}
}

// TestEpochKeyDeletedByHand: a rotation of the root key does not pass over a key in use that somebody has deleted in
// the Vault, and a keyring brings it back.
func TestEpochKeyDeletedByHand(t *testing.T) {
	v := keystores.StartVault(t)
	cfg := config(t, "lasting")
	cfg.KeyDir, cfg.EpochVault = "", vaultKeys(t, v, "visage")
	w := watch(&cfg)
	s := open(t, cfg)
	put(t, create(t, s, spaceA), "x", note{"1", "one"})
	put(t, create(t, s, spaceB), "x", note{"2", "two"})
	saved := save(t, s)
	for _, id := range []sealed.SpaceID{spaceA, spaceB} {
		current, _ := s.Epochs(t, id)
		v.Do(http.MethodDelete, fmt.Sprintf("kv/data/visage/epochs/%s/%s/%d",
			strings.ReplaceAll(s.Instance(), "-", ""), strings.ReplaceAll(id.String(), "-", ""), current), nil)
	}
	if err := s.RootKey().Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := &rotating{store: s, watch: w}
	if e := r.run(t); e.Err == nil || !strings.Contains(e.Err.Error(), "is in use and cannot be read") {
		t.Errorf("the rotation: %v", e.Err)
	}
	if n, err := s.Backup().MendKeyring(t.Context(), bytes.NewReader(saved.keyring)); err != nil || n != 2 {
		t.Errorf("mended %d, %v", n, err)
	}
	if e := r.run(t); e.Err != nil {
		t.Errorf("the rotation, once they are back: %v", e.Err)
	}
	closeStore(t, s)
	s = open(t, cfg)
	if got := all(t, s.Space(spaceA), "x"); got["1"] != "one" {
		t.Errorf("afterwards: %v", got)
	}
	verifyClean(t, s)
}

// TestMoveEpochKeys moves the keys of a store from a folder to a Vault and to a database. The store works there, and
// nothing is left where they were.
func TestMoveEpochKeys(t *testing.T) {
	v := keystores.StartVault(t)
	from := sealed.WithSettling(shared(t), 20*time.Millisecond)
	from.Engine, from.Shared = sealed.Pebble(filepath.Join(t.TempDir(), "data")), false
	from.KeyDir = filepath.Join(t.TempDir(), "keys")
	from.AnchorDir = filepath.Join(from.KeyDir, "anchors")
	s := open(t, from)
	sp := create(t, s, spaceA)
	put(t, sp, "x", note{"1", "one"}, note{"2", "two"})
	eraseOne(t, sp, "x", "1")
	_, err := sealed.MoveEpochKeys(t.Context(), from, from)
	if !errors.Is(err, sealed.ErrInUse) {
		t.Errorf("while it is open: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := sealed.MoveEpochKeys(t.Context(), from, from); err == nil ||
		!strings.Contains(err.Error(), "are the same place") {
		t.Errorf("to the same place: %v", err)
	}
	inside := from
	inside.KeyDir = filepath.Join(strings.TrimPrefix(from.Engine, "pebble:"), "keys")
	if _, err := sealed.MoveEpochKeys(t.Context(), from, inside); err == nil ||
		!strings.Contains(err.Error(), "one lies inside the other") {
		t.Errorf("into the data directory: %v", err)
	}
	if _, err := os.Stat(inside.KeyDir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the refused folder: %v", err)
	}
	inVault, inDatabase := from, from
	inVault.AnchorDir, inDatabase.AnchorDir = "", ""
	inVault.EpochVault = vaultKeys(t, v, "first")
	inDatabase.EpochKeys = pgtest.Shared(t).Database(t)
	for _, to := range []sealed.Config{inVault, inDatabase, from} {
		moved, err := sealed.MoveEpochKeys(t.Context(), from, to)
		if err != nil || moved.Epochs != 2 || moved.Spaces != 2 || moved.Found != 0 || moved.Anchors == 0 {
			t.Fatalf("moved %+v, %v", moved, err)
		}
		again, err := sealed.MoveEpochKeys(t.Context(), from, to) // as after an interruption at the end
		if err != nil || again.Found != 2 {
			t.Errorf("once more: %+v, %v", again, err)
		}
		if _, err := sealed.Open(t.Context(), from); !errors.Is(err, sealed.ErrOtherPlace) {
			t.Errorf("with the place that the keys have left: %v", err)
		}
		s := open(t, to)
		if got := all(t, s.Space(spaceA), "x"); len(got) != 1 || got["2"] != "two" {
			t.Errorf("in %s: %v", moved.To, got)
		}
		put(t, s.Space(spaceA), "x", note{"1", "one"})
		eraseOne(t, s.Space(spaceA), "x", "1")
		verifyClean(t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		from = to
	}
	var left []string
	err = filepath.WalkDir(filepath.Join(inVault.KeyDir, "epochs"), func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			left = append(left, path)
		}
		return err
	})
	if err != nil || len(left) != 2 { // those of the last move
		t.Errorf("the folder has %v, %v", left, err)
	}
	at, err := url.Parse(inDatabase.EpochKeys)
	if err != nil {
		t.Fatal(err)
	}
	n := pgtest.Shared(t).Exec(t, strings.TrimPrefix(at.Path, "/"),
		"SELECT (SELECT count(*) FROM visage_keys.epochs) + (SELECT count(*) FROM visage_keys.anchors)")
	if n != "0" {
		t.Errorf("the database still has %s keys and anchors", n)
	}
	if names := v.Do(http.MethodGet, "kv/config", nil); names == nil {
		t.Error("the Vault is gone")
	}
	kv := inVault.EpochVault
	spaces, err := kv.List(t.Context(), "epochs/"+strings.ReplaceAll(s.Instance(), "-", ""))
	if err != nil || len(spaces) != 0 {
		t.Errorf("the Vault still has keys of %v, %v", spaces, err)
	}
	spaces, err = kv.List(t.Context(), "anchors/"+strings.ReplaceAll(s.Instance(), "-", ""))
	if err != nil || len(spaces) != 0 {
		t.Errorf("the Vault still has anchors of %v, %v", spaces, err)
	}
}

// TestErasureOfUnknownGrade: an erasure that is done has a receipt, with the weakest grade if the place does not say
// which it has.
func TestErasureOfUnknownGrade(t *testing.T) {
	server := pgtest.Shared(t)
	cfg := config(t, "lasting")
	cfg.KeyDir, cfg.EpochKeys = "", server.Database(t)
	at, err := url.Parse(cfg.EpochKeys)
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, cfg)
	sp := create(t, s, spaceA)
	put(t, sp, "x", note{"1", "one"}, note{"2", "two"})
	if r := eraseOne(t, sp, "x", "1"); r.Grade != sealed.GradeDatabase {
		t.Errorf("the receipt is %+v", r)
	}
	server.Exec(t, strings.TrimPrefix(at.Path, "/"), "DROP TABLE visage_keys.exposed")
	if r := eraseOne(t, sp, "x", "2"); r.Grade != sealed.GradeStore || r.Epoch == 0 || len(r.Erased) != 1 {
		t.Errorf("the receipt of an erasure whose grade is not known: %+v", r)
	}
}
