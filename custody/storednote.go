package custody

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// note is what custody keeps with the keys of a resource, sealed in its bundle: docs/formats/custody.md.
type note struct {
	Format    int        `json:"format"`            // noteFormat
	Key       *binding   `json:"key,omitempty"`     // nil: the service's
	Policy    *Policy    `json:"policy,omitempty"`  // nil: the instance's
	Flow      *flow      `json:"flow,omitempty"`    // a change under way
	Last      *Operation `json:"last,omitempty"`    // how the one before ended
	Held      bool       `json:"held,omitempty"`    // locked by Lock, until Unlock
	LockCause *lockCause `json:"closed,omitempty"`  // why it is locked; it never makes anything less locked
	Followed  time.Time  `json:"followed,omitzero"` // when it was last taken along to a newer version
}

const noteFormat = 1

// to is the key that f goes to, as it is to be asked now: another principal may have taken over since f was read.
func (n *note) to(f flow) *binding {
	if n.Flow != nil && n.Flow.ID == f.ID {
		return n.Flow.To
	}
	return f.To
}

func decodeNote(raw []byte) (note, error) {
	if len(raw) == 0 {
		return note{Format: noteFormat}, nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	var n note
	if err := d.Decode(&n); err != nil {
		return note{}, fmt.Errorf("read the note of custody: %w", err)
	}
	if n.Format != noteFormat {
		return note{}, fmt.Errorf("read the note of custody: format %d is not known", n.Format)
	}
	if f := n.Flow; f != nil && (!slices.Contains(kinds, f.Kind) || f.plan().index(f.Step) < 0) {
		return note{}, fmt.Errorf("read the note of custody: step %q of a change of kind %q is not known", f.Step,
			f.Kind)
	}
	return n, nil
}
