package timing

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// ErrNoBaseline says that the baseline is not installed.
var ErrNoBaseline = errors.New("no baseline")

// Baseline is a running time.mjs of the folder bench/wasm: the npm package @vladmandic/face-api on its WebAssembly
// backend, which finds the faces on the small photo, their landmarks and their descriptors. Its input is pixels, so
// that decoding is not included in its time.
type Baseline struct {
	command    *exec.Cmd
	cancel     context.CancelFunc
	in         interface{ Close() error }
	ask        *bufio.Writer
	answer     *bufio.Scanner
	complaints bytes.Buffer
	scratch    string
}

// StartBaseline starts the baseline in a folder and waits until it is warm. The error is ErrNoBaseline when node or the
// folder's packages are not installed. The caller closes it.
func StartBaseline(ctx context.Context, folder string, p Pictures) (_ *Baseline, err error) {
	node, err := exec.LookPath("node")
	if err != nil {
		return nil, fmt.Errorf("%w: node is not installed", ErrNoBaseline)
	}
	if _, err := os.Stat(filepath.Join(folder, "node_modules", "@tensorflow")); err != nil {
		return nil, fmt.Errorf("%w: its packages are missing; run npm ci --ignore-scripts in %s", ErrNoBaseline, folder)
	}
	scratch, err := os.MkdirTemp("", "visage-baseline-")
	if err != nil {
		return nil, fmt.Errorf("start the baseline: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	b := &Baseline{cancel: cancel, scratch: scratch}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("start the baseline: %w", err), b.Close())
		}
	}()
	raw := filepath.Join(scratch, "photo.rgb")
	if err := os.WriteFile(raw, p.Pixels, 0o600); err != nil {
		return nil, err
	}
	b.command = exec.CommandContext(ctx, node, "time.mjs", raw, strconv.Itoa(SmallWidth), strconv.Itoa(SmallHeight))
	b.command.Dir, b.command.Stderr = folder, &b.complaints
	in, err := b.command.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := b.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	b.in, b.ask, b.answer = in, bufio.NewWriter(in), bufio.NewScanner(out)
	if err := b.command.Start(); err != nil {
		b.command = nil
		return nil, err
	}
	if !b.answer.Scan() {
		return nil, fmt.Errorf("no answer; its error output: %s", b.said())
	}
	return b, nil
}

// said returns the baseline's standard error, after its end.
func (b *Baseline) said() string {
	b.cancel()
	_ = b.command.Wait() // it was ended by the line above
	b.command = nil
	return b.complaints.String()
}

// Round makes the baseline process the photo once.
func (b *Baseline) Round() (time.Duration, error) {
	_, err := b.ask.WriteString("again\n")
	if err = errors.Join(err, b.ask.Flush()); err != nil {
		return 0, fmt.Errorf("ask the baseline: %w", err)
	}
	if !b.answer.Scan() {
		return 0, fmt.Errorf("the baseline ended: %w", errors.Join(b.answer.Err(), errors.New(b.said())))
	}
	var answer struct {
		MS         float64
		Faces      int
		Descriptor int
	}
	if err := json.Unmarshal(b.answer.Bytes(), &answer); err != nil {
		return 0, fmt.Errorf("read the baseline's answer: %w", err)
	}
	if answer.Faces == 0 || answer.Descriptor == 0 {
		return 0, errors.New("the baseline found no face on the photo")
	}
	return time.Duration(answer.MS * float64(time.Millisecond)), nil
}

// Close ends the baseline.
func (b *Baseline) Close() error {
	if b.in != nil {
		b.in.Close() // the script ends with its input
	}
	b.cancel()
	if b.command != nil {
		_ = b.command.Wait() // it may have been killed by the line above: its exit code is of no use
	}
	return os.RemoveAll(b.scratch)
}
