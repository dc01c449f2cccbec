// Package postgres starts PostgreSQL servers for tests, with PgBouncer or a proxy before them. Each runs in a temporary
// directory of its own, in memory where the machine has such, and ends with the test process, however that ends.
package postgres

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Superuser is the role that Start makes.
const Superuser = "postgres"

// Options says how a server differs from the one that Shared returns. The zero Options is one that listens on a Unix
// socket alone and trusts everybody there.
type Options struct {
	// TCP has the server listen on this machine's loopback addresses as well, at a free port.
	TCP bool
	// HBA is pg_hba.conf; empty: everybody is trusted.
	HBA string
	// Settings are lines of postgresql.conf.
	Settings []string
	// Data and Log are folders on the volumes that the data and the write-ahead log are to lie on; empty: in memory,
	// and beside the data.
	Data, Log string
}

// Server is a running PostgreSQL.
type Server struct {
	Dir  string // the data directory; the Unix socket lies in it too
	Port int    // of TCP, and in the name of the socket

	owner *syscall.Credential // nil: the test's own
	stop  func()

	mu   sync.Mutex
	made int      // databases
	free []string // those of them that no test uses: to make one takes much longer than to empty one
}

var shared = sync.OnceValues(func() (*Server, error) { return start(Options{}) })

// Shared returns the server that all tests of the process share. The test is skipped when PostgreSQL is not installed,
// and fails for that in CI.
func Shared(tb testing.TB) *Server {
	tb.Helper()
	need(tb, "initdb")
	s, err := shared()
	if err != nil {
		tb.Fatalf("start PostgreSQL: %v", err)
	}
	return s
}

// Start starts a server for one test. It is skipped, or fails, as with Shared.
func Start(tb testing.TB) *Server {
	tb.Helper()
	return StartWith(tb, Options{})
}

// StartWith is Start of a server that differs from the others.
func StartWith(tb testing.TB, o Options) *Server {
	tb.Helper()
	need(tb, "initdb")
	s, err := start(o)
	if err != nil {
		tb.Fatalf("start PostgreSQL: %v", err)
	}
	tb.Cleanup(s.Stop)
	return s
}

// find returns the path of a program of PostgreSQL, or of PgBouncer; empty when it is not installed. Debian's programs
// in the path are scripts that choose among versions, and take much longer to start.
func find(name string) string {
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin/", "/usr/pgsql-*/bin/", "/usr/sbin/"} {
		found, _ := filepath.Glob(pattern + name) // the pattern is well formed
		if len(found) > 0 {
			return found[len(found)-1]
		}
	}
	path, _ := exec.LookPath(name) // what is not there is what "" says
	return path
}

func need(tb testing.TB, program string) {
	tb.Helper()
	if find(program) != "" {
		return
	}
	if os.Getenv("CI") == "true" {
		tb.Fatalf("%s is not installed: apt-get install postgresql pgbouncer", program)
	}
	tb.Skipf("%s is not installed: apt-get install postgresql pgbouncer", program)
}

// owner is the user that a server runs as: PostgreSQL and PgBouncer refuse to run as root.
func owner() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, err
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, err
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("neither the user postgres nor nobody is there to run PostgreSQL as")
}

// inMemory returns a directory in memory, where commits do not wait for a disk; empty: there is none.
func inMemory() string {
	const dir = "/dev/shm"
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return ""
	}
	return dir
}

// folder makes a temporary directory that belongs to the server, within another one.
func folder(as *syscall.Credential, within string) (string, error) {
	dir, err := os.MkdirTemp(within, "visage-postgres-")
	if err != nil || as == nil {
		return dir, err
	}
	if err := os.Chown(dir, int(as.Uid), int(as.Gid)); err != nil {
		os.RemoveAll(dir) // what is left of a temporary directory harms nobody
		return "", err
	}
	return dir, nil
}

func start(o Options) (*Server, error) {
	as, err := owner()
	if err != nil {
		return nil, err
	}
	base, err := folder(as, cmp.Or(o.Data, inMemory()))
	if err != nil {
		return nil, err
	}
	s := &Server{Dir: filepath.Join(base, "data"), owner: as}
	fail := func(err error) (*Server, error) {
		os.RemoveAll(base) // what is left of a temporary directory harms nobody
		return nil, err
	}
	init := exec.Command(find("initdb"), "-D", s.Dir, "-U", Superuser, "-A", "trust", "-E", "UTF8", "--locale=C",
		"-N")
	if o.Log != "" {
		log, err := folder(as, o.Log)
		if err != nil {
			return fail(err)
		}
		init.Args = append(init.Args, "--waldir="+filepath.Join(log, "wal"))
	}
	init.Dir, init.SysProcAttr = base, &syscall.SysProcAttr{Credential: as}
	if out, err := init.CombinedOutput(); err != nil {
		return fail(fmt.Errorf("initdb: %w: %s", err, out))
	}
	if s.Port, err = freePort(); err != nil {
		return fail(err)
	}
	listen := ""
	if o.TCP {
		listen = "localhost"
	}
	conf := []string{
		"listen_addresses = '" + listen + "'", "port = " + strconv.Itoa(s.Port),
		"unix_socket_directories = '" + s.Dir + "'", "max_connections = 200", "shared_buffers = 128MB",
		"fsync = on", "log_min_messages = warning", "max_wal_size = 128MB", "min_wal_size = 32MB",
	}
	files := map[string]string{confFile: strings.Join(slices.Concat(conf, o.Settings), "\n") + "\n"}
	if o.HBA != "" {
		files["pg_hba.conf"] = o.HBA
	} else if o.TCP {
		files["pg_hba.conf"] = "local all all trust\nhost all all all trust\nhost replication all all trust\n"
	}
	for name, content := range files {
		if err := s.write(name, content); err != nil {
			return fail(err)
		}
	}
	main, err := os.OpenFile(filepath.Join(s.Dir, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = main.WriteString("\ninclude '" + confFile + "'\n")
		err = errors.Join(err, main.Close())
	}
	if err != nil {
		return fail(err)
	}
	if err := s.run(base); err != nil {
		return fail(err)
	}
	return s, nil
}

// write writes a file of the data directory that belongs to the server.
func (s *Server) write(name, content string) error {
	path := filepath.Join(s.Dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		return err
	}
	if s.owner == nil {
		return nil
	}
	return os.Chown(path, int(s.owner.Uid), int(s.owner.Gid))
}

// run starts the server and waits until it answers.
func (s *Server) run(remove string) error {
	out, end, err := watched(s.owner, s.Dir, remove, "QUIT", find("postgres"), "-D", s.Dir)
	if err != nil {
		return err
	}
	s.stop = end
	if err := answers("unix", s.socket(), out); err != nil {
		end()
		return err
	}
	return s.ready(out)
}

// ready waits until a session begins: for a moment a starting server takes connections and refuses them.
func (s *Server) ready(out *output) error {
	deadline := time.Now().Add(time.Minute)
	for {
		_, err := s.psql("postgres", "SELECT 1")
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("PostgreSQL does not answer: %w\n%s", err, out)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Stop stops the server. Its data are gone afterwards.
func (s *Server) Stop() { s.stop() }

// Restart stops the server at once, as "pg_ctl restart -m immediate" does: sessions end, and what was not committed is
// gone. It returns when the server answers again.
func (s *Server) Restart(tb testing.TB) {
	tb.Helper()
	s.control(tb, "restart", "-m", "immediate", "-w")
}

// Halt stops the server as Restart does, and leaves it there; Resume starts it again.
func (s *Server) Halt(tb testing.TB) {
	tb.Helper()
	s.control(tb, "stop", "-m", "immediate", "-w")
}

// Resume starts a server that Halt has stopped.
func (s *Server) Resume(tb testing.TB) {
	tb.Helper()
	s.control(tb, "start", "-w")
}

// ShutDown stops the server in order: what it has committed is at its standbys, too. Its data stay until the end of the
// test.
func (s *Server) ShutDown(tb testing.TB) {
	tb.Helper()
	s.control(tb, "stop", "-m", "fast", "-w")
}

// Standby makes a copy of the running server with pg_basebackup, which follows it until Promote.
func (s *Server) Standby(tb testing.TB) *Server {
	tb.Helper()
	standby, err := s.follow()
	if err != nil {
		tb.Fatalf("make a standby: %v", err)
	}
	tb.Cleanup(standby.Stop)
	return standby
}

func (s *Server) follow() (*Server, error) {
	base, err := folder(s.owner, inMemory())
	if err != nil {
		return nil, err
	}
	standby := &Server{Dir: filepath.Join(base, "data"), owner: s.owner}
	fail := func(err error) (*Server, error) {
		os.RemoveAll(base) // what is left of a temporary directory harms nobody
		return nil, err
	}
	copying := exec.Command(find("pg_basebackup"), "-D", standby.Dir, "-h", s.Dir, "-p", strconv.Itoa(s.Port),
		"-U", Superuser, "--write-recovery-conf", "--checkpoint=fast")
	copying.Dir, copying.SysProcAttr = base, &syscall.SysProcAttr{Credential: s.owner}
	if out, err := copying.CombinedOutput(); err != nil {
		return fail(fmt.Errorf("pg_basebackup: %w: %s", err, out))
	}
	if standby.Port, err = freePort(); err != nil {
		return fail(err)
	}
	conf, err := os.ReadFile(filepath.Join(standby.Dir, confFile))
	if err != nil {
		return fail(err)
	}
	own := fmt.Sprintf("port = %d\nunix_socket_directories = '%s'\n", standby.Port, standby.Dir) // the last line counts
	if err := standby.write(confFile, string(conf)+own); err != nil {
		return fail(err)
	}
	if err := standby.run(base); err != nil {
		return fail(err)
	}
	return standby, nil
}

// Promote ends the standby's following: it takes writes.
func (s *Server) Promote(tb testing.TB) {
	tb.Helper()
	s.control(tb, "promote", "-w")
}

// confFile has the settings of the tests.
const confFile = "visage.conf"

// Pause stops all processes of the server as they are: connections stay, and nothing answers. Unpause lets them go on.
func (s *Server) Pause(tb testing.TB) {
	tb.Helper()
	s.signal(tb, syscall.SIGSTOP)
}

// Unpause lets a server go on that Pause has stopped.
func (s *Server) Unpause(tb testing.TB) {
	tb.Helper()
	s.signal(tb, syscall.SIGCONT)
}

// Process returns the number of the server's main process, as its file says.
func (s *Server) Process() (int, error) {
	file, err := os.ReadFile(filepath.Join(s.Dir, pidFile))
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(file), "\n")
	return strconv.Atoi(first)
}

// Revive starts a server whose main process has ended without removing its files, as after an error of the disk.
func (s *Server) Revive(tb testing.TB) {
	tb.Helper()
	// The numbers in them may be of processes by now that have nothing to do with it.
	for _, file := range []string{filepath.Join(s.Dir, pidFile), s.socket() + ".lock"} {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			tb.Fatal(err)
		}
	}
	s.Resume(tb)
}

const pidFile = "postmaster.pid"

// signal signals the server, and the processes that it has started.
func (s *Server) signal(tb testing.TB, signal syscall.Signal) {
	tb.Helper()
	main, err := s.Process()
	if err != nil {
		tb.Fatal(err)
	}
	first := strconv.Itoa(main)
	children, err := os.ReadFile(filepath.Join("/proc", first, "task", first, "children"))
	if err != nil {
		tb.Skipf("the processes of the server cannot be found: %v", err)
	}
	for _, field := range append([]string{first}, strings.Fields(string(children))...) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			tb.Fatal(err)
		}
		if err := syscall.Kill(pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			tb.Fatal(err)
		}
	}
}

func (s *Server) control(tb testing.TB, args ...string) {
	tb.Helper()
	log := filepath.Join(s.Dir, "restarted.log")
	c := exec.Command(find("pg_ctl"), slices.Concat(args, []string{"-D", s.Dir, "-l", log})...)
	c.Dir, c.SysProcAttr = s.Dir, &syscall.SysProcAttr{Credential: s.owner}
	if err := c.Run(); err != nil { // its output is the server's as well: to wait for it would wait for the server
		text, _ := os.ReadFile(log) // only for the message
		tb.Fatalf("pg_ctl %v: %v\n%s", args, err, text)
	}
}

func (s *Server) socket() string { return filepath.Join(s.Dir, ".s.PGSQL."+strconv.Itoa(s.Port)) }

// Database makes an empty database for the test and returns the URL of it, for the superuser, over the Unix socket.
func (s *Server) Database(tb testing.TB) string {
	tb.Helper()
	name, used := s.take()
	if !used {
		s.Exec(tb, "postgres", "CREATE DATABASE "+name)
	}
	tb.Cleanup(func() {
		_, err := s.psql(name, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "+
			"WHERE datname = current_database() AND pid <> pg_backend_pid();\n"+
			"SET client_min_messages = warning; DROP SCHEMA IF EXISTS visage, visage_keys CASCADE")
		if err != nil { // the server may be gone, or the database changed: no other test gets it
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.free = append(s.free, name)
	})
	return s.URL(Superuser, name)
}

// take returns the name of a database, and whether it was made before.
func (s *Server) take() (name string, used bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.free); n > 0 {
		name, s.free = s.free[n-1], s.free[:n-1]
		return name, true
	}
	s.made++
	return fmt.Sprintf("test_%d", s.made), false
}

// URL returns the URL of a database over the Unix socket.
func (s *Server) URL(role, database string) string { return socketURL(s.Dir, s.Port, role, database) }

func socketURL(dir string, port int, role, database string) string {
	u := url.URL{Scheme: "postgres", User: url.User(role), Path: "/" + database, RawQuery: url.Values{
		"host": {dir}, "port": {strconv.Itoa(port)},
	}.Encode()}
	return u.String()
}

// Exec runs statements in a database as the superuser, and returns what psql prints, unaligned.
func (s *Server) Exec(tb testing.TB, database, sql string) string {
	tb.Helper()
	out, err := s.psql(database, sql)
	if err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
	return out
}

// Dump returns the statements that make what is in a database, as pg_dump writes them.
func (s *Server) Dump(tb testing.TB, database string) string {
	tb.Helper()
	out, err := exec.Command(find("pg_dump"), "--inserts", "-h", s.Dir, "-p", strconv.Itoa(s.Port), "-U", Superuser,
		"-d", database).Output()
	if err != nil {
		tb.Fatalf("pg_dump: %v", err)
	}
	return string(out)
}

// Try is Exec of statements that may fail.
func (s *Server) Try(database, sql string) error {
	_, err := s.psql(database, sql)
	return err
}

func (s *Server) psql(database, sql string) (string, error) {
	c := exec.Command(find("psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", s.Dir,
		"-p", strconv.Itoa(s.Port), "-U", Superuser, "-d", database)
	c.Stdin = strings.NewReader(sql)
	out, err := c.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// watched starts a program that ends, at the latest, when the test process does: a shell waits for the end of its
// input, which the process holds open, sends the program a signal, and removes a directory then. end ends the program,
// and waits for that.
func watched(as *syscall.Credential, dir, remove, signal, program string, args ...string) (
	out *output, end func(), err error,
) {
	const script = `(cd "$DIR" && exec "$@") </dev/null & read -r _; kill -"$SIGNAL" $! 2>/dev/null; wait $!
file=$DIR/postmaster.pid
if [ -f "$file" ]; then # the test has restarted it, or stopped its processes
	pid=$(head -n 1 "$file"); kill -QUIT "$pid" 2>/dev/null
	while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
fi
rm -rf "$REMOVE"`
	c := exec.Command("/bin/sh", slices.Concat([]string{"-c", script, "watch", program}, args)...)
	out = &output{}
	// The shell keeps no directory in use: the test may take its volume away.
	c.Dir, c.Stdout, c.Stderr = "/", out, out
	c.Env = append(os.Environ(), "DIR="+dir, "REMOVE="+remove, "SIGNAL="+signal)
	c.SysProcAttr = &syscall.SysProcAttr{Credential: as, Setpgid: true} // an interrupt is for the test alone
	c.WaitDelay = 10 * time.Second
	in, err := c.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := c.Start(); err != nil {
		return nil, nil, err
	}
	return out, sync.OnceFunc(func() {
		_ = in.Close() // it says "stop"
		_ = c.Wait()   // how a killed server ends is of no interest
	}), nil
}

// output keeps what a program prints.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

// String returns what was printed.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// answers waits until somebody listens.
func answers(network, address string, out fmt.Stringer) error {
	deadline := time.Now().Add(time.Minute)
	for {
		c, err := net.Dial(network, address)
		if err == nil {
			return c.Close()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("nobody listens at %s: %w\n%s", address, err, out)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// freePort returns a port at which nobody listens.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	port := l.Addr().(*net.TCPAddr).Port
	return port, l.Close()
}
