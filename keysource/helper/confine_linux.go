package helper

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"unsafe"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/psx"
)

// attributes are those of the helper's process: it ends with the service, and signals of a terminal are not for it.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

// system is what libraries read to be loaded, and programs to know the time. Nothing in it is a secret.
var system = []string{
	"/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache", "/etc/localtime",
	"/usr/share/zoneinfo", "/dev/urandom", "/dev/random", "/dev/zero", "/proc/cpuinfo", "/sys/devices/system/cpu",
	"/proc/sys/crypto",
}

// network is what finding a host by its name reads.
var network = []string{
	"/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/gai.conf", "/etc/host.conf", "/run/systemd/resolve",
}

// The versions of Landlock that brought what is used here.
const (
	abiFiles   = 1
	abiTCP     = 4
	abiSignals = 6
)

// dropCapabilities takes the capabilities from all threads of this process, which has some if the service runs as root
// or was given them. No program can be started to get them back.
func dropCapabilities() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData // each has 32 of them
	_, _, errno := psx.Syscall3(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&none)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// confine gives up all rights of this process but those in c, and returns what the kernel cannot hold, for the log.
func confine(c Confinement) (unheld string, err error) {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return "", fmt.Errorf("switch core dumps off: %w", err)
	}
	// The filter of system calls ends most of what a service that runs as root could do; this ends the rest.
	if err := dropCapabilities(); err != nil {
		return "", fmt.Errorf("give up the capabilities: %w", err)
	}
	var without []string
	// When memory runs out, the system ends the helper, whose library may leak, and not the service.
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0o644); err != nil {
		without = append(without, "memory")
	}
	abi, err := ll.LandlockGetABIVersion()
	if err != nil || abi < abiFiles {
		abi = 0
		without = append(without, "files")
	}
	if abi < abiTCP && len(c.Ports) > 0 {
		without = append(without, "TCP ports")
	}
	if abi < abiSignals {
		without = append(without, "signals and abstract sockets")
	}
	const read = ll.AccessFSReadFile | ll.AccessFSReadDir
	const write = read | ll.AccessFSWriteFile | ll.AccessFSTruncate | ll.AccessFSMakeReg | ll.AccessFSMakeDir |
		ll.AccessFSRemoveFile | ll.AccessFSRemoveDir
	var rules []landlock.Rule
	local := false // a service of this machine is used over its socket
	allow := func(access landlock.AccessFSSet, paths []string) {
		for _, path := range paths {
			var of unix.Stat_t
			if unix.Stat(path, &of) != nil {
				continue // it may come later, but not for this helper
			}
			local = local || of.Mode&unix.S_IFMT == unix.S_IFSOCK
			set := access
			if of.Mode&unix.S_IFMT != unix.S_IFDIR {
				set &= ll.AccessFSReadFile | ll.AccessFSWriteFile | ll.AccessFSTruncate | ll.AccessFSIoctlDev
			}
			rules = append(rules, landlock.PathAccess(set, path))
		}
	}
	allow(read, system)
	allow(write, []string{"/dev/null"})
	allow(read, c.Read)
	allow(write|ll.AccessFSIoctlDev, c.Write) // modules that are cards or USB devices are used by ioctl alone
	if c.Names {
		allow(read, network)
	}
	for _, port := range c.Ports {
		rules = append(rules, landlock.ConnectTCP(port))
	}
	if err := landlock.V7.BestEffort().Restrict(rules...); err != nil {
		return "", err
	}
	if err := filterCalls(len(c.Ports) > 0, c.Names, local); errors.Is(err, errNoFilter) {
		without = append(without, "system calls")
	} else if err != nil {
		return "", fmt.Errorf("filter system calls: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return "", fmt.Errorf("make the process undumpable: %w", err)
	}
	return strings.Join(without, ", "), nil
}
