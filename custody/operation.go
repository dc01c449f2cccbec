package custody

import (
	"time"
)

// OperationKind is the kind of a change of keys.
type OperationKind string

// The kinds of change.
const (
	Enabling  OperationKind = "enable"        // the service's key to a customer's
	Switching OperationKind = "switch"        // to another key of the customer
	Updating  OperationKind = "update"        // to another version of the same key
	Following OperationKind = "follow"        // to a newer version of the same key, without a command
	Disabling OperationKind = "disable"       // back to the service's key
	Adding    OperationKind = "add-store"     // a key in a further store wraps the data key too
	Removing  OperationKind = "remove-store"  // a key wraps it no more
	Promoting OperationKind = "promote-store" // the key that serves takes the place of a first one that is silent
)

var kinds = []OperationKind{Enabling, Switching, Updating, Following, Disabling, Adding, Removing, Promoting}

// Progress is the progress of a change.
type Progress string

// The stages of a change.
const (
	Running   Progress = "running" // also while waiting for a vault
	Succeeded Progress = "succeeded"
	Failed    Progress = "failed" // nothing has changed
)

// Operation is a change of keys. The zero value means none.
type Operation struct {
	ID       string        `json:"id"`
	Kind     OperationKind `json:"kind"`
	Progress Progress      `json:"progress"`
	Step     string        `json:"step,omitempty"` // the current one while it runs
	Code     string        `json:"code,omitempty"` // of the refusal, if it failed
	Reason   string        `json:"reason,omitempty"`
	Started  time.Time     `json:"started"`
	Ended    time.Time     `json:"ended,omitzero"`
}
