package metrics

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
)

const (
	// maxCodes is how many error codes are counted by name, in a minute and in everything that is added up from
	// minutes. The others together are Other. The contracts have more, but few of them in any one minute.
	maxCodes = 24
	// maxCode is the longest error code, in bytes; the longest of the contracts has 40.
	maxCode = 64
)

// Other is the name under which errors are counted whose codes are too many, or are not words.
const Other = "other"

// Check is what a customer's key has answered when it was asked.
type Check byte

// The answers of a key.
const (
	CheckOK         Check = iota // it can be used
	CheckRefused                 // it may not be used, or another key answered in its place
	CheckUnanswered              // no answer, or one from which nothing follows
	checks
)

// gauge is a value that is sampled at the end of a minute. Of several minutes the largest counts.
type gauge byte

const (
	galleryBytes gauge = iota // memory of galleries
	diskUsed                  // bytes of the data's volume that are in use, by whatever program
	diskTotal                 // bytes of that volume
	gauges
)

// figures is what was counted and sampled in a span of time, of one resource or of the instance. The zero value is that
// of a span in which nothing happened.
type figures struct {
	requests uint64 // answered
	failed   uint64 // of requests, those answered with a status of 500 or above
	codes    []codeCount
	latency  histogram
	checks   [checks]uint64
	gauges   [gauges]uint64
}

// codeCount is how often an error code was answered. A figures value has each code once, sorted, and at most maxCodes
// besides Other.
type codeCount struct {
	code string
	n    uint64
}

// observe counts a request.
func (f *figures) observe(o Observation, bucket int) {
	f.requests++
	f.latency[bucket]++
	if o.Status >= 500 {
		f.failed++
	}
	if o.Status >= 400 {
		code := o.Code
		if code == "" {
			code = strconv.Itoa(o.Status)
		}
		f.addCode([]byte(code), 1)
	}
}

// addCode counts an error code n times more. It keeps a copy of the code.
func (f *figures) addCode(code []byte, n uint64) {
	i, found := slices.BinarySearchFunc(f.codes, code, byCode)
	if !found && string(code) != Other {
		named := len(f.codes)
		if _, has := slices.BinarySearchFunc(f.codes, []byte(Other), byCode); has {
			named--
		}
		if named >= maxCodes || !isWord(code) {
			f.addCode([]byte(Other), n)
			return
		}
	}
	if !found {
		f.codes = slices.Insert(f.codes, i, codeCount{code: string(code)})
	}
	f.codes[i].n = sum(f.codes[i].n, n)
}

func byCode(c codeCount, code []byte) int { return strings.Compare(c.code, string(code)) }

// isWord reports whether a code can be kept: codes are words of the contracts, and whatever else comes may be text from
// outside.
func isWord(code []byte) bool {
	if len(code) == 0 || len(code) > maxCode {
		return false
	}
	for _, c := range code {
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && (c < '0' || c > '9') && c != '.' && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// add adds the figures of another span.
func (f *figures) add(g *figures) {
	f.requests, f.failed = sum(f.requests, g.requests), sum(f.failed, g.failed)
	for _, c := range g.codes {
		f.addCode([]byte(c.code), c.n)
	}
	for i, n := range g.latency {
		f.latency[i] = sum(f.latency[i], n)
	}
	for i, n := range g.checks {
		f.checks[i] = sum(f.checks[i], n)
	}
	for i, v := range g.gauges {
		f.gauges[i] = max(f.gauges[i], v)
	}
}

// urgent reports whether the figures are written at the end of their minute. Of a resource without requests, whose key
// answers, they can wait for the end of the hour: at thousands of such resources, each minute would write all of them.
func (f *figures) urgent() bool {
	return f.requests > 0 || f.checks[CheckRefused] > 0 || f.checks[CheckUnanswered] > 0
}

// empty reports whether nothing was counted or sampled.
func (f *figures) empty() bool {
	return f.requests == 0 && f.checks == [checks]uint64{} && f.gauges == [gauges]uint64{}
}

// appendTo appends the encoding of the figures; docs/formats/metrics.md describes it.
func (f *figures) appendTo(b []byte) []byte {
	b = binary.AppendUvarint(b, f.requests)
	b = binary.AppendUvarint(b, f.failed)
	b = binary.AppendUvarint(b, uint64(len(f.codes)))
	for _, c := range f.codes {
		b = append(b, byte(len(c.code)))
		b = append(b, c.code...)
		b = binary.AppendUvarint(b, c.n)
	}
	b = f.latency.appendTo(b)
	for _, n := range f.checks {
		b = binary.AppendUvarint(b, n)
	}
	for _, v := range f.gauges {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

// addFrom adds figures that appendTo has written, from the whole of an encoding. It reports whether that was one; if
// not, f is of no use.
func (f *figures) addFrom(encoding []byte) bool {
	r := &reader{b: encoding}
	f.requests = sum(f.requests, r.number())
	f.failed = sum(f.failed, r.number())
	var before []byte
	for range r.count(maxCodes + 1) {
		code := r.text()
		n := r.number()
		if bytes.Compare(code, before) <= 0 || !isWord(code) || n == 0 {
			r.fail()
			break
		}
		f.addCode(code, n)
		before = code
	}
	f.latency.addFrom(r)
	for i := range f.checks {
		f.checks[i] = sum(f.checks[i], r.number())
	}
	for i := range f.gauges {
		f.gauges[i] = max(f.gauges[i], r.number())
	}
	return !r.bad && len(r.b) == 0
}

// reader reads an encoding. After a mistake it returns zeros.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) fail() { r.bad, r.b = true, nil }

// number reads a count in its shortest form.
func (r *reader) number() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || n > 1 && r.b[n-1] == 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

// count reads a number that is at most limit.
func (r *reader) count(limit int) int {
	n := r.number()
	if n > uint64(limit) {
		r.fail()
		return 0
	}
	return int(n)
}

// next reads n bytes.
func (r *reader) next(n int) []byte {
	if n > len(r.b) {
		r.fail()
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

// text reads a text of at most 255 bytes.
func (r *reader) text() []byte {
	length := r.next(1)
	if r.bad {
		return nil
	}
	return r.next(int(length[0]))
}
