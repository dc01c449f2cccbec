package tpm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// errSilent says that no answer came.
var errSilent = errors.New("no answer")

const (
	headerSize  = 10      // of commands and responses (TPM 2.0 part 1, §18)
	maxResponse = 4 << 10 // as TPMs for PCs have it
	// maxWait bounds a call when its context does not: making a storage key takes seconds on slow TPMs.
	maxWait = 30 * time.Second
	// busyTries is how often a command is sent that the TPM asks to send again.
	busyTries = 5
	busyPause = 50 * time.Millisecond
)

// Response codes that ask to send the command again (TPM 2.0 part 2, §6.6.3): nothing was done.
const (
	rcYielded = 0x908
	rcTesting = 0x90a
	rcRetry   = 0x922
)

// link is an open TPM. It implements go-tpm's transport.TPM.
type link struct {
	ctx  context.Context
	rw   io.ReadWriteCloser
	stop func() bool
}

// dial opens a TPM: a device, or a Unix socket of an emulator that speaks the same bytes. The end of ctx ends what is
// waited for, as far as the device can be interrupted.
func dial(ctx context.Context, path string) (*link, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errSilent, err)
	}
	var rw interface {
		io.ReadWriteCloser
		SetDeadline(time.Time) error
	}
	switch {
	case info.Mode()&os.ModeSocket != 0:
		rw, err = (&net.Dialer{}).DialContext(ctx, "unix", path)
	case info.Mode()&os.ModeCharDevice != 0:
		rw, err = os.OpenFile(path, os.O_RDWR, 0)
	default:
		err = errors.New("it is neither a device nor a socket")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errSilent, err)
	}
	// A device that cannot be waited for refuses deadlines; the driver has time limits of its own.
	_ = rw.SetDeadline(time.Now().Add(maxWait))
	stop := context.AfterFunc(ctx, func() { _ = rw.SetDeadline(time.Unix(1, 0)) })
	return &link{ctx, rw, stop}, nil
}

// Close closes the TPM.
func (l *link) Close() error {
	l.stop()
	return l.rw.Close()
}

// Send sends a command and returns the response. A TPM that is busy is asked again, a few times.
func (l *link) Send(command []byte) ([]byte, error) {
	for try := 1; ; try++ {
		response, err := l.exchange(command)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errSilent, err)
		}
		switch binary.BigEndian.Uint32(response[6:]) {
		case rcYielded, rcTesting, rcRetry:
		default:
			return response, nil
		}
		if try == busyTries {
			return response, nil
		}
		select {
		case <-l.ctx.Done():
			return nil, context.Cause(l.ctx)
		case <-time.After(busyPause << try):
		}
	}
}

// exchange sends a command once. A device gives its response in one read; a socket may not.
func (l *link) exchange(command []byte) ([]byte, error) {
	if _, err := l.rw.Write(command); err != nil {
		return nil, err
	}
	response := make([]byte, maxResponse)
	n, err := io.ReadAtLeast(l.rw, response, headerSize)
	if err != nil {
		return nil, err
	}
	size := int(binary.BigEndian.Uint32(response[2:]))
	if size < headerSize || size > maxResponse || n > size {
		return nil, fmt.Errorf("a response of %d bytes says it has %d", n, size)
	}
	if _, err := io.ReadFull(l.rw, response[n:size]); err != nil {
		return nil, err
	}
	return response[:size], nil
}
