package keyvault

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
)

// Access is a change of what somebody may do with the keys of a vault or, with an empty ObjectID, of what decides
// there.
type Access struct {
	ObjectID, AppID string // whose policy
	// Before and After are the key permissions of the policy in the order of their names, with commas between, or
	// ModelRoles and ModelPolicies. Empty: there was none, or is none any more.
	Before, After string
}

// untold holds events of what changed who may do what, from the change on until the auditor has them: they are written
// with the change, so that none is ever done untold.
var untold = sealed.NewTable[Event]("keyvault/untold", 1)

// remember writes an event with the change that it is of, when somebody may do another thing after it.
func (s *Service) remember(tx sealed.Tx, e *Event) error {
	if len(e.Access) == 0 {
		return nil
	}
	if e.Change == "" { // the transaction may run again
		e.Change, e.Time = newVersion(), time.Now()
		s.telling.Store(e.Change, true)
	}
	done := *e
	done.Outcome = Success
	return untold.In().Put(tx, e.Change, done)
}

// told forgets events that the auditor has.
func (s *Service) told(ctx context.Context, changes ...string) error {
	err := s.space.Update(ctx, func(tx sealed.Tx) error {
		for _, c := range changes {
			if err := untold.In().Delete(tx, c); err != nil {
				return err
			}
		}
		return nil
	})
	return wrap("forget what was audited", err)
}

// tellRest tells the auditor of changes that a crash, or a full disk, kept it from hearing of.
func (s *Service) tellRest(ctx context.Context) error {
	var rest []Event
	err := s.space.View(ctx, func(r sealed.Reader) error {
		rest = nil // the function may run again
		for e, err := range untold.In().All(r) {
			if err != nil {
				return err
			}
			rest = append(rest, e)
		}
		return nil
	})
	if err != nil || len(rest) == 0 {
		return wrap("read what is not audited", err)
	}
	slices.SortFunc(rest, func(a, b Event) int { return a.Time.Compare(b.Time) })
	for _, e := range rest {
		if _, now := s.telling.Load(e.Change); now {
			continue // whoever made the change is about to
		}
		if err := s.cfg.Audit.Record(ctx, e); err != nil {
			return fmt.Errorf("audit %s: %w", e.Operation, err)
		}
		if err := s.told(ctx, e.Change); err != nil {
			return err
		}
	}
	return nil
}

// What decides who may use the keys of a vault.
const (
	ModelPolicies = "access-policies"
	ModelRoles    = "roles"
)

func model(rbac bool) string {
	if rbac {
		return ModelRoles
	}
	return ModelPolicies
}

// accessBetween returns what differs between two states of a vault in who may do what. The zero vault gives nothing to
// anybody.
func accessBetween(before, after Vault) (all []Access) {
	if before.ID != "" && after.ID != "" && before.RBAC != after.RBAC {
		all = append(all, Access{Before: model(before.RBAC), After: model(after.RBAC)})
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
			all = append(all, Access{ObjectID: p.ObjectID, AppID: p.AppID, Before: was, After: is})
		}
	}
	for _, p := range after.Policies {
		if of(before.Policies, p) == "" && text(p) != "" &&
			!slices.ContainsFunc(before.Policies, func(b AccessPolicy) bool { return b.sameHolder(p) }) {
			all = append(all, Access{ObjectID: p.ObjectID, AppID: p.AppID, After: text(p)})
		}
	}
	return all
}

func (p AccessPolicy) sameHolder(q AccessPolicy) bool {
	return strings.EqualFold(p.ObjectID, q.ObjectID) && strings.EqualFold(p.AppID, q.AppID)
}

// samePolicies reports whether two lists give the same to the same, whatever their order.
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

// mayGiveAccess reports whether the caller may say what decides in a vault, and write policies where roles decide. The
// service itself may. It must not be called within a transaction: whoever answers may read the store.
func (s *Service) mayGiveAccess(ctx context.Context, who Caller, v Vault) (bool, error) {
	if who == (Caller{}) {
		return true, nil
	}
	may, err := s.cfg.Roles.MayGiveAccess(ctx, who, v)
	if err != nil {
		return false, fmt.Errorf("look for the roles of %s: %w", who.ObjectID, err)
	}
	return may, nil
}

// guardAccess refuses to a caller that may not give access what would let it take some: another model, which puts other
// policies into force, and other policies where roles decide, which would be in force as soon as the model changed.
func guardAccess(may bool, who Caller, before, after Vault) error {
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
