package armwire

import "time"

// RootKey is the root key of the instance: how it is protected, and its versions. It holds nothing secret.
type RootKey struct {
	Version    uint32          `json:"version"`
	Made       *time.Time      `json:"made,omitempty"`
	Exposed    bool            `json:"exposed"` // a copy of the machine's disks may open the data
	Protectors []RootProtector `json:"protectors"`
	Ignored    []string        `json:"ignored,omitempty"` // named by the settings, and removed
	Rotation   *RootRotation   `json:"rotation,omitempty"`
	Instance   string          `json:"instance"`         // the id of the instance
	Kit        *time.Time      `json:"kit,omitempty"`    // when a recovery kit of this version was made
	Proved     *time.Time      `json:"proved,omitempty"` // when one was proved to open this version
}

// RootProtector is one way to open the root key.
type RootProtector struct {
	Name       string     `json:"name"`
	Kind       string     `json:"kind"`
	Entry      string     `json:"entry,omitempty"` // of the settings
	Exposed    bool       `json:"exposed"`
	Configured bool       `json:"configured"` // by the settings of this start, or added since
	Opened     bool       `json:"opened"`     // this start
	Added      *time.Time `json:"added,omitempty"`
	Tested     *time.Time `json:"tested,omitempty"` // when it last opened the root key
	// Answer is what a test said: "opens", or why not. Only in answers of tests.
	Answer string `json:"answer,omitempty"`
}

// RootRotation is how far a rotation is.
type RootRotation struct {
	Step  string `json:"step"`
	Done  int    `json:"done"`
	Total int    `json:"total,omitempty"`
	Error string `json:"error,omitempty"`
}

// RootProtectorRequest adds a protector.
type RootProtectorRequest struct {
	Entry string `json:"entry"` // as in the settings
	// Local is the name of a copy of this request, without this field, in the data directory: see RecoveryRequest.
	Local string `json:"local,omitempty"`
}

// RecoveryRequest makes a recovery kit, whose file is the answer.
type RecoveryRequest struct {
	Recipients []string `json:"recipients"` // RSA public keys in PEM
	Threshold  int      `json:"threshold"`  // how many of them are needed; zero: 1
	// Local is the name of a copy of this request, without this field, that a command on the machine of the service
	// has left in its data directory. Without one, only recipients in the settings are accepted.
	Local string `json:"local,omitempty"`
}

// RecoveryProof proves that a recovery kit was opened.
type RecoveryProof struct {
	Kit   string    `json:"kit"` // its id
	Time  time.Time `json:"time"`
	Proof []byte    `json:"proof"`
}
