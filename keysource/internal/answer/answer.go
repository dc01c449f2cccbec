// Package answer calls key stores over HTTP, and reads what they say, for sources whose stores speak JSON. It reads the
// authorities of their certificates.
package answer

import (
	"bytes"
	"encoding/json"
	"slices"
	"unicode/utf8"
)

// maxNesting exceeds the nesting of any answer of a key store, and maxFields the number of fields of an object in one:
// a key has one for each version.
const (
	maxNesting = 16
	maxFields  = 4096
)

// Unambiguous reports whether raw is one JSON value in which no object has a field twice, in whatever spelling:
// encoding/json ignores case, so that readers could disagree on such an answer.
func Unambiguous(raw []byte) bool {
	if !json.Valid(raw) {
		return false
	}
	r := reader{rest: raw}
	return r.value(0)
}

// reader reads a valid JSON value. It keeps no copy of it: answers hold keys.
type reader struct {
	rest  []byte
	names [][]byte // of the objects that it is in
}

// value reads a value, and reports whether no object in it has a field twice.
func (r *reader) value(depth int) bool {
	if depth > maxNesting {
		return false
	}
	switch r.peek() {
	case '{':
		return r.inside('}', func() bool { return r.field(depth) })
	case '[':
		return r.inside(']', func() bool { return r.value(depth + 1) })
	case '"':
		r.text()
	default: // a number, true, false or null
		end := bytes.IndexAny(r.rest, ",]} \t\r\n")
		if end < 0 {
			end = len(r.rest)
		}
		r.rest = r.rest[end:]
	}
	return true
}

// inside reads an array or an object up to its end, with each for what it holds.
func (r *reader) inside(end byte, each func() bool) bool {
	outer := r.names
	r.names = r.names[len(r.names):]
	defer func() { r.names = outer }()
	for r.rest = r.rest[1:]; r.peek() != end; {
		if r.rest[0] == ',' {
			r.rest = r.rest[1:]
		} else if !each() {
			return false
		}
	}
	r.rest = r.rest[1:]
	return true
}

// field reads a field whose name the object does not have yet.
func (r *reader) field(depth int) bool {
	name := r.text()
	if bytes.IndexByte(name, '\\') >= 0 || !utf8.Valid(name) {
		var text string
		if json.Unmarshal(name, &text) != nil {
			return false
		}
		name = []byte(text)
	} else {
		name = name[1 : len(name)-1]
	}
	// the same folding as that of encoding/json
	if slices.ContainsFunc(r.names, func(n []byte) bool { return bytes.EqualFold(n, name) }) ||
		len(r.names) == maxFields {
		return false
	}
	r.names = append(r.names, name)
	r.peek()
	r.rest = r.rest[1:] // the colon
	return r.value(depth + 1)
}

// peek skips white space and returns the byte behind it.
func (r *reader) peek() byte {
	r.rest = bytes.TrimLeft(r.rest, " \t\r\n")
	return r.rest[0]
}

// text reads a string, with its quotes.
func (r *reader) text() []byte {
	end := 1
	for r.rest[end] != '"' {
		if r.rest[end] == '\\' {
			end++
		}
		end++
	}
	text := r.rest[:end+1]
	r.rest = r.rest[end+1:]
	return text
}
