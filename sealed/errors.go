package sealed

import (
	"errors"
	"fmt"

	"github.com/visage-face/visage/sealed/internal/engine"
)

// What a caller decides on. Every other error is an internal failure.
var (
	ErrNotFound = errors.New("no such record")
	ErrNoSpace  = errors.New("no such space")
	ErrExists   = errors.New("the space exists already")
	// its key was refused; the error wraps the cause that Lock was given
	ErrLocked = errors.New("the space is locked")
	// its key could not be asked for, for longer than its grace
	ErrGrace    = errors.New("the space's lease has run out")
	ErrRecord   = errors.New("not a usable record") // for Each: what was opened is no record of its table
	ErrClosed   = engine.ErrClosed
	ErrRollback = errors.New("stored data is older than its anchor (possible rollback)") // every *RollbackError is one
	// Open: another process has the data directory open
	ErrInUse = engine.ErrInUse
)

// CorruptError says that something stored does not open: it was changed, moved, put back from an older copy, or taken
// away. It names the place and never the content.
type CorruptError struct {
	Space     SpaceID
	Container string // blinded id in hexadecimal; empty for what belongs to the space as a whole
	Record    string // blinded id in hexadecimal; empty for what belongs to the container as a whole
	What      string // "record", "nursery row", "key page", "head", "bundle", "epoch key", "instance", "anchors"
	Err       error  // what was found
}

// Error names the place.
func (e *CorruptError) Error() string {
	s := e.What
	if e.Space != (SpaceID{}) {
		s += " of space " + e.Space.String()
	}
	if e.Container != "" {
		s += ", container " + e.Container
	}
	if e.Record != "" {
		s += ", record " + e.Record
	}
	return s + ": " + e.Err.Error()
}

// Unwrap returns what was found.
func (e *CorruptError) Unwrap() error { return e.Err }

// RootError says that the instance root could not be opened with any of the protectors that were given. It wraps what
// each of them said.
type RootError struct {
	Tried []ProtectorError
}

// ProtectorError is why one protector did not open the instance root.
type ProtectorError struct {
	Name string
	Err  error
}

// Error tells what each protector said; those sentences say what to do.
func (e *RootError) Error() string {
	s := "the instance root key cannot be opened"
	for _, p := range e.Tried {
		s += fmt.Sprintf("; %s: %v", p.Name, p.Err)
	}
	return s
}

// Unwrap returns what each protector said.
func (e *RootError) Unwrap() []error {
	var errs []error
	for _, p := range e.Tried {
		errs = append(errs, p.Err)
	}
	return errs
}

// RollbackError says that a space's state is older than its anchor, or another of the same age: the data, or what
// belongs to one space, was put back from a copy. Store.AcceptRollback lets it open all the same. It is an ErrRollback.
type RollbackError struct {
	Space                        SpaceID
	Stored, Anchored             uint64 // sequence numbers of the root container
	StoredBundle, AnchoredBundle uint64 // sequence numbers of the bundle
}

// Error names both states.
func (e *RollbackError) Error() string {
	return fmt.Sprintf("%v: space %s has state %d (keys %d), where its anchor has seen %d (keys %d)", ErrRollback,
		e.Space, e.Stored, e.StoredBundle,
		e.Anchored, e.AnchoredBundle)
}

// Is makes it an ErrRollback.
func (e *RollbackError) Is(target error) bool { return target == ErrRollback }
