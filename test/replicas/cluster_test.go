//go:build linux

package replicas_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
	"github.com/visage-face/visage/test/postgres"
)

// origin is the address of all replicas. Nobody resolves it: each client goes to the listener of its replica.
const origin = "https://visage.test"

// cluster is what replicas share.
type cluster struct {
	t        *testing.T
	folder   string   // has the keys of all and the directory of each
	store    string   // URL of the database
	madeUp   bool     // recognise made-up people
	cut      int64    // KiB of the largest collection that is not cut into partitions; 0: replicas search alone
	mounted  bool     // each replica finds the keys in its directory; else it mounts them there
	users    *machine // that clients run on; nil: they run on this machine, as the replicas do
	replicas []*replica
}

// newCluster makes a cluster of n replicas over a database, none of which runs yet.
func newCluster(t *testing.T, n int, madeUp bool, store string) *cluster {
	t.Helper()
	needMounts(t)
	c := &cluster{t: t, folder: t.TempDir(), store: store, madeUp: madeUp}
	if err := os.Mkdir(c.keys(), 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		r := &replica{cluster: c, name: string(rune('A' + i)), listen: "127.0.0.1:0"}
		if err := os.MkdirAll(r.keys(), 0o700); err != nil {
			t.Fatal(err)
		}
		c.replicas = append(c.replicas, r)
	}
	t.Cleanup(func() {
		for _, r := range c.replicas {
			if r.cmd != nil {
				r.kill()
			}
			if t.Failed() {
				t.Logf("replica %s said:\n%s", r.name, &r.log)
			}
		}
	})
	return c
}

// newDatabase returns the URL of an empty database in a PostgreSQL of this test run.
func newDatabase(t *testing.T) string {
	t.Helper()
	return postgres.Shared(t).Database(t)
}

func (c *cluster) keys() string { return filepath.Join(c.folder, "keys") }

// needMounts skips the test where processes cannot have mounts of their own.
func needMounts(t *testing.T) {
	t.Helper()
	cmd := exec.Command("true")
	cmd.SysProcAttr = ownMounts()
	err := cmd.Run()
	switch {
	case err == nil:
	case os.Getenv("CI") == "true":
		t.Fatalf("replicas share a folder of keys that each has mounted, and mounts are not allowed here: %v", err)
	default:
		t.Skipf("replicas share a folder of keys that each has mounted, and mounts are not allowed here: %v", err)
	}
}

// ownMounts lets a process mount what no other one sees: as root, or else as root of a user namespace.
func ownMounts() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Unshareflags: syscall.CLONE_NEWNS,
		Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		a.Cloneflags |= syscall.CLONE_NEWUSER
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	return a
}

// replica is one of them, running or not.
type replica struct {
	cluster *cluster
	name    string
	listen  string   // the same after a restart
	machine *machine // nil: this one
	program string   // that makes made-up people known; empty: this one
	cmd     *exec.Cmd
	ended   chan struct{} // closed when its process has
	log     servertest.Tail
	damage  servertest.Tail // lines that no log should have
	op      server.Operator
}

func (r *replica) dir() string { return filepath.Join(r.cluster.folder, r.name) }

// keys is the folder in which the replica finds the keys of all.
func (r *replica) keys() string { return filepath.Join(r.dir(), "keys") }

// start starts the replica and waits until it serves.
func (r *replica) start() error {
	o := options{Dir: r.dir(), Listen: r.listen, Store: r.cluster.store, PublicURL: origin,
		RootKey: "file:" + filepath.Join(r.cluster.folder, "root.key")}
	if r.cluster.cut > 0 {
		o.PeerListen, o.PartitionKiB = "127.0.0.1:0", r.cluster.cut
		if r.machine != nil {
			o.PeerListen = r.machine.address + ":8444"
		}
	}
	var program string
	var err error
	env := servertest.Environ()
	args := o.arguments()
	if r.cluster.madeUp {
		if program, err = os.Executable(); err != nil {
			return err
		}
		text, err := json.Marshal(o)
		if err != nil {
			return err
		}
		if r.program != "" {
			program = r.program
		}
		args, env = nil, append(env, replicaEnv+"="+string(text))
	} else if program, err = buildProgram(); err != nil {
		return err
	}
	const mount = `mount --bind "$1" "$2" && shift 2 && exec "$@"`
	var within []string
	if r.machine != nil {
		within = r.machine.within()
	}
	if !r.cluster.mounted {
		within = append(within, "sh", "-c", mount, "sh", r.cluster.keys(), r.keys())
	}
	command := slices.Concat(within, []string{program}, args)
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir = filepath.Join("..", "..") // the folder of the models
	cmd.Env, cmd.SysProcAttr = env, ownMounts()
	if r.cluster.mounted {
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	}
	said, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	serving, ended := make(chan struct{}), make(chan struct{})
	go func() { // ends with the process, whose end closes the pipe
		defer close(ended)
		found := false
		for lines := bufio.NewReader(said); ; {
			line, err := lines.ReadBytes('\n')
			if err != nil {
				_ = cmd.Wait() // its log has the reason
				return
			}
			var entry struct {
				Msg    string
				Status int
			}
			if bytes.Contains(line, []byte("corrupt")) || bytes.Contains(line, []byte("panic")) {
				_, _ = r.damage.Write(line) // it never fails
			}
			if json.Unmarshal(line, &entry) != nil || entry.Msg != "request" || entry.Status >= 500 {
				_, _ = r.log.Write(line) // it never fails
			}
			if !found && entry.Msg == "serving" {
				found = true
				close(serving)
			}
		}
	}()
	r.cmd, r.ended = cmd, ended
	select {
	case <-serving:
	case <-ended:
		return fmt.Errorf("replica %s ended before it served:\n%s", r.name, &r.log)
	}
	if r.op, err = server.ReadOperator(filepath.Join(r.dir(), server.OperatorFile)); err != nil {
		return err
	}
	r.listen = strings.TrimPrefix(r.op.Listen, "https://")
	return nil
}

// sealKeys makes the folder of keys read-only for this replica alone, until it ends.
func (r *replica) sealKeys() error {
	inside := []string{"--mount", "--target", strconv.Itoa(r.cmd.Process.Pid)}
	if os.Getuid() != 0 {
		inside = append(inside, "--user", "--preserve-credentials")
	}
	command := append(inside, "mount", "-o", "remount,bind,ro", r.keys())
	if out, err := exec.Command("nsenter", command...).CombinedOutput(); err != nil {
		return fmt.Errorf("make the keys of replica %s read-only: %w: %s", r.name, err, out)
	}
	return nil
}

// kill ends the replica as a power cut does: none of its code runs any more.
func (r *replica) kill() {
	_ = r.cmd.Process.Kill() // it may have ended
	<-r.ended
	r.cmd = nil
}

// stop asks the replica to end, and waits until it has.
func (r *replica) stop() {
	_ = r.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	<-r.ended
	r.cmd = nil
}

// startAll starts replicas at the same time.
func (c *cluster) startAll() {
	c.t.Helper()
	errs := make([]error, len(c.replicas))
	var wg sync.WaitGroup
	for i, r := range c.replicas {
		wg.Go(func() { errs[i] = r.start() })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			c.t.Fatal(err)
		}
	}
}

// run runs a command of the program with a replica's directory, and returns what it printed.
func (r *replica) run(t *testing.T, args ...string) []byte {
	t.Helper()
	program, err := buildProgram()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, append(args, "--dir", r.dir())...)
	cmd.Env = servertest.Environ()
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		t.Fatalf("visage %s: %v\n%s%s", strings.Join(args, " "), err, out.Bytes(), complaints.Bytes())
	}
	return out.Bytes()
}

// soon waits for what a replica does after another one.
func soon(t *testing.T, what string, is func() bool) {
	t.Helper()
	begun := time.Now()
	waiting, forget := servertest.Patience(t)
	defer forget()
	for !is() {
		select {
		case <-waiting.Done():
			t.Fatalf("%s did not happen in time", what)
		case <-time.After(20 * time.Millisecond):
		}
	}
	t.Logf("%s: after %v", what, time.Since(begun).Round(time.Millisecond))
}
