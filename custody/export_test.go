package custody

import (
	"slices"

	"github.com/visage-face/visage/sealed"
)

// SetFault makes c call fault at every fail point of every change; its error fails the step. Call it before Run.
func (c *Custody) SetFault(fault func(point string) error) { c.fault = fault }

// LoseClaim ends the claim of a change of keys among processes, as when this process was paused for too long.
func (c *Custody) LoseClaim(id sealed.SpaceID) {
	c.mu.Lock()
	sp := c.spaces[id]
	c.mu.Unlock()
	sp.mu.Lock()
	held := sp.held
	sp.mu.Unlock()
	held.Release()
}

// Points returns the names of all fail points of a kind of change, in their order.
func Points(kind OperationKind) []string {
	all := []string{"any " + stepChecked + " after"}
	for _, step := range (flow{Kind: kind}).plan().steps {
		all = append(all, string(kind)+" "+step.name+" before", string(kind)+" "+step.name+" after")
	}
	if kind == Disabling || kind == Removing || kind == Promoting {
		all = slices.Delete(all, 0, 1) // there is no new key to check
	}
	return all
}

// Forward reports whether a change is past its point of no return at a fail point.
func Forward(kind OperationKind, point string) bool {
	return slices.Index(Points(kind), point) >= slices.Index(Points(kind),
		string(kind)+" "+(flow{Kind: kind}).plan().commit+" before")
}

// DecodeNote decodes a stored note, for fuzzing.
func DecodeNote(raw []byte) error { _, err := decodeNote(raw); return err }

// LongLocked is how long a resource may stay revoked and still open by itself.
const LongLocked = longLocked
