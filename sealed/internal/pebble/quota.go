package pebble

import (
	"errors"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// quota is a file system that says of a used-up quota that the disk is full, as Pebble expects.
type quota struct{ vfs.FS }

// told turns the system's error for a full quota into errQuota.
func told(err error) error {
	if errors.Is(err, syscall.EDQUOT) {
		return errQuota
	}
	return err
}

func toldFile(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, told(err)
	}
	return quotaFile{f}, nil
}

// Unwrap implements vfs.FS.
func (q quota) Unwrap() vfs.FS { return q.FS }

// Create implements vfs.FS.
func (q quota) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return toldFile(q.FS.Create(name, category))
}

// OpenReadWrite implements vfs.FS.
func (q quota) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return toldFile(q.FS.OpenReadWrite(name, category, opts...))
}

// ReuseForWrite implements vfs.FS.
func (q quota) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return toldFile(q.FS.ReuseForWrite(oldname, newname, category))
}

// Link implements vfs.FS.
func (q quota) Link(oldname, newname string) error { return told(q.FS.Link(oldname, newname)) }

// Rename implements vfs.FS.
func (q quota) Rename(oldname, newname string) error { return told(q.FS.Rename(oldname, newname)) }

type quotaFile struct{ vfs.File }

// Write implements vfs.File.
func (f quotaFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	return n, told(err)
}

// WriteAt implements vfs.File.
func (f quotaFile) WriteAt(p []byte, offset int64) (int, error) {
	n, err := f.File.WriteAt(p, offset)
	return n, told(err)
}

// Sync implements vfs.File.
func (f quotaFile) Sync() error { return told(f.File.Sync()) }

// SyncData implements vfs.File.
func (f quotaFile) SyncData() error { return told(f.File.SyncData()) }

// SyncTo implements vfs.File.
func (f quotaFile) SyncTo(length int64) (bool, error) {
	full, err := f.File.SyncTo(length)
	return full, told(err)
}
