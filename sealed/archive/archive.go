// Package archive keeps backups of a store's data in a folder, in which data that several backups have in common is
// stored once. Open an archive, or Find one that exists; Add, List, Verify, Read and Prune backups.
//
// It needs no key: what it keeps is sealed. A backup is cut into chunks at places that its own keys decide, so that a
// change moves no later cut; every chunk is a file named by its SHA-256. docs/formats/backup.md describes the folder.
package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/visage-face/visage/internal/durable"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/pipeline"
	"github.com/visage-face/visage/sealed/internal/stream"
)

// marker is the file that says that a folder is an archive, and of which format.
const (
	marker     = "visage-archive"
	markerHead = "visage archive " // a number and a newline follow, in every format
	form       = 2
	markerText = markerHead + "2\n"
	firstText  = "visage archive 1\n" // all its backups are streams of the first form
)

// What a caller decides on.
var (
	ErrNotArchive = errors.New("the folder is not an archive of backups")
	ErrNoBackup   = errors.New("there is no such backup in the archive")
	ErrDamaged    = errors.New("the archive is damaged")
	ErrBusy       = errors.New("a backup is being added to the archive, or old ones are being removed")
	ErrMalformed  = stream.ErrMalformed // what was to be added is no backup of data, or not all of one
)

// Archive is a folder of backups. Several processes may read it and add to it at once. On Linux, where the file system
// supports locks, Prune refuses while a backup is being added; elsewhere the caller must keep the two apart.
type Archive struct {
	dir    string
	first  bool                                       // its marker is of the first format still
	before func(step durable.Step, file string) error // a fault in a test; nil outside of tests
}

// Backup is one backup in an archive.
type Backup struct {
	Name     string    `json:"-"`
	Instance string    `json:"instance"`
	Taken    time.Time `json:"taken"`
	Rows     int64     `json:"rows"`
	Bytes    int64     `json:"bytes"` // of the whole stream
	Begin    []byte    `json:"begin"` // what comes before the first chunk
	End      []byte    `json:"end"`   // and after the last
	Chunks   []Chunk   `json:"chunks"`
	asNamed  bool      // its file has the sum that its name ends with
}

// sumInName is how many bytes of the SHA-256 of a backup's file its name ends with.
const sumInName = 4

// Chunk is a piece of a backup, in a file of its own.
type Chunk struct {
	SHA256 string `json:"sha256"` // hexadecimal
	Bytes  int64  `json:"bytes"`
}

// NewerError says that an archive, or a backup in it, has a format that this program does not know yet.
type NewerError = format.NewerError

// later returns the format that a marker names if it is a later one than ours, else zero.
func later(marker []byte) uint32 {
	number, found := strings.CutPrefix(string(marker), markerHead)
	n, err := strconv.ParseUint(strings.TrimSuffix(number, "\n"), 10, 32)
	if !found || err != nil || n <= form {
		return 0
	}
	return uint32(n)
}

// Find opens the archive in a folder. Errors: ErrNotArchive, also for a folder that is empty or not there; *NewerError.
func Find(dir string) (*Archive, error) {
	b, err := os.ReadFile(filepath.Join(dir, marker))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("open archive %s: %w: %w", dir, ErrNotArchive, err)
	case err != nil:
		return nil, fmt.Errorf("open archive: %w", err)
	case later(b) > 0:
		return nil, fmt.Errorf("open archive %s: %w", dir,
			&NewerError{What: "archive", Of: "archive", Format: later(b), Known: form})
	case string(b) != markerText && string(b) != firstText:
		return nil, fmt.Errorf("open archive %s: %w: it has another format", dir, ErrNotArchive)
	}
	return &Archive{dir: dir, first: string(b) == firstText}, nil
}

// Open opens the archive in a folder, and makes one in a folder that is empty or not there. Errors: ErrNotArchive,
// *NewerError.
func Open(dir string) (*Archive, error) {
	if a, err := Find(dir); !errors.Is(err, fs.ErrNotExist) {
		return a, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open archive: %w", err)
	}
	if len(entries) > 0 {
		return nil, fmt.Errorf("open archive %s: %w, and not empty", dir, ErrNotArchive)
	}
	for _, d := range []string{"", "chunks", "backups"} {
		if err := durable.MkdirAll(filepath.Join(dir, d)); err != nil {
			return nil, fmt.Errorf("make archive: %w", err)
		}
	}
	if err := durable.WriteFile(filepath.Join(dir, marker), []byte(markerText)); err != nil {
		return nil, fmt.Errorf("make archive: %w", err)
	}
	return &Archive{dir: dir}, nil
}

// mark makes the marker say that there may be backups of today's format, which programs that know the first alone would
// take for damage.
func (a *Archive) mark() error {
	if !a.first {
		return nil
	}
	if err := durable.WriteFile(filepath.Join(a.dir, marker), []byte(markerText)); err != nil {
		return fmt.Errorf("mark archive: %w", err)
	}
	a.first = false
	return nil
}

func (a *Archive) chunkPath(sum string) string { return filepath.Join(a.dir, "chunks", sum[:2], sum) }

func (a *Archive) backupPath(name string) string {
	return filepath.Join(a.dir, "backups", name+".json")
}

// List returns the backups, oldest first. Error: ErrDamaged.
func (a *Archive) List() ([]Backup, error) {
	entries, err := os.ReadDir(filepath.Join(a.dir, "backups"))
	if err != nil {
		return nil, fmt.Errorf("list backups: %w", err)
	}
	var all []Backup
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok {
			continue // a file that a crash left half written
		}
		b, err := a.Backup(name)
		if err != nil {
			return nil, err
		}
		all = append(all, b)
	}
	slices.SortFunc(all, func(a, b Backup) int {
		return firstNonZero(a.Taken.Compare(b.Taken), strings.Compare(a.Name, b.Name))
	})
	return all, nil
}

func firstNonZero(a, b int) int {
	if a != 0 {
		return a
	}
	return b
}

// Backup returns the backup of a name; "latest" is the newest. Errors: ErrNoBackup, ErrDamaged.
func (a *Archive) Backup(name string) (Backup, error) {
	if name == "latest" {
		all, err := a.List()
		if err != nil || len(all) == 0 {
			return Backup{}, errors.Join(err, ErrNoBackup)
		}
		return all[len(all)-1], nil
	}
	if name == "" || strings.ContainsAny(name, `/\`) || strings.HasPrefix(name, ".") {
		return Backup{}, fmt.Errorf("%w: %q", ErrNoBackup, name)
	}
	raw, err := os.ReadFile(a.backupPath(name))
	if errors.Is(err, fs.ErrNotExist) {
		return Backup{}, fmt.Errorf("%w: %q", ErrNoBackup, name)
	}
	if err != nil {
		return Backup{}, fmt.Errorf("read backup: %w", err)
	}
	b := Backup{}
	if err := json.Unmarshal(raw, &b); err != nil {
		return Backup{}, fmt.Errorf("backup %s: %w: %v", name, ErrDamaged, err)
	}
	b.Name = name
	sum := sha256.Sum256(raw)
	b.asNamed = strings.HasSuffix(name, "-"+hex.EncodeToString(sum[:sumInName]))
	for _, c := range b.Chunks {
		if sum, err := hex.DecodeString(c.SHA256); err != nil || len(sum) != sha256.Size || c.Bytes < 0 ||
			c.Bytes > stream.MaxSegment {
			return Backup{}, fmt.Errorf("backup %s: %w: a chunk called %q of %d bytes", name, ErrDamaged, c.SHA256,
				c.Bytes)
		}
	}
	return b, nil
}

// Read returns the stream of a backup. Every chunk is verified before any of it is returned; a damaged one is an
// ErrDamaged.
func (a *Archive) Read(b Backup) io.Reader {
	parts := []io.Reader{bytes.NewReader(b.Begin)}
	for _, c := range b.Chunks {
		before, after := c.around(b)
		parts = append(parts, bytes.NewReader(before), &lazyChunk{a: a, chunk: c}, bytes.NewReader(after))
	}
	return io.MultiReader(append(parts, bytes.NewReader(b.End))...)
}

// around returns what stands before and after a chunk in the stream of its backup.
func (c Chunk) around(b Backup) (before, after []byte) {
	sum, _ := hex.DecodeString(c.SHA256) // Backup has looked at it
	return stream.Around(b.Begin, c.Bytes, sum)
}

// lazyChunk reads its file when its turn comes, and lets it go when it was read.
type lazyChunk struct {
	a     *Archive
	chunk Chunk
	left  *bytes.Reader
}

// Read implements io.Reader.
func (l *lazyChunk) Read(p []byte) (int, error) {
	if l.left == nil {
		b, err := l.a.load(l.chunk, nil)
		if err != nil {
			return 0, err
		}
		l.left = bytes.NewReader(b)
	}
	n, err := l.left.Read(p)
	if err != nil {
		l.left.Reset(nil)
	}
	return n, err
}

// load reads a chunk into memory, or more if that is too small, and makes sure that it is what it is called.
func (a *Archive) load(c Chunk, memory []byte) ([]byte, error) {
	f, err := os.Open(a.chunkPath(c.SHA256))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: chunk %s is missing", ErrDamaged, c.SHA256)
	}
	if err != nil {
		return nil, fmt.Errorf("read chunk: %w", err)
	}
	defer f.Close()
	memory = slices.Grow(memory[:0], int(c.Bytes)+1)[:c.Bytes+1] // one more, to see a file that is too long
	n, err := io.ReadFull(f, memory)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("read chunk: %w", err)
	}
	if sum := sha256.Sum256(memory[:n]); int64(n) != c.Bytes || hex.EncodeToString(sum[:]) != c.SHA256 {
		return nil, fmt.Errorf("%w: the content of chunk %s does not match its name", ErrDamaged, c.SHA256)
	}
	return memory[:n], nil
}

// Verify reads every chunk of a backup, several at once, and compares them and the stream that they make with what the
// backup says. It needs no key; whether the instance wrote the backup shows when it is restored. Error: ErrDamaged.
func (a *Archive) Verify(ctx context.Context, b Backup) error {
	if !b.asNamed {
		return damaged(b, errors.New("its file does not match its name"))
	}
	in, err := stream.NewReader(bytes.NewReader(b.Begin))
	if _, newer := errors.AsType[*NewerError](err); newer {
		return fmt.Errorf("backup %s: %w", b.Name, err)
	}
	if err != nil {
		return damaged(b, err)
	}
	rows, total := int64(0), int64(len(b.Begin)+len(b.End))
	// piece is a chunk on its way: at first where it is, then how many rows it has.
	type piece struct {
		chunk Chunk
		rows  int64
	}
	workers := max(1, runtime.GOMAXPROCS(0))
	memory := make(chan []byte, workers)
	for range workers {
		memory <- nil
	}
	err = pipeline.Run(ctx, workers, func(put func(*piece) error) error {
		for _, c := range b.Chunks {
			if err := put(&piece{chunk: c}); err != nil {
				return err
			}
		}
		return nil
	}, func(p *piece) error {
		buffer := <-memory // there is one for each worker
		frames, err := a.load(p.chunk, buffer)
		if err == nil {
			p.rows, err = stream.CheckFrames(frames)
			buffer = frames
		}
		memory <- buffer
		return err
	}, func(p *piece) error {
		before, after := p.chunk.around(b)
		rows += p.rows
		total += int64(len(before)) + p.chunk.Bytes + int64(len(after))
		return nil
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return damaged(b, err)
	}
	if rows != b.Rows || total != b.Bytes || in.Header().Instance != b.Instance || !stream.IsEnding(b.End, rows) {
		return damaged(b, fmt.Errorf("%d rows in %d bytes, where it says %d in %d", rows, total, b.Rows, b.Bytes))
	}
	return nil
}

func damaged(b Backup, err error) error {
	if errors.Is(err, ErrDamaged) {
		return fmt.Errorf("backup %s: %w", b.Name, err)
	}
	return fmt.Errorf("backup %s: %w: %w", b.Name, ErrDamaged, err)
}

// Prune removes all but the newest backups, and the chunks that no backup has any more. It returns how many backups and
// bytes went. Error: ErrBusy, while a backup is being added.
func (a *Archive) Prune(keep int) (backups int, bytes int64, err error) {
	if keep < 1 {
		return 0, 0, errors.New("prune archive: at least one backup must be kept")
	}
	unlock, err := durable.LockDir(a.dir, false)
	if errors.Is(err, durable.ErrLocked) {
		err = ErrBusy
	}
	if err != nil {
		return 0, 0, fmt.Errorf("prune archive: %w", err)
	}
	defer unlock()
	all, err := a.List()
	if err != nil {
		return 0, 0, fmt.Errorf("prune archive: %w", err)
	}
	gone := all[:max(0, len(all)-keep)]
	for _, b := range gone {
		if err := durable.Remove(a.backupPath(b.Name)); err != nil {
			return backups, 0, fmt.Errorf("prune archive: %w", err)
		}
		backups++
	}
	needed := map[string]bool{}
	for _, b := range all[len(gone):] {
		for _, c := range b.Chunks {
			needed[c.SHA256] = true
		}
	}
	err = filepath.WalkDir(filepath.Join(a.dir, "chunks"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || needed[d.Name()] {
			return err
		}
		info, err := d.Info()
		if err == nil {
			bytes += info.Size()
			err = os.Remove(path) // that it is gone need not survive a power cut: the next Prune removes it
		}
		return err
	})
	if err != nil {
		return backups, bytes, fmt.Errorf("prune archive: %w", err)
	}
	return backups, bytes, nil
}
