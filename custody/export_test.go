package custody

import "slices"

// SetFault makes c call fault at every named point of every change; an error of it is the step's. Before Run.
func (c *Custody) SetFault(fault func(point string) error) { c.fault = fault }

// Points returns the names of all fail points of a kind of change, in their order.
func Points(kind OperationKind) []string {
	all := []string{"any " + stepChecked + " after"}
	for _, step := range (flow{Kind: kind}).plan().steps {
		all = append(all, string(kind)+" "+step.name+" before", string(kind)+" "+step.name+" after")
	}
	if kind == Disabling {
		all = slices.Delete(all, 0, 1) // there is no new key to be checked
	}
	return all
}

// Forward reports whether a change has to complete from a point on, whatever happens.
func Forward(kind OperationKind, point string) bool {
	return slices.Index(Points(kind), point) >= slices.Index(Points(kind),
		string(kind)+" "+(flow{Kind: kind}).plan().commit+" before")
}

// DecodeNote is for fuzzing.
func DecodeNote(raw []byte) error { _, err := decodeNote(raw); return err }

// LongLocked is how long a refused resource opens by itself.
const LongLocked = longLocked
