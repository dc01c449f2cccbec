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

// File is one that may be replaced while it is in use, such as that of authorities. It is safe for concurrent use.
type File struct {
	path string

	mu   sync.Mutex // guards seen
	seen fileStamp
}

// fileStamp tells a file that was written anew from the one before.
type fileStamp struct {
	written time.Time
	size    int64
}

// Watch returns the file at a path as it is now. Call it before the file is read.
func Watch(path string) *File {
	f := &File{path: path}
	f.seen, _ = f.stamp() // a file that is missing is another one when it is there
	return f
}

func (f *File) stamp() (fileStamp, bool) {
	info, err := os.Stat(f.path)
	if err != nil {
		return fileStamp{}, false
	}
	return fileStamp{info.ModTime(), info.Size()}, true
}

// Changed reports whether the file is another than when it was looked at last, once for each change. A file that is
// missing, because it is being replaced, has not changed.
func (f *File) Changed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	now, there := f.stamp()
	if !there || now == f.seen {
		return false
	}
	f.seen = now
	return true
}
