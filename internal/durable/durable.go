// Package durable writes files and makes directories so that after a power cut they are there as a whole, or not at
// all.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// WriteFile makes or replaces the file at path with data, readable by its owner only. When it returns nil, the file,
// its content and its name survive a power cut; when it returns an error, the old file, if there was one, is as it was.
func WriteFile(path string, data []byte) error {
	f, err := create(path)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err := finish(f, path, err); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// unfinished begins the names of files that are being written.
const unfinished = ".new-"

// IsUnfinished reports whether a file is one that WriteFile and its like were writing, and that a crash left.
func IsUnfinished(path string) bool { return strings.HasPrefix(filepath.Base(path), unfinished) }

// create makes a temporary file beside path.
func create(path string) (*os.File, error) {
	f, err := os.CreateTemp(filepath.Dir(path), unfinished+"*") // mode 0600
	if err != nil {
		return nil, fmt.Errorf("make temporary file: %w", err)
	}
	if err := f.Chmod(0o600); err != nil { // the umask may have removed bits
		return nil, finish(f, path, err)
	}
	return f, nil
}

// finish moves a file into place, or removes it when err is not nil.
func finish(f *os.File, path string, err error) error {
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name()) // an error here would not matter: the write has failed anyway
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// MkdirAll makes a directory and its missing parents, each accessible to its owner only, so that all of them survive a
// power cut.
func MkdirAll(dir string) error {
	dir = filepath.Clean(dir)
	info, err := os.Stat(dir)
	if err == nil {
		if !info.IsDir() {
			return fmt.Errorf("%s is not a directory", dir)
		}
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(dir)
	if err := MkdirAll(parent); err != nil {
		return err
	}
	switch err := os.Mkdir(dir, 0o700); {
	case err == nil:
		if err := os.Chmod(dir, 0o700); err != nil { // the umask may have removed bits
			return err
		}
	case !errors.Is(err, fs.ErrExist):
		return err
	}
	return SyncDir(parent)
}

// Remove removes the file at path for good; a file that is not there is no error.
func Remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir makes the names in a directory durable. On POSIX systems a file's own sync does not cover the name it was
// given.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("open directory to sync it: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}
