package sealed_test

import (
	"encoding/hex"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/visage-face/visage/sealed"
	pgtest "github.com/visage-face/visage/test/postgres"
)

// TestDamageIsNamedAtItsRow: rows that a transaction needs are read from PostgreSQL together. When one of them is
// damaged there, the error names the record of that row, and not of the row that was asked for first; the others are
// read.
func TestDamageIsNamedAtItsRow(t *testing.T) {
	cfg := config(t, "postgres")
	s := open(t, cfg)
	put(t, create(t, s, spaceA), "x", note{"1", "one"}, note{"2", "two"})
	closeStore(t, s)

	// PostgreSQL reads a page that fails its checksum: a policy for the role says so of one row.
	server := pgtest.Shared(t)
	at, err := url.Parse(cfg.Engine)
	if err != nil {
		t.Fatal(err)
	}
	database := strings.TrimPrefix(at.Path, "/")
	nursery := strings.Fields(server.Exec(t, database, "SELECT encode(key, 'hex') FROM visage.rows "+
		"WHERE length(key) = 49 AND substr(key, 17, 1) = 'N' AND "+
		"substr(key, 1, 16) = '\\x"+hex.EncodeToString(spaceA[:])+"'"))
	if len(nursery) != 2 {
		t.Fatalf("%d rows of new records, want 2", len(nursery))
	}
	damaged := nursery[0]
	const role = "visage_reads_damage"
	server.Exec(t, database, `
DO $$ BEGIN CREATE ROLE `+role+` LOGIN; EXCEPTION WHEN duplicate_object THEN END $$;
GRANT USAGE ON SCHEMA visage TO `+role+`;
GRANT SELECT, INSERT, UPDATE, DELETE ON visage.rows, visage.scopes TO `+role+`;
GRANT SELECT ON visage.schema TO `+role+`;
CREATE FUNCTION visage.whole(key bytea) RETURNS boolean LANGUAGE plpgsql STABLE AS $$ BEGIN
	IF key = '\x`+damaged+`' THEN
		RAISE EXCEPTION 'invalid page in block 7' USING ERRCODE = 'data_corrupted';
	END IF;
	RETURN true;
END $$;
ALTER TABLE visage.rows ENABLE ROW LEVEL SECURITY;
CREATE POLICY whole ON visage.rows TO `+role+` USING (visage.whole(key)) WITH CHECK (true);`)
	cfg.Engine = server.URL(role, database)
	s = open(t, cfg)
	var wrong []*sealed.CorruptError
	for _, id := range []string{"1", "2"} {
		err := s.Space(spaceA).View(t.Context(), func(r sealed.Reader) error {
			_, err := notes.In("x").Get(r, id)
			return err
		})
		if e, ok := errors.AsType[*sealed.CorruptError](err); ok {
			wrong = append(wrong, e)
		} else if err != nil {
			t.Errorf("read record %s: %v", id, err)
		}
	}
	if len(wrong) != 1 {
		t.Fatalf("%d records do not open, want 1", len(wrong))
	}
	e := wrong[0]
	got := []string{e.What, hex.EncodeToString(e.Space[:]), e.Container, e.Record}
	if want := []string{"row", damaged[:32], damaged[34:66], damaged[66:]}; !slices.Equal(got, want) {
		t.Errorf("the damage is at %q, want %q", got, want)
	}
}
