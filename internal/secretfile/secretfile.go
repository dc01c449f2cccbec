// Package secretfile reads secrets that operators keep in the first line of a file, so that they can be replaced while
// the program runs. Such files are often links to what another program has mounted, so that links are followed; package
// owned is for files that must belong to this user alone.
package secretfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// ErrEmpty is wrapped by the error about a file whose first line is empty or blank.
var ErrEmpty = errors.New("its first line is empty")

// MaxBytes is how long the first line of a file may be.
const MaxBytes = 64 << 10

// FirstLine returns the first line of the file at path, of at most MaxBytes, without its end.
func FirstLine(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close() // read only: nothing can be lost
	raw, err := io.ReadAll(io.LimitReader(f, MaxBytes+2))
	defer clear(raw)
	if err != nil {
		return "", err
	}
	line, _, _ := bytes.Cut(raw, []byte("\n"))
	line = bytes.TrimRight(line, "\r")
	switch {
	case len(line) > MaxBytes:
		return "", fmt.Errorf("read %s: its first line is longer than %d bytes", path, MaxBytes)
	case len(bytes.TrimSpace(line)) == 0:
		return "", fmt.Errorf("read %s: %w", path, ErrEmpty)
	}
	return string(line), nil
}
