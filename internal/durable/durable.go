// Package durable makes files and directories that are there after a power cut, or not there at all.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteFile makes or replaces the file at path with data, readable by its owner only. When it returns nil, the file, its content and its name
// survive a power cut; when it does not, the old file, if there was one, is as it was.
func WriteFile(path string, data []byte) error {
	f, err := Prepare(path, data)
	if err != nil {
		return err
	}
	if err := Place(f); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// Prepared is a file with its content that has not got its name yet, nor is durable. Place gives it both, Discard ends it.
type Prepared struct {
	file *os.File
	path string
}

// Prepare writes what is to be the file at path, beside it. It is for who makes many files: the disk is waited for once.
func Prepare(path string, data []byte) (*Prepared, error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
	if err != nil {
		return nil, fmt.Errorf("make temporary file: %w", err)
	}
	p := &Prepared{f, path}
	if err := f.Chmod(0o600); err != nil { // whatever the umask took of it
		p.Discard()
		return nil, fmt.Errorf("set the mode of %s: %w", path, err)
	}
	if _, err := f.Write(data); err != nil {
		p.Discard()
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	return p, nil
}

// Read returns what was written, as the system has it.
func (p *Prepared) Read() ([]byte, error) { return os.ReadFile(p.file.Name()) }

// Discard removes the file. It is called in place of Place, or not at all.
func (p *Prepared) Discard() {
	p.file.Close() // what comes of it does not matter any more
	os.Remove(p.file.Name())
}

// Place puts files in place. After a power cut one of them may be missing, but what is there is whole; its name survives when SyncDir has
// returned for its directory. When it returns an error, those that are not in place are gone.
func Place(all ...*Prepared) error {
	for i, p := range all {
		if err := p.file.Sync(); err != nil { // the first takes most of the others along
			discard(all)
			return fmt.Errorf("sync %s: %w", all[i].path, err)
		}
	}
	for i, p := range all {
		err := p.file.Close()
		if err == nil {
			err = os.Rename(p.file.Name(), p.path)
		}
		if err != nil {
			discard(all[i:])
			return fmt.Errorf("put %s in place: %w", p.path, err)
		}
	}
	return nil
}

func discard(all []*Prepared) {
	for _, p := range all {
		p.Discard()
	}
}

// MkdirAll makes a directory and the parents it lacks, each open to its owner only, so that all of them survive a power cut.
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
		if err := os.Chmod(dir, 0o700); err != nil { // whatever the umask took of it
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

// SyncDir makes the names in a directory durable. On POSIX systems a file's own sync does not cover the name it was given.
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
