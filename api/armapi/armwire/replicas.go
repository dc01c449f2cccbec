package armwire

import "time"

// ReplicaList is the answer to a request for the replicas of the instance.
type ReplicaList struct {
	Value []Replica `json:"value"`
	// Collections are the largest ones that replicas search together, as far as the one that answers has searched them
	// within the last hour.
	Collections []PartitionedCollection `json:"collections"`
}

// PartitionedCollection is a list or group of faces that is cut into partitions.
type PartitionedCollection struct {
	ResourceID string     `json:"resourceId"` // the path of its resource
	Kind       string     `json:"kind"`       // largefacelist, persongroup or largepersongroup; not its id
	Bytes      int64      `json:"bytes"`      // memory of its partitions, each counted once
	Searched   time.Time  `json:"searched"`   // when the one that answers has searched it last
	Partitions [][]string `json:"partitions"` // ids of the replicas of each; empty: their memory is too small
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
	// Galleries are the faces that it has in memory; nil when it has not told.
	Galleries *Galleries `json:"galleries,omitempty"`
}

// Galleries are the faces that a replica has in memory to search them, as it told some seconds ago.
type Galleries struct {
	Budget     int64 `json:"budget"`     // bytes that they may take
	Bytes      int64 `json:"bytes"`      // that they take
	Partitions int   `json:"partitions"` // of collections that replicas search together
	Loading    int   `json:"loading"`    // galleries and partitions that are being loaded
	Awaited    int   `json:"awaited"`    // faces that are still to be read for them
}
