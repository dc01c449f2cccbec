package account

import (
	"context"
	"fmt"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/sealed"
)

// Protection says who shall hold the key of an account's data.
type Protection struct {
	Customer   bool   // the customer, by the key below; else the service
	VaultURI   string // the vault's address, or the identifier of the key, and then without a name
	KeyName    string
	KeyVersion string // empty: the newest, and every newer one from then on
	ClientID   string // of a user-assigned identity, which Face resources do not open keys with
	// Register switches the system-assigned identity on where it is off, and gives it access to the key where the
	// caller may allow that: what people would do in steps of their own.
	Register bool
}

// protected is what is stored of the last Protection. It is for showing: what holds is custody's to know.
type protected struct {
	Said     bool   // somebody has said who holds the key
	VaultURI string // the vault's address; empty: the key is the service's
}

// Policy is what happens to the data of an account when its customer's key does not simply say yes.
type Policy = custody.Policy

// Encryption is who holds the key of an account's data, and how that stands.
type Encryption struct {
	Said     bool          // somebody has said who holds the key; else it is the service by default
	Key      visage.KeyRef // as it was given; zero: the service's
	VaultURI string        // the address of its vault, with a slash at the end
	State    custody.State
}

// Pending reports whether a change of who holds the key is under way.
func (e Encryption) Pending() bool { return e.State.Operation.Progress == custody.Running }

// Failed reports whether the last change ended with nothing changed.
func (e Encryption) Failed() bool { return e.State.Operation.Progress == custody.Failed }

// Encryption tells who holds the key of an account's data. Where that cannot be read the State says so, and the Key is
// zero.
func (a *Accounts) Encryption(ctx context.Context, of Account) (Encryption, error) {
	x := a.index.Load()
	rec := x.byName[of.key()]
	if rec.ID != of.ID.String() {
		rec = x.gone[of.key()]
	}
	e := Encryption{Said: rec.Protection.Said, State: custody.State{Condition: custody.ServiceManaged}}
	var err error
	e.State, err = a.cfg.Custody.State(ctx, sealed.SpaceID(of.ID))
	switch {
	case ctx.Err() != nil:
		return Encryption{}, context.Cause(ctx)
	case err != nil: // one account's misfortune: it can be seen, and others beside it
		a.log.ErrorContext(ctx, "keys of a resource not read", "resource", of.ID.String(), "err", err)
		e.VaultURI, e.Said = rec.Protection.VaultURI, true
		e.State = custody.State{Condition: custody.Unavailable,
			Reason: "The keys of the resource cannot be read: the log of its operator says why."}
		return e, nil
	}
	e.Said = e.Said || e.Pending() // a crash may have come before that was kept
	if e.State.Key == (visage.KeyRef{}) {
		return e, nil
	}
	e.Said, e.Key, e.VaultURI = true, e.State.Key, vaultURI(e.State.Key)
	return e, nil
}

// checkAtCreation refuses a customer's key for an account that is about to be made: it begins with the service's.
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
		"A resource begins with keys of the service: create it without encryption.keyVaultProperties, and change it "+
			"then.")
}

// checkService refuses a key beside the wish for the service's.
func (p Protection) checkService() error {
	if p.VaultURI != "" || p.KeyName != "" {
		return visage.Refuse(visage.Invalid, "InvalidKeyVaultProperties",
			"The keySource is Microsoft.CognitiveServices, and then there are no keyVaultProperties.")
	}
	return nil
}

func refuseSKU(name string, tier visage.Tier) error {
	return visage.Refuse(visage.Invalid, "CustomerManagedKeyNotSupportedForSku",
		"Resource %q is of tier %s, and customer-managed keys are for tier E0: create a new resource with E0.", name,
		tier)
}

// keyOf reads which key a Protection means. Refusal: InvalidKeyVaultProperties.
func (a *Accounts) keyOf(p Protection) (visage.KeyRef, error) {
	key, err := a.cfg.ParseKey(p.VaultURI, p.KeyName, p.KeyVersion)
	if err != nil {
		return visage.KeyRef{}, visage.Refuse(visage.Invalid, "InvalidKeyVaultProperties",
			"The keyVaultProperties name no key: %v. They are keyVaultUri, keyName and, unless every new version "+
				"shall be followed, keyVersion.", err)
	}
	return key, nil
}

// vaultURI is the address of a key's store as it is answered. Vaults that are reached over https have a slash at the
// end, as Azure Resource Manager writes them.
func vaultURI(key visage.KeyRef) string {
	if key.Scheme() == "https" {
		return key.Vault + "/"
	}
	return key.Vault
}

// Lock closes the data of an account under a customer's key at once, until Unlock. Refusals: ResourceNotFound;
// CustomerManagedKeyNotEnabled where the key is the service's.
func (a *Accounts) Lock(ctx context.Context, by visage.Caller, name string) error {
	return a.recorded(ctx, a.action("lock", by, name), func() error {
		rec, err := a.stored(ctx, name)
		if err != nil {
			return err
		}
		return a.cfg.Custody.Lock(ctx, rec.space())
	})
}

// Unlock ends what Lock began, and has the key asked at once; where the account has got another identity since its key
// was enabled, with that one. The data opens when the key says yes. Refusals: ResourceNotFound, those of custody.
func (a *Accounts) Unlock(ctx context.Context, by visage.Caller, name string) error {
	return a.recorded(ctx, a.action("unlock", by, name), func() error {
		rec, err := a.stored(ctx, name)
		if err != nil {
			return err
		}
		now, err := a.cfg.Custody.State(ctx, rec.space())
		if err != nil {
			return fmt.Errorf("read who holds the key of resource %s: %w", rec.ID, err)
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

// SetPolicy changes what happens to the data of an account when its customer's key does not simply say yes; a grace of
// 0 is the instance's own. Refusals: ResourceNotFound, InvalidEncryptionPolicy.
func (a *Accounts) SetPolicy(ctx context.Context, by visage.Caller, name string, p Policy) error {
	return a.recorded(ctx, a.action("set key policy", by, name), func() error {
		rec, err := a.stored(ctx, name)
		if err != nil {
			return err
		}
		return a.cfg.Custody.SetPolicy(ctx, rec.space(), p)
	})
}

// recheck has the key of an account asked at once.
func (a *Accounts) recheck(ctx context.Context, of Account) {
	now, err := a.cfg.Custody.State(ctx, sealed.SpaceID(of.ID))
	if err != nil { // the next poll asks
		a.log.WarnContext(ctx, "key not asked for at once", "resource", of.ID.String(), "err", err)
		return
	}
	if now.Key != (visage.KeyRef{}) {
		a.cfg.Custody.Recheck(now.Key)
	}
}
