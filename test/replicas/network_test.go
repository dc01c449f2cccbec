//go:build linux

package replicas_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// network is a switch and machines on it: network namespaces, which end with the processes that hold them. Nothing of
// it is seen, or reached, from outside.
type network struct {
	t        *testing.T
	outside  *os.File // the namespace of the test
	exchange *machine // has the switch
	machines []*machine
}

// machine is one on a network.
type machine struct {
	network *network
	name    string
	address string // of IPv4; empty: it is the switch
	pid     int    // of the process that holds the namespace
	space   *os.File
}

// newNetwork makes an empty network. The test is skipped where that is not possible.
func newNetwork(t *testing.T) *network {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("networks are made by root alone")
	}
	for _, program := range []string{"ip", "nft", "nsenter"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed: apt-get install iproute2 nftables util-linux", program)
		}
	}
	outside, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { outside.Close() }) // nothing was written to it
	n := &network{t: t, outside: outside}
	n.exchange = n.hold("switch")
	if out, err := n.exchange.run("ip", "link", "add", "name", "switch", "type", "bridge"); err != nil {
		t.Skipf("this kernel has no switches: %v\n%s", err, out)
	}
	n.must(n.exchange, "ip", "link", "set", "dev", "switch", "up")
	return n
}

// hold makes a network namespace that ends with the test process, however that ends.
func (n *network) hold(name string) *machine {
	n.t.Helper()
	holder := exec.Command("sleep", "infinity")
	holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := holder.Start(); err != nil {
		n.t.Skipf("this kernel has no network namespaces: %v", err)
	}
	space, err := os.Open(filepath.Join("/proc", strconv.Itoa(holder.Process.Pid), "ns", "net"))
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		space.Close() // nothing was written to it
		_ = holder.Process.Kill()
		_ = holder.Wait() // it was killed
	})
	return &machine{network: n, name: name, pid: holder.Process.Pid, space: space}
}

// join adds a machine to the network.
func (n *network) join(name string) *machine {
	n.t.Helper()
	m := n.hold(name)
	m.address = fmt.Sprintf("10.77.0.%d", 10+len(n.machines))
	n.machines = append(n.machines, m)
	n.must(n.exchange, "ip", "link", "add", "name", name, "type", "veth", "peer", "name", "eth0", "netns",
		strconv.Itoa(m.pid))
	n.must(n.exchange, "ip", "link", "set", "dev", name, "master", "switch", "up")
	n.must(m, "ip", "address", "add", m.address+"/24", "dev", "eth0")
	n.must(m, "ip", "link", "set", "dev", "eth0", "up")
	n.must(m, "ip", "link", "set", "dev", "lo", "up")
	return m
}

func (n *network) must(on *machine, command ...string) {
	n.t.Helper()
	if out, err := on.run(command...); err != nil {
		n.t.Fatalf("%s on %s: %v\n%s", strings.Join(command, " "), on.name, err, out)
	}
}

// within is the command that runs another one on the machine.
func (m *machine) within() []string {
	return []string{"nsenter", "--net=/proc/" + strconv.Itoa(m.pid) + "/ns/net"}
}

func (m *machine) run(command ...string) ([]byte, error) {
	all := slices.Concat(m.within(), command)
	return exec.Command(all[0], all[1:]...).CombinedOutput()
}

// unplug cuts the machine from all others: what is sent to it, and what it sends, is lost without a word.
func (m *machine) unplug() error { return m.link("down") }

// plug ends unplug.
func (m *machine) plug() error { return m.link("up") }

func (m *machine) link(state string) error {
	if out, err := m.network.exchange.run("ip", "link", "set", "dev", m.name, state); err != nil {
		return fmt.Errorf("link of %s %s: %w: %s", m.name, state, err, out)
	}
	return nil
}

// cutFrom loses all packets between the machine and others.
func (m *machine) cutFrom(others ...*machine) error {
	rules := "table inet cut {\n"
	for _, way := range []struct{ hook, side string }{{"input", "saddr"}, {"output", "daddr"}} {
		rules += "chain " + way.hook + " { type filter hook " + way.hook + " priority 0;\n"
		for _, o := range others {
			rules += "ip " + way.side + " " + o.address + " drop\n"
		}
		rules += "}\n"
	}
	all := slices.Concat(m.within(), []string{"nft", "-f", "-"})
	c := exec.Command(all[0], all[1:]...)
	c.Stdin = strings.NewReader(rules + "}\n")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("cut %s from others: %w: %s", m.name, err, out)
	}
	return nil
}

// mend ends cutFrom.
func (m *machine) mend() error {
	if out, err := m.run("nft", "delete", "table", "inet", "cut"); err != nil {
		return fmt.Errorf("mend the network of %s: %w: %s", m.name, err, out)
	}
	return nil
}

// dial connects to an address, by its number, from the machine.
func (m *machine) dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = m.inside(func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// inside runs what makes sockets in the namespace of the machine.
func (m *machine) inside(do func() error) error {
	runtime.LockOSThread()
	if err := unix.Setns(int(m.space.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter the namespace of %s: %w", m.name, err)
	}
	err := do()
	// The thread must not end, as a goroutine that stays locked would have it: processes that it has started would be
	// killed then.
	if err := unix.Setns(int(m.network.outside.Fd()), unix.CLONE_NEWNET); err != nil {
		panic(fmt.Sprintf("a thread cannot leave a network namespace: %v", err))
	}
	runtime.UnlockOSThread()
	return err
}

// TestNetworksCanBeCut shows that what is lost is lost, and comes back.
func TestNetworksCanBeCut(t *testing.T) {
	n := newNetwork(t)
	a, b, c := n.join("a"), n.join("b"), n.join("c")
	var l net.Listener
	err := b.inside(func() (err error) {
		l, err = new(net.ListenConfig).Listen(t.Context(), "tcp", b.address+":0")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	reaches := func(from *machine, want bool) {
		t.Helper()
		limit := 10 * time.Second
		if !want {
			limit = 200 * time.Millisecond
		}
		ctx, stop := context.WithTimeout(t.Context(), limit)
		defer stop()
		conn, err := from.dial(ctx, "tcp", l.Addr().String())
		if err == nil {
			conn.Close() // nothing was written to it
		}
		if (err == nil) != want {
			t.Fatalf("machine %s reaches b: %v, want %t", from.name, err, want)
		}
	}
	try := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	reaches(a, true)
	try(a.cutFrom(b))
	reaches(a, false)
	reaches(c, true)
	try(a.mend())
	reaches(a, true)
	try(b.unplug())
	reaches(a, false)
	reaches(c, false)
	try(b.plug())
	reaches(a, true)
	reaches(c, true)
}
