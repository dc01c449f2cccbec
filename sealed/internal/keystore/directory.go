package keystore

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/visage-face/visage/internal/durable"
	"github.com/visage-face/visage/internal/owned"
	"github.com/visage-face/visage/sealed/internal/format"
)

// maxKey bounds the file of an epoch key, in bytes; it has about a hundred.
const maxKey = 64 << 10

// Directory keeps the epoch keys of one instance below a directory: epochs/<instance>/<space>/<epoch>, and its mark in
// places/<instance>. The directory may be of a volume that fails, or that goes away and leaves an empty one in its
// place: that is a *OutageError, never a missing key, and nothing counts as destroyed there.
type Directory struct {
	root   string      // of the keys of the instance
	marks  string      // of its marks
	name   string      // as it was given
	marked atomic.Bool // it had a mark: a directory without one is another
}

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
	return &Directory{root: root, marks: filepath.Join(dir, "places", instance.String()), name: dir}, nil
}

// Grade implements Place.
func (d *Directory) Grade() (Grade, string) { return GradeKeyStore, "" }

// GradeOf implements Place.
func (d *Directory) GradeOf(context.Context, format.ID, uint32) (Grade, error) {
	return GradeKeyStore, nil
}

// Name implements Place.
func (d *Directory) Name() string { return d.name }

// Close implements Place.
func (d *Directory) Close() {}

// Remove removes the folders of an instance that has no keys, and its marks.
func (d *Directory) Remove() error {
	d.marked.Store(false)
	err := os.RemoveAll(d.marks)
	if removed := os.Remove(d.root); !errors.Is(removed, fs.ErrNotExist) {
		err = errors.Join(err, removed)
	}
	return err
}

// Spaces implements Place.
func (d *Directory) Spaces(context.Context) (spaces []format.ID, err error) {
	defer d.tell(&err)
	entries, err := os.ReadDir(d.root)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if id, ok := parseID(e.Name()); ok {
			spaces = append(spaces, id)
		}
	}
	return spaces, nil
}

// parseID reads an id as format.ID writes it.
func parseID(text string) (id format.ID, ok bool) {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != len(id) || hex.EncodeToString(raw) != text {
		return format.ID{}, false
	}
	return format.ID(raw), true
}

func (d *Directory) path(space format.ID, epoch uint32) string {
	return filepath.Join(d.root, space.String(), strconv.FormatUint(uint64(epoch), 10))
}

// Put implements Store. The key is read again: a volume may have come into the place of the directory that it was
// written to.
func (d *Directory) Put(_ context.Context, space format.ID, epoch uint32, sealed []byte) (err error) {
	defer d.tell(&err)
	if err := d.put(space, epoch, sealed); err != nil {
		return err
	}
	if there, err := d.read(space, epoch); err != nil || !bytes.Equal(there, sealed) {
		return &OutageError{d.name, errors.Join(errors.New("an epoch key is not there after it was written"), err)}
	}
	return nil
}

func (d *Directory) put(space format.ID, epoch uint32, sealed []byte) error {
	path := d.path(space, epoch)
	// Only the space's own directory is made: where that of the instance is missing, the volume is.
	dir := filepath.Dir(path)
	if err := os.Mkdir(dir, 0o700); err == nil {
		if err := durable.SyncDir(filepath.Dir(dir)); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the directory of epoch keys: %w", err)
	}
	err := putNew(path, sealed)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if _, err := d.read(space, epoch); !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("%w: %s", ErrExists, path)
	}
	if err := destroy(path); err != nil { // it has been overwritten
		return err
	}
	if err = putNew(path, sealed); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: %s", ErrExists, path)
	}
	return err
}

// putNew writes a file that is not there yet: not under another name first, so that of several processes one succeeds.
// What a crash leaves of it is a number that no bundle names.
func putNew(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = f.Chmod(0o600) // the umask may have removed bits
	if err == nil {
		_, err = f.Write(data)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		return durable.SyncDir(filepath.Dir(path))
	}
	return errors.Join(fmt.Errorf("write epoch key %s: %w", path, err), os.Remove(path))
}

// Replace implements Store. The old file has a second name until it is overwritten; a crash leaves that name. Of two
// callers who replace the same key at once, the later one may not be noticed.
func (d *Directory) Replace(_ context.Context, space format.ID, epoch uint32, from, to []byte) (err error) {
	defer d.tell(&err)
	path := d.path(space, epoch)
	old := path + replaced
	if err := settle(path, old); err != nil {
		return err
	}
	if now, err := d.read(space, epoch); err != nil {
		return err
	} else if !bytes.Equal(now, from) {
		return fmt.Errorf("%w: %s", ErrChanged, path)
	}
	if err := os.Link(path, old); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: %s", ErrNotFound, path)
		}
		return fmt.Errorf("keep hold of the old epoch key: %w", err)
	}
	return errors.Join(durable.WriteFile(path, to), settle(path, old))
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
func (d *Directory) Get(_ context.Context, space format.ID, epoch uint32) (sealed []byte, err error) {
	defer d.tell(&err)
	return d.read(space, epoch)
}

func (d *Directory) read(space format.ID, epoch uint32) ([]byte, error) {
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
func (d *Directory) List(_ context.Context, space format.ID) (epochs []uint32, err error) {
	defer d.tell(&err)
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
func (d *Directory) DestroyEpoch(_ context.Context, space format.ID, epoch uint32) (err error) {
	defer d.tell(&err)
	path := d.path(space, epoch)
	return errors.Join(destroy(path), destroy(path+replaced))
}

// Tidy implements Store.
func (d *Directory) Tidy(_ context.Context, space format.ID) (err error) {
	defer d.tell(&err)
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

// errNoVolume says that the mark of a place is not there any more, and so its keys are not.
var errNoVolume = errors.New("the mark of the epoch keys is not there: is their volume mounted?")

// FullError says that the volume of the keys has no room for a further one. It is a visage.Shortage.
type FullError struct {
	Place string // its name
	Err   error
}

// Error says which place it is, and what the system said.
func (e *FullError) Error() string {
	return fmt.Sprintf("the volume of the epoch keys at %s is full: %v", e.Place, e.Err)
}

// Unwrap returns what the system said.
func (e *FullError) Unwrap() error { return e.Err }

// Shortage is the sentence for a caller.
func (e *FullError) Shortage() string {
	return "The volume of the service's epoch keys is full. Nothing was changed. Have the operator free space on the " +
		"volume or enlarge it."
}

// tell makes an error, or a result, of a directory that is not the one that was opened an outage, and so errors of its
// volume other than that it is full.
func (d *Directory) tell(err *error) {
	if d.marked.Load() {
		switch newest, failed := d.newestMark(); {
		case failed != nil:
			*err = errors.Join(*err, failed)
		case newest == 0: // whatever was not found, or there already, says nothing
			*err = &OutageError{d.name, errNoVolume}
			return
		}
	}
	system, ok := errors.AsType[syscall.Errno](*err)
	switch {
	case !ok, errors.Is(system, fs.ErrNotExist), errors.Is(system, fs.ErrExist):
	case durable.IsFull(*err):
		*err = &FullError{d.name, *err}
	default:
		*err = &OutageError{d.name, *err}
	}
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
func (d *Directory) Destroy(_ context.Context, space format.ID) (err error) {
	defer d.tell(&err)
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
