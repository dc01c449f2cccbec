// Package ort runs networks with ONNX Runtime. It is the only place that knows the library.
package ort

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"runtime"
	"sync"

	ort "github.com/yalue/onnxruntime_go"
)

// Tensor is a dense array of 32-bit floats, last dimension fastest.
type Tensor struct {
	Shape []int64
	Data  []float32
}

// elements returns the number of elements of the shape. It reports false for a shape that no network accepts.
func (t Tensor) elements() (int, bool) {
	n := 1
	for _, d := range t.Shape {
		if d < 1 || d > math.MaxInt32 || n > math.MaxInt32/int(d) {
			return 0, false
		}
		n *= int(d)
	}
	return n, len(t.Shape) > 0
}

// environment guards the library, which a process can load only once.
var environment struct {
	sync.Mutex
	library string
	// refused is why the library could not be loaded. It is not tried again, because a library that is half loaded
	// cannot be unloaded.
	refused error
}

// Load loads the ONNX Runtime shared library at path into the process, for its whole life. Loading the same path again
// does nothing; another path is an error.
func Load(path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("load ONNX Runtime: %w", err)
	}
	environment.Lock()
	defer environment.Unlock()
	switch {
	case environment.refused != nil && environment.library == path:
		return environment.refused
	case environment.library == path:
		return nil
	case environment.library != "" && environment.refused == nil:
		return fmt.Errorf("load ONNX Runtime from %s: the process already uses %s", path, environment.library)
	}
	environment.library, environment.refused = path, nil
	ort.SetSharedLibraryPath(path)
	if err := ort.InitializeEnvironment(ort.WithLogLevelError()); err != nil {
		environment.refused = fmt.Errorf("load ONNX Runtime from %s: %w", path, err)
		return environment.refused
	}
	return nil
}

// Config says which network a Session runs, and how.
type Config struct {
	// Model is the path of the ONNX file.
	Model string
	// Input is the name of the network's input, Outputs the names of the wanted outputs.
	Input   string
	Outputs []string
	// Threads is how many processors one run may use. Required.
	Threads int
	// Alone, if set, is called at each run and reports whether the run may use Threads processors. Otherwise it uses
	// one, which is cheaper while several runs are in progress: threads of one run that wait for each other gain
	// nothing then. The network is loaded twice for it.
	Alone func() bool
	// Runs is how many runs may be in progress at the same time; more wait. It bounds memory. Required.
	Runs int
}

// Session is a network ready to run. It is safe for concurrent use.
type Session struct {
	outputs []string
	session *ort.DynamicAdvancedSession
	single  *ort.DynamicAdvancedSession // on one processor, for runs that are not alone; nil without Config.Alone
	alone   func() bool
	turns   chan struct{}

	// life is read-locked by runs and locked by Close, which thereby waits for them.
	life   sync.RWMutex
	closed bool
}

// Open loads the network. Load must have succeeded before.
func Open(cfg Config) (_ *Session, err error) {
	defer recovered("open network", &err)
	s := &Session{outputs: cfg.Outputs, alone: cfg.Alone, turns: make(chan struct{}, max(cfg.Runs, 1))}
	if s.session, err = open(cfg, cfg.Threads); err != nil {
		return nil, fmt.Errorf("open network %s: %w", filepath.Base(cfg.Model), err)
	}
	if cfg.Alone == nil || cfg.Threads < 2 {
		return s, nil
	}
	if s.single, err = open(cfg, 1); err != nil {
		return nil, errors.Join(fmt.Errorf("open network %s: %w", filepath.Base(cfg.Model), err), s.Close())
	}
	return s, nil
}

// open loads the network for runs on a number of processors.
func open(cfg Config, threads int) (_ *ort.DynamicAdvancedSession, err error) {
	options, err := ort.NewSessionOptions()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, options.Destroy()) }()
	if err := errors.Join(
		options.SetIntraOpNumThreads(threads),
		options.SetInterOpNumThreads(1),
		// The arena keeps the memory of the largest runs, which Runs bounds. Without it the C allocator keeps more (60
		// MB more in a process that had worked), or, if it must return memory, spends as long again on page faults.
		options.SetCpuMemArena(true),
		options.SetMemPattern(false),
		// Weights are allocated once; in the arena they would only leave holes when they are rearranged.
		options.AddSessionConfigEntry("session.use_device_allocator_for_initializers", "1"),
		// Threads that wait for work must not use the processors that other requests need.
		options.AddSessionConfigEntry("session.intra_op.allow_spinning", "0"),
		// Denormal numbers are only noise, but take a hundred times as long.
		options.AddSessionConfigEntry("session.set_denormal_as_zero", "1"),
	); err != nil {
		return nil, err
	}
	return ort.NewDynamicAdvancedSession(cfg.Model, []string{cfg.Input}, cfg.Outputs, options)
}

// Run computes the outputs for one input, in the order of Config.Outputs. It waits for a free place and stops when ctx
// ends. The caller owns the result. An error means that there is no result, never a part of one. A number that is not
// finite is an error too: it would look like a photo without faces.
func (s *Session) Run(ctx context.Context, input Tensor) (_ []Tensor, err error) {
	defer recovered("run network", &err)
	if n, ok := input.elements(); !ok || n != len(input.Data) {
		return nil, fmt.Errorf("run network: %d numbers do not make a tensor of shape %v", len(input.Data), input.Shape)
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	select {
	case s.turns <- struct{}{}:
		defer func() { <-s.turns }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	s.life.RLock()
	defer s.life.RUnlock()
	if s.closed {
		return nil, errors.New("run network: the session is closed")
	}

	// The library keeps the address of the data for as long as the tensor lives.
	var pinned runtime.Pinner
	defer pinned.Unpin()
	pinned.Pin(&input.Data[0])
	in, err := ort.NewTensor(ort.Shape(input.Shape), input.Data)
	if err != nil {
		return nil, fmt.Errorf("run network: %w", err)
	}
	defer func() { err = errors.Join(err, in.Destroy()) }()
	outputs := make([]ort.Value, len(s.outputs))
	defer func() {
		for _, o := range outputs {
			if o != nil {
				err = errors.Join(err, o.Destroy())
			}
		}
	}()
	if err := s.run(ctx, in, outputs); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("run network: %w", err)
	}

	results := make([]Tensor, len(outputs))
	for i, o := range outputs {
		t, ok := o.(*ort.Tensor[float32])
		if !ok {
			return nil, fmt.Errorf("run network: output %s is not of 32-bit floats", s.outputs[i])
		}
		results[i] = Tensor{Shape: t.GetShape(), Data: t.GetData()}
		for _, x := range results[i].Data {
			if x-x != 0 {
				return nil, fmt.Errorf("run network: output %s holds %g: its weights are damaged", s.outputs[i], x)
			}
		}
	}
	return results, nil
}

// run runs the network once and stops it when ctx ends.
func (s *Session) run(ctx context.Context, in ort.Value, outputs []ort.Value) (err error) {
	options, err := ort.NewRunOptions()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, options.Destroy()) }()
	stopped := make(chan struct{})
	release := context.AfterFunc(ctx, func() {
		defer close(stopped)
		// If this fails, the run goes on to its end; nothing else is lost.
		_ = options.Terminate()
	})
	defer func() {
		if !release() {
			<-stopped // the options must outlive their use
		}
	}()
	session := s.session
	if s.single != nil && !s.alone() {
		session = s.single
	}
	return session.RunWithOptions([]ort.Value{in}, outputs, options)
}

// Close waits for runs in progress and frees the network. Later runs fail. It may be called twice.
func (s *Session) Close() error {
	s.life.Lock()
	defer s.life.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	err := s.session.Destroy()
	if s.single != nil {
		err = errors.Join(err, s.single.Destroy())
	}
	if err != nil {
		return fmt.Errorf("close network: %w", err)
	}
	return nil
}

// recovered turns a panic of the binding into an error, which must neither look like an empty result nor end the
// program.
func recovered(doing string, err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%s: panic: %v", doing, r)
	}
}
