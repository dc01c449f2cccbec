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

// Memory outlives the helper: what is kept in it is there when the helper was started anew.
type Memory interface {
	Kept() []byte
	Keep(what []byte)
}

// Serve answers the calls of the service until its socket ends, which is when the service ends. open opens what the
// service wants, when the process has been confined. Serve is for a process that the service has started; any other
// has no such socket.
func Serve(open func(kind string, settings json.RawMessage, memory Memory) (Store, error)) error {
	const inherited = 3 // the first after standard input, output and error
	file := os.NewFile(inherited, "service")
	conn, err := net.FileConn(file)
	if err != nil {
		return errors.New("this is run by the service alone, for a key store that the operator has configured")
	}
	_ = file.Close() // the connection has a copy
	defer conn.Close()
	s := &server{conn: conn, calls: map[uint64]context.CancelFunc{}}
	return s.serve(open)
}

// server is the helper's side of the socket.
type server struct {
	conn net.Conn
	kept []byte

	sending sync.Mutex

	mu    sync.Mutex
	calls map[uint64]context.CancelFunc
}

// Kept implements Memory.
func (s *server) Kept() []byte { return s.kept }

// Keep implements Memory.
func (s *server) Keep(what []byte) { s.send(message{kind: keep, fields: [][]byte{what}}) }

// send sends a message. If that fails, the service has ended, which the next read finds.
func (s *server) send(m message) {
	s.sending.Lock()
	defer s.sending.Unlock()
	_ = transmit(s.conn, m) // as above
}

func (s *server) serve(open func(string, json.RawMessage, Memory) (Store, error)) error {
	m, err := receive(s.conn)
	if err != nil || m.kind != hello {
		return errors.New("the service did not say what this helper is for")
	}
	refuse := func(err error) error {
		s.send(message{kind: refused, fields: [][]byte{[]byte(err.Error())}})
		return err
	}
	if string(m.fields[0]) != protocol {
		return refuse(fmt.Errorf("the service speaks another version of the protocol: %.100q, want %q", m.fields[0], protocol))
	}
	var c Confinement
	if err := json.Unmarshal(m.fields[3], &c); err != nil {
		return refuse(fmt.Errorf("read what the helper may reach: %w", err))
	}
	unheld, err := confine(c)
	if err != nil {
		return refuse(fmt.Errorf("confine the helper: %w", err))
	}
	s.kept = m.fields[4]
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
