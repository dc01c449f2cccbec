package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/visage-face/visage"
)

// Limits of the time for bodies, and for the rest of refused ones.
const (
	defaultBodyTimeout = time.Minute
	defaultBodyGrace   = 5 * time.Second
	defaultBodyRate    = 4 << 10

	stall     = time.Second     // without a byte, after which a body is cut off if others wait
	drainTime = 5 * time.Second // of a refused body, before the answer and once more after it
	drainMost = 8 << 20         // bytes of it before the answer
	lastMost  = 64 << 20        // bytes of it after the answer
)

// body is the body of a request while it arrives. It belongs to the goroutine of its request; only cut is called by
// others.
type body struct {
	from     io.Reader
	control  *http.ResponseController
	declared int64 // bytes; -1: unknown
	most     int64 // that the route takes
	least    leastRate
	memory   *memory
	pending  *pending
	address  caller // where the request comes from
	holder   caller // the caller whose share of the memory it uses
	proved   bool   // whether a credential was shown for holder

	n     int64 // bytes read
	held  int64 // bytes of memory, of those that are counted
	begun time.Time
	err   error // that ended it; io.EOF: all of it was read

	mu       sync.Mutex
	deadline time.Time // that is set at the connection
	moved    time.Time // when the deadline was last looked at because bytes had come
	idle     bool      // not waiting for the client: it was read, or waits for memory
	gone     bool      // cut off to make room
	closed   bool
}

// leastRate limits the duration of a body: to grace and the time that its bytes need at perSecond, and to whole in any
// case.
type leastRate struct {
	grace     time.Duration
	perSecond int64
	whole     time.Duration
}

func (l leastRate) until(begun time.Time, n int64) time.Time {
	return begun.Add(min(l.whole, l.grace+time.Duration(float64(n)/float64(l.perSecond)*float64(time.Second))))
}

var (
	errCutOff      = errors.New("the body was cut off to make room for others")
	errTooSlow     = errors.New("the body came too slowly")
	errBodyTooLong = errors.New("the body is longer than the route takes")
)

// Read implements io.Reader. It fails with errTooSlow, errCutOff, or the error of the connection.
func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.begun.IsZero() {
		b.begun = time.Now()
	}
	if err := b.await(b.least.until(b.begun, b.n)); err != nil {
		b.err = err
		return 0, err
	}
	n, err := b.read(p)
	return n, err
}

func (b *body) read(p []byte) (int, error) {
	n, err := b.from.Read(p)
	b.n += int64(n)
	if err == nil {
		return n, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.idle = true
	switch {
	case errors.Is(err, io.EOF):
		// From now on the server watches the connection for a disconnect, and a deadline would look like one.
		b.set(time.Time{})
	case b.gone:
		err = errCutOff
	case timedOut(err):
		err = errTooSlow
	}
	b.err = err
	return n, err
}

func timedOut(err error) bool {
	timeout, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	return ok && timeout.Timeout()
}

// await lets the next read wait until deadline. Setting a deadline is expensive, so one that is far enough away is
// kept.
func (b *body) await(deadline time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.gone {
		return errCutOff
	}
	now := time.Now()
	b.idle = false
	if b.deadline.IsZero() || now.Sub(b.moved) > stall/4 || b.deadline.Sub(now) < 2*stall {
		b.moved = now
		b.set(deadline)
	}
	return nil
}

// set sets the deadline of the connection. The error is ignored: writers of tests have no connection, and a failed
// connection fails the next read too.
func (b *body) set(deadline time.Time) {
	if !b.closed {
		b.deadline = deadline
		_ = b.control.SetReadDeadline(deadline)
	}
}

// cut ends a body that has stalled for at least since, so that its request ends with 408. It reports whether it did.
func (b *body) cut(since time.Duration) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.gone || b.idle || time.Since(b.moved) < since {
		return false
	}
	b.gone = true
	b.set(time.Unix(1, 0))
	return true
}

// wait records whether the body waits for memory, during which its client does not count as slow.
func (b *body) wait(on bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.idle, b.moved = on, time.Now()
}

// close ends the body for others: the connection is the server's again.
func (b *body) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
}

// firstBytes are read without reserving memory, so that short bodies never wait. Until the first byte arrives, the
// buffer has leastBytes.
const (
	firstBytes = 4 << 10
	leastBytes = 512
)

// all reads the whole body. It reserves memory as bytes arrive, in steps that grow with the received length.
func (b *body) all(ctx context.Context) ([]byte, error) {
	if b.declared > b.most {
		return nil, errBodyTooLong
	}
	if b.declared == 0 {
		return nil, nil
	}
	if b.proved {
		leave, err := b.memory.enter(b)
		if err != nil {
			return nil, err
		}
		defer leave()
	} else {
		defer b.pending.join(b)()
	}
	size := int64(leastBytes)
	if b.declared >= 0 {
		size = min(size, b.declared)
	}
	data := make([]byte, 0, size+bytes.MinRead)
	for {
		n, err := b.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		switch {
		case int64(len(data)) > b.most:
			return nil, errBodyTooLong
		case errors.Is(err, io.EOF):
			return data, nil
		case err != nil:
			return nil, err
		}
		if len(data) < cap(data) {
			continue
		}
		next := min(4*size, b.most)
		if b.declared >= 0 {
			next = min(next, b.declared)
		}
		if next > max(b.held, firstBytes) {
			waited := time.Now()
			if err := b.memory.take(ctx, b, next-b.held); err != nil {
				return nil, err
			}
			b.begun = b.begun.Add(time.Since(waited)) // the client was not asked for anything meanwhile
		}
		size = next
		data = append(make([]byte, 0, size+bytes.MinRead), data...)
	}
}

// ReadBody returns the whole body. A body longer than the route's MaxBody is a refusal of kind TooLarge, one that comes
// too slowly a Problem of status 408, one that breaks off a refusal of kind Invalid, and one for which there is no
// memory of kind TooMany or Unavailable. It can be called once.
func (r *Request) ReadBody() ([]byte, error) {
	data, err := r.body.all(r.Context())
	switch {
	case err == nil:
		return data, nil
	case errors.Is(err, errBodyTooLong):
		return nil, visage.Refuse(visage.TooLarge, "",
			"The body is longer than the %d bytes this operation accepts.", r.route.MaxBody)
	case errors.Is(err, errCutOff):
		return nil, &Problem{
			Status: http.StatusRequestTimeout, RetryAfter: time.Second,
			Message: "The body stopped arriving while other requests were waiting. Send the request again " +
				"without pauses.",
		}
	case errors.Is(err, errTooSlow):
		return nil, &Problem{
			Status: http.StatusRequestTimeout,
			Message: fmt.Sprintf(
				"The body arrived too slowly: it must start within %v, arrive at %d bytes a second or faster, "+
					"and be complete within %v.",
				r.body.least.grace, r.body.least.perSecond, r.body.least.whole),
		}
	case r.body.err == nil: // not the client's fault
		return nil, err
	}
	return nil, visage.Refuse(visage.Invalid, "", "The connection closed before the whole body had arrived. Send "+
		"the request again.")
}

// discard reads and drops the rest of a body, up to most bytes and for drainTime, as long as it arrives without a
// pause. It reports whether the body has ended.
func (b *body) discard(most int64) bool {
	defer b.pending.join(b)()
	last := time.Now().Add(min(drainTime, b.least.whole))
	buffer := make([]byte, 16<<10)
	for end := b.n + most; b.n < end && b.err == nil; {
		now := time.Now()
		deadline := now.Add(min(stall, b.least.whole))
		if deadline.After(last) {
			deadline = last
		}
		if !now.Before(last) || b.await(deadline) != nil {
			return false
		}
		if _, err := b.read(buffer); errors.Is(err, errTooSlow) {
			b.err = nil // a pause: the rest may be read after the answer
			return false
		}
	}
	return errors.Is(b.err, io.EOF)
}
