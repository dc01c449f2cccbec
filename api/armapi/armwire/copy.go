package armwire

import "time"

// The copies that can be verified.
const (
	BackupCopy  = "backup"
	KeyringCopy = "keyring"
)

// VerifiedCopy is the result of verifying a backup of the data or a copy of the keyring.
type VerifiedCopy struct {
	Copy     string    `json:"copy"`     // "backup" or "keyring"
	Instance string    `json:"instance"` // of the copy: the UUID of the instance that it was taken from
	Taken    time.Time `json:"taken"`    // when it was
	Intact   bool      `json:"intact"`
}
