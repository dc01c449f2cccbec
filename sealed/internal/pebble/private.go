package pebble

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"

	"github.com/visage-face/visage/internal/durable"
	"github.com/visage-face/visage/internal/owned"
)

// openPrivate makes the directory when it is not there and refuses one that is not this user's alone, or in which
// something else than files of this user lies. The file system it returns makes files that only their owner can read.
func openPrivate(dir string) (vfs.FS, error) {
	if err := durable.MkdirAll(dir); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	if err := owned.CheckDir(dir); err != nil {
		return nil, fmt.Errorf("the data directory: %w", err)
	}
	if err := owned.Secure(dir); err != nil {
		return nil, fmt.Errorf("the data directory: %w", err)
	}
	return privateFS{vfs.Default}, nil
}

// privateFS is a file system whose new files have mode 0600, whatever the umask. Pebble asks for 0666.
type privateFS struct{ vfs.FS }

// Unwrap implements vfs.FS.
func (fs privateFS) Unwrap() vfs.FS { return fs.FS }

// Create implements vfs.FS. The file is a new one, so nobody else has it open before its mode is set; and the directory
// is its owner's alone.
func (fs privateFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return private(fs.FS.Create(name, category))
}

// OpenReadWrite implements vfs.FS.
func (fs privateFS) OpenReadWrite(
	name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption,
) (vfs.File, error) {
	return private(fs.FS.OpenReadWrite(name, category, opts...))
}

// ReuseForWrite implements vfs.FS.
func (fs privateFS) ReuseForWrite(oldName, newName string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return private(fs.FS.ReuseForWrite(oldName, newName, category))
}

// MkdirAll implements vfs.FS.
func (fs privateFS) MkdirAll(dir string, _ os.FileMode) error { return durable.MkdirAll(dir) }

// Lock implements vfs.FS.
func (fs privateFS) Lock(name string) (io.Closer, error) {
	lock, err := fs.FS.Lock(name)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(name, mode); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

const mode = 0o600

func private(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return f, err
	}
	if err := unix.Fchmod(int(f.Fd()), mode); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
