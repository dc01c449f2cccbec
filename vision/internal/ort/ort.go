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

// elements is how many numbers the shape stands for. It reports false for a shape that no network can be fed.
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

// environment guards the library, of which a process can hold one.
var environment struct {
	sync.Mutex
	library string
	// refused is why the library could not be loaded; it is not tried twice, for a half loaded one cannot be dropped.
	refused error
}

// Load loads the ONNX Runtime shared library at path into the process, for good. To load the same path again does
// nothing; another path is an error.
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
	// Input is the name of the network's input, Outputs those of the outputs wanted.
	Input   string
	Outputs []string
	// Threads is how many processors one run may use. Required.
	Threads int
	// Alone, if set, is asked at each run whether it may use Threads processors; otherwise it uses one, which is the
	// cheaper way for several runs at the same time: threads of one run that wait for each other gain nothing then. The
	// network is held twice for it.
	Alone func() bool
	// Runs is how many runs may go on at the same time; more wait. It bounds memory. Required.
	Runs int
}

// Session is a network ready to run. It is safe for concurrent use.
type Session struct {
	outputs []string
	session *ort.DynamicAdvancedSession
	single  *ort.DynamicAdvancedSession // on one processor, for runs that are not alone; nil without Config.Alone
	alone   func() bool
	turns   chan struct{}

	// life is read-locked by runs, and locked by Close, which so waits for them.
	life   sync.RWMutex
	closed bool
}

// Open reads the network. Load comes first.
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

// open reads the network for runs on so many processors.
func open(cfg Config, threads int) (_ *ort.DynamicAdvancedSession, err error) {
	options, err := ort.NewSessionOptions()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, options.Destroy()) }()
	if err := errors.Join(
		options.SetIntraOpNumThreads(threads),
		options.SetInterOpNumThreads(1),
		// The arena keeps the memory of the largest runs, which Runs bounds. Without it the C allocator keeps more (a
		// process that had worked held 60 MB more), or, told to return it, spends as long again on page faults.
		options.SetCpuMemArena(true),
		options.SetMemPattern(false),
		// Weights do not come and go; in the arena they would only leave holes when they are rearranged.
		options.AddSessionConfigEntry("session.use_device_allocator_for_initializers", "1"),
		// Threads that wait for work must not burn the processors that other requests need.
		options.AddSessionConfigEntry("session.intra_op.allow_spinning", "0"),
		// What remains on denormal numbers is noise, but takes a hundred times as long.
		options.AddSessionConfigEntry("session.set_denormal_as_zero", "1"),
	); err != nil {
		return nil, err
	}
	return ort.NewDynamicAdvancedSession(cfg.Model, []string{cfg.Input}, cfg.Outputs, options)
}

// Run computes the outputs for one input, in the order of Config.Outputs. It waits for its turn, and stops when ctx
// ends. The caller owns what it returns. An error means that there is no result, never a part of one; a number that is
// not finite is an error too, for it would pass for a photo without faces.
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
		// Should this fail, the run goes on to its end, which is all that is lost.
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

// Close waits for running runs and frees the network. Further runs fail. Closing twice is fine.
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

// recovered turns a panic of the binding into an error: it must not look like an empty result, nor end the program.
func recovered(doing string, err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%s: panic: %v", doing, r)
	}
}
