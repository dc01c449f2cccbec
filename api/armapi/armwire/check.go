package armwire

// EncryptionCheck says what is missing before a key can encrypt an account's data. Azure has no such document.
type EncryptionCheck struct {
	Ready       bool              `json:"ready"`
	Key         string            `json:"keyIdentifier,omitempty"` // missing if the settings name none
	PrincipalID string            `json:"principalId,omitempty"`   // of the account's identity
	InUse       bool              `json:"inUse"`                   // the key is in use as requested
	Checks      []EncryptionPoint `json:"checks"`                  // in the order in which they are made
	Answer      *EncryptionAnswer `json:"answer,omitempty"`        // of the key's store; missing: it was not asked
}

// EncryptionAnswer is how the store has described the key.
type EncryptionAnswer struct {
	Class        string  `json:"class"`        // ok, denied, wrong or unknown
	Milliseconds float64 `json:"milliseconds"` // until it came
	KeyVersion   string  `json:"keyVersion,omitempty"`
	KeyType      string  `json:"keyType,omitempty"`
	Expires      string  `json:"expires,omitempty"` // missing: the key has no end
}

// EncryptionPoint is one thing that must hold.
type EncryptionPoint struct {
	Requirement string `json:"requirement"`
	// State is met, unmet, not-known (it shows only when others are met) or will-be-met (on the way).
	State   string   `json:"state"`
	Code    string   `json:"code,omitempty"`
	Message string   `json:"message,omitempty"`
	Remedy  []string `json:"remedy,omitempty"` // commands that mend it, or where they are described
}
