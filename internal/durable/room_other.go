//go:build !linux

package durable

import "errors"

// Room returns how many bytes the volume of a path has free for this process, and how many it has in all. On this
// system it always fails.
func Room(string) (free, total uint64, err error) { return 0, 0, errors.ErrUnsupported }
