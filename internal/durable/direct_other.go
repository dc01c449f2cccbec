//go:build !linux

package durable

import "os"

const directBlock = 4 << 10

func direct(*os.File, bool) bool { return false }

func isUnaligned(error) bool { return false }

func forget(*os.File) {}
