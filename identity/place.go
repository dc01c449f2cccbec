package identity

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
)

// Place is the resource that a scope names at present. Earlier or later ones may have the same name.
type Place struct {
	Instance string // its id, which no other thing ever has; empty for what there always is, such as the subscription
	Created  time.Time
	Deleted  bool // it can be recovered: roles on it stay, and none can be assigned on it
}

// stands reports whether the thing that an assignment was made on is still the one that its scope names. Where that
// cannot be found out, it does not.
func (d *Directory) stands(a Assignment) bool {
	now, err := d.cfg.Place(context.Background(), a.Scope)
	return err == nil && now.Instance == a.Instance
}

// Forget takes back the roles on a thing that is gone, and on what was below it. A thing of the same name that came
// after it keeps its own.
func (d *Directory) Forget(ctx context.Context, scope, instance string) error {
	scope = place(scope)
	err := d.changeRights(ctx, change{Operation: roleEnded, Scope: scope, Instance: instance},
		func(tx sealed.Tx, tell func(change)) error {
			for _, a := range d.state.Now().byID {
				if within(a.Scope, scope) && a.Instance == instance {
					if err := endRole(tx, tell, a); err != nil {
						return err
					}
				}
			}
			return nil
		})
	if err != nil {
		return fmt.Errorf("forget roles on what is gone: %w", err)
	}
	return nil
}

// Settle takes back roles on things that are gone, which Forget did not come to, and binds those that an earlier
// version of the program stored without Assignment.Instance: to the thing of today when it is older than the
// assignment, for then it is the one that was meant. It is to be called when Config.Place knows all things, before
// anybody is let in.
func (d *Directory) Settle(ctx context.Context) error {
	type verdict struct {
		a    Assignment
		gone bool
	}
	var all []verdict
	for _, a := range d.state.Now().byID {
		now, err := d.cfg.Place(ctx, a.Scope)
		refusal, refused := errors.AsType[*visage.Refusal](err)
		switch {
		case err != nil && !(refused && (refusal.Kind == visage.NotFound || refusal.Kind == visage.Invalid)):
			// The role gives no rights while its scope cannot be read, and must not prevent the start.
			d.log.ErrorContext(ctx, "a role is on what cannot be read", "assignment", a.ID, "err", err)
		case err != nil, now.Instance != a.Instance && (a.Instance != "" || now.Created.UnixNano() > a.Created):
			all = append(all, verdict{a, true})
		case now.Instance != a.Instance:
			a.Instance = now.Instance
			all = append(all, verdict{a, false})
		}
	}
	if len(all) == 0 {
		return nil
	}
	err := d.changeRights(ctx, change{Operation: roleEnded}, func(tx sealed.Tx, tell func(change)) error {
		for _, v := range all {
			var err error
			if v.gone {
				err = endRole(tx, tell, v.a)
			} else {
				err = assignments.In().Put(tx, v.a.ID, v.a)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("settle roles: %w", err)
	}
	return nil
}

// endRole ends an assignment with the thing it is on, or with its holder.
func endRole(tx sealed.Tx, tell func(change), a Assignment) error {
	tell(a.change(roleEnded))
	return assignments.In().Delete(tx, a.ID)
}

// change is an assignment as the audit log records it.
func (a Assignment) change(op operation) change {
	name := a.Role
	if role, found := lookupRole(a.Role); found {
		name = role.Name
	}
	e := change{
		Operation: op, Subject: a.Principal, Assignment: a.ID, Role: a.Role, Scope: a.Scope, Instance: a.Instance,
		Before: name,
	}
	if op == roleGiven {
		e.Before, e.After = "", name
	}
	return e
}
