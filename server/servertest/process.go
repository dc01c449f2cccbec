package servertest

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"sync"
)

// Environ is the environment of the process without the variables of the program and of its tests, for programs that
// a test starts.
func Environ() []string {
	return slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, "VISAGE_") })
}

// Tail keeps the last writes of a program that a test starts, for the messages of the test. The zero value is ready.
// It is safe for concurrent use.
type Tail struct {
	mu     sync.Mutex
	writes [][]byte
}

const tailWrites = 5_000

// Write implements io.Writer. It keeps a copy.
func (t *Tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.writes = append(t.writes, bytes.Clone(p))
	if len(t.writes) > tailWrites {
		t.writes = t.writes[1:]
	}
	return len(p), nil
}

// String returns what is kept.
func (t *Tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.Join(t.writes, nil))
}
