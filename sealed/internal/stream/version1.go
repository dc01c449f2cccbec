package stream

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
)

// firstMagic begins streams of the form before today's: without segments, and with a code over all their bytes. Nothing
// writes it any more.
const firstMagic = "VISAGE BACKUP 1\n"

// firstForm reads the rest of such a stream.
type firstForm struct {
	in    *bufio.Reader
	sum   hash.Hash // over everything before the code
	bytes int64
	frame Frame

	rows int64 // as the end says
	code []byte
}

func newFirstForm(in io.Reader, begin []byte) *firstForm {
	s := &firstForm{in: bufio.NewReaderSize(in, 1<<20), sum: sha256.New(), bytes: int64(len(begin))}
	s.sum.Write(begin)
	return s
}

// segments cuts the frames as a writer of today's form does.
func (s *firstForm) segments(used pool, put func(*Segment) error) error {
	g := &Segment{memory: used.get()}
	for {
		f, err := s.next()
		if err != nil {
			return err
		}
		before := len(g.memory)
		if f.Kind != End {
			g.memory = AppendFrame(g.memory, f)
		}
		g.Frames = g.memory
		if before > 0 && f.Kind == End || f.Kind != End && cuts(len(g.memory), f, len(g.memory)-before) {
			if err := put(g); err != nil {
				return err
			}
			g = &Segment{memory: used.get()}
		}
		if f.Kind == End {
			return nil
		}
	}
}

// read fills b; an end before that is a malformed stream.
func (s *firstForm) read(b []byte) error {
	if _, err := io.ReadFull(s.in, b); err != nil {
		return tooEarly(err)
	}
	s.sum.Write(b)
	s.bytes += int64(len(b))
	return nil
}

func (s *firstForm) length(most uint64) (int, error) {
	var b [1]byte
	var n uint64
	for shift := 0; shift < 35; shift += 7 {
		if err := s.read(b[:]); err != nil {
			return 0, err
		}
		if n |= uint64(b[0]&0x7f) << shift; b[0] < 0x80 {
			if n > most || shift > 0 && b[0] == 0 {
				break
			}
			return int(n), nil
		}
	}
	return 0, fmt.Errorf("%w: a length is out of bounds", ErrMalformed)
}

// next returns the next frame, which is valid until the call after it. After the last it is a frame of kind End.
func (s *firstForm) next() (Frame, error) {
	var kind [1]byte
	if err := s.read(kind[:]); err != nil {
		return Frame{}, err
	}
	s.frame.Kind = kind[0]
	switch kind[0] {
	case End:
		return Frame{Kind: End}, s.end()
	case Row, EpochKey:
	default:
		return Frame{}, fmt.Errorf("%w: a frame of kind %d", ErrMalformed, kind[0])
	}
	nk, err := s.length(maxKey)
	if err != nil {
		return Frame{}, err
	}
	nv, err := s.length(maxValue)
	if err != nil {
		return Frame{}, err
	}
	s.frame.Key, s.frame.Value = sized(s.frame.Key, nk), sized(s.frame.Value, nv)
	if err := s.read(s.frame.Key); err != nil {
		return Frame{}, err
	}
	return s.frame, s.read(s.frame.Value)
}

// end reads what follows the last frame. The code is not part of what it is of.
func (s *firstForm) end() error {
	var n [8]byte
	if err := s.read(n[:]); err != nil {
		return err
	}
	s.rows, s.code = int64(binary.BigEndian.Uint64(n[:])), make([]byte, sha256.Size)
	if _, err := io.ReadFull(s.in, s.code); err != nil {
		return tooEarly(err)
	}
	s.bytes += sha256.Size
	return nil
}

// want returns the code that the instance with this key gives what was read.
func (s *firstForm) want(key []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write(s.sum.Sum(nil))
	return m.Sum(nil)
}
