package server

import (
	"context"
	"errors"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/identity"
)

// place finds the target of a scope of roles: the subscription, its resource group, a Face resource or a key vault. It
// implements identity.Config.Place.
func (l *layers) place(ctx context.Context, scope string) (identity.Place, error) {
	missing := func(code, format string, args ...any) (identity.Place, error) {
		return identity.Place{}, visage.Refuse(visage.NotFound, code, format, args...)
	}
	segments := strings.Split(strings.Trim(scope, "/"), "/")
	is := func(i int, word string) bool { return strings.EqualFold(segments[i], word) }
	if n := len(segments); n < 2 || !is(0, "subscriptions") || n > 2 && !is(2, "resourceGroups") ||
		n > 4 && !is(4, "providers") ||
		n != 2 && n != 4 && n != 8 {
		return identity.Place{}, visage.Refuse(visage.Invalid, "InvalidScope",
			"The scope %q is not a subscription, a resource group, a Face resource or a key vault.", scope)
	}
	if !is(1, l.instance.SubscriptionID) {
		return missing("SubscriptionNotFound", "There is no subscription %q.", segments[1])
	}
	if len(segments) == 2 {
		return identity.Place{}, nil
	}
	if !is(3, defaultGroup) {
		return missing("ResourceGroupNotFound", "There is no resource group %q.", segments[3])
	}
	if len(segments) == 4 {
		return identity.Place{}, nil
	}
	kind, name := segments[5]+"/"+segments[6], segments[7]
	const accounts, vaults = "Microsoft.CognitiveServices/accounts", "Microsoft.KeyVault/vaults"
	switch {
	case strings.EqualFold(kind, accounts):
		kind = accounts
		if l.accounts == nil {
			return identity.Place{}, errors.New("the resources are not open yet")
		}
		if a, found := l.accounts.Find(name); found {
			return identity.Place{Instance: a.ID.String(), Created: a.Created, Deleted: !a.Deleted.IsZero()}, nil
		}
	case strings.EqualFold(kind, vaults):
		kind = vaults
		if l.vaults == nil {
			return identity.Place{}, errors.New("the vaults are not open yet")
		}
		v, err := l.vaults.Find(ctx, name)
		if err == nil {
			return identity.Place{Instance: v.ID, Created: v.Created, Deleted: !v.Deleted.IsZero()}, nil
		}
		if refusal, ok := errors.AsType[*visage.Refusal](err); !ok || refusal.Kind != visage.NotFound {
			return identity.Place{}, err
		}
	}
	return missing("ResourceNotFound", "The Resource '%s/%s' was not found.", kind, name)
}
