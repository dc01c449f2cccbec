package armwire

import "time"

// Keeping is the retention of a resource and of its groups and lists, and the legal holds in it.
type Keeping struct {
	Default     *Retention  `json:"default"` // null: for ever
	Collections []Retention `json:"collections"`
	Holds       []Hold      `json:"holds"`
}

// Retention is how long the people and faces of a resource, group or list are kept.
type Retention struct {
	Kind  string `json:"kind,omitempty"` // facelist, largefacelist, persongroup or largepersongroup; none: the resource
	ID    string `json:"id,omitempty"`
	Days  *int   `json:"days"`            // 0: for ever; null: as the resource says
	Since string `json:"since,omitempty"` // enrolment or lastMatch
}

// Hold is a legal hold on a resource, a group or list, or one person or persisted face.
type Hold struct {
	Kind   string     `json:"kind,omitempty"`
	ID     string     `json:"id,omitempty"`
	Item   string     `json:"item,omitempty"` // the person or persisted face
	Reason string     `json:"reason,omitempty"`
	By     string     `json:"placedBy,omitempty"`
	Placed *time.Time `json:"placedAt,omitempty"`
}

// Expired counts the people and faces whose retention has ended.
type Expired struct {
	Persons int `json:"persons"`
	Faces   int `json:"faces"` // of lists
	Held    int `json:"held"`  // kept because of a hold
}

// Expiration asks to erase what has expired, or only to count it.
type Expiration struct {
	DryRun bool `json:"dryRun"`
}
