package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/visage-face/visage/internal/durable"
	"github.com/visage-face/visage/sealed/internal/stream"
)

const (
	// cutMask makes a chunk end after one row in 4,096, by the hash of its key.
	cutMask = 1<<12 - 1
	// softChunk ends a chunk whatever its keys are.
	softChunk = 8 << 20
	// maxChunk is what a chunk can have at most: one row more than softChunk.
	maxChunk = softChunk + 4<<20
)

// Added is what adding a backup came to.
type Added struct {
	Backup
	NewChunks int
	NewBytes  int64
}

// Add reads a backup of data to its end and keeps it. Each new chunk is read back after it was written; the backup is listed when everything of it is
// on the disk, and not before. An interrupted Add leaves chunks that the next one uses, or Prune removes. Error: ErrMalformed.
func (a *Archive) Add(ctx context.Context, r io.Reader) (Added, error) {
	in, err := stream.NewReader(r)
	if err != nil {
		return Added{}, fmt.Errorf("add backup: %w", err)
	}
	head := in.Header()
	if head.Content != stream.Data {
		return Added{}, fmt.Errorf("add backup: %w: it is a %s; archives keep data, and keys are kept apart from it", ErrMalformed, head.Content)
	}
	out := a.newCutter(ctx)
	err = out.cut(ctx, in)
	if waited := out.wait(); err == nil {
		err = waited
	}
	if err == nil {
		err = out.settle()
	}
	if err != nil {
		return Added{}, fmt.Errorf("add backup: %w", err)
	}
	total := in.Total()
	b := Backup{
		Instance: head.Instance, Taken: head.Taken, Rows: total.Rows, Bytes: total.Bytes,
		Begin: in.Beginning(), End: in.Ending(), Chunks: out.chunks,
	}
	raw, err := json.Marshal(b)
	if err != nil {
		return Added{}, fmt.Errorf("add backup: %w", err)
	}
	sum := sha256.Sum256(raw)
	b.Name = head.Taken.UTC().Format("20060102T150405Z") + "-" + hex.EncodeToString(sum[:4])
	if err := durable.WriteFile(a.backupPath(b.Name), raw); err != nil {
		return Added{}, fmt.Errorf("add backup: %w", err)
	}
	return Added{Backup: b, NewChunks: out.newChunks, NewBytes: out.newBytes}, nil
}

// cutter cuts a stream into chunks, which a few goroutines write.
type cutter struct {
	a      *Archive
	chunks []Chunk // in order; each writer fills in its own
	work   chan piece
	all    sync.WaitGroup

	mu        sync.Mutex          // guards all below and the elements of chunks
	folders   map[string]bool     // of chunks, whose names are not durable yet
	prepared  []*durable.Prepared // chunks that are written and not in place
	newChunks int
	newBytes  int64
	failed    error
}

type piece struct {
	index int
	data  []byte
}

func (a *Archive) newCutter(ctx context.Context) *cutter {
	c := &cutter{a: a, work: make(chan piece, 1), folders: map[string]bool{}}
	for range writers {
		c.all.Go(func() {
			for p := range c.work {
				c.finish(p, ctx)
			}
		})
	}
	return c
}

// writers is how many chunks are written at once. They wait for the disk, not for processors.
const writers = 8

// together is how many chunks are put in place at once: the disk is waited for as often.
const together = 32

// place puts chunks in place.
func (c *cutter) place(all []*durable.Prepared) {
	err := durable.Place(all...)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed == nil {
		c.failed = err
	}
}

// settle makes the names of the chunks durable.
func (c *cutter) settle() error {
	if err := durable.SyncDir(filepath.Join(c.a.dir, "chunks")); err != nil {
		return err
	}
	var all errgroup.Group
	all.SetLimit(writers)
	for folder := range c.folders {
		all.Go(func() error { return durable.SyncDir(folder) })
	}
	return all.Wait()
}

// wait returns when everything is written.
func (c *cutter) wait() error {
	close(c.work)
	c.all.Wait()
	c.place(c.prepared)
	return c.failed
}

func (c *cutter) cut(ctx context.Context, in *stream.Reader) error {
	var data []byte
	flush := func() error {
		if len(data) == 0 {
			return nil
		}
		c.mu.Lock()
		c.chunks = append(c.chunks, Chunk{})
		index, failed := len(c.chunks)-1, c.failed
		c.mu.Unlock()
		if failed != nil {
			return failed
		}
		select {
		case c.work <- piece{index, data}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		data = make([]byte, 0, len(data))
		return nil
	}
	for {
		f, err := in.Next()
		if err != nil {
			return err
		}
		if f.Kind == stream.End {
			return flush()
		}
		data = stream.AppendFrame(data, f)
		h := fnv.New32a()
		h.Write(f.Key)
		if h.Sum32()&cutMask == 0 || len(data) >= softChunk {
			if err := flush(); err != nil {
				return err
			}
		}
	}
}

func (c *cutter) finish(p piece, ctx context.Context) {
	sum := sha256.Sum256(p.data)
	chunk := Chunk{SHA256: hex.EncodeToString(sum[:]), Bytes: int64(len(p.data))}
	var file *durable.Prepared // nil: it is there already
	err := context.Cause(ctx)
	if err == nil {
		file, err = c.a.prepare(chunk, p.data)
	}
	if all := c.done(p.index, chunk, file, err); len(all) > 0 {
		c.place(all)
	}
}

// done notes a chunk, and returns the files to be put in place when there are enough.
func (c *cutter) done(index int, chunk Chunk, file *durable.Prepared, err error) (all []*durable.Prepared) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.chunks[index] = chunk
	c.folders[filepath.Dir(c.a.chunkPath(chunk.SHA256))] = true // also of a chunk that an interrupted Add has left
	if c.failed == nil {
		c.failed = err
	}
	if file == nil {
		return nil
	}
	c.newChunks++
	c.newBytes += chunk.Bytes
	if c.prepared = append(c.prepared, file); len(c.prepared) >= together {
		all, c.prepared = c.prepared, nil
	}
	return all
}

// prepare writes a chunk that is not there yet, and reads it back.
func (a *Archive) prepare(chunk Chunk, data []byte) (*durable.Prepared, error) {
	path := a.chunkPath(chunk.SHA256)
	if info, err := os.Stat(path); err == nil && info.Size() == chunk.Bytes {
		return nil, nil // its name vouches for it; Verify reads it
	}
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	file, err := durable.Prepare(path, data)
	if err != nil {
		return nil, err
	}
	written, err := file.Read()
	if err == nil && !bytes.Equal(written, data) {
		err = fmt.Errorf("%w: chunk %s is not what was written", ErrDamaged, chunk.SHA256)
	}
	if err != nil {
		file.Discard()
		return nil, fmt.Errorf("read back what was written: %w", err)
	}
	return file, nil
}
