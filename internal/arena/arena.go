// Package arena allocates memory for secrets: outside the garbage collector's heap, kept out of swap and core dumps
// where the system allows, and wiped before it is given back. Keys and templates live here.
package arena

import (
	"crypto/subtle"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
)

// Buffer is a piece of secret memory. It must be freed; one that becomes unreachable is wiped and freed by the garbage
// collector as a last resort. A Buffer may be read by many goroutines at once; writing and Free need the caller's own
// order.
type Buffer struct {
	state *state
}

// state is the data that the cleanup of an unreachable Buffer needs; it must not refer to the Buffer.
type state struct {
	once   sync.Once
	whole  []byte // whole pages, as the system returned them, or a slot of page
	data   []byte // the caller's part
	locked bool
	page   *slabPage // nil: the buffer has pages of its own
}

// New returns size bytes of zeroed secret memory, on pages of their own. The memory is locked against swapping as far
// as the process's limit allows (see Locked), excluded from core dumps and emptied in forked children where the system
// can do that.
func New(size int) (*Buffer, error) {
	if size <= 0 {
		return nil, fmt.Errorf("allocate secret memory: %d bytes asked for", size)
	}
	page := pageSize()
	whole, locked, err := mapPages((size + page - 1) / page * page)
	if err != nil {
		return nil, fmt.Errorf("allocate %d bytes of secret memory: %w", size, err)
	}
	b := &Buffer{&state{whole: whole, data: whole[:size:size], locked: locked}}
	runtime.AddCleanup(b, func(s *state) { s.free() }, b.state)
	return b, nil
}

// Bytes returns the memory itself. It must not be used after Free, nor kept in anything that outlives b.
func (b *Buffer) Bytes() []byte { return b.state.data }

// Locked reports whether the system promised not to swap the memory out.
func (b *Buffer) Locked() bool { return b.state.locked }

// Equal reports in constant time whether b holds exactly secret.
func (b *Buffer) Equal(secret []byte) bool {
	return subtle.ConstantTimeCompare(b.state.data, secret) == 1
}

// Free wipes the memory and gives it back. Further calls do nothing; using Bytes afterwards is a fault.
func (b *Buffer) Free() {
	b.state.free()
	runtime.KeepAlive(b)
}

// LogValue keeps secrets out of logs.
func (b *Buffer) LogValue() slog.Value { return slog.StringValue("[secret]") }

// String keeps secrets out of formatted text.
func (b *Buffer) String() string { return "[secret]" }

// GoString keeps secrets out of formatted text.
func (b *Buffer) GoString() string { return "[secret]" }

func (s *state) free() {
	s.once.Do(func() {
		clear(s.whole)
		if s.page != nil {
			s.page.leave()
		} else {
			unmapPages(s.whole)
		}
		s.whole, s.data, s.page = nil, nil, nil
	})
}
