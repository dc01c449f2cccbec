package durable

import (
	"errors"
	"syscall"
)

// IsFull reports whether an error says that a volume, or the share of it that one may use, is full.
func IsFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }
