package account

import (
	"context"
	"fmt"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/sealed"
)

// Protection is the requested protection of an account's data: by a customer-managed key or by the service's key.
type Protection struct {
	Customer   bool   // by the key below; else by the service's key
	VaultURI   string // the vault's address; without KeyName: the identifier of the key
	KeyName    string
	KeyVersion string // empty: the newest, and every newer one from then on
	ClientID   string // of a user-assigned identity; refused, since Face resources do not use them for keys
	// Register enables the system-assigned identity if it is disabled, and grants it access to the key if the caller
	// may do so. Otherwise clients do both in separate steps.
	Register bool
}

// protected is the stored part of the last Protection. It is only shown: custody knows the key in use.
type protected struct {
	Said     bool   // a client has set the protection
	VaultURI string // the vault's address; empty: the key is the service's
}

// Policy is the key policy of an account.
type Policy = custody.Policy

// Encryption is the protection of an account's data and the state of its key.
type Encryption struct {
	Said     bool          // a client has set the protection; else it is the default, the service's key
	Key      visage.KeyRef // as it was given; zero: the service's
	VaultURI string        // the address of its vault, with a slash at the end
	Status   custody.Status
}

// Pending reports whether a change of keys is under way.
func (e Encryption) Pending() bool { return e.Status.Operation.Progress == custody.Running }

// Failed reports whether the last change of keys failed, which leaves the key as it was.
func (e Encryption) Failed() bool { return e.Status.Operation.Progress == custody.Failed }

// Encryption returns the protection of an account's data. If the keys of the account cannot be read, the State says so,
// and the Key is zero.
func (a *Accounts) Encryption(ctx context.Context, of Account) (Encryption, error) {
	x := a.index.Now()
	rec := x.byName[of.key()]
	if rec.ID != of.ID.String() {
		rec = x.gone[of.key()]
	}
	e := Encryption{Said: rec.Protection.Said, Status: custody.Status{Condition: custody.ServiceManaged}}
	var err error
	e.Status, err = a.cfg.Custody.Status(ctx, sealed.SpaceID(of.ID))
	switch {
	case ctx.Err() != nil:
		return Encryption{}, context.Cause(ctx)
	case err != nil: // the account is shown nevertheless, and so are others beside it
		a.log.ErrorContext(ctx, "keys of a resource not read", "resource", of.ID.String(), "err", err)
		e.VaultURI, e.Said = rec.Protection.VaultURI, true
		e.Status = custody.Status{Condition: custody.Unavailable,
			Reason: "The keys of the resource cannot be read; the server's log says why."}
		return e, nil
	}
	e.Said = e.Said || e.Pending() // a crash may have come before that was stored
	if e.Status.Key == (visage.KeyRef{}) {
		return e, nil
	}
	e.Said, e.Key, e.VaultURI = true, e.Status.Key, vaultURI(e.Status.Key)
	return e, nil
}

// checkAtCreation refuses a customer-managed key at creation: an account begins with the service's key.
func checkAtCreation(c Creation) error {
	if c.Protection == nil {
		return nil
	}
	if !c.Protection.Customer {
		return c.Protection.checkService()
	}
	if c.Tier != visage.E0 {
		return refuseSKU(c.Name, c.Tier)
	}
	return visage.Refuse(visage.Invalid, "CustomerManagedKeyNotSupportedAtCreation",
		"A resource begins with the service's key: create it without encryption.keyVaultProperties, and enable the "+
			"key by a change.")
}

// checkService refuses key properties together with the service's key.
func (p Protection) checkService() error {
	if p.VaultURI != "" || p.KeyName != "" {
		return visage.Refuse(visage.Invalid, "InvalidKeyVaultProperties",
			"With keySource Microsoft.CognitiveServices there must be no keyVaultProperties: leave them out.")
	}
	return nil
}

func refuseSKU(name string, tier visage.Tier) error {
	return visage.Refuse(visage.Invalid, "CustomerManagedKeyNotSupportedForSku",
		"Resource %q is of tier %s, and customer-managed keys are for tier E0: create a new resource with E0.", name,
		tier)
}

// keyOf returns the key that a Protection names. Refusal: InvalidKeyVaultProperties.
func (a *Accounts) keyOf(p Protection) (visage.KeyRef, error) {
	key, err := a.cfg.ParseKey(p.VaultURI, p.KeyName, p.KeyVersion)
	if err != nil {
		return visage.KeyRef{}, visage.Refuse(visage.Invalid, "InvalidKeyVaultProperties",
			"The keyVaultProperties name no key: %v. They are keyVaultUri, keyName and, unless every new version "+
				"shall be followed, keyVersion.", err)
	}
	return key, nil
}

// vaultURI returns the address of a key's store as responses show it. Addresses with https end in a slash, as Azure
// Resource Manager writes them.
func vaultURI(key visage.KeyRef) string {
	if key.Scheme() == "https" {
		return key.Vault + "/"
	}
	return key.Vault
}

// Lock locks the data of an account under a customer-managed key at once, until Unlock. Refusals: ResourceNotFound;
// CustomerManagedKeyNotEnabled if the service's key protects the data.
func (a *Accounts) Lock(ctx context.Context, by visage.Caller, name string) error {
	return a.recorded(ctx, a.action("lock", by, name), func() error {
		rec, err := a.stored(ctx, name)
		if err != nil {
			return err
		}
		return a.cfg.Custody.Lock(ctx, rec.space())
	})
}

// Unlock ends the lock and asks the key at once, with the account's present identity, even if the key was enabled with
// an earlier one. The data opens when the key says yes. Refusals: ResourceNotFound, those of custody.
func (a *Accounts) Unlock(ctx context.Context, by visage.Caller, name string) error {
	return a.recorded(ctx, a.action("unlock", by, name), func() error {
		rec, err := a.stored(ctx, name)
		if err != nil {
			return err
		}
		now, err := a.cfg.Custody.Status(ctx, rec.space())
		if err != nil {
			return fmt.Errorf("read the state of the key of resource %s: %w", rec.ID, err)
		}
		as := visage.PrincipalID(rec.Identity.System.PrincipalID)
		underWay, err := a.cfg.Custody.Reassign(ctx, rec.space(), as)
		if err != nil {
			return err
		}
		if !underWay && now.Key != (visage.KeyRef{}) && as != "" && as != now.As {
			if _, err := a.cfg.Custody.Enable(ctx, rec.space(), now.Key, as); err != nil {
				return err
			}
		}
		return a.cfg.Custody.Unlock(ctx, rec.space())
	})
}

// SetPolicy changes the key policy of an account; a grace of 0 means that of the instance. Refusals: ResourceNotFound,
// InvalidEncryptionPolicy.
func (a *Accounts) SetPolicy(ctx context.Context, by visage.Caller, name string, p Policy) error {
	return a.recorded(ctx, a.action("set key policy", by, name), func() error {
		rec, err := a.stored(ctx, name)
		if err != nil {
			return err
		}
		return a.cfg.Custody.SetPolicy(ctx, rec.space(), p)
	})
}

// recheck asks the key of an account at once.
func (a *Accounts) recheck(ctx context.Context, of Account) {
	now, err := a.cfg.Custody.Status(ctx, sealed.SpaceID(of.ID))
	if err != nil { // the next poll asks
		a.log.WarnContext(ctx, "key not asked for at once", "resource", of.ID.String(), "err", err)
		return
	}
	for _, s := range now.Stores {
		a.cfg.Custody.Recheck(s.Key)
	}
}
