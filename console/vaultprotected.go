package console

import (
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/custody"
)

// protected are the resources that would be locked by what a page asks about.
type protected struct {
	Resources []protectedResource
	More      int // how many more there are that the person may read
	Others    int // how many more there are that the person may not read
}

// Count is how many of the resources the person may read.
func (p *protected) Count() int { return len(p.Resources) + p.More }

type protectedResource struct {
	Name, To string
	Key      badge // the state of its key
	Deleted  bool  // it can be recovered, and only with this key
}

// keyStore is the address of a vault as key references have it.
func (v *visit) keyStore(vault string) string {
	return strings.TrimSuffix(v.c.cfg.VaultAddress(vault), "/")
}

// protectedBy returns the resources whose data depends on a key: on a version of it, on the key if of has no version,
// on any key of the vault if it has no name. Nil: none.
func (v *visit) protectedBy(of visage.KeyRef) (*protected, error) {
	return v.protectedFor("", of)
}

// protectedByVault returns the resources whose data depends on a key of a vault, after a fresh proof of the person.
// Nil: none.
func (v *visit) protectedByVault(vault string) (*protected, error) {
	p, err := v.protectedBy(visage.KeyRef{Vault: v.keyStore(vault)})
	if err != nil {
		return nil, err
	}
	return p, v.needProof(p)
}

// protectedFor is protectedBy for the resources whose identity is principal; empty: for all.
func (v *visit) protectedFor(principal string, of ...visage.KeyRef) (*protected, error) {
	if principal != "" {
		if who, err := v.c.cfg.Directory.Principal(principal); err != nil || who.Resource == "" {
			return nil, nil // it is not the identity of a resource
		}
	}
	p := &protected{}
	seen := map[visage.ResourceID]bool{}
	for _, one := range of {
		found, err := v.c.cfg.Accounts.ProtectedBy(v.Context(), v.Caller(), one, visage.PrincipalID(principal))
		if err != nil {
			return nil, err
		}
		p.Others = max(p.Others, found.Others)
		for _, r := range found.Resources {
			if seen[r.ID] {
				continue
			}
			seen[r.ID] = true
			if len(p.Resources) == rows {
				p.More++
				continue
			}
			p.Resources = append(p.Resources, v.protectedResource(r))
		}
	}
	if p.Count()+p.Others == 0 {
		return nil, nil
	}
	return p, nil
}

func (v *visit) protectedResource(r account.ProtectedResource) protectedResource {
	row := protectedResource{Name: r.Name, Key: v.keyBadge(custody.Status{Condition: r.Condition}),
		Deleted: !r.Deleted.IsZero()}
	if !row.Deleted {
		row.To = resourcePath(r.Name, "")
	}
	return row
}

// wouldLock refuses a change that locks resources, unless the person has ticked that it shall be, and has proved lately
// who they are. It returns them.
func (v *visit) wouldLock(locks bool, of visage.KeyRef) (*protected, error) {
	return v.wouldLockFor(locks, of, "")
}

// wouldLockFor is wouldLock for what concerns one identity; empty: all.
func (v *visit) wouldLockFor(locks bool, of visage.KeyRef, principal string) (*protected, error) {
	if !locks {
		return nil, nil
	}
	p, err := v.protectedFor(principal, of)
	if p == nil || err != nil {
		return nil, err
	}
	return p, v.confirmLock(p)
}

// confirmLock refuses what would lock resources; nil: none.
func (v *visit) confirmLock(p *protected) error {
	if err := v.needProof(p); p == nil || err != nil {
		return err
	}
	if v.checked("confirmed") {
		return nil
	}
	return visage.Refuse(visage.Conflict, "WouldLockResources", "This change locks the data of resources: "+
		"check which, and tick the box below to make it all the same.")
}

// mayConfirm adds a box to a form that was refused because it would lock resources.
func (v *visit) mayConfirm(f *form, p *protected) {
	if p != nil {
		f.Fields = append(f.Fields, &field{Name: "confirmed", Kind: "checkbox",
			Label: v.text("vault.protected.confirm")})
	}
}
