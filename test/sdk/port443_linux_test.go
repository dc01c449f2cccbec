package sdk_test

import (
	"bytes"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// inNamespace marks the test process that runs in a network namespace of its own.
const inNamespace = "SDK_TEST_IN_NAMESPACE"

// TestOnPort443 runs every story, and the Go clients, against servers on the default port, which addresses omit. The
// port is free in a network namespace.
func TestOnPort443(t *testing.T) {
	if os.Getenv(inNamespace) == "" {
		t.Parallel()
		again(t)
		return
	}
	loopbackUp(t)
	for _, story := range append(stories, struct{ name, script string }{"management clients", "manage.mjs"}) {
		t.Run(story.name, func(t *testing.T) {
			photos := madeUp(t)
			tell(t, story.script, onPort443(t, ":443"), photos)
		})
	}
	for _, listen := range []string{":443", "0.0.0.0:443"} {
		t.Run("Go clients, listening on "+listen, func(t *testing.T) { goClients(t, onPort443(t, listen)) })
	}
}

// onPort443 starts a server whose address has no port.
func onPort443(t *testing.T, listen string) place {
	t.Helper()
	at := placeOf(servertest.Start(t, server.Config{Listen: listen, AutoApprove: true, AllowPrivateURLs: true}))
	if at.url != "https://localhost" {
		t.Errorf("the server is at %s", at.url)
	}
	return at
}

// again runs the test in a network namespace of its own: as root, or else as root of a user namespace.
func again(t *testing.T) {
	t.Helper()
	var said bytes.Buffer
	start := func(attributes *syscall.SysProcAttr) (*exec.Cmd, error) {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestOnPort443$", "-test.v")
		cmd.Env = append(os.Environ(), inNamespace+"=1")
		cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = &said, &said, attributes
		return cmd, cmd.Start()
	}
	cmd, err := start(&syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET})
	if err != nil {
		cmd, err = start(&syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWNET | syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		})
	}
	if err != nil {
		missing(t, "this system cannot create a network namespace: "+err.Error())
	}
	err = cmd.Wait()
	t.Logf("%s", said.String())
	if err != nil {
		t.Fatal(err)
	}
}

// loopbackUp enables the loopback interface of the namespace.
func loopbackUp(t *testing.T) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	loopback, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	loopback.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, loopback); err != nil {
		t.Fatalf("enable loopback: %v", err)
	}
}
