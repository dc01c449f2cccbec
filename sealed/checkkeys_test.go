package sealed_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/visage-face/visage/keysource/hashivault"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/test/keystores"
	pgtest "github.com/visage-face/visage/test/postgres"
)

// TestCheckEpochKeysComparesServers finds out that a database for keys lies on the server of the data, and changes
// nothing in either.
func TestCheckEpochKeysComparesServers(t *testing.T) {
	data, keys := pgtest.Shared(t).Database(t), pgtest.Shared(t).Database(t)
	check, err := sealed.CheckEpochKeys(t.Context(), sealed.Config{Engine: data, EpochKeys: keys})
	if err == nil || !strings.Contains(err.Error(), "the data lies on the same server") {
		t.Errorf("keys on the server of the data: %+v, %v", check, err)
	}
	for _, database := range []string{data, keys} {
		at, err := url.Parse(database)
		if err != nil {
			t.Fatal(err)
		}
		const made = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'visage%'"
		if n := pgtest.Shared(t).Exec(t, strings.TrimPrefix(at.Path, "/"), made); strings.TrimSpace(n) != "0" {
			t.Errorf("%s has %s schemas of the check", at.Path, n)
		}
	}
	check, err = sealed.CheckEpochKeys(t.Context(), sealed.Config{Engine: pgtest.Start(t).Database(t), EpochKeys: keys})
	if err != nil || check.Steps[0].Name != "data" {
		t.Errorf("keys on a server of their own: %+v, %v", check, err)
	}
}

// TestCheckEpochKeys tries the places that epoch keys can lie in, and leaves nothing there; one with too few rights is
// told by the first thing that it refuses.
func TestCheckEpochKeys(t *testing.T) {
	v, database := keystores.StartVault(t), pgtest.Shared(t).Database(t)
	folder := t.TempDir()
	for _, place := range []struct {
		cfg   sealed.Config
		grade sealed.Grade
		steps string
	}{
		{sealed.Config{KeyDir: folder}, sealed.GradeKeyStore, "reach write write-once replace mark list destroy"},
		{sealed.Config{EpochVault: vaultKeys(t, v, "visage")}, sealed.GradeVault,
			"reach write write-once replace mark anchor list destroy"},
		{sealed.Config{EpochKeys: database}, sealed.GradeDatabase,
			"reach write write-once replace mark anchor list destroy"},
	} {
		check, err := sealed.CheckEpochKeys(t.Context(), place.cfg)
		var steps []string
		for _, s := range check.Steps {
			steps = append(steps, s.Name)
		}
		if err != nil || check.Grade != place.grade || strings.Join(steps, " ") != place.steps {
			t.Errorf("%+v: %+v, %v", place.cfg, check, err)
		}
	}
	err := filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			err = fmt.Errorf("%s is left", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	for _, name := range []string{"epochs", "places", "anchors"} {
		if left, err := vaultKeys(t, v, "visage").List(t.Context(), name); err != nil || len(left) != 0 {
			t.Errorf("the Vault has %s of %v, %v", name, left, err)
		}
	}
	v.Permit("few", map[string][]string{"kv/data/visage/*": {"create", "read"}, "kv/metadata/visage/*": {"list"}})
	v.Post("auth/approle/role/few", map[string]any{"token_policies": "few", "token_ttl": "10m"})
	role, _ := v.Do(http.MethodGet, "auth/approle/role/few/role-id", nil)["role_id"].(string)
	id, _ := v.Post("auth/approle/role/few/secret-id", nil)["secret_id"].(string)
	ca, secret := filepath.Join(t.TempDir(), "ca.pem"), filepath.Join(t.TempDir(), "secret")
	err = errors.Join(os.WriteFile(ca, []byte(v.CA), 0o600), os.WriteFile(secret, []byte(id), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	limited, err := hashivault.OpenKV("hashivault://"+v.Address+"/kv/visage?login=approle&role="+role+"&ca="+ca, secret)
	if err != nil {
		t.Fatal(err)
	}
	check, err := sealed.CheckEpochKeys(t.Context(), sealed.Config{EpochVault: limited})
	if last := check.Steps[len(check.Steps)-1]; err == nil || last.Name != "write-once" || last.Err == nil {
		t.Errorf("without a right to update: %+v, %v", check, err)
	}
}
