package helper

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// life is one run of the helper, from its start to the end of its process.
type life struct {
	process   *Process
	begun     time.Time
	accounted bool          // guarded by the mutex of the process
	ready     chan struct{} // closed when calls may be sent, or never can

	sending sync.Mutex // one message at a time

	mu    sync.Mutex
	conn  net.Conn // nil before the start
	kill  func()
	calls map[uint64]*call
	next  uint64
	why   error // of the end; nil while it lives
}

// call is one that was sent and has no answer yet.
type call struct {
	want   kind
	answer chan message // holds one; closed if the helper ended before
	hang   *time.Timer
	left   bool // nobody waits any more
	slot   bool // it holds one
}

func newLife(p *Process) *life {
	return &life{process: p, begun: time.Now(), ready: make(chan struct{}), calls: map[uint64]*call{}, kill: func() {}}
}

func (l *life) alive() bool { return l.cause() == nil }

// cause says why the helper ended; nil while it lives.
func (l *life) cause() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.why
}

// end ends the helper for a reason. Only the first counts.
func (l *life) end(why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.why == nil {
		l.why = why
	}
	if l.conn != nil {
		_ = l.conn.Close() // nothing is left to be sent
	}
	l.kill()
	for id, c := range l.calls {
		l.settle(id, c)
		close(c.answer)
	}
}

// close lets the helper end by itself: its socket ends, and run waits.
func (l *life) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.why == nil {
		l.why = errors.New("the service ends")
	}
	if l.conn != nil {
		_ = l.conn.Close() // as above
	}
}

// settle forgets a call. mu is held.
func (l *life) settle(id uint64, c *call) {
	delete(l.calls, id)
	c.hang.Stop()
	if c.slot {
		<-l.process.slots
	}
}

// run starts the helper, receives what it says, and returns when the process has ended and was waited for.
func (l *life) run() {
	ours, theirs, err := pair()
	if err != nil {
		l.end(err)
		close(l.ready)
		return
	}
	defer theirs.Close() // the helper has its own
	ended := make(chan error, 1)
	began := make(chan error, 1)
	var waiting sync.WaitGroup
	defer waiting.Wait()
	cmd := l.command(theirs)
	waiting.Go(func() {
		// The system ends the helper when the thread that started it ends, so this one has to stay.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		began <- err
		if err == nil {
			ended <- cmd.Wait()
		}
	})
	if err := <-began; err != nil {
		_ = ours.Close() // never used
		l.end(fmt.Errorf("start the helper: %w", err))
		close(l.ready)
		return
	}
	_ = theirs.Close() // so that the end of the helper is the end of the socket
	l.mu.Lock()
	l.conn, l.kill = ours, func() { _ = cmd.Process.Kill() } // which fails if it has ended
	closing := l.why != nil
	l.mu.Unlock()
	if closing {
		_ = ours.Close()
	}
	err = l.greet(ours, cmd.Process.Pid)
	if err != nil {
		l.end(err)
		close(l.ready)
	} else {
		waiting.Go(l.proveAlive)
		err = l.receive(ours)
	}
	// A helper whose socket was closed ends by itself; one that has closed it, or has sent nonsense, has no such time.
	patience := endLimit
	if l.alive() {
		patience = exitLimit
	}
	late := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	waited := <-ended
	late.Stop()
	if waited != nil {
		err = fmt.Errorf("%w (%w)", err, waited)
	}
	l.end(err)
}

// command is the process of the helper.
func (l *life) command(socket *os.File) *exec.Cmd {
	cfg := &l.process.cfg
	cmd := exec.Command(cfg.Command[0], cfg.Command[1:]...)
	cmd.Dir = "/"
	cmd.Env = []string{"GOTRACEBACK=none"}
	for name, value := range cfg.Confinement.Environment {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	if mode := os.Getenv("GODEBUG"); mode != "" { // its cryptography is that of the service
		cmd.Env = append(cmd.Env, "GODEBUG="+mode)
	}
	cmd.ExtraFiles = []*os.File{socket}
	cmd.Stderr = &lines{log: cfg.Log, kind: cfg.Kind, secrets: slices.Collect(maps.Values(cfg.Files)),
		hidden: partsOf(slices.AppendSeq(slices.Clone(cfg.Hidden), maps.Values(cfg.Confinement.Environment)))}
	cmd.WaitDelay = endLimit
	cmd.SysProcAttr = attributes()
	return cmd
}

// pair returns two connected sockets, ours and that of the helper.
func pair() (net.Conn, *os.File, error) {
	syscall.ForkLock.RLock() // another helper that is started now must not inherit them
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(fds[0])
		unix.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, fmt.Errorf("connect the helper: %w", err)
	}
	near := os.NewFile(uintptr(fds[0]), "helper")
	defer near.Close() // the connection has a copy
	conn, err := net.FileConn(near)
	if err != nil {
		_ = unix.Close(fds[1])
		return nil, nil, fmt.Errorf("connect the helper: %w", err)
	}
	return conn, os.NewFile(uintptr(fds[1]), "helper"), nil
}

// greet tells the helper what it is for, and reads what it cannot hold.
func (l *life) greet(conn net.Conn, pid int) error {
	cfg := &l.process.cfg
	_ = conn.SetDeadline(time.Now().Add(startLimit)) // a connection that has ended fails below
	err := transmit(conn, message{kind: hello, fields: [][]byte{
		[]byte(protocol), []byte(cfg.Kind), cfg.Settings, jsonOf(cfg.Confinement), cfg.Memory.get(),
	}})
	if err != nil {
		return fmt.Errorf("greet the helper: %w", err)
	}
	m, err := receive(conn)
	switch {
	case err != nil:
		return fmt.Errorf("the helper did not begin: %w", err)
	case m.kind == refused:
		return fmt.Errorf("the helper cannot begin: %.*s", maxText, m.fields[0])
	case m.kind != ready || string(m.fields[0]) != protocol:
		return errors.New("the helper speaks another version of the protocol: the program was replaced; restart the " +
			"service")
	}
	_ = conn.SetDeadline(time.Time{}) // as above
	cfg.Log.Info("the helper of a key store began", "kind", cfg.Kind, "pid", pid)
	if unheld := string(m.fields[1]); unheld != "" {
		cfg.Log.Warn("this system does not confine all of the helper of a key store", "kind", cfg.Kind,
			"not_confined", unheld)
	}
	return nil
}

// proveAlive asks for an echo before any other call is sent: what answers must be this helper.
func (l *life) proveAlive() {
	defer close(l.ready)
	nonce := make([]byte, 16)
	rand.Read(nonce) // never fails: the runtime ends the process instead
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	asked := message{kind: health, fields: append(make([][]byte, common), nonce)}
	asked.fields[0] = make([]byte, 8)
	m, err := l.call(ctx, asked, false)
	if err == nil && (m.kind != healthy || !bytes.Equal(m.fields[1], nonce)) {
		l.end(errors.New("the helper does not repeat what it was asked to"))
	}
}

// call sends a call and waits for its answer. If it holds a slot, that is free again when the helper has answered or
// ended, not when the caller leaves: calls that nobody waits for are bounded as well.
func (l *life) call(ctx context.Context, m message, slot bool) (message, error) {
	c := &call{want: answerTo[m.kind], answer: make(chan message, 1), slot: slot}
	c.hang = time.AfterFunc(hangLimit, func() {
		l.end(fmt.Errorf("the helper did not answer within %v and was killed", hangLimit))
	})
	l.mu.Lock()
	l.next++
	m.id = l.next
	raw, err := m.encode()
	if err == nil {
		err = l.why
	}
	l.calls[m.id] = c
	if err != nil {
		l.settle(m.id, c)
	}
	l.mu.Unlock()
	defer clear(raw)
	if err != nil {
		return message{}, err
	}
	l.send(raw)
	select {
	case got, answered := <-c.answer:
		if !answered {
			return message{}, fmt.Errorf("the helper ended during the call: %w", l.cause())
		}
		return got, nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	c.left = true
	l.mu.Unlock()
	select {
	case got, answered := <-c.answer: // it came while this call gave up
		if answered {
			got.wipe()
		}
	default:
		raw, err := message{kind: cancelled, id: m.id}.encode()
		if err != nil {
			panic("helper: a message without fields cannot be encoded: " + err.Error())
		}
		l.send(raw)
	}
	return message{}, context.Cause(ctx)
}

// send sends a message. One that cannot be sent ends the helper, and with it the calls.
func (l *life) send(raw []byte) {
	l.sending.Lock()
	defer l.sending.Unlock()
	_ = l.conn.SetWriteDeadline(time.Now().Add(hangLimit)) // a connection that has ended fails below
	if _, err := l.conn.Write(raw); err != nil {
		l.end(fmt.Errorf("send to the helper: %w", err))
	}
}

// receive gives each answer to its call until the socket ends.
func (l *life) receive(conn net.Conn) error {
	for {
		m, err := receive(conn)
		if err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
				err = errors.New("the helper ended")
			}
			return err
		}
		switch m.kind {
		case keep:
			l.process.cfg.Memory.set(m.fields[0])
			continue
		case ask:
			if err := l.answer(m.id, string(m.fields[0])); err != nil {
				return err
			}
			continue
		}
		l.mu.Lock()
		c := l.calls[m.id]
		if c == nil || m.kind != c.want && m.kind != failed {
			l.mu.Unlock()
			m.wipe()
			return errMalformed
		}
		l.settle(m.id, c)
		if c.left {
			m.wipe()
		} else {
			c.answer <- m
		}
		l.mu.Unlock()
	}
}

// answer sends the helper a file that it asked for, and what the helpers of its store remember by now: another one may
// have tried the secret in the file. mu is not held.
func (l *life) answer(id uint64, name string) error {
	path, known := l.process.cfg.Files[name]
	if !known {
		return errMalformed
	}
	content, err := readFile(path)
	defer clear(content)
	m := message{kind: file, id: id, fields: [][]byte{content, nil, l.process.cfg.Memory.get()}}
	if err != nil {
		m.fields[1] = []byte(err.Error())
	}
	raw, err := m.encode()
	if err != nil {
		return err
	}
	defer clear(raw)
	l.send(raw)
	return nil
}

// maxFile bounds the files that helpers ask for, in bytes.
const maxFile = 32 << 10

// readFile reads a small file.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() > maxFile {
		return nil, fmt.Errorf("%s is no file of at most %d bytes", path, maxFile)
	}
	content := make([]byte, maxFile)
	n, err := io.ReadFull(f, content)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		clear(content)
		return nil, err
	}
	return content[:n], nil
}
