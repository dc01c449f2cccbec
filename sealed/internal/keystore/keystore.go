// Package keystore stores the epoch keys of spaces apart from the data, as files in a directory of their own. A copy of
// the data without this directory opens nothing, and destroying the file of an epoch makes every copy of what was
// sealed under it unreadable.
package keystore

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/visage-face/visage/internal/durable"
	"github.com/visage-face/visage/internal/owned"
	"github.com/visage-face/visage/sealed/internal/format"
)

// ErrNotFound says that there is no key of that epoch.
var ErrNotFound = errors.New("no such epoch key")

// Store keeps sealed epoch keys. It is safe for concurrent use, as long as no epoch is written by two callers at once.
type Store interface {
	// Put keeps the sealed key of an epoch; it is durable on return. It refuses to replace one.
	Put(space format.ID, epoch uint32, sealed []byte) error
	// Get returns what Put was given.
	Get(space format.ID, epoch uint32) ([]byte, error)
	// Replace puts another sealed form of a key in place of the one that is there, which is then overwritten. A crash
	// leaves the one or the other, and maybe the old form beside it until Tidy. One that is not there: ErrNotFound.
	Replace(space format.ID, epoch uint32, sealed []byte) error
	// Tidy destroys what a crash left of Put and Replace. Nobody may be writing keys of the space meanwhile.
	Tidy(space format.ID) error
	// List returns the epochs of a space that have a key, in no order.
	List(space format.ID) ([]uint32, error)
	// DestroyEpoch removes one key for good; one that is not there is no error.
	DestroyEpoch(space format.ID, epoch uint32) error
	// Destroy removes every key of a space for good.
	Destroy(space format.ID) error
}

// maxKey bounds the file of an epoch key, in bytes; it has about a hundred.
const maxKey = 64 << 10

// Directory keeps the epoch keys of one instance below a directory: <instance>/<space>/<epoch>.
type Directory struct{ root string }

// Open uses dir for the epoch keys of an instance, and makes what is not there.
func Open(dir string, instance format.ID) (*Directory, error) {
	root := filepath.Join(dir, "epochs", instance.String())
	if err := durable.MkdirAll(root); err != nil {
		return nil, fmt.Errorf("make the directory of epoch keys: %w", err)
	}
	for _, dir := range []string{filepath.Dir(root), root} {
		if err := owned.CheckDir(dir); err != nil {
			return nil, fmt.Errorf("the directory of epoch keys: %w", err)
		}
	}
	return &Directory{root}, nil
}

func (d *Directory) path(space format.ID, epoch uint32) string {
	return filepath.Join(d.root, space.String(), strconv.FormatUint(uint64(epoch), 10))
}

// Put implements Store.
func (d *Directory) Put(space format.ID, epoch uint32, sealed []byte) error {
	path := d.path(space, epoch)
	if err := durable.MkdirAll(filepath.Dir(path)); err != nil {
		return fmt.Errorf("make the directory of epoch keys: %w", err)
	}
	if _, err := os.Lstat(path); err == nil {
		if _, err := d.Get(space, epoch); !errors.Is(err, ErrNotFound) {
			return fmt.Errorf("epoch key %s exists already", path)
		}
		if err := destroy(path); err != nil { // it has been overwritten
			return err
		}
	}
	return durable.WriteFile(path, sealed)
}

// Replace implements Store. The old file has a second name until it is overwritten; a crash leaves that name.
func (d *Directory) Replace(space format.ID, epoch uint32, sealed []byte) error {
	path := d.path(space, epoch)
	old := path + replaced
	if err := settle(path, old); err != nil {
		return err
	}
	if err := os.Link(path, old); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: %s", ErrNotFound, path)
		}
		return fmt.Errorf("keep hold of the old epoch key: %w", err)
	}
	return errors.Join(durable.WriteFile(path, sealed), settle(path, old))
}

// replaced ends the second name of a file while another one takes its place.
const replaced = ".replaced"

// settle ends the second name of an epoch key's file. The file is overwritten only if another one has taken its place
// for good: until then both names are of the one file that holds the key.
func settle(path, old string) error {
	second, err := os.Lstat(old)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := durable.SyncDir(filepath.Dir(path)); err != nil { // a process that was killed may not have come to it
		return err
	}
	switch first, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist): // destroyed, or never in place: the second name opens nothing
	case err != nil:
		return err
	case os.SameFile(first, second):
		return durable.Remove(old)
	}
	return destroy(old)
}

// Get implements Store.
func (d *Directory) Get(space format.ID, epoch uint32) ([]byte, error) {
	path := d.path(space, epoch)
	b, err := owned.ReadSecret(path, maxKey)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, path)
	}
	if err == nil && len(b) > 0 && bytes.Count(b, []byte{0}) == len(b) {
		// It is being destroyed at this moment, or a crash came in between: it has been overwritten and not yet
		// removed.
		return nil, fmt.Errorf("%w: %s has been overwritten", ErrNotFound, path)
	}
	return b, err
}

// List implements Store. Names that are not an epoch's are what a crash left of a file being written; they are not
// listed.
func (d *Directory) List(space format.ID) (epochs []uint32, err error) {
	entries, err := os.ReadDir(filepath.Join(d.root, space.String()))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		if n, err := strconv.ParseUint(e.Name(), 10, 32); err == nil {
			epochs = append(epochs, uint32(n))
		}
	}
	return epochs, nil
}

// DestroyEpoch implements Store. The file is overwritten before it is removed; what lies under the file system
// (remapped blocks, snapshots) may keep a copy all the same, which the threat model says.
func (d *Directory) DestroyEpoch(space format.ID, epoch uint32) error {
	path := d.path(space, epoch)
	return errors.Join(destroy(path), destroy(path+replaced))
}

// Tidy implements Store.
func (d *Directory) Tidy(space format.ID) error {
	dir := filepath.Join(d.root, space.String())
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		name, err := filepath.Join(dir, e.Name()), error(nil)
		if path, second := strings.CutSuffix(name, replaced); second {
			err = settle(path, name)
		} else if durable.IsUnfinished(name) {
			err = destroy(name) // it may hold a key that is in use
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func destroy(path string) error {
	if err := overwrite(path); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("overwrite epoch key: %w", err)
	}
	if err := durable.Remove(path); err != nil {
		return fmt.Errorf("remove epoch key: %w", err)
	}
	return nil
}

// Destroy implements Store.
func (d *Directory) Destroy(space format.ID) error {
	dir := filepath.Join(d.root, space.String())
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := destroy(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return durable.Remove(dir)
}

func overwrite(path string) error {
	f, err := owned.Open(path, os.O_WRONLY) // never through a link: what it leads to is no key
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(make([]byte, info.Size()), 0); err != nil {
		return err
	}
	return f.Sync()
}

// Memory keeps epoch keys for a store that forgets.
type Memory struct {
	mu   sync.Mutex
	keys map[format.ID]map[uint32][]byte
}

// Put implements Store.
func (m *Memory) Put(space format.ID, epoch uint32, sealed []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.keys == nil {
		m.keys = map[format.ID]map[uint32][]byte{}
	}
	if m.keys[space] == nil {
		m.keys[space] = map[uint32][]byte{}
	}
	if _, ok := m.keys[space][epoch]; ok {
		return fmt.Errorf("epoch key %d of %s exists already", epoch, space)
	}
	m.keys[space][epoch] = sealed
	return nil
}

// Get implements Store.
func (m *Memory) Get(space format.ID, epoch uint32) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key, ok := m.keys[space][epoch]
	if !ok {
		return nil, ErrNotFound
	}
	return key, nil
}

// Replace implements Store.
func (m *Memory) Replace(space format.ID, epoch uint32, sealed []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.keys[space][epoch]; !ok {
		return ErrNotFound
	}
	m.keys[space][epoch] = sealed
	return nil
}

// Tidy implements Store.
func (m *Memory) Tidy(format.ID) error { return nil }

// Destroy implements Store.
func (m *Memory) Destroy(space format.ID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.keys, space)
	return nil
}

// List implements Store.
func (m *Memory) List(space format.ID) (epochs []uint32, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for epoch := range m.keys[space] {
		epochs = append(epochs, epoch)
	}
	return epochs, nil
}

// DestroyEpoch implements Store.
func (m *Memory) DestroyEpoch(space format.ID, epoch uint32) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.keys[space], epoch)
	return nil
}
