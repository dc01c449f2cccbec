package custody

import (
	"errors"

	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/keysource"
)

// class is how a key answered.
type class string

const (
	classOK      class = "ok"
	classDenied  class = "denied"
	classWrong   class = "wrong"
	classUnknown class = "unknown"
	classExpired class = "expired" // it unwraps, and its time is over
)

var classes = []class{classOK, classDenied, classWrong, classUnknown, classExpired}

func classOf(err error) class {
	switch {
	case err == nil:
		return classOK
	case errors.Is(err, keysource.ErrDenied):
		return classDenied
	case errors.Is(err, keysource.ErrWrong):
		return classWrong
	}
	return classUnknown // ErrExpired too: it is said of wrapping, and access goes by unwrapping
}

// outcomeOf is what the audit says of a class.
func outcomeOf(c class) audit.Outcome {
	switch c {
	case classOK, classExpired:
		return audit.Done
	case classUnknown:
		return audit.Unknown
	}
	return audit.Refused
}
