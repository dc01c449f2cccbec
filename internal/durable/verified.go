package durable

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// ErrReadBack says that the content read back from the disk is not the one that was written.
var ErrReadBack = errors.New("the content read back from the disk differs from what was written")

// Step is what WriteVerified does next.
type Step string

// The steps of WriteVerified, in their order.
const (
	StepWrite    Step = "write"
	StepSync     Step = "sync"
	StepReadBack Step = "read back"
	StepPlace    Step = "place"
)

// ReadPiece is a good size for the memory that is used to read back: large enough for a disk to work on several parts
// at once. It is a multiple of every block size.
const ReadPiece = 2 << 20

// WriteVerified makes or replaces the file at path with data, readable by its owner only, and reads it back before it
// gives it its name: from the disk, where the system lets it go around its cache, after the disk said that it has it.
// When it returns nil, the file's content survives a power cut, and its name does once SyncDir has returned for its
// directory. When it returns an error, the old file, if there was one, is as it was.
//
// It is read back into memory, which has one byte or more; ReadPiece of them are best. before is called before each
// step with the name that the file has meanwhile, and ends it all with an error. Error: ErrReadBack.
func WriteVerified(path string, data, memory []byte, before func(step Step, file string) error) error {
	f, err := create(path)
	if err != nil {
		return err
	}
	for _, s := range []struct {
		step Step
		do   func() error
	}{
		{StepWrite, func() error { return writeAround(f, data) }},
		{StepSync, func() error { defer forget(f); return f.Sync() }},
		{StepReadBack, func() error { return compare(f.Name(), data, memory) }},
		{StepPlace, func() error { return nil }},
	} {
		if err = before(s.step, f.Name()); err == nil {
			err = s.do()
		}
		if err != nil {
			err = fmt.Errorf("%s: %w", s.step, err)
			break
		}
	}
	return finish(f, path, err)
}

// writeAround writes around the system's cache as far as whole blocks go and the system supports it, and the rest as
// usual.
func writeAround(f *os.File, data []byte) error {
	whole := len(data) - len(data)%directBlock
	if whole > 0 && direct(f, true) {
		n, err := f.Write(data[:whole])
		direct(f, false)
		if data = data[n:]; err != nil && !isUnaligned(err) {
			return err
		}
	}
	_, err := f.Write(data)
	return err
}

// Holds reports whether the file at path holds exactly want. It is read from the disk, where the system lets it go
// around its cache, into memory as for WriteVerified. It is false for a file that does not exist or that the disk can
// no longer read.
func Holds(path string, want, memory []byte) bool {
	info, err := os.Stat(path)
	return err == nil && info.Size() == int64(len(want)) && compare(path, want, memory) == nil
}

// compare opens a file anew and compares its content with want.
func compare(name string, want, memory []byte) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	around := direct(f, true)
	if !around {
		forget(f)
	}
	for {
		n, err := f.Read(memory)
		if around && isUnaligned(err) { // after the last whole block, or at once
			around = direct(f, false)
			continue
		}
		if n > len(want) || !bytes.Equal(memory[:n], want[:n]) {
			return ErrReadBack
		}
		want = want[n:]
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if len(want) > 0 {
		return ErrReadBack
	}
	return nil
}
