package archive

import (
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
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/visage-face/visage/internal/durable"
	"github.com/visage-face/visage/sealed/internal/stream"
)

// Added is the result of adding a backup.
type Added struct {
	Backup
	NewChunks int
	NewBytes  int64
}

// Add reads a backup of data to its end and keeps it. Each chunk is read back from the disk: a new one after it was
// written, and one that is there already to see that it still is what it was; if not, it is written again. The backup
// is listed when everything of it is on the disk, and not before. An interrupted Add leaves chunks that the next one
// uses, or Prune removes. Error: ErrMalformed.
func (a *Archive) Add(ctx context.Context, r io.Reader) (Added, error) {
	in, err := stream.NewReader(r)
	if err != nil {
		return Added{}, fmt.Errorf("add backup: %w", err)
	}
	head := in.Header()
	if head.Content != stream.Data {
		return Added{}, fmt.Errorf("add backup: %w: it is a %s; archives keep data, and keys are kept apart from it",
			ErrMalformed, head.Content)
	}
	unlock, err := a.share(ctx)
	if err != nil {
		return Added{}, fmt.Errorf("add backup: %w", err)
	}
	defer unlock()
	var added Added
	var all sync.Mutex // guards the counts, which workers add to
	folders := map[string]bool{}
	readBack := make(chan []byte, writers) // memory for each of them
	for range writers {
		readBack <- nil
	}
	err = in.Each(ctx, writers, func(g *stream.Segment) error {
		memory := <-readBack
		if memory == nil {
			memory = make([]byte, durable.ReadPiece)
		}
		isNew, err := a.store(ctx, chunkOf(g), g.Frames, memory)
		readBack <- memory
		if err == nil && isNew {
			all.Lock()
			defer all.Unlock()
			added.NewChunks++
			added.NewBytes += int64(len(g.Frames))
		}
		return err
	}, func(g *stream.Segment) error {
		c := chunkOf(g)
		added.Chunks = append(added.Chunks, c)
		folders[filepath.Dir(a.chunkPath(c.SHA256))] = true // also of a chunk that an interrupted Add has left
		return nil
	})
	if err == nil {
		err = a.settle(folders)
	}
	if err != nil {
		return Added{}, fmt.Errorf("add backup: %w", err)
	}
	total := in.Total()
	b := &added.Backup
	b.Instance, b.Taken, b.Rows, b.Bytes = head.Instance, head.Taken, total.Rows, total.Bytes
	b.Begin, b.End = in.Beginning(), in.Ending()
	if err := a.mark(); err != nil {
		return Added{}, fmt.Errorf("add backup: %w", err)
	}
	raw, err := json.Marshal(b)
	if err != nil {
		return Added{}, fmt.Errorf("add backup: %w", err)
	}
	sum := sha256.Sum256(raw)
	b.Name = head.Taken.UTC().Format("20060102T150405Z") + "-" + hex.EncodeToString(sum[:sumInName])
	b.asNamed = true
	if err := durable.WriteFile(a.backupPath(b.Name), raw); err != nil {
		return Added{}, fmt.Errorf("add backup: %w", err)
	}
	return added, nil
}

// share keeps Prune away from chunks that no backup has yet. It waits for one that is at work.
func (a *Archive) share(ctx context.Context) (unlock func(), err error) {
	for {
		unlock, err := durable.LockDir(a.dir, true)
		if !errors.Is(err, durable.ErrLocked) {
			return unlock, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(lookAgain):
		}
	}
}

// lookAgain is how long Add waits between two looks whether Prune has ended.
const lookAgain = 100 * time.Millisecond

// writers is how many chunks are written at once. Each waits for the disk most of the time: with four, so do the
// processors. A chunk has some 5 MiB, 12 at most, and there are three more on their way.
const writers = 8

func chunkOf(g *stream.Segment) Chunk {
	return Chunk{SHA256: hex.EncodeToString(g.Sum[:]), Bytes: int64(len(g.Frames))}
}

// store writes a chunk that is not there, or not as it should be, and reports whether it did. A chunk gets its name
// when it is on the disk and was read back from there.
func (a *Archive) store(ctx context.Context, chunk Chunk, data, memory []byte) (isNew bool, err error) {
	path := a.chunkPath(chunk.SHA256)
	if durable.Holds(path, data, memory) {
		return false, nil // and its content was durable before it had its name
	}
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return false, err
	}
	err = durable.WriteVerified(path, data, memory, func(step durable.Step, file string) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if a.before != nil {
			return a.before(step, file)
		}
		return nil
	})
	if errors.Is(err, durable.ErrReadBack) {
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err == nil, err
}

// settle makes the names of the chunks in these folders durable.
func (a *Archive) settle(folders map[string]bool) error {
	if err := durable.SyncDir(filepath.Join(a.dir, "chunks")); err != nil {
		return err
	}
	var all errgroup.Group
	all.SetLimit(writers)
	for folder := range folders {
		all.Go(func() error { return durable.SyncDir(folder) })
	}
	return all.Wait()
}
