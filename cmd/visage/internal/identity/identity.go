// Package identity implements "visage identity": applications, their secrets, and the roles of identities.
package identity

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/cmd/visage/internal/operator"
)

// Command is "visage identity".
func Command() *cobra.Command {
	return command.Noun("identity", "Create applications, rotate their secrets, and assign roles to identities",
		create(), list(), show(), remove(), reset(), trust(), assign(), roles(), unassign(), publish())
}

// principal is an identity with the secret that was just made for it, if any.
type principal struct {
	armwire.ServicePrincipal
	Password string `json:"password,omitempty"`
}

// path is the path of an identity for operator.Client.ARM.
func path(p armwire.ServicePrincipal) string {
	return operator.ServicePrincipals + "/" + url.PathEscape(p.ObjectID)
}

func defineDays(c *cobra.Command, days *int) {
	c.Flags().IntVar(days, "days", 365, "lifetime of the secret in `DAYS`, 1 to 730; 0 for as long as the application "+
		"exists")
}

func create() *cobra.Command {
	days := 0
	c := command.New("create NAME", "Create an application with a secret. The secret is shown only this time.",
		"visage identity create shop-app")
	defineDays(c, &days)
	return operator.Show(c, func(ctx context.Context, o *operator.Client, args []string) ([]principal, error) {
		var made principal
		err := o.ARM(ctx, http.MethodPost, operator.ServicePrincipals,
			armwire.ServicePrincipalRequest{Name: args[0], Days: days}, &made)
		return []principal{made}, err
	}, table)
}

func list() *cobra.Command {
	c := command.New("list", "List the identities: applications, and managed identities of resources",
		"visage identity list")
	return operator.Show(c, func(ctx context.Context, o *operator.Client, _ []string) ([]principal, error) {
		all, err := o.Principals(ctx)
		rows := []principal{}
		for _, p := range all {
			rows = append(rows, principal{ServicePrincipal: p})
		}
		return rows, err
	}, table)
}

func show() *cobra.Command {
	c := command.New("show NAME|ID", "Show one identity", "visage identity show shop-app")
	operator.Complete(c, operator.Identities)
	return operator.Show(c, func(ctx context.Context, o *operator.Client, args []string) ([]principal, error) {
		p, err := o.Principal(ctx, args[0])
		return []principal{{ServicePrincipal: p}}, err
	}, table)
}

func remove() *cobra.Command {
	c := command.New("delete NAME|ID", "Delete an application and its role assignments. Its tokens become invalid.",
		"visage identity delete shop-app")
	operator.Complete(c, operator.Identities)
	return operator.Do(c, func(ctx context.Context, o *operator.Client, args []string) error {
		p, err := o.Principal(ctx, args[0])
		if err != nil {
			return err
		}
		return o.ARM(ctx, http.MethodDelete, path(p), nil, nil)
	})
}

func reset() *cobra.Command {
	days, keep := 0, false
	c := command.New("reset NAME|ID", "Replace the secrets of an application by a new one. The secret is shown only "+
		"this time; that of the operator is not shown, and each server writes it into its operator.json.",
		"visage identity reset shop-app")
	defineDays(c, &days)
	c.Flags().BoolVar(&keep, "append", false, "keep the existing secrets")
	operator.Complete(c, operator.Identities)
	return operator.Show(c, func(ctx context.Context, o *operator.Client, args []string) ([]principal, error) {
		p, err := o.Principal(ctx, args[0])
		if err != nil {
			return nil, err
		}
		own := p.AppID == o.Operator.ClientID && !keep
		if own {
			days = 1 // it stands in until a server has made another; awaitSuccessor removes it
		}
		var made armwire.CreatedPassword
		err = o.ARM(ctx, http.MethodPost, path(p)+"/addPassword", armwire.PasswordRequest{Days: days}, &made)
		if err != nil {
			return nil, err
		}
		for _, old := range p.Secrets {
			if keep {
				break
			}
			if err := removeSecret(ctx, o, p, old.KeyID); err != nil {
				return nil, fmt.Errorf("the new secret works, but an older one is still valid: %w", err)
			}
		}
		if own {
			o.Note("The former secret of the operator is void. The server makes another, and each server over the " +
				"store has it in its operator.json in a few seconds.")
			made.Text = ""
			if err := awaitSuccessor(ctx, o, p, made.KeyID); err != nil {
				return nil, err
			}
		}
		p, err = o.Principal(ctx, p.ObjectID)
		return []principal{{p, made.Text}}, err
	}, table)
}

// removeSecret removes a secret of an application. One that is not there any more is removed.
func removeSecret(ctx context.Context, o *operator.Client, p armwire.ServicePrincipal, id string) error {
	err := o.ARM(ctx, http.MethodPost, path(p)+"/removePassword", armwire.PasswordID{KeyID: id}, nil)
	if operator.IsRefused(err, "PrincipalNotFound") {
		return nil
	}
	return err
}

// How long the operator's next secret may take, and how often it is looked for. A server looks every two seconds
// whether it has to make one.
const (
	successorTakes = 30 * time.Second
	successorEvery = 200 * time.Millisecond
)

// awaitSuccessor waits until a server has made the operator's next secret, and removes the one that stands in for it.
// former is the operator before the reset. Servers remove no secret: to them, it might be one that somebody uses.
func awaitSuccessor(ctx context.Context, o *operator.Client, former armwire.ServicePrincipal, standIn string) error {
	known := []string{standIn}
	for _, s := range former.Secrets {
		known = append(known, s.KeyID)
	}
	for deadline := time.Now().Add(successorTakes); ; {
		now, err := o.Principal(ctx, former.ObjectID)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(now.Secrets, func(s armwire.PasswordCredential) bool {
			return !slices.Contains(known, s.KeyID)
		}) {
			return removeSecret(ctx, o, former, standIn)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("no server has made a new secret of the operator within %v: the log of the servers says "+
				"why, and they try again every minute", successorTakes)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(successorEvery):
		}
	}
}

func trust() *cobra.Command {
	issuer, subject, group := "", "", ""
	c := command.New("trust NAME|ID",
		"Accept a subject of a trusted issuer as an application or person. Without --subject and --group, nobody is "+
			"accepted any more.",
		"visage identity trust shop-app --issuer https://login.example --subject system:serviceaccount:shop")
	c.Flags().StringVar(&issuer, "issuer", "", "`URL` of the issuer, as its tokens state it and --trust-issuer "+
		"names it")
	c.Flags().StringVar(&subject, "subject", "", "`SUBJECT`: the claim \"sub\" of its tokens")
	c.Flags().StringVar(&group, "group", "", "`GROUP` whose members may sign in to the console: one of the claim "+
		"\"groups\"")
	operator.Complete(c, operator.Identities)
	return operator.Show(c, func(ctx context.Context, o *operator.Client, args []string) ([]principal, error) {
		p, err := o.Principal(ctx, args[0])
		if err != nil {
			return nil, err
		}
		list := armwire.FederatedSubjectList{Value: []armwire.FederatedSubject{}}
		if subject != "" {
			list.Value = append(list.Value, armwire.FederatedSubject{Issuer: issuer, Name: subject})
		}
		if group != "" {
			list.Value = append(list.Value, armwire.FederatedSubject{Issuer: issuer, Name: group, Group: true})
		}
		var now principal
		err = o.ARM(ctx, http.MethodPut, path(p)+"/federatedSubjects", list, &now)
		return []principal{now}, err
	}, table)
}

func table(t *command.Table, all []principal) {
	t.Row("NAME", "KIND", "OBJECT ID", "APP ID", "SECRETS", "CREATED")
	password := ""
	for _, p := range all {
		t.Row(p.Name, p.Kind, p.ObjectID, command.Dash(p.AppID), len(p.Secrets), command.Clock(p.Created))
		if p.Password != "" {
			password = p.Password
		}
	}
	if password != "" {
		t.Line("")
		t.Line("secret, not shown again: %s", password)
	}
}
