package durable

import "syscall"

// minFiles is the least number of further files that a volume must have room for.
const minFiles = 16

// Room returns how many bytes the volume of a path has free for this process, and how many it has in all. A volume
// without room for minFiles files has none free.
func Room(path string) (free, total uint64, err error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(path, &s); err != nil {
		return 0, 0, err
	}
	unit := uint64(s.Frsize)
	free, total = unit*s.Bavail, unit*s.Blocks
	if s.Files > 0 && s.Ffree < minFiles { // some file systems have no limit, and report 0
		free = 0
	}
	return free, total, nil
}
