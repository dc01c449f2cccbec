package helper

import (
	"errors"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// errNoFilter says that the kernel or the processor has no filter of system calls here.
var errNoFilter = errors.New("no filter of system calls")

// forbidden are system calls that no key store needs: to start programs, to look into other processes, to change the
// system, which a service that runs as root could do, and to change the owner and the rights of files by their paths,
// which Landlock does not hold.
var forbidden = []uint32{
	unix.SYS_EXECVE, unix.SYS_EXECVEAT, unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV,
	unix.SYS_PROCESS_MADVISE, unix.SYS_PROCESS_MRELEASE, unix.SYS_PIDFD_GETFD, unix.SYS_KCMP, unix.SYS_BPF,
	unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_IO_URING_SETUP, unix.SYS_UNSHARE, unix.SYS_SETNS,
	unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY,
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_FSOPEN, unix.SYS_FSPICK, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT,
	unix.SYS_MOVE_MOUNT, unix.SYS_OPEN_TREE, unix.SYS_MOUNT_SETATTR, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT,
	unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_FANOTIFY_INIT, unix.SYS_QUOTACTL, unix.SYS_ACCT, unix.SYS_SYSLOG,
	unix.SYS_KEXEC_LOAD, unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_REBOOT,
	unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_CLOCK_ADJTIME,
	unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME,
	unix.SYS_FCHMODAT, unix.SYS_FCHMODAT2, unix.SYS_FCHOWNAT, unix.SYS_SETXATTR, unix.SYS_LSETXATTR,
	unix.SYS_REMOVEXATTR, unix.SYS_LREMOVEXATTR,
}

// forbiddenAMD64 are those that amd64 alone has: fork, vfork, chmod, chown, lchown, iopl, ioperm and kexec_file_load,
// by their numbers in arch/x86/entry/syscalls/syscall_64.tbl of Linux.
var forbiddenAMD64 = []uint32{57, 58, 90, 92, 94, 172, 173, 320}

// The offsets in struct seccomp_data. Of an argument, the filter reads the lower half, which is all that the kernel
// takes of an int.
const (
	ofNumber, ofArchitecture, ofArguments = 0, 4, 16
	argumentSize                          = 8
)

// What a filter can say (seccomp(2)).
const (
	allowed = 0x7fff0000 // SECCOMP_RET_ALLOW
	failing = 0x00050000 // SECCOMP_RET_ERRNO, with the number of the error
)

// The steps of a filter.
func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func argument(i uint32) unix.SockFilter { return load(ofArguments + i*argumentSize) }

// equal skips as many steps as yes or no says.
func equal(value uint32, yes, no uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: value, Jt: yes, Jf: no}
}

// has likewise, for whether any of the bits is set.
func has(bits uint32, yes, no uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: bits, Jt: yes, Jf: no}
}

func give(what uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: what}
}

var permit, refuse = give(allowed), give(failing | uint32(unix.EPERM))

// on has the steps decide about one system call, whose number was loaded. All their ways must end.
func on(call uint32, steps ...unix.SockFilter) []unix.SockFilter {
	return append([]unix.SockFilter{equal(call, 0, uint8(len(steps)))}, steps...)
}

// sockets decides about socket(2). Landlock holds TCP alone: without this, MPTCP would reach every port, and a socket
// of this machine every service of it. Names are found over UDP, which Landlock does not hold: it is there only if
// names are to be found. NETLINK_ROUTE tells the addresses of this machine.
func sockets(network, names, local bool) []unix.SockFilter {
	unixSocket := refuse
	if local {
		unixSocket = permit
	}
	if !network {
		return on(unix.SYS_SOCKET, argument(0), equal(unix.AF_UNIX, 0, 1), unixSocket, refuse)
	}
	datagram := refuse
	if names {
		datagram = permit
	}
	const typeMask = 0xf // the rest are flags
	return on(unix.SYS_SOCKET,
		argument(0),
		equal(unix.AF_UNIX, 0, 1), unixSocket,
		equal(unix.AF_NETLINK, 0, 4), argument(2), equal(unix.NETLINK_ROUTE, 0, 1), permit, refuse,
		equal(unix.AF_INET, 2, 0), equal(unix.AF_INET6, 1, 0), refuse,
		argument(1), unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: typeMask},
		equal(unix.SOCK_STREAM, 6, 0), equal(unix.SOCK_DGRAM, 0, 3),
		argument(2), equal(0, 2, 0), equal(unix.IPPROTO_UDP, 1, 0), refuse, datagram,
		argument(2), equal(0, 1, 0), equal(unix.IPPROTO_TCP, 0, 1), permit, refuse)
}

// program is the filter.
func program(architecture uint32, network, names, local bool) []unix.SockFilter {
	const x32 = 0x40000000
	steps := []unix.SockFilter{
		load(ofArchitecture), equal(architecture, 1, 0), refuse,
		load(ofNumber), {Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, K: x32, Jt: 0, Jf: 1}, refuse,
	}
	calls := forbidden
	if architecture == unix.AUDIT_ARCH_X86_64 {
		calls = append(append([]uint32(nil), calls...), forbiddenAMD64...)
	}
	for _, call := range calls {
		steps = append(steps, on(call, refuse)...)
	}
	steps = append(steps, sockets(network, names, local)...)
	// A connection that is opened by sending passes Landlock by.
	for call, flags := range map[uint32]uint32{unix.SYS_SENDTO: 3, unix.SYS_SENDMSG: 2, unix.SYS_SENDMMSG: 3} {
		steps = append(steps, on(call, argument(flags), has(unix.MSG_FASTOPEN, 0, 1), refuse, permit)...)
	}
	// There are threads, and no processes, which would outlive the helper. The flags of clone3 are out of reach of a
	// filter; libraries that find it missing use clone.
	steps = append(steps, on(unix.SYS_CLONE, argument(0), has(unix.CLONE_THREAD, 0, 1), permit, refuse)...)
	steps = append(steps, on(unix.SYS_CLONE3, give(failing|uint32(unix.ENOSYS)))...)
	// The limits are the helper's own: those of other processes of the same user, as the service, stay.
	steps = append(steps, on(unix.SYS_PRLIMIT64, argument(0), equal(0, 0, 1), permit, refuse)...)
	return append(steps, permit)
}

// filterCalls lets all threads of this process call the system for no more than a key store needs. network permits
// sockets of the network, names those by which names are found, and local those of this machine.
func filterCalls(network, names, local bool) error {
	arch := map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}[runtime.GOARCH]
	if arch == 0 {
		return errNoFilter
	}
	steps := program(arch, network, names, local)
	filter := unix.SockFprog{Len: uint16(len(steps)), Filter: &steps[0]}
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
