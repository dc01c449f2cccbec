package helper

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/visage-face/visage/keysource"
)

// Store opens keys in the helper.
type Store interface {
	// Open returns a source over a key. Its calls return when they are done or their context has ended; one that can
	// do neither is ended with the helper.
	Open(key Key) (keysource.Source, error)
	// Close gives back what the store holds. No call is running.
	Close() error
}

// Service is what the service does for a store in the helper.
type Service interface {
	// Kept returns what was kept last, also by another helper of the store, which may have ended: as it was when this
	// helper began, or when File returned.
	Kept() []byte
	Keep(what []byte)
	// File returns a file of Config.Files as it is now. The caller wipes it. Only calls may ask.
	File(ctx context.Context, name string) ([]byte, error)
}

// Serve answers the calls of the service until its socket ends, which is when the service ends. open opens what the
// service wants, when the process has been confined. Serve is for a process that the service has started; any other
// has no such socket.
func Serve(open func(kind string, settings json.RawMessage, service Service) (Store, error)) error {
	const inherited = 3 // the first after standard input, output and error
	socket := os.NewFile(inherited, "service")
	conn, err := net.FileConn(socket)
	if err != nil {
		return errors.New("this is run by the service alone, for a key store that the operator has configured")
	}
	_ = socket.Close() // the connection has a copy
	defer conn.Close()
	s := &server{conn: conn, calls: map[uint64]context.CancelFunc{}, asked: map[uint64]chan message{}}
	return s.serve(open)
}

// server is the helper's side of the socket.
type server struct {
	conn net.Conn

	sending sync.Mutex

	mu    sync.Mutex
	kept  []byte
	calls map[uint64]context.CancelFunc
	asked map[uint64]chan message // for files; each holds one
	next  uint64
}

// Kept implements Service.
func (s *server) Kept() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kept
}

func (s *server) setKept(what []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = append([]byte(nil), what...)
}

// Keep implements Service.
func (s *server) Keep(what []byte) {
	s.setKept(what)
	s.send(message{kind: keep, fields: [][]byte{what}})
}

// File implements Service.
func (s *server) File(ctx context.Context, name string) ([]byte, error) {
	answer := make(chan message, 1)
	s.mu.Lock()
	s.next++
	id := s.next
	s.asked[id] = answer
	s.mu.Unlock()
	s.send(message{kind: ask, id: id, fields: [][]byte{[]byte(name)}})
	select {
	case m := <-answer:
		if len(m.fields[1]) > 0 {
			return nil, errors.New(string(m.fields[1]))
		}
		return m.fields[0], nil
	case <-ctx.Done():
		s.mu.Lock()
		delete(s.asked, id)
		s.mu.Unlock()
		return nil, context.Cause(ctx)
	}
}

// got gives a file to the call that asked for it.
func (s *server) got(m message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if answer := s.asked[m.id]; answer != nil {
		delete(s.asked, m.id)
		s.kept = append([]byte(nil), m.fields[2]...)
		answer <- m
	} else {
		m.wipe() // the call has ended
	}
}

// send sends a message. If that fails, the service has ended, which the next read finds.
func (s *server) send(m message) {
	s.sending.Lock()
	defer s.sending.Unlock()
	_ = transmit(s.conn, m) // as above
}

func (s *server) serve(open func(string, json.RawMessage, Service) (Store, error)) error {
	m, err := receive(s.conn)
	if err != nil || m.kind != hello {
		return errors.New("the service did not say what this helper is for")
	}
	refuse := func(err error) error {
		s.send(message{kind: refused, fields: [][]byte{[]byte(err.Error())}})
		return err
	}
	if string(m.fields[0]) != protocol {
		return refuse(fmt.Errorf("the service speaks another version of the protocol: %.100q, want %q",
			m.fields[0], protocol))
	}
	var c Confinement
	if err := json.Unmarshal(m.fields[3], &c); err != nil {
		return refuse(fmt.Errorf("read what the helper may reach: %w", err))
	}
	unheld, err := confine(c)
	if err != nil {
		return refuse(fmt.Errorf("confine the helper: %w", err))
	}
	s.setKept(m.fields[4])
	store, err := open(string(m.fields[1]), json.RawMessage(m.fields[2]), s)
	if err != nil {
		return refuse(err)
	}
	s.send(message{kind: ready, fields: [][]byte{[]byte(protocol), []byte(unheld)}})
	err = s.answerAll(store)
	if err == io.EOF {
		return nil
	}
	return err
}

// answerAll answers calls until the socket ends. A call that has not returned endLimit later ends with the process.
func (s *server) answerAll(store Store) error {
	var running sync.WaitGroup
	for {
		m, err := receive(s.conn)
		if err == nil && m.kind == cancelled {
			s.cancel(m.id)
			continue
		}
		if err == nil && m.kind == file {
			s.got(m)
			continue
		}
		if err == nil && (m.kind > health || !s.begin(&running, store, m)) {
			err = errMalformed
		}
		if err == nil {
			continue
		}
		s.mu.Lock()
		for _, cancel := range s.calls {
			cancel()
		}
		s.mu.Unlock()
		done := make(chan struct{})
		go func() { // ends with the calls, or with the process
			running.Wait()
			close(done)
		}()
		select {
		case <-done:
			if closeErr := store.Close(); closeErr != nil && err == io.EOF {
				err = closeErr
			}
		case <-time.After(endLimit):
		}
		return err
	}
}

func (s *server) cancel(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cancel := s.calls[id]; cancel != nil {
		cancel()
	}
}

// begin starts a call, and reports whether it is one.
func (s *server) begin(running *sync.WaitGroup, store Store, m message) bool {
	label, err := labelOf(m.fields[1])
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil || len(m.fields[0]) != 8 || len(s.calls) == maxCalls || s.calls[m.id] != nil {
		return false
	}
	left := min(time.Duration(binary.BigEndian.Uint64(m.fields[0])), callLimit)
	ctx, cancel := context.WithTimeout(context.Background(), left)
	s.calls[m.id] = cancel
	running.Go(func() {
		ctx := keysource.WithTrace(keysource.WithLabel(ctx, label))
		answer := s.answer(ctx, store, m)
		m.wipe()
		s.mu.Lock()
		cancel()
		delete(s.calls, m.id)
		s.mu.Unlock()
		s.send(answer)
		if answer.kind == unwrapped {
			clear(answer.fields[1])
		}
	})
	return true
}

// answer makes one call.
func (s *server) answer(ctx context.Context, store Store, m message) message {
	own := m.fields[common:]
	if m.kind == health {
		return message{kind: healthy, id: m.id, fields: [][]byte{nil, append([]byte(nil), own[0]...)}}
	}
	fields, err := func() ([][]byte, error) {
		src, err := store.Open(Key{string(m.fields[2]), string(m.fields[3]), string(m.fields[4])})
		if err != nil {
			return nil, err
		}
		switch m.kind {
		case wrap:
			blob, ref, err := src.Wrap(ctx, own[0])
			return [][]byte{blob, []byte(ref.URI), []byte(ref.Version)}, err
		case unwrap:
			inner, err := src.Unwrap(ctx, keysource.Ref{URI: string(own[0]), Version: string(own[1])}, own[2])
			return [][]byte{inner}, err
		}
		d, err := src.Describe(ctx, keysource.Ref{URI: string(own[0]), Version: string(own[1])})
		return [][]byte{jsonOf(d)}, err
	}()
	reply := message{kind: answerTo[m.kind], id: m.id}
	if err != nil {
		reply.kind, fields = failed, failureFields(err)
	}
	reply.fields = append([][]byte{[]byte(keysource.TraceOf(ctx).RequestID())}, fields...)
	return reply
}
