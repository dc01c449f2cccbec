//go:build linux

package replicas_test

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The clock of one process. Programs in Go ask the vDSO, the code of the kernel in every process, for the time, and not
// the C library, so that libfaketime has no effect on them; namespaces of time have no clock of the wall. What can be
// done is to replace the function of the vDSO in the memory of the process, which is a copy of its own once it is
// written to. The monotonic clock stays as it is.

// clockStub asks the kernel, and adds a number of seconds to the clock of the wall (0), but not to others. Its address
// may be any; the number lies at offsetOfJump.
var clockStub = []byte{
	0xb8, 0xe4, 0x00, 0x00, 0x00, // mov eax, 228: clock_gettime
	0x0f, 0x05, // syscall
	0x85, 0xff, // test edi, edi: the clock
	0x75, 0x0a, // jne to the ret
	0x48, 0x8b, 0x15, 0x06, 0x00, 0x00, 0x00, // mov rdx, [rip+6]
	0x48, 0x01, 0x16, // add [rsi], rdx: the seconds
	0xc3,       // ret
	0x90, 0x90, // and 8 bytes follow
}

// skewable reports that the clock of one process can be set here.
const skewable = true

// setClock makes the clock of the wall of one process differ from that of others by so many seconds.
func setClock(ctx context.Context, pid int, by time.Duration) error {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	from, to, err := vdso(proc)
	if err != nil {
		return err
	}
	memory, err := os.OpenFile(filepath.Join(proc, "mem"), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer memory.Close() // what was written is there at once
	image := make([]byte, to-from)
	if _, err := memory.ReadAt(image, from); err != nil {
		return fmt.Errorf("read the vDSO: %w", err)
	}
	code, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return fmt.Errorf("read the vDSO: %w", err)
	}
	symbols, err := code.DynamicSymbols()
	if err != nil {
		return fmt.Errorf("read the vDSO: %w", err)
	}
	stub := binary.LittleEndian.AppendUint64(bytes.Clone(clockStub), uint64(int64(by/time.Second)))
	for _, s := range symbols {
		if s.Name != "__vdso_clock_gettime" || s.Size < uint64(len(stub)) {
			continue
		}
		at := from + int64(s.Value)
		return whileStopped(ctx, pid, from, to, func() error {
			_, err := memory.WriteAt(stub, at)
			return err
		})
	}
	return errors.New("the vDSO has no function for the clock that is long enough")
}

// vdso returns where the vDSO of a process lies.
func vdso(proc string) (from, to int64, err error) {
	maps, err := os.ReadFile(filepath.Join(proc, "maps"))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(maps)) {
		if strings.HasSuffix(strings.TrimSpace(line), "[vdso]") {
			_, err := fmt.Sscanf(line, "%x-%x", &from, &to)
			return from, to, err
		}
	}
	return 0, 0, errors.New("the process has no vDSO")
}

// whileStopped does something while the process is stopped and none of its threads is in a range of its code.
func whileStopped(ctx context.Context, pid int, from, to int64, do func() error) (err error) {
	for ctx.Err() == nil {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			return err
		}
		outside, err := stoppedOutside(pid, from, to)
		if err == nil && outside {
			err = do()
		}
		if goOn := syscall.Kill(pid, syscall.SIGCONT); outside || err != nil || goOn != nil {
			return errors.Join(err, goOn)
		}
		pause(ctx, time.Millisecond)
	}
	return context.Cause(ctx)
}

func stoppedOutside(pid int, from, to int64) (bool, error) {
	threads, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "task", "*", "syscall"))
	if err != nil {
		return false, err
	}
	for _, t := range threads {
		text, err := os.ReadFile(t)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it has ended
		}
		if err != nil {
			return false, err
		}
		fields := strings.Fields(string(text))
		at, err := strconv.ParseInt(fields[len(fields)-1], 0, 64)
		if err != nil || at >= from && at < to { // it still runs, or is there
			return false, nil
		}
	}
	return len(threads) > 0, nil
}
