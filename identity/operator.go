package identity

import (
	"context"
	"slices"
	"strings"

	"github.com/visage-face/visage"
)

// IsOperator reports whether a principal operates the instance: it is the operator's application, or has the role
// VisageOperator. Such principals decide what no role of a subscription allows, not even Owner.
func (d *Directory) IsOperator(who visage.Principal) bool {
	return who.ObjectID != "" && d.operates(d.state.Now(), lower(who.ObjectID))
}

// operates is IsOperator for an object id in a state. The role is given on a subscription alone, which never ends.
func (d *Directory) operates(s *state, id string) bool {
	return id == d.cfg.Operator && id != "" || slices.ContainsFunc(s.roles[id], func(a Assignment) bool {
		return a.Role == VisageOperator && isSubscription(a.Scope)
	})
}

// isSubscription reports whether a scope is a whole subscription.
func isSubscription(scope string) bool { return strings.Count(scope, "/") == 2 }

// isForOperator reports whether what a context does is done by an operator, or by the instance itself.
func (d *Directory) isForOperator(ctx context.Context) bool {
	caller := visage.CallerFrom(ctx)
	return caller.Principal == (visage.Principal{}) && caller.RequestID == "" || d.IsOperator(caller.Principal)
}

// guard refuses a change of an identity that operates the instance by somebody who does not: it would be a way to
// become one.
func (d *Directory) guard(operator bool, id string) error {
	if operator || !d.operates(d.state.Now(), id) {
		return nil
	}
	return refuseOperator()
}

// checkOperator refuses an assignment of VisageOperator that an operator does not make, or that would reach further
// than one: whoever may change a resource can act as its managed identity.
func checkOperator(operator bool, holder principalRecord, scope string) error {
	if !operator {
		return refuseOperator()
	}
	if !isSubscription(scope) || holder.Kind != Application && holder.Kind != Person {
		return visage.Refuse(visage.Invalid, "InvalidScope",
			"The role Visage Operator can be assigned only on the subscription, to a person or an application.")
	}
	return nil
}

func refuseOperator() error {
	return visage.Refuse(visage.Denied, "AuthorizationFailed",
		"Only an operator of this instance may assign or remove the role Visage Operator, and change an identity that "+
			"has it.")
}
