package account

import (
	"context"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/custody"
)

// maxChoices bounds a page of choices.
const maxChoices = 100

// VaultChoice is a vault of this instance, offered for the key of an account.
type VaultChoice struct {
	Name     string
	Address  string // for Protection.VaultURI
	Location string
	// Unmet are the preconditions of the vault that are not met. Empty: its keys may protect the account's data.
	Unmet    []Finding
	KeysSeen bool // the caller may list the vault's keys
}

// KeyChoice is the newest version of a key, offered for an account.
type KeyChoice struct {
	Name, Version string
	Properties    custody.Properties
	// Unmet are the preconditions of the key that are not met. Empty: it may protect the account's data, if its vault
	// may be used.
	Unmet []Finding
}

// VaultChoices lists the vaults of this instance that the caller may read, sorted by name, from behind the name after,
// and says why an account may not use the keys of some. A page has at most limit vaults, and 100 at most. next is where
// the following page begins; empty: there is none. Refusal: ResourceNotFound.
func (a *Accounts) VaultChoices(
	ctx context.Context, by visage.Caller, name, after string, limit int,
) (page []VaultChoice, next string, err error) {
	of, err := a.Get(ctx, name)
	if err != nil {
		return nil, "", err
	}
	found, next, err := a.vaults().List(ctx, by, of.Location, after, pageOf(limit))
	if err != nil {
		return nil, "", err
	}
	for _, v := range found {
		choice := VaultChoice{Name: v.Name, Address: v.Address, Location: v.Location, KeysSeen: v.KeysSeen}
		f := preflight{}
		for _, check := range v.Checks {
			f.Findings = append(f.Findings, Finding{Precondition: check.Precondition})
			if err := f.note(check.Precondition, check.Err); err != nil {
				return nil, "", err
			}
		}
		for _, finding := range f.Findings {
			if finding.State == Unmet {
				choice.Unmet = append(choice.Unmet, finding)
			}
		}
		page = append(page, choice)
	}
	return page, next, nil
}

// KeyChoices lists the keys of a vault of this instance in their newest versions, sorted by name, from behind the name
// after, and says why some cannot protect an account's data. Pages are those of VaultChoices. Refusals:
// VaultNotFound; Forbidden for a caller that may not list the keys of the vault.
func (a *Accounts) KeyChoices(
	ctx context.Context, by visage.Caller, vault, after string, limit int,
) (page []KeyChoice, next string, err error) {
	found, next, err := a.vaults().Keys(ctx, by, vault, after, pageOf(limit))
	if err != nil {
		return nil, "", err
	}
	for _, k := range found {
		e := custody.NewExamination(k.Key, "")
		e.NoteProperties(&k.Properties)
		choice := KeyChoice{Name: k.Key.Name, Version: k.Key.Version, Properties: k.Properties}
		for _, check := range e.Checks {
			if check.Refusal != nil {
				choice.Unmet = append(choice.Unmet,
					Finding{Precondition: check.Requirement, State: Unmet, Refusal: check.Refusal})
			}
		}
		page = append(page, choice)
	}
	return page, next, nil
}

func pageOf(limit int) int {
	if limit < 1 || limit > maxChoices {
		return maxChoices
	}
	return limit
}

// NamedKey is a reference to a key as a person gave it, taken apart.
type NamedKey struct {
	Key   visage.KeyRef // in the one spelling of its vault; without a version: new versions are followed
	Vault string        // the name of its vault, if that is one of this instance; else empty
}

// ReadKey reads which key a Protection names, in any spelling that its vault knows, for a page that shows the parts
// before anything is checked. A slash at the end and the case of the host and the version do not matter. Refusal:
// InvalidKeyVaultProperties, which says which part is wrong and what would be right, also for a vault that this
// instance cannot use.
func (a *Accounts) ReadKey(p Protection) (NamedKey, error) {
	key, err := a.keyOf(p)
	if err != nil {
		return NamedKey{}, err
	}
	vault, err := a.vaults().Locate(key)
	if err != nil {
		return NamedKey{}, err
	}
	return NamedKey{key, vault}, nil
}

// NewerVersion returns a version of the key of an account that is newer than the one in use, enabled and suitable;
// empty: there is none, or the account follows new versions by itself. For a key in a vault of this instance nothing is
// asked and recorded; the account's identity must have the permission get. A vault elsewhere is asked if ask is set;
// else known is false. Refusals: ResourceNotFound, those of Update for a key that its vault does not describe.
func (a *Accounts) NewerVersion(ctx context.Context, name string, ask bool) (version string, known bool, err error) {
	rec, found := a.index.Now().byName[strings.ToLower(name)]
	if !found {
		return "", false, refuseUnknown(name)
	}
	now, err := a.cfg.Custody.Status(ctx, rec.space())
	if err != nil {
		return "", false, err
	}
	if now.Key.Version == "" { // the service's key, or new versions are followed
		return "", true, nil
	}
	inUse := now.Key
	inUse.Version = now.Version
	newer, known, err := a.vaults().Newer(ctx, rec.account(), inUse)
	if err != nil {
		return "", false, err
	}
	for _, k := range newer {
		if custody.Suitable(k.Key, k.Properties) {
			return k.Key.Version, true, nil
		}
	}
	if known || !ask {
		return "", known, nil
	}
	version, err = a.cfg.Custody.Newest(ctx, rec.space())
	return version, err == nil, err
}
