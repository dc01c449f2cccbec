package local

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/visage-face/visage/keysource"
)

// ReadPrivate reads a small file that holds a secret. what names it in errors, for example "root key file". It refuses
// a symbolic link, a file that anyone but the owner can read or change, and a file in a folder where another user could
// replace it. Its errors have keysource's classes; fs.ErrNotExist and fs.ErrPermission are found in them too. The
// caller wipes the result.
func ReadPrivate(what, path string, maxBytes int) ([]byte, error) {
	if err := CheckFolder(what, filepath.Dir(path)); err != nil {
		return nil, err
	}
	// The file is opened first and checked through its handle, so that the checked file is the one that is read.
	// O_NONBLOCK: a pipe of that name must not block the start.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	switch {
	case errors.Is(err, syscall.ELOOP), errors.Is(err, syscall.EMLINK):
		return nil, Fail(keysource.ErrDenied, nil,
			"%s %s is a symbolic link, and links are not followed here: put the file itself in its place, or name "+
				"the file that it leads to",
			what, path)
	case errors.Is(err, fs.ErrNotExist):
		return nil, Fail(keysource.ErrUnknown, fs.ErrNotExist, "%s %s does not exist", what, path)
	case errors.Is(err, fs.ErrPermission):
		return nil, Fail(keysource.ErrUnknown, fs.ErrPermission,
			"%s %s cannot be read by this user: run \"chown %d %s\" as root, or start as its owner",
			what, path, os.Geteuid(), path)
	case err != nil:
		return nil, Fail(keysource.ErrUnknown, err, "%s %s cannot be opened: %v", what, path, err)
	}
	defer f.Close() // read only: nothing can be lost
	info, err := f.Stat()
	if err != nil {
		return nil, Fail(keysource.ErrUnknown, err, "%s %s cannot be examined: %v", what, path, err)
	}
	if !info.Mode().IsRegular() {
		return nil, Fail(keysource.ErrDenied, nil, "%s %s is not a regular file (%s)", what, path, info.Mode().Type())
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 && !isCredential(path, info) {
		return nil, Fail(keysource.ErrDenied, nil,
			"%s %s can be read or changed by others (mode %04o): run \"chmod 600 %s\", and make a new key if others "+
				"may have read it",
			what, path, perm, path)
	}
	if owner, mine := ownedByUs(info); !mine {
		return nil, Fail(keysource.ErrDenied, nil, "%s %s belongs to user %d, who can read it: run \"chown %d %s\"",
			what,
			path, owner, os.Geteuid(), path)
	}
	b, err := io.ReadAll(io.LimitReader(f, int64(maxBytes)+1))
	if err != nil {
		clear(b)
		return nil, Fail(keysource.ErrUnknown, err, "%s %s cannot be read: %v", what, path, err)
	}
	if len(b) > maxBytes {
		clear(b)
		return nil, Fail(keysource.ErrUnknown, nil, "%s %s is longer than %d bytes", what, path, maxBytes)
	}
	return b, nil
}

// isCredential reports whether a file is a credential that systemd passed to this service (LoadCredential=). It belongs
// to root, and an access control list lets the service's user alone read it, which the mode shows as a right of the
// group.
func isCredential(path string, info fs.FileInfo) bool {
	folder := os.Getenv("CREDENTIALS_DIRECTORY")
	st, isUnix := info.Sys().(*syscall.Stat_t)
	return filepath.IsAbs(folder) && filepath.Dir(filepath.Clean(path)) == filepath.Clean(folder) &&
		isUnix && st.Uid == 0 && st.Gid == 0 && info.Mode().Perm()&^0o440 == 0
}

// CheckFolder refuses a folder in which another user could replace a file: the folder and all above it must belong to
// this user or root and be writable by the owner only; a sticky folder such as /tmp may lie above. A folder that does
// not exist is not an error here.
func CheckFolder(what, dir string) error {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return Fail(keysource.ErrUnknown, err, "folder %s of the %s: %v", dir, what, err)
	}
	real, err := filepath.EvalSymlinks(abs)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return Fail(keysource.ErrUnknown, err, "folder %s of the %s cannot be examined: %v", dir, what, err)
	}
	for at, nearest := real, true; ; at, nearest = filepath.Dir(at), false {
		info, err := os.Lstat(at)
		if err != nil {
			return Fail(keysource.ErrUnknown, err, "folder %s above the %s cannot be examined: %v", at, what, err)
		}
		sticky := info.Mode()&fs.ModeSticky != 0 && !nearest
		if perm := info.Mode().Perm(); perm&0o022 != 0 && !sticky {
			return Fail(keysource.ErrDenied, nil,
				"folder %s above the %s can be changed by others (mode %04o), who could put another file in its "+
					"place: run \"chmod go-w %s\"",
				at, what, perm, at)
		}
		if owner, mine := ownedByUs(info); !mine {
			return Fail(keysource.ErrDenied, nil,
				"folder %s above the %s belongs to user %d, who could put another file in its place: move the file "+
					"to a folder of your own",
				at, what, owner)
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}

// CreatePrivate writes a new file of mode 0600, which exists as a whole when it returns, or not at all. It never
// replaces a file: fs.ErrExist is returned instead. A missing folder is made with mode 0700.
func CreatePrivate(what, path string, content []byte) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make folder of the %s: %w", what, err)
	}
	if err := CheckFolder(what, dir); err != nil {
		return err
	}
	// A file that is there is kept even where none can be made, as in the folder of a service's credentials.
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("create %s: %w", what, fs.ErrExist)
	}
	tmp, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return fmt.Errorf("create %s: %w", what, err)
	}
	defer func() {
		// The temporary name is always removed; after success the file keeps its other name.
		if rmErr := os.Remove(tmp.Name()); rmErr != nil && err == nil {
			err = fmt.Errorf("remove temporary name of the %s: %w", what, rmErr)
		}
	}()
	err = tmp.Chmod(0o600) // the umask may have removed bits
	if err == nil {
		_, err = tmp.Write(content)
	}
	if err == nil {
		err = tmp.Sync()
	}
	if closeErr := tmp.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", what, err)
	}
	// A link, not a rename: a rename would replace a key that a concurrent start has just made.
	if err := os.Link(tmp.Name(), path); err != nil {
		return fmt.Errorf("create %s: %w", what, err)
	}
	return syncFolder(what, dir)
}

// syncFolder makes a new name in dir durable.
func syncFolder(what, dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync folder of the %s: %w", what, err)
	}
	err = d.Sync()
	if closeErr := d.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("sync folder of the %s: %w", what, err)
	}
	return nil
}

// ownedByUs reports whether a file belongs to the user of this process or to root, who can read it anyway.
func ownedByUs(info fs.FileInfo) (owner uint32, ok bool) {
	st, isUnix := info.Sys().(*syscall.Stat_t)
	if !isUnix {
		return 0, false
	}
	return st.Uid, st.Uid == uint32(os.Geteuid()) || st.Uid == 0
}
