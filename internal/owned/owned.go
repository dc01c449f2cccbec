// Package owned opens files and directories, and refuses those that a user other than this one and root could have
// placed there or could change.
//
// A program that opens a file by its name trusts everybody who can give that name to another file. The functions here
// do not follow a symbolic link in the last element of a path, take nothing but regular files and directories, and want
// the right owner and mode. What was checked is what is read: the checks look at the open file, not at its name.
package owned

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// ErrNotOwned is wrapped by every refusal of this package: another user could have placed the file there, or can change
// it. The text says what to do.
var ErrNotOwned = errors.New("not owned by this user alone")

// refusal is an error with a sentence for the operator.
type refusal struct{ text string }

func (r refusal) Error() string { return r.text }
func (refusal) Unwrap() error   { return ErrNotOwned }

func refuse(format string, args ...any) error { return refusal{fmt.Sprintf(format, args...)} }

// Open opens the regular file at path with flags as os.OpenFile has them. It refuses a symbolic link in the last
// element of path, everything that is no regular file, and a file of another user than this one or root. It makes no
// file: flag must not hold os.O_CREATE.
func Open(path string, flag int) (*os.File, error) {
	// not blocking: a pipe of that name must not hang the caller
	f, err := os.OpenFile(path, flag|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.EMLINK) {
		return nil, link(path, "the file itself")
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil {
		err = checkFile(path, info)
	}
	if err != nil {
		f.Close() // nothing was written
		return nil, err
	}
	return f, nil
}

// ReadSecret returns the content of the file at path, of at most maxBytes. It refuses what Open refuses, and a file
// that others can read or change. The error wraps fs.ErrNotExist when there is none.
func ReadSecret(path string, maxBytes int64) ([]byte, error) {
	f, err := Open(path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close() // read only: nothing can be lost
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return nil, refuse("%s can be read or changed by others (mode %04o): run \"chmod 600 %s\", "+
			"and replace the secret in it if others may have read it",
			path, perm, path)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err == nil && int64(len(b)) > maxBytes {
		err = fmt.Errorf("%s is longer than %d bytes", path, maxBytes)
	}
	if err != nil {
		clear(b)
		return nil, err
	}
	return b, nil
}

// CheckDir refuses a directory that is reached by a symbolic link in the last element of its path, that belongs to
// another user than this one or root, or in which others can put files. One that does not exist is fs.ErrNotExist.
func CheckDir(dir string) error {
	info, err := os.Lstat(filepath.Clean(dir))
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		return link(dir, "the directory itself")
	}
	return checkDir(dir, info)
}

// CheckFolder is CheckDir for a directory that may be reached by a symbolic link: it checks what the link leads to.
func CheckFolder(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	return checkDir(dir, info)
}

func checkDir(dir string, info fs.FileInfo) error {
	if !info.IsDir() {
		return refuse("%s is not a directory (%s)", dir, info.Mode().Type())
	}
	if perm := info.Mode().Perm(); perm&0o022 != 0 {
		return refuse("%s can be changed by others (mode %04o), who could put other files in place of those in it: "+
			"run \"chmod go-w %s\"",
			dir, perm, dir)
	}
	return checkOwner(dir, info)
}

// Secure checks every file of a directory that CheckDir has passed, and removes permissions of other users that an
// earlier build or another umask left: all files have mode 0600 afterwards. It refuses links, pipes and the like, and
// files of other users. It passes over directories.
func Secure(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		path := filepath.Join(dir, e.Name())
		info, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // another process has the directory open and removed the file
		}
		if err != nil {
			return err
		}
		if err := checkFile(path, info); err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 == 0 {
			continue
		}
		// No other user can have changed the name meanwhile: the directory is ours.
		if err := os.Chmod(path, 0o600); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove permissions of other users: %w", err)
		}
	}
	return nil
}

func checkFile(path string, info fs.FileInfo) error {
	if info.Mode()&fs.ModeSymlink != 0 {
		return link(path, "the file itself")
	}
	if !info.Mode().IsRegular() {
		return refuse("%s is not a regular file (%s): move it away", path, info.Mode().Type())
	}
	return checkOwner(path, info)
}

func checkOwner(path string, info fs.FileInfo) error {
	st, unix := info.Sys().(*syscall.Stat_t)
	if !unix {
		return refuse("%s: the file system does not say who it belongs to", path)
	}
	if me := os.Geteuid(); st.Uid != uint32(me) && st.Uid != 0 {
		return refuse("%s belongs to user %d, and this program runs as user %d: run it as the owner, "+
			"or run \"chown %d %s\" as root",
			path, st.Uid, me, me, path)
	}
	return nil
}

func link(path, what string) error {
	return refuse("%s is a symbolic link, and links are not followed here: put %s in its place", path, what)
}
