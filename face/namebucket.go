package face

import (
	"bytes"
	"fmt"

	"github.com/visage-face/visage/internal/arena"
)

const idBytes = len(uuid{})

// bucket holds persons whose ids have the same first bits, in no order. Person i has the id at 16·i, and the name after
// byte 0 number i, counted from 0, of the names.
type bucket struct {
	ids   *arena.Buffer // nil: the bucket is empty
	names *arena.Buffer
	n     int // persons
	used  int // bytes of names
}

// size returns the memory of a bucket, in bytes.
func (b *bucket) size() int64 {
	if b.ids == nil {
		return 0
	}
	return int64(cap(b.ids.Bytes()) + cap(b.names.Bytes()))
}

// find returns the place of a person; -1: it is not there.
func (b *bucket) find(id uuid) int {
	for i := range b.n {
		if b.id(i) == id {
			return i
		}
	}
	return -1
}

func (b *bucket) id(i int) uuid { return uuid(b.ids.Bytes()[i*idBytes:]) }

// add appends a person.
func (b *bucket) add(id uuid, name string) error {
	var err error
	if b.ids, err = grown(b.ids, b.n*idBytes, idBytes); err != nil {
		return err
	}
	if b.names, err = grown(b.names, b.used, 1+len(name)); err != nil {
		return err
	}
	copy(b.ids.Bytes()[b.n*idBytes:], id[:])
	b.names.Bytes()[b.used] = 0
	copy(b.names.Bytes()[b.used+1:], name)
	b.n++
	b.used += 1 + len(name)
	return nil
}

// remove removes person i, and clears the end of what has moved down. It calls gone with the name before.
func (b *bucket) remove(i int, gone func(name []byte)) {
	ids := b.ids.Bytes()
	copy(ids[i*idBytes:], ids[(i+1)*idBytes:b.n*idBytes])
	b.n--
	clear(ids[b.n*idBytes : (b.n+1)*idBytes])

	names := b.names.Bytes()[:b.used]
	start := 0
	for range i {
		start += 1 + bytes.IndexByte(names[start+1:], 0)
	}
	length := len(names) - start
	if next := bytes.IndexByte(names[start+1:], 0); next >= 0 {
		length = 1 + next
	}
	gone(names[start+1 : start+length])
	copy(names[start:], names[start+length:])
	b.used -= length
	clear(names[b.used:])
}

// grown returns a buffer with room for some bytes more than those in use; it may be the same. The old one is wiped.
func grown(old *arena.Buffer, used, more int) (*arena.Buffer, error) {
	if old != nil && used+more <= len(old.Bytes()) {
		return old, nil
	}
	const page = 4096
	size := (max(used+more, used*9/8) + page - 1) / page * page
	b, err := arena.New(size)
	if err != nil {
		return old, fmt.Errorf("memory for names: %w", err)
	}
	if old != nil {
		copy(b.Bytes(), old.Bytes()[:used])
		old.Free()
	}
	return b, nil
}
