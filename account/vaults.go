package account

import (
	"context"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/custody"
)

// Vaults is what Accounts ask about the vaults of this instance. It knows nothing of keys in other vaults. It is called
// concurrently.
type Vaults interface {
	// Check checks, in the order of the management contract §5.2, whether an account may use the vault of a key. Empty:
	// the vault is not one of this instance, and its answers decide.
	Check(ctx context.Context, of Account, key visage.KeyRef) ([]VaultCheck, error)
	// Access returns what the vault of a key permits the identity of an account; nil: it is not known.
	Access(ctx context.Context, of Account, key visage.KeyRef) (*custody.Access, error)
	// Properties returns the properties of a key, nil if it does not exist. readable is false if the caller may not
	// read them or the vault is not one of this instance.
	Properties(ctx context.Context, by visage.Caller, key visage.KeyRef) (
		p *custody.Properties, readable bool, err error)
	// Remedies returns the operations by which the caller could mend a precondition that is not met.
	Remedies(ctx context.Context, by visage.Caller, of Account, unmet Precondition, key visage.KeyRef) ([]Remedy, error)
	// Locate returns the name of the vault of a key; empty: it is not one of this instance. Refusal:
	// InvalidKeyVaultProperties for a vault that this instance cannot use.
	Locate(key visage.KeyRef) (vault string, err error)
	// List returns the vaults that the caller may read, sorted by name, from behind the name after, at most limit; next
	// is the last name if there are more. Their checks are for an account at a location.
	List(ctx context.Context, by visage.Caller, location, after string, limit int) (
		page []ListedVault, next string, err error)
	// Keys returns the keys of a vault as List does vaults, in their newest versions. Refusals: VaultNotFound,
	// Forbidden.
	Keys(ctx context.Context, by visage.Caller, vault, after string, limit int) (
		page []ListedKey, next string, err error)
	// Newer returns the versions of a key that are newer than key.Version, the newest first. known is false if the
	// identity of the account may not get the key, or the vault is not one of this instance.
	Newer(ctx context.Context, of Account, key visage.KeyRef) (newer []ListedKey, known bool, err error)
}

// ListedVault is a vault of this instance in a list.
type ListedVault struct {
	Name, Address, Location string
	Checks                  []VaultCheck
	KeysSeen                bool // the caller may list its keys
}

// ListedKey is a version of a key in a vault of this instance.
type ListedKey struct {
	Key        visage.KeyRef // with the version
	Properties custody.Properties
}

// VaultCheck is the check of one precondition of a vault. Err is nil, the refusal of the vault, or a failure.
type VaultCheck struct {
	Precondition Precondition
	Err          error
}

// noVaults is the Vaults of an instance without vaults of its own.
type noVaults struct{}

func (noVaults) Check(context.Context, Account, visage.KeyRef) ([]VaultCheck, error) { return nil, nil }

func (noVaults) Access(context.Context, Account, visage.KeyRef) (*custody.Access, error) {
	return nil, nil
}

func (noVaults) Properties(context.Context, visage.Caller, visage.KeyRef) (*custody.Properties, bool, error) {
	return nil, false, nil
}

func (noVaults) Remedies(context.Context, visage.Caller, Account, Precondition, visage.KeyRef) ([]Remedy, error) {
	return nil, nil
}

func (noVaults) Locate(visage.KeyRef) (string, error) { return "", nil }

func (noVaults) List(context.Context, visage.Caller, string, string, int) ([]ListedVault, string, error) {
	return nil, "", nil
}

func (noVaults) Keys(context.Context, visage.Caller, string, string, int) ([]ListedKey, string, error) {
	return nil, "", nil
}

func (noVaults) Newer(context.Context, Account, visage.KeyRef) ([]ListedKey, bool, error) {
	return nil, false, nil
}

func (a *Accounts) vaults() Vaults {
	if a.cfg.Vaults == nil {
		return noVaults{}
	}
	return a.cfg.Vaults
}

// requireVault refuses a key that an account may not use because of its vault.
func (a *Accounts) requireVault(ctx context.Context, rec record, key visage.KeyRef) error {
	checks, err := a.vaults().Check(ctx, rec.account(), key)
	if err != nil {
		return err
	}
	for _, check := range checks {
		if check.Err != nil {
			return check.Err
		}
	}
	return nil
}
