package armwire

import "time"

// ReplicaList is the answer to a request for the replicas of the instance.
type ReplicaList struct {
	Value []Replica `json:"value"`
}

// Replica is a process that serves the instance.
type Replica struct {
	ID string `json:"id"` // random, of this start
	// State is serving, starting, stopping, or ended: it ended without stopping, or it cannot reach the store.
	State   string    `json:"state"`
	Answers bool      `json:"answers,omitempty"` // it is the one that answers
	Host    string    `json:"host,omitempty"`    // the name of its machine
	Listen  string    `json:"listen,omitempty"`  // the address at which it listens
	Version string    `json:"version,omitempty"` // of the program
	Packs   string    `json:"packs,omitempty"`   // the model packs and what they serve
	Started time.Time `json:"started,omitzero"`
	Seen    time.Time `json:"seen"`   // when the one that answers has last seen a sign of life
	Claims  []string  `json:"claims"` // the work that it alone does at the moment
}
