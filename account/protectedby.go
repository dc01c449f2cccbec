package account

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/sealed"
)

// ProtectedResource is an account whose data key a customer's key wraps.
type ProtectedResource struct {
	visage.Resource
	Deleted   time.Time // zero: it is not; else it can be recovered, and only with this key
	Key       visage.KeyRef
	Version   string             // that wraps its data key, or is about to
	Principal visage.PrincipalID // that uses the key
	Condition custody.Condition
	Changing  bool // a change of its key is under way
}

// Protected are the accounts that depend on a key.
type Protected struct {
	Resources []ProtectedResource // that the caller may read, sorted by name
	Others    int                 // the number of those that the caller may not read
}

// Dependent is an account whose data is locked if a key is lost.
type Dependent struct {
	Account Account // zero: it is not known here, since another process has just made it
	Visible bool    // to the caller
	// Unreadable says that what is stored of the account's keys is damaged, so that it may depend on any key.
	Unreadable bool
}

// DependentOn returns the accounts that ProtectedBy counts, and those whose keys cannot be read, by what the store has
// at this moment. unchanged reports in a transaction whether it has the same still; see custody.StoredUses.
func (a *Accounts) DependentOn(ctx context.Context, by visage.Caller, of visage.KeyRef) (
	all []Dependent, unchanged func(sealed.Reader) (bool, error), err error,
) {
	uses, unchanged, err := a.cfg.Custody.StoredUses(ctx, of)
	if err != nil {
		return nil, nil, fmt.Errorf("read which resources depend on a key: %w", err)
	}
	if len(uses) == 0 {
		return nil, unchanged, nil
	}
	known := map[sealed.SpaceID]Account{}
	x := a.index.Now()
	for _, of := range []map[string]record{x.byName, x.gone} {
		for _, rec := range of {
			known[rec.space()] = rec.account()
		}
	}
	for _, use := range uses {
		of, found := known[use.ID]
		all = append(all, Dependent{of, found && a.may(by, readAccount, of), use.Unreadable})
	}
	slices.SortFunc(all, func(a, b Dependent) int {
		return strings.Compare(strings.ToLower(a.Account.Name), strings.ToLower(b.Account.Name))
	})
	return all, unchanged, nil
}

// readAccount is the action of the management plane that allows reading an account.
const readAccount = "Microsoft.CognitiveServices/accounts/read"

// ProtectedBy returns the accounts whose data is locked if a key is disabled, deleted or purged: a version of it, the
// whole key if of has no version, or all keys of a vault if it has no name; of all accounts if as is empty, else of
// those that use the key as that identity. Deleted accounts that can be recovered count, and so do changes under way.
// It asks no key. The caller must be allowed to see the key; of accounts that it may not read, it only learns the
// number.
func (a *Accounts) ProtectedBy(
	_ context.Context, by visage.Caller, of visage.KeyRef, as visage.PrincipalID,
) (Protected, error) {
	uses := map[sealed.SpaceID][]custody.Use{}
	for _, u := range a.cfg.Custody.Uses(of) {
		if as == "" || strings.EqualFold(string(u.As), string(as)) {
			uses[u.ID] = append(uses[u.ID], u)
		}
	}
	var found Protected
	if len(uses) == 0 {
		return found, nil
	}
	x := a.index.Now()
	for _, all := range []map[string]record{x.byName, x.gone} {
		for _, rec := range all {
			account := rec.account()
			its := uses[sealed.SpaceID(account.ID)]
			if len(its) == 0 {
				continue
			}
			if !a.may(by, readAccount, account) {
				found.Others++
				continue
			}
			for _, u := range its {
				found.Resources = append(found.Resources, ProtectedResource{
					Resource: account.Resource, Deleted: account.Deleted, Key: u.Key, Version: u.Version,
					Principal: u.As, Condition: u.Condition, Changing: u.Changing,
				})
			}
		}
	}
	slices.SortFunc(found.Resources, func(a, b ProtectedResource) int {
		return strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name))
	})
	return found, nil
}
