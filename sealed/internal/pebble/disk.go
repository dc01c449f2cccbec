package pebble

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/visage-face/visage/sealed/internal/engine"
)

// How much of a volume is kept, and how large the engine's own buffers are on it.
const (
	reserveShare = 6         // of the volume, one part
	maxReserve   = 256 << 20 // and no more than this
	// of the reserve, one part is taken up by a file that is removed when it comes to the worst
	ballastShare = 4
	lowShare     = 4 // below one part of the reserve beside the ballast, that goes
	yieldShare   = 2 // below one part of it beside the ballast, compactions give up
	healShare    = 8 // the ballast comes back when there is one part more than the reserve

	maxUnit    = 32 << 20 // of what is written to memory before it goes to a table, on large volumes
	minUnit    = 512 << 10
	unitShare  = 64      // of the volume, one part
	smallTable = 2 << 20 // the engine's usual size of the smallest tables
)

// ballastName is the file whose blocks are given back when the volume is full. It is never written to: what it has is
// space.
const ballastName = "BALLAST"

// compactionWrites is what the engine calls the writes of compactions, which can wait, unlike those of the log, of
// flushes and of the manifest.
const compactionWrites vfs.DiskWriteCategory = "pebble-compaction"

// disk is the volume under an engine: how full it is, and what is kept in reserve.
type disk struct {
	fs      vfs.FS // without guards
	dir     string
	log     *slog.Logger
	total   uint64 // zero: not known
	reserve uint64
	ballast uint64 // what its file takes when it is there

	mu     sync.Mutex
	free   uint64    // what the volume had beside the ballast when it was looked at
	looked time.Time // when that was
	held   bool      // the ballast is there
	// what is left for sure, after the volume has refused a write, which quotas do while there are free blocks
	limit   uint64
	limited bool          // limit counts
	opening chan struct{} // not nil while the engine opens: closed when it does not get anywhere
	ending  chan struct{} // the same of its last tables, when it is closed
	behind  int           // failures behind the scenes while it opens, or is closed
	last    error         // the last of them
	told    time.Time     // when one was logged
}

func newDisk(cfg Config) *disk {
	d := &disk{fs: cfg.FS, dir: cfg.Dir, log: cfg.Logger, reserve: cfg.Reserve}
	if usage, err := d.fs.GetDiskUsage(d.dir); err == nil {
		d.total = usage.TotalBytes
	}
	if d.reserve == 0 {
		d.reserve = min(d.total/reserveShare, maxReserve)
	}
	d.ballast = d.reserve / ballastShare
	_, err := d.fs.Stat(d.ballastPath())
	d.held = err == nil
	return d
}

func (d *disk) ballastPath() string { return d.fs.PathJoin(d.dir, ballastName) }

// unit is how much the engine keeps in memory before it writes a table, in bytes: less on small volumes, where the log
// and the first tables have to fit into the reserve.
func (d *disk) unit() uint64 {
	if d.total == 0 {
		return maxUnit
	}
	return min(max(d.total/unitShare, minUnit), maxUnit)
}

// Room looks at the volume.
func (d *disk) Room() engine.Room {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.roomLocked(d.availableLocked())
}

// Recent is Room, from a look at the volume that may be some time ago while it has plenty left.
func (d *disk) Recent() engine.Room {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.roomLocked(d.recentLocked())
}

func (d *disk) roomLocked(available uint64) engine.Room {
	r := engine.Room{Free: available, Total: d.total, Reserve: d.reserve}
	if d.held && r.Free < math.MaxUint64 {
		r.Free += d.ballast
	}
	if d.limited {
		r.Free = min(r.Free, d.limit)
	}
	return r
}

// availableLocked is what the volume has beside the ballast.
func (d *disk) availableLocked() uint64 {
	d.free, d.looked = math.MaxUint64, time.Now()
	if usage, err := d.fs.GetDiskUsage(d.dir); err == nil {
		d.total, d.free = usage.TotalBytes, usage.AvailBytes
	}
	return d.free
}

// lookEvery is how long a look at a volume counts that has plenty left: twice the reserve. What is lost meanwhile, to
// the engine itself and to others, is taken from the second reserve, not the first.
const lookEvery = 10 * time.Millisecond

// recentLocked is availableLocked, and may be from an earlier look.
func (d *disk) recentLocked() uint64 {
	if d.free >= 2*d.reserve && time.Since(d.looked) < lookEvery {
		return d.free
	}
	return d.availableLocked()
}

// low reports whether compactions have to leave what the volume has beside the ballast.
func (d *disk) low() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.availableLocked() < d.reserve/yieldShare
}

// prepare gives the ballast up when a write is to come and the volume has little else. Not before: what others are
// writing would take it.
func (d *disk) prepare() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.held && d.recentLocked() < d.reserve/lowShare {
		d.releaseLocked()
	}
}

func (d *disk) releaseLocked() {
	if err := d.fs.Remove(d.ballastPath()); err != nil {
		d.log.Error("the file BALLAST, which keeps space in reserve, cannot be removed", "err", err)
		return
	}
	d.held = false
	d.log.Warn("the disk is nearly full: the file BALLAST was removed to use its space", "bytes", d.ballast)
}

// refused is called when a write found the volume full, before it is tried again.
func (d *disk) refused() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.limited, d.limit, d.looked = true, 0, time.Time{}
	if d.held {
		d.releaseLocked()
		d.limit = d.ballast
	}
}

// Tend takes the ballast back once there is room for it beside the reserve, and finds out whether a volume that refused
// writes takes them again.
func (d *disk) Tend() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.reserve == 0 || d.held && !d.limited {
		return
	}
	healthy := d.reserve + d.reserve/healShare
	need := d.ballast
	if d.limited {
		need += healthy // the volume's word does not count: this much has to be had
	}
	if d.availableLocked() < healthy+d.ballast {
		return
	}
	if d.limited {
		if !d.take(need) {
			return
		}
		d.limited = false
		d.log.Info("the disk takes writes again")
	}
	d.held = d.take(d.ballast)
}

// take makes the ballast of a size, in place of one that is there, and reports whether the volume had it.
func (d *disk) take(size uint64) bool {
	f, err := d.fs.Create(d.ballastPath(), vfs.WriteCategoryUnspecified)
	if err != nil {
		return false
	}
	err = f.Preallocate(0, int64(size))
	if errors.Is(err, errors.ErrUnsupported) { // nothing can be kept, and the threshold alone has to do
		d.ballast = 0
	}
	err = errors.Join(err, f.Close())
	if err != nil {
		err = errors.Join(err, d.fs.Remove(d.ballastPath()))
		d.log.Debug("the disk has no room for the file BALLAST, which keeps space in reserve", "err", err)
	}
	return err == nil
}

// opened makes the ballast anew if there is room: the one that was found may have another size.
func (d *disk) opened() {
	d.mu.Lock()
	if free := d.availableLocked(); d.held && free < math.MaxUint64 && free >= d.reserve+d.ballast {
		d.held = d.take(d.ballast)
	}
	d.mu.Unlock()
	d.Tend()
}

// guarded returns the file system for the engine.
func (d *disk) guarded() vfs.FS { return yielding{vfs.OnDiskFull(quota{d.fs}, d.refused), d} }

// needed is how much room the engine needs to open: the log that it may have to write into tables, and some for what is
// small.
func (d *disk) needed() uint64 {
	names, err := d.fs.List(d.dir)
	if err != nil {
		return 0
	}
	newest, log := "", uint64(0)
	for _, name := range names {
		if strings.HasSuffix(name, ".log") && (len(name) > len(newest) || len(name) == len(newest) && name > newest) {
			newest = name
		}
	}
	if newest != "" {
		if info, err := d.fs.Stat(d.fs.PathJoin(d.dir, newest)); err == nil {
			log = min(uint64(info.Size()), d.unit())
		}
	}
	return log + smallFiles
}

const (
	smallFiles  = 256 << 10 // what a start writes beside tables
	maxFailures = 20        // behind the scenes while it opens or ends: it tries about thirty times a second, for ever
)

// open opens the engine, and gives up when it cannot because the volume is full: left to itself it would try for ever.
func (d *disk) open(open func() (*pebble.DB, error)) (*pebble.DB, error) {
	need := d.needed()
	d.prepare()
	if r := d.Room(); r.Free < need {
		return nil, d.tooLittle(r.Free, need, nil)
	}
	d.mu.Lock()
	stuck := make(chan struct{})
	d.opening, d.behind = stuck, 0
	d.mu.Unlock()
	type opened struct {
		db  *pebble.DB
		err error
	}
	done := make(chan opened, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				failure, ours := r.(fatal)
				if !ours {
					panic(r)
				}
				done <- opened{err: failure.err}
			}
		}()
		db, err := open()
		done <- opened{db, err}
	}()
	select {
	case o := <-done:
		d.mu.Lock()
		d.opening = nil
		d.mu.Unlock()
		return o.db, o.err
	case <-stuck: // what tries on is held where it failed, and ends with the process
		d.mu.Lock()
		last := d.last
		d.mu.Unlock()
		return nil, d.tooLittle(d.Room().Free, need, last)
	}
}

func (d *disk) tooLittle(free, need uint64, why error) error {
	if why != nil && !errors.Is(why, syscall.ENOSPC) {
		return fmt.Errorf("the disk fails: %w", cause(why))
	}
	return fmt.Errorf(
		"%w: %s are free, and about %s are needed to open the data; free some space on the volume, or enlarge it, "+
			"and start again",
		engine.ErrFull, Bytes(free), Bytes(max(need, free+d.unit())))
}

// flush writes what is in memory to tables, for the end. Where the volume has no room for them it leaves that: the
// engine would try for ever, and the log has it all.
func (d *disk) flush(db *pebble.DB) error {
	if d.Room().Free < db.Metrics().MemTable.Size+smallFiles {
		d.log.Warn("the disk is full: the storage engine closes with its last changes in its log alone")
		return nil
	}
	stuck := make(chan struct{})
	d.mu.Lock()
	d.ending, d.behind = stuck, 0
	d.mu.Unlock()
	done, err := db.AsyncFlush()
	if err != nil {
		return err
	}
	select {
	case <-done:
	case <-stuck:
		d.mu.Lock()
		last := d.last
		d.mu.Unlock()
		d.log.Warn("the storage engine closes with its last changes in its log alone", "err", last)
	}
	return nil
}

// failedBehind hears of what failed in a goroutine of the engine's own. It tries again by itself, except that while it
// opens somebody has to stop it.
func (d *disk) failedBehind(err error) {
	d.mu.Lock()
	stuck := false
	if d.last = err; d.opening != nil {
		if d.behind++; d.behind == maxFailures {
			close(d.opening)
		}
		stuck = d.behind >= maxFailures
	} else if d.ending != nil {
		if d.behind++; d.behind == maxFailures {
			close(d.ending)
		}
	}
	tell := time.Since(d.told) > time.Minute
	if tell {
		d.told = time.Now()
	}
	d.mu.Unlock()
	if tell {
		d.log.Error("storage engine", "err", err)
	}
	if stuck {
		select {} // nothing but the end of the process helps
	}
}

// Bytes writes a number of bytes for people.
func Bytes(n uint64) string {
	const kilo, mega = 1_000, 1_000_000
	switch {
	case n >= 1000*mega:
		return fmt.Sprintf("%.1f GB", float64(n)/(1000*mega))
	case n >= mega:
		return fmt.Sprintf("%.1f MB", float64(n)/mega)
	}
	return fmt.Sprintf("%.1f kB", float64(n)/kilo)
}

// cause adds what to do to the errors of a volume that people meet.
func cause(err error) error {
	advice := ""
	switch {
	case err == nil || errors.Is(err, engine.ErrFull):
		return err
	case errors.Is(err, syscall.EDQUOT), errors.Is(err, errQuota):
		advice = "the quota of the volume is used up: raise it, or free some space"
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("%w: free some space on the volume, or enlarge it: %w", engine.ErrFull, err)
	case errors.Is(err, syscall.EROFS):
		advice = "the volume is mounted read-only: see why in the system's log, and mount it for writing"
	case errors.Is(err, syscall.EIO):
		advice = "the device fails: look at the system's log, and restore to another one if it does not recover"
	default:
		return err
	}
	return fmt.Errorf("%s: %w", advice, err)
}

// yielding keeps compactions from taking the last of a volume, which the log needs more.
type yielding struct {
	vfs.FS
	disk *disk
}

// Create implements vfs.FS.
func (y yielding) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := y.FS.Create(name, category)
	if err == nil && category == compactionWrites {
		f = &yieldingFile{File: f, disk: y.disk}
	}
	return f, err
}

// Unwrap implements vfs.FS.
func (y yielding) Unwrap() vfs.FS { return y.FS }

type yieldingFile struct {
	vfs.File
	disk    *disk
	written int // since the volume was looked at
}

const (
	yieldEvery = 256 << 10       // bytes between looks at the volume
	yieldPause = 2 * time.Second // before a compaction is told to give up: it is tried again at once
)

// Write implements vfs.File.
func (f *yieldingFile) Write(p []byte) (int, error) {
	if f.written -= len(p); f.written <= 0 {
		f.written = yieldEvery
		if f.disk.low() {
			time.Sleep(yieldPause)
			return 0, &os.PathError{Op: "write", Path: "a table, while the disk is nearly full", Err: syscall.ENOSPC}
		}
	}
	return f.File.Write(p)
}

// errQuota is a quota that is used up. It is a disk that is full, too, so that all that is done about one is done about
// the other.
var errQuota error = quotaError{}

type quotaError struct{}

func (quotaError) Error() string { return syscall.EDQUOT.Error() }
func (quotaError) Unwrap() error { return syscall.ENOSPC }
