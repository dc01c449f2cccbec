package helper

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

// FuzzReceive holds that what is read as a message is written as the same bytes, and that nothing else is read.
func FuzzReceive(f *testing.F) {
	for k := range fieldsOf {
		m := message{kind: kind(k), id: 7, fields: make([][]byte, fieldsOf[k])}
		for i := range m.fields {
			m.fields[i] = bytes.Repeat([]byte{byte(i)}, i)
		}
		raw, err := m.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
		f.Add(raw[:len(raw)-1])
		f.Add(append(bytes.Clone(raw), 0))
	}
	f.Add([]byte("\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r := bytes.NewReader(raw)
		m, err := receive(r)
		if err != nil {
			if m.fields != nil || m.raw != nil {
				t.Error("a message came with the error")
			}
			if err == io.EOF && len(raw) > 0 {
				t.Error("the end of a part of a message is no end")
			}
			return
		}
		if len(m.fields) != fieldsOf[m.kind] {
			t.Errorf("kind %d has %d fields", m.kind, len(m.fields))
		}
		again, err := m.encode()
		if err != nil || !bytes.Equal(again, raw[:len(raw)-r.Len()]) {
			t.Errorf("%x is written as %x, %v", raw, again, err)
		}
		m.wipe()
		for _, field := range m.fields {
			if len(bytes.Trim(field, "\x00")) > 0 {
				t.Error("a field is left after wiping")
			}
		}
	})
}

// TestFailures holds that a class is never guessed.
func TestFailures(t *testing.T) {
	for i, class := range classes {
		m := message{kind: failed, fields: append([][]byte{nil}, failureFields(class)...)}
		if i != 2 { // an error without a sentence is not one of a source
			m.fields[1] = []byte{byte(i + 1)}
		}
		if err := m.failure(); !errors.Is(err, class) {
			t.Errorf("class %d: got %v, want %v", i, err, class)
		}
	}
	for _, class := range []string{"", "\x00", "\x05", "\x01\x01"} {
		m := message{kind: failed, fields: [][]byte{nil, []byte(class), nil, nil}}
		if err := m.failure(); !errors.Is(err, classes[2]) {
			t.Errorf("class %q: got %v", class, err)
		}
	}
}
