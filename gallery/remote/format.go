package remote

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"time"

	"github.com/visage-face/visage/cluster/peer"
	"github.com/visage-face/visage/gallery"
)

// The first bytes of requests and answers, the last of which is the version. Both sides know one version: replicas of
// two versions that differ in it pass each other over, and each collection is served by those that agree.
var (
	askMagic    = []byte("VSGQ\x01")
	answerMagic = []byte("VSGA\x01")
)

// Limits of a query, far above what the services ask.
const (
	MostProbes     = 64   // in one request; a search with more is sent in several
	MostK          = 1000 // candidates of each
	mostDim        = 2048
	mostCollection = 255 // bytes
	mostPatience   = time.Hour
)

// Partition is a part of a collection in one of its states.
type Partition struct {
	Collection string // 1 to 255 bytes
	Version    uint64 // which state; see gallery.Key
	Index      int    // which part
	Count      int    // of how many: a power of two
}

// Stamp says how much of a collection's history a search must have seen.
type Stamp struct {
	Bundle  uint64 // the sequence of the key bundle of the resource
	Changes uint64 // the change counter of the collection
}

// Query is a search of one partition. Its probes have equal lengths.
type Query struct {
	Partition
	Stamp
	gallery.Query
}

// Found is what a search found.
type Found struct {
	Stamp
	Faces      uint64 // how many were searched
	Candidates [][]gallery.Candidate
}

// requestID binds an answer to its request.
type requestID [16]byte

// ask is a request as it is sent.
type ask struct {
	instance peer.Instance
	id       requestID
	patience time.Duration // how long the caller waits
	query    Query
}

// errFormat says that bytes are not what this version writes.
var errFormat = errors.New("not in the format of this version")

const (
	askFixed       = 5 + 16 + 16 + 4 + 8 + 8 + 8 + 4 + 4 + 4 + 4 + 1 + 2 + 2 + 1
	answerFixed    = 5 + 16 + 16 + 8 + 8 + 8 + 4 + 4 + 8 + 2
	candidateBytes = 16 + 16 + 8 + 4
	// MostAskBytes bounds a request.
	mostAskBytes = askFixed + mostCollection + MostProbes*2*mostDim
)

// check refuses queries that no replica would answer.
func (q *Query) check() error {
	within := float64(q.Within)
	switch {
	case len(q.Collection) < 1 || len(q.Collection) > mostCollection:
		return fmt.Errorf("the name of a collection has 1 to %d bytes; got %d", mostCollection, len(q.Collection))
	case q.Count < 1 || q.Count > math.MaxInt32 || bits.OnesCount(uint(q.Count)) != 1:
		return fmt.Errorf("the number of partitions must be a power of two; got %d", q.Count)
	case q.Index < 0 || q.Index >= q.Count:
		return fmt.Errorf("partition %d is none of %d", q.Index, q.Count)
	case q.K < 1 || q.K > MostK:
		return fmt.Errorf("a search asks for 1 to %d candidates; got %d", MostK, q.K)
	case !(within >= 0 && within <= 2):
		return fmt.Errorf("a distance must be 0 to 2; got %g", within)
	case len(q.Probes) < 1 || len(q.Probes) > MostProbes:
		return fmt.Errorf("a request has 1 to %d probes; got %d", MostProbes, len(q.Probes))
	}
	size := len(q.Probes[0])
	if size < 2 || size%2 != 0 || size > 2*mostDim {
		return fmt.Errorf("a probe has %d bytes", size)
	}
	for _, p := range q.Probes {
		if len(p) != size {
			return errors.New("probes have different lengths")
		}
	}
	return nil
}

// encode returns the bytes of a request, whose query has been checked. They hold the probes: the caller clears them.
func (a *ask) encode() []byte {
	q := &a.query
	size := len(q.Probes[0])
	b := make([]byte, 0, askFixed+len(q.Collection)+len(q.Probes)*size) // never grows, which would leave a copy
	b = append(b, askMagic...)
	b = append(b, a.instance[:]...)
	b = append(b, a.id[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(min(a.patience, mostPatience).Milliseconds()))
	b = binary.BigEndian.AppendUint64(b, q.Bundle)
	b = binary.BigEndian.AppendUint64(b, q.Changes)
	b = binary.BigEndian.AppendUint64(b, q.Version)
	b = binary.BigEndian.AppendUint32(b, uint32(q.Index))
	b = binary.BigEndian.AppendUint32(b, uint32(q.Count))
	b = binary.BigEndian.AppendUint32(b, uint32(q.K))
	b = binary.BigEndian.AppendUint32(b, math.Float32bits(q.Within))
	var owner byte
	if q.ByOwner {
		owner = 1
	}
	b = append(b, owner)
	b = binary.BigEndian.AppendUint16(b, uint16(size/2))
	b = binary.BigEndian.AppendUint16(b, uint16(len(q.Probes)))
	b = append(b, byte(len(q.Collection)))
	b = append(b, q.Collection...)
	for _, p := range q.Probes {
		b = append(b, p...)
	}
	return b
}

// decodeAsk reads a request. The probes are parts of b.
func decodeAsk(b []byte) (ask, error) {
	r := reader{rest: b}
	var a ask
	q := &a.query
	if !bytes.Equal(r.take(len(askMagic)), askMagic) {
		return ask{}, fmt.Errorf("a request that is %w", errFormat)
	}
	copy(a.instance[:], r.take(len(a.instance)))
	copy(a.id[:], r.take(len(a.id)))
	a.patience = time.Duration(r.uint32()) * time.Millisecond
	q.Bundle, q.Changes, q.Version = r.uint64(), r.uint64(), r.uint64()
	q.Index, q.Count, q.K = int(r.uint32()), int(r.uint32()), int(r.uint32())
	q.Within = math.Float32frombits(r.uint32())
	owner := r.uint8()
	q.ByOwner = owner == 1
	size, probes := 2*int(r.uint16()), int(r.uint16())
	q.Collection = string(r.take(int(r.uint8())))
	if r.short || owner > 1 || a.patience > mostPatience || len(r.rest) != probes*size || probes > MostProbes {
		return ask{}, fmt.Errorf("a request that is %w", errFormat)
	}
	for range probes {
		q.Probes = append(q.Probes, gallery.Code(r.take(size)))
	}
	if err := q.check(); err != nil {
		return ask{}, fmt.Errorf("a request that is %w: %w", errFormat, err)
	}
	if math.Signbit(float64(q.Within)) {
		return ask{}, fmt.Errorf("a request that is %w: a distance of -0", errFormat)
	}
	return a, nil
}

// answer is an answer as it is sent.
type answer struct {
	instance     peer.Instance
	id           requestID
	version      uint64
	index, count int
	found        Found
}

// mostAnswerBytes is the size of the largest answer to a query.
func mostAnswerBytes(q *Query) int { return answerFixed + len(q.Probes)*(4+q.K*candidateBytes) }

func (a *answer) encode() []byte {
	size := answerFixed
	for _, c := range a.found.Candidates {
		size += 4 + len(c)*candidateBytes
	}
	b := make([]byte, 0, size)
	b = append(b, answerMagic...)
	b = append(b, a.instance[:]...)
	b = append(b, a.id[:]...)
	b = binary.BigEndian.AppendUint64(b, a.found.Bundle)
	b = binary.BigEndian.AppendUint64(b, a.found.Changes)
	b = binary.BigEndian.AppendUint64(b, a.version)
	b = binary.BigEndian.AppendUint32(b, uint32(a.index))
	b = binary.BigEndian.AppendUint32(b, uint32(a.count))
	b = binary.BigEndian.AppendUint64(b, a.found.Faces)
	b = binary.BigEndian.AppendUint16(b, uint16(len(a.found.Candidates)))
	for _, list := range a.found.Candidates {
		b = binary.BigEndian.AppendUint32(b, uint32(len(list)))
		for i := range list {
			b = append(b, list[i].ID[:]...)
			b = append(b, list[i].Owner[:]...)
			b = binary.BigEndian.AppendUint64(b, list[i].Order)
			b = binary.BigEndian.AppendUint32(b, math.Float32bits(list[i].Score))
		}
	}
	return b
}

// decodeAnswer reads an answer. It allocates no more than the bytes that are there need.
func decodeAnswer(b []byte) (answer, error) {
	r := reader{rest: b}
	var a answer
	if !bytes.Equal(r.take(len(answerMagic)), answerMagic) {
		return answer{}, fmt.Errorf("an answer that is %w", errFormat)
	}
	copy(a.instance[:], r.take(len(a.instance)))
	copy(a.id[:], r.take(len(a.id)))
	a.found.Bundle, a.found.Changes, a.version = r.uint64(), r.uint64(), r.uint64()
	a.index, a.count = int(r.uint32()), int(r.uint32())
	a.found.Faces = r.uint64()
	for range r.uint16() {
		n := int(r.uint32())
		if r.short || n > len(r.rest)/candidateBytes {
			return answer{}, fmt.Errorf("an answer that is %w", errFormat)
		}
		list := make([]gallery.Candidate, n)
		for i := range list {
			copy(list[i].ID[:], r.take(len(list[i].ID)))
			copy(list[i].Owner[:], r.take(len(list[i].Owner)))
			list[i].Order = r.uint64()
			list[i].Score = math.Float32frombits(r.uint32())
		}
		a.found.Candidates = append(a.found.Candidates, list)
	}
	if r.short || len(r.rest) > 0 {
		return answer{}, fmt.Errorf("an answer that is %w", errFormat)
	}
	return a, nil
}

// reader takes numbers and bytes from the front of a buffer. Beyond its end it returns zeros, and is short.
type reader struct {
	rest  []byte
	short bool
}

func (r *reader) take(n int) []byte {
	if n > len(r.rest) {
		r.short, r.rest = true, nil
		return nil
	}
	taken := r.rest[:n:n]
	r.rest = r.rest[n:]
	return taken
}

func (r *reader) number(bytes int) (n uint64) {
	for _, b := range r.take(bytes) {
		n = n<<8 | uint64(b)
	}
	return n
}

func (r *reader) uint8() uint8   { return uint8(r.number(1)) }
func (r *reader) uint16() uint16 { return uint16(r.number(2)) }
func (r *reader) uint32() uint32 { return uint32(r.number(4)) }
func (r *reader) uint64() uint64 { return r.number(8) }
