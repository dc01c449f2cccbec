package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/internal/durable"
	"github.com/visage-face/visage/internal/owned"
)

// localFolder is the folder below Config.Dir in which commands on this machine leave copies of their requests.
const localFolder = "local"

// longestLocal bounds a request that was left there: 255 recipients of RSA keys of 8192 bits in PEM have half of it.
const longestLocal = 1 << 20 // bytes

func (c Config) localDir() string { return filepath.Join(c.Dir, localFolder) }

// LeaveRequest leaves a copy of a request in the data directory dir of the running server, and returns its name for
// the request. The copy proves that the caller can write there, as the user of the service and root can: credentials
// alone, which may have been copied, do not suffice for what would outlive them. remove takes it away again.
func LeaveRequest(dir string, request any) (name string, remove func() error, err error) {
	text, err := json.Marshal(request)
	if err != nil {
		return "", nil, fmt.Errorf("encode a request: %w", err)
	}
	name = visage.NewUUID().String()
	path := filepath.Join(dir, localFolder, name)
	if err := durable.WriteFile(path, text); err != nil {
		return "", nil, fmt.Errorf("leave the request in the data directory: %w", err)
	}
	// the service has a user of its own mostly, and root runs the command
	if info, err := os.Stat(filepath.Dir(path)); err == nil && os.Geteuid() == 0 {
		if at, ok := info.Sys().(*syscall.Stat_t); ok {
			if err := os.Lchown(path, int(at.Uid), int(at.Gid)); err != nil {
				return "", nil, fmt.Errorf("give the request to the user of the service: %w", err)
			}
		}
	}
	return name, func() error {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}, nil
}

// isLocal reports whether a copy of the request was left under a name in the data directory. A copy counts once.
func (c Config) isLocal(name string, request any) (bool, error) {
	if _, err := visage.ParseUUID(name); err != nil {
		return false, nil // none was left
	}
	path := filepath.Join(c.localDir(), name)
	left, err := owned.ReadSecret(path, longestLocal)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the copy of a request: %w", err)
	}
	text, err := json.Marshal(request)
	if err != nil {
		return false, fmt.Errorf("encode a request: %w", err)
	}
	if !bytes.Equal(left, text) {
		return false, nil
	}
	if err := os.Remove(path); err != nil {
		return false, fmt.Errorf("remove the copy of a request: %w", err)
	}
	return true, nil
}
