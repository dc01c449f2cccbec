// Package sandbox runs programs written in C on untrusted input without risk: as WebAssembly, each run in its own
// memory, of a bounded size and for a bounded time, without files, network, clock or environment.
package sandbox

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
)

var (
	// ErrTime: a run took longer than it may.
	ErrTime = errors.New("the decoder exceeded the time limit of the sandbox")
	// ErrUnavailable: a program could not be started. Its input is not the cause.
	ErrUnavailable = errors.New("the sandbox cannot be started")
)

// Limits are the limits of one run.
type Limits struct {
	// Memory is the largest number of bytes of a run's memory, a multiple of 64 KiB. If a program asks for more, its
	// allocation fails.
	Memory int
	// Time is the longest duration of a run. A program is stopped at any point.
	Time time.Duration
}

// Program is one program. It costs nothing until its first run, which translates it into machine code: this takes about
// a second, and a few megabytes until Close. It is safe for concurrent use.
type Program struct {
	packed []byte
	limits Limits

	running  sync.RWMutex // read by runs, written by Close, which waits for them
	mu       sync.Mutex
	runtime  wazero.Runtime
	compiled wazero.CompiledModule
	closed   bool
}

// New returns the program in a WebAssembly module, packed by gzip. It starts nothing.
func New(packed []byte, l Limits) *Program { return &Program{packed: packed, limits: l} }

// load compiles the program when it is first needed. A failure is not kept: the next run tries again.
func (p *Program) load() (wazero.Runtime, wazero.CompiledModule, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return nil, nil, errors.New("the sandbox is closed")
	case p.compiled != nil:
		return p.runtime, p.compiled, nil
	}
	unpacked, err := gzip.NewReader(bytes.NewReader(p.packed))
	if err != nil {
		return nil, nil, fmt.Errorf("unpack program: %w", err)
	}
	code, err := io.ReadAll(unpacked)
	if err != nil {
		return nil, nil, fmt.Errorf("unpack program: %w", err)
	}
	if code, err = stoppable(code); err != nil {
		return nil, nil, fmt.Errorf("prepare program: %w", err)
	}
	const page = 1 << 16
	ctx := context.Background() // compiling is for all runs to come, not for the one that asks first
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().
		WithMemoryLimitPages(uint32(p.limits.Memory/page)))
	// The interface of programs to a system, which here has nothing: the module's configuration below names no files,
	// arguments, variables or streams, and the clock stands.
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, r); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("prepare sandbox: %w", err), r.Close(ctx))
	}
	compiled, err := r.CompileModule(ctx, code)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("compile program: %w", err), r.Close(ctx))
	}
	p.runtime, p.compiled = r, compiled
	return r, compiled, nil
}

// Run starts the program afresh, hands it to use, and takes its memory away afterwards, also when use panics. It
// returns the error of use, ErrTime or the cause of ctx when these ended the run.
func (p *Program) Run(ctx context.Context, use func(*Instance) error) (err error) {
	p.running.RLock()
	defer p.running.RUnlock()
	runtime, compiled, err := p.load()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	limited, cancel := context.WithTimeoutCause(ctx, p.limits.Time, ErrTime)
	defer cancel()
	limited = experimental.WithMemoryAllocator(limited, allocator(p.limits.Memory))
	if limited.Err() != nil {
		return context.Cause(limited)
	}
	module, err := runtime.InstantiateModule(limited, compiled, wazero.NewModuleConfig().WithName("").
		WithStartFunctions("_initialize"))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	// The program reads the flag while this sets it, without a lock: it is one word, and a program that sees it late
	// only runs that much longer.
	defer func() {
		if closing := module.Close(context.WithoutCancel(limited)); closing != nil && err == nil {
			err = fmt.Errorf("stop program: %w", closing)
		}
	}()
	flag, ok := module.ExportedGlobal(stopFlag).(api.MutableGlobal)
	if !ok {
		return fmt.Errorf("%w: the program cannot be stopped", ErrUnavailable)
	}
	spared := context.AfterFunc(limited, func() { flag.Set(1) })
	defer spared()
	err = use(&Instance{module, limited})
	if err != nil && limited.Err() != nil {
		return context.Cause(limited)
	}
	return err
}

// Close waits for runs in progress and frees the machine code. Later runs fail.
func (p *Program) Close() error {
	p.running.Lock()
	defer p.running.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.runtime == nil {
		return nil
	}
	err := p.runtime.Close(context.Background())
	p.runtime, p.compiled = nil, nil
	return err
}

// Instance is a running program. It is for one goroutine.
type Instance struct {
	module api.Module
	ctx    context.Context // of the run, which is shorter than the instance's life
}

// Call calls a function of the program and returns its result, 0 if it has none. After an error, of which a trap is the
// usual one, the program may still be read and asked what is wrong.
func (i *Instance) Call(name string, args ...uint32) (uint32, error) {
	f := i.module.ExportedFunction(name)
	if f == nil {
		return 0, fmt.Errorf("the program has no function %q", name)
	}
	wide := make([]uint64, len(args))
	for j, a := range args {
		wide[j] = uint64(a)
	}
	results, err := f.Call(i.ctx, wide...)
	if err != nil {
		return 0, fmt.Errorf("call %s: %w", name, err)
	}
	if len(results) == 0 {
		return 0, nil
	}
	return uint32(results[0]), nil
}

// Place allocates memory with the program's function alloc and writes data there.
func (i *Instance) Place(alloc string, data []byte) (at uint32, err error) {
	at, err = i.Call(alloc, uint32(len(data)))
	if err != nil {
		return 0, err
	}
	if at == 0 || !i.module.Memory().Write(at, data) {
		return 0, errors.New("the program's memory is too small for its input")
	}
	return at, nil
}

// Read returns n bytes of the program's memory. They belong to the program: they change when it runs, and are invalid
// after the run.
func (i *Instance) Read(at, n uint32) ([]byte, error) {
	b, ok := i.module.Memory().Read(at, n)
	if !ok {
		return nil, errors.New("the program's result lies outside of its memory")
	}
	return b, nil
}

// Word returns the number at an address, least byte first.
func (i *Instance) Word(at uint32) (uint32, error) {
	v, ok := i.module.Memory().ReadUint32Le(at)
	if !ok {
		return 0, errors.New("the program's result lies outside of its memory")
	}
	return v, nil
}

// Text returns the text at an address, up to a zero or 200 bytes.
func (i *Instance) Text(at uint32) string {
	const most = 200
	b, ok := i.module.Memory().Read(at, min(most, i.module.Memory().Size()-min(at, i.module.Memory().Size())))
	if !ok {
		return ""
	}
	text, _, _ := bytes.Cut(b, []byte{0})
	return string(text)
}
