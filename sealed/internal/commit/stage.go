package commit

import (
	"github.com/visage-face/visage/sealed/internal/tree"
)

// stage is what a transaction, or a group of them, has written and nobody has sealed yet. Like a plaintext that is
// being sealed it lies in ordinary memory, and it is wiped after.
type stage struct {
	before  *stage // of a transaction's: what those before it in its group have staged
	records map[tree.Ref]*tree.Staged
	order   []tree.Ref // of records, as they were first written
	bytes   int        // of their plaintexts

	// of a transaction alone
	puts     int
	gone     []tree.Ref // what it deleted
	borrowed bool       // it has read what others have staged
}

// find returns a record as the transaction sees it; nil when it was not written.
func (s *stage) find(ref tree.Ref) *tree.Staged {
	if r := s.records[ref]; r != nil {
		return r
	}
	r := s.before.records[ref]
	s.borrowed = s.borrowed || r != nil
	return r
}

// own returns a record that the transaction may change, if it or another one before has written it.
func (s *stage) own(ref tree.Ref) *tree.Staged {
	r := s.find(ref)
	if r == nil || s.records[ref] != nil {
		return r
	}
	c := r.Facts()
	s.set(ref, c)
	return c
}

func (s *stage) set(ref tree.Ref, r *tree.Staged) {
	if s.records == nil {
		s.records = map[tree.Ref]*tree.Staged{}
	}
	old := s.records[ref]
	if old == nil {
		s.order = append(s.order, ref)
	} else {
		s.bytes -= len(old.Plaintext)
		old.Wipe()
	}
	s.records[ref] = r
	s.bytes += len(r.Plaintext)
}

// merge takes over what a member has staged.
func (s *stage) merge(from *stage) {
	for _, ref := range from.order {
		s.set(ref, from.records[ref])
	}
}

func (s *stage) wipe() {
	for _, r := range s.records {
		r.Wipe()
	}
	s.records = nil
}

// write stages a plaintext, of which it keeps a copy.
func (s *stage) write(r *tree.Staged, schema byte, plaintext []byte) {
	clear(r.Plaintext)
	s.bytes += len(plaintext) - len(r.Plaintext)
	r.There, r.Schema, r.Plaintext = true, schema, append(r.Plaintext[:0], plaintext...)
	s.puts++
}
