package postgres

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// Bouncer starts PgBouncer before the server for the time of a test, and returns the URL of a database through it.
func (s *Server) Bouncer(tb testing.TB, role, database, mode string) string {
	tb.Helper()
	need(tb, "pgbouncer")
	dir, err := os.MkdirTemp("", "visage-bouncer-")
	if err != nil {
		tb.Fatal(err)
	}
	port, err := freePort()
	if err != nil {
		tb.Fatal(err)
	}
	conf := fmt.Sprintf("[databases]\n%s = user=%s host=%s port=%d\n[pgbouncer]\nlisten_addr =\nlisten_port = %d\n"+
		"unix_socket_dir = %s\nauth_type = any\npool_mode = %s\n", database, role, s.Dir, s.Port, port, dir, mode)
	file := filepath.Join(dir, "pgbouncer.ini")
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		tb.Fatal(err)
	}
	if s.owner != nil {
		for _, path := range []string{dir, file} {
			if err := os.Chown(path, int(s.owner.Uid), int(s.owner.Gid)); err != nil {
				tb.Fatal(err)
			}
		}
	}
	out, end, err := watched(s.owner, dir, dir, "TERM", find("pgbouncer"), file)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(end)
	if err := answers("unix", filepath.Join(dir, ".s.PGSQL."+strconv.Itoa(port)), out); err != nil {
		tb.Fatal(err)
	}
	return socketURL(dir, port, role, database)
}
