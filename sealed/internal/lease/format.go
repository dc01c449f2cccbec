package lease

import (
	"context"
	"errors"
	"time"

	"github.com/visage-face/visage/sealed/internal/engine"
)

// ErrBehind says that a process which has the store open does not know a format.
var ErrBehind = errors.New("a process that has the store open does not know the format")

// firstShared is the format that programs know which do not say so: the one with which stores could be shared.
const firstShared = 2

// writers are the transactions of this process that began while it wrote one format.
type writers struct {
	format uint32
	n      int
}

// enter counts a transaction that writes.
func (l *Leases) enter() (leave func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.writing[len(l.writing)-1]
	w.n++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		w.n--
		for len(l.writing) > 1 && l.writing[0].n == 0 {
			l.writing = l.writing[1:]
		}
	}
}

// writes returns the earliest format that a transaction of this process may write.
func (l *Leases) writes() uint32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.writing[0].format
}

// Write has transactions that begin from now on write a format, unless it is an earlier one. Others are told with the
// next renewals, once those have ended that may write the one before.
func (l *Leases) Write(number uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.writing[len(l.writing)-1]
	if number <= before.format {
		return
	}
	l.adopt(number)
	if before.n == 0 {
		l.writing = l.writing[:len(l.writing)-1]
	}
	l.writing = append(l.writing, &writers{format: number})
}

// follow looks whether the store has got a later format than this process writes, and then writes it.
func (l *Leases) follow(ctx context.Context) error {
	return l.engine.Read(ctx, func(r engine.Reader) error {
		number, err := l.look(r)
		if err == nil {
			l.Write(number)
		}
		return err
	})
}

// Clear removes the rows of processes that have not given a sign of life for so long that they do not count, after
// which they cannot write until they have joined anew. Error: ErrBehind, while a process counts that does not know a
// format.
func (l *Leases) Clear(ctx context.Context, number uint32) error {
	return l.clear(ctx, func(f found) bool { return f.member().Knows >= number })
}

// Know makes sure, in the transaction that gives the store a format, that no process is left which does not know it.
// Error: ErrBehind.
func (l *Leases) Know(r engine.Reader, number uint32) error {
	return l.eachMember(r, func(_ []byte, f found) error {
		if f.member().Knows < number {
			return ErrBehind
		}
		return nil
	})
}

// Agree waits until no process, this one among them, writes an earlier format than number, which the store has.
func (l *Leases) Agree(ctx context.Context, number uint32) error {
	for {
		err := func() error {
			defer l.root.Hold()()
			return l.clear(ctx, func(f found) bool { return f.doc.Writes >= number })
		}()
		if err == nil && l.writes() >= number {
			return nil
		}
		if err != nil && !errors.Is(err, ErrBehind) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(joinRest):
		}
	}
}

// clear removes the rows of processes that do not count any more, and returns ErrBehind unless all others are as they
// should be. The root must be held.
func (l *Leases) clear(ctx context.Context, should func(f found) bool) error {
	return l.remove(ctx, func(key []byte, f found) (bool, error) {
		if l.expired(key, f) {
			return true, nil
		}
		if !should(f) {
			return false, ErrBehind
		}
		return false, nil
	})
}

// refuse notes that this process can never be a member again.
func (l *Leases) refuse(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refused == nil {
		l.refused = err
		close(l.gone)
	}
}

// Refused is closed when this process can never be a member again, for what err returns then: the store has a format
// that it does not know.
func (l *Leases) Refused() (gone <-chan struct{}, err func() error) {
	return l.gone, func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.refused
	}
}
