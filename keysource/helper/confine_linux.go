package helper

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"syscall"
	"unsafe"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
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

// confine gives up all rights of this process but those in c, and returns what the kernel cannot hold, for the log.
func confine(c Confinement) (unheld string, err error) {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return "", fmt.Errorf("switch core dumps off: %w", err)
	}
	var without []string
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
	allow := func(access landlock.AccessFSSet, paths []string) {
		for _, path := range paths {
			var of unix.Stat_t
			if unix.Stat(path, &of) != nil {
				continue // it may come later, but not for this helper
			}
			set := access
			if of.Mode&unix.S_IFMT != unix.S_IFDIR {
				set &= ll.AccessFSReadFile | ll.AccessFSWriteFile | ll.AccessFSTruncate
			}
			rules = append(rules, landlock.PathAccess(set, path))
		}
	}
	allow(read, system)
	allow(write, []string{"/dev/null"})
	allow(read, c.Read)
	allow(write, c.Write)
	if len(c.Ports) > 0 {
		allow(read, network)
	}
	for _, port := range c.Ports {
		rules = append(rules, landlock.ConnectTCP(port))
	}
	if err := landlock.V7.BestEffort().Restrict(rules...); err != nil {
		return "", err
	}
	if err := filterCalls(len(c.Ports) > 0); errors.Is(err, errNoFilter) {
		without = append(without, "system calls")
	} else if err != nil {
		return "", fmt.Errorf("filter system calls: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return "", fmt.Errorf("make the process undumpable: %w", err)
	}
	return strings.Join(without, ", "), nil
}

// errNoFilter says that the kernel or the processor has no filter of system calls here.
var errNoFilter = errors.New("no filter of system calls")

// forbidden are system calls that no key store needs: to start programs, to look into other processes, and to change
// the system.
var forbidden = []uint32{
	unix.SYS_EXECVE, unix.SYS_EXECVEAT, unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV,
	unix.SYS_PIDFD_GETFD, unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_KEXEC_LOAD,
	unix.SYS_MOUNT, unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_IO_URING_SETUP,
}

// filterCalls lets all threads of this process call the system for no more than a key store needs. Without a network,
// they have no sockets but those of this machine.
func filterCalls(network bool) error {
	arch := map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}[runtime.GOARCH]
	if arch == 0 {
		return errNoFilter
	}
	const (
		number, architecture, argument = 0, 4, 16 // offsets in struct seccomp_data
		x32                            = 0x40000000
		allow                          = 0x7fff0000 // SECCOMP_RET_ALLOW
		deny                           = 0x00050000 // SECCOMP_RET_ERRNO
	)
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	equal := func(value uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: value, Jt: yes, Jf: no}
	}
	give := func(what uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: what}
	}
	refuse := give(deny | uint32(unix.EPERM))
	program := []unix.SockFilter{
		load(architecture), equal(arch, 1, 0), refuse,
		load(number), {Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, K: x32, Jt: 0, Jf: 1}, refuse,
	}
	for _, call := range forbidden {
		program = append(program, equal(call, 0, 1), refuse)
	}
	if !network {
		program = append(program, equal(unix.SYS_SOCKET, 0, 3), load(argument), equal(unix.AF_UNIX, 1, 0), refuse)
	}
	program = append(program, give(allow))
	filter := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC,
		uintptr(unsafe.Pointer(&filter)))
	switch errno {
	case 0:
		return nil
	case unix.ENOSYS, unix.EINVAL:
		return errNoFilter
	}
	return errno
}
