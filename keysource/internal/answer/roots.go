package answer

import (
	"crypto/x509"
	"fmt"
	"os"
	"sync"
	"time"
)

// ReadRoots reads the authorities in a file, in PEM.
func ReadRoots(path string) (*x509.CertPool, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(raw) {
		return nil, fmt.Errorf("%s has no certificate in PEM", path)
	}
	return roots, nil
}

// How long File.Renew waits after a read that failed: the first time, and at most, after twice as long each time.
const (
	renewPause     = 5 * time.Second
	longRenewPause = time.Minute
)

// File is one that may be replaced while it is in use, such as that of authorities. It is safe for concurrent use.
type File struct {
	path string

	mu      sync.Mutex // guards the fields below
	read    fileStamp  // of the file that was read last
	failed  fileStamp  // of the file that could not be read since
	pause   time.Duration
	retry   time.Time // when the failed one may be read again
	reading bool
}

// fileStamp tells a file that was written anew from the one before.
type fileStamp struct {
	written time.Time
	size    int64
}

// Watch returns the file at a path as it is now. Call it before the file is read.
func Watch(path string) *File {
	f := &File{path: path}
	f.read, _ = f.stamp() // a file that is missing is another one when it is there
	return f
}

func (f *File) stamp() (fileStamp, bool) {
	info, err := os.Stat(f.path)
	if err != nil {
		return fileStamp{}, false
	}
	return fileStamp{info.ModTime(), info.Size()}, true
}

// Renew calls read if the file is another than the one that was read last. When read fails, the next calls of Renew
// do that again after a pause, also if the file is the same: it may have become readable without a change. A file that
// is missing, because it is being replaced, is not read. While read runs, other calls return at once.
func (f *File) Renew(read func() error) {
	now, due := f.begin()
	if !due {
		return
	}
	f.end(now, read())
}

// begin reports whether the file is to be read now, and as which one.
func (f *File) begin() (fileStamp, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now, there := f.stamp()
	current := now == f.read && f.failed == fileStamp{}
	if !there || f.reading || current || now == f.failed && time.Now().Before(f.retry) {
		return fileStamp{}, false
	}
	f.reading = true
	return now, true
}

// end notes how the read of a file has ended.
func (f *File) end(now fileStamp, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reading = false
	if err == nil {
		f.read, f.failed, f.pause = now, fileStamp{}, 0
		return
	}
	if now != f.failed {
		f.pause = 0
	}
	f.pause = min(max(2*f.pause, renewPause), longRenewPause)
	f.failed, f.retry = now, time.Now().Add(f.pause)
}
