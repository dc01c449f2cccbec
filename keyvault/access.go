package keyvault

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/visage-face/visage"
)

// access is a change of the permissions of one access policy of a vault or, with an empty ObjectID, of the model that
// decides there.
type access struct {
	ObjectID, AppID string // of the policy
	// Before and After are the key permissions of the policy, sorted and separated by commas, or modelRoles and
	// modelPolicies. Empty: there was no policy, or there is none any more.
	Before, After string
}

// The permission models of a vault, as the audit log names them.
const (
	modelPolicies = "access-policies"
	modelRoles    = "roles"
)

func model(rbac bool) string {
	if rbac {
		return modelRoles
	}
	return modelPolicies
}

// accessBetween returns the differences in access between two states of a vault. The zero vault gives no access.
func accessBetween(before, after Vault) (all []access) {
	if before.ID != "" && after.ID != "" && before.RBAC != after.RBAC {
		all = append(all, access{Before: model(before.RBAC), After: model(after.RBAC)})
	}
	text := func(p AccessPolicy) string {
		names := make([]string, len(p.Keys))
		for i, k := range p.Keys {
			names[i] = string(k)
		}
		slices.Sort(names)
		return strings.Join(slices.Compact(names), ",")
	}
	of := func(policies []AccessPolicy, like AccessPolicy) string {
		i := slices.IndexFunc(policies, func(p AccessPolicy) bool { return p.sameHolder(like) })
		if i < 0 {
			return ""
		}
		return text(policies[i])
	}
	for _, p := range before.Policies {
		if was, is := text(p), of(after.Policies, p); was != is {
			all = append(all, access{ObjectID: p.ObjectID, AppID: p.AppID, Before: was, After: is})
		}
	}
	for _, p := range after.Policies {
		if of(before.Policies, p) == "" && text(p) != "" &&
			!slices.ContainsFunc(before.Policies, func(b AccessPolicy) bool { return b.sameHolder(p) }) {
			all = append(all, access{ObjectID: p.ObjectID, AppID: p.AppID, After: text(p)})
		}
	}
	return all
}

func (p AccessPolicy) sameHolder(q AccessPolicy) bool {
	return strings.EqualFold(p.ObjectID, q.ObjectID) && strings.EqualFold(p.AppID, q.AppID)
}

// samePolicies reports whether two lists give the same permissions to the same principals, in any order.
func samePolicies(a, b []AccessPolicy) bool {
	if len(a) != len(b) {
		return false
	}
	alike := func(p, q AccessPolicy) bool {
		has := func(all, some []string) bool {
			return !slices.ContainsFunc(some, func(s string) bool { return !slices.Contains(all, s) })
		}
		keys := func(p AccessPolicy) (names []string) {
			for _, k := range p.Keys {
				names = append(names, string(k))
			}
			return names
		}
		return p.sameHolder(q) && has(keys(p), keys(q)) && has(keys(q), keys(p)) && has(p.Others, q.Others) &&
			has(q.Others, p.Others)
	}
	return !slices.ContainsFunc(a, func(p AccessPolicy) bool {
		return !slices.ContainsFunc(b, func(q AccessPolicy) bool { return alike(p, q) })
	})
}

// mayGiveAccess reports whether the caller may change the permission model of a vault, and write policies while roles
// decide. The service itself may. It must not be called within a transaction: Roles may read the store.
func (s *Service) mayGiveAccess(ctx context.Context, who visage.Caller, v Vault) (bool, error) {
	if who == (visage.Caller{}) {
		return true, nil
	}
	may, err := s.cfg.Roles.MayGiveAccess(ctx, who, v)
	if err != nil {
		return false, fmt.Errorf("look up the roles of %s: %w", who.ObjectID, err)
	}
	return may, nil
}

// guardAccess refuses changes by which a caller that may not give access could gain some: of the permission model,
// which puts other policies into force, and of policies while roles decide, which come into force when the model
// changes.
func guardAccess(may bool, who visage.Caller, before, after Vault) error {
	changes := before.RBAC != after.RBAC || before.RBAC && !samePolicies(before.Policies, after.Policies)
	if may || !changes {
		return nil
	}
	return visage.Refuse(visage.Denied, "AuthorizationFailed",
		"The client %q with object id %q has no role that allows the action "+
			"\"Microsoft.Authorization/roleAssignments/write\" "+
			"on the vault %q, which a change of enableRbacAuthorization needs, and one of accessPolicies where roles "+
			"decide.",
		who.AppID, who.ObjectID, before.Name)
}
