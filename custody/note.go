package custody

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// note is the record that custody stores with the keys of a resource, sealed in their bundle. Format:
// docs/formats/custody.md.
type note struct {
	Format      int        `json:"format"`              // noteFormat
	Key         *binding   `json:"key,omitempty"`       // nil: the service's
	Others      []binding  `json:"others,omitempty"`    // the keys in further stores, in their order
	Policy      *Policy    `json:"policy,omitempty"`    // nil: the instance's
	Flow        *flow      `json:"flow,omitempty"`      // a change under way
	Last        *Operation `json:"last,omitempty"`      // the last change that has ended
	OwnerLocked bool       `json:"held,omitempty"`      // locked by Lock, until Unlock
	LockCause   *lockCause `json:"closed,omitempty"`    // why the data is locked; never opens anything
	RefusedBy   refusal    `json:"refusedBy,omitempty"` // whose no locks the data; never opens anything
	Followed    time.Time  `json:"followed,omitzero"`   // when it last followed a newer version
}

const noteFormat = 1

// principals returns f with the present principals of its keys, which Reassign may have changed since f was read.
func (n *note) principals(f flow) flow {
	if n.Flow != nil && n.Flow.ID == f.ID {
		f.To, f.After = n.Flow.To, n.Flow.After
	}
	return f
}

// setRefusal stores what a record says of the refusals of keys. Of several processes, another one may have stored a
// refusal since the record was made, which this one does not know of: only a refusal of as much weight, or the owner's
// unlock, replaces that.
func (n *note) setRefusal(r effect, shared bool) {
	other, unlocks := n.LockCause, r.must && !r.ownerLocked
	kept := !n.setRefusedBy(r.known.refusedBy, r.refusedBy, shared)
	unknown := shared && !unlocks && other != nil && other.Code != r.known.lockCause.Code
	switch {
	case unknown && (kept || r.lockCause.Code != codeRevoked):
	case r.lockCause == lockCause{}:
		n.LockCause = nil
	default:
		n.LockCause = &r.lockCause
	}
}

// setRefusedBy stores whose no locks the data. A no of another key that another process has stored is kept, unless it
// is known or the first key refuses now.
func (n *note) setRefusedBy(known, by refusal, shared bool) (kept bool) {
	if shared && n.RefusedBy != noStore && n.RefusedBy != known && by != firstRefuses {
		return n.RefusedBy != by
	}
	n.RefusedBy = by
	return false
}

// bindings returns the keys of all stores, the first one first. They must not be changed.
func (n *note) bindings() []binding {
	if n.Key == nil {
		return nil
	}
	return append([]binding{*n.Key}, n.Others...)
}

// errNote says that a note cannot be read.
var errNote = errors.New("read the note of custody")

// decodeNote decodes a stored note; no bytes are the note of a resource that never had a customer's key.
func decodeNote(raw []byte) (note, error) {
	if len(raw) == 0 {
		return note{Format: noteFormat}, nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	var n note
	if err := d.Decode(&n); err != nil {
		return note{}, fmt.Errorf("%w: %w", errNote, err)
	}
	if n.Format != noteFormat {
		return note{}, fmt.Errorf("%w: unknown format %d", errNote, n.Format)
	}
	if len(n.Others) >= MaxStores || n.Key == nil && n.Others != nil || n.RefusedBy < noStore ||
		n.RefusedBy > MaxStores {
		return note{}, fmt.Errorf("%w: %d further keys, and a refusal by number %d", errNote,
			len(n.Others), n.RefusedBy)
	}
	if f := n.Flow; f != nil && (!slices.Contains(kinds, f.Kind) || f.plan().index(f.Step) < 0) {
		return note{}, fmt.Errorf("%w: unknown step %q of a change of kind %q", errNote, f.Step, f.Kind)
	}
	return n, nil
}
