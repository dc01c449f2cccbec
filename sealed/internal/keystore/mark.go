package keystore

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/visage-face/visage/internal/durable"
	"github.com/visage-face/visage/internal/owned"
)

// Marks in a directory are files with numbers, the highest of which counts; an empty one says that there is none. Each
// is put under a number that is not taken, as a whole: so of several processes that replace the same mark one succeeds,
// also on a network file system, and nobody needs a lock.

// maxMark bounds the file of a mark, in bytes; it has a few hundred.
const maxMark = 4 << 10

// Mark implements Marks.
func (d *Directory) Mark(context.Context) (mark []byte, err error) {
	defer d.tell(&err)
	mark, _, err = d.mark()
	if err == nil && mark == nil {
		err = fmt.Errorf("%w: no mark in %s", ErrNotFound, d.marks)
	}
	return mark, err
}

// mark returns the mark, nil if there is none, and its number.
func (d *Directory) mark() (mark []byte, number uint64, err error) {
	const tries = 100 // somebody who replaces it removes the file that was listed
	for range tries {
		if number, err = d.newestMark(); err != nil || number == 0 {
			return nil, 0, err
		}
		mark, err = owned.ReadSecret(d.markFile(number), maxMark)
		if err == nil && len(mark) == 0 {
			mark = nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return mark, number, err
}

func (d *Directory) markFile(number uint64) string {
	return filepath.Join(d.marks, strconv.FormatUint(number, 10))
}

// newestMark returns the number of the newest mark; zero: there was never one.
func (d *Directory) newestMark() (newest uint64, err error) {
	entries, err := os.ReadDir(d.marks)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	for _, e := range entries {
		if n, err := strconv.ParseUint(e.Name(), 10, 64); err == nil {
			newest = max(newest, n)
		}
	}
	if newest > 0 {
		d.marked.Store(true)
	}
	return newest, err
}

// SetMark implements Marks.
func (d *Directory) SetMark(_ context.Context, from, to []byte) (err error) {
	defer d.tell(&err)
	now, number, err := d.mark()
	if err != nil {
		return err
	}
	changed := fmt.Errorf("%w: the mark in %s", ErrChanged, d.marks)
	if !bytes.Equal(now, from) {
		return changed
	}
	if !d.marked.Load() {
		if err := durable.MkdirAll(d.marks); err != nil {
			return fmt.Errorf("make the directory of the mark: %w", err)
		}
	}
	next := filepath.Join(d.marks, ".new-"+rand.Text())
	if err := durable.WriteFile(next, to); err != nil {
		return fmt.Errorf("write the mark: %w", err)
	}
	err = os.Link(next, d.markFile(number+1))
	if errors.Is(err, fs.ErrExist) {
		err = changed
	}
	if err = errors.Join(err, os.Remove(next)); err == nil {
		err = durable.SyncDir(d.marks)
	}
	if err != nil {
		return err
	}
	// A process that was paused since it read the mark may have taken a number that was free once more.
	if newest, err := d.newestMark(); err != nil || newest > number+1 {
		return errors.Join(err, changed, durable.Remove(d.markFile(number+1)))
	}
	entries, err := os.ReadDir(d.marks)
	for _, e := range entries {
		old, notNumber := strconv.ParseUint(e.Name(), 10, 64)
		if notNumber == nil && old <= number {
			err = errors.Join(err, durable.Remove(filepath.Join(d.marks, e.Name())))
		}
	}
	return err
}
