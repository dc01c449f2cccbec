package sealed

import (
	"errors"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/keys"
	"github.com/visage-face/visage/sealed/internal/keystore"
	"github.com/visage-face/visage/sealed/internal/lease"
	"github.com/visage-face/visage/sealed/internal/place"
	"github.com/visage-face/visage/sealed/internal/tree"
)

// What a caller decides on. Every other error is an internal failure.
var (
	ErrNotFound = tree.ErrNotFound
	ErrNoSpace  = keys.ErrNoSpace
	ErrExists   = keys.ErrExists
	ErrClosed   = engine.ErrClosed
	// ErrLocked: the space was locked. It wraps the cause that Lock was given.
	ErrLocked = keys.ErrLocked
	// ErrChanged: the space's keys are not as they were when the caller looked.
	ErrChanged = keys.ErrChanged
	// ErrRollback is every *RollbackError.
	ErrRollback = keys.ErrRollback
	// ErrGrace: the space's key has not answered for longer than its grace.
	ErrGrace = errors.New("the space's lease has run out")
	// ErrRecord is for Each: the opened bytes are no record of the table.
	ErrRecord = errors.New("not a usable record")
	// ErrLockedElsewhere is a cause of ErrLocked: another process that shares the store has locked the space, or has
	// turned its keys to some that this process has to ask the key source for. Load opens it again.
	ErrLockedElsewhere = errors.New("another process has locked it, or has changed its keys")
	// ErrReopened is a cause of ErrLocked: the space was locked while something was under way, and is open again.
	ErrReopened = errors.New("it was locked meanwhile, and is open again")
	// ErrClaimed: the name is claimed already, by another process or in this one.
	ErrClaimed = lease.ErrClaimed
	// ErrClaimLost: the claim was given back, or could not be renewed in time.
	ErrClaimLost = lease.ErrLost
	// ErrInUse is for Open: another process has the data directory open, or the store, and does not share it.
	ErrInUse = engine.ErrInUse
	// ErrFull is every error of a volume that has too little free space.
	ErrFull = engine.ErrFull
	// ErrOtherPlace is for Open: the epoch keys of the store lie in another place than the Config says.
	ErrOtherPlace = place.ErrOther
	// ErrKeysMoving is for Open: a MoveEpochKeys was not finished.
	ErrKeysMoving = place.ErrMoving
	// ErrOtherCopy: another copy of the store's data uses its epoch keys, or the data is older than their place.
	ErrOtherCopy = place.ErrCopy
	// ErrBroken is every error of a store whose disk failed. Close and reopen it; acknowledged writes are kept.
	ErrBroken = engine.ErrBroken
)

// isGone reports whether an error says that a space cannot be looked into now, which is no failure of anchoring.
func isGone(err error) bool {
	return errors.Is(err, ErrLocked) || errors.Is(err, ErrNoSpace) || errors.Is(err, ErrGrace) ||
		errors.Is(err, ErrClosed)
}

// RollbackError says that a space's state is older than its anchor, or another of the same age: the data, or what
// belongs to one space, was put back from a copy. Spaces.AcceptRollback lets it open all the same. It is an
// ErrRollback.
type RollbackError = keys.RollbackError

// RootError says that the instance root could not be opened with any of the protectors that were given. It wraps what
// each of them said.
type RootError = keys.RootError

// ProtectorError is why one protector did not open the instance root.
type ProtectorError = keys.ProtectorError

// KeysAwayError says that the place of the epoch keys cannot be used now, and may be later. It is a visage.Outage.
type KeysAwayError = keystore.OutageError

// PlaceError is every ErrOtherPlace, ErrKeysMoving and ErrOtherCopy. It is a visage.Outage.
type PlaceError = place.Error
