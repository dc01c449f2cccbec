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
	ErrFull  = engine.ErrFull // every error of a volume that has too little room left
	// every error of a store whose disk failed; it answers nothing more, and has to be opened anew; what was
	// acknowledged is there then
	ErrBroken = engine.ErrBroken
)

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
