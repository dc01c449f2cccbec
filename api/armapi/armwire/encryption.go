package armwire

// Encryption says which key encrypts the data of an account, as it is answered (contract §5).
type Encryption struct {
	KeySource string              `json:"keySource"`
	Key       *KeyVaultProperties `json:"keyVaultProperties,omitempty"`
	Status    *EncryptionStatus   `json:"status,omitempty"`
}

// KeyVaultProperties name a key in a vault.
type KeyVaultProperties struct {
	KeyName    string `json:"keyName"`
	KeyVersion string `json:"keyVersion,omitempty"`
	VaultURI   string `json:"keyVaultUri"`
	ClientID   string `json:"identityClientId,omitempty"`
}

// EncryptionStatus is the state of the key that encrypts the data. Azure has no such document.
type EncryptionStatus struct {
	State       string               `json:"state"`
	Since       string               `json:"since,omitempty"`
	Code        string               `json:"code,omitempty"`   // that data operations are refused with
	Reason      string               `json:"reason,omitempty"` // a sentence
	Key         string               `json:"keyIdentifier,omitempty"`
	Version     string               `json:"keyVersion,omitempty"` // in use
	PrincipalID string               `json:"principalId,omitempty"`
	LastSuccess string               `json:"lastSuccess,omitempty"`
	NextCheck   string               `json:"nextCheck,omitempty"`
	Expires     string               `json:"keyExpires,omitempty"` // missing: the key has no end, or did not answer yet
	Policy      *KeyPolicy           `json:"policy,omitempty"`
	Operation   *EncryptionOperation `json:"operation,omitempty"`
	Stores      []StoreKey           `json:"stores,omitempty"` // if there are several, the first one first
	Notice      string               `json:"notice,omitempty"` // a sentence about having several stores
}

// StoreKey is the state of a resource's key in one of several stores. Azure has no such document.
type StoreKey struct {
	Key         string `json:"keyIdentifier"`        // with the version in use
	KeyVersion  string `json:"keyVersion,omitempty"` // as requested; empty: newer versions are followed
	Answer      string `json:"answer,omitempty"`     // the last: ok, denied, wrong, unknown or expired
	Cause       string `json:"cause,omitempty"`
	Serving     bool   `json:"serving"` // its answers keep the data open now
	LastSuccess string `json:"lastSuccess,omitempty"`
	NextCheck   string `json:"nextCheck,omitempty"`
	Expires     string `json:"expires,omitempty"`
}

// StoreKeyRequest names the key of a store that is to be added or removed.
type StoreKeyRequest struct {
	Key      *KeyVaultProperties `json:"keyVaultProperties"`
	Register bool                `json:"register,omitempty"` // grant the resource's identity access to the key
}

// KeyPolicy says what happens when a customer-managed key does not answer. Azure has no such document.
type KeyPolicy struct {
	GraceSeconds  int64 `json:"graceSeconds"`  // how long the data stays open while the vault does not answer
	LockOnExpiry  bool  `json:"lockOnExpiry"`  // an expired key locks the data although it still unwraps
	ManualRestore bool  `json:"manualRestore"` // the data opens again only by encryption:unlock
}

// EncryptionOperation is a change of the key that encrypts an account's data, and how far it has come.
type EncryptionOperation struct {
	ID       string `json:"id"`
	Kind     string `json:"kind"`
	Progress string `json:"progress"`
	Step     string `json:"step,omitempty"`
	Code     string `json:"code,omitempty"`
	Reason   string `json:"reason,omitempty"`
	Started  string `json:"started,omitempty"`
	Ended    string `json:"ended,omitempty"`
}

// EncryptionRequest says which key is to encrypt an account's data.
type EncryptionRequest struct {
	KeySource string              `json:"keySource"`
	Key       *KeyVaultProperties `json:"keyVaultProperties"`
	// Register is an extension: it also enables the system-assigned identity and gives it access to the key, if the
	// caller may do that.
	Register bool `json:"register"`
}
