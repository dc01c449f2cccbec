//go:build !linux && !darwin

package arena

func pageSize() int { return 4096 }

// mapPages falls back on the heap where we know no better: wiped on Free, but neither locked nor kept out of dumps.
func mapPages(size int) ([]byte, bool, error) { return make([]byte, size), false, nil }

func unmapPages([]byte) {}
