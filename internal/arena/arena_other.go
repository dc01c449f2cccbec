//go:build !linux && !darwin

package arena

func pageSize() int { return 4096 }

// mapPages uses the heap on other systems: wiped on Free, but neither locked nor kept out of dumps.
func mapPages(size int) ([]byte, bool, error) { return make([]byte, size), false, nil }

func unmapPages([]byte) {}
