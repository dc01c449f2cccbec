//go:build linux

package replicas_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// mountsEnv says that the test process has mounts of its own.
const mountsEnv = "VISAGE_TEST_MOUNTS"

// isolateMounts gives the test process, if it is root's, mounts that nobody else sees and that end with it, however it
// ends. It starts the process anew.
func isolateMounts() error {
	if os.Getuid() != 0 || os.Getenv(mountsEnv) != "" {
		return nil
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return nil // tests that need it are skipped
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keep mounts private: %w", err)
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	return unix.Exec(program, os.Args, append(os.Environ(), mountsEnv+"=own"))
}

// volume is a small disk with a file system of its own, which can fill up, fail, hang and go away.
type volume struct {
	image string
	base  string   // where it is mounted first
	at    []string // where else
}

// newVolume makes a volume of so many MiB, for the time of a test. It is skipped where that is not possible.
func newVolume(t *testing.T, name string, mib int64) *volume {
	t.Helper()
	if os.Getuid() != 0 || os.Getenv(mountsEnv) == "" {
		t.Skip("volumes are made by root alone, where mounts are allowed")
	}
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		t.Skip("mkfs.ext4 is not installed: apt-get install e2fsprogs")
	}
	// In memory, and with a short path: that of a socket has 107 bytes at most.
	dir, err := os.MkdirTemp("/dev/shm", "visage-"+name+"-")
	if err == nil {
		err = os.Chmod(dir, 0o711)
	}
	if err != nil {
		t.Fatal(err)
	}
	v := &volume{image: filepath.Join(dir, "image"), base: filepath.Join(dir, "v")}
	t.Cleanup(func() {
		_ = v.thaw() // it may not be frozen
		v.unmount()
		os.RemoveAll(dir) // what is left of a temporary directory harms nobody
	})
	err = os.WriteFile(v.image, nil, 0o600)
	if err == nil {
		err = os.Truncate(v.image, mib<<20)
	}
	if err == nil {
		err = os.Mkdir(v.base, 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	// No room is kept for root, who is the one that fills it.
	out, err := exec.Command("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=0", v.image).CombinedOutput()
	if err != nil {
		t.Fatalf("mkfs.ext4: %v\n%s", err, out)
	}
	if err := v.mount(); err != nil {
		t.Skipf("this machine mounts no volumes in files: %v", err)
	}
	return v
}

// mount mounts the volume. One that failed works again, with what was durable. Nobody may have written meanwhile where
// it belongs.
func (v *volume) mount() error {
	for _, at := range append([]string{v.base}, v.at...) {
		if err := untouched(at); err != nil {
			return err
		}
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		out, err := exec.Command("mount", "-t", "ext4", "-o", "loop", v.image, v.base).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("mount: %w: %s", err, out)
		} else if err = os.WriteFile(v.probe(), []byte("x"), 0o600); err == nil {
			break
		} else {
			_ = unix.Unmount(v.base, unix.MNT_DETACH) // somebody uses the failed one still
		}
		if time.Now().After(deadline) {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
	err := errors.Join(os.Remove(v.probe()), os.Chmod(v.base, 0o711))
	for _, at := range v.at {
		err = errors.Join(err, v.attach(at))
	}
	return err
}

func (v *volume) probe() string { return filepath.Join(v.base, ".probe") }

// also mounts the volume elsewhere too.
func (v *volume) also(at string) error {
	v.at = append(v.at, at)
	return v.attach(at)
}

func (v *volume) attach(at string) error {
	if err := untouched(at); err != nil {
		return err
	}
	return unix.Mount(v.base, at, "", unix.MS_BIND, "")
}

// untouched makes sure that a folder is empty, on which a volume is about to be mounted.
func untouched(at string) error {
	entries, err := os.ReadDir(at)
	if err == nil && len(entries) > 0 {
		err = fmt.Errorf("%s was written to in %s, where the volume was not mounted", entries[0].Name(), at)
	}
	return err
}

// detach takes the volume away from a place, with whatever uses it.
func (v *volume) detach(at string) error { return unix.Unmount(at, unix.MNT_DETACH) }

func (v *volume) unmount() {
	for _, at := range append([]string{v.base}, v.at...) {
		_ = v.detach(at) // it may be away already
	}
}

// gone takes the volume away everywhere, until mount.
func (v *volume) gone() error { v.unmount(); return nil }

// fill takes all of the volume's space.
func (v *volume) fill() error {
	f, err := os.OpenFile(v.filler(), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	offset := int64(0)
	for size := int64(64 << 20); size >= 1<<10; {
		err := unix.Fallocate(int(f.Fd()), 0, offset, size)
		switch {
		case err == nil:
			offset += size
		case errors.Is(err, unix.ENOSPC):
			size /= 2
		case !errors.Is(err, unix.EINTR):
			return err
		}
	}
	return nil
}

func (v *volume) filler() string { return filepath.Join(v.base, ".filler") }

// clear ends fill.
func (v *volume) clear() error { return os.Remove(v.filler()) }

// readOnly lets nobody write any more. It waits until no file is open for writing.
func (v *volume) readOnly() error { return v.remount(unix.MS_RDONLY) }

// writable ends readOnly.
func (v *volume) writable() error { return v.remount(0) }

func (v *volume) remount(flags uintptr) error {
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := unix.Mount("", v.base, "", unix.MS_REMOUNT|flags, "")
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

// Of the headers of Linux, linux/fs.h and ext4.h.
const (
	fiFreeze    = 0xc0045877
	fiThaw      = 0xc0045878
	extShutdown = 0x8004587d
	noLogFlush  = 2 // what is not durable is lost
)

// breakDown makes every access an I/O error, as a disk does that is pulled out; mend ends it.
func (v *volume) breakDown() error { return v.control(extShutdown, noLogFlush) }

// mend puts the disk in again. Nobody may be using files of the failed one any more.
func (v *volume) mend() error {
	v.unmount()
	return v.mount()
}

// freeze makes whatever writes wait, until thaw.
func (v *volume) freeze() error { return v.control(fiFreeze, 0) }

func (v *volume) thaw() error { return v.control(fiThaw, 0) }

func (v *volume) control(request uint, argument int) error {
	f, err := os.Open(v.base)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.IoctlSetPointerInt(int(f.Fd()), request, argument)
}

// during has something be so for a while.
func during(ctx context.Context, least, most time.Duration, begin, end func() error) error {
	if err := begin(); err != nil {
		return errors.Join(err, end())
	}
	pause(ctx, least+rand.N(most-least+1))
	return end()
}
