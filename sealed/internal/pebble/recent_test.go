package pebble

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// volume is a file system that says how much of it is free, and counts how often it was asked.
type volume struct {
	vfs.FS
	free  uint64
	asked int
}

func (v *volume) GetDiskUsage(string) (vfs.DiskUsage, error) {
	v.asked++
	return vfs.DiskUsage{AvailBytes: v.free, TotalBytes: 1 << 30}, nil
}

// TestRecentLooksAgainWhereItMatters has a volume with plenty of room be looked at now and then, one with less each
// time, and one that has refused a write at once.
func TestRecentLooksAgainWhereItMatters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const reserve = 1 << 20
		v := &volume{FS: vfs.NewMem(), free: 10 * reserve}
		d := newDisk(Config{FS: v, Dir: "data", Reserve: reserve})
		v.asked = 0
		room := func(want uint64, asked int) {
			t.Helper()
			if got := d.Recent(); got.Free != want || got.Reserve != reserve || v.asked != asked {
				t.Errorf("%d bytes of %d are free by %d looks, want %d by %d", got.Free, got.Total, v.asked, want,
					asked)
			}
		}
		room(10*reserve, 1)
		v.free = 9 * reserve
		room(10*reserve, 1)
		if got := d.Room(); got.Free != 9*reserve {
			t.Errorf("a look shows %d bytes", got.Free)
		}
		room(9*reserve, 2)
		v.free = 2*reserve - 1
		time.Sleep(lookEvery)
		room(2*reserve-1, 3)
		v.free = reserve
		room(reserve, 4)
		v.free = 10 * reserve
		room(10*reserve, 5)
		d.refused()
		room(0, 6)
	})
}
