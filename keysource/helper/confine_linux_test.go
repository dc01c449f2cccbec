package helper_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/visage-face/visage/keysource/helper"
)

// attempt does what a helper might try beside what Go's libraries do, and returns the error.
func attempt(verb, what string) string {
	switch verb {
	case "socket":
		var domain, kind, protocol int
		if _, err := fmt.Sscan(what, &domain, &kind, &protocol); err != nil {
			return "no such test: " + err.Error()
		}
		fd, err := unix.Socket(domain, kind, protocol)
		if err == nil {
			err = unix.Close(fd)
		}
		return fmt.Sprint(err)
	case "connect":
		return fmt.Sprint(reach(what, 0))
	case "service":
		conn, err := net.Dial("unix", what)
		if err == nil {
			err = conn.Close()
		}
		return fmt.Sprint(err)
	case "mptcp":
		return fmt.Sprint(reach(what, unix.IPPROTO_MPTCP))
	case "fastopen":
		return fmt.Sprint(sendFirst(what))
	case "fork":
		pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
		if errno == 0 && pid == 0 {
			syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
		}
		return errnoText(errno)
	case "chmod":
		return fmt.Sprint(os.Chmod(what, 0o777))
	case "limit":
		return fmt.Sprint(unix.Prlimit(os.Getppid(), unix.RLIMIT_FSIZE, nil, new(unix.Rlimit)))
	case "ioctl":
		f, err := os.OpenFile(what, os.O_RDWR, 0)
		if err != nil {
			return err.Error()
		}
		defer f.Close()
		_, err = unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
		return fmt.Sprint(err)
	case "keys":
		_, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_USER_KEYRING, false)
		return fmt.Sprint(err)
	}
	return ""
}

func errnoText(errno syscall.Errno) string {
	if errno == 0 {
		return "<nil>"
	}
	return errno.Error()
}

func at(address string) (unix.Sockaddr, error) {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}, nil
}

func reach(address string, protocol int) error {
	to, err := at(address)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, protocol)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Connect(fd, to)
}

// sendFirst opens a connection by sending (TCP Fast Open, RFC 7413).
func sendFirst(address string) error {
	to, err := at(address)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Sendto(fd, []byte("x"), unix.MSG_FASTOPEN, to)
}

// capabilities returns those that the threads of a process may have.
func capabilities(t *testing.T, pid int) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(files) == 0 {
		t.Fatalf("the threads of process %d: %v", pid, err)
	}
	found := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // a thread that has ended
		}
		_, rest, _ := strings.Cut(string(text), "CapPrm:\t")
		permitted, _, _ := strings.Cut(rest, "\n")
		found[permitted] = true
	}
	return found
}

// TestConfinedFurther holds that no way around the kernel's limits of files and ports is left.
func TestConfinedFurther(t *testing.T) {
	open, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	closed, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer closed.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p, said := start(t, helper.Config{Confinement: helper.Confinement{
		Ports: []uint16{uint16(open.Addr().(*net.TCPAddr).Port)}, Names: true, Write: []string{"/dev/zero"},
	}})
	numbers, _ := start(t, helper.Config{Confinement: helper.Confinement{
		Ports: []uint16{uint16(open.Addr().(*net.TCPAddr).Port)},
	}})
	isolated, _ := start(t, helper.Config{})
	service, err := net.Listen("unix", filepath.Join(t.TempDir(), "service"))
	if err != nil {
		t.Fatal(err)
	}
	defer service.Close()
	client, _ := start(t, helper.Config{Confinement: helper.Confinement{Write: []string{service.Addr().String()}}})
	pid := ask(t, p, "pid").Bits
	if strings.Contains(said.String(), "does not confine") {
		t.Skipf("the kernel cannot confine helpers: %s", said)
	}
	socket := func(domain, kind, protocol int) string { return fmt.Sprint("socket ", domain, kind, protocol) }
	const nothing, no, noDevice = "<nil>", "operation not permitted", "permission denied"
	for _, c := range []struct {
		p          *helper.Process
		does, says string
	}{
		{p, "connect " + open.Addr().String(), nothing},
		{p, "connect " + closed.Addr().String(), noDevice},
		{p, "mptcp " + closed.Addr().String(), no},
		{p, "fastopen " + closed.Addr().String(), no},
		{p, socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP), nothing},
		{p, socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, unix.IPPROTO_UDP), nothing}, // names are found so
		{p, socket(unix.AF_INET, unix.SOCK_DGRAM, 0), nothing},
		{p, socket(unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_TCP), no},
		{p, socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_UDP), no},
		{numbers, "connect " + open.Addr().String(), nothing},
		{numbers, socket(unix.AF_INET, unix.SOCK_DGRAM, 0), no}, // no name is to be found
		{numbers, socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP), no},
		{p, socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE), nothing},
		{p, socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_AUDIT), no},
		{p, socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP), no},
		{p, socket(unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP), no},
		{p, socket(unix.AF_PACKET, unix.SOCK_RAW, 0), no},
		{p, socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0), no},
		{p, "fork", no},
		{isolated, "fork", no},
		{p, "chmod " + file, no},
		{p, "limit", no},
		{p, "keys", no},
		{p, "ioctl /dev/zero", "inappropriate ioctl for device"}, // it got as far as the device
		{isolated, "ioctl /dev/null", noDevice},
		{isolated, socket(unix.AF_UNIX, unix.SOCK_STREAM, 0), no},
		{p, socket(unix.AF_UNIX, unix.SOCK_STREAM, 0), no},
		{client, "service " + service.Addr().String(), nothing},
		{client, socket(unix.AF_INET, unix.SOCK_STREAM, 0), no},
		{isolated, socket(unix.AF_INET, unix.SOCK_DGRAM, 0), no},
	} {
		if got := ask(t, c.p, c.does).Weak; !strings.HasSuffix(got, c.says) {
			t.Errorf("%s: %s, want %s", c.does, got, c.says)
		}
	}
	if found := capabilities(t, pid); len(found) != 1 || !found["0000000000000000"] {
		t.Errorf("threads of the helper have the capabilities %v, want none", found)
	}
	if found := capabilities(t, os.Getpid()); os.Geteuid() == 0 && found["0000000000000000"] {
		t.Errorf("the service has lost its own: %v", found)
	}
	score, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid))
	if err != nil || string(score) != "1000\n" {
		t.Errorf("when memory runs out, the helper is ended with priority %s, %v", score, err)
	}
}
