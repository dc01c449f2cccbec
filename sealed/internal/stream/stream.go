// Package stream is how rows travel between a store and its backups: one after the other, in the order of their keys, with a
// code at the end that only the instance can make.
//
// docs/formats/backup.md describes it byte by byte.
package stream

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"runtime"
	"time"
)

// Content says what a stream holds.
type Content string

// The contents of streams.
const (
	Data    Content = "data"    // records and logs: noise without a keyring
	Keyring Content = "keyring" // everything else, and the epoch keys: small, and to be kept apart from the data
)

// Header begins a stream. Nothing of it is secret.
type Header struct {
	Content  Content   `json:"content"`
	Instance string    `json:"instance"`
	Taken    time.Time `json:"taken"`
}

// Frame is one row, or the end.
type Frame struct {
	Kind  byte
	Key   []byte // of an epoch key: space 16, epoch u32
	Value []byte
}

// The kinds of frames.
const (
	End      byte = 0
	Row      byte = 1
	EpochKey byte = 2
)

// Total is what a stream was found to hold.
type Total struct {
	Rows  int64 `json:"rows"`
	Bytes int64 `json:"bytes"` // of the whole stream
}

// ErrMalformed says that bytes are no stream, or not all of one.
var ErrMalformed = errors.New("not a backup stream, or not all of one")

// ErrNotAuthentic says that a stream was changed, or made by another instance.
var ErrNotAuthentic = errors.New("the stream was changed, or another instance made it")

const (
	magic = "VISAGE BACKUP 1\n"

	maxHeader = 1 << 10
	maxKey    = 256
	maxValue  = 2 << 20 // more than the largest record with its seal
)

// Writer writes a stream.
type Writer struct {
	out   *bufio.Writer
	sum   hash.Hash
	code  hash.Hash // over the sum of everything
	total Total
	err   error
}

// polite lets everybody who waits for a processor go first after each piece of a stream, which nobody waits for.
type polite struct{ w io.Writer }

func (p polite) Write(b []byte) (int, error) {
	n, err := p.w.Write(b)
	runtime.Gosched()
	return n, err
}

// NewWriter begins a stream. key is the instance's, for streams of this content.
func NewWriter(w io.Writer, key []byte, h Header) (*Writer, error) {
	b, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	s := &Writer{sum: sha256.New(), code: hmac.New(sha256.New, key), out: bufio.NewWriterSize(polite{w}, 32<<10)}
	s.write([]byte(magic))
	s.write(binary.BigEndian.AppendUint32(nil, uint32(len(b))))
	s.write(b)
	return s, s.err
}

func (s *Writer) write(b []byte) {
	if s.err != nil {
		return
	}
	s.sum.Write(b)
	s.total.Bytes += int64(len(b))
	_, s.err = s.out.Write(b)
}

// Add appends a frame.
func (s *Writer) Add(f Frame) error {
	if len(f.Key) > maxKey || len(f.Value) > maxValue {
		return fmt.Errorf("a row of %d and %d bytes does not fit into a backup", len(f.Key), len(f.Value))
	}
	var head [1 + 2*binary.MaxVarintLen64]byte
	s.write(appendLengths(head[:0], f))
	s.write(f.Key)
	s.write(f.Value)
	s.total.Rows++
	return s.err
}

func appendLengths(b []byte, f Frame) []byte {
	b = append(b, f.Kind)
	b = binary.AppendUvarint(b, uint64(len(f.Key)))
	return binary.AppendUvarint(b, uint64(len(f.Value)))
}

// AppendFrame appends the one form that a frame has in a stream.
func AppendFrame(b []byte, f Frame) []byte {
	return append(append(appendLengths(b, f), f.Key...), f.Value...)
}

// Close ends the stream.
func (s *Writer) Close() (Total, error) {
	b := binary.BigEndian.AppendUint64([]byte{End}, uint64(s.total.Rows))
	s.write(b)
	s.code.Write(s.sum.Sum(nil))
	s.write(s.code.Sum(nil))
	if s.err == nil {
		s.err = s.out.Flush()
	}
	return s.total, s.err
}

// Reader reads a stream. It is for one goroutine.
type Reader struct {
	in    *bufio.Reader
	sum   hash.Hash
	begin []byte
	head  Header
	total Total
	frame Frame

	digest, code []byte // of everything before the code, and the code; known at the end
}

// NewReader reads the beginning of a stream. Error: ErrMalformed, and what r says.
func NewReader(r io.Reader) (*Reader, error) {
	s := &Reader{in: bufio.NewReaderSize(r, 1<<20), sum: sha256.New()}
	var b [len(magic) + 4]byte
	if err := s.read(b[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(b[len(magic):])
	if string(b[:len(magic)]) != magic || n > maxHeader {
		return nil, ErrMalformed
	}
	head := make([]byte, n)
	if err := s.read(head); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(head, &s.head); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	if s.head.Content != Data && s.head.Content != Keyring {
		return nil, fmt.Errorf("%w: it holds %q", ErrMalformed, s.head.Content)
	}
	s.begin = append(b[:], head...)
	return s, nil
}

// Header returns what the stream says it is. Nothing of it is proven before Check.
func (s *Reader) Header() Header { return s.head }

// read fills b; an end before that is a malformed stream.
func (s *Reader) read(b []byte) error {
	if _, err := io.ReadFull(s.in, b); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("%w: it ends too early", ErrMalformed)
		}
		return err
	}
	s.sum.Write(b)
	s.total.Bytes += int64(len(b))
	return nil
}

func (s *Reader) length(most uint64) (int, error) {
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

// Next returns the next frame, which is valid until the call after it. After the last it is a frame of kind End, and what
// follows in the reader was not looked at. Error: ErrMalformed, and what the reader says.
func (s *Reader) Next() (Frame, error) {
	var kind [1]byte
	if err := s.read(kind[:]); err != nil {
		return Frame{}, err
	}
	s.frame.Kind = kind[0]
	switch kind[0] {
	case End:
		return Frame{}, s.end()
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
	if err := s.read(s.frame.Value); err != nil {
		return Frame{}, err
	}
	s.total.Rows++
	return s.frame, nil
}

func sized(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	return b[:n]
}

func (s *Reader) end() error {
	var n [8]byte
	if err := s.read(n[:]); err != nil {
		return err
	}
	if rows := binary.BigEndian.Uint64(n[:]); rows != uint64(s.total.Rows) {
		return fmt.Errorf("%w: %d rows, where it says %d", ErrMalformed, s.total.Rows, rows)
	}
	s.digest = s.sum.Sum(nil)
	code := make([]byte, sha256.Size)
	if err := s.read(code); err != nil {
		return err
	}
	s.code = code
	return nil
}

// Beginning returns the bytes before the first frame.
func (s *Reader) Beginning() []byte { return s.begin }

// Ending returns, after the last frame, the bytes that follow it.
func (s *Reader) Ending() []byte {
	return append(binary.BigEndian.AppendUint64([]byte{End}, uint64(s.total.Rows)), s.code...)
}

// Total returns what was read so far.
func (s *Reader) Total() Total { return s.total }

// Check says, after the last frame, whether the instance with this key wrote exactly what was read. Error: ErrNotAuthentic.
func (s *Reader) Check(key []byte) error {
	if s.code == nil {
		return fmt.Errorf("%w: its end was not read", ErrMalformed)
	}
	m := hmac.New(sha256.New, key)
	m.Write(s.digest)
	if !hmac.Equal(m.Sum(nil), s.code) {
		return ErrNotAuthentic
	}
	return nil
}
