// Package helper runs key sources in a process of their own.
//
// The library of a vendor, and a client with much code of others, must not share memory with keys and galleries. They
// run in a second process of the same program, which has no rights but those that its Confinement lists, an empty
// environment, and one inherited socket that no other process can connect to. A Process is the service's side, Serve
// the side of the helper. What passes between them is described in message.go.
package helper

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/visage-face/visage/keysource"
)

// Argument is the first argument of a program that is to call Serve instead of what it does otherwise.
const Argument = "key-store-helper"

// The time that things may take.
const (
	callLimit  = 5 * time.Second        // a call, as in the other sources
	hangLimit  = 6 * time.Second        // a call after which the helper is killed
	startLimit = 10 * time.Second       // from the start to the first answer
	endLimit   = 2 * time.Second        // from the end of the socket to that of the process
	exitLimit  = 200 * time.Millisecond // likewise, when the helper has ended it
	steady     = 10 * time.Second       // a helper that lived so long is started anew at once
	minBackoff = 100 * time.Millisecond
	maxBackoff = 30 * time.Second
)

// maxCalls bounds the calls that a helper has at the same time.
const maxCalls = 64

// Config says which helper is run.
type Config struct {
	// Kind names what the helper opens, for example "pkcs11", and Settings configures it. They hold no secrets but
	// those in Hidden.
	Kind     string
	Settings json.RawMessage
	// Confinement is what the helper may reach.
	Confinement Confinement
	// Files are files that the service reads for the helper whenever it asks, by the names that it knows them by, such
	// as "pin". They may be replaced at any time, which no right to a file survives. A line that the helper writes
	// with a line of one of them in it, of 16 bytes or more or the first one, is not logged.
	Files map[string]string
	// Hidden are other texts that may be secrets of a vendor, such as the parameters of a library. Lines that the
	// helper writes with a part of them or of a variable of its environment in it, of 6 bytes or more, are not logged
	// either.
	Hidden []string
	// Command is the program, by its absolute path, and its arguments. Default: this program and Argument.
	Command []string
	// Log gets what the helper writes to its standard error, and its starts and ends. Required.
	Log *slog.Logger
	// Memory is what the helper remembers beyond its end. Helpers of the same store share one. Default: one of its own.
	Memory *Memory
}

// Confinement is what a helper may reach besides the libraries of the system. Whatever the kernel cannot hold is named
// in the log when the helper starts.
type Confinement struct {
	Read        []string          // files and folders, which need not be there
	Write       []string          // likewise; they may be read as well. A socket in it permits all of this machine
	Ports       []uint16          // TCP ports to connect to; with none, it has no network at all
	Names       bool              // hosts are looked up by their names, which takes UDP; without, it has none
	Environment map[string]string // all variables
}

// Process is a helper, which is started when it is first needed and started anew when it has died. It is safe for
// concurrent use.
type Process struct {
	cfg   Config
	slots chan struct{} // one for each call

	mu       sync.Mutex
	life     *life // the current one, or the last
	failures int   // lives that ended early, one after the other
	after    time.Time
	closed   bool
	lives    sync.WaitGroup
}

// New returns the helper that cfg describes. Nothing is started yet.
func New(cfg Config) (*Process, error) {
	if cfg.Command == nil {
		path, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find the program of the helper: %w", err)
		}
		cfg.Command = []string{path, Argument}
	}
	if !filepath.IsAbs(cfg.Command[0]) {
		return nil, fmt.Errorf("the program of the helper, %s, is not an absolute path", cfg.Command[0])
	}
	if cfg.Log == nil || cfg.Kind == "" {
		return nil, errors.New("a helper needs a kind and a log")
	}
	if cfg.Memory == nil {
		cfg.Memory = &Memory{}
	}
	return &Process{cfg: cfg, slots: make(chan struct{}, maxCalls)}, nil
}

// Close ends the helper and waits for its end. Later calls give ErrUnknown.
func (p *Process) Close() {
	p.mu.Lock()
	p.closed = true
	current := p.life
	p.mu.Unlock()
	if current != nil {
		current.close()
	}
	p.lives.Wait()
}

// Key names a key to the helper.
type Key struct {
	URI     string // of keysource.Ref
	Version string // empty: the newest
	Object  string // what the store knows the key by
}

// Open returns a source over a key. Nothing is sent yet.
func (p *Process) Open(key Key) keysource.Source { return &source{p, key} }

// source is a key in a helper.
type source struct {
	process *Process
	key     Key
}

// Wrap implements keysource.Source.
func (s *source) Wrap(ctx context.Context, inner []byte) ([]byte, keysource.Ref, error) {
	got, err := s.call(ctx, wrap, inner)
	if err != nil {
		return nil, keysource.Ref{}, err
	}
	ref := keysource.Ref{URI: string(got[1]), Version: string(got[2])}
	if err := s.mine(ref); err != nil {
		return nil, keysource.Ref{}, err
	}
	return got[0], ref, nil
}

// Unwrap implements keysource.Source.
func (s *source) Unwrap(ctx context.Context, ref keysource.Ref, blob []byte) ([]byte, error) {
	got, err := s.call(ctx, unwrap, []byte(ref.URI), []byte(ref.Version), blob)
	if err != nil {
		return nil, err
	}
	return got[0], nil
}

// Describe implements keysource.Source.
func (s *source) Describe(ctx context.Context, ref keysource.Ref) (keysource.Description, error) {
	got, err := s.call(ctx, describe, []byte(ref.URI), []byte(ref.Version))
	if err != nil {
		return keysource.Description{}, err
	}
	var d keysource.Description
	if err := json.Unmarshal(got[0], &d); err != nil {
		return keysource.Description{}, s.unknown("the helper's answer is no description")
	}
	return d, s.mine(d.Ref)
}

// mine refuses the reference of another key: what runs in the helper does not decide which key a resource uses.
func (s *source) mine(ref keysource.Ref) error {
	if ref.URI == s.key.URI {
		return nil
	}
	return &keysource.Error{Class: keysource.ErrWrong,
		Text: fmt.Sprintf("key %s in the helper for %s: the helper answered for key %.200q", s.key.URI,
			s.process.cfg.Kind, ref.URI)}
}

// call asks the helper and returns what it answers, as many fields as the verb has.
func (s *source) call(ctx context.Context, verb kind, fields ...[]byte) ([][]byte, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	caller := ctx
	ctx, cancel := context.WithTimeoutCause(ctx, callLimit, errSlow)
	defer cancel()
	got, err := s.process.ask(ctx, verb, s.key, fields)
	if err == nil && got.kind == failed && len(got.fields[1]) == 0 { // by its clock the time is over already
		<-ctx.Done()
		err = context.Cause(ctx)
	}
	switch {
	case caller.Err() != nil && err != nil:
		return nil, context.Cause(caller)
	case err != nil:
		return nil, s.unknown(err.Error())
	}
	keysource.TraceOf(ctx).Answered(string(got.fields[0]))
	if got.kind == failed {
		return nil, got.failure()
	}
	return got.fields[1:], nil
}

// unknown is an answer that says nothing of the key.
func (s *source) unknown(what string) error {
	return &keysource.Error{Class: keysource.ErrUnknown,
		Text: fmt.Sprintf("key %s in the helper for %s: %s", s.key.URI, s.process.cfg.Kind, what)}
}

// errSlow ends a call after its limit.
var errSlow = fmt.Errorf("no answer within %v", callLimit)

// ask makes a call and checks the form of its answer.
func (p *Process) ask(ctx context.Context, verb kind, key Key, fields [][]byte) (message, error) {
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return message{}, context.Cause(ctx)
	}
	current, err := p.living()
	if err != nil {
		<-p.slots
		return message{}, err
	}
	select {
	case <-current.ready:
	case <-ctx.Done():
		<-p.slots
		return message{}, context.Cause(ctx)
	}
	var label []byte
	if l := keysource.LabelOf(ctx); l != (keysource.Label{}) {
		label = append(append(label, l.Instance[:]...), l.Resource[:]...)
		label = binary.BigEndian.AppendUint64(label, l.Generation)
	}
	until, _ := ctx.Deadline() // every call has one
	left := binary.BigEndian.AppendUint64(nil, uint64(max(0, time.Until(until))))
	head := [][]byte{left, label, []byte(key.URI), []byte(key.Version), []byte(key.Object)}
	return current.call(ctx, message{kind: verb, fields: append(head, fields...)}, true)
}

// living returns the current life of the helper, and starts one if there is none.
func (p *Process) living() (*life, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errors.New("the helper was ended with the service")
	}
	if p.life != nil && p.life.alive() {
		return p.life, nil
	}
	p.account()
	if wait := time.Until(p.after); wait > 0 {
		return nil, fmt.Errorf("the helper ended %d times and is started again in %v: %w", p.failures,
			wait.Round(time.Millisecond), p.life.cause())
	}
	l := newLife(p)
	p.life = l
	p.lives.Go(func() {
		l.run()
		p.mu.Lock()
		wanted := p.closed
		p.mu.Unlock()
		if !wanted {
			p.cfg.Log.Error("the helper of a key store ended", "kind", p.cfg.Kind, "err", l.cause())
		}
	})
	return l, nil
}

// account notes when the next life may begin, once for each that has ended. mu is held.
func (p *Process) account() {
	if p.life == nil || p.life.accounted {
		return
	}
	p.life.accounted = true
	if time.Since(p.life.begun) >= steady {
		p.failures = 0
	}
	p.failures++
	if p.failures > 1 { // the first is started anew at once
		p.after = time.Now().Add(min(minBackoff<<min(p.failures, 16), maxBackoff))
	}
}

// Memory is what the helpers of a store remember beyond their ends, such as which PIN was refused: all those that run,
// and those that follow. The zero value is empty. It is safe for concurrent use.
type Memory struct {
	mu   sync.Mutex
	kept []byte
}

func (m *Memory) get() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kept
}

func (m *Memory) set(what []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kept = append([]byte(nil), what...)
}
