package sealed

import (
	"errors"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/keys"
	"github.com/visage-face/visage/sealed/internal/tree"
)

// What a caller decides on. Every other error is an internal failure.
var (
	ErrNotFound = tree.ErrNotFound
	ErrNoSpace  = keys.ErrNoSpace
	ErrExists   = keys.ErrExists
	// its key was refused; the error wraps the cause that Lock was given
	ErrLocked   = keys.ErrLocked
	ErrChanged  = keys.ErrChanged  // the space's keys are not as they were when the caller looked
	ErrRollback = keys.ErrRollback // every *RollbackError is one
	// its key could not be asked for, for longer than its grace
	ErrGrace  = errors.New("the space's lease has run out")
	ErrRecord = errors.New("not a usable record") // for Each: what was opened is no record of its table
	ErrClosed = engine.ErrClosed
	// Open: another process has the data directory open
	ErrInUse = engine.ErrInUse
	ErrFull  = engine.ErrFull // every error of a volume that has too little room left
	// every error of a store whose disk failed; it answers nothing more, and has to be opened anew; what was
	// acknowledged is there then
	ErrBroken = engine.ErrBroken
)

// RollbackError says that a space's state is older than its anchor, or another of the same age: the data, or what
// belongs to one space, was put back from a copy. Spaces.AcceptRollback lets it open all the same. It is an
// ErrRollback.
type RollbackError = keys.RollbackError

// RootError says that the instance root could not be opened with any of the protectors that were given. It wraps what
// each of them said.
type RootError = keys.RootError

// ProtectorError is why one protector did not open the instance root.
type ProtectorError = keys.ProtectorError
