package custody

import (
	"time"
)

// OperationKind is what a change does.
type OperationKind string

// The kinds of change.
const (
	Enabling  OperationKind = "enable"  // the service's key to a customer's
	Switching OperationKind = "switch"  // to another key of the customer's
	Updating  OperationKind = "update"  // to another version of the same key
	Following OperationKind = "follow"  // the same, by itself
	Disabling OperationKind = "disable" // back to the service's key
)

var kinds = []OperationKind{Enabling, Switching, Updating, Following, Disabling}

// Progress is how far a change has come.
type Progress string

// The stages of a change.
const (
	Running   Progress = "running" // also while it waits for a vault
	Succeeded Progress = "succeeded"
	Failed    Progress = "failed" // nothing has changed
)

// Operation is a change of who holds the key. The zero value is none.
type Operation struct {
	ID       string        `json:"id"`
	Kind     OperationKind `json:"kind"`
	Progress Progress      `json:"progress"`
	Step     string        `json:"step,omitempty"` // the one being taken while it runs
	Code     string        `json:"code,omitempty"` // of the refusal that ended it
	Reason   string        `json:"reason,omitempty"`
	Started  time.Time     `json:"started"`
	Ended    time.Time     `json:"ended,omitzero"`
}
