package stream

import (
	"context"
	"crypto/hmac"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/pipeline"
)

// Reader reads a stream: NewReader, then Each, then the rest.
type Reader struct {
	in    io.Reader
	first *firstForm // nil in a stream of today's form
	begin []byte
	head  Header
	total Total
	sums  []byte // of the segments
	code  []byte // nil before the end
}

// NewReader reads the beginning of a stream. Errors: ErrMalformed, *format.NewerError for a form to come, and what r
// says.
func NewReader(r io.Reader) (*Reader, error) {
	s := &Reader{in: r}
	s.begin = make([]byte, len(magic)+4, len(magic)+4+maxHeader)
	if err := s.read(s.begin); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(s.begin[len(magic):])
	found := string(s.begin[:len(magic)])
	if number, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(found, magicFirst))); err == nil &&
		number > form {
		return nil, &format.NewerError{What: "backup or keyring", Of: "stream", Format: uint32(number), Known: form}
	}
	if found != magic && found != firstMagic || n > maxHeader {
		return nil, ErrMalformed
	}
	s.begin = s.begin[:len(s.begin)+int(n)]
	head := s.begin[len(magic)+4:]
	if err := s.read(head); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(head, &s.head); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	if s.head.Content != Data && s.head.Content != Keyring {
		return nil, fmt.Errorf("%w: it holds %q", ErrMalformed, s.head.Content)
	}
	if found == firstMagic {
		s.first = newFirstForm(s.in, s.begin)
	}
	return s, nil
}

// Header returns what the stream says it is. Nothing of it is proven before Check.
func (s *Reader) Header() Header { return s.head }

// read fills b; an end before that is a malformed stream.
func (s *Reader) read(b []byte) error {
	n, err := io.ReadFull(s.in, b)
	s.total.Bytes += int64(n)
	return tooEarly(err)
}

func tooEarly(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends too early", ErrMalformed)
	}
	return err
}

// Each reads the stream to its end and hands out its segments: to work, so many at once, as soon as a segment was read
// and was found to be what its sum says; and then to next, in order and one at a time. A segment's memory is used again
// when next has returned. What follows the stream in the reader is not looked at. Errors: ErrMalformed, ctx's cause,
// and what the reader, work and next say.
func (s *Reader) Each(ctx context.Context, workers int, work, next func(*Segment) error) error {
	used := make(pool, 2*workers+2)
	produce := s.segments
	if s.first != nil {
		produce = s.first.segments
	}
	err := pipeline.Run(ctx, workers, func(put func(*Segment) error) error { return produce(used, put) },
		func(g *Segment) error {
			sum, rows, err := sumFrames(g.Frames)
			if s.first == nil && sum != g.Sum {
				return fmt.Errorf("%w: a segment is not what its sum says", ErrMalformed)
			}
			if err != nil {
				return err
			}
			g.Sum, g.Rows = sum, rows
			return work(g)
		}, func(g *Segment) error {
			s.total.Rows += g.Rows
			s.sums = append(s.sums, g.Sum[:]...)
			err := next(g)
			used.put(g.memory)
			return err
		})
	if err != nil {
		return err
	}
	var rows int64
	if s.first != nil {
		rows, s.code, s.total.Bytes = s.first.rows, s.first.code, s.first.bytes
	} else {
		var end [endSize]byte
		if err := s.read(end[:]); err != nil {
			return err
		}
		rows, s.code = int64(binary.BigEndian.Uint64(end[:])), end[8:]
	}
	if rows != s.total.Rows {
		s.code = nil
		return fmt.Errorf("%w: %d rows, where it says %d", ErrMalformed, s.total.Rows, rows)
	}
	return nil
}

// segments reads segments, up to the mark of the end.
func (s *Reader) segments(used pool, put func(*Segment) error) error {
	for {
		var head [segmentHead]byte
		if err := s.read(head[:1]); err != nil {
			return err
		}
		if head[0] == endMark {
			return nil
		}
		if err := s.read(head[1:]); err != nil {
			return err
		}
		n := binary.BigEndian.Uint32(head[1:])
		if head[0] != segmentMark || n == 0 || n > MaxSegment {
			return fmt.Errorf("%w: a segment of kind %d with %d bytes", ErrMalformed, head[0], n)
		}
		g := &Segment{memory: sized(used.get(), int(n)+segmentTail)}
		if err := s.read(g.memory); err != nil {
			return err
		}
		g.Frames, g.Sum = g.memory[:n:n], [segmentTail]byte(g.memory[n:])
		if err := put(g); err != nil {
			return err
		}
	}
}

func sized(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n, n+n/4)
	}
	return b[:n]
}

// Beginning returns the bytes before the first segment.
func (s *Reader) Beginning() []byte { return s.begin }

// Ending returns, after Each, the bytes after the last segment.
func (s *Reader) Ending() []byte { return append(ending(s.total.Rows), s.code...) }

// Total returns, after Each, what was read.
func (s *Reader) Total() Total { return s.total }

// Check says, after Each, whether the instance with this key wrote exactly what was read. Error: ErrNotAuthentic.
func (s *Reader) Check(key []byte) error {
	if s.code == nil {
		return fmt.Errorf("%w: its end was not read", ErrMalformed)
	}
	want := code(key, s.begin, s.sums, s.total.Rows)
	if s.first != nil {
		want = s.first.want(key)
	}
	if !hmac.Equal(want, s.code) {
		return ErrNotAuthentic
	}
	return nil
}
