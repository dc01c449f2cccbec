// Package stream writes and reads backups and keyrings: rows in segments, in the order of their keys, each segment with
// its SHA-256, and at the end an authentication code that only the instance can make.
//
// docs/formats/backup.md describes it byte by byte.
package stream

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
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
	Format   uint32    `json:"format,omitempty"` // of the store; zero: from before stores had one
	Since    string    `json:"since,omitempty"`  // the first version of the program that knows the format
	Root     uint32    `json:"root,omitempty"`   // the version of the root key that the code comes from, less one
}

// Frame is one row, or the end.
type Frame struct {
	Kind  byte
	Key   []byte // of an epoch key: space 16, epoch u32
	Value []byte
}

// The kinds of frames.
const (
	End      byte = 0 // in streams of the first form, where the frames end
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
	magicFirst = "VISAGE BACKUP " // a digit and a newline follow, in every form
	form       = 2
	magic      = magicFirst + "2\n"

	maxHeader = 1 << 10
	maxKey    = 256
	maxValue  = 2 << 20 // more than the largest record with its seal

	// Before and after the frames of a segment.
	segmentMark = 1
	segmentHead = 1 + 4 // the mark, and the length of the frames
	segmentTail = sha256.Size
	endMark     = 0
	endSize     = 8 + sha256.Size // after the mark: the number of frames, and the code
)

// Where segments end. What follows from the keys alone follows from them again next time, so that what did not change
// between two backups is in the same segments. On average one has 4 MiB, whatever the size of its rows.
const (
	minSegment  = 1 << 20 // none but the last is smaller
	meanSegment = 4 << 20
	fullSegment = 8 << 20 // ends whatever its keys are
	// MaxSegment is what a segment can have at most: one frame more than a full one.
	MaxSegment = fullSegment + 4<<20
)

// cuts reports whether a segment ends after a frame: the chance is in proportion to the frame's size, and decided by
// the end of its key, which is blinded in records and a counter in logs.
func cuts(size int, f Frame, frame int) bool {
	if size < minSegment {
		return false
	}
	if size >= fullSegment {
		return true
	}
	var last [8]byte
	copy(last[:], f.Key[max(0, len(f.Key)-8):])
	const odd = 0x9e3779b97f4a7c15 // 2^64 by the golden ratio: spreads counters
	return binary.BigEndian.Uint64(last[:])*odd>>32*(meanSegment-minSegment) < uint64(frame)<<32
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

// parse returns the frame that b begins with, and how many bytes it takes. It accepts the one form that AppendFrame
// gives it.
func parse(b []byte) (f Frame, n int, err error) {
	if len(b) == 0 || b[0] != Row && b[0] != EpochKey {
		return Frame{}, 0, fmt.Errorf("%w: there is no frame where one should be", ErrMalformed)
	}
	f.Kind, n = b[0], 1
	var size [2]int
	for i, most := range [...]uint64{maxKey, maxValue} {
		v, took := binary.Uvarint(b[n:])
		if took <= 0 || v > most || took > 1 && b[n+took-1] == 0 {
			return Frame{}, 0, fmt.Errorf("%w: a length is out of bounds", ErrMalformed)
		}
		size[i], n = int(v), n+took
	}
	if len(b)-n < size[0]+size[1] {
		return Frame{}, 0, fmt.Errorf("%w: a frame ends too early", ErrMalformed)
	}
	end := n + size[0] + size[1]
	f.Key, f.Value = b[n:n+size[0]:n+size[0]], b[n+size[0]:end:end]
	return f, end, nil
}

// Segment is a piece of a stream.
type Segment struct {
	Frames []byte // one after the other
	Rows   int64  // how many
	Sum    [sha256.Size]byte
	memory []byte // what Frames is in
}

// CheckFrames reads the frames of a segment and returns how many there are. Error: ErrMalformed.
func CheckFrames(frames []byte) (rows int64, err error) {
	for len(frames) > 0 {
		_, n, err := parse(frames)
		if err != nil {
			return 0, err
		}
		frames, rows = frames[n:], rows+1
	}
	return rows, nil
}

// sumFrames returns the SHA-256 of a segment's frames, and what CheckFrames does. It takes them in pieces that stay in
// a processor's own cache, so that they come from memory once.
func sumFrames(frames []byte) (sum [sha256.Size]byte, rows int64, err error) {
	h := sha256.New()
	for at, hashed := 0, 0; hashed < len(frames); {
		piece := frames[hashed:min(hashed+hashPiece, len(frames))]
		h.Write(piece)
		hashed += len(piece)
		for err == nil && at < hashed {
			var n int
			_, n, err = parse(frames[at:])
			at, rows = at+n, rows+1
		}
	}
	return [sha256.Size]byte(h.Sum(nil)), rows, err
}

// hashPiece is less than any processor of a server has for a cache of its own.
const hashPiece = 128 << 10

// All yields the frames of a segment that Reader.Each has handed out. They lie in the segment's memory.
func (s *Segment) All() iter.Seq[Frame] {
	return func(yield func(Frame) bool) {
		for b := s.Frames; len(b) > 0; {
			f, n, err := parse(b)
			if err != nil {
				panic("stream: the frames of a segment were not checked")
			}
			if b = b[n:]; !yield(f) {
				return
			}
		}
	}
}

// pool keeps the memory of segments for others. It never has more than are on their way.
type pool chan []byte

func (p pool) get() []byte {
	select {
	case b := <-p:
		return b[:0]
	default:
		return nil
	}
}

func (p pool) put(b []byte) {
	select {
	case p <- b:
	default:
	}
}

// code is what only the instance can make of a stream's beginning, the sums of its segments, and its end.
func code(key, begin, sums []byte, rows int64) []byte {
	m := hmac.New(sha256.New, key)
	m.Write(begin)
	m.Write(sums)
	m.Write(ending(rows))
	return m.Sum(nil)
}

func ending(rows int64) []byte { return binary.BigEndian.AppendUint64([]byte{endMark}, uint64(rows)) }

// IsEnding reports whether b is the end of a stream with so many rows. Whether its code is right only the instance can
// say.
func IsEnding(b []byte, rows int64) bool {
	return len(b) == 1+endSize && bytes.HasPrefix(b, ending(rows))
}

// Around returns what stands before and after the frames of a segment with this sum, in a stream that begins so.
func Around(begin []byte, frames int64, sum []byte) (before, after []byte) {
	if bytes.HasPrefix(begin, []byte(firstMagic)) {
		return nil, nil
	}
	return binary.BigEndian.AppendUint32([]byte{segmentMark}, uint32(frames)), sum
}
