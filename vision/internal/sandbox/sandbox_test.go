package sandbox_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/visage-face/visage/vision/internal/sandbox"
)

// program assembles a module with a memory and the functions "loop", which never ends, "recur", which calls itself
// without end, "grow", which asks for so many pages, "poke", which writes to an address, and "add".
func program(t *testing.T) []byte {
	t.Helper()
	section := func(id byte, body ...byte) []byte { return append([]byte{id, byte(len(body))}, body...) }
	code := func(body ...byte) []byte { return append([]byte{byte(len(body) + 1), 0}, body...) }
	export := func(name string, kind, i byte) []byte {
		return append(append([]byte{byte(len(name))}, name...), kind, i)
	}
	functions := bytes.Join([][]byte{
		{6},
		code(0x03, 0x40, 0x0c, 0, 0x0b, 0x0b), // loop br 0 end end
		code(0x10, 1, 0x0b),                   // call 1 end
		code(0x20, 0, 0x40, 0, 0x0b),          // local.get 0 memory.grow end
		code(0x20, 0, 0x41, 7, 0x36, 2, 0, 0x41, 0, 0x0b), // local.get 0 i32.const 7 i32.store i32.const 0 end
		code(0x20, 0, 0x41, 42, 0x6a, 0x0b),               // local.get 0 i32.const 42 i32.add end
		code(0x0b),                                        // _initialize
	}, nil)
	exports := bytes.Join([][]byte{
		{7}, export("memory", 2, 0), export("loop", 0, 0), export("recur", 0, 1), export("grow", 0, 2),
		export("poke", 0, 3), export("add", 0, 4), export("_initialize", 0, 5),
	}, nil)
	module := bytes.Join([][]byte{
		[]byte("\x00asm\x01\x00\x00\x00"),
		section(1, 2, 0x60, 0, 0, 0x60, 1, 0x7f, 1, 0x7f),
		section(3, 6, 0, 0, 1, 1, 1, 0),
		section(5, 1, 0, 1),
		section(6, 1, 0x7f, 1, 0x41, 0, 0x0b),
		section(7, exports...),
		section(10, functions...),
	}, nil)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(module); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return packed.Bytes()
}

func open(t *testing.T, limit time.Duration) *sandbox.Program {
	t.Helper()
	p := sandbox.New(program(t), sandbox.Limits{Memory: 4 << 20, Time: limit})
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func call(ctx context.Context, p *sandbox.Program, name string, args ...uint32) (result uint32, err error) {
	err = p.Run(ctx, func(run *sandbox.Instance) (err error) {
		result, err = run.Call(name, args...)
		return err
	})
	return result, err
}

func TestProgramsRun(t *testing.T) {
	p := open(t, time.Minute)
	for range 3 {
		if v, err := call(t.Context(), p, "add", 8); err != nil || v != 50 {
			t.Errorf("8 + 42 is %d, %v", v, err)
		}
	}
}

func TestProgramsThatNeverEndAreStopped(t *testing.T) {
	p := open(t, 20*time.Millisecond)
	if _, err := call(t.Context(), p, "loop"); !errors.Is(err, sandbox.ErrTime) {
		t.Errorf("a loop without end gives %v", err)
	}
	if _, err := call(t.Context(), p, "recur"); err == nil {
		t.Error("a function that calls itself without end returned")
	}
	gone := errors.New("the caller is gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	patient := open(t, time.Hour)
	collected := make(chan struct{})
	go func() { // a collection of garbage waits for every goroutine to stop, the program's among them
		defer close(collected)
		for ctx.Err() == nil {
			runtime.GC()
		}
	}()
	defer func() { <-collected }()
	time.AfterFunc(20*time.Millisecond, func() { cancel(gone) })
	if _, err := call(ctx, patient, "loop"); !errors.Is(err, gone) {
		t.Errorf("a loop without end and without a caller gives %v", err)
	}
	if _, err := call(ctx, patient, "add", 1); !errors.Is(err, gone) {
		t.Errorf("a run without a caller gives %v", err)
	}
}

func TestCloseWaitsForRuns(t *testing.T) {
	p := sandbox.New(program(t), sandbox.Limits{Memory: 4 << 20, Time: 50 * time.Millisecond})
	started, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- p.Run(t.Context(), func(run *sandbox.Instance) error {
			close(started)
			_, err := run.Call("loop")
			return err
		})
	}()
	<-started
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, sandbox.ErrTime) {
		t.Errorf("the run under way ended with %v", err)
	}
	if _, err := call(t.Context(), p, "add", 1); !errors.Is(err, sandbox.ErrUnavailable) {
		t.Errorf("a run after the end gives %v", err)
	}
}

func TestMemoryHasABound(t *testing.T) {
	p := open(t, time.Minute)
	const pages = 4 << 20 >> 16
	if v, err := call(t.Context(), p, "grow", pages-1); err != nil || v != 1 {
		t.Errorf("all that is allowed: %d, %v", int32(v), err)
	}
	if v, err := call(t.Context(), p, "grow", pages); err != nil || int32(v) != -1 {
		t.Errorf("more than is allowed: %d, %v", int32(v), err)
	}
	if _, err := call(t.Context(), p, "poke", 1<<16-2); err == nil {
		t.Error("a write beyond the memory went through")
	}
	err := p.Run(t.Context(), func(run *sandbox.Instance) error {
		if _, err := run.Call("grow", 3); err != nil {
			return err
		}
		if _, err := run.Call("poke", 4<<16-4); err != nil {
			return err
		}
		if v, err := run.Word(4<<16 - 4); err != nil || v != 7 {
			t.Errorf("the word is %d, %v", v, err)
		}
		if _, err := run.Read(4<<16-4, 5); err == nil {
			t.Error("a read beyond the memory went through")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	// Nothing of a run is left for the next.
	err = p.Run(t.Context(), func(run *sandbox.Instance) error {
		if _, err := run.Word(4<<16 - 4); err == nil {
			t.Error("the memory of the run before is still there")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// The memory of a run is given back when its user panics, too.
func TestPanicsLeaveNoMemory(t *testing.T) {
	maps := func() int {
		b, err := os.ReadFile("/proc/self/maps")
		if err != nil {
			t.Skip(err)
		}
		return bytes.Count(b, []byte("\n"))
	}
	p := open(t, time.Minute)
	const runs = 100
	panics := func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was lost")
			}
		}()
		err := p.Run(t.Context(), func(*sandbox.Instance) error { panic("a bug") })
		t.Errorf("a run whose user panics returned %v", err)
	}
	panics() // which compiles the program
	before := maps()
	for range runs {
		panics()
	}
	if after := maps(); after-before > runs/2 {
		t.Errorf("%d runs left %d mappings", runs, after-before)
	}
}

func TestBrokenProgramsAreUnavailable(t *testing.T) {
	for name, packed := range map[string][]byte{"not packed": []byte("hello"), "empty": nil} {
		p := sandbox.New(packed, sandbox.Limits{Memory: 1 << 20, Time: time.Minute})
		if _, err := call(t.Context(), p, "add", 1); !errors.Is(err, sandbox.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	closed := open(t, time.Minute)
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := call(t.Context(), closed, "add", 1); !errors.Is(err, sandbox.ErrUnavailable) {
		t.Errorf("closed: %v", err)
	}
}
