package stream

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"runtime"

	"github.com/visage-face/visage/sealed/internal/pipeline"
)

// piece is how much is written at once. After each, everybody who waits for a processor goes first: nobody waits for a
// backup.
const piece = 256 << 10

// ahead is how many segments that were written are kept for their memory: as many as there can be beside the one that
// is filled.
const ahead = 3

// polite writes in pieces.
type polite struct {
	to io.Writer
	n  int64
}

func (p *polite) write(b []byte) error {
	for len(b) > 0 {
		n, err := p.to.Write(b[:min(piece, len(b))])
		p.n += int64(n)
		if err != nil {
			return err
		}
		b = b[n:]
		runtime.Gosched()
	}
	return nil
}

// Write writes a stream of what fill adds. key is the instance's, for streams of this content. Keys and values are
// copied as they are added. add blocks while w is slow, and returns an error as soon as one ends the stream, which
// Write returns too.
func Write(
	ctx context.Context, w io.Writer, key []byte, h Header, fill func(add func(Frame) error) error,
) (Total, error) {
	head, err := json.Marshal(h)
	if err != nil {
		return Total{}, err
	}
	begin := append(binary.BigEndian.AppendUint32([]byte(magic), uint32(len(head))), head...)
	out := &polite{to: w}
	if err := out.write(begin); err != nil {
		return Total{}, err
	}
	var (
		rows int64
		sums []byte
		used = make(pool, ahead)
	)
	produce := func(put func(*Segment) error) error {
		memory := startSegment(used.get())
		cut := func() error {
			s := &Segment{Frames: memory[segmentHead:], memory: memory}
			memory = startSegment(used.get())
			return put(s)
		}
		err := fill(func(f Frame) error {
			if len(f.Key) > maxKey || len(f.Value) > maxValue {
				return fmt.Errorf("a row of %d and %d bytes does not fit into a backup", len(f.Key), len(f.Value))
			}
			before := len(memory)
			memory = AppendFrame(memory, f)
			rows++
			if cuts(len(memory)-segmentHead, f, len(memory)-before) {
				return cut()
			}
			return nil
		})
		if err == nil && len(memory) > segmentHead {
			err = cut()
		}
		return err
	}
	err = pipeline.Run(ctx, 1, produce, func(s *Segment) error {
		binary.BigEndian.PutUint32(s.memory[1:], uint32(len(s.Frames)))
		return nil
	}, func(s *Segment) error {
		// The sum comes last, so that a segment is hashed while it leaves.
		summed := make(chan [sha256.Size]byte, 1)
		go func() { summed <- sha256.Sum256(s.Frames) }()
		err := out.write(s.memory)
		s.Sum = <-summed
		if err == nil {
			sums = append(sums, s.Sum[:]...)
			err = out.write(s.Sum[:])
		}
		used.put(s.memory)
		return err
	})
	if err == nil {
		err = out.write(append(ending(rows), code(key, begin, sums, rows)...))
	}
	return Total{Rows: rows, Bytes: out.n}, err
}

// startSegment returns memory with room for what comes before the frames.
func startSegment(memory []byte) []byte {
	if memory == nil {
		memory = make([]byte, 0, meanSegment+meanSegment/2)
	}
	return append(memory, segmentMark, 0, 0, 0, 0)
}
