package identity

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/cmd/visage/internal/operator"
	identities "github.com/visage-face/visage/identity"
)

const roleAssignments = "/providers/Microsoft.Authorization/roleAssignments"

// scope is the flags for the scope of a role assignment.
type scope struct{ path, resource, vault string }

func (s *scope) define(c *cobra.Command) {
	c.Flags().StringVar(&s.path, "scope", "", "management `PATH` (default: the whole subscription)")
	c.Flags().StringVar(&s.resource, "resource", "", "instead of --scope: `NAME` of a Face resource")
	c.Flags().StringVar(&s.vault, "vault", "", "instead of --scope: `NAME` of a key vault")
	operator.CompleteFlag(c, "resource", operator.Resources)
	operator.CompleteFlag(c, "vault", operator.Vaults)
}

// below returns the scope as a path below the subscription.
func (s *scope) below(o *operator.Client) (string, error) {
	group := "/resourceGroups/" + o.Operator.ResourceGroup
	switch {
	case s.resource != "" && s.path == "" && s.vault == "":
		return group + "/providers/Microsoft.CognitiveServices/accounts/" + url.PathEscape(s.resource), nil
	case s.vault != "" && s.path == "" && s.resource == "":
		return o.VaultPath(s.vault), nil
	case s.resource != "" || s.vault != "":
		return "", command.Misuse("give only one of --scope, --resource and --vault")
	}
	path, ok := strings.CutPrefix(s.path, "/subscriptions/"+o.Operator.SubscriptionID)
	if s.path != "" && !ok {
		return "", command.Hinted(
			command.Misuse("--scope must begin with /subscriptions/%s; got %q", o.Operator.SubscriptionID, s.path),
			"without --scope the role applies to the whole subscription")
	}
	return path, nil
}

func assign() *cobra.Command {
	var where scope
	role := ""
	c := command.New("assign NAME|ID", "Assign a role to an identity",
		"visage identity assign shop-app --role \"Cognitive Services User\" --resource shop")
	where.define(c)
	c.Flags().StringVar(&role, "role", "", "`ROLE` by name or id (required): "+strings.Join(roleNames(), ", "))
	operator.CompleteFlag(c, "role", func(context.Context, *operator.Client, *cobra.Command) ([]string, error) {
		return roleNames(), nil
	})
	operator.Complete(c, operator.Identities)
	return operator.Show(c, func(
		ctx context.Context, o *operator.Client, args []string,
	) ([]armwire.RoleAssignment, error) {
		id, err := roleCalled(role)
		if err != nil {
			return nil, err
		}
		at, err := where.below(o)
		if err != nil {
			return nil, err
		}
		p, err := o.Principal(ctx, args[0])
		if err != nil {
			return nil, err
		}
		var body armwire.RoleAssignmentRequest
		body.Properties.PrincipalID, body.Properties.RoleDefinitionID = p.ObjectID, id
		var made armwire.RoleAssignment
		err = o.ARM(ctx, http.MethodPut, at+roleAssignments+"/"+visage.NewUUID().String(), body, &made)
		return []armwire.RoleAssignment{made}, err
	}, roleTable)
}

func roleNames() (names []string) {
	for _, r := range identities.Roles() {
		names = append(names, r.Name)
	}
	return names
}

func roleCalled(said string) (id string, err error) {
	for _, r := range identities.Roles() {
		if strings.EqualFold(said, r.Name) || strings.EqualFold(said, r.ID) {
			return r.ID, nil
		}
	}
	return "", command.Misuse("--role must be one of %s; got %q", strings.Join(roleNames(), ", "), said)
}

func roles() *cobra.Command {
	var where scope
	c := command.New("roles [NAME|ID]", "List role assignments: all, or those of one identity",
		"visage identity roles shop-app")
	where.define(c)
	operator.Complete(c, operator.Identities)
	return operator.Show(c, func(
		ctx context.Context, o *operator.Client, args []string,
	) ([]armwire.RoleAssignment, error) {
		at, err := where.below(o)
		if err != nil {
			return nil, err
		}
		all, err := assignments(ctx, o, at)
		if err != nil || len(args) == 0 {
			return all, err
		}
		p, err := o.Principal(ctx, args[0])
		if err != nil {
			return nil, err
		}
		its := []armwire.RoleAssignment{}
		for _, a := range all {
			if a.Properties.PrincipalID == p.ObjectID {
				its = append(its, a)
			}
		}
		return its, nil
	}, roleTable)
}

// assignments returns the role assignments that apply to a scope below the subscription.
func assignments(ctx context.Context, o *operator.Client, below string) ([]armwire.RoleAssignment, error) {
	var all armwire.Page[armwire.RoleAssignment]
	err := o.ARM(ctx, http.MethodGet, below+roleAssignments, nil, &all)
	return all.Value, err
}

func unassign() *cobra.Command {
	c := command.New("unassign ASSIGNMENT",
		"Remove a role assignment; \"visage identity roles\" shows the ids of assignments",
		"visage identity unassign 3f0c6e2a-1d0b-4f5e-9a51-6f1c2b7d8e90")
	operator.Complete(c, func(ctx context.Context, o *operator.Client, _ *cobra.Command) (names []string, err error) {
		all, err := assignments(ctx, o, "")
		for _, a := range all {
			names = append(names, a.Name)
		}
		return names, err
	})
	return operator.Do(c, func(ctx context.Context, o *operator.Client, args []string) error {
		all, err := assignments(ctx, o, "")
		if err != nil {
			return err
		}
		for _, a := range all {
			if strings.EqualFold(a.Name, args[0]) {
				return o.ARM(ctx, http.MethodDelete, strings.TrimPrefix(strings.ToLower(a.ID),
					"/subscriptions/"+strings.ToLower(o.Operator.SubscriptionID)), nil, nil)
			}
		}
		return command.Hinted(fmt.Errorf("unknown role assignment %q", args[0]),
			"\"visage identity roles\" lists the role assignments")
	})
}

func roleTable(t *command.Table, all []armwire.RoleAssignment) {
	t.Row("ASSIGNMENT", "IDENTITY", "ROLE", "SCOPE")
	for _, a := range all {
		role := a.Properties.RoleDefinitionID[strings.LastIndex(a.Properties.RoleDefinitionID, "/")+1:]
		for _, r := range identities.Roles() {
			if r.ID == role {
				role = r.Name
			}
		}
		t.Row(a.Name, a.Properties.PrincipalID, role, a.Properties.Scope)
	}
}
