package durable

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrLocked says that another process holds a lock.
var ErrLocked = errors.New("another process has locked the directory")

// LockDir locks a directory, for itself alone or together with others that share it, until unlock or the end of the
// process. It does not wait. Where the file system does not support locks, it locks nothing and returns no error.
// Error: ErrLocked.
func LockDir(dir string, shared bool) (unlock func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	how := unix.LOCK_EX
	if shared {
		how = unix.LOCK_SH
	}
	for {
		err = unix.Flock(int(d.Fd()), how|unix.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if errors.Is(err, syscall.EWOULDBLOCK) {
		d.Close()
		return nil, ErrLocked
	}
	return func() { d.Close() }, nil
}
