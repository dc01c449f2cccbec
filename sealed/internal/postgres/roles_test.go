package postgres_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/engine/enginetest"
	"github.com/visage-face/visage/sealed/internal/postgres"
	pgtest "github.com/visage-face/visage/test/postgres"
)

// TestRoles runs the statements of docs/operations/postgres.md: the owner makes the schema, which the role that the
// server runs as may use and not make or change, and the role for backups may read and not write.
func TestRoles(t *testing.T) {
	guide, err := os.ReadFile("../../../docs/operations/postgres.md")
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for _, part := range strings.Split(string(guide), "```sql\n")[1:] {
		block, _, _ := strings.Cut(part, "```")
		blocks = append(blocks, block)
	}
	if len(blocks) != 3 {
		t.Fatalf("%d blocks of SQL in the guide, want those before and after the schema is made, and one to close the "+
			"source of a move", len(blocks))
	}
	server := pgtest.Start(t)
	server.Exec(t, "postgres", blocks[0])
	as := func(role string) postgres.Config { return postgres.Config{URL: server.URL(role, "visage")} }

	_, err = postgres.Open(t.Context(), as("visage_run"))
	if schema, ok := errors.AsType[*postgres.SchemaError](err); !ok || schema.Version != 0 ||
		!strings.Contains(err.Error(), "database migrate") {
		t.Fatalf("without a schema: got %v, want the command that makes it", err)
	}
	for _, want := range []int{0, 1} {
		before, after, err := postgres.Migrate(t.Context(), as("visage_owner"))
		if err != nil || before != want || after != 1 {
			t.Fatalf("migrate: from %d to %d, %v; want from %d", before, after, err, want)
		}
	}
	server.Exec(t, "visage", "SET ROLE visage_owner;\n"+blocks[1])

	e, err := opened(postgres.Open(t.Context(), as("visage_run")))
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	err = e.Update(t.Context(), func(w engine.Writer) error {
		return errors.Join(w.Put([]byte("a"), enginetest.Value(1)), w.Delete([]byte("b")))
	})
	if err != nil {
		t.Errorf("update: %v", err)
	}
	for role, statements := range map[string][]string{
		"visage_run":    {"DROP TABLE visage.rows", "UPDATE visage.schema SET version = 9", "CREATE TABLE visage.x ()"},
		"visage_backup": {"DELETE FROM visage.rows", "UPDATE visage.scopes SET version = 9"},
	} {
		count := fmt.Sprintf("SET ROLE %s;\nSELECT count(*) FROM visage.rows", role)
		if got := server.Exec(t, "visage", count); got != "1" {
			t.Errorf("%s reads %q rows, want 1", role, got)
		}
		for _, s := range statements {
			if err := server.Try("visage", fmt.Sprintf("SET ROLE %s;\n%s", role, s)); err == nil ||
				!strings.Contains(err.Error(), "permission denied") && !strings.Contains(err.Error(), "must be owner") {
				t.Errorf("%s may %s: %v", role, s, err)
			}
		}
	}
	server.Exec(t, "postgres", blocks[2])
	if closed, err := opened(postgres.Open(t.Context(), as("visage_run"))); err == nil {
		closed.Close()
		t.Error("a store that was closed after a move opens")
	}
	read := func() error {
		return e.View(t.Context(), func(r engine.Reader) error {
			_, _, err := r.Get([]byte("a"))
			return err
		})
	}
	if err := read(); err == nil {
		t.Error("a server that had it open goes on")
	}
	server.Exec(t, "postgres", "ALTER DATABASE visage ALLOW_CONNECTIONS true")
	if err := read(); err != nil {
		t.Errorf("after the way back: %v", err)
	}
}
