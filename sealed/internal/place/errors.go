package place

import (
	"errors"
	"fmt"
)

// Why a store does not change epoch keys in a place.
var (
	// ErrOther: the epoch keys of the store lie in another place.
	ErrOther = errors.New("the epoch keys of this store lie in another place")
	// ErrMoving: they are being moved.
	ErrMoving = errors.New("a move of the epoch keys is not finished")
	// ErrCopy: another copy of the store's data uses the place.
	ErrCopy = errors.New("another copy of this store uses its epoch keys")
)

// Error is every refusal to change epoch keys in a place. It is one of the errors above, and a visage.Outage: a server
// that runs is refused as well, until an operator has put things right.
type Error struct {
	Class error  // one of the above
	Text  string // what is there, and what to do
}

// Error says what is there and what to do.
func (e *Error) Error() string { return fmt.Sprintf("%v: %s", e.Class, e.Text) }

// Is makes it the error of its class.
func (e *Error) Is(target error) bool { return target == e.Class }

// Outage is the sentence for a caller.
func (e *Error) Outage() string {
	return "This server may not change the service's epoch keys at the moment: another copy of its data uses them, " +
		"or they were moved. Tell the operator."
}
