package event

import (
	"errors"

	"github.com/visage-face/visage/sealed/internal/format"
)

// CorruptError says that something stored does not open: it was changed, moved, put back from an older copy, or taken
// away. It names the place and never the content.
type CorruptError struct {
	Space     format.SpaceID
	Container string // blinded id in hexadecimal; empty for what belongs to the space as a whole
	Record    string // blinded id in hexadecimal; empty for what belongs to the container as a whole
	What      string // "record", "nursery row", "key page", "head", "bundle", "epoch key", "instance", "anchors"
	Err       error  // what was found
}

// Error names the place.
func (e *CorruptError) Error() string {
	s := e.What
	if e.Space != (format.SpaceID{}) {
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

// IsOutage reports whether an error is a visage.Outage: something cannot be used now, and may be later.
func IsOutage(err error) bool {
	_, ok := errors.AsType[interface {
		error
		Outage() string
	}](err)
	return ok
}

// IsCorrupt reports whether an error is a *CorruptError.
func IsCorrupt(err error) bool {
	_, ok := errors.AsType[*CorruptError](err)
	return ok
}
