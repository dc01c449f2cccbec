//go:build linux

package replicas_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/visage-face/visage/server/servertest"
)

// pair is two PostgreSQL servers, each on a machine of its own, of which Patroni makes one the primary and the other a
// synchronous standby. A third machine has the etcd that Patroni asks.
type pair struct {
	t         *testing.T
	dir       string // in memory, of the user postgres
	store     *computer
	servers   []*computer
	authority string // file
}

// computer is a machine that runs one program and what that has started.
type computer struct {
	*machine
	command []string
	log     *servertest.Tail
	cmd     *exec.Cmd
	ended   chan struct{}
}

// What Patroni waits for: ttl is the least that it takes.
const patroniTiming = "ttl: 20, loop_wait: 2, retry_timeout: 5, maximum_lag_on_failover: 1048576"

// newPair starts both servers, and makes the database visage.
func newPair(t *testing.T, n *network) *pair {
	t.Helper()
	for program, packages := range map[string]string{
		"patroni": "patroni python3-etcd", "etcd": "etcd-server", "setpriv": "util-linux",
	} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed: apt-get install %s", program, packages)
		}
	}
	bins, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	who, lookup := user.Lookup("postgres")
	if err != nil || len(bins) == 0 || lookup != nil {
		t.Skip("PostgreSQL is not installed: apt-get install postgresql")
	}
	dir, err := os.MkdirTemp("/dev/shm", "visage-patroni-")
	if err != nil {
		t.Fatal(err)
	}
	p := &pair{t: t, dir: dir, store: &computer{machine: n.join("etcd")}}
	t.Cleanup(func() {
		for _, c := range append(p.servers, p.store) {
			if c.cmd != nil {
				c.cutPower()
			}
			if t.Failed() && c.log != nil {
				t.Logf("%s said:\n%s", c.name, c.log)
			}
		}
		os.RemoveAll(dir) // what is left of a temporary directory harms nobody
	})
	for _, name := range []string{"db1", "db2"} {
		p.servers = append(p.servers, &computer{machine: n.join(name)})
	}
	certificates(t, dir, p.servers)
	p.authority = filepath.Join(dir, "ca.pem")
	at := "http://" + p.store.address
	p.store.command = []string{"etcd", "--name", "etcd", "--data-dir", filepath.Join(dir, "etcd"),
		"--listen-client-urls", at + ":2379", "--advertise-client-urls", at + ":2379",
		"--listen-peer-urls", at + ":2380", "--initial-advertise-peer-urls", at + ":2380",
		"--initial-cluster", "etcd=" + at + ":2380", "--log-level", "warn"}
	for _, c := range p.servers {
		conf := filepath.Join(dir, c.name+".yml")
		if err := os.WriteFile(conf, []byte(p.configuration(c, bins[len(bins)-1])), 0o644); err != nil {
			t.Fatal(err)
		}
		c.command = []string{"patroni", conf}
	}
	uid, err := strconv.Atoi(who.Uid)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.Atoi(who.Gid)
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Chown(path, uid, gid))
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range append([]*computer{p.store}, p.servers...) {
		if err := c.powerUp(); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.whole(t.Context()); err != nil {
		t.Fatal(err)
	}
	out, err := p.primary(t.Context()).run("psql", "-X", "-q", "-h", filepath.Join(dir, p.primary(t.Context()).name),
		"-U", "postgres", "-c", "CREATE DATABASE visage")
	if err != nil {
		t.Fatalf("make the database: %v: %s", err, out)
	}
	return p
}

// configuration is that of Patroni for one of the servers.
func (p *pair) configuration(c *computer, bin string) string {
	text := `scope: visage
name: NAME
restapi: {listen: "ADDRESS:8008", connect_address: "ADDRESS:8008"}
etcd3: {host: "ETCD:2379"}
bootstrap:
  dcs:
    TIMING
    synchronous_mode: true
    primary_start_timeout: 0
    postgresql:
      use_pg_rewind: true
      parameters: {max_connections: 150, max_wal_size: 128MB, min_wal_size: 32MB, wal_keep_size: 256MB, fsync: "on"}
  initdb: [{encoding: UTF8}, {locale: C}, {auth: trust}]
postgresql:
  listen: ADDRESS:5432
  connect_address: ADDRESS:5432
  data_dir: DIR/NAME/data
  bin_dir: BIN
  pgpass: DIR/NAME/pgpass
  use_unix_socket: true
  use_unix_socket_repl: true
  authentication:
    superuser: {username: postgres}
    replication: {username: replicator}
    rewind: {username: postgres}
  pg_hba:
    - local all all trust
    - local replication all trust
    - hostssl all all 10.77.0.0/24 trust
    - hostssl replication all 10.77.0.0/24 trust
  parameters:
    unix_socket_directories: DIR/NAME
    ssl: "on"
    ssl_cert_file: DIR/NAME/server.pem
    ssl_key_file: DIR/NAME/server.key
    log_min_messages: warning
`
	return strings.NewReplacer("NAME", c.name, "ADDRESS", c.address, "ETCD", p.store.address, "TIMING",
		strings.ReplaceAll(patroniTiming, ", ", "\n    "), "DIR", p.dir, "BIN", bin).Replace(text)
}

// url is that of the database for a replica.
func (p *pair) url() string {
	return "postgres://postgres@" + p.servers[0].address + ":5432," + p.servers[1].address +
		":5432/visage?target_session_attrs=read-write&pool_max_conns=16&sslrootcert=" + p.authority
}

// certificates makes an authority and a certificate for each server in its own folder.
func certificates(t *testing.T, dir string, servers []*computer) {
	t.Helper()
	issuer := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	write := func(path, kind string, der []byte) {
		block := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
		if err := os.WriteFile(path, block, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	newKey := func() *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	signer := newKey()
	issue := func(path string, c *x509.Certificate, key *ecdsa.PrivateKey) {
		der, err := x509.CreateCertificate(rand.Reader, c, issuer, key.Public(), signer)
		if err != nil {
			t.Fatal(err)
		}
		write(path, "CERTIFICATE", der)
	}
	issue(filepath.Join(dir, "ca.pem"), issuer, signer)
	for i, s := range servers {
		if err := os.Mkdir(filepath.Join(dir, s.name), 0o700); err != nil {
			t.Fatal(err)
		}
		key := newKey()
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		write(filepath.Join(dir, s.name, "server.key"), "PRIVATE KEY", der)
		issue(filepath.Join(dir, s.name, "server.pem"), &x509.Certificate{SerialNumber: big.NewInt(int64(2 + i)),
			NotBefore: issuer.NotBefore, NotAfter: issuer.NotAfter, IPAddresses: []net.IP{net.ParseIP(s.address)},
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, key)
	}
}

// powerUp starts the program of a computer, as the user postgres and as the first process of those of its own.
func (c *computer) powerUp() error {
	const script = `mount -t proc proc /proc && ` +
		`HOME=/ exec setpriv --reuid=postgres --regid=postgres --clear-groups --inh-caps=-all --pdeathsig=KILL "$@"`
	command := slices.Concat(c.within(), []string{"sh", "-c", script, "sh"}, c.command)
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS,
		Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if c.log == nil {
		c.log = &servertest.Tail{}
	}
	cmd.Stdout, cmd.Stderr = c.log, c.log
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", c.name, err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // its log has the reason
	}()
	c.cmd, c.ended = cmd, ended
	return nil
}

// cutPower ends all processes of a computer at once. Its disk stays.
func (c *computer) cutPower() {
	_ = c.cmd.Process.Kill() // the first process; the kernel ends the others with it
	<-c.ended
	c.cmd = nil
}

// inside runs a command among the processes of a computer.
func (c *computer) among(command ...string) error {
	pid := strconv.Itoa(c.cmd.Process.Pid)
	all := slices.Concat([]string{"nsenter", "--pid", "--mount", "--target", pid}, command)
	if out, err := exec.Command(all[0], all[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s on %s: %w: %s", strings.Join(command, " "), c.name, err, out)
	}
	return nil
}

// killDatabase kills the first process of PostgreSQL; Patroni goes on.
func (p *pair) killDatabase(c *computer) error {
	return c.among("sh", "-c", `kill -KILL "$(head -n 1 "$1")"`, "sh",
		filepath.Join(p.dir, c.name, "data", "postmaster.pid"))
}

// whole waits until there is a primary and a synchronous standby.
func (p *pair) whole(ctx context.Context) error {
	for until := time.Now().Add(3 * time.Minute); time.Now().Before(until); pause(ctx, 200*time.Millisecond) {
		if ctx.Err() != nil {
			return nil // nobody waits any more
		}
		if p.primary(ctx) != nil && p.is(ctx, p.standby(ctx), "sync") {
			return nil
		}
	}
	return errors.New("there is no primary with a synchronous standby after 3 minutes")
}

// primary returns the server that Patroni says is the primary, and that can be reached; nil: none.
func (p *pair) primary(ctx context.Context) *computer {
	for _, c := range p.servers {
		if p.is(ctx, c, "primary") {
			return c
		}
	}
	return nil
}

// standby returns the server that is not the primary.
func (p *pair) standby(ctx context.Context) *computer {
	if p.is(ctx, p.servers[0], "primary") {
		return p.servers[1]
	}
	return p.servers[0]
}

// is asks Patroni whether a server has a part.
func (p *pair) is(ctx context.Context, c *computer, part string) bool {
	if c.cmd == nil {
		return false
	}
	transport := &http.Transport{DialContext: c.dial, DisableKeepAlives: true} // as from the server itself
	ctx, stop := context.WithTimeout(ctx, 2*time.Second)
	defer stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.address+":8008/"+part, nil)
	if err != nil {
		return false
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		return false
	}
	res.Body.Close() // its status says it all
	return res.StatusCode == http.StatusOK
}
