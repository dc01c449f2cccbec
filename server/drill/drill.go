// Package drill rehearses the revocation of a customer-managed key on a copy of a running server.
//
// The copy is a second server over restored data, on this machine and for a few seconds. The running server and its
// data stay as they are. The package authorises nobody: a copy of a whole instance is the operator's to make.
package drill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/internal/durable"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/sealed/archive"
	"github.com/visage-face/visage/sealed/backup"
)

// Source gives copies of what the running server has.
type Source interface {
	// Backup calls read with a backup of the data.
	Backup(ctx context.Context, read func(io.Reader) error) error
	// Keyring calls read with a copy of the keyring.
	Keyring(ctx context.Context, read func(io.Reader) error) error
}

// Copies makes servers of copied data.
type Copies interface {
	// Restore makes the data of a server in a new directory.
	Restore(ctx context.Context, dir string, keyring io.ReadSeeker, backup io.Reader) error
	// Start starts the server of a directory, on a free port of this machine, and returns when it serves. stop ends it
	// and waits.
	Start(ctx context.Context, dir string) (server Access, stop func() error, err error)
}

// Access is how a copy is reached, as its operator.
type Access struct {
	Endpoint                        string // the base of all planes, without a slash at the end
	Listen                          string // the same for clients on this machine
	CAFile                          string // of the copy's own authority
	TenantID, SubscriptionID, Group string
	ClientID, ClientSecret          string
	VaultsDomain                    string // the label between the name of a vault and the domain
	// Revocation returns the commands by which the holder of a key in a store elsewhere takes the access of a resource
	// to it away, and those that give it back. The key is written as in the state of a resource.
	Revocation func(ctx context.Context, resource, key string) (take, give []string, err error)
}

// Plan says what is rehearsed, and how.
type Plan struct {
	// Resource is the name of the resource, which must be under a customer-managed key. Required.
	Resource string
	// Key is the identifier of a key in a store elsewhere, which this server has no right to revoke: its holder does it
	// when Ask tells them. The copy is moved to that key before, so that the running server does not feel it; if it is
	// the resource's own key, the running server closes the resource too. Empty: a vault of this server is deleted and
	// recovered, and with any other store the resource is locked by command.
	Key string
	// Ask tells the holder of Key what to do in its store, by commands, one a line. It returns at once. Required with
	// Key.
	Ask func(do Deed, commands []string)
	// Waiting is called every 15 seconds while the copy has not felt what the holder does. Required with Key.
	Waiting func(waited, limit time.Duration)
	// Wait bounds how long the holder is waited for, each time. Default: 15 minutes, which a store may need for
	// spreading a change.
	Wait time.Duration
}

// Deed is what the holder of a key does in its store.
type Deed string

// The deeds.
const (
	Revoke   Deed = "revoke"    // take the access to the key away
	GiveBack Deed = "give-back" // give it back
)

// Config is what a Room is made of.
type Config struct {
	// Dir is the directory of the running server's data. A rehearsal has a folder in it, so that its files are on the
	// same volume and under the same protection. Required.
	Dir string
	// Copies makes servers of the copies. Required.
	Copies Copies
	// Limit bounds the time of a rehearsal. Default: one hour, which is enough for 100 GB on a slow disk.
	Limit time.Duration
}

// folder is the folder of a rehearsal in the data directory.
const folder = "rehearsal"

// Room is where rehearsals take place, one at a time. It is safe for concurrent use.
type Room struct {
	cfg  Config
	busy sync.Mutex
}

// New returns a Room. It starts nothing.
func New(cfg Config) (*Room, error) {
	if cfg.Dir == "" || cfg.Copies == nil {
		return nil, errors.New("rehearse: the directory and the copies are required")
	}
	if cfg.Limit == 0 {
		cfg.Limit = time.Hour
	}
	return &Room{cfg: cfg}, nil
}

// Run rehearses the revocation of the key of a resource on a copy of what source has, as a plan says, and reports what
// happened. progress is called at the beginning of each step, from this goroutine; nil: it is not wanted. The files of
// the rehearsal are removed before Run returns, also after an error, and those of a rehearsal that a crash ended before
// Run begins. Errors: a visage.Shortage if the volume has no room for two copies of the data; the cause of an ended
// ctx, and the end of Config.Limit; refusal RequestConflict while another rehearsal runs, also in another process.
func (r *Room) Run(
	ctx context.Context, source Source, plan Plan, progress func(Step),
) (report *Report, err error) {
	if plan.Wait == 0 {
		plan.Wait = 15 * time.Minute
	}
	if !r.busy.TryLock() {
		return nil, refuseSecond()
	}
	defer r.busy.Unlock()
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Limit)
	defer cancel()
	if progress == nil {
		progress = func(Step) {}
	}
	dir, leave, err := r.enter()
	if err != nil {
		return nil, err
	}
	defer func() {
		progress(StepRemove)
		if leaveErr := leave(); leaveErr != nil {
			report, err = nil, errors.Join(err, fmt.Errorf("remove the copy: %w", leaveErr))
		}
	}()
	if err := requireRoom(r.cfg.Dir); err != nil {
		return nil, err
	}
	report = &Report{Resource: plan.Resource, Began: time.Now().UTC(), Passed: true}
	copied, err := r.copyServer(ctx, source, dir, report, progress)
	if err != nil {
		return nil, fmt.Errorf("make a copy of the server: %w", err)
	}
	progress(StepStart)
	access, stop, err := r.cfg.Copies.Start(ctx, copied)
	if err != nil {
		return nil, fmt.Errorf("start the copy: %w", err)
	}
	defer func() { // before its files are removed
		if stopErr := stop(); stopErr != nil {
			report, err = nil, errors.Join(err, fmt.Errorf("stop the copy: %w", stopErr))
		}
	}()
	c, err := newClient(access)
	if err != nil {
		return nil, err
	}
	defer c.close()
	if err := report.rehearse(ctx, c, plan, progress); err != nil {
		return nil, err
	}
	if ctx.Err() != nil { // what was not answered in time does not say that the revocation has failed
		return nil, context.Cause(ctx)
	}
	return report, nil
}

// Clean removes the files of a rehearsal that a crash ended. It leaves one alone that is in progress.
func (r *Room) Clean() error {
	if _, err := os.Lstat(filepath.Join(r.cfg.Dir, folder)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	_, leave, err := r.enter()
	if errors.As(err, new(*visage.Refusal)) {
		return nil
	}
	if err != nil {
		return err
	}
	return leave()
}

func refuseSecond() error {
	return visage.Refuse(visage.Conflict, "RequestConflict",
		"Another rehearsal is in progress: wait until it has ended.")
}

// enter makes the folder of a rehearsal, and locks it. leave removes it.
func (r *Room) enter() (dir string, leave func() error, err error) {
	dir = filepath.Join(r.cfg.Dir, folder)
	for {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return "", nil, err
		}
		unlock, err := durable.LockDir(dir, false)
		switch {
		case errors.Is(err, fs.ErrNotExist): // another process has just removed it
			continue
		case errors.Is(err, durable.ErrLocked):
			return "", nil, refuseSecond()
		case err != nil:
			return "", nil, err
		}
		leave = func() error {
			defer unlock()
			return os.RemoveAll(dir)
		}
		if err := empty(dir); err != nil {
			return "", nil, errors.Join(err, leave())
		}
		return dir, leave, nil
	}
}

// empty removes what a rehearsal has left that a crash ended.
func empty(dir string) error {
	left, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range left {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// copies is how many times the size of the data a rehearsal needs: a backup and the data of the copy.
const copies = 2

// margin is what a rehearsal leaves free at least, so that the running server does not run out of space.
const margin = 1 << 30

// requireRoom refuses a rehearsal that could fill the volume of the running server.
func requireRoom(dir string) error {
	free, _, err := durable.Room(dir)
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the free space: %w", err)
	}
	var size uint64
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the running server removes files
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			size += uint64(info.Size())
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("measure the data: %w", err)
	}
	if need := copies*size + margin; free < need {
		return shortage{free, need}
	}
	return nil
}

// shortage is the error of a volume that has no room for a rehearsal.
type shortage struct{ free, need uint64 }

// Error implements error.
func (s shortage) Error() string { return s.Shortage() }

// Shortage implements visage.Shortage.
func (s shortage) Shortage() string {
	return fmt.Sprintf("The volume of the data directory has %s free, and a rehearsal needs %s: free some space.",
		sealed.Bytes(s.free), sealed.Bytes(s.need))
}

// copyServer makes the data of a second server from a backup and a keyring of the first, and returns its directory.
func (r *Room) copyServer(
	ctx context.Context, source Source, dir string, report *Report, progress func(Step),
) (copied string, err error) {
	progress(StepBackup)
	a, err := archive.Open(filepath.Join(dir, "archive"))
	if err != nil {
		return "", err
	}
	var added archive.Added
	err = source.Backup(ctx, func(in io.Reader) (err error) {
		added, err = a.Add(ctx, in)
		return err
	})
	if err != nil {
		return "", err
	}
	report.Backup, report.Rows = added.Name, added.Rows
	progress(StepKeyring)
	keys, err := os.OpenFile(filepath.Join(dir, "keyring"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	defer keys.Close() // it is removed
	err = source.Keyring(ctx, func(in io.Reader) error {
		_, err := io.Copy(keys, in)
		return err
	})
	if err == nil {
		_, err = keys.Seek(0, io.SeekStart)
	}
	if err == nil {
		_, err = backup.CheckWhole(ctx, keys)
	}
	if err == nil {
		_, err = keys.Seek(0, io.SeekStart)
	}
	if err != nil {
		return "", err
	}
	progress(StepRestore)
	copied = filepath.Join(dir, "copy")
	return copied, r.cfg.Copies.Restore(ctx, copied, keys, a.Read(added.Backup))
}
